"""What people do: they read, they answer for silence, and scripts wait for them."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message

import pytest

from receiptd import client
from receiptd import token as tokens
from receiptd.errors import NotPermitted
from tests.acceptance.offices import office_in
from tests.office import Json, Office, kinds
from tests.servers.world import HOST, World

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world) as office:
        yield office


def _is(**wanted: str) -> Callable[[Json], bool]:
    return lambda recipient: all(recipient[name] == value for name, value in wanted.items())


def _arrived(world: World, office: Office, letter: str, address: str) -> Message:
    message_id = office.message(letter)["message_id"].encode()
    return message_from_bytes(world.await_message(address, lambda raw: message_id in raw))


def _read_receipt(reader: str, to: str, message_id: str) -> bytes:
    """Return a receipt in the form that Thunderbird gives it (RFC 8098)."""
    return (
        f"From: {reader}\r\nTo: {to}\r\nSubject: Return Receipt (displayed) - An invoice\r\n"
        f"Message-ID: <{tokens.make()}@reader.test>\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\n"
        f"MIME-Version: 1.0\r\nReferences: {message_id}\r\n"
        'Content-Type: multipart/report; report-type=disposition-notification;\r\n boundary="mdn8A7B"\r\n\r\n'
        "--mdn8A7B\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\n"
        "This is a Return Receipt for the mail that you sent.\r\n\r\n"
        '--mdn8A7B\r\nContent-Type: message/disposition-notification; name="MDNPart2.txt"\r\n\r\n'
        "Reporting-UA: reader.test; Mozilla Thunderbird 128.5\r\n"
        f"Final-Recipient: rfc822;{reader}\r\nOriginal-Message-ID: {message_id}\r\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\r\n\r\n"
        '--mdn8A7B\r\nContent-Type: text/rfc822-headers; name="MDNPart3.txt"\r\n\r\n'
        f"Message-ID: {message_id}\r\nTo: {reader}\r\n\r\n--mdn8A7B--\r\n"
    ).encode()


def _mail(world: World, reader: str, to: str, message_id: str) -> None:
    """Send a read receipt as its reader would: the sender of its envelope is the reader, not nobody."""
    with smtplib.SMTP(HOST, world.port_of["mx"], timeout=10) as mx:
        mx.sendmail(reader, [to], _read_receipt(reader, to, message_id))


# --- they read ------------------------------------------------------------------------------------------------------


def test_a_read_receipt_meets_what_requires_reading(office: Office, world: World) -> None:
    letter = office.send("alice@box.test", options=("--require", "displayed"))
    shown = office.wait(letter, _is(delivery="delivered"))
    assert shown["recipients"][0]["receipt"] == "open"
    arrived = _arrived(world, office, letter, "alice@box.test")
    asked = arrived["Disposition-Notification-To"].strip("<>")
    assert arrived["Return-Path"].strip("<>") == asked
    _mail(world, "alice@box.test", asked, arrived["Message-ID"])
    shown = office.wait(letter, _is(disposition="displayed", receipt="met"))
    assert (shown["recipients"][0]["level"], shown["recipients"][0]["trust"]) == ("displayed", "keyed")


# --- scripts wait ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipients", "options", "status"),
    [
        (["bob@box.test"], ("--require", "delivered", "--wait", "20s"), 0),
        (["nobody@box.test", "bob@b.test"], ("--require", "delivered", "--within", "3s", "--wait", "20s"), 1),
        (["anybody@silent.test"], ("--require", "delivered", "--within", "2s", "--wait", "20s"), 3),
        (["bob@b.test"], ("--require", "delivered", "--wait", "1s"), 4),
    ],
)
def test_a_script_that_waits_learns_how_it_ended(
    office: Office, recipients: list[str], options: tuple[str, ...], status: int
) -> None:
    words = ("-f", "office@a.test", "-s", "An invoice", *options, *recipients)
    done = office.command(*words, stdin=b"Good day.\n", program="send-with-receipt")
    assert done.returncode == status, (done.stdout, done.stderr)


def test_the_same_key_twice_is_one_message(office: Office) -> None:
    key = ("--idempotency-key", "invoice-7")
    first = office.send("bob@box.test", options=key)
    assert office.send("bob@box.test", options=key) == first
    words = ("-f", "office@a.test", "-s", "Another", *key, "bob@box.test")
    other = office.command(*words, stdin=b"Something else.\n", program="send-with-receipt")
    assert other.returncode == 65


# --- a person decides -----------------------------------------------------------------------------------------------


def test_a_person_waives_and_another_confirms(office: Office) -> None:
    options = ("--require", "delivered", "--within", "1s")
    late = [office.send(address, options=options) for address in ("waived@silent.test", "confirmed@silent.test")]
    for letter, verb, receipt in zip(late, ("waive", "confirm"), ("waived", "met"), strict=True):
        shown = office.wait(letter, _is(receipt="overdue"))
        recipient = shown["recipients"][0]
        for command in ("acknowledge", verb):
            done = office.command(command, recipient["id"], "--reason", "she telephoned")
            assert done.returncode == 0, done.stderr.decode()
        shown = office.message(letter)
        assert shown["recipients"][0]["receipt"] == receipt
        resolved = office.receiver.wait_for("receipt.resolved", address=recipient["address"])
        assert resolved.data["outcome"] == {"waive": "waived", "confirm": "met"}[verb]


def test_a_letter_that_waits_is_tried_now_or_cancelled(office: Office) -> None:
    letter = office.send("busy@b.test")
    office.wait(letter, _is(delivery="deferred"))
    assert office.command("retry", letter).returncode == 0
    office.wait(
        letter,
        lambda recipient: (
            kinds(office.message(letter)).count("deferred")
            + sum(event["count"] - 1 for event in office.message(letter)["events"] if event["kind"] == "deferred")
            > 1
        ),
    )
    assert office.command("cancel", letter).returncode == 0
    shown = office.wait(letter, _is(delivery="cancelled"))
    assert shown["recipients"][0]["receipt"] != "met"
    assert office.command("cancel", letter).returncode == 65


def test_a_copy_sent_again_has_a_name_of_its_own(office: Office) -> None:
    old = office.send("bob@b.test", options=("--require", "delivered"))
    office.wait(old, _is(delivery="relayed"))
    done = office.command("resend", old)
    assert done.returncode == 0, done.stderr.decode()
    [copy] = [one for one in office.daemon.get("/v1/messages")["items"] if one["resent_from"] == old]
    shown = office.wait(copy["id"], _is(delivery="relayed"))
    assert shown["message_id"] != office.message(old)["message_id"]


def test_the_door_for_senders_lets_nobody_decide(office: Office) -> None:
    letter = office.send("bob@box.test")
    senders = office.folder / "senders.toml"
    senders.write_text(f'[service]\nlisten = [{{unix = "{office.folder}/send.sock", scope = "send"}}]\n')
    door = client.find(senders, environ={})
    assert door.get(f"/v1/messages/{letter}")["id"] == letter
    with pytest.raises(NotPermitted):
        door.get("/v1/reports")
    with pytest.raises(NotPermitted):
        door.post(f"/v1/messages/{letter}/cancel")
