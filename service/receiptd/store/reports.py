"""Reports: how many wait to be settled, those that are set aside, and how people see them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update
from sqlmodel import Session, and_, col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import correlation_token
from receiptd.facts import Verdict
from receiptd.models import EventCopy, EventRow, Recipient, ReportRow

MOST_WAITING, MOST_WAITING_OCTETS = 20_000, 256 << 20
"""Reports that may wait to be settled, and their octets: what is beyond stays in the mailbox until there is room."""


async def set_aside(session: AsyncSession, report: str, reason: str) -> None:
    """Stop trying to read a report; it stays visible."""
    await _close(session, report, verdict=Verdict.SET_ASIDE, reason=shown(reason))


async def _close(session: AsyncSession, report: str, **values: object) -> None:
    await session.exec(
        update(ReportRow)
        .where(col(ReportRow.id) == report)
        .values(due_at=None, **values)
        .execution_options(synchronize_session=False)
    )


def backlog(session: Session) -> tuple[int, int]:
    """Return how many reports wait to be settled and how many octets they are; counted no further than the limit."""
    waiting = select(ReportRow.size).where(col(ReportRow.due_at).is_not(None)).limit(MOST_WAITING).subquery()
    count, octets = session.exec(select(func.count(), func.sum(waiting.c.size)).select_from(waiting)).one()
    return count, octets or 0


def has_room(session: Session) -> bool:
    """Whether more may be fetched: what waits to be settled is bounded on disk, so fetching waits for settling."""
    count, octets = backlog(session)
    return count < MOST_WAITING and octets < MOST_WAITING_OCTETS


def shown(text: str | None) -> str | None:
    """Return foreign text as it may be stored and listed: cut, tokens masked."""
    return None if text is None else correlation_token.mask(text)[:500]


async def newest(
    session: AsyncSession, *, limit: int, after: str | None = None, verdicts: Sequence[Verdict] = ()
) -> list[ReportRow]:
    """Return reports of any of the *verdicts* (none given: all), last fetched first, from behind the id *after*."""
    query = select(ReportRow).order_by(col(ReportRow.fetched_at).desc(), col(ReportRow.id).desc()).limit(limit)
    if verdicts:
        query = query.where(col(ReportRow.verdict).in_(verdicts))
    if after is not None and (last := await session.get(ReportRow, after)) is not None:
        same_time = and_(col(ReportRow.fetched_at) == last.fetched_at, col(ReportRow.id) < last.id)
        query = query.where(or_(col(ReportRow.fetched_at) < last.fetched_at, same_time))
    return list((await session.exec(query)).all())


async def get(session: AsyncSession, report: str) -> ReportRow | None:
    """Return one report."""
    return await session.get(ReportRow, report)


async def spoken_of(session: AsyncSession, reports: Sequence[str]) -> dict[str, list[Recipient]]:
    """Return of which recipients each report told something, in the order of their messages; one query for all."""
    query = (
        select(EventCopy.told_by, Recipient)
        .join(EventRow, col(EventRow.id) == col(EventCopy.event))
        .join(Recipient, col(Recipient.id) == col(EventRow.recipient))
        .where(col(EventCopy.told_by).in_(reports))
        .order_by(col(Recipient.message), col(Recipient.position))
    )
    found: dict[str, dict[str, Recipient]] = {}
    for report, row in (await session.exec(query)).all():
        found.setdefault(report, {})[row.id] = row
    return {report: list(rows.values()) for report, rows in found.items()}
