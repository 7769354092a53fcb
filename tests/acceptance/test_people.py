"""What people do: they send, wait and decide, at a terminal or in a script."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest

from receiptd import client
from receiptd.errors import NotPermitted
from tests.acceptance.readers import arrived, deliver, has, read_receipt
from tests.daemon_process import PATIENCE, DaemonProcess, Json, await_that, environment, event, kinds
from tests.servers.world import World

pytestmark = pytest.mark.servers

# Recipients, what they are asked for, and the exit status that tells what became of it.
ENDS = {
    "met": (["bob@box.test"], ("--wait",), 0),
    "one failed, the other late": (["forbidden@b.test", "bob@b.test"], ("--within", "4s", "--wait", "50s"), 1),
    "late": (["anybody@silent.test"], ("--within", "2s", "--wait", "50s"), 3),
    "still open": (["bob@b.test"], ("--wait", "1s"), 4),
}

Said = tuple[int, str]
"""An exit status, and all that standard output got."""


@pytest.fixture(scope="module")
def waiting(daemon: DaemonProcess) -> Iterator[dict[str, dict[str, Future[Said]]]]:
    """Let all of them wait at the same time, each in a pipe and on a terminal."""
    with ThreadPoolExecutor(2 * len(ENDS)) as pool:
        yield {
            place: {end: pool.submit(wait, _command(daemon, end)) for end in ENDS}
            for place, wait in {"pipe": _in_a_pipe, "terminal": _on_a_terminal}.items()
        }


def _command(daemon: DaemonProcess, end: str) -> list[str]:
    recipients, options, _ = ENDS[end]
    return daemon.sending("-f", "office@a.test", "-s", "An invoice", "--require", "delivered", *options, *recipients)


def _in_a_pipe(command: list[str]) -> Said:
    done = subprocess.run(command, input=b"Good day.\n", stdout=subprocess.PIPE, env=environment(), check=False)
    return done.returncode, done.stdout.decode()


def _on_a_terminal(command: list[str]) -> Said:
    leader, follower = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=follower, env=environment()) as process:
        os.close(follower)
        assert process.stdin is not None
        process.stdin.write(b"Good day.\n")
        process.stdin.close()
        shown = b""
        with suppress(OSError):  # the end, as a terminal tells it
            while octets := os.read(leader, 65536):
                shown += octets
        os.close(leader)
        return process.wait(), shown.decode()


# --- they wait ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_a_script_that_waits_gets_a_line_a_change_and_learns_how_it_ended(
    daemon: DaemonProcess, waiting: dict[str, dict[str, Future[Said]]], end: str
) -> None:
    recipients, _, wanted = ENDS[end]
    status, said = waiting["pipe"][end].result(PATIENCE)
    assert status == wanted, said
    letter, *lines = said.splitlines()
    assert daemon.message(letter)["subject"] == "An invoice"
    assert "\x1b" not in said
    assert {line.partition(": ")[0] for line in lines} == set(recipients)
    assert len(lines) == len(set(lines)), "a line only when something changed"


@pytest.mark.parametrize("end", ENDS)
def test_a_person_who_waits_sees_a_live_table_and_the_shell_learns_how_it_ended(
    waiting: dict[str, dict[str, Future[Said]]], end: str
) -> None:
    recipients, _, wanted = ENDS[end]
    status, shown = waiting["terminal"][end].result(PATIENCE)
    assert status == wanted, shown
    pictures = re.split(r"\x1b\[\d+A", shown)
    assert len(pictures) > 1 or end == "met", "it was drawn again, over itself"  # met it may be at the first look
    for picture in pictures:
        assert picture.count("ADDRESS") == 1
        assert all(picture.count(f"\n{address} ") == 1 for address in recipients)
    assert {"met": "met", "late": "overdue", "still open": "open"}.get(end, "failed") in pictures[-1]


def test_the_same_key_twice_is_one_message(daemon: DaemonProcess) -> None:
    key = ("--idempotency-key", "invoice-7")
    first = daemon.send("bob@box.test", options=key)
    assert daemon.send("bob@box.test", options=key) == first
    words = ("-f", "office@a.test", "-s", "Another", *key, "bob@box.test")
    other = daemon.send_with_receipt(*words, stdin=b"Something else.\n")
    assert other.returncode == os.EX_DATAERR


# --- they decide ----------------------------------------------------------------------------------------------------


def test_a_person_waives_and_another_confirms(daemon: DaemonProcess) -> None:
    late = [daemon.post(address, require="delivered", within="1s") for address in ("alice@exim.test", "bob@exim.test")]
    ends = (("waive", "waived", "waived"), ("confirm", "met_late", "met"))
    for letter, (verb, receipt, outcome) in zip(late, ends, strict=True):
        recipient = daemon.wait(letter, has(receipt="overdue"))["recipients"][0]
        daemon.receiver.wait_for("receipt.overdue", address=recipient["address"])
        for command in ("acknowledge", verb):
            done = daemon.run(command, recipient["id"], "--reason", "she telephoned")
            assert done.status == 0, done.said
        assert daemon.message(letter)["recipients"][0]["receipt"] == receipt
        resolved = daemon.receiver.wait_for("receipt.resolved", address=recipient["address"])
        assert (resolved.data["outcome"], resolved.data["late"]) == (outcome, receipt == "met_late")


def test_a_bounce_that_lost_every_key_on_the_way_is_assigned_by_a_person(daemon: DaemonProcess, world: World) -> None:
    letter = daemon.post("anybody@silent.test", within="1h")
    recipient = daemon.wait(letter, has(delivery="accepted"))["recipients"][0]
    bounce = (
        f"From: Mail Delivery System <MAILER-DAEMON@silent.test>\nTo: {daemon.receipts_address}\n"
        "Subject: Undelivered Mail Returned to Sender\n\n"
        "I'm sorry to have to inform you that your message could not be delivered.\n\n"
        "<anybody@silent.test>: host mx.silent.test said: 550 5.1.1 no such user\n"
    )
    deliver(world, "", daemon.receipts_address, bounce.encode())

    def lost() -> list[Json]:
        listed = daemon.run("reports", "--verdict", "unmatched", "--json")
        reports = [json.loads(line) for line in listed.said.splitlines()]
        return [report for report in reports if report["from"] == "MAILER-DAEMON@silent.test"]

    await_that(lost)
    (report,) = lost()
    assigned = daemon.run("assign", report["id"], recipient["id"], "--reason", "it quotes the order")
    why = "A report says that delivery failed: there is no such user (5.1.1)."
    assert (assigned.status, assigned.said) == (0, f"anybody@silent.test: failed, receipt failed: {why}\n")
    told = event(daemon.message(letter), "failed")
    assert (told["source"], told["matched_by"], told["trust"]) == ("bounce", "person", "keyed")
    daemon.receiver.wait_for("receipt.failed", address="anybody@silent.test")
    again = daemon.run("assign", report["id"], recipient["id"], "--reason", "it quotes the order")
    assert again.status == os.EX_DATAERR
    assert "matched already" in again.said


def test_a_letter_that_waits_is_tried_now_or_cancelled(daemon: DaemonProcess) -> None:
    letter = daemon.post("busy@b.test")
    shown = daemon.wait(letter, has(delivery="deferred"))
    assert "failed" not in kinds(shown)
    assert daemon.run("retry", letter).status == 0

    def times_deferred() -> int:
        return sum(event["count"] for event in daemon.message(letter)["events"] if event["kind"] == "deferred")

    daemon.wait(letter, lambda _: times_deferred() > 1)
    assert daemon.run("cancel", letter).status == 0
    shown = daemon.wait(letter, has(delivery="cancelled"))
    assert shown["recipients"][0]["receipt"] != "met"
    assert daemon.run("cancel", letter).status == os.EX_DATAERR


def test_a_copy_sent_again_has_a_name_of_its_own(daemon: DaemonProcess) -> None:
    old = daemon.post("bob@b.test", require="delivered")
    daemon.wait(old, has(delivery="relayed"))
    done = daemon.run("resend", old)
    assert done.status == 0, done.said
    [copy] = [one for one in daemon.api.get("/v1/messages")["items"] if one["resent_from"] == old]
    shown = daemon.wait(copy["id"], has(delivery="relayed"))
    assert shown["message_id"] != daemon.message(old)["message_id"]


def test_the_receipt_of_a_copy_sent_again_ends_the_firsts_incident_once(daemon: DaemonProcess, world: World) -> None:
    old = daemon.post("bob@b.test", require="delivered", within="1s")
    daemon.wait(old, has(delivery="relayed", receipt="overdue"))
    _told_of(daemon, old, "receipt.overdue")
    done = daemon.run("resend", old)
    assert done.status == 0, done.said
    [copy] = [one for one in daemon.api.get("/v1/messages")["items"] if one["resent_from"] == old]
    message = arrived(world, daemon, copy["id"], "bob@b.test")
    asked = message["Disposition-Notification-To"]
    deliver(world, "bob@b.test", asked, read_receipt("bob@b.test", asked, message["Message-ID"]))
    shown = daemon.wait(old, has(receipt="met_late"))
    assert shown["recipients"][0]["delivery"] == "relayed", "a copy proves nothing of the first"
    assert event(daemon.message(copy["id"]), "displayed")["evidence"] == shown["events"][-2]["evidence"]
    resolved = _told_of(daemon, old, "receipt.resolved")
    assert resolved["reason"].startswith("The copy sent again at ")
    again = daemon.run("resend", old)
    assert (again.status, f"the receipt of copy {copy['id']} is met" in again.said) == (os.EX_DATAERR, True)


def _told_of(daemon: DaemonProcess, message: str, kind: str) -> Json:
    """Return what level 1 was told of a message under this type, as soon as it was; once is often enough."""

    def told() -> list[Json]:
        alerts = [one for one in list(daemon.receiver.alerts) if (one.endpoint, one.type) == ("ops", kind)]
        return [one.data for one in alerts if one.data["message"]["id"] == message]

    await_that(told)
    (data,) = told()
    return data


def test_the_door_for_senders_lets_nobody_decide(daemon: DaemonProcess) -> None:
    letter = daemon.post("bob@box.test")
    senders = daemon.folder / "senders.toml"
    senders.write_text(f'[service]\nlisten = [{{unix = "{daemon.folder}/send.sock", scope = "send"}}]\n')
    door = client.find(senders, environ={})
    assert door.get(f"/v1/messages/{letter}")["id"] == letter
    with pytest.raises(NotPermitted):
        door.get("/v1/reports")
    with pytest.raises(NotPermitted):
        door.post(f"/v1/messages/{letter}/cancel")
