"""Events in the order in which they were recorded, for those who follow along."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from receiptd.facts import Event
from receiptd.identifiers import serials
from receiptd.models import EventRow, Message, Recipient
from receiptd.standing import in_order
from receiptd.store.engine import Store


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands among all that were recorded."""

    serial: int
    event: str = ""

    def __str__(self) -> str:
        """Return the place as a cursor."""
        return f"{self.serial}_{self.event}"


BEGINNING = Place(0)
STRIDE = 1000
"""Events that are looked at for those of one sender."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event, where it stands, of which message it speaks and who sent that."""

    place: Place
    event: Event
    message: str
    owner: str


def event_of(row: EventRow) -> Event:
    """Return the event that a row keeps."""
    return Event(
        id=row.id,
        recipient=row.recipient,
        kind=row.kind,
        observed_at=row.observed_at,
        source=row.source,
        trust=row.trust,
        occurred_at=row.occurred_at,
        matched_by=row.matched_by,
        final_recipient=row.final_recipient,
        count=row.count,
        evidence=row.evidence,
        detail=row.detail,
    )


def of(session: Session, recipients: Collection[str]) -> tuple[Event, ...]:
    """Return the events of *recipients*, as our server had them."""
    query = select(EventRow).where(col(EventRow.recipient).in_(recipients))
    return in_order(map(event_of, session.exec(query).all()))


_standing = tuple_(col(EventRow.serial), col(EventRow.id))


def last(session: Session) -> Place:
    """Return the place of the event that was recorded last."""
    query = select(EventRow.serial, EventRow.id).order_by(col(EventRow.serial).desc(), col(EventRow.id).desc()).limit(1)
    found = session.exec(query).first()
    return Place(*found) if found else BEGINNING


async def go_on(store: Store) -> None:
    """Let new events stand behind those that are there, though the clock was set back since."""
    serials.go_on_from((await store.query(last)).serial)


def behind(session: Session, place: Place, *, limit: int) -> list[Recorded]:
    """Return the next events behind *place*, whoever sent their messages: the work is bounded by *limit*."""
    next_ones = select(EventRow.id).where(_standing > (place.serial, place.event))
    next_ones = next_ones.order_by(col(EventRow.serial), col(EventRow.id)).limit(limit)
    return _recorded(session, list(session.exec(next_ones).all()))


def of_owner(session: Session, owner: str, place: Place, *, limit: int) -> list[Recorded]:
    """Return the next events behind *place* of the messages that *owner* sent.

    Where few of the next ones are, all of the owner's are looked through: the work is bounded by what the owner sent,
    not by what others did.
    """
    next_ones = (
        select(EventRow.id, Message.owner)
        .join(Recipient, col(Recipient.id) == col(EventRow.recipient))
        .join(Message, col(Message.id) == col(Recipient.message))
        .where(_standing > (place.serial, place.event))
        .order_by(col(EventRow.serial), col(EventRow.id))
        .limit(STRIDE)
    )
    near = session.exec(next_ones).all()
    own = [event for event, sender in near if sender == owner]
    if len(own) < limit and len(near) == STRIDE:
        sent = select(Recipient.id).join(Message, col(Message.id) == col(Recipient.message))
        query = select(EventRow.id).where(col(EventRow.recipient).in_(sent.where(Message.owner == owner)))
        query = query.where(_standing > (place.serial, place.event))
        query = query.order_by(col(EventRow.serial), col(EventRow.id)).limit(limit)
        own = list(session.exec(query).all())
    return _recorded(session, own[:limit])


def between(session: Session, serial: int, upto: Place) -> list[Place]:
    """Return the places from *serial* up to and with *upto*."""
    query = select(EventRow.serial, EventRow.id).where(col(EventRow.serial) >= serial)
    query = query.where(_standing <= (upto.serial, upto.event)).order_by(col(EventRow.serial), col(EventRow.id))
    return [Place(*found) for found in session.exec(query).all()]


def at(session: Session, places: Sequence[Place]) -> list[Recorded]:
    """Return the events that stand at *places*."""
    return _recorded(session, [place.event for place in places])


def _recorded(session: Session, ids: Sequence[str]) -> list[Recorded]:
    if not ids:
        return []
    query = (
        select(EventRow, Message.id, Message.owner)
        .join(Recipient, col(Recipient.id) == col(EventRow.recipient))
        .join(Message, col(Message.id) == col(Recipient.message))
        .where(col(EventRow.id).in_(ids))
    )
    rows = session.exec(query).all()
    found = [Recorded(Place(row.serial, row.id), event_of(row), message, owner) for row, message, owner in rows]
    return sorted(found, key=lambda one: one.place)
