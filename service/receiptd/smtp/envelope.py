"""The envelope of one message to one recipient, checked before it reaches the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass

from receiptd import correlation_token
from receiptd.errors import BadData
from receiptd.smtp.content import Content, check_lines

LONGEST_LINE = 998
"""Octets in a line of content, CRLF not counted (RFC 5321 §4.5.3.1.6)."""

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_FORBIDDEN_IN_ADDRESS = re.compile(r"[\x00-\x20\x7f<>\"]")
_QUOTED_LOCAL_PART = re.compile(r'^"(?:[ !#-\[\]-~]|\\[ -~])*"(?=@)')


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message to one recipient: sender, recipient, DSN parameters, and the bytes.

    *notify* and *ret* are words from the settings (`success`, `hdrs`); *longest_line* counts octets without CRLF.
    """

    return_path: str
    recipient: str
    content: bytes | Content
    """The message; a Content is built once for all recipients of a message."""
    envelope_id: str
    header: bytes = b""
    """Header lines of this recipient's copy alone, each ending in CRLF; they go before the content."""
    notify: tuple[str, ...] = ("success", "failure")
    ret: str = "hdrs"
    request_dsn: bool = True
    needs_8bitmime: bool = False
    needs_smtputf8: bool = False
    longest_line: int = 0

    @property
    def size(self) -> int:
        """How many octets the message has, as SIZE counts them (RFC 1870 §3)."""
        return len(self.header) + (self.content.size if isinstance(self.content, Content) else len(self.content))

    def check(self) -> None:
        """Raise BadData where a field would smuggle in a command, a parameter or a second message."""
        for name, text in (
            ("recipient", self.recipient),
            ("return path", self.return_path),
            ("envelope id", self.envelope_id),
        ):
            if _FORBIDDEN_IN_ADDRESS.search(_QUOTED_LOCAL_PART.sub("", text)):
                raise BadData(f"the {name} {shown(text)} contains a space, bracket, quote or control character")
            if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                raise BadData(f"the {name} {shown(text)} can't be written in UTF-8")
        if not self.recipient:
            raise BadData("the envelope has no recipient")
        if self.request_dsn and not self.return_path:
            # RFC 3461 §6.1: a report needs an address to go to.
            raise BadData("a delivery report can't be requested under the null return path")
        if self.header:
            self._check_header()
        if isinstance(self.content, bytes):
            check_lines(self.content)

    def _check_header(self) -> None:
        check_lines(self.header)
        lines = self.header.split(b"\r\n")
        if lines.pop() or any(not line or line.startswith(b".") for line in lines):
            raise BadData("a header line of the copy is empty, or doesn't end in CRLF")


def shown(text: str) -> str:
    """Return untrusted *text* for a sentence: escaped, short, tokens masked."""
    return correlation_token.mask(ascii(text))[:200]


def check_parameter(text: str) -> str:
    """Return an ESMTP parameter that is safe on a command line, else raise BadData (RFC 5321 §4.1.2)."""
    if not text or _FORBIDDEN.search(text):
        raise BadData(f"the SMTP parameter {shown(text)} contains a space or control character")
    return text
