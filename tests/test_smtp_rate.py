"""The rate limit: no window ever holds more starts than allowed, and nobody waits longer than that needs."""

from __future__ import annotations

import asyncio
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from receiptd.smtp import Accepted
from receiptd.smtp.rate import SlidingWindow
from tests.test_smtp import LeapingClock, a_relay, submit

# Times in sixteenths of a second are exact in binary, so that the laws can be exact too.
counts = st.integers(1, 20)
periods = st.sampled_from([1.0, 60.0, 3600.0])
asked = st.lists(st.integers(0, 16 * 30).map(lambda ticks: ticks / 16), min_size=1, max_size=80).map(
    lambda gaps: list(accumulate(gaps))
)


@given(counts, periods, asked)
def test_no_window_of_one_period_holds_more_than_count_starts(count: int, period: float, times: list[float]) -> None:
    window = SlidingWindow(count, period)
    starts = [window.reserve(now) for now in times]
    for first in starts:
        assert len([start for start in starts if first <= start < first + period]) <= count


@given(counts, periods, asked)
def test_starts_keep_their_order_and_are_never_before_they_were_asked_for(
    count: int, period: float, times: list[float]
) -> None:
    window = SlidingWindow(count, period)
    starts = [window.reserve(now) for now in times]
    assert starts == sorted(starts)
    assert all(start >= now for start, now in zip(starts, times, strict=True))


@given(counts, periods, asked)
def test_nobody_waits_longer_than_the_law_needs(count: int, period: float, times: list[float]) -> None:
    window = SlidingWindow(count, period)
    starts = [window.reserve(now) for now in times]
    for index, (start, now) in enumerate(zip(starts, times, strict=True)):
        before = starts[index - count] + period if index >= count else 0.0
        previous = starts[index - 1] if index else 0.0
        assert start == max(now, before, previous)


def test_g07_the_rate_holds_over_all_connections() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        begun: list[float] = []

        async def one() -> None:
            assert isinstance(await submit(relay), Accepted)
            begun.append(loop.time())

        async with a_relay(rate="10/m", connections=4) as (relay, fake):
            await asyncio.gather(*(one() for _ in range(25)))
            assert fake.open_at_most <= 4
        return begun

    with asyncio.Runner(loop_factory=LeapingClock) as runner:
        begun = runner.run(scenario())
    # Each is noted at its end; the first to end may have opened its connection first.
    assert begun[9] - begun[0] < 5
    assert 55 < begun[10] - begun[0] < 65
    assert 115 < begun[20] - begun[0] < 125
