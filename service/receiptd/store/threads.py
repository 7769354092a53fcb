"""The threads on which whole transactions run: SQL never holds up the event loop, and costs one hop a transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Engine
from sqlmodel import Session

T = TypeVar("T")
_READERS, _WRITERS = 4, 4
"""Threads that read, and on PostgreSQL that write; SQLite has one writer."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A transaction that is committed; *has_written* says for sure that the disk took something."""

    result: T
    session: Session
    has_written: bool


class Threads:
    """The threads that run whole transactions, and their connections."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self._writer, self._reader = writer, reader
        self._is_sqlite = writer.dialect.name == "sqlite"
        self._writers = ThreadPoolExecutor(1 if self._is_sqlite else _WRITERS, "sql-write")
        self._readers = ThreadPoolExecutor(_READERS, "sql-read")

    @property
    def engines(self) -> tuple[Engine, Engine]:
        """The engine that writes, and the one that reads."""
        return self._writer, self._reader

    async def write(self, work: Callable[[Session], T], *, counts_changes: bool) -> Done[T]:
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._write, work, counts_changes)

    def _write(self, work: Callable[[Session], T], counts_changes: bool) -> Done[T]:
        with Session(self._writer, expire_on_commit=False, autoflush=False) as session:
            with session.begin():
                before = self._changes(session) if counts_changes else 0
                result = work(session)
                session.flush()
                has_written = counts_changes and self._changes(session) > before
            return Done(result, session, has_written)

    def _changes(self, session: Session) -> int:
        """Return a number that grows with what is written: to begin and end a transaction may need no room."""
        if not self._is_sqlite:
            return time.monotonic_ns()
        return int(cast(Any, session.connection().connection.driver_connection).total_changes)

    async def read(self, work: Callable[[Session], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[Session], T]) -> T:
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session, session.begin():
            return work(session)

    def shut_down(self) -> None:
        """Wait for what runs, and start nothing more."""
        self._writers.shutdown()
        self._readers.shutdown()

    def dispose(self) -> None:
        """Close every connection."""
        for engine in {self._writer, self._reader}:
            engine.dispose()
