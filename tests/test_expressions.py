"""No regular expression of the interpreter takes more than linear time, whatever is repeated before it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import receiptd.interpret
from receiptd.interpret.phrases import Phrases

SHORT, LONG = 500, 4_000
NOTICEABLE = 0.005
"""Seconds below which nothing can be told from noise; what grows with the square takes more for LONG."""
MOST_GROWTH = 3 * LONG / SHORT

REPEATED = (
    *(" ", "\n", "\t", "\r\n", " \n", "a", "1", "5.", "a ", "a.", "a-", "a\n", "@", "a@", "a@b.c ", "a@b.c,"),
    *("<", ">", "<>", "(", ")", "[", "{", '"', "'", "=", "=?", "-", "--", ".", ":", "a:", ";", ",", "/", "\\", "*"),
)  # fmt: skip


@dataclass(frozen=True)
class Use:
    """A pattern, and whether it is sought everywhere or at one place only."""

    name: str
    pattern: re.Pattern[Any]
    is_sought: bool

    def seconds(self, text: str) -> float:
        """Return how long it takes to find it in *text* as often as it stands there."""
        subject = text.encode() if isinstance(self.pattern.pattern, bytes) else text
        begun = time.process_time()
        if self.is_sought:
            for _ in self.pattern.finditer(subject):
                pass
        else:
            self.pattern.match(subject)
        return time.process_time() - begun


def uses() -> Iterator[Use]:
    for found in pkgutil.walk_packages(receiptd.interpret.__path__, "receiptd.interpret."):
        module = importlib.import_module(found.name)
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for name, value in vars(module).items():
            for pattern in patterns(value):
                only_at_one_place = not re.search(rf"\b{name}\b(?!\.(?:full)?match\b| = )", source)
                yield Use(f"{found.name.rpartition('.')[2]}.{name}", pattern, not only_at_one_place)


def patterns(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list | Phrases):
        for each in value:
            yield from patterns(each)


USES = {f"{use.name}-{number}": use for number, use in enumerate(uses())}


def repetitions(use: Use) -> Iterator[Callable[[int], str]]:
    """Return texts of any length: something repeated, also behind a word of the pattern's own."""
    own = re.findall(r"(?<![\\\[])[A-Za-z][A-Za-z@:=-]{2,20}", str(use.pattern.pattern))[:8]
    for piece in (*REPEATED, *(f"{word} " for word in own)):
        for first in ("", *own[:3]):
            yield lambda size, piece=piece, first=first: first + piece * (size // len(piece))  # type: ignore[misc]


def grows_too_fast(use: Use, text: Callable[[int], str]) -> bool:
    if (long := use.seconds(text(LONG))) < NOTICEABLE or long <= MOST_GROWTH * use.seconds(text(SHORT)):
        return False
    long, short = (min(use.seconds(text(size)) for _ in range(3)) for size in (LONG, SHORT))
    return long > MOST_GROWTH * short


@pytest.mark.parametrize("name", USES)
def test_twice_the_text_takes_twice_the_time(name: str) -> None:
    use = USES[name]
    assert not [text(20) for text in repetitions(use) if grows_too_fast(use, text)], use.pattern.pattern


def test_one_that_grows_with_the_square_is_seen() -> None:
    slow = re.compile(r"\s*x")
    assert grows_too_fast(Use("sought", slow, is_sought=True), lambda size: " " * size)
    assert not grows_too_fast(Use("at one place", slow, is_sought=False), lambda size: " " * size)
