"""Tables of phrases, found in text whatever its case and line breaks, in linear time."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Generic, TypeVar

T = TypeVar("T")
_RUN, _STRIDE = 4, 2
_SERIES = range(_STRIDE)
_SHORTEST = _RUN + _STRIDE - 1
"""A phrase of at least so many octets shows a whole run wherever it begins between two that are looked up."""
_STEM = 5
_Entry = tuple[int, str, "re.Pattern[str] | None"]
_RANK = itemgetter(0)
_GAPS = {" * ": r" (?:.{0,60}? )?", "*": r".{0,60}?", "]": r"(?!\w)"}
_TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"'})


def plain(text: str) -> str:
    """Return *text* as phrases are compared: lower case, on one line, with typewriter quotes."""
    lowered = text.lower()
    straight = lowered.replace("`", "'") if lowered.isascii() else lowered.translate(_TYPOGRAPHIC)
    return " ".join(straight.split())


class Phrases:
    """Phrases, one between two bars or line breaks; `*` stands for up to 60 characters, `[word]` for a whole word."""

    __slots__ = ("_ascii", "_literal", "_longest", "_other", "_patterns")

    def __init__(self, table: str) -> None:
        self._literal: list[str] = []
        self._longest: list[str] = []
        self._patterns: list[re.Pattern[str]] = []
        for phrase in filter(None, (entry.strip() for entry in re.split(r"[|\n]", table))):
            if "*" in phrase or "[" in phrase:
                self._longest.append(max(re.split(r" \* |[*\[\]]", phrase), key=len))
                self._patterns.append(re.compile(_pattern(phrase)))
            else:
                self._literal.append(phrase)
        self._ascii = _by_stem([phrase for phrase in self._literal if phrase.isascii()])
        """Those that can stand in text of that alphabet alone, as most text is."""
        self._other = _by_stem([phrase for phrase in self._literal if not phrase.isascii()])

    def __iter__(self) -> Iterator[tuple[str, re.Pattern[str] | None]]:
        """Yield each phrase's longest stretch of plain characters, and its pattern where there is more to it."""
        yield from ((phrase, None) for phrase in self._literal)
        yield from zip(self._longest, self._patterns, strict=True)

    def are_in(self, text: str) -> bool:
        """Return whether any phrase stands in *text*, which is `plain`."""
        for stem, phrases in self._ascii if text.isascii() else (*self._ascii, *self._other):
            if stem in text:
                for phrase in phrases:
                    if phrase in text:
                        return True
        likely = [at for at, longest in enumerate(self._longest) if longest in text]
        return any(self._patterns[at].search(text) for at in likely)


def _by_stem(phrases: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return *phrases* by a stretch of characters that many share: what isn't in a text spares it the rest."""
    stretches = [[phrase[at : at + _STEM] for at in range(max(1, len(phrase) - _STEM + 1))] for phrase in phrases]
    shared = Counter(chain.from_iterable(map(set, stretches)))
    found: dict[str, list[str]] = {}
    for phrase, mine in zip(phrases, stretches, strict=True):
        found.setdefault(max(mine, key=shared.__getitem__), []).append(phrase)
    return [(stem if len(group) > 1 else group[0], group) for stem, group in found.items()]


class Tables(Generic[T]):
    """Tables of phrases, of which the first that fits wins.

    Of a text every second run of four octets is looked up. Wherever a phrase stands in it, the runs that are seen are
    its first, third … or its second, fourth …: it is listed under the rarest of each series.
    """

    def __init__(self, tables: Sequence[tuple[T, Phrases]]) -> None:
        self._names = [name for name, _ in tables]
        entries = [(rank, *entry) for rank, (_, phrases) in enumerate(tables) for entry in phrases]
        self._short = [entry for entry in entries if len(entry[1].encode()) < _SHORTEST]
        long = [entry for entry in entries if len(entry[1].encode()) >= _SHORTEST]
        runs = [[_runs(entry[1].encode()[start:]) for start in _SERIES] for entry in long]
        common = Counter(chain.from_iterable(chain.from_iterable(runs)))
        self._by_run: dict[int, list[_Entry]] = {}
        for entry, series in zip(long, runs, strict=True):
            for run in {min(sorted(seen), key=common.__getitem__) for seen in series}:
                self._by_run.setdefault(run, []).append(entry)

    def first_in(self, text: str) -> T | None:
        """Return the name of the first table of which a phrase stands in *text*, which is `plain`."""
        seen = self._by_run.keys() & _runs(text.encode("utf-8", "replace"))
        likely = chain(self._short, *map(self._by_run.__getitem__, seen))
        for rank, _, pattern in sorted([entry for entry in likely if entry[1] in text], key=_RANK):
            if pattern is None or pattern.search(text):
                return self._names[rank]
        return None


def _runs(octets: bytes) -> array[int]:
    """Return every second run of four octets, as numbers."""
    whole = len(octets) & -_RUN
    numbers = array("I", octets[:whole])
    numbers.frombytes(octets[_STRIDE : len(octets) - (len(octets) - _STRIDE) % _RUN])
    return numbers


def _pattern(phrase: str) -> str:
    """Return the expression of *phrase*; what stands before a word is looked at behind it: the word is searched for."""
    pieces = re.split(r"( \* |[*\[\]])", phrase)
    made = []
    for before, piece in zip(["", *pieces], pieces, strict=False):
        if piece == "[":
            continue
        literal = _GAPS.get(piece) or re.escape(piece)
        made.append(f"{literal}(?<!\\w{literal})" if before == "[" and piece not in _GAPS else literal)
    return "".join(made)
