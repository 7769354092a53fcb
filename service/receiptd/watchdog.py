"""What is being waited for, since when, and how long that may take: what the watchdog looks at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

MARGIN = timedelta(seconds=30)
"""What a wait may take beyond its own timeout."""


async def pause(stop: asyncio.Event, length: timedelta) -> None:
    """Wait for *length*, or until *stop* is set."""
    try:
        async with asyncio.timeout(length.total_seconds()):
            await stop.wait()
    except TimeoutError:
        return


class Watchdog:
    """The waits of this process; one that outlasts its timeout and a margin means that something hangs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[object, tuple[str, float]] = {}

    @contextmanager
    def track(self, name: str, timeout: timedelta) -> Iterator[None]:
        """Track a wait that ends by itself within *timeout*."""
        key = object()
        self._waits[key] = (name, self._clock() + (timeout + MARGIN).total_seconds())
        try:
            yield
        finally:
            del self._waits[key]

    def stuck(self) -> list[str]:
        """Return the names of waits that should be over."""
        now = self._clock()
        return sorted({name for name, until in self._waits.values() if now > until})
