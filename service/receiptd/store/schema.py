"""Migrations: bring an empty or older database to the tables of this version, and know which it has."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from receiptd import errors
from receiptd.settings import mask_url
from receiptd.store.engine import database_url
from receiptd.store.faults import explain

if TYPE_CHECKING:
    from alembic.config import Config

_TABLES = "tables"

# Alembic takes 9 MB, which a daemon keeps for good: only where there is something to migrate is it imported.


def _engine(text: str) -> Engine:
    url = database_url(text)
    if url.get_backend_name() == "sqlite":
        url = url.set(drivername="sqlite")
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        raise explain(error, url) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
    """Let Python commit nothing by itself: tables made in part, where the disk is full, would be in the way."""
    connection.isolation_level = None


def _make_private(url: URL) -> None:
    """Make the file of a SQLite database that isn't there yet, for its user alone: it holds whole messages.

    SQLite would make it as open as the umask allows; what it makes beside it gets the same mode.
    """
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return
    with suppress(OSError):  # it is there already; or it can't be made, which SQLite says with its sentence
        os.close(os.open(str(url.database), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def newest() -> str:
    """Return the revision of this version's tables: the files of the migrations begin with theirs."""
    names = [file.name for file in (files("receiptd") / "migrations" / "versions").iterdir()]
    return max(name.partition("_")[0] for name in names if name.endswith(".py"))


def _is_current(connection: Connection) -> bool:
    """Whether the database has the tables of this version."""
    if "alembic_version" not in inspect(connection).get_table_names():
        return False
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [newest()]


def _config(connection: Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("receiptd") / "migrations"))
    config.attributes["connection"] = connection
    return config


def upgrade(database: str) -> tuple[str | None, str | None]:
    """Bring *database* (a URL) to this version's tables; return the revision before and after; None: no tables.

    Raises CantCreate where it can't be written, BadSettings where it is of a newer version.
    """
    from alembic.migration import MigrationContext

    engine = _engine(database)
    _make_private(engine.url)
    try:
        with _alone(engine) as connection:
            _refuse_newer(connection, database)
            before = MigrationContext.configure(connection).get_current_revision()
            _migrate(connection)
            return before, MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise explain(error, engine.url) from error
    finally:
        engine.dispose()


def is_new(database: str) -> bool:
    """Whether *database* (a URL) has no tables at all; raise CantCreate where it can't be reached."""
    engine = _engine(database)
    try:
        with engine.connect() as connection:
            return not inspect(connection).get_table_names()
    except SQLAlchemyError as error:
        raise explain(error, engine.url) from error
    finally:
        engine.dispose()


def ensure(database: str) -> None:
    """Create the tables in an empty *database*; refuse one of another version with a sentence."""
    engine = _engine(database)
    _make_private(engine.url)
    try:
        with _alone(engine) as connection:
            if not _is_current(connection):
                _make(connection, database)
    except SQLAlchemyError as error:
        raise explain(error, engine.url) from error
    finally:
        engine.dispose()


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that alone may make tables: on SQLite in one transaction, on PostgreSQL in several.

    Migrations of PostgreSQL end transactions in between, so as not to lock one table while they wait for another.
    """
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            yield connection
        return
    with engine.connect() as connection:
        connection.execute(select(func.pg_advisory_lock(func.hashtextextended(_TABLES, 0))))
        try:
            yield connection
        finally:
            connection.invalidate()  # its end gives the lock back


def _migrate(connection: Connection) -> None:
    from alembic import command

    if connection.dialect.name == "postgresql":
        connection.commit()  # from here on Alembic begins and ends transactions
    command.upgrade(_config(connection), "head")


def _make(connection: Connection, database: str) -> None:
    _refuse_newer(connection, database)
    if inspect(connection).get_table_names():
        raise errors.BadSettings(
            f"the database {mask_url(database)} has the tables of an older version: run `receiptd db upgrade` once"
        )
    _migrate(connection)


def _refuse_newer(connection: Connection, database: str) -> None:
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise errors.BadSettings(
            f"the database {mask_url(database)} was written by a newer receiptd (its tables are {current}): "
            "install that version again, or restore the backup made before it"
        )
