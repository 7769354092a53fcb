"""A database that may be an older copy: what waited in it may have been sent since, so nobody sends it unasked."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from sqlalchemy import ColumnElement, true, update
from sqlmodel import Session, and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.facts import Delivery, EventKind, Fact, Source
from receiptd.identifiers import new_id
from receiptd.models import Attempt, EventRow, Lease, Message, Recipient
from receiptd.recipients.move import Entry, Provenance, SideEffects
from receiptd.recipients.record import record
from receiptd.store import one_at_a_time, submissions
from receiptd.store.engine import Store
from receiptd.store.ledger import Ledger, Note, boot_id, is_known

LONGEST_REBOOT = timedelta(minutes=30)
"""How long a machine may be away for what can be taken for a restart: longer is how snapshots come back."""

OLDER = "the database is older than the last attempt noted on this machine, so it comes from a backup"
NO_NOTE = "this machine has no note of the last attempt, so the database may come from a backup or another machine"
COPIED = "the note of the last attempt was put back too, so the database may come from a backup"
UNCLEAN = (
    "the machine ended without stopping receiptd, and a snapshot of it that was put back, a backup as well, looks "
    "like a power cut"
)
LONG_AWAY = "the machine was away for more than 30 minutes, and a snapshot of it that was put back, a backup, looks so"


REPORTED = "the mailbox holds reports of messages that this database never sent, so it comes from a backup"
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Start:
    """How a start was judged: *why* the database is doubted, if so, and how many recipients are *held* for that.

    *is_new_run*: the machine was started since; who held what nobody doubts looks into the mailbox first.
    """

    held: int = 0
    why: str | None = None
    is_new_run: bool = False


def doubt(note: Note | None, *, knows_attempt: bool, boot: str | None, now: datetime) -> str | None:
    """Return why a database that has a past may be an older copy, or None where that can be excluded.

    *knows_attempt*: the database has the attempt that was noted. In one and the same run of a machine only files
    can have been put back, and the note tells. After a new start, disks may have been put back as well, note and
    all: that is excluded only where receiptd was stopped in good order a short while ago.
    """
    if note is None:
        return NO_NOTE
    if not knows_attempt:
        return OLDER
    if note.is_copy:
        return COPIED
    if note.boot == boot:
        return None
    if note.stopped_at is None:
        return UNCLEAN
    away = now - datetime.fromtimestamp(note.stopped_at, UTC)
    return None if timedelta(minutes=-1) < away < LONGEST_REBOOT else LONG_AWAY


async def begin(store: Store) -> Start:
    """Judge the database before anything is sent, hold what waits in one that is doubted, and open its note.

    What is held is `uncertain` until evidence comes or a person says `retry` (docs/design.md §8). Whoever is
    doubted goes on under a new name and with a note of its own: the old one goes on to tell the old copies.
    """
    async with store.write() as session:
        name = "sender" if store.is_sqlite else f"sender:{os.uname().nodename}"
        await one_at_a_time.wait(session, name)
        lease = await session.get(Lease, name, with_for_update=True)
        start = await _judge(session, store, lease)
        if lease is None or start.why is not None:
            lease = await session.merge(Lease(name=name, holder=new_id(store.now()), until=store.now()))
        ledger = Ledger(lease.holder, place=_place(store), boot=boot_id())
        known = ledger.read()
        # Before the name is committed: a name without a note is a copy's.
        ledger.open(known.attempt if known else None)
        store.ledger = ledger
    return start


async def release(store: Store) -> int:
    """Let all that is held go out now, on a person's word; return how many recipients that are."""
    told_by_clock = select(EventRow.id).where(
        col(EventRow.recipient) == col(Recipient.id),
        col(EventRow.kind) == EventKind.UNCERTAIN,
        col(EventRow.source) == Source.CLOCK,
    )

    async def work(session: AsyncSession) -> int:
        held = await session.exec(
            update(Recipient)
            .where(
                col(Recipient.delivery) == Delivery.UNCERTAIN,
                col(Recipient.next_attempt_at).is_(None),
                told_by_clock.exists(),
            )
            .values(next_attempt_at=store.now())
            .execution_options(synchronize_session=False)
        )
        return int(held.rowcount)

    return await store.promptly(work)


def _place(store: Store) -> str:
    return str(Path(store.url.database or "").resolve()) if store.is_sqlite else store.url.render_as_string()


