"""Header-like lines -> fields: any case, folded, with comments, as real servers write them."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice

_FIELD = re.compile(r"^([!-9;-~]{1,76})[ \t]*+:[ \t]*+(.*+(?:\n[ \t].*+)*+)", re.MULTILINE)
_FOLD = re.compile(r"[ \t]*+\n[ \t]*+")
_SHORT = 64 * 1024
_MOST_FIELDS = 2000
_MOST_BLOCKS = 1000
_TYPE = re.compile(r"[ \t]*([A-Za-z][\w/-]{0,30})[ \t]*;")
_BLANK_LINE = re.compile(r"\n[ \t]*+\n")
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

    def has_any(self, names: AbstractSet[str]) -> bool:
        """Return whether one of *names* occurs."""
        return not names.isdisjoint(self._by_name)

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
    """Read a header block with plain line ends; lines that are no field and continue none are passed over."""
    if len(text) <= _SHORT:
        found = _FIELD.findall(text)
    else:
        found = [match.groups() for match in islice(_FIELD.finditer(text), _MOST_FIELDS)]
    return Fields([(name.lower(), unfold(value)) for name, value in found[:_MOST_FIELDS]])


def unfold(value: str) -> str:
    """Return a field's value on one line."""
    return _FOLD.sub(" ", value).strip() if "\n" in value else value.rstrip()


def blocks(text: str) -> list[Fields]:
    """Read blocks of fields that blank lines part (RFC 3464 §2.1)."""
    return [block for lines in _BLANK_LINE.split(text, _MOST_BLOCKS) if (block := parse(lines))]


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
