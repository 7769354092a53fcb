"""When somebody sets the clock, no deadline is judged before every folder was read once on the new time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from receiptd.daemon import Daemon
from receiptd.facts import Delivery, Receipt
from tests.faults.workshop import Workshop, workshop


@asynccontextmanager
async def _daemon(shop: Workshop) -> AsyncIterator[Daemon]:
    """A daemon on the workshop's store whose steps the test runs."""
    daemon = Daemon(shop.store)
    try:
        yield daemon
    finally:
        await daemon.http.aclose()
        await daemon.relay.close()


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    async with workshop() as shop:
        yield shop


async def _a_letter_in_time(shop: Workshop) -> str:
    """Send a letter whose deadline is in a minute, and read the mailbox."""
    bob = await shop.send("bob@b.test")
    await shop.submit()
    await shop.collect()
    return bob


async def test_a_jump_forward_makes_nothing_overdue_before_the_mailbox_was_read(shop: Workshop) -> None:
    async with _daemon(shop) as daemon:
        bob = await _a_letter_in_time(shop)
        shop.report("bob@b.test")
        shop.clock.turn(hours=2)
        await daemon._monitor()
        await shop.escalate()
        assert (await shop.recipient(bob)).receipt is Receipt.OPEN
        assert [(alert.type, alert.data["what"]) for alert in await shop.alerts()] == [("monitor.blind", "clock")]
        await shop.collect()
        await shop.escalate()
        await shop.settle()
        await shop.escalate()
        row = await shop.recipient(bob)
        assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)
        await daemon._monitor()
        assert [alert.type for alert in await shop.alerts()] == ["monitor.blind"], (
            "nobody was told, so nothing to clear"
        )


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_deadline_is_as_far_away_after_the_clock_was_set_as_before(shop: Workshop, hours: int) -> None:
    async with _daemon(shop) as daemon:
        bob, carol = await _a_letter_in_time(shop), await shop.send("carol@b.test")
        before = [await _deadlines(shop, row) for row in (bob, carol)]
        shop.clock.turn(hours=hours)
        await daemon._monitor()
        for row, old in zip((bob, carol), before, strict=True):
            new = await _deadlines(shop, row)
            assert new.keys() == old.keys()
            assert all(abs(new[name] - old[name]) < timedelta(seconds=5) for name in old)


async def _deadlines(shop: Workshop, recipient: str) -> dict[str, timedelta]:
    """Return how far away from now each instant is that a recipient's row holds."""
    row, now = await shop.recipient(recipient), shop.clock()
    names = ("submit_by", "give_up_at", "submitted_at", "deadline_at", "judge_at", "incident_opened_at")
    return {name: at - now for name in names if (at := getattr(row, name)) is not None}


@pytest.mark.parametrize("hours", [-2, 2])
async def test_after_the_clock_was_set_silence_is_told_once_when_its_time_has_passed(
    shop: Workshop, hours: int
) -> None:
    async with _daemon(shop) as daemon:
        await _a_letter_in_time(shop)
        shop.clock.turn(hours=hours)
        await daemon._monitor()
        await shop.deliver()
        await shop.collect()
        await shop.escalate()
        await daemon._monitor()
        assert sorted([alert.type for alert in await shop.alerts()]) == ["monitor.blind", "monitor.clear"]
        shop.clock.turn(seconds=62)
        daemon.clock_offset += 62
        await shop.escalate()
        await shop.collect()
        await shop.escalate()
        await shop.escalate()
        told = [alert.type for alert in await shop.alerts()]
        assert sorted(told) == ["monitor.blind", "monitor.clear", "receipt.overdue"]


