"""docs/rfc.md says what the tests show: each test it names is there, and each named after a requirement is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "rfc.md"
STATUS = re.compile(r"(?:partly|no): .{10,}|done(?:: .{10,})?")


@dataclass(frozen=True)
class Row:
    """One requirement: what is said of it, and the tests that show it."""

    id: str
    section: str
    what: str
    status: str
    tests: tuple[str, ...]


def _rows() -> Iterator[Row]:
    tables = PAGE.read_text(encoding="utf-8").partition("\n## ")[2]
    for line in tables.splitlines():
        if re.match(r"\| (?!id |---)", line):
            id_, section, what, status, shown = (cell.strip() for cell in line.strip("|").split(" |"))
            tests = tuple(test.strip("`") for test in shown.split(", ") if test)
            yield Row(id_, section, what, status, tests)


def _existing() -> Iterator[str]:
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"tests/{file.relative_to(TESTS).as_posix()}::{node.name}"


ROWS = list(_rows())
EXISTING = set(_existing())


def test_every_requirement_stands_once() -> None:
    ids = [row.id for row in ROWS]
    assert len(ids) > 100
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_each_requirement_says_how_it_stands_and_what_shows_it(row: Row) -> None:
    assert re.fullmatch(r"[A-J]\d\d", row.id)
    assert re.fullmatch(r"\d[\d.]*(?:, \d[\d.]*)*", row.section)
    assert row.what
    assert STATUS.fullmatch(row.status), row.status
    assert row.tests or not row.status.startswith("done")
    assert len(set(row.tests)) == len(row.tests)
    assert set(row.tests) <= EXISTING


def test_every_test_that_is_named_after_a_requirement_shows_it() -> None:
    shown = {(row.id, test) for row in ROWS for test in row.tests}
    for test in EXISTING:
        for id_ in re.findall(r"(?:^|_)([a-j]\d\d)(?=_|$)", test.partition("::test_")[2]):
            assert (id_.upper(), test) in shown, f"{test} is not in the row {id_.upper()} of docs/rfc.md"
