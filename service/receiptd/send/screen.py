"""How the recipients of a message stand, as lines for a pipe and as a table that is drawn over itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from receiptd.pages import Message, cut, recipient_line, table, when, width_of
from receiptd.terminal import safe

_INDENT = "    "
_NARROWEST = 12
"""Columns that an address gets, however wide the other columns are."""
_DIAGNOSTIC_TYPE = re.compile(r"^\s*smtp\s*;\s*", re.IGNORECASE)
_TOLD_BY = {"failed": "failed", "contradicted": "failed", "deferred": "deferred", "delayed": "delayed"}
"""The kind of event that holds a server's own words about a state of delivery."""


def lines(message: Message) -> Iterator[tuple[str, str]]:
    """Yield for each recipient its id, and on one line how it stands and why."""
    for recipient in message["recipients"]:
        why = why_so(message, recipient)
        yield recipient["id"], recipient_line(recipient) + (f": {why}" if why else "")


def picture(message: Message, columns: int) -> list[str]:
    """Return a table no wider than *columns*, with the reason below each recipient that has one."""
    recipients = message["recipients"]
    names = ["delivery", "receipt"]
    if any(one.get("disposition") not in (None, "none") for one in recipients):
        names.insert(1, "disposition")
    states = [(*(one.get(name) for name in names), when(one.get("deadline"))) for one in recipients]
    head = (*map(str.upper, names), "DEADLINE")
    room = max(columns - max(map(width_of, table(head, states))) - 2, _NARROWEST)
    addresses = [_shortened(safe(one["address"]), room) for one in recipients]
    title, *rows = table(("ADDRESS", *head), [(address, *row) for address, row in zip(addresses, states, strict=True)])
    drawn = [title]
    for row, recipient in zip(rows, recipients, strict=True):
        drawn.append(row)
        drawn += [_INDENT + line for line in _wrapped(why_so(message, recipient), columns - len(_INDENT))]
    return drawn


def why_so(message: Message, recipient: Mapping[str, Any]) -> str:
    """Return why a recipient stands as it does, and what a server said of it; nothing where there is nothing to add."""
    reason, words = recipient.get("reason") or "", _words_about(message, recipient)
    return safe(" ".join(part for part in (reason, words and f"The server said: {words}") if part))


def _words_about(message: Message, recipient: Mapping[str, Any]) -> str:
    """Return the last diagnostic of a server, without the name of its type (RFC 3464 §2.3.6)."""
    kind = _TOLD_BY.get(recipient.get("delivery") or "")
    words = ""
    for event in message.get("events") or ():
        if event.get("recipient") == recipient["id"] and event.get("kind") == kind:
            words = (event.get("detail") or {}).get("diagnostic_code") or words
    return _DIAGNOSTIC_TYPE.sub("", words)


class LiveTable:
    """A table on a terminal that is drawn over itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._height = 0
        self._is_whole = True

    def draw(self, message: Message) -> None:
        """Draw as much as the terminal has rows for: the cursor can't go back to what was scrolled away."""
        columns, rows = self._size()
        drawn = picture(message, columns)
        room = max(rows - 2, 1)
        self._is_whole = len(drawn) <= room
        if not self._is_whole:
            drawn = [*drawn[:room], f"... and {len(drawn) - room} lines more, shown at the end"]
        self._write(drawn, columns)

    def end(self, message: Message) -> None:
        """Draw all of it, for the last time."""
        if not self._is_whole:
            columns, _ = self._size()
            self._write(picture(message, columns), columns)

    def _size(self) -> tuple[int, int]:
        """Return the columns and rows there are to draw in; 0 is a terminal that doesn't know."""
        size = os.get_terminal_size(self._stream.fileno())
        return (size.columns or 80) - 1, size.lines or 24

    def _write(self, drawn: Sequence[str], columns: int) -> None:
        up = f"\x1b[{self._height}A" if self._height else ""
        shown = "".join(f"{cut(line, columns)}\x1b[K\n" for line in drawn)
        self._stream.write(f"{up}{shown}\x1b[J")
        self._stream.flush()
        self._height = len(drawn)


def _shortened(text: str, room: int) -> str:
    """Return *text* in at most *room* columns: begin and end of an address tell more than its middle."""
    if width_of(text) <= room:
        return text
    head = (room - 3) // 2
    return f"{cut(text, head)}...{cut(text[::-1], room - 3 - head)[::-1]}"


def _wrapped(text: str, room: int) -> Iterator[str]:
    """Yield *text* in lines of at most *room* columns."""
    line = ""
    for word in text.split():
        if line and width_of(f"{line} {word}") > room:
            yield line
            line = ""
        line = f"{line} {word}".lstrip()
        while width_of(line) > room and (part := cut(line, room)):
            yield part
            line = line[len(part) :]
    if line:
        yield line
