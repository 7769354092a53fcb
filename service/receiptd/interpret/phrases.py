"""Tables of phrases, found in text whatever its case and line breaks, in linear time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
_GRAM, _STRIDE = 4, 3
_SHORTEST = _GRAM + _STRIDE - 1
"""A phrase at least so long shows a whole run wherever it begins between two that are looked up."""
_GAPS = {" * ": r" (?:.{0,60}? )?", "*": r".{0,60}?", "[": r"(?<!\w)", "]": r"(?!\w)"}
_TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"'})


def plain(text: str) -> str:
    """Return *text* as phrases are compared: lower case, on one line, with typewriter quotes."""
    lowered = text.lower()
    straight = lowered.replace("`", "'") if lowered.isascii() else lowered.translate(_TYPOGRAPHIC)
    return " ".join(straight.split())


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

    Of a text every third run of four characters is looked up. Wherever a phrase stands in it, the runs that are seen
    are its first, fourth …, its second, fifth … or its third, sixth …: it is listed under the rarest of each series.
    """

    def __init__(self, tables: Sequence[tuple[T, Phrases]]) -> None:
        self._names = [name for name, _ in tables]
        entries = [(rank, *entry) for rank, (_, phrases) in enumerate(tables) for entry in phrases]
        common = Counter(
            gram for _, literal, _ in entries for start in range(_STRIDE) for gram in _grams(literal[start:])
        )
        self._by_gram: dict[str, list[tuple[int, str, re.Pattern[str] | None]]] = {}
        self._short = [entry for entry in entries if len(entry[1]) < _SHORTEST]
        for entry in entries:
            if len(entry[1]) >= _SHORTEST:
                seen = [min(sorted(_grams(entry[1][start:])), key=common.__getitem__) for start in range(_STRIDE)]
                for gram in dict.fromkeys(seen):
                    self._by_gram.setdefault(gram, []).append(entry)

    def first_in(self, text: str) -> T | None:
        """Return the name of the first table of which a phrase stands in *text*, which is `plain`."""
        best = _first(self._short, text, len(self._names))
        seen = self._by_gram.keys() & _grams(text)
        best = _first([entry for gram in seen for entry in self._by_gram[gram]], text, best)
        return self._names[best] if best < len(self._names) else None


def _first(entries: Sequence[tuple[int, str, re.Pattern[str] | None]], text: str, best: int) -> int:
    for rank, literal, pattern in entries:
        if rank < best and literal in text and (pattern is None or pattern.search(text)):
            best = rank
    return best


def _grams(text: str) -> set[str]:
    """Return every third run of four characters."""
    return {text[at : at + _GRAM] for at in range(0, len(text) - _GRAM + 1, _STRIDE)}


def _pattern(phrase: str) -> str:
    return "".join(_GAPS.get(piece) or re.escape(piece) for piece in re.split(r"( \* |[*\[\]])", phrase))
