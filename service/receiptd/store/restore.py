"""A database that comes from a backup: what waited in it may have been sent since, so nobody sends it unasked."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.facts import EventKind, Fact, Source
from receiptd.models import Attempt, Recipient
from receiptd.store import events
from receiptd.store.engine import Store
from receiptd.store.recipients import Beside, Told, record


async def hold_if_restored(store: Store) -> int:
    """Hold what was queued or in flight where the database is older than what was noted beside it; return how many.

    Each is `uncertain` until evidence comes or a person says `retry` (docs/design.md §7).
    """
    async with store.write() as session:
        newest = (await events.last(session)).serial
        held = await _hold(session, store, f"restored:{newest}") if store.is_older_than_noted(newest) else 0
    store.note(newest)
    return held


async def note(store: Store) -> None:
    """Note beside the database how far it is, to know an older one by."""
    async with store.read() as session:
        newest = (await events.last(session)).serial
    store.note(newest)


async def _hold(session: AsyncSession, store: Store, told: str) -> int:
    now = store.now()
    await session.exec(
        update(Attempt)
        .where(col(Attempt.finished_at).is_(None))
        .values(finished_at=now, outcome="uncertain")
        .execution_options(synchronize_session=False)
    )
    rows = (await session.exec(select(Recipient).where(col(Recipient.next_attempt_at).is_not(None)))).all()
    for row in rows:
        submitted_at = row.submitted_at or now
        changes = {
            "next_attempt_at": None,
            "claimed_by": None,
            "claimed_until": None,
            "submitted_at": submitted_at,
            "deadline_at": submitted_at + timedelta(seconds=row.within),
        }
        detail = {"reason": "the database comes from a backup: what was sent since is not known", "restored": True}
        fact = Fact(row.id, EventKind.UNCERTAIN, Source.CLOCK, variant=told, detail=detail)
        await record(session, store.settings, row.id, [fact], Told(told, now), now=now, beside=Beside(changes))
    return len(rows)
