"""What a person decides: acknowledge, waive, confirm, cancel, retry, resend."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import compose, errors
from receiptd.accept import Taken, Wish, accept
from receiptd.facts import Delivery, EventKind, Fact, Source
from receiptd.models import Evidence, Message, Recipient, new_id
from receiptd.store import Store, queue
from receiptd.store.recipients import Beside, Told, record

ACKNOWLEDGED_FOR = timedelta(days=1)
_QUEUED = (Delivery.QUEUED, Delivery.DEFERRED)
_HELD = (*_QUEUED, Delivery.UNCERTAIN)


class NoSuchThing(errors.BadData):
    """There is no recipient or message of that id (that the asker may see)."""


class Pointless(errors.BadData):
    """The decision has no meaning in the state that things are in."""


async def acknowledge(store: Store, recipient: str, *, by: str, reason: str, lasting: timedelta) -> Recipient:
    """Hold back further levels of an open incident for *lasting*: somebody is at it."""
    until = store.now() + lasting
    return await _decide(
        store, recipient, EventKind.ACKNOWLEDGED, by=by, reason=reason, columns={"acknowledged_until": until}
    )


async def waive(store: Store, recipient: str, *, by: str, reason: str) -> Recipient:
    """Need no receipt any more: ends the incident; later news is only recorded."""
    return await _decide(store, recipient, EventKind.WAIVED, by=by, reason=reason)


async def confirm(store: Store, recipient: str, *, by: str, reason: str) -> Recipient:
    """Take the receipt as met by a person's word; what is proven stays what it is."""
    return await _decide(store, recipient, EventKind.CONFIRMED, by=by, reason=reason)


async def _decide(
    store: Store, recipient: str, kind: EventKind, *, by: str, reason: str, columns: dict[str, Any] | None = None
) -> Recipient:
    if not reason.strip():
        raise errors.BadData("say why: a decision without a reason helps nobody who reads it later")

    async def work(session: AsyncSession) -> Recipient:
        row = await session.get(Recipient, recipient, populate_existing=True)
        if row is None:
            raise NoSuchThing(f"there is no recipient {recipient!r}: `receiptd show ID --json` lists their ids")
        if kind is EventKind.ACKNOWLEDGED and row.incident_opened_at is None:
            raise Pointless(f"nothing is open about {row.address}: there is no alert to acknowledge")
        return await _record(session, store, row.id, kind, by=by, reason=reason, columns=columns)

    return await store.together(work)


async def _record(
    session: AsyncSession,
    store: Store,
    recipient: str,
    kind: EventKind,
    *,
    by: str,
    reason: str,
    columns: dict[str, Any] | None = None,
) -> Recipient:
    now = store.now()
    decision = new_id(now)
    fact = Fact(recipient, kind, Source.PERSON, detail={"by": by, "reason": reason}, variant=decision)
    moved = await record(
        session, store.settings, recipient, [fact], Told(decision, now), now=now, beside=Beside(columns or {})
    )
    return moved.recipient


async def cancel(store: Store, message: str, *, by: str) -> int:
    """Don't send what isn't submitted yet; return how many recipients that were."""

    async def work(session: AsyncSession) -> int:
        rows = await _recipients(session, message)
        queued = [row for row in rows if row.delivery in _QUEUED and not await queue.is_in_data(session, row.id)]
        if not queued:
            raise Pointless("there is nothing left to cancel: the submission server has every copy already")
        columns = {"next_attempt_at": None, "claimed_by": None, "claimed_until": None}
        for row in queued:
            await _record(
                session,
                store,
                row.id,
                EventKind.CANCELLED,
                by=by,
                reason="cancelled before submission",
                columns=columns,
            )
        return len(queued)

    return await store.together(work)


async def retry(store: Store, message: str) -> int:
    """Try now what waits: deferred, or held after an unknown outcome; return how many recipients that were."""

    async def work(session: AsyncSession) -> int:
        waiting = [row for row in await _recipients(session, message) if row.delivery in _HELD]
        if not waiting:
            raise Pointless("nothing waits: every copy was submitted, failed or was cancelled")
        for row in waiting:
            is_tried_now = row.claimed_until is not None and row.claimed_until > store.now()
            if not is_tried_now:
                columns = {"next_attempt_at": store.now(), "claimed_by": None, "claimed_until": None}
                await record(
                    session,
                    store.settings,
                    row.id,
                    [],
                    Told("person", store.now()),
                    now=store.now(),
                    beside=Beside(columns),
                )
        return len(waiting)

    return await store.together(work)


async def resend(store: Store, message: str, *, owner: str) -> Taken:
    """Send a new copy, with new tokens and a new Message-ID, to those recipients whose receipt isn't met.

    The same Message-ID would be swallowed by duplicate filters (Exchange has one).
    """
    async with store.read() as session:
        old = await session.get(Message, message)
        if old is None:
            raise NoSuchThing(f"there is no message {message!r}: `receiptd list` shows their ids")
        rows = [row for row in await _recipients(session, message) if not row.receipt.is_met]
        content = (await session.get_one(Evidence, old.evidence)).content
    if not rows:
        raise Pointless("every receipt of this message is met: there is nobody to send it to again")
    letter = compose.renew(content, [(row.role, row.address) for row in rows], now=store.now())
    wish = Wish(
        owner=owner,
        policy=old.policy,
        require=max((row.require for row in rows), key=lambda level: level.rank),
        within=timedelta(seconds=max(row.within for row in rows)),
        mdn=any(row.mdn_requested for row in rows),
        labels=old.labels,
    )
    taken = await accept(store, letter, wish)

    async def work(session: AsyncSession) -> None:
        copy = await session.get_one(Message, taken.message.id)
        copy.resent_from = old.id
        for row in rows:
            await _record(session, store, row.id, EventKind.RESENT, by=owner, reason=f"sent again as {copy.id}")

    await store.together(work)
    return taken


async def _recipients(session: AsyncSession, message: str) -> list[Recipient]:
    query = select(Recipient).where(Recipient.message == message).order_by(col(Recipient.position))
    rows = list((await session.exec(query)).all())
    if not rows:
        raise NoSuchThing(f"there is no message {message!r}: `receiptd list` shows their ids")
    return rows
