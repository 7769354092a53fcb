"""Messages: put one in with its recipients, and find them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlmodel import Session, col, func, or_, select

from receiptd.facts import Event, Receipt
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


def handed_over(session: Session, owner: str, since: datetime) -> list[tuple[datetime, int]]:
    """Return when *owner* handed over each message after *since*, oldest first, and of how many octets."""
    query = (
        select(Message.created_at, Evidence.size)
        .join(Evidence, col(Evidence.sha256) == col(Message.evidence))
        .where(Message.created_at > since, Message.owner == owner)
        .order_by(col(Message.created_at))
    )
    return list(session.exec(query).all())


def whole(session: Session, message: str, *, owner: str | None = None) -> Whole | None:
    """Return one message with everything about it; with *owner*, only if that one sent it."""
    row = session.get(Message, message)
    if row is None or (owner is not None and row.owner != owner):
        return None
    recipients = _recipients(session, [message])
    ids = [recipient.id for recipient in recipients]
    rest_on = select(func.substr(EventRow.evidence, len("sha256:") + 1)).where(col(EventRow.recipient).in_(ids))
    return Whole(row, tuple(recipients), events.of(session, ids), evidence.truncated(session, rest_on))


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


def newest(session: Session, only: Filter, *, limit: int) -> list[Whole]:
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
    rows = list(session.exec(query).all())
    recipients: dict[str, list[Recipient]] = {}
    for recipient in _recipients(session, [row.id for row in rows]):
        recipients.setdefault(recipient.message, []).append(recipient)
    return [Whole(row, tuple(recipients.get(row.id, ()))) for row in rows]


def _recipients(session: Session, messages: Sequence[str]) -> list[Recipient]:
    query = (
        select(Recipient)
        .where(col(Recipient.message).in_(messages))
        .order_by(col(Recipient.message), col(Recipient.position))
    )
    return list(session.exec(query).all())


def first_accepted_at(session: Session) -> datetime | None:
    """Return when the first message was handed over; None before that."""
    return session.exec(select(func.min(Message.created_at))).one()


def counts(session: Session) -> dict[tuple[str, str], int]:
    """Return how many recipients stand at each (delivery, receipt)."""
    query = select(Recipient.delivery, Recipient.receipt, func.count()).group_by(
        col(Recipient.delivery), col(Recipient.receipt)
    )
    return {(str(delivery), str(receipt)): count for delivery, receipt, count in session.exec(query).all()}
