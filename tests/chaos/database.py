"""The database, and what happens to it: a file that somebody else locks, a server that cuts connections or crashes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Protocol

import psycopg

from tests.chaos.journal import Journal
from tests.servers.postgres import Postgres

_CLONE_NEWNS = 0x20000
_ROOM = "size=2g"


class Database(Protocol):
    """What a run needs of an engine."""

    def start(self) -> None: ...
    def url(self) -> str: ...
    async def strike(self) -> None: ...
    def close(self) -> None: ...


class SQLite:
    """A file in the run's folder; *can_fill*: on a file system of its own that gets full."""

    def __init__(self, folder: Path, journal: Journal, rng: random.Random, *, can_fill: bool) -> None:
        self._folder, self._journal, self._rng, self._can_fill = folder / "database", journal, rng, can_fill
        self._path = self._folder / "receiptd.db"

    def start(self) -> None:
        self._folder.mkdir()
        if self._can_fill:
            _leave_the_machines_mounts()
            subprocess.run(["mount", "-t", "tmpfs", "-o", _ROOM, "tmpfs", self._folder], check=True)

    def url(self) -> str:
        return f"sqlite:///{self._path}"

    async def strike(self) -> None:
        """Lock the file, as somebody's sqlite3 or backup does, or let the disk be full."""
        do = self._fill if self._can_fill and self._rng.random() < 0.5 else self._lock
        await asyncio.to_thread(do, self._rng.uniform(0.2, 1.5))

    def _fill(self, length: float) -> None:
        strike = self._journal.strike("database: disk full", length)
        used = shutil.disk_usage(self._folder).used
        subprocess.run(["mount", "-o", f"remount,size={used + 4096}", self._folder], check=True)
        try:
            time.sleep(length)
        finally:
            subprocess.run(["mount", "-o", f"remount,{_ROOM}", self._folder], check=True)
            strike.until = time.time()

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
        if self._can_fill:
            subprocess.run(["umount", "--lazy", self._folder], check=True)


def _leave_the_machines_mounts() -> None:
    """Mount for this process and its children alone, so that nothing is left behind whatever ends them."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "no mount namespace here")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class PostgreSQL:
    """A server of its own, with every commit flushed to the disk."""

    def __init__(self, journal: Journal, rng: random.Random) -> None:
        self._journal, self._rng = journal, rng
        self._server = Postgres(durable=True)
        self._url = ""
        self._is_busy = asyncio.Lock()

    def start(self) -> None:
        self._server.start()
        self._url = self._server.empty_database()

    def url(self) -> str:
        return self._url

    async def strike(self) -> None:
        """Cut every connection, or kill the whole server and start it again."""
        async with self._is_busy:
            await asyncio.to_thread(self._crash if self._rng.random() < 0.25 else self._cut)

    def _cut(self) -> None:
        self._journal.strike("database: connections cut")
        with contextlib.suppress(psycopg.OperationalError):
            self._server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def _crash(self) -> None:
        strike = self._journal.strike("database: crash and restart", 60)
        self._server.server.stop()
        time.sleep(self._rng.uniform(0, 1.5))
        self._server.start()
        strike.until = time.time()

    def close(self) -> None:
        self._server.close()
