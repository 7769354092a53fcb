"""How many transactions may start in a period: a sliding window, and the turns that it gives."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from itertools import takewhile


class SlidingWindow:
    """At most *count* starts in any *period* seconds, wherever that period begins.

    A token bucket would allow twice the rate in its first period, and providers penalise that. A burst
    up to *count* doesn't wait.
    """

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self._starts: deque[float] = deque(maxlen=count)

    def resized(self, count: int, period: float) -> SlidingWindow:
        """Return a window of another size that keeps this one's starts."""
        other = SlidingWindow(count, period)
        other._starts.extend(self._starts)
        return other

    def reserve(self, now: float) -> float:
        """Reserve the next start and return its time, on *now*'s clock: never before *now*."""
        start = now
        if self._starts:
            start = max(start, self._starts[-1])
        if len(self._starts) == self._starts.maxlen:
            start = max(start, self._starts[0] + self._period)
        self._starts.append(start)
        return start

    def turns(self, now: float, until: float, most: int) -> int:
        """Return how many starts, at most *most*, are free from *now* to *until*; reserves none."""
        trial = SlidingWindow(0, self._period)
        trial._starts = self._starts.copy()
        starts = (trial.reserve(now) for _ in range(most))
        return sum(1 for _ in takewhile(lambda start: start <= until, starts))


class RateLimit:
    """The turns to start a transaction, by the loop's clock; without a limit each has its turn at once."""

    def __init__(self, limit: tuple[int, timedelta] | None) -> None:
        self._window: SlidingWindow | None = None
        self.set(limit)

    def set(self, limit: tuple[int, timedelta] | None) -> None:
        """Limit the rate from now on; what has its turn keeps it."""
        known = self._window or SlidingWindow(0, 0)
        self._window = known.resized(limit[0], limit[1].total_seconds()) if limit else None

    def turns(self, within: timedelta, most: int) -> int:
        """Return how many transactions, at most *most*, could start *within* that time."""
        if self._window is None:
            return most
        now = asyncio.get_running_loop().time()
        return self._window.turns(now, now + within.total_seconds(), most)

    def take(self) -> bool:
        """Take a turn if there is one now."""
        return self._window is None or (self.turns(timedelta(0), 1) == 1 and self.reserve() <= 0)

    def reserve(self) -> float:
        """Take the next turn, and return in how many seconds it is."""
        if self._window is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        return self._window.reserve(now) - now
