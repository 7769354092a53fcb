"""Deadlines: which recipients are to be judged, and up to which instant we may judge at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, or_, select, update
from sqlmodel import Session

from receiptd.facts import Delivery, Level, Receipt
from receiptd.store import resends
from receiptd.store.folders import last_read, oldest_unsettled
from receiptd.store.tables import MESSAGE, RECIPIENT


@dataclass(frozen=True, slots=True)
class Due:
    """A recipient whose next judgement is due, as it stands while it is locked."""

    id: str
    submitted_at: datetime | None
    submit_by: datetime
    deadline_at: datetime | None
    judge_at: datetime | None
    delivery: Delivery
    receipt: Receipt
    level: Level | None
    incident_opened_at: datetime | None
    escalation: int
    policy: str


@dataclass(frozen=True, slots=True)
class Look:
    """What can be judged now: up to which instant, whom, and how many deadlines have passed that can't be yet."""

    upto: datetime | None
    due: tuple[str, ...]
    held: int


def look(session: Session, now: datetime, folders: Sequence[tuple[str, str]], limit: int) -> Look:
    """Return what can be judged at *now*; *folders* are (mailbox, folder) pairs that must be read for that."""
    upto = horizon(session, folders)
    return Look(upto, tuple(due(session, now, upto, limit)), held(session, now, upto))


def horizon(session: Session, folders: Sequence[tuple[str, str]]) -> datetime | None:
    """Return the instant up to which every folder was searched and all it held is settled.

    A deadline after it can't be judged yet: the receipt may lie in a folder that nobody has read
    since. None: some folder was never read. *folders* are (mailbox, folder) pairs that must be read.
    """
    read_at = last_read(session, folders)
    unsettled = oldest_unsettled(session)
    return read_at if read_at is None or unsettled is None else min(read_at, unsettled)


def unread(session: Session, now: datetime, folders: Sequence[tuple[str, str]]) -> datetime | None:
    """Return the last deadline that has passed since all *folders* were read; None where none has."""
    query = select(func.max(RECIPIENT.c.judge_at)).where(_is_submitted(), RECIPIENT.c.judge_at <= now)
    if (read_at := last_read(session, folders)) is not None:
        query = query.where(RECIPIENT.c.judge_at > read_at)
    passed: datetime | None = session.connection().scalar(query)
    return passed


def _is_submitted() -> Any:
    return RECIPIENT.c.submitted_at.is_not(None)


def due(session: Session, now: datetime, upto: datetime | None, limit: int) -> list[str]:
    """Return whom to judge, oldest first: what isn't submitted by the clock, all else up to the horizon."""
    query = select(RECIPIENT.c.id).order_by(RECIPIENT.c.judge_at).limit(limit)
    found = list(session.connection().scalars(query.where(~_is_submitted(), RECIPIENT.c.judge_at <= now)))
    if upto is not None:
        found += session.connection().scalars(query.where(_is_submitted(), RECIPIENT.c.judge_at <= min(now, upto)))
    return found[:limit]


def held(session: Session, now: datetime, upto: datetime | None) -> int:
    """Return how many deadlines have passed that can't be judged yet."""
    query = select(func.count()).select_from(RECIPIENT).where(_is_submitted(), RECIPIENT.c.judge_at <= now)
    if upto is not None:
        query = query.where(RECIPIENT.c.judge_at > upto)
    return session.connection().scalar(query) or 0


def take(session: Session, recipients: Collection[str]) -> list[Due]:
    """Return those of *recipients* that nobody else has locked, locked in the order of ids.

    With each are locked those to whom the same was sent before, whom its move may move: else two daemons could wait
    for each other. Who isn't free is left for the next look.
    """
    before = resends.predecessors(session, recipients)
    everyone = {*recipients, *(one for line in before.values() for one in line)}
    names = [name for name in Due.__slots__ if name != "policy"]
    query = (
        select(*(RECIPIENT.c[name] for name in names), MESSAGE.c.policy)
        .join(MESSAGE, MESSAGE.c.id == RECIPIENT.c.message)
        .where(RECIPIENT.c.id.in_(sorted(everyone)))
        .order_by(RECIPIENT.c.id)
        .with_for_update(key_share=True, skip_locked=True, of=RECIPIENT)
    )
    locked = {row.id: Due(*row) for row in session.connection().execute(query)}
    free = (one for one in recipients if one in locked and locked.keys() >= set(before.get(one, ())))
    return [locked[one] for one in free]


_FOLLOW = (
    *("submit_by", "give_up_at", "submitted_at", "deadline_at", "judge_at"),
    *("incident_opened_at", "acknowledged_until"),
)


def follow_clock(session: Session, jump: timedelta) -> None:
    """The clock was set: what is still to be sent or judged has as much time left as before.

    Its events keep the times that were observed: they are facts. What is settled keeps its own times too.
    """
    waits = or_(RECIPIENT.c.judge_at.is_not(None), RECIPIENT.c.next_attempt_at.is_not(None))
    query = select(RECIPIENT.c.id, *(RECIPIENT.c[name] for name in _FOLLOW)).where(waits).order_by(RECIPIENT.c.id)
    moved = [
        {"one": row.id, **{f"to_{name}": None if (at := getattr(row, name)) is None else at + jump for name in _FOLLOW}}
        for row in session.connection().execute(query.with_for_update())
    ]
    if moved:
        values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in _FOLLOW}
        session.connection().execute(update(RECIPIENT).where(RECIPIENT.c.id == bindparam("one")).values(values), moved)


def push_ahead(session: Session, recipient: str, at: datetime) -> None:
    """Look at a recipient that raised an error later, so that it doesn't stop those behind it."""
    session.connection().execute(update(RECIPIENT).where(RECIPIENT.c.id == recipient).values(judge_at=at))
