"""When somebody sets the clock, no deadline is judged before every folder was read once on the new time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from receiptd.daemon import Daemon
from receiptd.facts import Delivery, Receipt
from tests.faults.steps_with_peers import StepsWithPeers, steps_with_peers


@asynccontextmanager
async def _daemon(steps: StepsWithPeers) -> AsyncIterator[Daemon]:
    """A daemon on the same store whose steps the test runs."""
    daemon = Daemon(steps.store)
    try:
        yield daemon
    finally:
        await daemon.http.aclose()
        await daemon.relay.close()


@pytest.fixture
async def steps() -> AsyncIterator[StepsWithPeers]:
    async with steps_with_peers() as steps:
        yield steps


async def _a_letter_in_time(steps: StepsWithPeers) -> str:
    """Send a letter whose deadline is in a minute, and read the mailbox."""
    bob = await steps.send("bob@b.test")
    await steps.submit()
    await steps.collect()
    return bob


async def test_a_jump_forward_makes_nothing_overdue_before_the_mailbox_was_read(steps: StepsWithPeers) -> None:
    async with _daemon(steps) as daemon:
        bob = await _a_letter_in_time(steps)
        steps.report("bob@b.test")
        steps.clock.turn(hours=2)
        await daemon._monitor()
        await steps.escalate()
        assert (await steps.recipient(bob)).receipt is Receipt.OPEN
        assert [(alert.type, alert.data["what"]) for alert in await steps.alerts()] == [("monitor.blind", "clock")]
        await steps.collect()
        await steps.escalate()
        await steps.settle()
        await steps.escalate()
        row = await steps.recipient(bob)
        assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)
        await daemon._monitor()
        assert [alert.type for alert in await steps.alerts()] == ["monitor.blind"], (
            "nobody was told, so nothing to clear"
        )


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_deadline_is_as_far_away_after_the_clock_was_set_as_before(steps: StepsWithPeers, hours: int) -> None:
    async with _daemon(steps) as daemon:
        bob, carol = await _a_letter_in_time(steps), await steps.send("carol@b.test")
        before = [await _deadlines(steps, row) for row in (bob, carol)]
        steps.clock.turn(hours=hours)
        await daemon._monitor()
        for row, old in zip((bob, carol), before, strict=True):
            new = await _deadlines(steps, row)
            assert new.keys() == old.keys()
            assert all(abs(new[name] - old[name]) < timedelta(seconds=5) for name in old)


async def _deadlines(steps: StepsWithPeers, recipient: str) -> dict[str, timedelta]:
    """Return how far away from now each instant is that a recipient's row holds."""
    row, now = await steps.recipient(recipient), steps.clock()
    names = ("submit_by", "give_up_at", "submitted_at", "deadline_at", "judge_at", "incident_opened_at")
    return {name: at - now for name in names if (at := getattr(row, name)) is not None}


@pytest.mark.parametrize("hours", [-2, 2])
async def test_after_the_clock_was_set_silence_is_told_once_when_its_time_has_passed(
    steps: StepsWithPeers, hours: int
) -> None:
    async with _daemon(steps) as daemon:
        await _a_letter_in_time(steps)
        steps.clock.turn(hours=hours)
        await daemon._monitor()
        await steps.deliver()
        await steps.collect()
        await steps.escalate()
        await daemon._monitor()
        assert sorted([alert.type for alert in await steps.alerts()]) == ["monitor.blind", "monitor.clear"]
        steps.clock.turn(seconds=62)
        daemon.clock_offset += 62
        await steps.escalate()
        await steps.collect()
        await steps.escalate()
        await steps.escalate()
        told = [alert.type for alert in await steps.alerts()]
        assert sorted(told) == ["monitor.blind", "monitor.clear", "receipt.overdue"]


