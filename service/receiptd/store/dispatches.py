"""Dispatches: which alert goes to which webhook next, and what came of every attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, update
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, exists, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.identifiers import new_id
from receiptd.models import Alert, Dispatch, DispatchAttempt
from receiptd.store.engine import Store

IN_FLIGHT = timedelta(minutes=1)
"""How long a claimed dispatch is left alone: the 15 s time-out of a POST and a margin."""

ENDS = ("resolved", "clear")
"""Kinds of alert that end something: they are for those who were told of its beginning."""
NO_ANSWER = "no answer is on record: the post is under way, or receiptd was stopped before one came"


@dataclass(frozen=True, slots=True)
class Post:
    """One alert to send to one webhook now, and the id of the attempt."""

    dispatch: Dispatch
    alert: Alert
    attempt: str


async def claim(store: Store, room: Mapping[str, int]) -> list[Post]:
    """Take what is due, as many for each webhook as it has *room*; commit the attempts: from here on it may know.

    A resolution waits until no alert of its incident is still on its way to the same webhook.
    """
    async with store.write() as session:
        now = store.now()
        found = [pair for webhook, limit in room.items() for pair in await due(session, webhook, limit, now)]
        posts = [Post(dispatch, alert, new_id(now)) for dispatch, alert in found]
        for post in posts:
            post.dispatch.attempts += 1
            post.dispatch.due_at = now + IN_FLIGHT
        session.add_all(
            DispatchAttempt(
                id=post.attempt, dispatch=post.dispatch.id, started_at=now, milliseconds=0, reason=NO_ANSWER
            )
            for post in posts
        )
        return posts


async def due(session: AsyncSession, webhook: str, limit: int, now: datetime) -> Sequence[tuple[Dispatch, Alert]]:
    """Return what is due at *webhook*, locked: no other process takes it."""
    query = (
        select(Dispatch, Alert)
        .join(Alert, col(Alert.id) == col(Dispatch.alert))
        .where(col(Dispatch.due_at) <= now, Dispatch.webhook == webhook, ~_must_wait())
        .order_by(col(Dispatch.due_at))
        .limit(limit)
        .with_for_update(skip_locked=True, of=Dispatch)
    )
    return (await session.exec(query)).all()


def _must_wait() -> Any:
    """Whether an alert that ends something must wait for one of what it ends, on its way to the same webhook."""
    earlier, other = aliased(Alert), aliased(Dispatch)
    on_its_way = (
        col(other.alert) == col(earlier.id),
        other.webhook == Dispatch.webhook,
        col(other.due_at).is_not(None),
        col(earlier.kind).not_in(ENDS),
    )
    of_incident = and_(earlier.recipient == Alert.recipient, earlier.incident == Alert.incident)
    of_monitor = and_(col(earlier.recipient).is_(None), earlier.subject == Alert.subject)
    return and_(
        col(Alert.kind).in_(ENDS),
        case(
            (col(Alert.recipient).is_(None), exists(select(other.id).where(*on_its_way, of_monitor))),
            else_=exists(select(other.id).where(*on_its_way, of_incident)),
        ),
    )


async def keep_answer(
    session: AsyncSession, post: Post, milliseconds: int, status: int | None, reason: str | None
) -> None:
    """Keep what came of one POST."""
    await session.exec(
        update(DispatchAttempt)
        .where(col(DispatchAttempt.id) == post.attempt)
        .values(milliseconds=milliseconds, status=status, reason=reason)
        .execution_options(synchronize_session=False)
    )


async def delivered(session: AsyncSession, post: Post, now: datetime) -> None:
    """The endpoint acknowledged: done, and what is stranded here is due, the oldest first."""
    await _finish(session, post.dispatch, "delivered", now)
    await session.exec(
        update(Alert)
        .where(col(Alert.id) == post.alert.id)
        .values(undelivered=False)
        .execution_options(synchronize_session=False)
    )
    await session.exec(
        update(Dispatch)
        .where(
            col(Dispatch.alert).in_(select(Alert.id).where(col(Alert.undelivered))),
            col(Dispatch.webhook) == post.dispatch.webhook,
            col(Dispatch.due_at) > now,
            ~is_under_way(now),
        )
        .values(due_at=since_raised(now))
        .execution_options(synchronize_session=False)
    )


def since_raised(now: datetime) -> Any:
    """Return when the alert of a dispatch was raised: due at once, and in that order."""
    created_at = select(Alert.created_at).where(Alert.id == Dispatch.alert).scalar_subquery()
    return case((created_at < now, created_at), else_=now)


def is_under_way(now: datetime) -> Any:
    """Whether a dispatch is being posted right now: nobody else may take it."""
    return exists(
        select(DispatchAttempt.id).where(
            DispatchAttempt.dispatch == Dispatch.id,
            DispatchAttempt.reason == NO_ANSWER,
            col(DispatchAttempt.started_at).between(now - IN_FLIGHT, now + IN_FLIGHT),
        )
    )


async def again(session: AsyncSession, dispatch: Dispatch, at: datetime) -> None:
    """The endpoint didn't take it: try again at *at*, unless somebody else has taken it up since."""
    await session.exec(
        update(Dispatch)
        .where(
            col(Dispatch.id) == dispatch.id,
            col(Dispatch.outcome) == "pending",
            col(Dispatch.attempts) == dispatch.attempts,
        )
        .values(due_at=at)
        .execution_options(synchronize_session=False)
    )


