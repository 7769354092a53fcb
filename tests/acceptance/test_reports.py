"""What comes back from real servers, late, refused, answered by robots, or forged."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message

import pytest

from tests.acceptance.offices import office_in
from tests.office import Json, Office, kinds
from tests.servers.world import HOST, World

pytestmark = pytest.mark.servers

FORGED = "aaaabbbbccccddddeeee2222"


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world, receipts='notify = ["success", "failure", "delay"]') as office:
        yield office


def _reports(office: Office, verdict: str) -> list[Json]:
    items: list[Json] = office.daemon.get("/v1/reports", [("verdict", verdict)])["items"]
    return items


def _arrived(world: World, office: Office, letter: str, address: str) -> Message:
    """Return the letter as it lies in the mailbox of *address*."""
    message_id = office.message(letter)["message_id"].encode()
    return message_from_bytes(world.await_message(address, lambda raw: message_id in raw))


def _deliver(world: World, sender: str, recipient: str, content: str) -> None:
    """Hand a message to the mail exchanger of a.test, as any stranger can."""
    with smtplib.SMTP(HOST, world.port_of["mx"], timeout=10) as link:
        link.sendmail(sender, [recipient], content.replace("\n", "\r\n"))


def _read_receipt(to: str, reader: str, message_id: str) -> str:
    return f"""\
From: {reader}
To: {to}
Subject: Return Receipt (displayed) - An invoice
Message-ID: <{to.partition("@")[0][-8:]}.mdn@box.test>
In-Reply-To: {message_id}
MIME-Version: 1.0
Content-Type: multipart/report; report-type=disposition-notification; boundary="=="

--==
Content-Type: text/plain; charset=UTF-8

This is a Return Receipt for the mail that you sent to {reader}.

--==
Content-Type: message/disposition-notification; name="MDNPart2.txt"

Reporting-UA: mail.box.test; Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Thunderbird/140.0
Final-Recipient: rfc822;{reader}
Original-Message-ID: {message_id}
Disposition: manual-action/MDN-sent-manually; displayed

