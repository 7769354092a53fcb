"""The queue of submission: which recipients are due, and the attempt that is committed before DATA."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.models import Attempt, Evidence, Message, Recipient
from receiptd.store.engine import Store

LEASE = timedelta(minutes=15)
"""How long a claimed recipient is left alone: longer than every time-out before DATA together (RFC 5321 §4.5.3.2)."""
IN_DATA = timedelta(minutes=12)
"""How long an attempt in DATA is left alone at least: the 10 minutes of RFC 5321 §4.5.3.2.6 and a margin."""


@dataclass(frozen=True, slots=True)
class Work:
    """One recipient to submit, with its message and the message's bytes.

    *claimed_until* names the claim: another one, by whomever, has another end.
    """

    recipient: Recipient
    message: Message
    content: bytes
    claimed_until: datetime


class NoLongerDue(Exception):
    """Between claim and DATA a report or a person settled the recipient, or another took over: it must not be sent."""


async def claim(store: Store, limit: int) -> list[Work]:
    """Take up to *limit* due recipients, oldest first, and keep others off them for a lease."""
    async with store.write() as session:
        now = store.now()
        due = (
            select(Recipient)
            .where(col(Recipient.next_attempt_at) <= now)
            .order_by(col(Recipient.next_attempt_at))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = (await session.exec(due)).all()
        if not rows:
            return []
        await session.exec(
            update(Recipient)
            .where(col(Recipient.id).in_([row.id for row in rows]))
            .values(next_attempt_at=now + LEASE, claimed_by=store.node, claimed_until=now + LEASE)
            .execution_options(synchronize_session=False)
        )
        return [await _load(session, row, now + LEASE) for row in rows]


async def _load(session: AsyncSession, row: Recipient, claimed_until: datetime) -> Work:
    message = await session.get_one(Message, row.message)
    evidence = await session.get_one(Evidence, message.evidence)
    return Work(row, message, evidence.content, claimed_until)


async def begin(session: AsyncSession, attempt: Attempt, claimed_until: datetime, *, hold: timedelta) -> None:
    """Commit that DATA is about to begin: from here on the outcome is unknown until a reply is committed.

    Raises NoLongerDue unless the claim that ends at *claimed_until* still holds: whoever slept through its
    end, or was overtaken, sends nothing beside the one who took over.
    """
    if await is_in_data(session, attempt.recipient):
        raise NoLongerDue(attempt.recipient)
    session.add(attempt)
    await session.flush()
    until = attempt.started_at + max(hold, IN_DATA)
    held = await session.exec(
        update(Recipient)
        .where(
            col(Recipient.id) == attempt.recipient,
            col(Recipient.next_attempt_at).is_not(None),
            col(Recipient.claimed_by) == attempt.node,
            col(Recipient.claimed_until) == claimed_until,
        )
        .values(next_attempt_at=until, claimed_until=until)
        .execution_options(synchronize_session=False)
    )
    if held.rowcount != 1:
        raise NoLongerDue(attempt.recipient)


async def release(session: AsyncSession, recipient: str, at: datetime) -> None:
    """Give a claimed recipient back, to be taken up again at *at*; nothing was sent."""
    await session.exec(
        update(Recipient)
        .where(col(Recipient.id) == recipient, col(Recipient.next_attempt_at).is_not(None))
        .values(next_attempt_at=at, claimed_by=None, claimed_until=None)
        .execution_options(synchronize_session=False)
    )


async def follow_clock(session: AsyncSession, jump: timedelta) -> None:
    """The clock was set: what waits for its next attempt goes on to wait as long as it would have.

    What is claimed is left alone: it is on its way, and its lease names the claim.
    """
    waiting = select(Recipient.id, Recipient.next_attempt_at).where(
        col(Recipient.next_attempt_at).is_not(None), col(Recipient.claimed_by).is_(None)
    )
    rows = [{"id": name, "next_attempt_at": at + jump} for name, at in (await session.exec(waiting)).all() if at]
    if rows:
        await session.exec(update(Recipient), params=rows)


async def finish(session: AsyncSession, attempt: Attempt, outcome: str, now: datetime) -> None:
    """Write what came of an attempt, whether its beginning was committed or it never came to DATA."""
    attempt.outcome, attempt.finished_at = outcome, now
    await session.merge(attempt)
    await session.flush()


async def is_in_data(session: AsyncSession, recipient: str) -> bool:
    """Whether an attempt for this recipient is in DATA: its outcome is not ours to decide."""
    query = select(Attempt.id).where(Attempt.recipient == recipient, col(Attempt.finished_at).is_(None)).limit(1)
    return (await session.exec(query)).first() is not None


async def oldest(session: AsyncSession, submit_within: timedelta) -> datetime | None:
    """Return since when the oldest recipient waits to be accepted by the relay."""
    waiting = select(func.min(Recipient.submit_by)).where(col(Recipient.next_attempt_at).is_not(None))
    submit_by: datetime | None = (await session.exec(waiting)).one()
    return None if submit_by is None else submit_by - submit_within
