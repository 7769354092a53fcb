"""Leases: what only one of the daemons on a database does, and which of them does it now."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlmodel import Session

from receiptd.store.tables import LEASE

LASTS = timedelta(seconds=30)
"""How long a lease outlives its holder's last sign of life: then another daemon takes over."""
RENEW_EVERY = timedelta(seconds=8)


def hold(session: Session, name: str, holder: str, *, now: datetime) -> bool:
    """Take the lease *name* for *holder*, or renew it; return False where another one holds it."""
    insert = insert_sqlite if session.get_bind().dialect.name == "sqlite" else insert_postgresql
    wanted = insert(LEASE).values(name=name, holder=holder, until=now + LASTS)
    is_free = or_(LEASE.c.holder == holder, LEASE.c.until < now)
    taken = {"holder": wanted.excluded.holder, "until": wanted.excluded.until}
    upsert = wanted.on_conflict_do_update(index_elements=["name"], set_=taken, where=is_free)
    return session.connection().execute(upsert.returning(LEASE.c.name)).first() is not None


def give_back(session: Session, name: str, holder: str, *, now: datetime) -> None:
    """Let others take the lease *name* at once, if *holder* has it."""
    mine = (LEASE.c.name == name, LEASE.c.holder == holder)
    session.connection().execute(update(LEASE).where(*mine).values(until=now - timedelta(seconds=1)))
