"""Messages: put one in with its recipients, and find them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import and_, col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.facts import Event, EventKind, Receipt, Source, Trust
from receiptd.identifiers import id_of
from receiptd.models import EventRow, Evidence, Message, Recipient
from receiptd.store import events, evidence

IDEMPOTENCY = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Whole:
    """A message with its recipients and all that is known of them."""

    message: Message
    recipients: tuple[Recipient, ...]
    events: tuple[Event, ...] = ()
    evidence: Mapping[str, bool] = field(default_factory=dict)
    """The SHA-256 of all that is kept of what they rest on, and whether that is only its first part."""


async def insert(session: AsyncSession, message: Message, recipients: Sequence[Recipient]) -> None:
    """Write a message, its recipients and their `queued` events."""
    session.add(message)
    await session.flush()
    session.add_all(recipients)
    await session.flush()
    session.add_all(
        EventRow(
            id=id_of("event", row.id, EventKind.QUEUED, "", ""),
            recipient=row.id,
            kind=EventKind.QUEUED,
            observed_at=message.created_at,
            source=Source.PERSON,
            trust=Trust.KEYED,
        )
        for row in recipients
    )
    await session.flush()


async def by_idempotency_key(session: AsyncSession, owner: str, key: str) -> Message | None:
    """Return the message that *owner* sent under *key* in the last seven days; an older key is free again."""
    query = select(Message).where(Message.owner == owner, Message.idempotency_key == key)
    return (await session.exec(query)).first()


async def is_known_id(session: AsyncSession, message_id: str) -> bool:
    """Whether a message with this Message-ID was handed over before, by anybody."""
    return (await session.exec(select(Message.id).where(Message.message_id == message_id).limit(1))).first() is not None


async def handed_over(session: AsyncSession, owner: str, since: datetime) -> list[tuple[datetime, int]]:
    """Return when *owner* handed over each message after *since*, oldest first, and of how many octets."""
    query = (
        select(Message.created_at, Evidence.size)
        .join(Evidence, col(Evidence.sha256) == col(Message.evidence))
        .where(Message.created_at > since, Message.owner == owner)
        .order_by(col(Message.created_at))
    )
    return list((await session.exec(query)).all())


async def free_key(session: AsyncSession, message: Message) -> None:
    """Let go of an idempotency key that has served its time."""
    await session.exec(update(Message).where(col(Message.id) == message.id).values(idempotency_key=None))


async def whole(session: AsyncSession, message: str, *, owner: str | None = None) -> Whole | None:
    """Return one message with everything about it; with *owner*, only if that one sent it."""
    row = await session.get(Message, message)
    if row is None or (owner is not None and row.owner != owner):
        return None
    recipients = await _recipients(session, [message])
    ids = [recipient.id for recipient in recipients]
    rest_on = select(func.substr(EventRow.evidence, len("sha256:") + 1)).where(col(EventRow.recipient).in_(ids))
    return Whole(row, tuple(recipients), await events.of(session, ids), await evidence.truncated(session, rest_on))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages to list: those from behind the id *after*, and *text* in subject, address or Message-ID.

    One of its recipients has any of the *receipts*; the message has all of the *labels*.
    """

    after: str | None = None
    receipts: Sequence[Receipt] = ()
    text: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    owner: str | None = None


async def newest(session: AsyncSession, only: Filter, *, limit: int) -> list[Whole]:
    """Return messages without their events, newest first. Ids sort by time, so the id is the cursor."""
    query = select(Message).order_by(col(Message.id).desc()).limit(limit)
    if only.after:
        query = query.where(col(Message.id) < only.after)
    if only.owner is not None:
        query = query.where(Message.owner == only.owner)
    if only.receipts:
        having = select(Recipient.message).where(col(Recipient.receipt).in_(only.receipts))
        query = query.where(col(Message.id).in_(having))
    if only.text:
        addressed = select(Recipient.message).where(col(Recipient.address).icontains(only.text, autoescape=True))
        query = query.where(
            or_(
                col(Message.subject).icontains(only.text, autoescape=True),
                col(Message.from_address).icontains(only.text, autoescape=True),
                col(Message.sender).icontains(only.text, autoescape=True),
                col(Message.message_id).icontains(only.text, autoescape=True),
                col(Message.id).in_(addressed),
            )
        )
    for name, value in only.labels:
        query = query.where(col(Message.labels)[name].as_string() == value)
    rows = list((await session.exec(query)).all())
    recipients = await _recipients(session, [row.id for row in rows])
    return [Whole(row, tuple(r for r in recipients if r.message == row.id)) for row in rows]


async def _recipients(session: AsyncSession, messages: Sequence[str]) -> list[Recipient]:
    query = (
        select(Recipient)
        .where(col(Recipient.message).in_(messages))
        .order_by(col(Recipient.message), col(Recipient.position))
    )
    return list((await session.exec(query)).all())


async def first_accepted_at(session: AsyncSession) -> datetime | None:
    """Return when the first message was handed over; None before that."""
    return (await session.exec(select(func.min(Message.created_at)))).one()


async def counts(session: AsyncSession) -> dict[tuple[str, str], int]:
    """Return how many recipients stand at each (delivery, receipt)."""
    query = select(Recipient.delivery, Recipient.receipt, func.count()).group_by(
        col(Recipient.delivery), col(Recipient.receipt)
    )
    return {(str(delivery), str(receipt)): count for delivery, receipt, count in (await session.exec(query)).all()}


async def has_met(session: AsyncSession, domain: str, levels: Sequence[str]) -> tuple[int, int]:
    """Return how many of a domain's last ten requests at one of *levels* have ended, and how many proved one of them.

    What a person waived or cancelled never came to its end.
    """
    ended = and_(
        col(Recipient.domain) == domain,
        col(Recipient.require).in_(levels),
        col(Recipient.receipt).not_in((Receipt.OPEN, Receipt.WAIVED)),
    )
    last = select(Recipient.receipt, Recipient.level).where(ended).order_by(col(Recipient.id).desc()).limit(10)
    rows = (await session.exec(last)).all()
    return len(rows), sum(Receipt(receipt).is_met or level in levels for receipt, level in rows)
