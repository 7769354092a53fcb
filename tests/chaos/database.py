"""The database, and what happens to it: SQLite's file is locked by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from pathlib import Path
from typing import Protocol

from tests.chaos.journal import Journal


class Database(Protocol):
    """What a run needs of an engine."""

    def start(self) -> None: ...
    def url(self) -> str: ...
    async def strike(self) -> None: ...
    def close(self) -> None: ...


class SQLite:
    """A file in the run's folder."""

    def __init__(self, folder: Path, journal: Journal, rng: random.Random) -> None:
        self._path, self._journal, self._rng = folder / "receiptd.db", journal, rng

    def start(self) -> None:
        """Nothing runs."""

    def url(self) -> str:
        return f"sqlite:///{self._path}"

    async def strike(self) -> None:
        """Lock the file, as somebody's sqlite3 or backup does."""
        await asyncio.to_thread(self._lock, self._rng.uniform(0.2, 1.5))

    def _lock(self, length: float) -> None:
        if not self._path.exists():
            return
        link = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=3, isolation_level=None)
        with contextlib.closing(link), contextlib.suppress(sqlite3.OperationalError):
            link.execute("BEGIN EXCLUSIVE")
            strike = self._journal.strike("database: locked", length)
            time.sleep(length)
            link.execute("ROLLBACK")
            strike.until = time.time()

    def close(self) -> None:
        """Nothing runs."""
