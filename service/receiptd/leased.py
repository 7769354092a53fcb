"""Work that one daemon of several does: it runs while the lease is held, and is cut off when the lease is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from receiptd import telemetry
from receiptd.store import Store, is_down, leases, reason_of
from receiptd.watchdog import pause

_log = structlog.get_logger(__name__)


class Leased:
    """The lease *name*, as this daemon asks for it again and again."""

    def __init__(self, store: Store, name: str, stop: asyncio.Event) -> None:
        self._store, self._name, self._stop = store, name, stop
        self._is_unreachable = False

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *work* whenever the lease is ours, until told to stop; raise what ended it."""
        while not self._stop.is_set():
            if not await self._renew():
                await pause(self._stop, leases.RENEW_EVERY)
                continue
            telemetry.LEASE_HOLDER.labels(self._name).set(1)
            try:
                await self._while_held(work)
            finally:
                telemetry.LEASE_HOLDER.labels(self._name).set(0)
                await self._give_back()

    async def _while_held(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        running, holding = asyncio.create_task(work()), asyncio.create_task(self._hold())
        try:
            await asyncio.wait({running, holding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, holding):
                task.cancel()
            ends = await asyncio.gather(running, holding, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _hold(self) -> None:
        """Renew the lease until it is lost; whoever can't reach the database for its length has lost it."""
        renewed = self._now()
        while self._now() - renewed < leases.LASTS.total_seconds():
            await asyncio.sleep(leases.RENEW_EVERY.total_seconds())
            asked = self._now()
            if await self._renew():
                renewed = asked
            elif not self._is_unreachable:
                break
        _log.warning("another daemon has taken over", lease=self._name)

    async def _renew(self) -> bool:
        self._is_unreachable = False
        try:
            return await self._store.transact(
                partial(leases.hold, name=self._name, holder=self._store.node, now=self._store.now())
            )
        except Exception as fault:
            if not is_down(fault):
                raise
            self._is_unreachable = True
            _log.warning("the lease can't be renewed", lease=self._name, reason=reason_of(fault))
            return False

    async def _give_back(self) -> None:
        try:
            await self._store.transact(
                partial(leases.give_back, name=self._name, holder=self._store.node, now=self._store.now())
            )
        except Exception as fault:
            if not is_down(fault):
                raise

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
