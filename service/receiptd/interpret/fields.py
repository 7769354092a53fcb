"""Header-like lines -> fields: any case, folded, with comments, as real servers write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_NAME = re.compile(r"([!-9;-~]{1,76})[ \t]*:")
_MOST_LINES = 4000
_TYPE = re.compile(r"[ \t]*([A-Za-z][\w-]{0,30})[ \t]*;")
_BLANKS = re.compile(r"\s+")


class Fields:
    """The fields of one header or block, in order, by lower-case name; values are unfolded and stripped."""

    __slots__ = ("_by_name", "items")

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self.items = items
        self._by_name: dict[str, list[str]] = {}
        for name, value in items:
            self._by_name.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __bool__(self) -> bool:
        return bool(self.items)

    def first(self, name: str) -> str | None:
        """Return the topmost value of *name*."""
        values = self._by_name.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return every value of *name*, topmost first."""
        return self._by_name.get(name, [])

    def only(self, name: str) -> str | None:
        """Return the value of *name* unless it is missing or stated twice (RFC 3464 §2.2)."""
        values = self._by_name.get(name, ())
        return values[0] if len(values) == 1 else None


def parse(text: str) -> Fields:
    """Read a header block; lines that are no field and continue none are passed over."""
    items: list[tuple[str, str]] = []
    name, value = "", [""]
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n", _MOST_LINES)[:_MOST_LINES]:
        if line[:1] in (" ", "\t"):
            value.append(line.strip())
        elif found := _NAME.match(line):
            if name:
                items.append((name, " ".join(value).strip()))
            name, value = found[1].lower(), [line[found.end() :].strip()]
    if name:
        items.append((name, " ".join(value).strip()))
    return Fields(items)


def blocks(text: str) -> list[Fields]:
    """Read blocks of fields that blank lines part (RFC 3464 §2.1)."""
    texts: list[list[str]] = [[]]
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n", _MOST_LINES)[:_MOST_LINES]:
        if line.strip():
            texts[-1].append(line)
        elif texts[-1]:
            texts.append([])
    return [block for lines in texts if (block := parse("\n".join(lines)))]


def without_comments(value: str) -> str:
    """Return *value* without its RFC 5322 (comments), nested ones too."""
    if "(" not in value:
        return value
    depth, kept = 0, []
    for piece in re.split(r"([()])", value):
        if piece == "(":
            depth += 1
        elif piece == ")":
            depth = max(0, depth - 1)
        elif not depth:
            kept.append(piece)
    return _BLANKS.sub(" ", "".join(kept)).strip()


def untyped(value: str) -> tuple[str, str]:
    """Split `rfc822; x@b.org` into its type in lower case ("" where there is none) and the rest (RFC 3464 §2.1.2)."""
    found = _TYPE.match(value)
    return (found[1].lower(), value[found.end() :].strip()) if found else ("", value.strip())


def instant(value: str | None) -> datetime | None:
    """Return the RFC 5322 date of *value* in UTC, or None: a bad date is unknown, never an error."""
    if not value or len(value) > 200:
        return None
    try:
        when = parsedate_to_datetime(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
