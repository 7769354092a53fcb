"""The addresses of a header line such as To (RFC 5322 §3.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from receiptd.errors import BadData
from receiptd.mail.address import shown

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]]*\]|\s+|[,;:<>"\[]|[^\s",;:<>\[]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with the name that stands before it, both as written."""

    name: str
    address: str


def parse_mailboxes(text: str) -> list[Mailbox]:
    """Return the mailboxes that an address list names, groups opened, comments and routes left out (RFC 5322 §3.4).

    Raises BadData where the list can't be read without a guess, for a guess loses a recipient.
    """
    found: list[Mailbox] = []
    entry = _Entry(text)
    for piece in _pieces(text):
        if piece in ",;" and not entry.in_angle:
            found.extend(entry.close())
            entry = _Entry(text)
        else:
            entry.take(piece)
    found.extend(entry.close())
    return found


class _Entry:
    """One element of an address list while it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.phrase: list[str] = []
        self.angle: list[str] | None = None
        self.in_angle = False

    def take(self, piece: str) -> None:
        if piece == '"' or (piece == "<" and self.angle is not None) or (piece == ">" and not self.in_angle):
            raise self.unreadable()
        if piece == "<":
            self.angle, self.in_angle = [], True
        elif piece == ">":
            self.in_angle = False
        elif piece == ":":  # a group's name, or a route (RFC 5322 §4.4), stands before it
            (self.angle if self.in_angle and self.angle is not None else self.phrase).clear()
        elif self.in_angle and self.angle is not None:
            self.angle.append(piece)
        elif self.angle is None:
            self.phrase.append(piece)
        elif not piece.isspace():
            raise self.unreadable()

    def close(self) -> Iterator[Mailbox]:
        if self.in_angle:
            raise self.unreadable()
        phrase = "".join(self.phrase).strip()
        if self.angle is not None:
            yield Mailbox(_unquoted(phrase), _close_up("".join(self.angle)))
        elif phrase:
            yield Mailbox("", _close_up(phrase))

    def unreadable(self) -> BadData:
        return BadData(f"the address list {shown(self.text)} can't be read: put a comma between addresses")


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(_without_comments(text))


def _without_comments(text: str) -> str:
    """Return *text* with each comment, nested ones included, replaced by a space (RFC 5322 §3.2.2)."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = 0
    for piece in re.findall(r'\\.|"(?:[^"\\]|\\.)*"|[()]|[^\\"()]+|.', text, re.DOTALL):
        if piece == "(":
            depth += 1
            kept.append(" ")
        elif piece == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(piece)
    if depth:
        raise BadData(f"the address list {shown(text)} has a comment that doesn't end: close the bracket")
    return "".join(kept)


def _close_up(spec: str) -> str:
    """Return *spec* without the white space that old mail has around dots and @ (RFC 5322 §4.4)."""
    return spec.strip() if '"' in spec else re.sub(r"\s*([.@])\s*", r"\1", spec.strip())


def _unquoted(phrase: str) -> str:
    return re.sub(r'"((?:[^"\\]|\\.)*)"', lambda found: re.sub(r"\\(.)", r"\1", found[1]), phrase)
