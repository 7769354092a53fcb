"""Dispatches: which alert goes to which webhook next, and what came of every attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, exists, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import policy
from receiptd.models import Alert, Dispatch, DispatchAttempt, Message, Recipient, id_of
from receiptd.settings import Settings
from receiptd.store import alerts
from receiptd.store.engine import Store

IN_FLIGHT = timedelta(minutes=1)
"""How long a claimed dispatch is left alone: the 15 s time-out of a POST and a margin."""
_WHILE_OFF = timedelta(days=1)
"""How long a dispatch waits whose endpoint is gone; it goes out at once when that endpoint takes one again."""


_ENDS = ("resolved", "clear")


@dataclass(frozen=True, slots=True)
class Post:
    """One alert to send to one webhook now."""

    dispatch: Dispatch
    alert: Alert


async def claim(store: Store, limit: int, webhooks: Sequence[str]) -> list[Post]:
    """Take due dispatches of *webhooks* and commit the attempt: from here on the endpoint may know.

    A resolution waits until no alert of its incident is still on its way to the same webhook.
    """
    async with store.write() as session:
        now = store.now()
        query = (
            select(Dispatch, Alert)
            .join(Alert, col(Alert.id) == col(Dispatch.alert))
            .where(col(Dispatch.due_at) <= now, col(Dispatch.webhook).in_(webhooks), ~_must_wait())
            .order_by(col(Dispatch.due_at))
            .limit(limit)
            .with_for_update(skip_locked=True, of=Dispatch.__table__)  # type: ignore[attr-defined]
        )
        posts = [Post(dispatch, alert) for dispatch, alert in (await session.exec(query)).all()]
        for post in posts:
            post.dispatch.attempts += 1
            post.dispatch.due_at = now + IN_FLIGHT
        return posts


def _must_wait() -> Any:
    earlier, other = aliased(Alert), aliased(Dispatch)
    of_incident = and_(earlier.recipient == Alert.recipient, earlier.incident == Alert.incident)
    of_monitor = and_(col(earlier.recipient).is_(None), earlier.subject == Alert.subject)
    return and_(
        col(Alert.kind).in_(_ENDS),
        exists(
            select(other.id)
            .join(earlier, col(earlier.id) == col(other.alert))
            .where(
                or_(of_incident, of_monitor),
                col(earlier.kind).not_in(_ENDS),
                other.webhook == Dispatch.webhook,
                other.outcome == "pending",
            )
        ),
    )


async def write_attempt(session: AsyncSession, attempt: DispatchAttempt) -> None:
    """Keep what came of one POST."""
    session.add(attempt)
    await session.flush()


async def delivered(session: AsyncSession, post: Post, now: datetime) -> None:
    """The endpoint acknowledged: done, and whatever else waits for this endpoint may try now."""
    await _finish(session, post.dispatch, "delivered", now)
    await session.exec(
        update(Alert)
        .where(col(Alert.id) == post.alert.id)
        .values(undelivered=False)
        .execution_options(synchronize_session=False)
    )
    stranded = select(Alert.id).where(col(Alert.undelivered))
    await session.exec(
        update(Dispatch)
        .where(
            col(Dispatch.alert).in_(stranded),
            col(Dispatch.webhook) == post.dispatch.webhook,
            col(Dispatch.due_at) > now,
        )
        .values(due_at=now)
        .execution_options(synchronize_session=False)
    )


async def again(session: AsyncSession, post: Post, at: datetime) -> None:
    """The endpoint didn't take it: try again at *at*."""
    await session.exec(
        update(Dispatch)
        .where(col(Dispatch.id) == post.dispatch.id, col(Dispatch.outcome) == "pending")
        .values(due_at=at)
        .execution_options(synchronize_session=False)
    )


async def pass_over(store: Store, limit: int, webhooks: Sequence[str], *, patience: int) -> int:
    """Hand on what is due at endpoints that are gone: nobody is asked there, and nobody would be told."""
    async with store.write() as session:
        now = store.now()
        query = (
            select(Dispatch, Alert)
            .join(Alert, col(Alert.id) == col(Dispatch.alert))
            .where(col(Dispatch.due_at) <= now, col(Dispatch.webhook).in_(webhooks))
            .order_by(col(Dispatch.due_at))
            .limit(limit)
            .with_for_update(skip_locked=True, of=Dispatch.__table__)  # type: ignore[attr-defined]
        )
        posts = [Post(dispatch, alert) for dispatch, alert in (await session.exec(query)).all()]
        for post in posts:
            await again(session, post, now + _WHILE_OFF)
            await hand_on(session, store.settings, post, patience=patience, now=now)
        return len(posts)