async def end(session: AsyncSession, dispatch: Dispatch, outcome: str, now: datetime) -> None:
    """Try this endpoint no more for this alert."""
    await _finish(session, dispatch, outcome, now)


async def _finish(session: AsyncSession, dispatch: Dispatch, outcome: str, now: datetime) -> None:
    """Note how it ended; what an endpoint has acknowledged stays so, whoever else is told something else."""
    which = col(Dispatch.id) == dispatch.id
    await session.exec(
        update(Dispatch)
        .where(which if outcome == "delivered" else and_(which, col(Dispatch.outcome) == "pending"))
        .values(outcome=outcome, due_at=None, finished_at=now)
        .execution_options(synchronize_session=False)
    )


async def follow_clock(session: AsyncSession, jump: timedelta) -> None:
    """The clock was set: what waits goes on to wait as long as it would have, neither for hours nor not at all."""
    rows = (await session.exec(select(Dispatch).where(col(Dispatch.due_at).is_not(None)).with_for_update())).all()
    for row in rows:
        if row.due_at is not None:
            row.due_at += jump
    await session.flush()


async def gone(session: AsyncSession, webhooks: Sequence[str]) -> dict[str, datetime]:
    """Return the webhooks whose newest finished dispatch got 410 Gone, and when: they are off until a replay."""
    found = {}
    for name in webhooks:
        query = (
            select(Dispatch.outcome, Dispatch.finished_at)
            .where(
                Dispatch.webhook == name,
                col(Dispatch.finished_at).is_not(None),
                col(Dispatch.outcome).in_(("delivered", "gone")),
            )
            .order_by(col(Dispatch.finished_at).desc())
            .limit(1)
        )
        outcome, at = (await session.exec(query)).first() or (None, None)
        if outcome == "gone" and at is not None:
            found[name] = at
    return found


async def undelivered(session: AsyncSession) -> int:
    """Return how many alerts no endpoint took."""
    return (await session.exec(select(func.count()).where(col(Alert.undelivered)))).one()


async def backlog(session: AsyncSession) -> dict[str, int]:
    """Return how many dispatches each webhook has yet to take."""
    query = (
        select(Dispatch.webhook, func.count()).where(col(Dispatch.due_at).is_not(None)).group_by(col(Dispatch.webhook))
    )
    return dict((await session.exec(query)).all())


async def alert(session: AsyncSession, key: str) -> Alert | None:
    """Return one alert, or None if there is none of that id."""
    return await session.get(Alert, key)


@dataclass(frozen=True, slots=True)
class Sent:
    """An alert with every dispatch and attempt."""

    alert: Alert
    dispatches: tuple[Dispatch, ...]
    attempts: tuple[DispatchAttempt, ...]


async def newest(
    session: AsyncSession, *, limit: int, after: tuple[datetime, str] | None = None, types: Sequence[str] = ()
) -> list[Sent]:
    """Return alerts of any of the *types* (none given: all), newest first, with what became of them.

    *after* is (created_at, id) of the last one seen.
    """
    query = select(Alert).order_by(col(Alert.created_at).desc(), col(Alert.id).desc()).limit(limit)
    if types:
        query = query.where(col(Alert.type).in_(types))
    if after is not None:
        at, key = after
        query = query.where((col(Alert.created_at) < at) | ((col(Alert.created_at) == at) & (col(Alert.id) < key)))
    rows = (await session.exec(query)).all()
    dispatches = (await session.exec(select(Dispatch).where(col(Dispatch.alert).in_([r.id for r in rows])))).all()
    attempts = (
        await session.exec(
            select(DispatchAttempt)
            .where(col(DispatchAttempt.dispatch).in_([dispatch.id for dispatch in dispatches]))
            .order_by(col(DispatchAttempt.started_at))
        )
    ).all()
    return [_sent(row, dispatches, attempts) for row in rows]


def _sent(alert: Alert, dispatches: Sequence[Dispatch], attempts: Sequence[DispatchAttempt]) -> Sent:
    own = tuple(dispatch for dispatch in dispatches if dispatch.alert == alert.id)
    ids = {dispatch.id for dispatch in own}
    return Sent(alert, own, tuple(attempt for attempt in attempts if attempt.dispatch in ids))
