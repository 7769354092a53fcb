"""Handing on: what an endpoint does not take is told to others, or once more to the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import and_, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import policy
from receiptd.alert import takes
from receiptd.identifiers import id_of
from receiptd.models import Alert, Dispatch, Message, Recipient
from receiptd.settings import Settings
from receiptd.store import dispatches
from receiptd.store.engine import Store

PATIENCE = 3
"""Failed attempts at one endpoint after which the next level's are told as well."""
LONG = timedelta(minutes=30)
"""An endpoint that asks for more than that isn't waited for alone either."""
_WHILE_OFF = timedelta(days=1)
"""How long a dispatch waits whose endpoint is gone; it goes out at once when that endpoint takes one again."""
_MOST_TOGETHER = 50


async def retire(store: Store) -> int:
    """Hand on what waits for webhooks that the settings no longer have; return how much that was."""
    names = [webhook.name for webhook in store.settings.webhook]
    query = select(Dispatch.webhook).where(col(Dispatch.due_at) <= store.now(), col(Dispatch.webhook).not_in(names))
    async with store.read() as session:
        former = (await session.exec(query.distinct())).all()
    handed_on = 0
    while former and (count := await pass_over(store, former)):
        handed_on += count
    return handed_on


async def pass_over(store: Store, webhooks: Sequence[str]) -> int:
    """Hand on what is due at endpoints that nobody asks any more; return how much, a bounded part of it at a time."""
    async with store.write() as session:
        now = store.now()
        found = [pair for name in webhooks for pair in await dispatches.due(session, name, _MOST_TOGETHER, now)]
        for dispatch, alert in found:
            if alert.kind in dispatches.ENDS and not _is_known(store.settings, dispatch.webhook):
                await dispatches.end(session, dispatch, "dropped", now)
                continue
            await dispatches.again(session, dispatch, now + _WHILE_OFF)
            await hand_on(session, store.settings, alert, now)
        return len(found)


def _is_known(settings: Settings, name: str) -> bool:
    return any(webhook.name == name for webhook in settings.webhook)


async def hand_on(session: AsyncSession, settings: Settings, alert: Alert, now: datetime) -> None:
    """Nobody has taken the alert: tell the next level's endpoints, or note that it is undelivered.

    Called where an endpoint is gone, or will not have taken it soon; does nothing while another one still may. The
    first endpoint goes on being tried.
    """
    query = select(Dispatch).where(Dispatch.alert == alert.id).execution_options(populate_existing=True)
    tried = (await session.exec(query)).all()
    off = await dispatches.gone(session, sorted({dispatch.webhook for dispatch in tried}))
    hopeful = (d for d in tried if d.webhook not in off and _is_known(settings, d.webhook) and _is_hopeful(d, now))
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
    """Return the endpoints of the first level, from the alert's own on, that has any left.

    What ends an incident goes to nobody who was not told of it; `monitor.*` goes to all at once anyway.
    """
    if alert.kind in dispatches.ENDS:
        return []
    left = [webhook.name for webhook in settings.webhook if takes(webhook, alert.type)]
    left = [name for name in left if name not in tried]
    if alert.recipient is None:
        return left
    query = (
        select(Message.policy)
        .join(Recipient, col(Recipient.message) == col(Message.id))
        .where(Recipient.id == alert.recipient)
    )
    levels = policy.levels(settings, (await session.exec(query)).one())[alert.level - 1 :]
    return next((chosen for level in levels if (chosen := [name for name in level.to if name in left])), [])


async def replay(session: AsyncSession, settings: Settings, alert: Alert, now: datetime) -> list[str]:
    """Send an alert again under the same id; return to which webhooks, none if no webhook takes its type.

    It goes to every webhook it went to, or where none of those is left, to all that take its type today. An endpoint
    that was gone gets it too, and what is stranded there: whoever replays says that it is worth asking again. What is
    being posted right now is left alone.
    """
    went = (await session.exec(select(Dispatch.webhook).where(Dispatch.alert == alert.id))).all()
    to = [webhook.name for webhook in settings.webhook if webhook.name in went]
    if not to:
        to = [webhook.name for webhook in settings.webhook if takes(webhook, alert.type)]
        session.add_all(Dispatch(id=id_of("dispatch", alert.id, name), alert=alert.id, webhook=name) for name in to)
        await session.flush()
    was_gone = and_(col(Dispatch.webhook).in_(to), col(Dispatch.outcome) == "gone")
    stranded = col(Dispatch.alert).in_(select(Alert.id).where(col(Alert.undelivered)))
    own = and_(col(Dispatch.alert) == alert.id, col(Dispatch.webhook).in_(to), ~dispatches.is_under_way(now))
    anew = {"attempts": 0, "outcome": "pending", "finished_at": None}
    for which, values in (
        (and_(was_gone, stranded), anew | {"due_at": dispatches.since_raised(now)}),
        (was_gone, {"outcome": "failed"}),
        (own, anew | {"due_at": now}),
    ):
        await session.exec(update(Dispatch).where(which).values(**values).execution_options(synchronize_session=False))
    return to
