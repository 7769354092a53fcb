"""The steps one by one, on a clock that a test turns: no daemon, the same database, relay and mailbox."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine
from sqlmodel import col, select

from receiptd import compose, deliver, settings
from receiptd.accept import SubmitOptions, accept
from receiptd.collect import Progress, collect
from receiptd.escalate import escalate, monitor
from receiptd.mailbox import open_mailbox
from receiptd.models import Alert, Dispatch, DispatchAttempt, EventRow, Recipient
from receiptd.settle import settle
from receiptd.smtp import Relay
from receiptd.store import Store
from receiptd.store.monitors import Health
from receiptd.submit import submit
from receiptd.watchdog import Watchdog
from receiptd.web import AppContext, health
from tests.databases import drop_database, make_database
from tests.fake_imap import FakeImap, Message
from tests.fake_smtp import FakeSMTP
from tests.faults.letters import report, return_path_of
from tests.faults.peers import tables
from tests.receiver import Receiver


class Clock:
    """The wall clock of this process, which a test turns; monotonic time goes on as it does."""

    def __init__(self) -> None:
        self._travel = time_machine.travel(datetime.now(UTC))
        self._place = self._travel.start()

    def __call__(self) -> datetime:
        return datetime.now(UTC)

    def turn(self, **by: float) -> None:
        self._place.shift(timedelta(**by))

    def stop(self) -> None:
        self._travel.stop()


class StepsWithPeers:
    """One sender's database and peers; every method is one step of a message's way."""

    def __init__(self, folder: Path, relay: FakeSMTP, mailbox: FakeImap, *, submission: str = "") -> None:
        self.clock, self.folder = Clock(), folder
        self.smtp, self.imap, self.receiver = relay, mailbox, Receiver()
        told = tables(relay.port, mailbox.port, submission=submission)
        make_database(folder)
        config = told.furnish(folder, self.receiver, {"password": "sesame"})
        self.store = Store(settings.load(config, environ={}), clock=self.clock)
        self.relay = Relay(self.store.settings.submission)
        self.relay_health = Health("relay:relay")
        self.box_health = Health("mailbox:receipts")
        self.clock_health = Health("clock:clock")
        self.endpoints = deliver.Endpoints(deliver.client())
        self.stop = asyncio.Event()
        self.started_at = self.clock()

    async def send(self, recipient: str, *, text: str = "Good day.\n") -> str:
        """Accept a letter to *recipient*; return the recipient's id."""
        draft = compose.Draft(from_="office@a.test", to=(recipient,), subject="An invoice", text=text)
        taken = await accept(self.store, compose.compose(draft, now=self.clock()), SubmitOptions(owner="uid:0"))
        return taken.recipients[0].id

    async def submit(self) -> int:
        return await submit(
            self.store, self.relay, self.relay_health, wake=asyncio.Event(), stop=self.stop, watchdog=Watchdog()
        )

    async def collect(self, progress: Progress | None = None) -> int:
        """Read the mailbox to its end once; *progress* is what earlier reads remember."""
        (box,) = self.store.settings.mailbox
        async with open_mailbox(box, password="sesame") as mailbox:
            return await collect(self.store, box, mailbox, progress or Progress())

    async def settle(self) -> int:
        return await settle(self.store)

    async def escalate(self) -> int:
        return await escalate(self.store)

    async def monitor(self) -> int:
        boxes = {"receipts": self.box_health}
        return await monitor(self.store, self.relay_health, boxes, self.clock_health, started_at=self.started_at)

    async def deliver(self) -> int:
        return await deliver.deliver(
            self.store, self.endpoints, wake=asyncio.Event(), stop=self.stop, watchdog=Watchdog()
        )

    @asynccontextmanager
    async def unwritable(self) -> AsyncIterator[None]:
        """Let the database refuse every write, as on a file system that turned read-only."""
        await self._pragma("query_only=ON")
        try:
            yield
        finally:
            await self._pragma("query_only=OFF")

    async def _pragma(self, words: str) -> None:
        async with self.store._writer.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            await raw.execute_fetchall(f"PRAGMA {words}")
        of_threads = self.store.threads.engines[0].raw_connection()
        of_threads.cursor().execute(f"PRAGMA {words}")
        of_threads.close()

    def report(self, recipient: str, action: str = "delivered") -> None:
        """Let a report about *recipient* come into the mailbox now."""
        content = report(return_path_of(self.smtp.lines, recipient), recipient, action)
        date = self.clock().strftime("%d-%b-%Y %H:%M:%S +0000")
        self.imap.messages[max(self.imap.messages, default=0) + 1] = Message(content, date=date)

    async def recipient(self, key: str) -> Recipient:
        async with self.store.read() as session:
            return await session.get_one(Recipient, key)

    async def kinds(self, key: str) -> list[str]:
        """Return the kinds of a recipient's events."""
        async with self.store.read() as session:
            rows = await session.exec(select(EventRow.kind).where(EventRow.recipient == key))
            return sorted(rows)

    async def alerts(self) -> list[Alert]:
        async with self.store.read() as session:
            return list((await session.exec(select(Alert).order_by(col(Alert.created_at)))).all())

    async def dispatch(self, name: str) -> Dispatch:
        """Return the only dispatch to the webhook *name*."""
        async with self.store.read() as session:
            return (await session.exec(select(Dispatch).where(Dispatch.webhook == name))).one()

    async def attempts(self) -> int:
        """Return how many POSTs are on record."""
        async with self.store.read() as session:
            return len((await session.exec(select(DispatchAttempt))).all())

    async def readyz(self) -> dict[str, str | None]:
        """Return why the service isn't ready, by the name of the check; empty: it is."""
        boxes = {"receipts": self.box_health}
        asked = (lambda: None, lambda: self.relay.capabilities, self.relay.ask_again)
        context = AppContext(self.store, self.relay_health, boxes, lambda: None, *asked, self.started_at)
        return {check.name: check.reason for check in await health.checks(context) if not check.ok}

    async def restart(self) -> None:
        """Go on as another process does that finds only what was committed."""
        await self.store.close()
        self.store = Store(self.store.settings, clock=self.clock)

    async def close(self) -> None:
        await self.endpoints.http.aclose()
        await self.relay.close()
        await self.store.close()
        self.receiver.close()
        self.clock.stop()
        drop_database(self.folder)


@asynccontextmanager
async def steps_with_peers(*, submission: str = "") -> AsyncIterator[StepsWithPeers]:
    """Open a steps_with_peers; *submission* is further lines of its settings."""
    folder = Path(tempfile.mkdtemp(prefix="rcpt-"))
    try:
        async with FakeSMTP() as relay, FakeImap() as mailbox:
            steps = StepsWithPeers(folder, relay, mailbox, submission=submission)
            try:
                yield steps
            finally:
                await steps.close()
    finally:
        shutil.rmtree(folder)