async def _judge(session: AsyncSession, store: Store, lease: Lease | None) -> Start:
    if lease is None:
        # New, or from before there were notes: older than every attempt that was noted of what stood in its place.
        why = OLDER if store.is_sqlite and await asyncio.to_thread(is_known, _place(store)) else None
        return Start(await _hold_all(session, store, why) if why else 0, why)
    note, boot = Ledger(lease.holder, boot=None).read(), boot_id()
    knows = note is None or note.attempt is None or await session.get(Attempt, note.attempt) is not None
    if not store.is_sqlite:
        # The database is on a machine of its own: how ours ended, or that it is new, says nothing of that one.
        why = None if knows else OLDER
    else:
        why = doubt(note, knows_attempt=knows, boot=boot, now=store.now())
    held = await _hold_all(session, store, why) if why else 0
    return Start(held, why, is_new_run=store.is_sqlite and note is not None and note.boot != boot)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What was queued when a machine came up, and waits until its mailboxes were read: who *until* when at most."""

    recipients: tuple[str, ...]
    since: datetime
    until: datetime


async def await_mailboxes(store: Store) -> Waiting:
    """Let what was never tried wait for what the mailboxes know: a report about it would show an older copy.

    It waits as if it were claimed: who can't read the mailbox for that long sends without.
    """
    now = store.now()
    until = now + submissions.LEASE
    never_tried = (
        col(Recipient.next_attempt_at).is_not(None),
        col(Recipient.delivery) == Delivery.QUEUED,
        col(Recipient.attempts) == 0,
    )
    async with store.write() as session:
        names = (await session.exec(select(Recipient.id).where(*never_tried))).all()
        await session.exec(
            update(Recipient)
            .where(*never_tried)
            .values(next_attempt_at=until, claimed_by=store.node, claimed_until=until)
            .execution_options(synchronize_session=False)
        )
    return Waiting(tuple(names), now, until)


async def look_back(store: Store, waiting: Waiting) -> int:
    """Hold what waited where a report tells of what this database never sent, else let it go; return how many held."""
    is_waiting = and_(col(Recipient.claimed_by) == store.node, col(Recipient.claimed_until) == waiting.until)
    async with store.write() as session:
        if await _is_any_reported(session, waiting.recipients):
            earlier = col(Recipient.message).in_(select(Message.id).where(col(Message.created_at) < waiting.since))
            which = and_(earlier, or_(is_waiting, col(Recipient.claimed_by).is_(None)))
            return await _hold(session, store, f"reported:{new_id(store.now())}", REPORTED, which)
        await session.exec(
            update(Recipient)
            .where(is_waiting)
            .values(next_attempt_at=store.now(), claimed_by=None, claimed_until=None)
            .execution_options(synchronize_session=False)
        )
    return 0


async def _is_any_reported(session: AsyncSession, recipients: tuple[str, ...]) -> bool:
    for start in range(0, len(recipients), _CHUNK):
        sent = select(Recipient.id).where(
            col(Recipient.id).in_(recipients[start : start + _CHUNK]),
            col(Recipient.attempts) == 0,
            col(Recipient.submitted_at).is_not(None),
        )
        if (await session.exec(sent.limit(1))).first() is not None:
            return True
    return False


async def _hold_all(session: AsyncSession, store: Store, why: str) -> int:
    """Hold all that waits or was in flight, before this process sends anything."""
    await session.exec(
        update(Attempt)
        .where(col(Attempt.finished_at).is_(None))
        .values(finished_at=store.now(), outcome="uncertain")
        .execution_options(synchronize_session=False)
    )
    return await _hold(session, store, f"restored:{new_id(store.now())}", why, true())


async def _hold(session: AsyncSession, store: Store, told: str, why: str, which: ColumnElement[bool]) -> int:
    now = store.now()
    queued = select(Recipient).where(col(Recipient.next_attempt_at).is_not(None), which)
    rows = (await session.exec(queued)).all()
    entries: list[Entry] = []
    for row in rows:
        submitted_at = row.submitted_at or now
        changes = {
            "next_attempt_at": None,
            "claimed_by": None,
            "claimed_until": None,
            "submitted_at": submitted_at,
            "deadline_at": submitted_at + timedelta(seconds=row.within),
        }
        detail = {"reason": f"{why}: what was sent since is not known", "restored": True}
        fact = Fact(row.id, EventKind.UNCERTAIN, Source.CLOCK, variant=told, detail=detail)
        entries.append(Entry(row.id, [fact], Provenance(told, now), SideEffects(changes)))
    await session.flush()
    for start in range(0, len(entries), _CHUNK):
        some = entries[start : start + _CHUNK]
        await session.run_sync(lambda inner, some=some: record(cast(Session, inner), store.settings, some, now=now))  # type: ignore[misc]
    return len(rows)
