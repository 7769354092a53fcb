"""The database: one way in for writers, one for readers, on SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import errors, telemetry
from receiptd.identifiers import new_id
from receiptd.settings import Settings
from receiptd.store import after_commit
from receiptd.store.faults import DatabaseFault, fault_in, is_down, reason_of, was_rolled_back
from receiptd.store.files import Files
from receiptd.store.ledger import Ledger
from receiptd.store.threads import Done, Threads

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def database_url(text: str) -> URL:
    """Return *text* as a URL with the driver we use; raise BadSettings if it names no database we know."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise errors.BadSettings(
            f"[service] database = {text!r} is no database URL: write sqlite:////path/to/receiptd.db"
        ) from error
    driver = _DRIVERS.get(url.drivername.split("+")[0])
    if driver is None:
        raise errors.BadSettings(f"[service] database: {url.drivername} isn't known; use sqlite:// or postgresql://")
    return url.set(drivername=driver)


def utcnow() -> datetime:
    """Return the wall clock's instant."""
    return datetime.now(UTC)


T = TypeVar("T")
_MOST_TOGETHER = 100
_READERS = 4
"""Connections that read beside the writer of SQLite."""
_LEASE = "daemon"
_MOST_TIMES = 5
"""How often a transaction is done at most that PostgreSQL rolls back for another's sake."""
_DRIFT = timedelta(minutes=1)


_Queued = tuple[Callable[[AsyncSession], Awaitable[Any]], asyncio.Future[Any]]


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class _Spoilt(Exception):
    """The database itself failed: SQLite may have rolled back all, and not this savepoint alone."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


async def _attempt(session: AsyncSession, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
    savepoint, to_tell = await session.begin_nested(), after_commit.mark(session)
    try:
        done = await work(session)
        await savepoint.commit()
    except Exception as error:
        if isinstance(error, OperationalError) or is_down(error):
            raise _Spoilt(fault_in(error) or error) from error
        await savepoint.rollback()
        after_commit.forget(session, to_tell)
        return _Failed(error)
    return done


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the database takes no writes, and since when."""

    since: datetime
    reason: str


class _Connection(sqlite3.Connection):
    """One that is set up before a waiter can be cancelled: nobody closes a half-made connection of a pool."""

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self.execute(f"PRAGMA {pragma}").close()

    def close(self) -> None:
        """Give locks back first: while a statement of a transaction that was cut off is held, SQLite keeps them."""
        with suppress(sqlite3.Error):  # closed already, or the disk fails
            self.rollback()
        super().close()


