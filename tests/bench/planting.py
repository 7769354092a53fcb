"""Rows by the thousand: what the daemon itself wrote of one message, cloned by the database.

So they are what this revision writes, whatever its columns. A clone's keys follow from its number, so that a
report about it can be made without asking the database.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def key(kind: str, number: int) -> str:
    """Return 24 letters that look as random as a token, and are those of the *number*-th clone."""
    return hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()[:24].translate(_LETTERS)


class Database(Protocol):
    """What the benchmarks need of either engine."""

    url: str

    def rows(self, query: str) -> list[tuple[Any, ...]]: ...

    def clone(self, table: str, values: Mapping[str, str], where: str, numbers: range) -> None: ...

    def run(self, statement: str) -> None: ...


class Sqlite:
    """A SQLite file; every look at it is on a connection of its own, and waits for nobody."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=60)) as connection:
            connection.create_function("bench_key", 2, key, deterministic=True)
            connection.create_function("bench_id", 2, lambda kind, n: f"{kind}{n:031x}", deterministic=True)
            yield connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._open() as connection:
            return connection.execute(query).fetchall()

    def run(self, statement: str) -> None:
        with self._open() as connection:
            connection.execute(statement)

    def clone(self, table: str, values: Mapping[str, str], where: str, numbers: range) -> None:
        """Insert a copy of the row *where* for each of *numbers*, with *values* (SQL of `s.i`) in their columns."""
        with self._open() as connection:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            selected = ", ".join(values.get(column, f't."{column}"') for column in columns)
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA cache_size=-200000")
            connection.execute(
                f"WITH RECURSIVE s(i) AS (SELECT {numbers.start} UNION ALL SELECT i + 1 FROM s "
                f"WHERE i + 1 < {numbers.stop}) INSERT INTO {table} SELECT {selected} FROM s, {table} t WHERE {where}"
            )

    def copy_to(self, path: Path) -> Sqlite:
        """Copy the file, once nobody writes to it."""
        with self._open() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.parent.mkdir(parents=True, exist_ok=True)
        for source in self.path.parent.glob(f"{self.path.name}*"):
            if not source.name.endswith(".lock"):
                shutil.copyfile(source, path.parent / source.name.replace(self.path.name, path.name))
        return Sqlite(path)


_FUNCTIONS = """
CREATE OR REPLACE FUNCTION bench_key(kind text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT translate(left(md5(kind || n), 24), '0123456789abcdef', 'abcdefghijklmnop') $$;
CREATE OR REPLACE FUNCTION bench_id(kind text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT kind || lpad(to_hex(n), 31, '0') $$;
"""


class Postgresql:
    """A database of a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.run(_FUNCTIONS)

    def _open(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._open() as connection:
            return connection.execute(query.encode()).fetchall()

    def run(self, statement: str) -> None:
        with self._open() as connection:
            connection.execute(statement.encode())

    def clone(self, table: str, values: Mapping[str, str], where: str, numbers: range) -> None:
        """Insert a copy of the row *where* for each of *numbers*, with *values* (SQL of `s.i`) in their columns."""
        listed = (
            f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
        )
        columns = [name for (name,) in self.rows(listed)]
        selected = ", ".join(values.get(column, f't."{column}"') for column in columns)
        series = f"generate_series({numbers.start}, {numbers.stop - 1}) s(i)"
        insert = f"INSERT INTO {table} SELECT {selected} FROM {series}, {table} t WHERE {where}"
        self.run(f"SET synchronous_commit = off; {insert}")


@dataclass(frozen=True)
class Clone:
    """The keys of one cloned recipient, as a report about it names them."""

    number: int
    per_message: int

    @property
    def address(self) -> str:
        return f"r{self.number}@d{self.number % 50}.test"

    @property
    def token(self) -> str:
        return key("t", self.number)

    @property
    def envelope_id(self) -> str:
        return key("v", self.number)

    @property
    def message_id(self) -> str:
        return f"<{key('m', self.number // self.per_message)}@a.test>"


def plant(database: Database, template: str, numbers: range, *, per_message: int = 1, events: bool = True) -> None:
    """Clone the message with id *template*, which has one recipient, with all that hangs on it.

    *numbers* are those of the recipients, and begin where a message does.
    """
    ((recipient, evidence),) = database.rows(
        f"SELECT r.id, m.evidence FROM recipient r JOIN message m ON m.id = r.message WHERE m.id = '{template}'"
    )
    messages = range(numbers.start // per_message, -(-numbers.stop // per_message))
    own = "bench_id('e', s.i) || bench_id('e', s.i)"
    database.clone("evidence", {"sha256": own}, f"t.sha256 = '{evidence}'", messages)
    changed = {"id": "bench_id('0', s.i)", "evidence": own, "message_id": "'<' || bench_key('m', s.i) || '@a.test>'"}
    database.clone("message", changed, f"t.id = '{template}'", messages)
    domain = "'d' || (s.i % 50) || '.test'"
    of_recipient = {
        "id": "bench_id('1', s.i)",
        "message": f"bench_id('0', s.i / {per_message})",
        "position": f"s.i % {per_message}",
        "address": f"'r' || s.i || '@' || {domain}",
        "domain": domain,
        "token": "bench_key('t', s.i)",
        "envelope_id": "bench_key('v', s.i)",
    }
    database.clone("recipient", of_recipient, f"t.id = '{recipient}'", numbers)
    if events:
        _plant_events(database, recipient, numbers)


def _plant_events(database: Database, recipient: str, numbers: range) -> None:
    of_recipient = {"id": "bench_id('2', s.i)", "recipient": "bench_id('1', s.i)"}
    attempts = database.rows(f"SELECT id FROM attempt WHERE recipient = '{recipient}' ORDER BY id")
    for (attempt,) in attempts[-1:]:
        database.clone("attempt", of_recipient, f"t.id = '{attempt}'", numbers)
    events = database.rows(f"SELECT id FROM event WHERE recipient = '{recipient}' ORDER BY serial")
    for number, (event,) in enumerate(events):
        named = {"id": f"bench_id('{number + 3}', s.i)", "recipient": "bench_id('1', s.i)"}
        database.clone("event", named, f"t.id = '{event}'", numbers)
        copies = database.rows(f"SELECT id FROM event_copy WHERE event = '{event}'")
        for (copy,) in copies[:1]:
            told = {"id": f"bench_id('{number + 3}c', s.i)", "event": named["id"], "told_by": "bench_id('2', s.i)"}
            database.clone("event_copy", told, f"t.id = '{copy}'", numbers)


def clones(numbers: Sequence[int], per_message: int = 1) -> list[Clone]:
    """Return the keys of the clones with these numbers."""
    return [Clone(number, per_message) for number in numbers]
