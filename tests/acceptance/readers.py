"""What others do: a recipient finds a letter, a reader or a stranger writes back."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message

from receiptd import correlation_token
from tests.daemon_process import PATIENCE, DaemonProcess, Json
from tests.servers.world import HOST, World


def has(**wanted: str) -> Callable[[Json], bool]:
    """Return what is true of a recipient whose fields are these."""
    return lambda recipient: all(recipient[name] == value for name, value in wanted.items())


is_met = has(receipt="met")


def arrived(world: World, daemon: DaemonProcess, letter: str, address: str) -> Message:
    """Return the letter as it lies in the mailbox of *address*."""
    message_id = daemon.message(letter)["message_id"].encode()
    return message_from_bytes(world.await_message(address, lambda raw: message_id in raw))


def deliver(world: World, sender: str, recipient: str, content: bytes) -> None:
    """Hand a message to the mail exchanger of a.test, as anybody can; its lines may end as they like."""
    with smtplib.SMTP(HOST, world.port_of["mx"], timeout=PATIENCE) as link:
        link.sendmail(sender, [recipient], content)


def read_receipt(reader: str, to: str, message_id: str) -> bytes:
    """Return a receipt in the form that Thunderbird gives it (RFC 8098)."""
    return f"""\
From: {reader}
To: {to}
Subject: Return Receipt (displayed) - An invoice
Message-ID: <{correlation_token.make()}@reader.test>
Date: Tue, 24 Nov 2026 09:30:00 +0000
MIME-Version: 1.0
References: {message_id}
Content-Type: multipart/report; report-type=disposition-notification;
 boundary="mdn8A7B"

--mdn8A7B
Content-Type: text/plain; charset=UTF-8

This is a Return Receipt for the mail that you sent.

--mdn8A7B
Content-Type: message/disposition-notification; name="MDNPart2.txt"

Reporting-UA: reader.test; Mozilla Thunderbird 128.5
Final-Recipient: rfc822;{reader}
Original-Message-ID: {message_id}
Disposition: manual-action/MDN-sent-manually; displayed

--mdn8A7B
Content-Type: text/rfc822-headers; name="MDNPart3.txt"

Message-ID: {message_id}
To: {reader}

--mdn8A7B--
""".encode()