def _locked(path: Path) -> int:
    """Open *path* and lock it; raise BlockingIOError where another process has, and leave its file alone."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened


class Store:
    """Transactions on the database that the settings name.

    On SQLite there is one writer, and its transactions begin IMMEDIATE: one that reads first and
    writes later could otherwise fail half-way. *node* names this process in claims and leases.
    """

    PATIENCE = 10.0
    """Seconds that somebody who waits for an answer waits for the database."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = utcnow) -> None:
        self.settings = settings
        self.now = clock
        self.node = f"{os.uname().nodename}/{os.getpid()}/{new_id(utcnow())[-6:]}"
        self.url = database_url(settings.service.database)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.spoilt: dict[str, datetime] = {}
        """Reports whose last try the database spoilt, and when each is due again (see reports.spoil)."""
        self.trouble: Trouble | None = None
        """What keeps the database from taking writes, as far as we know."""
        self.ledger: Ledger | None = None
        """Where attempts are noted before DATA; None: this isn't a daemon's (see restore.begin)."""
        self.files = Files(Path(str(self.url.database))) if self._has_file else None
        """The database's files, to know by whether we still write to them; None: there are none."""
        self.groups: dict[str, Any] = {}
        """Those who commit in sets together, by name (see group_commit)."""
        self._lock: int | None = None
        self._writing = asyncio.Lock()
        self._waiting: list[_Queued] = []
        self._committer: asyncio.Task[None] | None = None
        self._writer = self._engine(is_writer=True)
        self._reader = self._engine(is_writer=False) if self.is_sqlite else self._writer
        writer = self._engine_of_threads(is_writer=True)
        self.threads = Threads(writer, self._engine_of_threads(is_writer=False) if self.is_sqlite else writer)

    def clock_offset(self) -> float:
        """Return the wall clock less the time since boot, in seconds: constant unless somebody sets the clock."""
        # CLOCK_MONOTONIC stands still while the machine is suspended: that time has passed for deadlines too.
        return self.now().timestamp() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def clock_jumped(self, offset: float) -> bool:
        """Whether the clock was set since it stood *offset* seconds apart: instants noted before mean nothing now."""
        return abs(self.clock_offset() - offset) > _DRIFT.total_seconds()

    def _engine(self, *, is_writer: bool) -> AsyncEngine:
        engine = create_async_engine(self.url, **self._engine_options(is_writer=is_writer))
        self._prepare(engine.sync_engine, is_writer=is_writer)
        return engine

    def _engine_of_threads(self, *, is_writer: bool) -> Engine:
        """Return an engine for the threads that run whole transactions."""
        url = self.url.set(drivername="sqlite") if self.is_sqlite else self.url
        options = self._engine_options(is_writer=is_writer)
        if self.is_sqlite:
            options["connect_args"]["check_same_thread"] = False
        engine = create_engine(url, **options)
        self._prepare(engine, is_writer=is_writer)
        return engine

    def _engine_options(self, *, is_writer: bool) -> dict[str, Any]:
        if not self.is_sqlite:
            # A prepared statement fails once a newer version has changed a table, and behind a pooler of transactions.
            unprepared = {"prepare_threshold": None}
            return {"pool_size": 10, "pool_pre_ping": True, "hide_parameters": True, "connect_args": unprepared}
        return {
            "pool_size": 1 if is_writer else _READERS,
            "max_overflow": 0,
            "pool_timeout": 300,
            "hide_parameters": True,
            "connect_args": {"factory": _Connection, "isolation_level": None},
        }

    def _prepare(self, engine: Engine, *, is_writer: bool) -> None:
        if not self.is_sqlite:
            return
        begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"
        if is_writer and self.files is not None:
            event.listen(engine, "connect", self._reopened)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))

    async def transact(self, work: Callable[[Session], T]) -> T:
        """Run *work* in one transaction on a thread of its own: one hop, however many statements.

        It is committed when *work* returns and rolled back if it raises. What is handed over here is done even if
        the caller is cancelled. Where PostgreSQL rolls it back for another's sake, *work* is run again.
        """
        return await asyncio.shield(asyncio.ensure_future(self._transact(work)))

    async def _transact(self, work: Callable[[Session], T]) -> T:
        try:
            done = await self._repeated(work)
        except Exception as error:
            if is_down(error):
                self._note_trouble(error)
            raise
        after_commit.tell(done.session)
        if done.has_written:
            self.trouble = None
        return done.result

    async def _repeated(self, work: Callable[[Session], T]) -> Done[T]:
        for _ in range(_MOST_TIMES - 1):
            try:
                return await self._once(work)
            except Exception as error:
                if not was_rolled_back(error):
                    raise
        return await self._once(work)

    async def _once(self, work: Callable[[Session], T]) -> Done[T]:
        async with self._alone(), self._on_our_files():
            return await self.threads.write(work, counts_changes=self.trouble is not None)

    async def query(self, work: Callable[[Session], T]) -> T:
        """Run *work*, which only reads, in one consistent look on a thread, on SQLite beside the writer."""
        return await self.threads.read(work)

    @property
    def _has_file(self) -> bool:
        return self.is_sqlite and self.url.database not in (None, "", ":memory:")

    def _reopened(self, *_: object) -> None:
        if self.files is not None:
            self.files.reopened()

    def lock(self) -> None:
        """Make this the only daemon on a SQLite file; raise CantCreate if there is another."""
        if not self._has_file:
            return
        path = Path(f"{self.url.database}.lock")
        try:
            self._lock = _locked(path)
        except BlockingIOError as error:
            raise errors.CantCreate(
                f"another receiptd already works on {self.url.database}: stop it first, "
                "or give this one a database of its own (one SQLite file, one daemon)"
            ) from error
        except OSError as error:
            raise errors.CantCreate(
                f"can't write to {path.parent} ({error.strerror}): give the service's user write access there, "
                "or name another database under [service]"
            ) from error
        telemetry.LEASE_HOLDER.labels(_LEASE).set(1)

    async def close(self) -> None:
        """Close every connection and give the lock back."""
        self.threads.shut_down()
        if self.files is not None and self.files.are_to_be_left:
            self.files.put_log_aside()
        else:
            self.threads.dispose()
            await self._writer.dispose()
            if self._reader is not self._writer:
                await self._reader.dispose()
        if self.ledger is not None:
            self.ledger.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            telemetry.LEASE_HOLDER.labels(_LEASE).set(0)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction that writes: committed at the end, rolled back by any exception."""
        is_mended = False
        try:
            async with self._alone(), self._on_our_files(), self._session(self._writer) as session:
                before = await self._changes(session) if self.trouble else 0
                yield session
                is_mended = self.trouble is not None and await self._changes(session) > before
        except Exception as error:
            if is_down(error):
                self._note_trouble(error)
            raise
        after_commit.tell(session)
        if is_mended:
            self.trouble = None

    @asynccontextmanager
    async def _on_our_files(self) -> AsyncIterator[None]:
        """Take nothing for committed that went to a file which no path names any more."""
        if self.files is None:
            yield
            return
        if fault := self.files.look_inside():
            raise DatabaseFault(fault)
        try:
            yield
        except BaseException:
            self.files.reopened()  # what was cut off may still be on its way to them
            raise
        if fault := self.files.look_after_commit():
            raise DatabaseFault(fault)

    def _note_trouble(self, error: Exception) -> None:
        since = self.trouble.since if self.trouble else self.now()
        self.trouble = Trouble(since, reason_of(error))

    def _alone(self) -> AbstractAsyncContextManager[Any]:
        return self._writing if self.is_sqlite else nullcontext()

    async def _changes(self, session: AsyncSession) -> int:
        """Return a number that grows with what is written: to begin and end a transaction may need no room."""
        await session.flush()
        if not self.is_sqlite:
            return time.monotonic_ns()
        raw = (await (await session.connection()).get_raw_connection()).driver_connection
        return int(raw.total_changes) if raw is not None else 0

    async def together(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run *work* in a transaction that it may share with others waiting just now (group commit).

        Each has a savepoint of its own: one that raises takes nothing of the others with it, unless it is
        the database that failed (no room, a lock): then nothing of any is stored. Returns when all is on disk.
        What is handed over here is done even if the caller is cancelled.
        """
        done: T = await asyncio.shield(self._queued(work))
        return done

    async def promptly(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Do as `together` for somebody who waits for an answer.

        Raises DatabaseFault where *work* could not even begin for ten seconds: then it never does.
        """
        result = self._queued(work)
        await asyncio.wait((result,), timeout=self.PATIENCE)
        if not result.done() and (work, result) in self._waiting:
            self._waiting.remove((work, result))
            raise self.out_of_patience()
        done: T = await asyncio.shield(result)
        return done

    def out_of_patience(self) -> DatabaseFault:
        """Return, and note, that the database could not even begin for too long."""
        fault = DatabaseFault(f"another process has kept it locked for {self.PATIENCE:.0f} seconds, or the disk hangs")
        self._note_trouble(fault)
        return fault

    def _queued(self, work: Callable[[AsyncSession], Awaitable[Any]]) -> asyncio.Future[Any]:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, result))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_waiting())
        return result

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch: list[_Queued] = []
            outcomes = await self._commit(batch)
            for _ in range(_MOST_TIMES - 1):
                if not any(isinstance(one, _Failed) and was_rolled_back(one.error) for one in outcomes):
                    break
                outcomes = await self._commit(batch)
            for (_, result), outcome in zip(batch, outcomes, strict=True):
                if result.done():
                    continue
                if isinstance(outcome, _Failed):
                    result.set_exception(outcome.error)
                else:
                    result.set_result(outcome)

    async def _commit(self, batch: list[_Queued]) -> list[Any]:
        """Do what waits, as *batch*, in one transaction; return what each returned, or how it failed.

        Nothing is taken before the transaction has begun: until then somebody may lose patience.
        """
        spoilt: Exception | None = None
        try:
            async with self.write() as session:
                await session.connection()
                if not batch:
                    self._take(batch)
                try:
                    return [await _attempt(session, work) for work, _ in batch]
                except _Spoilt as fault:
                    spoilt = fault.error
                    raise
        except Exception as error:
            if not batch:
                self._take(batch)
            # The rollback may fail as well, where SQLite did it before us; the first fault is the one to tell.
            return [_Failed(spoilt or fault_in(error) or error)] * len(batch)

    def _take(self, batch: list[_Queued]) -> None:
        batch += self._waiting[:_MOST_TOGETHER]
        del self._waiting[:_MOST_TOGETHER]

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent look, on SQLite beside the writer."""
        async with self._session(self._reader) as session:
            yield session

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine, expire_on_commit=False, autoflush=False) as session, session.begin():
            yield session
