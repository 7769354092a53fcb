"""Attempts whose outcome nobody knows: what a dead process left, and what the relay never answered."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.facts import EventKind, Fact, Source
from receiptd.models import Attempt, Recipient
from receiptd.recipients.move import Entry, Provenance, SideEffects
from receiptd.recipients.record import record_one
from receiptd.store import Store, queue


async def recover(store: Store) -> int:
    """Take over what dead processes left: claims are given back, attempts in DATA become uncertain.

    On SQLite the lock says that every other process is dead. Elsewhere, and for our own, an attempt
    is only taken over when its hold is over. Returns the number of attempts.
    """
    async with store.write() as session:
        now = store.now()
        is_over = col(Attempt.started_at) < now - max(queue.IN_DATA, store.settings.submission.uncertain_wait)
        if store.is_sqlite:
            is_over = or_(is_over, col(Attempt.node) != store.node)
        left = select(Attempt).where(col(Attempt.finished_at).is_(None), is_over)
        attempts = (await session.exec(left)).all()
        for attempt in attempts:
            await make_uncertain(session, store, attempt, "receiptd stopped while the relay's answer was out")
        if store.is_sqlite:
            await session.exec(
                update(Recipient)
                .where(
                    col(Recipient.next_attempt_at).is_not(None),
                    col(Recipient.claimed_by).is_not(None),
                    col(Recipient.claimed_by) != store.node,
                )
                .values(next_attempt_at=now, claimed_by=None, claimed_until=None)
                .execution_options(synchronize_session=False)
            )
        return len(attempts)


async def make_uncertain(
    session: AsyncSession, store: Store, attempt: Attempt, reason: str, dot_at: datetime | None = None
) -> None:
    """Record that the outcome of *attempt* is unknown; it is sent again only after the wait for evidence.

    The final dot was sent at *dot_at*, or, as far as we know, at any time since the attempt began.
    """
    now = store.now()
    attempt.finished_at, attempt.outcome = now, "uncertain"
    await session.merge(attempt)
    row = await session.get_one(Recipient, attempt.recipient, populate_existing=True)
    told = Provenance(attempt.id, dot_at or attempt.started_at)
    submitted_at = row.submitted_at or told.observed_at
    fact = Fact(row.id, EventKind.UNCERTAIN, Source.SMTP, variant=attempt.id, detail={"reason": reason})
    changes = {
        "next_attempt_at": now + store.settings.submission.uncertain_wait,
        "attempts": row.attempts + 1,
        "claimed_by": None,
        "claimed_until": None,
        "submitted_at": submitted_at,
        "deadline_at": submitted_at + timedelta(seconds=row.within),
    }
    await record_one(session, store.settings, Entry(row.id, [fact], told, SideEffects(changes)), now=now)
