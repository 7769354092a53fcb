"""One transaction, what can become of it, and the fault that is about us."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from receiptd import correlation_token
from receiptd.errors import BadData, Unavailable
from receiptd.smtp.reply import Capabilities, Reply

LONGEST_LINE = 998
"""Octets in a line of content, CRLF not counted (RFC 5321 §4.5.3.1.6)."""

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_FORBIDDEN_IN_ADDRESS = re.compile(r"[\x00-\x20\x7f<>\"]")
_QUOTED_LOCAL_PART = re.compile(r'^"(?:[ !#-\[\]-~]|\\[ -~])*"(?=@)')


@dataclass(frozen=True, slots=True)
class Transaction:
    """One message to one recipient: what goes into the envelope, and the bytes.

    *notify* and *ret* are settings' words (`success`, `hdrs`); *longest_line* counts octets without CRLF.
    """

    return_path: str
    recipient: str
    content: bytes
    envelope_id: str
    notify: tuple[str, ...] = ("success", "failure")
    ret: str = "hdrs"
    request_dsn: bool = True
    needs_8bitmime: bool = False
    needs_smtputf8: bool = False
    longest_line: int = 0

    def check(self) -> None:
        """Raise BadData where a field would smuggle a command, a parameter or a second message onto the wire."""
        for name, text in (
            ("recipient", self.recipient),
            ("return path", self.return_path),
            ("envelope id", self.envelope_id),
        ):
            if _FORBIDDEN_IN_ADDRESS.search(_QUOTED_LOCAL_PART.sub("", text)):
                raise BadData(f"the {name} {shown(text)} contains a space, bracket, quote or control character")
        if not self.recipient:
            raise BadData("the transaction has no recipient")
        if self.request_dsn and not self.return_path:
            # RFC 3461 §6.1: a report needs somebody to go to.
            raise BadData("a delivery report can't be requested under the null return path")
        # A bare CR or LF ends a line for some servers only, and then `.` ends the message (SMTP smuggling).
        if not self.content.count(b"\r\n") == self.content.count(b"\n") == self.content.count(b"\r"):
            raise BadData("the content has a line that doesn't end in CRLF")


def shown(text: str) -> str:
    """Return foreign *text* for a sentence: escaped, short, and without a token."""
    return correlation_token.mask(ascii(text))[:200]


def check_parameter(text: str) -> str:
    """Return an ESMTP parameter that can stand on a command line, else raise BadData (RFC 5321 §4.1.2)."""
    if not text or _FORBIDDEN.search(text):
        raise BadData(f"the SMTP parameter {shown(text)} contains a space or control character")
    return text


@dataclass(frozen=True, slots=True)
class Accepted:
    """The relay answered the final dot with 2xx: it is responsible now (RFC 5321 §6.1)."""

    reply: Reply
    dsn_requested: bool
    dialogue: str
    capabilities: Capabilities
    alias_message_id: str | None = None
    dsn_refused: bool = False
    """DSN was offered, yet its parameters were answered with 501 or 555; the message went without them."""
    waited: float = 0.0
    """Seconds since the final dot."""


RefusedAt = Literal["rcpt", "data", "size", "message", "dsn"]


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay, or we in its place, won't take this message for this recipient; transient = later perhaps."""

    place: RefusedAt
    permanent: bool
    reply: Reply | None
    reason: str
    dialogue: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The final dot was sent and no reply came: the relay may have the message or not (RFC 5321 §4.5.3.2.6)."""

    reason: str
    dialogue: str
    waited: float = 0.0
    """Seconds since the final dot."""


Outcome = Accepted | Refused | Uncertain

Place = Literal["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data"]


class RelayDown(Unavailable):
    """The relay can't be used; this says nothing about any message: all stay queued, nothing was sent.

    *place* tells how far we came (`starttls` is any trouble with TLS; `rcpt` and `data` only where the
    connection ended there). *permanent* means that waiting won't help and a person must act.
    """

    def __init__(self, place: Place, sentence: str, *, permanent: bool = False, reply: Reply | None = None) -> None:
        super().__init__(sentence)
        self.place = place
        self.permanent = permanent
        self.reply = reply


class Dropped(RelayDown):
    """The connection ended before DATA: another one may serve the same transaction."""
