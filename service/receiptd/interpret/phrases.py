"""Tables of phrases, found in text whatever its case and line breaks, in linear time."""

from __future__ import annotations

import re

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

    def are_in(self, text: str) -> bool:
        """Return whether any phrase stands in *text*, which is `plain`."""
        for phrase in self._literal:
            if phrase in text:
                return True
        return any(longest in text and pattern.search(text) for longest, pattern in self._patterns)


def _pattern(phrase: str) -> str:
    return "".join(_GAPS.get(piece) or re.escape(piece) for piece in re.split(r"( \* |[*\[\]])", phrase))
