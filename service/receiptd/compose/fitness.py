"""What must not leave in any message, whatever the relay: refused while somebody is there to be told (RFC 5322)."""

from __future__ import annotations

from receiptd.compose import header
from receiptd.compose.letter import Letter
from receiptd.errors import BadData

LONGEST_LINE = 998
"""Octets of a line without its CRLF (RFC 5322 §2.1.1, RFC 5321 §4.5.3.1.6)."""
_ENCODE = "let your program encode it (quoted-printable or base64), or hand over its parts (-f, --text, -a, --html)"


def check_fitness(letter: Letter) -> None:
    """Raise BadData with a sentence if no server would have to take *letter*."""
    if letter.longest_line > LONGEST_LINE:
        raise BadData(
            f"the message has a line of {letter.longest_line} octets, and a line of mail has {LONGEST_LINE} at most "
            f"(RFC 5322 §2.1.1): {_ENCODE}"
        )
    if b"\0" in letter.content:
        raise BadData(f"the message holds a null character, which no mail may (RFC 5322 §2.2): {_ENCODE}")
    authors = header.split(_header(letter)).values("from")
    if len(authors) > 1:
        raise BadData(
            f"the message has {len(authors)} From fields, and servers refuse such mail (RFC 5322 §3.6): leave one of "
            "them, which may name several authors"
        )


def has_raw_header(letter: Letter) -> bool:
    """Whether the header holds octets beyond ASCII as they are, not in encoded words."""
    return not _header(letter).isascii()


def _header(letter: Letter) -> bytes:
    """Return the header without the body, which may have 50 MB; its fields begin the content."""
    return letter.content[: letter.content.find(b"\r\n\r\n") + 2]
