"""Attempts that a dead process left: nobody knows their outcome, so they become uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import or_, select, update
from sqlmodel import Session

from receiptd.facts import EventKind, Fact, Source
from receiptd.recipients.move import Entry, Provenance, SideEffects
from receiptd.recipients.record import record
from receiptd.store import Store, submissions
from receiptd.store.tables import ATTEMPT, RECIPIENT

_AT_ONCE = 200
_STOPPED = "receiptd stopped while the relay's answer was out"


@dataclass(frozen=True, slots=True)
class _Left:
    """An attempt without an end, and what is needed of its recipient."""

    attempt: str
    started_at: datetime
    recipient: str
    submitted_at: datetime | None
    within: int
    attempts: int


async def recover(store: Store) -> int:
    """Take over what dead processes left: claims are given back, attempts without an end become uncertain.

    On SQLite the lock says that every other process is dead. Elsewhere, and for our own, an attempt
    is only taken over when its hold is over. Returns the number of attempts.
    """
    recovered = 0
    while count := await store.transact(partial(_recover, store)):
        recovered += count
    if store.is_sqlite:
        await store.transact(partial(_give_back, store))
    return recovered


def _recover(store: Store, session: Session) -> int:
    now = store.now()
    is_over = ATTEMPT.c.started_at < now - max(submissions.IN_DATA, store.settings.submission.uncertain_wait)
    if store.is_sqlite:
        is_over = or_(is_over, ATTEMPT.c.node != store.node)
    row = RECIPIENT.c
    query = (
        select(ATTEMPT.c.id, ATTEMPT.c.started_at, row.id, row.submitted_at, row.within, row.attempts)
        .join(RECIPIENT, row.id == ATTEMPT.c.recipient)
        .where(ATTEMPT.c.finished_at.is_(None), is_over)
        .order_by(ATTEMPT.c.started_at)
        .limit(_AT_ONCE)
        .with_for_update(of=ATTEMPT, skip_locked=True)
    )
    left = [_Left(*row) for row in session.connection().execute(query)]
    _make_uncertain(session, store, left, now)
    return len(left)


def _make_uncertain(session: Session, store: Store, left: Sequence[_Left], now: datetime) -> None:
    """Record that the outcome of attempts is unknown; they are sent again only after the wait for evidence."""
    ends = dict.fromkeys(submissions.ATTEMPT_ENDS) | {"finished_at": now, "outcome": "uncertain"}
    submissions.finish(session, [{**ends, "id": one.attempt} for one in left])
    again_at = now + store.settings.submission.uncertain_wait
    record(session, store.settings, [_uncertain(one, again_at) for one in left], now=now)


def _uncertain(one: _Left, again_at: datetime) -> Entry:
    """Return that *one* is uncertain; its final dot may have been sent at any time since it began."""
    fact = Fact(one.recipient, EventKind.UNCERTAIN, Source.SMTP, variant=one.attempt, detail={"reason": _STOPPED})
    submitted_at = one.submitted_at or one.started_at
    columns = {
        "next_attempt_at": again_at,
        "attempts": one.attempts + 1,
        "claimed_by": None,
        "claimed_until": None,
        "submitted_at": submitted_at,
        "deadline_at": submitted_at + timedelta(seconds=one.within),
    }
    return Entry(one.recipient, [fact], Provenance(one.attempt, one.started_at), SideEffects(columns))


def _give_back(store: Store, session: Session) -> None:
    """Let what other processes had taken be taken up at once: they are dead."""
    session.connection().execute(
        update(RECIPIENT)
        .where(
            RECIPIENT.c.next_attempt_at.is_not(None),
            RECIPIENT.c.claimed_by.is_not(None),
            RECIPIENT.c.claimed_by != store.node,
        )
        .values(next_attempt_at=store.now(), claimed_by=None, claimed_until=None)
    )
