"""Dispatches: which alert goes to which webhook next, and what came of every attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, update
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, exists, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import policy
from receiptd.models import Alert, Dispatch, DispatchAttempt, Message, Recipient, id_of, new_id
from receiptd.settings import Settings
from receiptd.store import alerts
from receiptd.store.engine import Store

IN_FLIGHT = timedelta(minutes=1)
"""How long a claimed dispatch is left alone: the 15 s time-out of a POST and a margin."""
_WHILE_OFF = timedelta(days=1)
"""How long a dispatch waits whose endpoint is gone; it goes out at once when that endpoint takes one again."""
PATIENCE = 3
"""Failed attempts at one endpoint after which the next level's are told as well."""
LONG = timedelta(minutes=30)
"""An endpoint that asks for more than that isn't waited for alone either."""
_MOST_PASSED_OVER = 50

_ENDS = ("resolved", "clear")
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
        found = [pair for webhook, limit in room.items() for pair in await _due(session, webhook, limit, now)]
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


async def _due(session: AsyncSession, webhook: str, limit: int, now: datetime) -> Sequence[tuple[Dispatch, Alert]]:
    query = (
        select(Dispatch, Alert)
        .join(Alert, col(Alert.id) == col(Dispatch.alert))
        .where(col(Dispatch.due_at) <= now, Dispatch.webhook == webhook, ~_must_wait())
        .order_by(col(Dispatch.due_at))
        .limit(limit)
        .with_for_update(skip_locked=True, of=Dispatch.__table__)  # type: ignore[attr-defined]
    )
    return (await session.exec(query)).all()


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
            ~_is_under_way(now),
        )
        .values(due_at=_since_raised(now))
        .execution_options(synchronize_session=False)
    )


def _since_raised(now: datetime) -> Any:
    """Return when the alert of a dispatch was raised: due at once, and in that order."""
    created_at = select(Alert.created_at).where(Alert.id == Dispatch.alert).scalar_subquery()
    return case((created_at < now, created_at), else_=now)


def _is_under_way(now: datetime) -> Any:
    """Whether a dispatch is being posted right now: nobody else may take it."""
    return exists(
        select(DispatchAttempt.id).where(
            DispatchAttempt.dispatch == Dispatch.id,
            DispatchAttempt.reason == NO_ANSWER,
            col(DispatchAttempt.started_at) > now - IN_FLIGHT,
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


async def pass_over(store: Store, webhooks: Sequence[str]) -> None:
    """Hand on what is due at endpoints that are gone: nobody is asked there, and nobody would be told."""
    async with store.write() as session:
        now = store.now()
        for webhook in webhooks:
            for dispatch, alert in await _due(session, webhook, _MOST_PASSED_OVER, now):
                await again(session, dispatch, now + _WHILE_OFF)
                await hand_on(session, store.settings, alert, now)


async def end(session: AsyncSession, post: Post, outcome: str, now: datetime) -> None:
    """Try this endpoint no more for this alert."""
    await _finish(session, post.dispatch, outcome, now)


async def hand_on(session: AsyncSession, settings: Settings, alert: Alert, now: datetime) -> None:
    """Nobody has taken the alert: tell the next level's endpoints, or note that it is undelivered.

    Called where an endpoint is gone, or will not have taken it soon; does nothing while another one still may. The
    first endpoint goes on being tried.
    """
    query = select(Dispatch).where(Dispatch.alert == alert.id).execution_options(populate_existing=True)
    tried = (await session.exec(query)).all()
    off = await gone(session, sorted({dispatch.webhook for dispatch in tried}))
    hopeful = (d for d in tried if d.webhook not in off and _is_hopeful(d, now))
    if any(d.outcome == "delivered" for d in tried) or any(hopeful):
        return
    further = await _next_endpoints(session, settings, alert, {dispatch.webhook for dispatch in tried})
    session.add_all(
        Dispatch(id=id_of("dispatch", alert.id, name), alert=alert.id, webhook=name, due_at=now) for name in further
    )
    if not further:
        await session.exec(
            update(Alert)
            .where(col(Alert.id) == alert.id)
            .values(undelivered=True)
            .execution_options(synchronize_session=False)
        )
    await session.flush()


def _is_hopeful(dispatch: Dispatch, now: datetime) -> bool:
    return (
        dispatch.outcome == "pending"
        and dispatch.attempts < PATIENCE
        and dispatch.due_at is not None
        and dispatch.due_at <= now + LONG
    )


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
    """Note how it ended; what an endpoint has acknowledged stays so, whoever else is told something else."""
    which = col(Dispatch.id) == dispatch.id
    await session.exec(
        update(Dispatch)
        .where(which if outcome == "delivered" else and_(which, col(Dispatch.outcome) == "pending"))
        .values(outcome=outcome, due_at=None, finished_at=now)
        .execution_options(synchronize_session=False)
    )


async def gone(session: AsyncSession, webhooks: Sequence[str]) -> set[str]:
    """Return the webhooks whose newest finished dispatch got 410 Gone: they are off until a replay succeeds."""
    found = set()
    for name in webhooks:
        query = (
            select(Dispatch.outcome)
            .where(
                Dispatch.webhook == name,
                col(Dispatch.finished_at).is_not(None),
                col(Dispatch.outcome).in_(("delivered", "gone")),
            )
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
