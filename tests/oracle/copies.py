"""Copies: what was sent again to whom, and what a copy's receipt says to all that went there before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.facts import Event, EventKind, Fact, Receipt, RecipientState, Source
from receiptd.models import EventRow, Message, Recipient
from tests.oracle.alerts import rfc3339


async def of(session: AsyncSession, recipients: Sequence[Recipient]) -> dict[str, list[Recipient]]:
    """Return whoever was sent a message again that went to *recipients*, and again that copy, by address."""
    found: dict[str, list[Recipient]] = {}
    rows, seen = list(recipients), set[str]()
    while rows:
        resent = select(EventRow.detail).where(
            col(EventRow.recipient).in_([row.id for row in rows]), EventRow.kind == EventKind.RESENT
        )
        messages = {detail["copy"] for detail in (await session.exec(resent)).all()} - seen
        seen |= messages
        query = select(Recipient).where(col(Recipient.message).in_(sorted(messages)))
        rows = list((await session.exec(query.order_by(col(Recipient.message), col(Recipient.position)))).all())
        for row in rows:
            found.setdefault(row.address, []).append(row)
    return found


async def before(session: AsyncSession, copy: Message, row: Recipient) -> list[str]:
    """Return the recipients to whom the same was sent before *row* of *copy*: at first, and again since."""
    first: Message | None = copy
    while first is not None and first.resent_from is not None:
        first = await session.get(Message, first.resent_from)
    if first is None:
        return []
    query = select(Recipient).where(Recipient.message == first.id, Recipient.address == row.address)
    firsts = (await session.exec(query)).all()
    everyone = [one.id for one in (*firsts, *(await of(session, firsts)).get(row.address, ()))]
    queued = select(EventRow.recipient).where(col(EventRow.recipient).in_(everyone), EventRow.kind == EventKind.QUEUED)
    in_order = list((await session.exec(queued.order_by(col(EventRow.serial)))).all())
    return in_order[: in_order.index(row.id)] if row.id in in_order else []


def news(forebear: str, known: Iterable[Event], copy: Message, row: Recipient, own: RecipientState) -> Fact | None:
    """Return what *row* of *copy* says to a *forebear* of whom *known* is known; None if it is no news.

    It speaks where its receipt is met, and where it no longer is. *own* is what its own reports prove, so that
    nothing comes back to whom it came from.
    """
    said = [event for event in known if event.is_of_copy and event.detail["recipient"] == row.id]
    last = max(said, key=lambda event: int(event.detail["version"]), default=None)
    was_met = last is not None and Receipt(last.detail["receipt"]).is_met
    if own.receipt.is_met == was_met and (not was_met or (last and last.observed_at == own.met_at)):
        return None
    detail = {
        "copy": copy.id,
        "recipient": row.id,
        "receipt": own.receipt,
        "level": own.level,
        "version": row.version,
        "reason": _reason(copy, own),
    }
    return Fact(forebear, EventKind.RESENT, Source.CLOCK, detail=detail, variant=f"{row.id}:{row.version}")


def _reason(copy: Message, own: RecipientState) -> str:
    word = "has its receipt" if own.receipt.is_met else "has its receipt no longer"
    why = f": {own.reason[0].lower()}{own.reason[1:].rstrip('.')}" if own.reason else ""
    return f"the copy sent again at {rfc3339(copy.created_at)} {word}{why}"
