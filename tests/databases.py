"""The database of a test: SQLite in the test's folder, or one of its own on the run's PostgreSQL.

`ON_BOTH` says which tests run on both. Each of their tests has the engine in its id, as in `test_x[postgresql]`;
one that is about SQLite itself is marked `sqlite`, one about PostgreSQL itself `postgresql`.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from receiptd.store import ensure
from tests.servers.postgres import Postgres

ENGINES = ("sqlite", "postgresql")

ON_BOTH = frozenset(
    {
        "test_accept.py",
        "test_assign.py",
        "test_constellations.py",
        "test_decide.py",
        "test_escalate.py",
        "test_flow.py",
        "test_leases.py",
        "test_settle.py",
        "test_sets.py",
        "test_store.py",
        "test_submit.py",
        "test_trust.py",
        "test_deliver.py",
        "test_deliver_replay.py",
        "test_deliver_windows.py",
    }
)
"""The modules of tests/ whose tests run on both engines."""


class _Databases:
    """Where databases are made now, and which are there."""

    def __init__(self) -> None:
        self.postgres: Postgres | None = None
        self.made: dict[Path, str] = {}


_databases = _Databases()


def engines_of(module: str, test: pytest.Item) -> list[str]:
    """Return the engines that stand in the ids of a test of *module* (a path below tests/); none: SQLite alone."""
    marked = [engine for engine in ENGINES if test.get_closest_marker(engine)]
    return marked or (list(ENGINES) if module in ON_BOTH else [])


@contextmanager
def databases_on(postgres: Postgres | None) -> Iterator[None]:
    """Let tests have their databases on *postgres*, or on SQLite, while the context lasts."""
    _databases.postgres = postgres
    try:
        yield
    finally:
        for folder in [*_databases.made]:
            drop_database(folder)
        _databases.postgres = None


def database_in(folder: Path) -> str:
    """Return the URL of the database of the test that has *folder*; on PostgreSQL it is there and has its tables."""
    if _databases.postgres is None:
        return f"sqlite:///{folder}/receiptd.db"
    if folder not in _databases.made:
        _databases.made[folder] = _databases.postgres.new_database()
    return _databases.made[folder]


def make_database(folder: Path) -> str:
    """Return the URL of a database with all tables for the test that has *folder*."""
    if _databases.postgres is None:
        shutil.copyfile(_empty_database(), folder / "receiptd.db")
    return database_in(folder)


@contextmanager
def empty_database(folder: Path) -> Iterator[str]:
    """Return the URL of a database that has no tables yet, while the context lasts."""
    if _databases.postgres is None:
        yield f"sqlite:///{folder}/new.db"
        return
    url = _databases.postgres.empty_database()
    try:
        yield url
    finally:
        _databases.postgres.drop(url)


def drop_database(folder: Path) -> None:
    """Remove what `database_in` made on PostgreSQL; SQLite's goes with its folder."""
    url = _databases.made.pop(folder, None)
    if url is not None and _databases.postgres is not None:
        _databases.postgres.drop(url)


@cache
def _empty_database() -> Path:
    """Return an empty SQLite database with all tables, made once for the whole run."""
    path = Path(tempfile.mkdtemp(prefix="rcpt-")) / "empty.db"
    atexit.register(shutil.rmtree, path.parent)
    ensure(f"sqlite:///{path}")
    return path
