"""A message made from its parts: text, HTML, attachments and header fields (RFC 5322, 2045-2047, 2231)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.errors import MessageError
from email.header import Header
from email.message import EmailMessage
from email.utils import format_datetime

from receiptd.compose.letter import Letter, make_message_id, seal
from receiptd.errors import BadData
from receiptd.facts import Role
from receiptd.mail.address import parse_address
from receiptd.mail.address_list import Mailbox, parse_mailboxes

_POLICY = policy.SMTP.clone(cte_type="7bit")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_CONTENT_TYPE = re.compile(r"([\w.+-]+)/([\w.+-]+)(\s*;.*)?", re.ASCII)
_LONGEST_LINE = 998
_SHORT = 74
"""Octets of a field's name and value that fit one line with what stands between them."""
_POLICY_LINE = 78
"""A text with a longer line is encoded (email.policy, max_line_length)."""
_PLAIN = b'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: 7bit\r\nMIME-Version: 1.0\r\n\r\n'
_ADDRESS_FIELDS = frozenset({"reply-to", "sender"})
_OPTIONS = frozenset({"from", "to", "cc", "bcc", "subject"})
_OURS = frozenset({"mime-version", "return-path", "receipt-token", "received"})
_OUR_PREFIXES = ("content-", "disposition-notification-", "x-receipt-", "resent-")


@dataclass(frozen=True, slots=True)
class Attachment:
    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """What a user gives instead of a finished message."""

    from_: str
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def compose(draft: Draft, *, now: datetime) -> Letter:
    """Return *draft* as a Letter that every relay takes: 7-bit, lines under 998 octets, CRLF.

    Raises BadData for what can't stand in a message: no sender, no recipient, a line break in a header value.
    """
    senders = _mailboxes("From", (draft.from_,))
    if not senders:
        raise BadData("the message has no sender: say who sends it (from)")
    recipients = {
        Role.TO: _mailboxes("To", draft.to),
        Role.CC: _mailboxes("Cc", draft.cc),
        Role.BCC: _mailboxes("Bcc", draft.bcc),
    }
    custom = {name.strip().lower() for name, _ in draft.headers}
    lines = [_address_line("From", senders)]
    lines += [_address_line(name, recipients[role]) for name, role in (("To", Role.TO), ("Cc", Role.CC))]
    lines.append(_line("Subject", draft.subject))
    if "date" not in custom:
        lines.append(_line("Date", format_datetime(now.astimezone(UTC))))
    if "message-id" not in custom:
        lines.append(_line("Message-ID", make_message_id(senders[0].address, now)))
    lines += [_custom_line(name.strip(), value) for name, value in draft.headers]
    content = "".join(lines).encode() + _body(draft)
    return seal(content, ((role, mailbox.address) for role in Role for mailbox in recipients[role]))


def _mailboxes(field: str, texts: Iterable[str]) -> list[Mailbox]:
    """Return the checked mailboxes of *texts*, each of which may be a list, as people paste them."""
    found = []
    for text in texts:
        _refuse_control(field, text)
        found += [Mailbox(mailbox.name, parse_address(mailbox.address)) for mailbox in parse_mailboxes(text)]
    return found


def _address_line(field: str, mailboxes: Iterable[Mailbox]) -> str:
    """Return the header line, one mailbox a line of text; nothing for no mailbox."""
    shown = ",\r\n ".join(map(_shown_mailbox, mailboxes))
    return f"{field}: {shown}\r\n" if shown else ""


def _shown_mailbox(mailbox: Mailbox) -> str:
    if not mailbox.name:
        return mailbox.address
    if mailbox.name.isascii():
        name = '"' + re.sub(r'(["\\])', r"\\\1", mailbox.name) + '"'
        if len(name) > _LONGEST_LINE - 340:
            raise BadData("a name in an address line is longer than a line of mail may be")
    else:
        name = _encoded("", mailbox.name)
    return f"{name} <{mailbox.address}>"


def _custom_line(name: str, value: str) -> str:
    """Return a header line the user asked for; those that options or receiptd itself write are refused."""
    lowered = name.lower()
    if not _FIELD_NAME.fullmatch(name):
        raise BadData(f"{name!r} isn't a header name: write 'Name: value'")
    if lowered in _OPTIONS:
        raise BadData(f"the header {name} has an option of its own ({lowered}): use that")
    if lowered in _OURS or lowered.startswith(_OUR_PREFIXES):
        raise BadData(f"the header {name} is written by receiptd itself: leave it out")
    if lowered in _ADDRESS_FIELDS:
        return _address_line(name, _mailboxes(name, (value,)))
    return _line(name, value.strip())


