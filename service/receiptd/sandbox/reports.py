"""The reports that servers and mail programs send: DSN as Postfix writes them, MDN as Thunderbird and Sieve do.

The forms are copied from real ones, byte order and odd habits included: what reads them must not
be able to tell this world from a real one.
"""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime, parseaddr

from receiptd.sandbox.envelope import Envelope

HOME = "mail.office.example"
"""The host that takes our submissions and keeps our mailbox."""

_DELIVERED = """\
Your message was successfully delivered to the destination(s)
listed below. If the message was delivered to mailbox you will
receive no further notifications. Otherwise you may still receive
notifications of mail delivery errors from other systems.
"""
_FAILED = """\
I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

For further assistance, please send mail to postmaster.

If you do so, please include this problem report. You can
delete your own text from the attached returned message.
"""
_DELAYED = """\
####################################################################
# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #
####################################################################

Your message could not be delivered for more than 0 hour(s).
It will be retried until it is 5 day(s) old.
"""


@dataclass(frozen=True, slots=True)
class _Form:
    """What one kind of delivery report says beside the names of the case."""

    condition: str
    subject: str
    text: str
    action: str
    status: str
    diagnostic: str
    from_destination: bool = False
    """Whether the destination's own server reports, and not the one that handed the message on."""


_DELIVERED_FORM = _Form(
    "SUCCESS",
    "Successful Mail Delivery Report",
    _DELIVERED,
    "delivered",
    "2.0.0",
    "X-Postfix; delivered to maildir",
    from_destination=True,
)
_RELAYED_FORM = _Form(
    "SUCCESS",
    "Successful Mail Delivery Report",
    _DELIVERED,
    "relayed",
    "2.0.0",
    "smtp; 250 2.0.0 Ok: queued as {next_id}",
)
_FAILED_FORM = _Form(
    "FAILURE",
    "Undelivered Mail Returned to Sender",
    _FAILED,
    "failed",
    "5.1.1",
    "smtp; 550 5.1.1 <{recipient}>: Recipient address rejected: User unknown in virtual mailbox table",
)
_DELAYED_FORM = _Form(
    "DELAY",
    "Delayed Mail (still being retried)",
    _DELAYED,
    "delayed",
    "4.3.2",
    "smtp; 450 4.3.2 <{recipient}>: Recipient address rejected: System is down for maintenance",
)


def delivered(envelope: Envelope, now: datetime) -> bytes | None:
    """The destination put it into the mailbox and says so."""
    return _delivery_report(envelope, _DELIVERED_FORM, now)


def relayed(envelope: Envelope, now: datetime) -> bytes | None:
    """Handed to a server without DSN: the last word we shall hear (RFC 3461 §5.2.2)."""
    return _delivery_report(envelope, _RELAYED_FORM, now)


def failed(envelope: Envelope, now: datetime) -> bytes | None:
    """The destination knows no such user."""
    return _delivery_report(envelope, _FAILED_FORM, now)


def delayed(envelope: Envelope, now: datetime) -> bytes | None:
    """The destination says "later"; the message waits in the queue."""
    return _delivery_report(envelope, _DELAYED_FORM, now)


def displayed(envelope: Envelope, now: datetime) -> bytes | None:
    """The reader opened it in Thunderbird and agreed to say so; None where no receipt was asked for."""
    if envelope.receipt_address is None:
        return None
    boundary = f"------------mdn{secrets.token_hex(12).upper()}"
    mark = f"--{boundary}\n"
    text = (
        _received(f"mx.{envelope.domain}", HOME, envelope.receipt_address, now)
        + f"Date: {_date(now)}\n"
        + f"From: {_display_name(envelope.recipient)} <{envelope.recipient}>\n"
        + f"Message-ID: <{secrets.token_hex(16)}@{envelope.domain}>\n"
        + f"Subject: Return Receipt (displayed) -{envelope.subject}\n"
        + f"To: {envelope.receipt_address}\nReferences: {envelope.message_id}\nMIME-Version: 1.0\n"
        + f'Content-Type: multipart/report; report-type=disposition-notification;\n\tboundary="{boundary}"\n\n'
        + f"{mark}Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n"
        + f"This is a Return Receipt for the mail that you sent to {envelope.recipient}.\n\n"
        + "Note: This Return Receipt only acknowledges that the message was displayed on the recipient's computer. "
        + "There is no guarantee that the recipient has read or understood the message contents.\n\n"
        + f'{mark}Content-Type: message/disposition-notification; name="MDNPart2.txt"\n'
        + "Content-Disposition: inline\nContent-Transfer-Encoding: 7bit\n\nReporting-UA: Mozilla Thunderbird\n"
        + f"Final-Recipient: rfc822;{envelope.recipient}\nOriginal-Message-ID: {envelope.message_id}\n"
        + "Disposition: manual-action/MDN-sent-manually; displayed\n\n"
        + f'{mark}Content-Type: text/rfc822-headers; name="MDNPart3.txt"\nContent-Transfer-Encoding: 7bit\n'
        + f"Content-Disposition: inline\n\nReturn-Path: <{envelope.return_path}>\n"
    )
    return _arriving(envelope.recipient, envelope.receipt_address, text, envelope, boundary)


