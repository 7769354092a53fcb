"""The store: indexes that hot queries use, transactions that share a commit, one daemon on one file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import decide, errors, match, telemetry
from receiptd.escalate import escalate
from receiptd.facts import EventKind, Fact, FoundToken, MatchedBy, Source
from receiptd.models import TABLES, Lease
from receiptd.recipients import Entry, Provenance, attempts, record_one
from receiptd.standing import RecipientRecord
from receiptd.store import (
    Store,
    candidates,
    deadlines,
    dispatches,
    ensure,
    events,
    evidence,
    folders,
    is_down,
    messages,
    reports,
    schema,
    settlement,
    submissions,
    upgrade,
)
from receiptd.store.engine import Trouble, database_url
from tests.databases import empty_database
from tests.steps_fixture import StepsFixture, dsn, open_steps, settings_in


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


class Plans:
    """Asks SQLite how it carries out every SELECT, UPDATE and DELETE while the context lasts."""

    def __init__(self, steps: StepsFixture) -> None:
        store = steps.store
        self._engines = [store._reader.sync_engine, store._writer.sync_engine, *store.threads.engines]
        self.scans: list[str] = []

    def __enter__(self) -> Plans:
        for engine in self._engines:
            event.listen(engine, "before_cursor_execute", self._explain)
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines:
            event.remove(engine, "before_cursor_execute", self._explain)

    def _explain(self, _: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[3] for row in cursor.fetchall()]
            self.scans += [f"{step}: {statement}" for step in steps if step.startswith("SCAN") and not _is_small(step)]


def _is_small(step: str) -> bool:
    """Whether a scan reads an index that holds only what is to be done, ends at a LIMIT, or reads an empty list."""
    pages = ("ix_report_fetched_at", "ix_alert_created_at_id", "ix_event_serial_id", "sqlite_autoindex_message_1")
    to_do = (
        "ix_attempt_unfinished",
        "ix_recipient_next_attempt_at",
        "ix_report_due_at",
        "ix_report_clear",
        "ix_alert_undelivered",
    )
    return step.startswith("SCAN listed VIRTUAL TABLE") or step.endswith(
        ("CONSTANT ROW", "SCAN last", "anon_1", "(subquery-1)", *pages, *to_do)
    )


@pytest.mark.sqlite
async def test_every_hot_query_uses_an_index(steps: StepsFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST", 0)
    monkeypatch.setattr(events, "STRIDE", 1)
    taken = await steps.submitted()
    await steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
    large = dsn("z" * 24) + b"x" * evidence.KEPT
    token = FoundToken(taken.recipients[0].token, MatchedBy.RETURN_PATH)

    def read(session: Session) -> None:
        messages.newest(session, messages.Filter(), limit=10)
        messages.whole(session, taken.message.id)
        found = events.behind(session, events.BEGINNING, limit=10)
        events.of_owner(session, "uid:1000", events.BEGINNING, limit=10)
        events.between(session, found[0].place.serial, events.last(session))
        deadlines.look(session, steps.instant, [("receipts", "INBOX")], 10)
        deadlines.unread(session, steps.instant, [("receipts", "INBOX")])
        deadlines.held(session, steps.instant, steps.instant)
        deadlines.due(session, steps.instant, steps.instant, 10)
        folders.to_clear(session, "receipts", "INBOX", 1, 10)

    with Plans(steps) as plans:
        await steps.claim(10)
        await attempts.recover(steps.store)
        await escalate(steps.store)
        await settlement.begin_reading(steps.store, 10)
        await steps.receive(large)
        assert await evidence.drop_oldest(steps.store) == {"unmatched": 1}
        await dispatches.claim(steps.store, {"ops": 10, "boss": 10})
        key = match.Keys((token,), (taken.message.message_id,))
        await steps.store.query(lambda session: candidates.of_keys(session, [key]))
        async with steps.store.read() as session:
            await reports.spoken_of(session, [taken.message.id])
            await dispatches.undelivered(session)
            await dispatches.gone(session, ["ops"])
            await dispatches.newest(session, limit=10)
            await submissions.oldest(session, timedelta(hours=1))
        await steps.store.query(read)
        await steps.take(idempotency_key="key")
    assert plans.scans == []


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without tables."""
    with empty_database(tmp_path) as url:
        yield url


def _engine(text: str) -> Engine:
    url = database_url(text)
    return create_engine(url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url)


def _execute(url: str, statement: str) -> None:
    engine = _engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_the_migrations_make_what_the_models_say(empty: str) -> None:
    ensure(empty)
    engine = _engine(empty)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, TABLES) == []
    engine.dispose()


