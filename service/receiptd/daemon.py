"""One event loop: APScheduler ticks the steps, each wakes the next, systemd is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlmodel import Session

from receiptd import deliver, systemd, telemetry
from receiptd import settings as configuration
from receiptd import store as storage
from receiptd.descriptors import Shortage
from receiptd.errors import CantWrite, ReceiptdError
from receiptd.escalate import escalate, monitor, unread
from receiptd.oauth import AccessToken
from receiptd.readers import Readers
from receiptd.recipients import attempts, restore
from receiptd.settings import OAuth, read_token
from receiptd.settle import settle
from receiptd.smtp import Relay, TokenSource
from receiptd.step import Step
from receiptd.store import (
    Store,
    deadlines,
    dispatches,
    events,
    evidence,
    folders,
    handover,
    is_down,
    notices,
    settlement,
    submissions,
)
from receiptd.store.engine import database_url
from receiptd.store.faults import explain
from receiptd.store.monitors import Health
from receiptd.submit import submit
from receiptd.watchdog import Watchdog
from receiptd.web import AppContext, create_app, listeners

_log = structlog.get_logger(__name__)

DRAIN = timedelta(seconds=20)
"""How long transactions that are under way may take to end after SIGTERM."""
_THREADS = 32
_SECOND, _MINUTE, _FOR_EVER = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=36500)


def run(config: Path | None) -> int:
    """Run the daemon until SIGTERM or SIGINT; raise a ReceiptdError where it can't start."""
    config = configuration.find(config).absolute()
    settings = configuration.load(config)
    telemetry.configure_logging()
    try:
        for endpoint in settings.webhook:
            deliver.secret_of(endpoint)
        for api_token in settings.service.token:
            read_token(api_token.secret_file)
        store = Store(settings)
        store.lock()
        storage.ensure(settings.service.database)
        asyncio.run(Daemon(store, config).run())
    except Exception as fault:
        if isinstance(fault, ReceiptdError) or not is_down(fault):
            raise
        raise explain(fault, database_url(settings.service.database)) from fault
    finally:
        logging.shutdown()  # what is left of the log is written, or a moment waited for
    return 0


