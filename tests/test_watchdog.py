"""What hangs is seen, what merely takes its time isn't."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from receiptd.watchdog import MARGIN, Watchdog, pause


class Clock:
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_outlasts_its_timeout_and_a_margin_is_stuck(clock: Clock) -> None:
    watchdog = Watchdog(clock)
    with watchdog.track("settle", timedelta(minutes=1)):
        clock.seconds += 60 + MARGIN.total_seconds()
        assert watchdog.stuck() == []
        clock.seconds += 0.1
        assert watchdog.stuck() == ["settle"]
    assert watchdog.stuck() == [], "it came to an end after all"


def test_each_wait_has_a_time_of_its_own_and_a_name_is_told_once(clock: Clock) -> None:
    watchdog = Watchdog(clock)
    with watchdog.track("submit", timedelta(hours=1)), watchdog.track("submit", timedelta(0)):
        with watchdog.track("deliver", timedelta(0)):
            clock.seconds += 31
            assert watchdog.stuck() == ["deliver", "submit"]
        assert watchdog.stuck() == ["submit"]
        clock.seconds += 3600
        assert watchdog.stuck() == ["submit"]


def test_a_wait_that_ends_with_an_exception_is_over(clock: Clock) -> None:
    watchdog = Watchdog(clock)
    with pytest.raises(ZeroDivisionError), watchdog.track("settle", timedelta(0)):
        raise ZeroDivisionError
    clock.seconds += 3600
    assert watchdog.stuck() == []


def test_a_wait_without_end_is_never_stuck(clock: Clock) -> None:
    watchdog = Watchdog(clock)
    with watchdog.track("submit", timedelta(days=36500)):
        clock.seconds += 86400 * 365 * 50
        assert watchdog.stuck() == []


async def test_told_to_stop_nobody_waits_longer() -> None:
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(1):
        await pause(stop, timedelta(hours=1))


async def test_a_pause_ends_by_itself() -> None:
    async with asyncio.timeout(1):
        await pause(asyncio.Event(), timedelta(milliseconds=1))
