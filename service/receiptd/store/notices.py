"""Notices between daemons on one PostgreSQL: LISTEN/NOTIFY wakes the others; polling stays the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import func, select
from sqlmodel import Session

from receiptd.store.engine import Store
from receiptd.watchdog import pause

_log = structlog.get_logger(__name__)

_CHANNEL = "receiptd"
_AGAIN = timedelta(seconds=5)


def tell(session: Session, step: str) -> None:
    """Wake *step* of every daemon once this transaction is committed; on SQLite there is no other."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(select(func.pg_notify(_CHANNEL, step)))


async def listen(store: Store, wake: Callable[[str], None], stop: asyncio.Event) -> None:
    """Call *wake* with the name of each step that a daemon tells of, until *stop*; reconnect for ever."""
    if store.is_sqlite:
        return
    import psycopg  # an extra: only where the database is PostgreSQL

    while not stop.is_set():
        try:
            await _listen(store, wake)
        except (psycopg.Error, OSError) as fault:
            _log.warning("no notices come from other daemons; polling goes on", reason=str(fault).partition("\n")[0])
            await pause(stop, _AGAIN)


async def _listen(store: Store, wake: Callable[[str], None]) -> None:
    import psycopg

    url = store.url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"LISTEN {_CHANNEL}")
        async for notice in connection.notifies():
            wake(notice.payload)
