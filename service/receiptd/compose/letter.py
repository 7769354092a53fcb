"""A message ready to be sent: its bytes, whom it goes to, and what it asks of the relay (RFC 5322, 8098 §2)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from receiptd.compose import header
from receiptd.errors import BadData
from receiptd.facts import LONGEST_MESSAGE_ID, Role
from receiptd.mail.address import domain_of, parse_address
from receiptd.mail.address_list import parse_mailboxes

_ANGLE_ID = re.compile(r"<[^<>]+>")
_REMOVED = frozenset(
    {
        "bcc",
        "resent-bcc",
        "disposition-notification-to",
        "disposition-notification-options",
        "receipt-token",
        "return-path",  # RFC 5321 §4.4: not an originator's; beside ours it would forbid an automatic MDN
    }
)
_TO_MANY = ("newsgroups", "list-id", "list-post")
"""What goes to newsgroups, and what a mailing list sends (RFC 2919, RFC 2369): each reader would be asked."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """A recipient and the header field that names it."""

    address: str
    role: Role


@dataclass(frozen=True, slots=True)
class Letter:
    """One message for all its recipients; only what `for_recipient` inserts differs between the copies."""

    content: bytes
    """Lines end in CRLF; Message-ID and Date are there, Bcc and foreign receipt requests are not."""
    message_id: str
    from_address: str
    reply_to: tuple[str, ...]
    subject: str
    recipients: tuple[Addressee, ...]
    may_request: bool
    """False in a report or an automatic answer: it must ask for no report of its own (RFC 3834, 8098 §2.1)."""
    may_request_mdn: bool
    """Additionally False in what goes to newsgroups or comes from a mailing list (RFC 8098 §2.1, RFC 2919)."""
    needs_8bitmime: bool
    needs_smtputf8: bool
    """The header holds UTF-8 (RFC 6531 §3.5); an address that isn't ASCII needs it in its own envelope too."""
    longest_line: int
    """In octets, without CRLF; more than 998 is too long (RFC 5322 §2.1.1)."""


def adopt(raw: bytes, *, now: datetime, to: Sequence[str] = ()) -> Letter:
    """Return a complete RFC 5322 message as a Letter, byte for byte but for its header lines.

    Recipients are those of To, Cc and Bcc (of the Resent- fields, if it has some), or *to*, where a message names
    none of its own or other ones. Raises BadData.
    """
    message = header.split(header.with_crlf(raw))
    kept = message.without(_is_removed)
    added = []
    if not _message_id(kept):
        kept = kept.without(lambda name: name == "message-id")
        added.append(b"Message-ID: " + make_message_id(_from_address(message), now).encode() + b"\r\n")
    if not any(kept.values("date")):
        kept = kept.without(lambda name: name == "date")
        added.append(b"Date: " + format_datetime(now.astimezone(UTC)).encode() + b"\r\n")
    return seal(kept.join(added), _recipients(message, to))


def seal(content: bytes, recipients: Iterable[tuple[Role, str]]) -> Letter:
    """Return finished *content* for *recipients* as a Letter; raise BadData without a sender or a recipient."""
    message = header.split(content)
    addressees = unique(recipients)
    if not addressees:
        raise BadData("the message has no recipient: name one in To, Cc or Bcc, or as an argument")
    may_request = not _is_report_or_answer(message)
    field_lines = b"".join(field.raw for field in message.fields)
    return Letter(
        content=content,
        message_id=_checked_id(_message_id(message)),
        from_address=_from_address(message),
        reply_to=_reply_to(message),
        subject=header.decode(next(iter(message.values("subject")), "")),
        recipients=addressees,
        may_request=may_request,
        may_request_mdn=may_request and not any(map(message.values, _TO_MANY)),
        needs_8bitmime=not content.isascii(),
        needs_smtputf8=not field_lines.isascii() and _is_utf8(field_lines),
        longest_line=max(map(len, content.split(b"\r\n"))),
    )


def renew(content: bytes, recipients: Iterable[tuple[Role, str]], *, now: datetime) -> Letter:
    """Return finished *content* as a new message for *recipients*: the same but for its Message-ID.

    Under the old one, duplicate filters would swallow the copy without a word.
    """
    message = header.split(content)
    message_id = make_message_id(_from_address(message), now)
    kept = message.without(lambda name: name == "message-id")
    return seal(kept.join([f"Message-ID: {message_id}\r\n".encode()]), recipients)