async def test_later_levels_come_no_later_when_the_clock_is_set_back(steps: StepsWithPeers) -> None:
    async with _daemon(steps) as daemon:
        bob = await _a_letter_in_time(steps)
        steps.clock.turn(seconds=62)
        daemon.clock_offset += 62
        await steps.collect()
        await steps.escalate()
        steps.clock.turn(hours=-2)
        await daemon._monitor()
        row = await steps.recipient(bob)
        assert row.incident_opened_at is not None
        assert row.judge_at == row.incident_opened_at + timedelta(seconds=3)
        assert abs(row.incident_opened_at - steps.clock()) < timedelta(seconds=5)


async def test_what_is_met_keeps_its_times_when_the_clock_is_set(steps: StepsWithPeers) -> None:
    async with _daemon(steps) as daemon:
        bob = await _a_letter_in_time(steps)
        steps.report("bob@b.test")
        await steps.collect()
        await steps.settle()
        before = await steps.recipient(bob)
        steps.clock.turn(hours=-2)
        await daemon._monitor()
        after = await steps.recipient(bob)
        assert (before.receipt, after.submitted_at, after.deadline_at) == (
            Receipt.MET,
            before.submitted_at,
            before.deadline_at,
        )


async def test_the_time_that_a_machine_slept_is_no_jump_of_the_clock(
    steps: StepsWithPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOCK_MONOTONIC stands still while a machine is suspended, and CLOCK_BOOTTIME goes on."""
    slept = 7200.0
    real = time.clock_gettime
    async with _daemon(steps) as daemon:
        await _a_letter_in_time(steps)
        monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + slept)
        steps.clock.turn(hours=2)
        await daemon._escalate()
        assert not await steps.alerts(), "no mailbox was read since"
        await steps.collect()
        await daemon._escalate()
        assert [alert.type for alert in await steps.alerts()] == ["receipt.overdue"]


async def test_after_a_jump_backward_the_reads_of_the_old_time_count_no_more(steps: StepsWithPeers) -> None:
    steps.clock.turn(hours=2)
    async with _daemon(steps) as daemon:
        await steps.collect()
        steps.clock.turn(hours=-2)
        await daemon._monitor()
        assert "clock" in [alert.data["what"] for alert in await steps.alerts()]
        await steps.send("bob@b.test")
        await steps.submit()
        steps.clock.turn(minutes=2)
        daemon.clock_offset += 120
        await steps.escalate()
        assert [alert.type for alert in await steps.alerts()] == ["monitor.blind"], "the folder's last read lies ahead"
        await steps.collect()
        await steps.escalate()
        assert [alert.type for alert in await steps.alerts()] == ["monitor.blind", "receipt.overdue"]


async def test_after_a_jump_backward_the_relay_is_not_left_alone_for_hours(steps: StepsWithPeers) -> None:
    steps.clock.turn(hours=2)
    async with _daemon(steps) as daemon:
        daemon.relay_health.down(steps.clock(), "it is down", permanent=False)
        steps.clock.turn(hours=-2)
        await daemon._monitor()
        assert daemon.relay_health.may_try(steps.clock() + timedelta(minutes=5))


@pytest.mark.parametrize("hours", [-2, 2])
async def test_what_waits_for_its_next_attempt_waits_neither_longer_nor_shorter(
    steps: StepsWithPeers, hours: int
) -> None:
    async with _daemon(steps) as daemon:
        steps.smtp.script["RCPT"] = ["450 4.2.0 try later"]
        bob = await steps.send("bob@b.test")
        await steps.submit()
        was_due_in = await _due_in(steps, bob)
        steps.clock.turn(hours=hours)
        await daemon._monitor()
        assert abs(await _due_in(steps, bob) - was_due_in) < timedelta(seconds=5)


async def _due_in(steps: StepsWithPeers, recipient: str) -> timedelta:
    due_at = (await steps.recipient(recipient)).next_attempt_at
    assert due_at is not None
    return due_at - steps.clock()


async def test_a_clock_that_is_only_slewed_is_trusted(steps: StepsWithPeers) -> None:
    async with _daemon(steps) as daemon:
        await _a_letter_in_time(steps)
        steps.clock.turn(seconds=50)
        await daemon._monitor()
        assert not await steps.alerts()
