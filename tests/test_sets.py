"""Deadlines, alerts and mail move in sets: the statements of a commit don't grow with its rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from receiptd.escalate import escalate
from receiptd.facts import Receipt
from receiptd.store import folders
from receiptd.store.folders import Raw
from tests.statements import Statements
from tests.steps_fixture import StepsFixture, keep, open_steps


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def _overdue(steps: StepsFixture, number: int) -> None:
    await steps.submitted(*(f"r{one}@b.test" for one in range(number)))
    steps.pass_time(hours=4, seconds=1)
    await steps.read_all()


async def test_five_hundred_deadlines_are_judged_by_as_many_statements_as_one(steps: StepsFixture) -> None:
    counts = []
    for number in (1, 500):
        await _overdue(steps, number)
        with Statements(steps.store) as statements:
            assert await escalate(steps.store, limit=500) == number
        counts.append(statements.per_commit())
    assert counts[0] == counts[1]
    assert len(counts[0]) == 2, "one look, one transaction"


async def test_a_look_at_which_nothing_is_due_writes_nothing(steps: StepsFixture) -> None:
    await _overdue(steps, 1)
    await escalate(steps.store)
    with Statements(steps.store) as statements:
        assert await escalate(steps.store) == 0
    (look,) = statements.said
    assert all(one.startswith("SELECT") for one in look)


async def test_two_daemons_that_judge_at_once_alert_once(steps: StepsFixture) -> None:
    """Each looks before the other has judged; on PostgreSQL they take what the other hasn't locked."""
    taken = await steps.submitted(*(f"r{one}@b.test" for one in range(40)))
    steps.pass_time(hours=4, seconds=1)
    await steps.read_all()
    judged = await asyncio.gather(*(escalate(steps.store) for _ in range(4)))
    assert sum(judged) + await escalate(steps.store) == 40
    assert len(await steps.alerts()) == 40
    assert {row.receipt for row in (await steps.whole(taken)).recipients} == {Receipt.OVERDUE}


async def test_five_hundred_messages_are_stored_by_as_many_statements_as_one(steps: StepsFixture) -> None:
    counts = []
    for first, number in ((1, 1), (2, 500)):
        raws = [Raw(uid, steps.instant, 20, f"Subject: {uid}\n\nx\n".encode()) for uid in range(first, first + number)]
        with Statements(steps.store) as statements:
            kept = await keep(steps.store, "receipts", "INBOX", 1, raws, upto=first + number - 1, now=steps.instant)
        assert kept.new == number
        counts.append(statements.per_commit())
    assert counts[0] == counts[1]
    cursor = await steps.store.query(partial(folders.cursor, mailbox="receipts", folder="INBOX"))
    assert cursor.uid == 501


async def test_known_messages_that_lie_elsewhere_now_cost_no_more(steps: StepsFixture) -> None:
    contents = [f"Subject: {one}\n\nx\n".encode() for one in range(300)]
    counts = []
    for number in (1, 300):
        raws = [Raw(uid, steps.instant, 20, raw) for uid, raw in enumerate(contents[:number], 1)]
        await keep(steps.store, "receipts", "INBOX", number, raws, upto=number, now=steps.instant)
        with Statements(steps.store) as statements:
            kept = await keep(steps.store, "receipts", "INBOX", number + 1, raws, upto=number, now=steps.instant)
        assert (kept.new, kept.was_elsewhere) == (0, False)
        counts.append(statements.per_commit())
    assert counts[0] == counts[1]
    places = await steps.store.query(
        partial(folders.to_clear, mailbox="receipts", folder="INBOX", uidvalidity=301, limit=1)
    )
    assert places == []


async def test_a_message_that_lies_twice_in_one_chunk_is_one_report(steps: StepsFixture) -> None:
    raw = b"Subject: x\n\nx\n"
    twice = [Raw(uid, steps.instant, len(raw), raw) for uid in (1, 2)]
    kept = await keep(steps.store, "receipts", "INBOX", 1, twice, upto=2, now=steps.instant)
    assert (kept.new, kept.was_elsewhere) == (1, True)