def _line(name: str, value: str) -> str:
    """Return a header line, folded, its text in encoded words where it isn't ASCII (RFC 2047).

    A subject of one word that fits no line is encoded too; where a field has a syntax, that would break it.
    """
    _refuse_control(name, value)
    line = f"{name}: {_encoded(name, value)}\r\n"
    if _is_too_long(line) and name == "Subject":
        line = f"{name}: {_encoded(name, value, 'utf-8')}\r\n"
    if _is_too_long(line):
        raise BadData(f"the header {name} has a word that is longer than a line of mail may be")
    return line


def _is_too_long(line: str) -> bool:
    return any(len(part) > _LONGEST_LINE for part in line.split("\r\n"))


def _encoded(name: str, value: str, charset: str | None = None) -> str:
    if charset is None and len(name) + len(value) < _SHORT and value.isascii() and value == value.strip():
        return value  # as Header would return it, which takes as long as all else here
    charset = charset or ("us-ascii" if value.isascii() else "utf-8")
    return Header(value, charset, header_name=name, maxlinelen=76).encode(splitchars=" \t", linesep="\r\n")


def _refuse_control(field: str, value: str) -> None:
    """Refuse what would end the line and begin a header of its own."""
    if _CONTROL.search(value):
        raise BadData(f"{field} holds a line break or control character: write it on one line")
    _refuse_surrogates(field, value)


def _refuse_surrogates(field: str, value: str) -> None:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise BadData(f"{field} isn't valid Unicode: write it in UTF-8")


def _body(draft: Draft) -> bytes:
    """Return MIME-Version, the content header lines, the empty line and the body."""
    if draft.html is None and not draft.attachments and (plain := _plain(draft.text or "")) is not None:
        return plain
    message = EmailMessage(policy=_POLICY)
    for field, text in (("the text", draft.text), ("the HTML", draft.html)):
        _refuse_surrogates(field, text or "")
    if draft.html is None or draft.text is not None:
        message.set_content(draft.text or "", cte=_encoding(draft.text))
    if draft.html is not None and draft.text is not None:
        message.add_alternative(draft.html, subtype="html", cte=_encoding(draft.html))
    elif draft.html is not None:
        message.set_content(draft.html, subtype="html", cte=_encoding(draft.html))
    for attachment in draft.attachments:
        _attach(message, attachment)
    return message.as_bytes()


def _plain(text: str) -> bytes | None:
    """Return what `_body` does for a text that needs no encoding, in a tenth of the time; None for any other."""
    if not text or not text.isascii() or "\0" in text:
        return None
    lines = text.encode("ascii").splitlines()
    if max(map(len, lines), default=0) > _POLICY_LINE:
        return None
    return _PLAIN + b"".join(line + b"\r\n" for line in lines)


def _encoding(text: str | None) -> str | None:
    """Return how *text* must be encoded where the library wouldn't: it lets a null character pass."""
    return "quoted-printable" if text and "\0" in text else None


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    _refuse_control("an attachment's file name", attachment.filename)
    maintype, subtype, parameters = _content_type(attachment)
    try:
        message.add_attachment(
            attachment.content, maintype=maintype, subtype=subtype, params=parameters, filename=attachment.filename
        )
    except (MessageError, ValueError) as error:
        raise BadData(f"the attachment {attachment.filename!r} can't be put into a message: {error}") from error


def _content_type(attachment: Attachment) -> tuple[str, str, dict[str, str]]:
    """Return type, subtype and parameters; what must not be base64 (RFC 2046 §5.2.1) goes as a plain file."""
    _refuse_control("an attachment's content type", attachment.content_type)
    found = _CONTENT_TYPE.fullmatch(attachment.content_type.strip())
    if not found:
        raise BadData(f"{attachment.content_type!r} isn't a content type: write it as application/pdf")
    if found[1].lower() in ("message", "multipart"):
        return "application", "octet-stream", {}
    parsed = EmailMessage(policy=_POLICY)
    parsed["Content-Type"] = attachment.content_type.strip()
    return (
        found[1].lower(),
        found[2].lower(),
        {name: value for name, value in parsed["Content-Type"].params.items() if name != "name"},
    )
