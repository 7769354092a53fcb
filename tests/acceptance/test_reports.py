"""What comes back late, from those who read, or forged by those who didn't."""

from __future__ import annotations

import pytest

from tests.acceptance.readers import arrived, deliver, has, is_met, read_receipt
from tests.daemon_process import DaemonProcess, await_that, kinds
from tests.servers.world import World

pytestmark = pytest.mark.servers

FORGED = "aaaabbbbccccddddeeee2222"


def test_a_letter_that_waits_past_its_deadline_is_resolved_late(daemon: DaemonProcess) -> None:
    letter = daemon.send("after4@later.test", options=("--within", "1s"))
    daemon.receiver.wait_for("receipt.overdue", address="after4@later.test")
    shown = daemon.wait(letter, has(receipt="met_late"))
    assert {"overdue", "met"} < set(kinds(shown))
    resolved = daemon.receiver.wait_for("receipt.resolved", address="after4@later.test")
    assert resolved.data["late"]
    told = {
        alert.id
        for alert in daemon.receiver.about("after4@later.test")
        if (alert.endpoint, alert.type) == (resolved.endpoint, "receipt.overdue")
    }
    assert set(resolved.data["resolves"]) >= told


@pytest.mark.parametrize("sender", ["", "alice@box.test"])
def test_a_read_receipt_meets_what_requires_reading_whoever_its_envelope_names(
    daemon: DaemonProcess, world: World, sender: str
) -> None:
    letter = daemon.send("alice@box.test", options=("--require", "displayed"))
    shown = daemon.wait(letter, has(delivery="delivered"))
    assert shown["recipients"][0]["receipt"] == "open"
    message = arrived(world, daemon, letter, "alice@box.test")
    asked = message["Disposition-Notification-To"].strip("<>")
    assert asked == message["Return-Path"].strip("<>"), "or a mail program must ask its reader (RFC 8098 §2.1)"
    deliver(world, sender, asked, read_receipt("alice@box.test", asked, message["Message-ID"]))
    recipient = daemon.wait(letter, has(disposition="displayed", receipt="met"))["recipients"][0]
    assert (recipient["level"], recipient["trust"]) == ("displayed", "keyed")


def _strange(daemon: DaemonProcess) -> set[str]:
    """Return the reports that fit no letter of ours."""
    return {report["id"] for verdict in ("unmatched", "suspicious") for report in daemon.reports(verdict)}


def test_a_forged_read_receipt_moves_nothing_and_stays_visible(world: World, daemon: DaemonProcess) -> None:
    letter = daemon.send("alice@box.test", options=("--require", "displayed"))
    message = arrived(world, daemon, letter, "alice@box.test")
    address = message["Return-Path"].strip("<>")
    forged = address.replace(address.partition("+")[2].partition("@")[0], FORGED)
    before = _strange(daemon)
    deliver(world, "", forged, read_receipt("alice@box.test", forged, message["Message-ID"]))
    await_that(lambda: _strange(daemon) - before)
    recipient = daemon.message(letter)["recipients"][0]
    assert (recipient["disposition"], recipient["receipt"]) == ("none", "open")


def test_our_own_copy_that_comes_to_the_receipts_address_is_noise(daemon: DaemonProcess) -> None:
    letter = daemon.post(daemon.receipts_address)
    daemon.wait(letter, is_met)
    await_that(lambda: "An invoice" in {report["subject"] for report in daemon.reports("noise")})
    shown = daemon.message(letter)
    assert not {"replied", "auto_replied"} & set(kinds(shown))
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["disposition"]) == ("relayed", "none")
    assert not daemon.receiver.about(daemon.receipts_address)


def test_a_perfect_bounce_for_a_letter_we_never_sent_stays_unmatched(world: World, daemon: DaemonProcess) -> None:
    address = daemon.receipts_address.replace("@", f"+{FORGED}@")
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
    before = len(daemon.reports("unmatched"))
    deliver(world, "", address, bounce.encode())
    letter = daemon.send("bob@b.test")
    daemon.wait(letter, lambda recipient: is_met(recipient) and len(daemon.reports("unmatched")) > before)
    assert 'receiptd_reports_total{kind="dsn",verdict="unmatched"} 1.0' in daemon.look("/metrics")[1].splitlines()
    assert not daemon.receiver.about("bob@b.test")
