"""Faults of the database itself: which are, and what is said of them."""

from __future__ import annotations

import sqlite3

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from receiptd import errors
from receiptd.settings import mask_url

_SQLITE_FAULTS = frozenset((
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
))  # fmt: skip
"""What passes. A file that is corrupt doesn't: who meets the bad page again and again must be set aside."""
_POSTGRESQL_FAULTS = ("08", "25006", "40", "53", "55", "57", "58")
"""Beginnings of SQLSTATE: connection, read-only, rollback, resources, locks, operator, system."""


class DatabaseFault(Exception):
    """A fault of the database that we found and no driver raised; `str()` says which."""


def is_down(error: BaseException) -> bool:
    """Whether *error* is the database's own (no room, a lock, read-only, gone), whatever was asked of it."""
    return fault_in(error) is not None


def was_rolled_back(error: BaseException) -> bool:
    """Whether PostgreSQL ended the transaction for another's sake (deadlock, serialization): it may be done again."""
    fault = fault_in(error)
    state = getattr(fault.orig, "sqlstate", None) if isinstance(fault, DBAPIError) else None
    return state in ("40001", "40P01")


def is_corrupt(error: BaseException) -> bool:
    """Whether the database's file isn't one that SQLite can read: no statement of ours is to blame."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF if isinstance(error, DBAPIError) else 0
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def fault_in(error: BaseException | None) -> Exception | None:
    """Return the database's own fault behind *error*.

    What is told last is often another: after SQLite rolled back by itself, that there is no such savepoint.
    """
    seen: list[BaseException | None] = [error]
    for one in seen:
        if isinstance(one, NoConnection | DatabaseFault) or (isinstance(one, DBAPIError) and _is_own(one)):
            return one
        if one is not None:
            seen += [other for other in (one.__cause__, one.__context__) if other not in seen]
    return None


def _is_own(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        # The low octet is the primary code; what the driver itself raises has none.
        return (getattr(error.orig, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_FAULTS
    if state := getattr(error.orig, "sqlstate", None):
        return str(state).startswith(_POSTGRESQL_FAULTS)
    return error.connection_invalidated or isinstance(error, OperationalError)


def explain(error: BaseException, url: URL) -> errors.ReceiptdError:
    """Return the sentence for a database that can't be used as the settings have it."""
    where = mask_url(url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True))
    if isinstance(error, NoSuchModuleError | ModuleNotFoundError):
        return errors.BadSettings(f"{where} needs a driver that isn't installed: pip install 'receiptd[postgresql]'")
    reason = reason_of(error)
    remedy = "make room there" if "full" in reason else "check that it exists and is writable"
    return errors.CantCreate(f"the database {where} can't be used ({reason}): {remedy}")


def reason_of(error: BaseException) -> str:
    """Return the database's own words, without the statement and its values."""
    error = fault_in(error) or error
    said = str(error.orig if isinstance(error, DBAPIError) else error).strip()
    return said.splitlines()[0] if said else type(error).__name__
