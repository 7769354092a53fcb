"""Deadlines and bad news -> alert rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import policy, telemetry
from receiptd.facts import EventKind, Fact, Receipt, Source
from receiptd.lifecycle import reasons
from receiptd.recipients import Entry, Provenance, SideEffects, record
from receiptd.settings import MailboxSettings, Settings
from receiptd.store import Store, deadlines, folders, is_down, monitors
from receiptd.store.deadlines import Due, Look
from receiptd.store.monitors import Health

_log = structlog.get_logger(__name__)

_BLIND_AFTER = timedelta(minutes=5)
_PUSH = timedelta(minutes=1)


async def escalate(store: Store, *, limit: int = 200) -> int:
    """Judge up to *limit* deadlines that may be judged, and tell the next level of incidents; return how many.

    A deadline may be judged when every folder was searched after it and all it held is settled. All are judged in one
    transaction; where that raises, each is judged alone, so that a bad row stops no other.
    """
    found = await _look(store, limit)
    telemetry.OVERDUE_HELD.set(found.held)
    if not found.due:
        return 0
    try:
        return await store.transact(partial(_judge, store=store, recipients=found.due, upto=found.upto))
    except Exception as fault:
        if is_down(fault):
            raise  # the database's fault, not the deadlines': they are judged as soon as there is one again
    return sum([await _judge_alone(store, recipient, found.upto) for recipient in found.due])


async def _look(store: Store, limit: int) -> Look:
    names = folders_to_read(store.settings.mailbox)
    return await store.query(partial(deadlines.look, now=store.now(), folders=names, limit=limit))


async def _judge_alone(store: Store, recipient: str, upto: datetime | None) -> int:
    try:
        return await store.transact(partial(_judge, store=store, recipients=[recipient], upto=upto))
    except Exception as fault:
        if is_down(fault):
            raise
        _log.exception("a deadline can't be judged", recipient=recipient)
        await store.transact(partial(deadlines.push_ahead, recipient=recipient, at=store.now() + _PUSH))
        return 0


async def unread(store: Store) -> datetime | None:
    """Return the last deadline that can't be judged before every folder is read once more; None where none waits."""
    return await store.query(
        partial(deadlines.unread, now=store.now(), folders=folders_to_read(store.settings.mailbox))
    )


def folders_to_read(mailboxes: Sequence[MailboxSettings]) -> list[tuple[str, str]]:
    """Return the (mailbox, folder) pairs that must be searched before a deadline is judged."""
    return [(box.name, folder) for box in mailboxes if box.role == "receipts" for folder in box.folders]


def _judge(session: Session, *, store: Store, recipients: Sequence[str], upto: datetime | None) -> int:
    """Judge *recipients* as they stand while they are locked; return how many were to be judged."""
    now, settings = store.now(), store.settings
    free = deadlines.take(session, recipients)
    entries = [_entry(row, settings, now) for row in free if _may_judge(row, now, upto)]
    record(session, settings, entries, now=now)
    return len(entries)


def _may_judge(row: Due, now: datetime, upto: datetime | None) -> bool:
    if row.judge_at is None or row.judge_at > now:
        return False
    return row.submitted_at is None or (upto is not None and row.judge_at <= upto)


def _entry(row: Due, settings: Settings, now: datetime) -> Entry:
    """Return what the clock says of a recipient: it is overdue, or the next level is told; at least: judge it later."""
    if row.receipt is Receipt.OPEN and (row.deadline_at or row.submit_by) <= now:
        return _overdue(row, now)
    level = None
    if row.receipt is Receipt.OVERDUE and row.incident_opened_at is not None:
        further = policy.next_level(policy.levels(settings, row.policy), row.incident_opened_at, row.escalation)
        level = row.escalation + 1 if further is not None and further.due_at <= now else None
    return Entry(row.id, [], Provenance("clock", now), SideEffects(escalate_to=level))


def _overdue(row: Due, now: datetime) -> Entry:
    is_submitted = row.submitted_at is not None
    variant, detail = ("", {}) if is_submitted else ("not submitted", {"submitted": False})
    fact = Fact(row.id, EventKind.OVERDUE, Source.CLOCK, variant=variant, detail=detail)
    reason = reasons.overdue(row.delivery, row.level, submitted=is_submitted)
    alarm = policy.Alarm("overdue", unproven=False, reason=reason)
    return Entry(row.id, [fact], Provenance(f"clock:{fact.variant}", now), SideEffects(alarms=[alarm]))


async def monitor(
    store: Store, relay: Health, boxes: Mapping[str, Health], clock: Health, *, started_at: datetime
) -> int:
    """Say once what we can't see, and once that we can again; return how many alerts that made."""
    now, told = store.now(), 0
    watched = [(box, boxes[box.name]) for box in store.settings.mailbox]  # other settings may come meanwhile
    boxes_seen = [box for box, _ in watched]
    held, reads, known = await store.query(partial(_seen, store=store, boxes=boxes_seen, now=now))
    for box, health in watched:
        last = reads[box.name]
        is_stale = not health.is_waiting and now - (last or started_at) > max(3 * box.poll, _BLIND_AFTER)
        is_blind = is_stale or (not health.is_up and (health.permanent or held > 0))
        since = health.since or last or started_at
        told += await _tell(store, health, known, is_blind=is_blind, since=since, last=last, held=held)
    if any(subject.startswith("mailbox:") and subject.removeprefix("mailbox:") not in reads for subject in known):
        told += await store.together(lambda session: monitors.forget_mailboxes(session, store.settings, now=now))
    is_down = relay.since is not None and (relay.permanent or now - relay.since > _BLIND_AFTER)
    told += await _tell(store, relay, known, is_blind=is_down, since=relay.since or now, last=None, held=0)
    if clock.since is not None and all(last is not None and last >= clock.since for last in reads.values()):
        clock.up()
    told += await _tell(store, clock, known, is_blind=not clock.is_up, since=clock.since or now, last=None, held=held)
    return told


def _seen(
    session: Session, *, store: Store, boxes: Sequence[MailboxSettings], now: datetime
) -> tuple[int, dict[str, datetime | None], frozenset[str]]:
    """Return how many deadlines are held, when each mailbox was last read, and what is known to be blind."""
    upto = deadlines.horizon(session, folders_to_read(store.settings.mailbox))
    reads = {box.name: folders.last_read(session, [(box.name, folder) for folder in box.folders]) for box in boxes}
    return deadlines.held(session, now, upto), reads, monitors.known(session)


async def _tell(
    store: Store,
    health: Health,
    known: frozenset[str],
    *,
    is_blind: bool,
    since: datetime,
    last: datetime | None,
    held: int,
) -> bool:
    """Tell what has changed since *known* was looked up; what hasn't costs no transaction."""
    if is_blind == (health.subject in known) or (not is_blind and not health.is_up):
        return False

    async def work(session: AsyncSession) -> bool:
        now, settings = store.now(), store.settings
        if is_blind:
            reason = health.reason or "it was not read to its end for too long"
            outage = monitors.Outage(since=since, reason=reason, last_complete_read=last, held=held)
            return await monitors.blind(session, settings, health.subject, outage, now=now)
        # A mailbox is read by one daemon of several: only its read tells the others.
        is_elsewhere = health.subject.startswith("mailbox:") and not store.is_sqlite
        seen = (last or datetime.min.replace(tzinfo=UTC)) if is_elsewhere else None
        return await monitors.clear(session, settings, health.subject, now=now, seen=seen)

    return await store.together(work)
