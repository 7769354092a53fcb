"""Leases: of several daemons on one database one does what only one may do, and another takes over when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from receiptd.leased import Leased
from receiptd.store import Store, leases
from tests.steps_fixture import StepsFixture, open_steps

SECOND = timedelta(seconds=1)


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def holds(steps: StepsFixture, holder: str) -> bool:
    return await steps.store.transact(partial(leases.hold, name="mailbox:a", holder=holder, now=steps.instant))


async def test_one_holds_it_and_goes_on_holding_it(steps: StepsFixture) -> None:
    assert await holds(steps, "one")
    assert not await holds(steps, "other")
    steps.instant += leases.LASTS - SECOND
    assert await holds(steps, "one"), "renewed"
    steps.instant += leases.LASTS - SECOND
    assert not await holds(steps, "other")


async def test_who_gives_no_sign_of_life_has_lost_it(steps: StepsFixture) -> None:
    assert await holds(steps, "one")
    steps.instant += leases.LASTS + SECOND
    assert await holds(steps, "other")
    assert not await holds(steps, "one")


async def test_what_is_given_back_is_taken_at_once(steps: StepsFixture) -> None:
    assert await holds(steps, "one")
    await steps.store.transact(partial(leases.give_back, name="mailbox:a", holder="other", now=steps.instant))
    assert not await holds(steps, "other"), "it isn't the other's to give"
    await steps.store.transact(partial(leases.give_back, name="mailbox:a", holder="one", now=steps.instant))
    assert await holds(steps, "other")


async def test_of_many_who_ask_at_once_one_gets_it(steps: StepsFixture) -> None:
    assert sum(await asyncio.gather(*(holds(steps, f"node {number}") for number in range(20)))) == 1


async def test_the_work_of_one_ends_when_another_has_taken_over(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY", timedelta(milliseconds=10))
    stop, began, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    running = asyncio.create_task(Leased(steps.store, "mailbox:a", stop).run(work))
    async with asyncio.timeout(10):
        await began.wait()
        steps.instant += leases.LASTS + SECOND
        while not await holds(steps, "other"):  # until our own renewal comes between
            steps.instant += leases.LASTS + SECOND
        await ended.wait()
        stop.set()
        await running


async def test_the_work_of_one_who_stops_is_taken_up_by_another(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY", timedelta(milliseconds=10))
    other = Store(steps.store.settings, clock=steps.clock)
    stops = asyncio.Event(), asyncio.Event()
    turns: list[str] = []

    async def work(name: str) -> None:
        turns.append(name)
        await asyncio.Event().wait()

    first = asyncio.create_task(Leased(steps.store, "mailbox:a", stops[0]).run(partial(work, "first")))
    async with asyncio.timeout(10):
        while not turns:
            await asyncio.sleep(0.005)
        second = asyncio.create_task(Leased(other, "mailbox:a", stops[1]).run(partial(work, "second")))
        await asyncio.sleep(0.05)
        assert turns == ["first"]
        first.cancel()
        while turns != ["first", "second"]:
            await asyncio.sleep(0.005)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
    await other.close()