def rejected(envelope: Envelope, now: datetime) -> bytes | None:
    """A Sieve script of the recipient refused it (RFC 5429 §2.1); Pigeonhole sends an MDN to the return path."""
    host = f"mx.{envelope.domain}"
    boundary = f"{secrets.randbelow(90000) + 10000}/{host}"
    mark = f"--{boundary}\n"
    text = (
        _received(host, HOME, envelope.return_path, now)
        + f"Message-ID: <dovecot-{int(now.timestamp())}-{secrets.randbelow(10**6)}-0@{host}>\n"
        + f"Date: {_date(now)}\nFrom: Postmaster <postmaster@{envelope.domain}>\nTo: <{envelope.return_path}>\n"
        + "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=disposition-notification;\n"
        + f'\tboundary="{boundary}"\nSubject: Rejected: {envelope.subject}\n'
        + "Auto-Submitted: auto-replied (rejected)\nPrecedence: bulk\n\nThis is a MIME-encapsulated message\n\n"
        + f"{mark}Content-Type: text/plain; charset=utf-8\nContent-Disposition: inline\n"
        + "Content-Transfer-Encoding: 8bit\n\n"
        + f"Your message to <{envelope.recipient}> was automatically rejected:\nI do not read this mailbox.\n"
        + f"{mark}Content-Type: message/disposition-notification\n\n"
        + f"Reporting-UA: {host}; Dovecot Mail Delivery Agent\nFinal-Recipient: rfc822; {envelope.recipient}\n"
        + f"Original-Message-ID: {envelope.message_id}\n"
        + "Disposition: automatic-action/MDN-sent-automatically; deleted\n\n"
        + f"{mark}Content-Type: message/rfc822\n\n"
        + f"Return-Path: <{envelope.return_path}>\nDelivered-To: {envelope.recipient}\n"
    )
    return _arriving("", envelope.return_path, text, envelope, boundary)


Report = Callable[[Envelope, datetime], bytes | None]
"""Writes a report as it lies in our mailbox, or returns None where nobody asked for it."""


def _delivery_report(envelope: Envelope, form: _Form, now: datetime) -> bytes | None:
    if not envelope.wants(form.condition):
        return None
    destination = f"mx.{envelope.domain}"
    host = destination if form.from_destination else HOME
    boundary = f"{envelope.queue_id}.{int(now.timestamp())}/{host}"
    full = envelope.ret == "FULL" and form.condition == "FAILURE"
    title = "Undelivered Message" if form.condition != "SUCCESS" else "Message"
    returned = (
        f"Content-Description: {title}\nContent-Type: message/rfc822\n"
        if full
        else f"Content-Description: {title} Headers\nContent-Type: text/rfc822-headers\n"
    )
    text = (
        _report_header(envelope, form, host, boundary, now)
        + f"This is a MIME-encapsulated message.\n\n--{boundary}\nContent-Description: Notification\n"
        + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
        + f"This is the mail system at host {host}.\n\n{form.text}\n                   The mail system\n\n"
        + _fold(f"<{envelope.recipient}>: {_said(envelope, form, destination)}")
        + f"\n--{boundary}\nContent-Description: Delivery report\nContent-Type: {_status_type(envelope)}\n\n"
        + _delivery_status(envelope, form, host, now)
        + f"\n--{boundary}\n{returned}Content-Transfer-Encoding: 8bit\n\n"
        + f"Return-Path: <{envelope.return_path}>\n"
    )
    return _arriving("", envelope.return_path, text, envelope, boundary, full=full)


