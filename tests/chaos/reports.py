"""Delivery and read receipts as Postfix and Thunderbird write them."""

from __future__ import annotations

from email.utils import formatdate
from itertools import count

_STATUS = {"delivered": "2.0.0", "relayed": "2.0.0", "failed": "5.1.1", "delayed": "4.2.0"}
_DIAGNOSTIC = {
    "delivered": "smtp; 250 2.0.0 delivered to mailbox",
    "relayed": "smtp; 250 2.0.0 Ok: queued",
    "failed": "smtp; 550 5.1.1 user unknown",
    "delayed": "smtp; 451 4.2.0 try again later",
}
_numbers = count(1)


def write(action: str, *, return_path: str, address: str, envelope_id: str | None, message_id: str) -> bytes:
    """Return a report of *action* as it lies in the mailbox behind *return_path*."""
    make = _mdn if action == "displayed" else _dsn
    text = make(action, return_path, address, envelope_id, message_id)
    return text.replace("\n", "\r\n").encode()


def _dsn(action: str, return_path: str, address: str, envelope_id: str | None, message_id: str) -> str:
    boundary = f"R.{next(_numbers)}/relay"
    envelope = f"Original-Envelope-Id: {envelope_id}\n" if envelope_id else ""
    return f"""\
Return-Path: <>
Delivered-To: {return_path}
Date: {formatdate()}
From: MAILER-DAEMON@relay.test (Mail Delivery System)
Subject: Delivery report
To: {return_path}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"
Message-Id: <report{next(_numbers)}@relay.test>

This is a MIME-encapsulated message.

--{boundary}
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host relay.test.

<{address}>: {_DIAGNOSTIC[action]}

--{boundary}
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.test
{envelope}X-Postfix-Queue-ID: 4XyZ{next(_numbers)}
Arrival-Date: {formatdate()}

Final-Recipient: rfc822; {address}
Original-Recipient: rfc822;{address}
Action: {action}
Status: {_STATUS[action]}
Remote-MTA: dns; mx.test
Diagnostic-Code: {_DIAGNOSTIC[action]}

--{boundary}
Content-Description: Message Headers
Content-Type: text/rfc822-headers

Message-ID: {message_id}
To: {address}
From: office@a.test

--{boundary}--
"""


def _mdn(action: str, return_path: str, address: str, envelope_id: str | None, message_id: str) -> str:
    return f"""\
Return-Path: <{address}>
Delivered-To: {return_path}
Date: {formatdate()}
From: {address}
Subject: Return Receipt (displayed)
To: {return_path}
MIME-Version: 1.0
Message-ID: <mdn{next(_numbers)}@{address.partition("@")[2]}>
Content-Type: multipart/report; report-type=disposition-notification; boundary="mdn"

--mdn
Content-Type: text/plain; charset=utf-8

This is a return receipt for the mail that you sent.

--mdn
Content-Type: message/disposition-notification

Reporting-UA: mail.test; Mozilla Thunderbird
Final-Recipient: rfc822;{address}
Original-Message-ID: {message_id}
Disposition: manual-action/MDN-sent-manually; displayed

--mdn--
"""
