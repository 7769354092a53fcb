"""How many transactions may start in a period: a bucket that knows no clock."""

from __future__ import annotations

from collections import deque
from itertools import takewhile


class Bucket:
    """At most *count* starts in any *period* seconds, wherever that period begins.

    A refilling bucket would allow twice the rate in its first period; providers count plainly and answer
    with a penalty. A burst up to *count* costs no waiting.
    """

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self._starts: deque[float] = deque(maxlen=count)

    def resized(self, count: int, period: float) -> Bucket:
        """Return a bucket of another size that knows what this one gave out."""
        other = Bucket(count, period)
        other._starts.extend(self._starts)
        return other

    def reserve(self, now: float) -> float:
        """Take the next start for the caller and return when it is, in *now*'s clock: never before *now*."""
        start = now
        if self._starts:
            start = max(start, self._starts[-1])
        if len(self._starts) == self._starts.maxlen:
            start = max(start, self._starts[0] + self._period)
        self._starts.append(start)
        return start

    def turns(self, now: float, until: float, most: int) -> int:
        """Return how many starts, *most* at most, could be taken from *now* to *until*; takes none."""
        trial = Bucket(0, self._period)
        trial._starts = self._starts.copy()
        starts = (trial.reserve(now) for _ in range(most))
        return sum(1 for _ in takewhile(lambda start: start <= until, starts))