def _report_header(envelope: Envelope, form: _Form, host: str, boundary: str, now: datetime) -> str:
    report_id = new_queue_id()
    hop = "" if host == HOME else _received(host, HOME, envelope.return_path, now)
    return (
        f"{hop}Received: by {host} (Postfix)\n\tid {report_id}; {_date(now)}\n"
        f"Date: {_date(now)}\nFrom: Mail Delivery System <MAILER-DAEMON@{host}>\nSubject: {form.subject}\n"
        f"To: {envelope.return_path}\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\n\tboundary="{boundary}"\n'
        f"Content-Transfer-Encoding: 8bit\nMessage-Id: <{now:%Y%m%d%H%M%S}.{report_id}@{host}>\n\n"
    )


def _delivery_status(envelope: Envelope, form: _Form, host: str, now: datetime) -> str:
    """The machine-readable part (RFC 3464 §2), fields in Postfix's order."""
    original = envelope.original_recipient or f"rfc822;{envelope.recipient}"
    per_message = [f"Reporting-MTA: dns; {host}"]
    if envelope.envelope_id:
        per_message.append(f"Original-Envelope-Id: {envelope.envelope_id}")
    per_message += [
        f"X-Postfix-Queue-ID: {envelope.queue_id}",
        f"X-Postfix-Sender: rfc822; {envelope.return_path}",
        f"Arrival-Date: {_date(envelope.arrived_at)}",
    ]
    per_recipient = [
        f"Final-Recipient: {original.partition(';')[0]}; {envelope.recipient}",
        f"Original-Recipient: {original}",
        f"Action: {form.action}",
        f"Status: {form.status}",
    ]
    if not form.from_destination:
        per_recipient.append(f"Remote-MTA: dns; mx.{envelope.domain}")
    per_recipient.append(_fold(f"Diagnostic-Code: {_diagnostic(envelope, form)}").rstrip())
    if form.condition == "DELAY":
        per_recipient.append(f"Will-Retry-Until: {_date(now + timedelta(days=5))}")
    return "\n".join([*per_message, "", *per_recipient, ""])


def _status_type(envelope: Envelope) -> str:
    """An address outside ASCII needs the global form (RFC 6533 §4)."""
    return "message/delivery-status" if envelope.recipient.isascii() else "message/global-delivery-status"


def _said(envelope: Envelope, form: _Form, destination: str) -> str:
    diagnostic = _diagnostic(envelope, form).partition("; ")[2]
    if form.from_destination:
        return diagnostic
    if form.condition == "SUCCESS":
        return f"delivery via {destination}[127.0.0.1]:25: {diagnostic}"
    return f"host {destination}[127.0.0.1] said: {diagnostic} (in reply to RCPT TO command)"


def _diagnostic(envelope: Envelope, form: _Form) -> str:
    next_id = f"{envelope.queue_id[::-1]}"
    return form.diagnostic.format(recipient=envelope.recipient, next_id=next_id)


def _arriving(sender: str, to: str, text: str, envelope: Envelope, boundary: str, *, full: bool = False) -> bytes:
    """Return the report as our own server delivers it: trace above, the returned message below."""
    top = f"Return-Path: <{sender}>\nDelivered-To: {to}\n"
    hop = f"Received: from office.example (unknown [127.0.0.1])\n\tby {HOME} (Postfix) with ESMTPSA id "
    hop += f"{envelope.queue_id}\n\tfor <{envelope.recipient}>; {_date(envelope.arrived_at)}\n"
    before = (top + text + hop).replace("\n", "\r\n").encode()
    returned = envelope.content if full else envelope.header_bytes
    return before + returned + f"\r\n--{boundary}--\r\n".encode()


def _received(host: str, by: str, to: str, now: datetime) -> str:
    return (
        f"Received: from {host} (unknown [127.0.0.1])\n\tby {by} (Postfix) with ESMTP id {new_queue_id()}\n"
        f"\tfor <{to}>; {_date(now)}\n"
    )


def _fold(line: str) -> str:
    """Break a long line as Postfix does, four spaces in front of what continues it."""
    return "\n".join(textwrap.wrap(line, 79, subsequent_indent="    ", break_long_words=False)) + "\n"


def _date(when: datetime) -> str:
    return format_datetime(when)


def _display_name(address: str) -> str:
    return parseaddr(address)[1].partition("@")[0].capitalize()


def new_queue_id() -> str:
    """Return a name for a queue file, as Postfix gives them."""
    return secrets.token_hex(6)[:11].upper()
