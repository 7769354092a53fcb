"""The benchmarks' rows are rows that the daemon could have written, and their page names every one of them."""

from __future__ import annotations

import re
from pathlib import Path

from receiptd.interpret import interpret
from tests.bench.__main__ import benches
from tests.bench.figures import percentile
from tests.bench.planting import Sqlite, clones, plant
from tests.bench.process import Profile
from tests.bench.reports import report
from tests.steps_fixture import open_steps

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


async def test_a_report_about_a_clone_is_matched_and_sealed(tmp_path: Path) -> None:
    async with open_steps(tmp_path) as steps:
        taken = await steps.submitted("bob@b.test")
        database = Sqlite(tmp_path / "receiptd.db")
        plant(database, taken.message.id, range(20), per_message=10)
        (clone,) = clones([13], per_message=10)
        await steps.receive(report(clone))
        query = f"SELECT r.delivery, r.trust FROM recipient r WHERE r.address = '{clone.address}'"
        assert database.rows(query) == [("relayed", "sealed")]
        assert database.rows("SELECT count(*) FROM recipient WHERE delivery = 'accepted'") == [(20,)]


def test_its_reports_say_what_they_are_meant_to_say() -> None:
    (clone,) = clones([7])
    for action in ("relayed", "failed"):
        (recipient,) = interpret(report(clone, action)).recipients
        assert (recipient.action, recipient.final_recipient) == (action, clone.address)


def test_every_benchmark_is_documented_and_no_other() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## What is measured")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(benches())


def test_a_percentile_is_a_value_that_came() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([1.0] * 99 + [5.0], 99) == 5.0


def test_a_profile_counts_each_of_our_functions_once_a_stack() -> None:
    profile = Profile()
    profile.add(["run (receiptd/daemon.py:1)", "move (receiptd/store/sets.py:3)", "move (receiptd/store/sets.py:9)"], 4)
    profile.add(["run (receiptd/daemon.py:1)", "loads (json/decoder.py:7)"], 2)
    assert profile.within["store.sets.move"] == 4
    assert profile.own == {"receiptd.store": 4, "json": 2}
