"""The mailbox readers: one task per mailbox of the settings, started, woken and ended with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from receiptd.collect import Progress, watch
from receiptd.leased import Leased
from receiptd.mailbox import Mailbox, open_mailbox
from receiptd.oauth import AccessToken
from receiptd.settings import MailboxSettings, read_secret
from receiptd.store import Store
from receiptd.store.monitors import Health

OnRead = Callable[[str, int], Awaitable[None]]
OnNew = Callable[[], None]


class Readers:
    """All readers; *on_read* is awaited after each complete read of a mailbox, with its name and what was new."""

    def __init__(self, store: Store, *, stop: asyncio.Event, on_read: OnRead, on_new: OnNew) -> None:
        self.health = {box.name: Health(f"mailbox:{box.name}") for box in store.settings.mailbox}
        """How each mailbox is doing, by its name."""
        self.settled = asyncio.Event()
        """Set whenever reports were settled: readers may wait for that."""
        self._store, self._stop, self._on_read, self._on_new = store, stop, on_read, on_new
        self._running: dict[str, tuple[MailboxSettings, asyncio.Task[None]]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Let every mailbox that receipts come to be read now, whatever it waits for."""
        for box in self._store.settings.mailbox:
            if box.role == "receipts" and box.name in self._wakes:
                self._wakes[box.name].set()

    def follow_settings(self) -> None:
        """The settings have changed: end the readers of mailboxes that are gone or another, and start the new ones."""
        names = {box.name for box in self._store.settings.mailbox}
        for name in self.health.keys() - names:
            del self.health[name]
        for name in names - self.health.keys():
            self.health[name] = Health(f"mailbox:{name}")
        self._changed.set()

    async def run(self) -> None:
        """Read until cancelled or told to stop; raise what ended a reader, for none ends by itself before that."""
        try:
            while not self._stop.is_set():
                self._changed.clear()
                await self._adjust()
                await self._first_fault_or_change()
        finally:
            tasks = [task for _, task in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_fault_or_change(self) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            tasks = {task for _, task in self._running.values()}
            done, _ = await asyncio.wait({changed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        for task in done & tasks:
            task.result()

    async def _adjust(self) -> None:
        wanted = {box.name: box for box in self._store.settings.mailbox}
        for name, (box, task) in list(self._running.items()):
            if wanted.get(name) != box:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del self._running[name], self._wakes[name]
        for name, box in wanted.items():
            if name not in self._running:
                self._wakes[name] = asyncio.Event()
                self._running[name] = box, asyncio.create_task(self._read(box), name=f"mailbox:{name}")

    async def _read(self, box: MailboxSettings) -> None:
        token = AccessToken(box.oauth).get if box.oauth is not None else None

        def enter() -> AbstractAsyncContextManager[Mailbox]:
            password = None if token or box.password_file is None else read_secret(box.password_file)
            return open_mailbox(box, password=password, access_token=token)

        async def on_read(new: int) -> None:
            await self._on_read(box.name, new)

        wake, health = self._wakes[box.name], self.health[box.name]
        read = partial(
            watch,
            self._store,
            box,
            health,
            enter,
            stop=self._stop,
            on_read=on_read,
            progress=Progress(settled=self.settled, on_new=self._on_new),
            wake=wake,
        )
        if self._store.is_sqlite:  # the lock says that there is no other daemon
            await read()
        else:
            await Leased(self._store, f"mailbox:{box.name}", self._stop).run(read)
