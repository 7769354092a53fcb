"""The loop: what goes a new way is kept and mutated on, until something is wrong or the time is up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.fuzz import judge
from tests.fuzz.coverage import Coverage, Way
from tests.fuzz.judge import Interpreter
from tests.fuzz.mutate import Mutator

_ONE_GROWN_OF = 150
_LARGEST = 1_000_000
_TRIES = 500


@dataclass
class Hunt:
    """Looks for bytes that *interpret* takes badly, by the ways that they go in *marked*, a copy of it."""

    interpret: Interpreter
    marked: Interpreter
    coverage: Coverage
    random: Random
    corpus: list[bytes] = field(default_factory=list)
    seen: set[Way] = field(default_factory=set)
    executions: int = 0

    def begin(self, seeds: Iterable[bytes]) -> tuple[bytes, str] | None:
        """Take *seeds* as corpus; return the first that is taken badly, and what is wrong."""
        for raw in sorted(seeds, key=len):
            if wrong := self._tried(raw):
                return raw, wrong
        self.corpus = self.corpus or [b""]
        return None

    def go(self, goes_on: Callable[[], bool]) -> tuple[bytes, str] | None:
        """Mutate while *goes_on*; return what is taken badly, made small, and what is wrong."""
        words = sorted(word.strip().encode("utf-8", "replace") for word in self.coverage.words if 2 < len(word) < 60)
        mutator = Mutator(self.random, self.corpus, words or [b"\n"])
        while goes_on():
            raw = mutator.mutated(self._chosen())
            wrong = self._tried(raw)
            if not wrong and not self.random.randrange(_ONE_GROWN_OF):
                raw = mutator.grown(raw, self.random.randint(_LARGEST // 5, _LARGEST))
                wrong = judge.any_fault(raw, self.interpret)
            if wrong:
                return self._made_small(raw, wrong)
        return None

    def _made_small(self, raw: bytes, wrong: str) -> tuple[bytes, str]:
        kind = wrong.partition(" ")[0]
        small = reduced(raw, lambda less: (judge.any_fault(less, self.interpret) or "").startswith(kind), _TRIES)
        return small, judge.any_fault(small, self.interpret) or wrong

    def _chosen(self) -> bytes:
        """Return something of the corpus, rather the short and the new."""
        half = len(self.corpus) // 2 if self.random.random() < 0.3 else 0
        return min((self.corpus[self.random.randrange(half, len(self.corpus))] for _ in range(2)), key=len)

    def _tried(self, raw: bytes) -> str | None:
        self.executions += 1
        faults: list[str | None] = []
        ways = self.coverage.ways(lambda: faults.append(judge.fault(raw, self.marked)))
        if not self.seen >= ways:
            self.seen |= ways
            self.corpus.append(raw)
        return judge.fault(raw, self.interpret) if faults[0] else None  # the marks take time as well


def reduced(raw: bytes, serves: Callable[[bytes], bool], tries: int) -> bytes:
    """Return *raw* less what it still *serves* without."""
    size = len(raw) // 2
    while size and tries > 0:
        at = 0
        while at < len(raw) and tries > 0:
            tries -= 1
            if serves(less := raw[:at] + raw[at + size :]):
                raw = less
            else:
                at += size
        size //= 2
    return raw


def steps(ways: Iterable[Way]) -> frozenset[tuple[int, int]]:
    """Return *ways* however often each was gone."""
    return frozenset(way[:2] for way in ways)


def minimised(
    corpus: Iterable[bytes], known: Iterable[bytes], ways: Callable[[bytes], frozenset[Way]], tries: int
) -> list[bytes]:
    """Return the few of *corpus* that take all steps that *known* don't take, each made small with so many *tries*."""
    taken = {step for raw in known for step in steps(ways(raw))}
    kept = []
    for raw in sorted(corpus, key=len):
        if new := steps(ways(raw)) - taken:
            small = reduced(raw, partial(_takes, new, ways), tries)
            taken |= steps(ways(small))
            kept.append(small)
    return kept


def _takes(new: frozenset[tuple[int, int]], ways: Callable[[bytes], frozenset[Way]], raw: bytes) -> bool:
    return new <= steps(ways(raw))
