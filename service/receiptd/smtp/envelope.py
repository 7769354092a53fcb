"""The envelope of one message to one recipient, checked before it reaches the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass

from receiptd import correlation_token
from receiptd.errors import BadData

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
    content: bytes
    envelope_id: str
    notify: tuple[str, ...] = ("success", "failure")
    ret: str = "hdrs"
    request_dsn: bool = True
    needs_8bitmime: bool = False
    needs_smtputf8: bool = False
    longest_line: int = 0

    def check(self) -> None:
        """Raise BadData where a field would smuggle in a command, a parameter or a second message."""
        for name, text in (
            ("recipient", self.recipient),
            ("return path", self.return_path),
            ("envelope id", self.envelope_id),
        ):
            if _FORBIDDEN_IN_ADDRESS.search(_QUOTED_LOCAL_PART.sub("", text)):
                raise BadData(f"the {name} {shown(text)} contains a space, bracket, quote or control character")
        if not self.recipient:
            raise BadData("the envelope has no recipient")
        if self.request_dsn and not self.return_path:
            # RFC 3461 §6.1: a report needs an address to go to.
            raise BadData("a delivery report can't be requested under the null return path")
        # A bare CR or LF ends a line for some servers only, and then `.` ends the message (SMTP smuggling).
        if not self.content.count(b"\r\n") == self.content.count(b"\n") == self.content.count(b"\r"):
            raise BadData("the content has a line that doesn't end in CRLF")


def shown(text: str) -> str:
    """Return untrusted *text* for a sentence: escaped, short, tokens masked."""
    return correlation_token.mask(ascii(text))[:200]


def check_parameter(text: str) -> str:
    """Return an ESMTP parameter that is safe on a command line, else raise BadData (RFC 5321 §4.1.2)."""
    if not text or _FORBIDDEN.search(text):
        raise BadData(f"the SMTP parameter {shown(text)} contains a space or control character")
    return text