def for_recipient(content: bytes, *, disposition_notification_to: str | None, receipt_token: str | None) -> bytes:
    """Return one recipient's copy of *content*: with the request for a read receipt, and the token, if given.

    *disposition_notification_to* equals the copy's return path, or RFC 8098 §2.1 forbids an automatic MDN.
    """
    copy = header_of_copy(disposition_notification_to=disposition_notification_to, receipt_token=receipt_token)
    return header.insert(content, [copy])


def header_of_copy(*, disposition_notification_to: str | None, receipt_token: str | None) -> bytes:
    """Return the header lines of one recipient's copy alone; they stand before all others."""
    lines = []
    if disposition_notification_to is not None:
        lines.append(f"Disposition-Notification-To: <{disposition_notification_to}>\r\n".encode())
    if receipt_token is not None:
        lines.append(f"Receipt-Token: {receipt_token}\r\n".encode())
    return b"".join(lines)


def make_message_id(from_address: str, now: datetime) -> str:
    """Return a new Message-ID in the sender's domain; no run of it looks like a correlation token."""
    return f"<{now.astimezone(UTC):%Y%m%d%H%M%S}.{secrets.token_hex(8)}@{domain_of(from_address)}>"


def unique(recipients: Iterable[tuple[Role, str]]) -> tuple[Addressee, ...]:
    """Return each address once, in order; where fields name it twice, To wins over Cc and Cc over Bcc."""
    strength = list(Role)
    roles: dict[str, Role] = {}
    for role, text in recipients:
        address = parse_address(text)
        roles[address] = min(role, roles.get(address, role), key=strength.index)
    return tuple(Addressee(address, role) for address, role in roles.items())


def _is_removed(name: str) -> bool:
    return name in _REMOVED or name.startswith("x-receipt-")


def _recipients(message: header.Split, to: Sequence[str]) -> list[tuple[Role, str]]:
    """Return whom the message goes to; an address of *to* keeps the role that a header field gives it."""
    if not to:
        return _named(message)
    try:
        roles = {addressee.address: addressee.role for addressee in unique(_named(message))}
    except BadData:  # the header doesn't decide here, so it needn't be readable
        roles = {}
    return [(roles.get(parse_address(text), Role.TO), text) for text in to]


def _named(message: header.Split) -> list[tuple[Role, str]]:
    resent = "resent-" if message.values("resent-to", "resent-cc", "resent-bcc") else ""
    return [
        (role, mailbox.address)
        for role in Role
        for value in message.values(resent + role)
        for mailbox in parse_mailboxes(value)
    ]


def _from_address(message: header.Split) -> str:
    """Return the first author: of several (RFC 5322 §3.6.2), or of several From lines, which relays let pass."""
    for value in message.values("from"):
        for mailbox in parse_mailboxes(value):
            return parse_address(mailbox.address)
    raise BadData("the message has no sender: give it a From line")


def _reply_to(message: header.Split) -> tuple[str, ...]:
    """Return where answers go; what can't be read there takes no answer, and isn't a reason to refuse the message."""
    try:
        return tuple(
            parse_address(mailbox.address) for value in message.values("reply-to") for mailbox in parse_mailboxes(value)
        )
    except BadData:
        return ()


def _message_id(message: header.Split) -> str:
    for value in message.values("message-id"):
        if value:
            found = _ANGLE_ID.search(value)
            return found.group() if found else value
    return ""


def _checked_id(message_id: str) -> str:
    """Return *message_id* unless it is one that no report can name, and no index holds."""
    if len(message_id.encode()) > LONGEST_MESSAGE_ID:
        raise BadData(
            f"its Message-ID is longer than the {LONGEST_MESSAGE_ID} octets that fit a line (RFC 5322 §2.1.1): "
            "shorten it, or leave it out and one is made"
        )
    return message_id


def _is_report_or_answer(message: header.Split) -> bool:
    kinds = [value.partition(";")[0].strip().lower() for value in message.values("content-type")]
    automatic = [value.partition(";")[0].strip().lower() for value in message.values("auto-submitted")]
    is_report = any(kind == "multipart/report" or kind.startswith("message/disposition-") for kind in kinds)
    return is_report or any(word.partition(" ")[0] == "auto-replied" for word in automatic)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
