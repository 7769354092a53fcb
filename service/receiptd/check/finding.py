"""What a check finds: good, a warning, or a failure, with one plain sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    UNTRIED = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer; *what* names what was checked, *sentence* says how it is and how to fix it."""

    mark: Mark
    what: str
    sentence: str

    @property
    def is_failure(self) -> bool:
        return self.mark is Mark.FAIL


def good(what: str, sentence: str) -> Finding:
    return Finding(Mark.OK, what, sentence)


def untried(what: str, sentence: str) -> Finding:
    return Finding(Mark.UNTRIED, what, sentence)


def warn(what: str, sentence: str) -> Finding:
    return Finding(Mark.WARN, what, sentence)


def fail(what: str, sentence: str) -> Finding:
    return Finding(Mark.FAIL, what, sentence)
