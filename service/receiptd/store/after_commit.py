"""What is told of a transaction only once it is committed: figures count what is on disk, and each once."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.orm import Session, object_session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import telemetry
from receiptd.models import EventRow, Message

_KEY = "once committed"


def once_committed(session: AsyncSession | Session, tell: Callable[[], None]) -> None:
    """Call *tell* when the transaction of *session* is committed; never where it, or the savepoint, is undone."""
    session.info.setdefault(_KEY, []).append(tell)


def mark(session: AsyncSession | Session) -> int:
    """Return how much there is to tell by now."""
    return len(session.info.get(_KEY, ()))


def forget(session: AsyncSession | Session, since: int) -> None:
    """Tell nothing of what a savepoint undid: all that came since that *mark*."""
    del session.info.get(_KEY, [])[since:]


def tell(session: AsyncSession | Session) -> None:
    """Tell all: it is committed."""
    for one in session.info.pop(_KEY, ()):
        one()


@event.listens_for(EventRow, "after_insert")
def _count(_: object, __: object, row: EventRow) -> None:
    """Count every event that is newly recorded, whoever records it; copies of a known one are no event."""
    session = object_session(row)
    if session is not None:
        once_committed(session, telemetry.EVENTS.labels(row.kind, row.source).inc)


@event.listens_for(Message, "after_insert")
def _count_message(_: object, __: object, row: Message) -> None:
    """Count every message that is taken, and every copy that a person sends again."""
    session = object_session(row)
    if session is not None:
        once_committed(session, telemetry.MESSAGES.labels(row.policy).inc)