@pytest.mark.sqlite
def test_an_upgrade_of_a_current_database_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    upgrade(url)
    before = (tmp_path / "new.db").read_bytes()
    upgrade(url)
    assert (tmp_path / "new.db").read_bytes() == before


def test_a_database_of_a_newer_version_is_refused(empty: str) -> None:
    ensure(empty)
    _execute(empty, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(errors.BadSettings, match="newer receiptd"):
        ensure(empty)
    with pytest.raises(errors.BadSettings, match="newer receiptd"):
        upgrade(empty)


def test_the_newest_migration_is_known_by_its_file() -> None:
    assert schema.newest() == ScriptDirectory.from_config(schema._config()).get_current_head()


def test_a_start_on_tables_of_this_version_imports_no_alembic(empty: str) -> None:
    """A daemon would keep its 9 MB for good."""
    upgrade(empty)
    code = f"import sys, receiptd.daemon, receiptd.store as s; s.ensure({empty!r}); print('alembic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_a_database_of_an_older_version_names_the_command(empty: str) -> None:
    ensure(empty)
    _execute(empty, "DELETE FROM alembic_version")
    with pytest.raises(errors.BadSettings, match="receiptd db upgrade"):
        ensure(empty)


@pytest.mark.sqlite
@pytest.mark.parametrize("make", [ensure, upgrade])
async def test_a_new_database_and_what_lies_beside_it_are_its_users_alone(
    tmp_path: Path, make: Callable[[str], None]
) -> None:
    """Whole messages and tokens stand in it."""
    before = os.umask(0o022)
    try:
        settings = settings_in(tmp_path)
        make(settings.service.database)
        store = Store(settings)
        async with store.write() as session:
            session.add(Lease(name="a", holder="a", until=datetime.now(UTC)))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("receiptd.db*")}
        await store.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("receiptd.db", "receiptd.db-wal", "receiptd.db-shm"), 0o600)


@pytest.mark.sqlite
def test_the_mode_that_somebody_gave_a_database_is_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/receiptd.db"
    (tmp_path / "receiptd.db").touch(0o600)
    (tmp_path / "receiptd.db").chmod(0o640)
    ensure(url)
    assert stat.S_IMODE((tmp_path / "receiptd.db").stat().st_mode) == 0o640


@pytest.mark.sqlite
def test_a_database_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(errors.CantCreate, match="can't be used"):
        ensure(f"sqlite:///{tmp_path}/missing/receiptd.db")


@pytest.mark.sqlite
async def test_a_second_daemon_on_one_file_is_refused(tmp_path: Path) -> None:
    first, second = (Store(settings_in(tmp_path)) for _ in range(2))
    first.lock()
    with pytest.raises(errors.CantCreate, match="another receiptd"):
        second.lock()
    await first.close()
    second.lock()
    await second.close()


async def test_of_works_that_share_a_commit_each_stands_alone(steps: StepsFixture) -> None:
    async def put(session: AsyncSession, name: str) -> str:
        session.add(Lease(name=name, holder=name, until=steps.instant))
        await session.flush()
        if name == "bad":
            raise ValueError(name)
        return name

    works = [steps.store.together(lambda session, name=name: put(session, name)) for name in ("a", "bad", "b")]  # type: ignore[misc]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["a", "bad", "b"]
    async with steps.store.read() as session:
        assert [await session.get(Lease, name) is not None for name in ("a", "bad", "b")] == [True, False, True]


