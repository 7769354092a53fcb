"""What the fuzzer found stays mended, and it would find more if there were more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from receiptd.facts import Report
from receiptd.interpret import interpret
from tests.fuzz import judge
from tests.fuzz.__main__ import CORPUS, told
from tests.fuzz.coverage import Coverage, Way
from tests.fuzz.hunt import Hunt, minimised
from tests.fuzz.judge import Interpreter

DOORS = """\
def interpret(raw):
    if raw[:1] == b"(":
        if raw[1:2] == b"@":
            if raw[2:3] == b";":
                raise KeyError("t")
    return interpret.report
"""


def test_nothing_in_the_corpus_is_taken_badly() -> None:
    messages = {file.name: file.read_bytes() for file in CORPUS.iterdir()}
    assert len(messages) > 100
    assert not {name: wrong for name, raw in messages.items() if (wrong := judge.any_fault(raw, interpret))}


def test_the_corpus_stays_small() -> None:
    assert sum(file.stat().st_size for file in CORPUS.iterdir()) < 300_000


def raising(raw: bytes) -> Report:
    raise KeyError(raw)


def endless(raw: bytes) -> Report:
    while True:
        try:
            interpret(raw)
        except Exception:
            continue


def hungry(raw: bytes) -> Report:
    return interpret(bytes(20_000_000)[: len(raw)])


def with_null(raw: bytes) -> Report:
    return replace(interpret(raw), subject="a\0b")


def with_half_a_pair(raw: bytes) -> Report:
    return replace(interpret(raw), references=("<\ud800@b.org>",))


def with_much_of_little(raw: bytes) -> Report:
    return replace(interpret(raw), excerpt="x" * 1_000_000)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (raising, "KeyError: \"b'Subject: x'\" in test_fuzz.py:"),
        (endless, "slow: more than "),
        (hungry, "hungry: 2"),
        (with_null, "unsound: a text that no database takes"),
        (with_half_a_pair, "unsound: a text that no database takes"),
        (with_much_of_little, "unsound: 1000"),
    ],
)
def test_the_judge_catches_an_interpreter_that_is(broken: Interpreter, fault: str) -> None:
    assert (judge.any_fault(b"Subject: x", broken) or "").startswith(fault)


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hunt:
    """Return a hunt, always the same, for a fault that stands behind three doors."""
    (tmp_path / "doors.py").write_text(DOORS)
    monkeypatch.syspath_prepend(tmp_path)
    coverage = Coverage("doors")
    toy = coverage.load().interpret
    toy.report = interpret(b"")
    return Hunt(toy, toy, coverage, Random(1))


class Everything(set[Way]):
    """The ways of a hunt that has seen them all."""

    def __ge__(self, other: object) -> bool:
        return True


def hunted(hunt: Hunt, executions: int) -> tuple[bytes, str] | None:
    return hunt.begin([b"nothing to see"]) or hunt.go(lambda: hunt.executions < executions)


def test_what_goes_a_new_way_leads_to_the_fault(doors: Hunt) -> None:
    raw, wrong = hunted(doors, 100_000) or (b"", "")
    assert raw == b"(@;"
    assert wrong == "KeyError: \"'t'\" in doors.py:5"


def test_the_same_seed_goes_the_same_way(doors: Hunt) -> None:
    found = hunted(doors, 2000)
    again = Hunt(doors.interpret, doors.marked, doors.coverage, Random(1))
    assert (hunted(again, 2000), again.executions, again.corpus) == (found, doors.executions, doors.corpus)


def test_without_new_ways_the_fault_is_out_of_reach(doors: Hunt, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(run: Callable[[], object]) -> frozenset[Way]:
        run()
        return frozenset()

    monkeypatch.setattr(doors.coverage, "ways", none)
    assert hunted(doors, 15_000) is None


def test_of_messages_that_go_the_same_way_the_smallest_is_kept(doors: Hunt) -> None:
    corpus = [b"(rust in peace", b"(x", b"aaa", b"(@x", b"b"]
    kept = minimised(corpus, [b"known"], lambda raw: doors.coverage.ways(lambda: doors.marked(raw)), tries=50)
    assert kept == [b"(", b"(@"]


def test_a_marked_copy_stands_beside_the_package_that_others_use() -> None:
    package = sys.modules["receiptd.interpret"]
    marked = Coverage("receiptd.interpret").load()
    assert marked is not package
    assert sys.modules["receiptd.interpret"] is package
    assert sys.modules["receiptd"].interpret is package
    assert marked.interpret(b"") == interpret(b"")


def test_a_find_is_told_in_one_line_with_how_to_see_it_again(tmp_path: Path) -> None:
    line = told(b"Subject: x", "KeyError: 'x'", tmp_path)
    assert "\n" not in line
    _, _, command = line.partition("; again: ")
    again = subprocess.run(
        command.split(), cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert again.stdout == f"{command.split()[-1]}: taken well\n"
