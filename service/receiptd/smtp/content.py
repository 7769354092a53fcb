"""The bytes of a message as they follow DATA, built once for all its recipients."""

from __future__ import annotations

from dataclasses import dataclass, field

from receiptd.errors import BadData


@dataclass(frozen=True, slots=True)
class Content:
    """A message that is ready for the wire; *size* counts its octets as SIZE does, without stuffing."""

    size: int
    stuffed: bytes = field(repr=False)
    """Leading dots doubled, the last line ended, the final dot (RFC 5321 §4.5.2)."""

    @classmethod
    def of(cls, raw: bytes) -> Content:
        """Return *raw* ready for the wire; raise BadData where a line doesn't end in CRLF."""
        check_lines(raw)
        return cls(len(raw), stuff_dots(raw))


def check_lines(raw: bytes) -> None:
    """Raise BadData for a bare CR or LF: it ends a line for some servers, and then `.` the message (SMTP smuggling)."""
    if not raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r"):
        raise BadData("the content has a line that doesn't end in CRLF")


def stuff_dots(content: bytes) -> bytes:
    """Return *content* as it follows DATA: leading dots doubled, last line ended, the final dot (RFC 5321 §4.5.2)."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"
