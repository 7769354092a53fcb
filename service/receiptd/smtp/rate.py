"""How many transactions may start in a period: a sliding window without a clock of its own."""

from __future__ import annotations

from collections import deque
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