@pytest.mark.sqlite
async def test_a_writer_that_is_cut_off_between_question_and_answer_gives_the_database_back_at_once(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps a closed connection, and its locks, for as long as somebody holds a statement of it."""

    async def cut_off(_: aiosqlite.Cursor) -> None:
        raise asyncio.CancelledError

    async def write() -> None:
        async with steps.store.write() as session:
            session.add(Lease(name="a", holder="a", until=steps.instant))
            await session.flush()
            with monkeypatch.context() as patch:
                patch.setattr(aiosqlite.Cursor, "fetchall", cut_off)
                await session.exec(select(Lease))

    with pytest.raises(asyncio.CancelledError) as held:  # and its frames, and their cursor
        await write()
    async with asyncio.timeout(5), steps.store.write() as session:
        assert await session.get(Lease, "a") is None, "what is cut off is undone"
    assert held.traceback


async def test_a_claimed_recipient_is_left_alone_until_its_lease_ends(steps: StepsFixture) -> None:
    await steps.take()
    assert len(await steps.claim(10)) == 1
    assert await steps.claim(10) == []
    steps.instant += submissions.LEASE + timedelta(seconds=1)
    assert await attempts.recover(steps.store) == 1, "its outcome is unknown"
    assert await steps.claim(10) == []
    steps.instant += steps.store.settings.submission.uncertain_wait
    assert len(await steps.claim(10)) == 1


@pytest.mark.parametrize(
    ("fault", "is_its_own"),
    [
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.OperationalError("connection refused"), True),
        (psycopg.errors.InFailedSqlTransaction(), False),
        (psycopg.errors.CharacterNotInRepertoire(), False),
        (psycopg.errors.UndefinedColumn(), False),
        (sqlite3.OperationalError("no such column"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_of_the_database_is_told_from_one_of_what_it_was_asked(fault: Exception, *, is_its_own: bool) -> None:
    is_operational = isinstance(fault, psycopg.OperationalError | sqlite3.OperationalError)
    wrapper = OperationalError if is_operational else DBAPIError
    assert is_down(wrapper("SELECT 1", {}, fault)) is is_its_own


@pytest.mark.sqlite
async def test_trouble_is_over_when_something_is_written_and_not_by_an_empty_commit(steps: StepsFixture) -> None:
    def set_query_only(mode: str) -> None:
        raw = steps.store.threads.engines[0].raw_connection()
        raw.cursor().execute(f"PRAGMA query_only={mode}")
        raw.close()

    set_query_only("ON")
    with pytest.raises(OperationalError):
        await steps.take()
    assert steps.store.trouble == Trouble(steps.instant, "attempt to write a readonly database")
    steps.pass_time(minutes=1)
    with pytest.raises(OperationalError):
        await steps.take()
    assert steps.store.trouble.since < steps.instant
    set_query_only("OFF")
    async with steps.store.write():
        pass
    assert steps.store.trouble is not None
    await steps.take()
    assert steps.store.trouble is None


# --- figures ------------------------------------------------------------------------------------------------------


class Counted:
    """How many events were counted since: by kind and source."""

    def __init__(self) -> None:
        self._before = self._now()

    def since(self) -> dict[tuple[str, str], float]:
        now = self._now()
        return {key: count - self._before.get(key, 0) for key, count in now.items() if count != self._before.get(key)}

    @staticmethod
    def _now() -> dict[tuple[str, str], float]:
        samples = [s for family in telemetry.EVENTS.collect() for s in family.samples]
        return {(s.labels["kind"], s.labels["source"]): s.value for s in samples}


async def test_every_event_is_counted_once_whoever_records_it(steps: StepsFixture) -> None:
    counted = Counted()
    taken = await steps.submitted()
    report = dsn(taken.recipients[0].token, action="failed", status="5.1.1")
    await steps.receive(report)
    await steps.receive(report + b"a second report of the same fact\n")
    await decide.confirm(steps.store, taken.recipients[0].id, by="boss", reason="she called")
    assert counted.since() == {
        ("queued", "person"): 1,
        ("accepted", "smtp"): 1,
        ("failed", "dsn"): 1,
        ("confirmed", "person"): 1,
        ("met", "clock"): 1,
    }


async def test_what_is_undone_is_not_counted_and_takes_no_count_of_the_others_with_it(steps: StepsFixture) -> None:
    taken = await steps.take("bob@b.test", "carol@c.test")
    counted = Counted()

    async def work(session: AsyncSession, row: RecipientRecord, *, fails: bool) -> None:
        fact = Fact(row.id, EventKind.ACCEPTED, Source.SMTP)
        entry = Entry(row.id, [fact], Provenance("x", steps.instant))
        await record_one(session, steps.store.settings, entry, now=steps.instant)
        if fails:
            raise ZeroDivisionError

    both = [steps.store.together(partial(work, row=row, fails=row.position == 0)) for row in taken.recipients]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError, type(None)]
    with pytest.raises(ZeroDivisionError):
        async with steps.store.write() as session:
            await work(session, taken.recipients[0], fails=True)
    assert counted.since() == {("accepted", "smtp"): 1}


@pytest.mark.sqlite
async def test_who_holds_the_lock_of_the_database_says_so(tmp_path: Path) -> None:
    store = Store(settings_in(tmp_path))
    store.lock()
    assert b'receiptd_lease_holder{name="daemon"} 1.0' in telemetry.exposition()
    await store.close()
    assert b'receiptd_lease_holder{name="daemon"} 0.0' in telemetry.exposition()
