"""Whoever holds a copy has the token: what that is worth on real servers, with the daemon as a process."""

from __future__ import annotations

import sqlite3
from email.message import Message

import pytest

from tests.acceptance.readers import arrived, deliver, has
from tests.daemon_process import DaemonProcess, await_that, event
from tests.servers.world import World

pytestmark = pytest.mark.servers


def failure(return_path: str, address: str, message_id: str) -> bytes:
    """Return a perfect bounce by somebody who holds the copy: all of it is in the copy's own header."""
    return f"""\
From: MAILER-DAEMON@b.test (Mail Delivery System)
To: {return_path}
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=="

--==

I'm sorry.

--==
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.b.test

Final-Recipient: rfc822; {address}
Action: failed
Status: 5.1.1

--==
Content-Type: text/rfc822-headers

Message-ID: {message_id}

--==--
""".encode()


def test_a_holders_bounce_undoes_no_delivery_that_the_server_reported(world: World, daemon: DaemonProcess) -> None:
    letter = daemon.send("alice@box.test", options=("--require", "delivered"))
    daemon.wait(letter, has(delivery="delivered", receipt="met"))
    copy = arrived(world, daemon, letter, "alice@box.test")
    path = copy["Return-Path"].strip("<>")
    deliver(world, "", path, failure(path, "alice@box.test", copy["Message-ID"]))
    alert = daemon.receiver.wait_for("receipt.failed", address="alice@box.test")
    assert alert.data["unproven"]
    shown = daemon.message(letter)
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["receipt"]) == ("delivered", "met")
    assert event(shown, "failed")["trust"] == "keyed"


def test_the_envelope_id_stands_in_no_copy_log_alert_or_answer(world: World, daemon: DaemonProcess) -> None:
    letter = daemon.send("nobody@b.test", "alice@box.test")
    daemon.receiver.wait_for("receipt.failed", address="nobody@b.test")
    daemon.wait(letter, lambda recipient: recipient["receipt"] in ("met", "failed"))
    copy: Message = arrived(world, daemon, letter, "alice@box.test")
    with sqlite3.connect(daemon.folder / "receiptd.db") as database:
        secrets = [word for (word,) in database.execute("SELECT envelope_id FROM recipient WHERE envelope_id NOT NULL")]
    database.close()
    assert len(secrets) >= 2
    await_that(lambda: daemon.reports("matched"))
    seen = "\n".join(
        [
            copy.as_string(),
            daemon.log,
            *(str(alert.data) for alert in daemon.receiver.about("nobody@b.test")),
            *(
                daemon.look(path)[1]
                for path in (f"/v1/messages/{letter}", "/v1/events", "/v1/reports", "/v1/alerts", "/metrics")
            ),
        ]
    )
    assert not [secret for secret in secrets if secret in seen]
