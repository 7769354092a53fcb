"""A hooks that alerts come to: a steps, a receiver of its webhooks, and the step between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import time_machine
from sqlmodel import select

from receiptd import deliver
from receiptd.models import Alert, Dispatch, DispatchAttempt
from receiptd.step import Step
from receiptd.store import handover
from receiptd.watchdog import Watchdog
from tests.receiver import SECRET, Receiver
from tests.steps_fixture import START, StepsFixture, dsn, open_steps

_HOURLY = timedelta(hours=1)
NAMES = ("ops", "boss")


class WebhookFixture:
    """A steps with a receiver of its alerts; its clock is the process's, for receivers look at timestamps."""

    def __init__(self, steps: StepsFixture, receiver: Receiver, clock: Any) -> None:
        self.steps, self.receiver, self.http = steps, receiver, deliver.client()
        self.endpoints = deliver.Endpoints(self.http)
        self.wake, self.stop = asyncio.Event(), asyncio.Event()
        self._clock = clock

    def pass_time(self, **length: float) -> None:
        self.steps.pass_time(**length)
        self._clock.move_to(self.steps.instant)

    async def deliver(self) -> int:
        return await deliver.deliver(
            self.steps.store, self.endpoints, wake=self.wake, stop=self.stop, watchdog=Watchdog()
        )

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[asyncio.Task[None]]:
        """Let the step run as in the daemon, whenever somebody sets `wake`."""
        step = Step("deliver", self.deliver, every=_HOURLY, timeout=_HOURLY)
        step.wake = self.wake
        task = asyncio.create_task(step.run(Watchdog(), self.stop))
        self.wake.set()
        try:
            yield task
        finally:
            self.stop.set()
            self.wake.set()
            await task

    @staticmethod
    async def until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)

    async def replay(self, alert: Alert) -> list[str]:
        store = self.steps.store
        async with store.write() as session:
            return await handover.replay(session, store.settings, alert, store.now())

    def subscribe(self, **events: list[str]) -> None:
        """Go on with settings in which there are these webhooks alone, with these `events`."""
        settings = self.steps.store.settings
        model = settings.webhook[0]
        hooks = tuple(
            model.model_copy(update={"name": name, "url": self.receiver.url(name), "events": tuple(patterns)})
            for name, patterns in events.items()
        )
        self.steps.store.settings = settings.model_copy(update={"webhook": hooks})

    async def bad_news(self, address: str = "bob@b.test", **options: Any) -> Alert:
        """Let a report say that a letter failed; return the alert."""
        taken = await self.steps.submitted(address, **options)
        await self.steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1", recipient=address))
        return (await self.steps.alerts())[-1]

    async def dispatch(self, alert: Alert, name: str = "ops") -> Dispatch:
        return next(d for d in await self.steps.dispatches() if (d.alert, d.webhook) == (alert.id, name))

    async def attempts(self) -> list[DispatchAttempt]:
        async with self.steps.store.read() as session:
            rows = (await session.exec(select(DispatchAttempt))).all()
        return sorted(rows, key=lambda row: row.started_at)

    async def until_due(self, alert: Alert) -> timedelta:
        """Pass the time to the next attempt; return how long that was."""
        due_at = (await self.dispatch(alert)).due_at
        assert due_at is not None
        waited = due_at - self.steps.instant
        self.pass_time(seconds=waited.total_seconds())
        return waited


@asynccontextmanager
async def open_webhooks(
    folder: Path, *, ops: dict[str, Any] | None = None, **changes: Any
) -> AsyncIterator[WebhookFixture]:
    """Open the steps with webhooks; *ops* adds to the settings of the first webhook."""
    (folder / "secret").write_text(SECRET)
    receiver = Receiver()
    entries: list[dict[str, Any]] = [
        {"name": name, "url": receiver.url(name), "secret_file": str(folder / "secret")} for name in NAMES
    ]
    entries[0] |= ops or {}
    with time_machine.travel(START, tick=False) as clock:
        async with open_steps(folder, webhook=entries, **changes) as steps:
            hooks = WebhookFixture(steps, receiver, clock)
            try:
                yield hooks
            finally:
                await hooks.http.aclose()
                await asyncio.to_thread(receiver.close)
