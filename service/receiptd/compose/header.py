"""Header lines of a raw message: found, removed and inserted by offset, everything else left as it is.

Python's parse-and-generate changes half of all real mail, signatures included; so nothing here builds a message anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header

_LONE_BREAK = re.compile(rb"\r\n?|\n")
_MBOX_LINE = re.compile(rb"\A>?From [^\r\n]*\r\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r\n]*(?:\r\n|\Z)(?:[ \t][^\r\n]*(?:\r\n|\Z))*")
_FOLD = re.compile(r"\r\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field with its folded lines, as they stand in the message."""

    name: str
    """In lower case."""
    raw: bytes

    @property
    def value(self) -> str:
        """What stands after the colon, unfolded; octets that aren't UTF-8 are read as Latin-1."""
        octets = self.raw.partition(b":")[2]
        try:
            text = octets.decode()
        except UnicodeDecodeError:
            text = octets.decode("latin-1")
        return _FOLD.sub("", text).strip()


@dataclass(frozen=True, slots=True)
class Split:
    """A message cut where its header ends; *body* begins with the empty line, if there is one."""

    fields: tuple[Field, ...]
    body: bytes

    def values(self, *names: str) -> list[str]:
        """Return the values of every field of these names (in lower case), in the order of the message."""
        return [field.value for field in self.fields if field.name in names]

    def without(self, unwanted: Callable[[str], bool]) -> Split:
        """Return the message without the fields whose name is *unwanted*."""
        return Split(tuple(field for field in self.fields if not unwanted(field.name)), self.body)

    def join(self, inserted: Iterable[bytes] = ()) -> bytes:
        """Return the message's bytes, *inserted* lines first: servers that cut what they return cut at the end."""
        return b"".join((*inserted, *(field.raw for field in self.fields), self.body))


def with_crlf(raw: bytes) -> bytes:
    """Return *raw* with every bare CR and bare LF made CRLF (RFC 5321 §2.3.8); what has none passes as it is."""
    if raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r"):
        return raw
    return _LONE_BREAK.sub(b"\r\n", raw)


def split(content: bytes) -> Split:
    """Cut *content* (lines ending in CRLF) into header fields and body; an mbox `From ` line is left out.

    A line that isn't a header field ends the header, as it does for Postfix; an empty line is put before it, so that
    every later reader of the message sees the same header as we do.
    """
    mbox_line = _MBOX_LINE.match(content)
    position = mbox_line.end() if mbox_line else 0
    fields = []
    while found := _FIELD.match(content, position):
        fields.append(_field(found))
        position = found.end()
    body = content[position:]
    return Split(tuple(fields), body if body.startswith(b"\r\n") else b"\r\n" + body)


def insert(content: bytes, lines: Iterable[bytes]) -> bytes:
    """Return *content* with header *lines* (each ending in CRLF) put before its own."""
    return b"".join((*lines, content))


def decode(value: str) -> str:
    """Return *value* with its encoded words read (RFC 2047); what can't be read stays as it stands."""
    if "=?" not in value:
        return value
    try:
        return "".join(_decoded(part, charset) for part, charset in decode_header(value))
    except HeaderParseError:
        return value


def _field(found: re.Match[bytes]) -> Field:
    raw = found.group()
    return Field(found[1].decode("ascii").lower(), raw if raw.endswith(b"\r\n") else raw + b"\r\n")


def _decoded(part: bytes | str, charset: str | None) -> str:
    if isinstance(part, str):
        return part
    try:
        return part.decode(charset or "ascii", "replace")
    except LookupError:
        return part.decode("ascii", "replace")