async def end(session: AsyncSession, post: Post, outcome: str, now: datetime) -> None:
    """Try this endpoint no more for this alert."""
    await _finish(session, post.dispatch, outcome, now)


async def hand_on(session: AsyncSession, settings: Settings, post: Post, *, patience: int, now: datetime) -> None:
    """Nobody has taken the alert: tell the next level's endpoints, or note that it is undelivered.

    Called after *patience* failed attempts at one endpoint, or where it is gone; does nothing while another
    one may still take it sooner. The first endpoint goes on being tried.
    """
    tried = (await session.exec(select(Dispatch).where(Dispatch.alert == post.alert.id))).all()
    off = await gone(session, sorted({dispatch.webhook for dispatch in tried}))
    hopeful = (d for d in tried if d.outcome == "pending" and d.attempts < patience and d.webhook not in off)
    if any(d.outcome == "delivered" for d in tried) or any(hopeful):
        return
    further = await _next_endpoints(session, settings, post.alert, {dispatch.webhook for dispatch in tried})
    session.add_all(
        Dispatch(id=id_of("dispatch", post.alert.id, name), alert=post.alert.id, webhook=name, due_at=now)
        for name in further
    )
    if not further:
        await session.exec(
            update(Alert)
            .where(col(Alert.id) == post.alert.id)
            .values(undelivered=True)
            .execution_options(synchronize_session=False)
        )
    await session.flush()


async def _next_endpoints(session: AsyncSession, settings: Settings, alert: Alert, tried: set[str]) -> list[str]:
    """Return the endpoints of the first later level that has any left; a resolution goes to nobody else."""
    if alert.recipient is None or alert.kind == "resolved":
        return []
    name = (
        await session.exec(
            select(Message.policy)
            .join(Recipient, col(Recipient.message) == col(Message.id))
            .where(Recipient.id == alert.recipient)
        )
    ).one()
    for level in policy.levels(settings, name)[alert.level :]:
        known = {webhook.name for webhook in settings.webhook if alerts.takes(webhook, alert.type)}
        left = [endpoint for endpoint in level.to if endpoint in known - tried]
        if left:
            return left
    return []


async def _finish(session: AsyncSession, dispatch: Dispatch, outcome: str, now: datetime) -> None:
    await session.exec(
        update(Dispatch)
        .where(col(Dispatch.id) == dispatch.id)
        .values(outcome=outcome, due_at=None, finished_at=now)
        .execution_options(synchronize_session=False)
    )


async def gone(session: AsyncSession, webhooks: Sequence[str]) -> set[str]:
    """Return the webhooks whose newest finished dispatch got 410 Gone: they are off until a replay succeeds."""
    found = set()
    for name in webhooks:
        query = (
            select(Dispatch.outcome)
            .where(Dispatch.webhook == name, col(Dispatch.outcome).in_(("delivered", "gone")))
            .order_by(col(Dispatch.finished_at).desc())
            .limit(1)
        )
        if (await session.exec(query)).first() == "gone":
            found.add(name)
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


async def replay(session: AsyncSession, alert: str, now: datetime) -> bool:
    """Send an alert again to every webhook it went to, under the same id; False if there is no such alert.

    An endpoint that was gone gets it too, and what is stranded there: whoever replays says that it is worth asking
    again.
    """
    if await session.get(Alert, alert) is None:
        return False
    asked = select(Dispatch.webhook).where(Dispatch.alert == alert)
    was_gone = and_(col(Dispatch.webhook).in_(asked), col(Dispatch.outcome) == "gone")
    stranded = col(Dispatch.alert).in_(select(Alert.id).where(col(Alert.undelivered)))
    anew = {"due_at": now, "attempts": 0, "outcome": "pending", "finished_at": None}
    for which, values in (
        (and_(was_gone, stranded), anew),
        (was_gone, {"outcome": "failed"}),
        (col(Dispatch.alert) == alert, anew),
    ):
        await session.exec(update(Dispatch).where(which).values(**values).execution_options(synchronize_session=False))
    return True


@dataclass(frozen=True, slots=True)
class Sent:
    """An alert with every dispatch and attempt."""

    alert: Alert
    dispatches: tuple[Dispatch, ...]
    attempts: tuple[DispatchAttempt, ...]


async def newest(session: AsyncSession, *, limit: int, after: tuple[datetime, str] | None = None) -> list[Sent]:
    """Return alerts, newest first, with what became of them; *after* is (created_at, id) of the last one seen."""
    query = select(Alert).order_by(col(Alert.created_at).desc(), col(Alert.id).desc()).limit(limit)
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