async def test_later_levels_come_no_later_when_the_clock_is_set_back(shop: Workshop) -> None:
    async with _daemon(shop) as daemon:
        bob = await _a_letter_in_time(shop)
        shop.clock.turn(seconds=62)
        daemon.clock_offset += 62
        await shop.collect()
        await shop.escalate()
        shop.clock.turn(hours=-2)
        await daemon._monitor()
        row = await shop.recipient(bob)
        assert row.incident_opened_at is not None
        assert row.judge_at == row.incident_opened_at + timedelta(seconds=3)
        assert abs(row.incident_opened_at - shop.clock()) < timedelta(seconds=5)


async def test_what_is_met_keeps_its_times_when_the_clock_is_set(shop: Workshop) -> None:
    async with _daemon(shop) as daemon:
        bob = await _a_letter_in_time(shop)
        shop.report("bob@b.test")
        await shop.collect()
        await shop.settle()
        before = await shop.recipient(bob)
        shop.clock.turn(hours=-2)
        await daemon._monitor()
        after = await shop.recipient(bob)
        assert (before.receipt, after.submitted_at, after.deadline_at) == (
            Receipt.MET,
            before.submitted_at,
            before.deadline_at,
        )


async def test_the_time_that_a_machine_slept_is_no_jump_of_the_clock(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOCK_MONOTONIC stands still while a machine is suspended, and CLOCK_BOOTTIME goes on."""
    slept = 7200.0
    real = time.clock_gettime
    async with _daemon(shop) as daemon:
        await _a_letter_in_time(shop)
        monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + slept)
        shop.clock.turn(hours=2)
        await daemon._escalate()
        assert not await shop.alerts(), "no mailbox was read since"
        await shop.collect()
        await daemon._escalate()
        assert [alert.type for alert in await shop.alerts()] == ["receipt.overdue"]


async def test_after_a_jump_backward_the_reads_of_the_old_time_count_no_more(shop: Workshop) -> None:
    shop.clock.turn(hours=2)
    async with _daemon(shop) as daemon:
        await shop.collect()
        shop.clock.turn(hours=-2)
        await daemon._monitor()
        assert "clock" in [alert.data["what"] for alert in await shop.alerts()]
        await shop.send("bob@b.test")
        await shop.submit()
        shop.clock.turn(minutes=2)
        daemon.clock_offset += 120
        await shop.escalate()
        assert [alert.type for alert in await shop.alerts()] == ["monitor.blind"], "the folder's last read lies ahead"
        await shop.collect()
        await shop.escalate()
        assert [alert.type for alert in await shop.alerts()] == ["monitor.blind", "receipt.overdue"]


async def test_after_a_jump_backward_the_relay_is_not_left_alone_for_hours(shop: Workshop) -> None:
    shop.clock.turn(hours=2)
    async with _daemon(shop) as daemon:
        daemon.relay_health.down(shop.clock(), "it is down", permanent=False)
        shop.clock.turn(hours=-2)
        await daemon._monitor()
        assert daemon.relay_health.may_try(shop.clock() + timedelta(minutes=5))


@pytest.mark.parametrize("hours", [-2, 2])
async def test_what_waits_for_its_next_attempt_waits_neither_longer_nor_shorter(shop: Workshop, hours: int) -> None:
    async with _daemon(shop) as daemon:
        shop.smtp.script["RCPT"] = ["450 4.2.0 try later"]
        bob = await shop.send("bob@b.test")
        await shop.submit()
        was_due_in = await _due_in(shop, bob)
        shop.clock.turn(hours=hours)
        await daemon._monitor()
        assert abs(await _due_in(shop, bob) - was_due_in) < timedelta(seconds=5)


async def _due_in(shop: Workshop, recipient: str) -> timedelta:
    due_at = (await shop.recipient(recipient)).next_attempt_at
    assert due_at is not None
    return due_at - shop.clock()


async def test_a_clock_that_is_only_slewed_is_trusted(shop: Workshop) -> None:
    async with _daemon(shop) as daemon:
        await _a_letter_in_time(shop)
        shop.clock.turn(seconds=50)
        await daemon._monitor()
        assert not await shop.alerts()