class Daemon:
    """The steps and the peers they talk to."""

    def __init__(self, store: Store, config: Path | None = None) -> None:
        self.store = store
        self.config = config
        self.stop = asyncio.Event()
        self.watchdog = Watchdog()
        self.started_at = store.now()
        self.relay = Relay(store.settings.submission, access_token=_access_token(store.settings.submission.oauth))
        self.relay_health = Health("relay:relay")
        self.clock_health = Health("clock:clock")
        self.readers = Readers(store, stop=self.stop, on_read=self._on_read, on_new=self._on_new)
        self.read_for: datetime | None = None
        """The last deadline because of which the mailboxes were asked for a read."""
        self.http = deliver.client()
        self.endpoints = deliver.Endpoints(self.http)
        self.clock_offset = store.clock_offset()
        self.waiting: restore.Waiting | None = None
        """What was queued when the machine came up, until the mailboxes were read."""
        self.unread = {box.name for box in store.settings.mailbox}
        self.submit = Step("submit", self._submit, every=_SECOND, timeout=_FOR_EVER)
        self.settle = Step("settle", self._settle, every=_SECOND, timeout=_MINUTE)
        self.escalate = Step("escalate", self._escalate, every=_SECOND, timeout=_MINUTE)
        self.deliver = Step("deliver", self._deliver, every=_SECOND, timeout=_FOR_EVER)
        self.monitor = Step("monitor", self._monitor, every=5 * _SECOND, timeout=_MINUTE)
        self.recover = Step("recover", self._recover, every=_MINUTE, timeout=_MINUTE)
        self.sweep = Step("sweep", self._sweep, every=_MINUTE, timeout=_MINUTE)
        self.steps = (self.submit, self.settle, self.escalate, self.deliver, self.monitor, self.recover, self.sweep)

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; then let what is under way end, for at most DRAIN."""
        sockets = listeners.bind_sockets(self.store.settings)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Shortage().handle)
        loop.set_default_executor(ThreadPoolExecutor(self._threads()))
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.store.close)
            closing.push_async_callback(self.http.aclose)
            closing.push_async_callback(self.relay.close)
            await events.go_on(self.store)
            start = await restore.begin(self.store)
            self._tell_of_held(start.held, start.why)
            await attempts.recover(self.store)
            await settlement.recover(self.store)
            if start.is_new_run:
                self.waiting = await restore.await_mailboxes(self.store)
            await closing.enter_async_context(listeners.serving(create_app(self.context()), sockets))
            self._listen_to_signals()
            await self._work()
            if self.store.ledger is not None:
                self.store.ledger.stopped(self.store.now().timestamp())
        _log.info("receiptd has stopped")

    def _tell_of_held(self, held: int, why: str | None) -> None:
        if held:
            _log.warning(
                "what was queued is held, for it may have been sent already: `receiptd retry --held` sends it all",
                held=held,
                reason=why,
            )

    def _threads(self) -> int:
        # A resolver that hangs keeps a thread well beyond the time-out of a post: no webhook's names take all of them.
        return _THREADS + 3 * deliver.WINDOW * len(self.store.settings.webhook)

    def context(self) -> AppContext:
        """Return what the HTTP API needs."""
        return AppContext(
            store=self.store,
            relay=self.relay_health,
            mailboxes=self.readers.health,
            wake=self.wake,
            wake_submit=self.submit.wake.set,
            relay_offers=lambda: self.relay.capabilities,
            ask_relay=self.relay.ask_again,
            started_at=self.started_at,
        )

    def wake(self) -> None:
        """Wake the steps that a person's act may give work."""
        self.submit.wake.set()
        self.deliver.wake.set()

    async def _work(self) -> None:
        scheduler = AsyncIOScheduler(timezone=UTC)
        for step in self.steps:
            scheduler.add_job(
                step.tick,
                "interval",
                seconds=step.every.total_seconds(),
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC),
            )
        scheduler.start()
        running = [asyncio.create_task(step.run(self.watchdog, self.stop), name=step.name) for step in self.steps]
        readers = asyncio.create_task(self.readers.run(), name="readers")
        feeder = asyncio.create_task(self._feed_watchdog())
        files = asyncio.create_task(self._watch_files())
        hearing = asyncio.create_task(self._hear_notices())
        gc.collect()
        gc.freeze()  # modules and tables stay: looking through them again stops the loop for 0.1 s each time
        _log.info("receiptd is ready", relay=str(self.relay.server), mailboxes=len(self.store.settings.mailbox))
        systemd.notify("READY=1", "STATUS=sending and collecting")
        try:
            await _first_fault(self.stop, [*running, readers, feeder, files, hearing])
        finally:
            systemd.notify("STOPPING=1")
            self.stop.set()
            scheduler.shutdown(wait=False)
            await self._drain(running, [readers, feeder, files, hearing])

    async def _drain(self, running: list[asyncio.Task[None]], others: list[asyncio.Task[None]]) -> None:
        """Let transactions and posts end; what does not in time is cut off, and is `uncertain` at the next start."""
        for task in others:
            task.cancel()
        for step in self.steps:
            step.wake.set()
        _, late = await asyncio.wait(running, timeout=DRAIN.total_seconds())
        for task in late:
            _log.warning("a step was cut off", step=task.get_name())
            task.cancel()
        await asyncio.gather(*running, *others, return_exceptions=True)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        """Take over what a running daemon can of the settings as they are now; keep all where they have a mistake."""
        systemd.notify("RELOADING=1")
        try:
            new = configuration.load(self.config)
            for endpoint in new.webhook:
                deliver.secret_of(endpoint)
        except ReceiptdError as fault:
            _log.error("the new settings can't be used, so the old ones hold", reason=str(fault))
            systemd.notify("READY=1", f"STATUS=the new settings can't be used, so the old ones hold: {fault}")
            return
        reloaded = configuration.take_over(self.store.settings, new)
        self.store.settings = reloaded.settings
        self.relay.set_rate(reloaded.settings.submission.rate_limit)
        self.readers.follow_settings()
        for step in self.steps:
            step.wake.set()
        _log.info("settings reloaded", changed=", ".join(reloaded.changed) or "nothing")
        if reloaded.need_restart:
            _log.warning("some new settings wait for a restart", settings=", ".join(reloaded.need_restart))
        systemd.notify("READY=1", "STATUS=sending and collecting")

    def _end(self, number: signal.Signals) -> None:
        if not self.stop.is_set():
            seconds = int(DRAIN.total_seconds())
            _log.info("receiptd is stopping; what is under way may end", signal=number.name, seconds=seconds)
        self.stop.set()

    async def _feed_watchdog(self) -> None:
        """Feed systemd's watchdog while the loop turns and nothing outlasts its timeout."""
        interval = systemd.watchdog_interval()
        while interval is not None:
            if stuck := self.watchdog.stuck():
                _log.error("a step hangs; the watchdog is left to end this process", steps=", ".join(stuck))
            else:
                systemd.notify("WATCHDOG=1")
            await asyncio.sleep(interval.total_seconds() / 2)

    async def _watch_files(self) -> None:
        """End where the database's files aren't those that we write to: nothing that we still do would be kept."""
        while self.store.files is not None:
            if fault := self.store.files.look():
                raise CantWrite(
                    f"{fault} while receiptd ran, so it ends: what it wrote after that isn't in the database; start it "
                    "again, and stop it first next time"
                )
            await asyncio.sleep(1)

    async def _hear_notices(self) -> None:
        """Wake a step where another daemon on the database has given it work."""
        steps = {step.name: step for step in self.steps}

        def wake(name: str) -> None:
            if name in steps:
                steps[name].wake.set()

        await notices.listen(self.store, wake, self.stop)
        await self.stop.wait()

    def _on_new(self) -> None:
        """Reports are stored: they are settled while the rest of the mailbox is still being read."""
        self.settle.wake.set()

    async def _on_read(self, name: str, _: int) -> None:
        self.unread.discard(name)
        self.escalate.wake.set()
        self.monitor.wake.set()

    async def _submit(self) -> int:
        was_up = self.relay_health.is_up
        moved = await submit(
            self.store, self.relay, self.relay_health, wake=self.submit.wake, stop=self.stop, watchdog=self.watchdog
        )
        if self.relay_health.is_up is not was_up:
            self.monitor.wake.set()
        return moved

    async def _settle(self) -> int:
        settled = await settle(self.store)
        if settled:
            self.readers.settled.set()
            self.deliver.wake.set()
        elif self.waiting is not None and not self.unread:
            self._tell_of_held(await restore.look_back(self.store, self.waiting), restore.REPORTED)
            self.waiting = None
            self.submit.wake.set()
        return settled

    async def _escalate(self) -> int:
        await self._look_at_the_clock()
        judged = await escalate(self.store)
        if judged:
            self.deliver.wake.set()
        await self._read_for_deadlines()
        return judged

    async def _read_for_deadlines(self) -> None:
        """Let the mailboxes be read at once where a deadline has passed since: once for each, for a read may fail."""
        passed = await unread(self.store)
        if passed is not None and (self.read_for is None or passed > self.read_for):
            self.read_for = passed
            self.readers.wake()

    async def _deliver(self) -> int:
        return await deliver.deliver(
            self.store, self.endpoints, wake=self.deliver.wake, stop=self.stop, watchdog=self.watchdog
        )

    async def _monitor(self) -> int:
        await self._look_at_the_clock()
        await monitor(self.store, self.relay_health, self.readers.health, self.clock_health, started_at=self.started_at)
        return 0

    async def _look_at_the_clock(self) -> None:
        """Hold deadlines until every folder was read once more: the old reads are on another clock's time.

        What was noted in the old time to wait for, or from, is forgotten: after a jump backward it would lie
        hours ahead, after one forward a mailbox would seem unread for hours.
        """
        if not self.store.clock_jumped(self.clock_offset):
            return
        jump = self.store.clock_offset() - self.clock_offset
        self.clock_offset += jump
        self.started_at = self.store.now()
        self.relay_health.retry_at = self.read_for = None
        _log.warning("the clock jumped", seconds=round(jump))
        self.clock_health.down(self.store.now(), f"the clock jumped by {jump:+.0f} seconds", permanent=True)
        async with self.store.write() as session:
            await submissions.follow_clock(session, timedelta(seconds=jump))
            await dispatches.follow_clock(session, timedelta(seconds=jump))
            await session.run_sync(partial(_follow_clock, jump=timedelta(seconds=jump)))
        self.readers.wake()

    async def _sweep(self) -> int:
        dropped = await evidence.drop_oldest(self.store)
        if dropped:
            _log.info("the oldest reports that speak of nobody are removed", **dropped)
        return sum(dropped.values())

    async def _recover(self) -> int:
        await attempts.recover(self.store)
        if await handover.retire(self.store):
            self.deliver.wake.set()
        return 0


def _follow_clock(session: object, jump: timedelta) -> None:
    folders.distrust(cast(Session, session))
    deadlines.follow_clock(cast(Session, session), jump)


async def _first_fault(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait until *stop*, or raise what ended one of *tasks*: none ends by itself before that."""
    stopping = asyncio.create_task(stop.wait())
    waiting = {stopping, *tasks}
    try:
        while not stopping.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        stopping.cancel()


def _access_token(oauth: OAuth | None) -> TokenSource | None:
    return AccessToken(oauth).get if oauth is not None else None
