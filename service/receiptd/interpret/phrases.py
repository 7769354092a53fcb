"""Tables of phrases, found in text whatever its case and line breaks, in linear time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
_GRAM, _LONG = 3, 500
_GAPS = {" * ": r" (?:.{0,60}? )?", "*": r".{0,60}?", "[": r"(?<!\w)", "]": r"(?!\w)"}
_TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"'})


def plain(text: str) -> str:
    """Return *text* as phrases are compared: lower case, on one line, with typewriter quotes."""
    return " ".join(text.lower().translate(_TYPOGRAPHIC).split())


class Phrases:
    """Phrases, one between two bars or line breaks; `*` stands for up to 60 characters, `[word]` for a whole word."""

    __slots__ = ("_literal", "_patterns")

    def __init__(self, table: str) -> None:
        literal, self._patterns = [], []
        for phrase in filter(None, (entry.strip() for entry in re.split(r"[|\n]", table))):
            if "*" in phrase or "[" in phrase:
                longest = max(re.split(r" \* |[*\[\]]", phrase), key=len)
                self._patterns.append((longest, re.compile(_pattern(phrase))))
            else:
                literal.append(phrase)
        self._literal = tuple(literal)

    def __iter__(self) -> Iterator[tuple[str, re.Pattern[str] | None]]:
        """Yield each phrase's longest stretch of plain characters, and its pattern where there is more to it."""
        yield from ((phrase, None) for phrase in self._literal)
        yield from self._patterns

    def are_in(self, text: str) -> bool:
        """Return whether any phrase stands in *text*, which is `plain`."""
        for phrase in self._literal:
            if phrase in text:
                return True
        return any(longest in text and pattern.search(text) for longest, pattern in self._patterns)


class Tables(Generic[T]):
    """Tables of phrases, of which the first that fits wins.

    A text is held against those phrases alone of which it has the three characters in a row that fewest others have.
    """

    def __init__(self, tables: Sequence[tuple[T, Phrases]]) -> None:
        self._names = [name for name, _ in tables]
        entries = [(rank, *entry) for rank, (_, phrases) in enumerate(tables) for entry in phrases]
        common = Counter(gram for _, literal, _ in entries for gram in _grams(literal))
        self._by_gram: dict[str, list[tuple[int, str, re.Pattern[str] | None]]] = {}
        self._short = [entry for entry in entries if len(entry[1]) < _GRAM]
        for entry in entries:
            if grams := _grams(entry[1]):
                self._by_gram.setdefault(min(sorted(grams), key=common.__getitem__), []).append(entry)

    def first_in(self, text: str) -> T | None:
        """Return the name of the first table of which a phrase stands in *text*, which is `plain`."""
        best = len(self._names)
        seen = (
            self._by_gram.keys() & _grams(text)
            if len(text) < _LONG
            else (gram for gram in self._by_gram if gram in text)
        )
        for gram in seen:
            best = _first(self._by_gram[gram], text, best)
        best = _first(self._short, text, best)
        return self._names[best] if best < len(self._names) else None


def _first(entries: Sequence[tuple[int, str, re.Pattern[str] | None]], text: str, best: int) -> int:
    for rank, literal, pattern in entries:
        if rank < best and literal in text and (pattern is None or pattern.search(text)):
            best = rank
    return best


def _grams(text: str) -> set[str]:
    return {text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)}


def _pattern(phrase: str) -> str:
    return "".join(_GAPS.get(piece) or re.escape(piece) for piece in re.split(r"( \* |[*\[\]])", phrase))
