"""Deadlines: which recipients are to be judged, and up to which instant we may judge at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.models import Folder, Recipient
from receiptd.store import reports


async def horizon(session: AsyncSession, folders: Sequence[tuple[str, str]]) -> datetime | None:
    """Return the instant up to which every folder was searched and all it held is settled.

    A deadline after it can't be judged yet: the receipt may lie in a folder that nobody has read
    since. None: some folder was never read. *folders* are (mailbox, folder) pairs that must be read.
    """
    read_at = await last_read(session, folders)
    unsettled = await reports.oldest_unsettled(session)
    return read_at if read_at is None or unsettled is None else min(read_at, unsettled)


async def last_read(session: AsyncSession, folders: Sequence[tuple[str, str]]) -> datetime | None:
    """Return when the last complete read of all *folders* began; None where some folder was never read."""
    instants: list[datetime] = []
    for mailbox, name in folders:
        folder = await session.get(Folder, (mailbox, name), populate_existing=True)
        if folder is None or folder.read_at is None:
            return None
        instants.append(folder.read_at)
    return min(instants, default=None)


async def unread(session: AsyncSession, now: datetime, read_at: datetime | None) -> datetime | None:
    """Return the last deadline that has passed since the folders were read at *read_at*; None where none has."""
    query = select(func.max(Recipient.judge_at)).where(
        col(Recipient.submitted_at).is_not(None), col(Recipient.judge_at) <= now
    )
    if read_at is not None:
        query = query.where(col(Recipient.judge_at) > read_at)
    passed: datetime | None = (await session.exec(query)).one()
    return passed


async def due(session: AsyncSession, now: datetime, upto: datetime | None, limit: int) -> list[Recipient]:
    """Return recipients to judge, oldest first: what isn't submitted by the clock, all else up to the horizon."""
    unsubmitted = select(Recipient).where(col(Recipient.submitted_at).is_(None), col(Recipient.judge_at) <= now)
    rows = list((await session.exec(unsubmitted.order_by(col(Recipient.judge_at)).limit(limit))).all())
    if upto is not None:
        submitted = select(Recipient).where(
            col(Recipient.submitted_at).is_not(None), col(Recipient.judge_at) <= min(now, upto)
        )
        rows += (await session.exec(submitted.order_by(col(Recipient.judge_at)).limit(limit))).all()
    return rows


async def held(session: AsyncSession, now: datetime, upto: datetime | None) -> int:
    """Return how many deadlines have passed that can't be judged yet."""
    query = select(func.count()).where(col(Recipient.submitted_at).is_not(None), col(Recipient.judge_at) <= now)
    if upto is not None:
        query = query.where(col(Recipient.judge_at) > upto)
    return (await session.exec(query)).one()


_FOLLOW = (
    *("submit_by", "give_up_at", "submitted_at", "deadline_at", "judge_at"),
    *("incident_opened_at", "acknowledged_until"),
)


async def follow_clock(session: AsyncSession, jump: timedelta) -> None:
    """The clock was set: what is still to be sent or judged has as much time left as before.

    Its events keep the times that were observed: they are facts. What is settled keeps its own times too.
    """
    query = select(Recipient).where(
        or_(col(Recipient.judge_at).is_not(None), col(Recipient.next_attempt_at).is_not(None))
    )
    for row in (await session.exec(query.with_for_update())).all():
        for name in _FOLLOW:
            if (at := getattr(row, name)) is not None:
                setattr(row, name, at + jump)
    await session.flush()


async def push_ahead(session: AsyncSession, recipient: str, at: datetime) -> None:
    """Look at a recipient that raised an error later, so that it doesn't stop those behind it."""
    await session.exec(
        update(Recipient)
        .where(col(Recipient.id) == recipient)
        .values(judge_at=at)
        .execution_options(synchronize_session=False)
    )
