"""Bugs on purpose, one a run: a daemon spoiled by one of these must be found by the oracle, or the oracle is no good.

They work on the statements that reach the database, so they spoil whatever code sends them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

_rng = random.Random(9)
_NOTHING = "SELECT 1"


def commit_skipped() -> None:
    """Roll one commit in twenty back and say that it was committed."""
    dialect: Any = DefaultDialect
    commit, rollback = dialect.do_commit, dialect.do_rollback

    def skip(self: Any, dbapi_connection: Any) -> None:
        (rollback if _rng.random() < 0.05 else commit)(self, dbapi_connection)

    dialect.do_commit = skip


def cursor_early() -> None:
    """Move the mailbox's cursor past one report in twenty that wasn't stored."""
    _drop_rows("INSERT INTO report ", lambda: _rng.random() < 0.05)


def outbox_row_dropped() -> None:
    """Raise one alert in ten without the row that carries it to a webhook."""
    _drop_rows("INSERT INTO dispatch ", lambda: _rng.random() < 0.1)


def lease_ignored() -> None:
    """Take recipients, one set in five, without keeping others off them, and take those that are in DATA already."""

    def ignore(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        if statement.startswith("UPDATE recipient SET next_attempt_at=") and "claimed_by" in statement:
            return (_NOTHING, ()) if _rng.random() < 0.2 else (statement, parameters)
        if statement.startswith("SELECT attempt.recipient") and statement.endswith("finished_at IS NULL"):
            return f"{statement} AND 1 = 0", parameters
        return statement, parameters

    event.listen(Engine, "before_cursor_execute", ignore, retval=True)


def _drop_rows(beginning: str, is_dropped: Callable[[], bool]) -> None:
    """Keep some rows of an INSERT from the database."""

    def drop(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        if not statement.startswith(beginning):
            return statement, parameters
        if executemany:
            return statement, [row for row in parameters if not is_dropped()]
        return (_NOTHING, ()) if is_dropped() else (statement, parameters)

    event.listen(Engine, "before_cursor_execute", drop, retval=True)


BUGS = {
    "commit_skipped": {"lost", "wrong", "missed", "doubled"},
    "cursor_early": {"wrong", "missed"},
    "outbox_row_dropped": {"missed"},
    "lease_ignored": {"doubled"},
}
"""Each bug, and the kinds of violation that show it."""