--==--
"""


def test_a_letter_that_waits_past_its_deadline_is_resolved_late(office: Office) -> None:
    letter = office.send("after5@later.test", options=("--within", "2s"))
    office.receiver.wait_for("receipt.overdue", address="after5@later.test")
    shown = office.wait(letter, lambda recipient: recipient["receipt"] == "met_late")
    assert "delayed" in kinds(shown)
    resolved = office.receiver.wait_for("receipt.resolved", address="after5@later.test")
    assert resolved.data["late"]
    told = [alert.id for alert in office.receiver.about("after5@later.test") if alert.type == "receipt.overdue"]
    assert sorted(resolved.data["resolves"]) == sorted(set(told))


def test_a_letter_that_expires_in_a_queue_fails(office: Office) -> None:
    office.send("never@later.test")
    alert = office.receiver.wait_for("receipt.failed", address="never@later.test", within=20)
    assert alert.data["recipient"]["delivery"] == "failed"


def test_a_letter_that_a_filter_refuses_is_refused_though_it_was_relayed(office: Office) -> None:
    letter = office.send("reject@b.test")
    alert = office.receiver.wait_for("receipt.refused", address="reject@b.test")
    shown = office.wait(letter, lambda recipient: recipient["receipt"] == "failed")
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["disposition"]) == ("failed", "refused")
    assert not alert.data["unproven"]


def test_an_answering_machine_moves_nothing(office: Office) -> None:
    letter = office.send("vacation@b.test")
    shown = office.wait(letter, lambda recipient: recipient["receipt"] == "met")
    shown = office.wait(letter, lambda _: "auto_replied" in kinds(office.message(letter)))
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["disposition"]) == ("relayed", "none")
    assert not office.receiver.about("vacation@b.test")


def test_a_report_in_junk_counts(office: Office) -> None:
    letter = office.send("spammy@box.test", options=("--require", "delivered"))
    office.wait(letter, lambda recipient: recipient["receipt"] == "met")
    reports = office.daemon.get("/v1/reports", [("verdict", "matched")])["items"]
    assert "Junk" in {report["folder"] for report in reports}


def test_recipients_of_one_letter_have_each_their_own_fate(office: Office) -> None:
    options = ("--cc", "carol@b.test", "--bcc", "bob@box.test", "--require", "delivered")
    letter = office.send("alice@box.test", "nosuch@b.test", options=options)

    def states() -> dict[str, str]:
        return {one["address"]: one["delivery"] for one in office.message(letter)["recipients"]}

    wanted = {
        "alice@box.test": "delivered",
        "nosuch@b.test": "failed",
        "carol@b.test": "relayed",
        "bob@box.test": "delivered",
    }
    office.wait(letter, lambda _: states() == wanted)
    roles = {one["address"]: one["role"] for one in office.message(letter)["recipients"]}
    assert (roles["carol@b.test"], roles["bob@box.test"]) == ("cc", "bcc")


def test_a_blind_copy_is_named_to_nobody(world: World, office: Office) -> None:
    letter = office.send("alice@box.test", options=("--bcc", "bob@box.test"))
    for address in ("alice@box.test", "bob@box.test"):
        arrived = _arrived(world, office, letter, address)
        assert arrived["Bcc"] is None
        assert b"bob@box.test" not in arrived.as_bytes().partition(b"From: ")[2]


def test_a_read_receipt_shows_that_it_was_displayed(world: World, office: Office) -> None:
    letter = office.send("alice@box.test", options=("--require", "displayed"))
    arrived = _arrived(world, office, letter, "alice@box.test")
    asked = arrived["Disposition-Notification-To"].strip("<>")
    assert asked == arrived["Return-Path"].strip("<>"), "or a mail program must ask its reader (RFC 8098 §2.1)"
    _deliver(world, "", asked, _read_receipt(asked, "alice@box.test", arrived["Message-ID"]))
    shown = office.wait(letter, lambda recipient: recipient["receipt"] == "met")
    recipient = shown["recipients"][0]
    assert (recipient["disposition"], recipient["level"], recipient["trust"]) == ("displayed", "displayed", "keyed")


def test_a_forged_read_receipt_moves_nothing_and_stays_visible(world: World, office: Office) -> None:
    letter = office.send("alice@box.test", options=("--require", "displayed"))
    arrived = _arrived(world, office, letter, "alice@box.test")
    address = arrived["Return-Path"].strip("<>")
    forged = address.replace(address.partition("+")[2].partition("@")[0], FORGED)
    before = {report["id"] for verdict in ("unmatched", "suspicious") for report in _reports(office, verdict)}
    _deliver(world, "", forged, _read_receipt(forged, "alice@box.test", arrived["Message-ID"]))

    def is_seen(_: Json) -> bool:
        return bool(
            {report["id"] for verdict in ("unmatched", "suspicious") for report in _reports(office, verdict)} - before
        )

    shown = office.wait(letter, is_seen)
    assert shown["recipients"][0]["disposition"] == "none"
    assert shown["recipients"][0]["receipt"] == "open"


def test_a_perfect_bounce_for_a_letter_we_never_sent_stays_unmatched(world: World, office: Office) -> None:
    address = _receipts(office).replace("@", f"+{FORGED}@")
    bounce = f"""\
From: MAILER-DAEMON@b.test (Mail Delivery System)
To: {address}
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=="

--==
Content-Type: text/plain

I'm sorry.

--==
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.b.test
Original-Envelope-Id: {FORGED}

Final-Recipient: rfc822; bob@b.test
Action: failed
Status: 5.1.1

--==--
"""
    before = len(_reports(office, "unmatched"))
    _deliver(world, "", address, bounce)
    letter = office.send("bob@b.test")
    office.wait(letter, lambda recipient: recipient["receipt"] == "met" and len(_reports(office, "unmatched")) > before)
    assert not [alert for alert in office.receiver.about("bob@b.test") if alert.type == "receipt.failed"]


def _receipts(office: Office) -> str:
    text = office.config.read_text()
    return text.partition('address = "')[2].partition('"')[0]
