"""One step of a message's way as the daemon runs it: each time it is woken, again while it moves rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from receiptd import telemetry
from receiptd.store import is_down, reason_of
from receiptd.store.faults import is_corrupt
from receiptd.watchdog import Watchdog, pause

_log = structlog.get_logger(__name__)

_AFTER_A_FAULT, _AFTER_MANY = 1.0, 8.0
"""Seconds that a step rests after a fault, and at most after many: less than the time that a stop may take."""


class Step:
    """One step of a message's way: runs when it is woken, again while it moves rows."""

    def __init__(self, name: str, work: Callable[[], Awaitable[int]], *, every: timedelta, timeout: timedelta) -> None:
        self.name = name
        self.every = every
        self.wake = asyncio.Event()
        self._work = work
        self._timeout = timeout
        self._failures = 0

    async def run(self, watchdog: Watchdog, stop: asyncio.Event) -> None:
        """Do the work each time it is woken, until *stop*; a fault is logged and ends nothing."""
        while not stop.is_set():
            await self.wake.wait()
            self.wake.clear()
            try:
                while not stop.is_set() and await self._once(watchdog):
                    pass
                self._failures = 0
            except Exception as fault:
                self._failures += 1
                self._tell(fault)
                await pause(stop, timedelta(seconds=min(_AFTER_A_FAULT * self._failures, _AFTER_MANY)))

    def _tell(self, fault: Exception) -> None:
        """Write the fault to the journal; where the disk is full, that must not fill what is left of it."""
        if is_down(fault) or is_corrupt(fault):
            _log.error("the database can't be used", step=self.name, reason=reason_of(fault))
        else:
            _log.exception("a step failed", step=self.name)

    async def _once(self, watchdog: Watchdog) -> int:
        with watchdog.track(self.name, self._timeout), telemetry.STEP_SECONDS.labels(self.name).time():
            return await self._work()

    async def tick(self) -> None:
        """Wake this step."""
        self.wake.set()
