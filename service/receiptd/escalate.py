"""Deadlines and bad news -> alert rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import policy, telemetry
from receiptd.facts import EventKind, Fact, Receipt, Source
from receiptd.lifecycle import reasons
from receiptd.models import Message, Recipient
from receiptd.recipients import Entry, Provenance, SideEffects, record_one
from receiptd.settings import MailboxSettings
from receiptd.store import Store, deadlines, is_down, monitors
from receiptd.store.monitors import Health

_log = structlog.get_logger(__name__)

_BLIND_AFTER = timedelta(minutes=5)
_PUSH = timedelta(minutes=1)


async def escalate(store: Store, *, limit: int = 200) -> int:
    """Judge every deadline that may be judged, and tell the next level of incidents; return how many were.

    A deadline may be judged when every folder was searched after it and all it held is settled.
    """
    now = store.now()
    async with store.read() as session:
        upto = await deadlines.horizon(session, folders_to_read(store.settings.mailbox))
        rows = await deadlines.due(session, now, upto, limit)
        telemetry.OVERDUE_HELD.set(await deadlines.held(session, now, upto))
    judged = 0
    for row in rows:
        try:
            judged += await store.together(partial(_judge, store=store, recipient=row.id, upto=upto))
        except Exception as fault:
            if is_down(fault):
                raise  # the database's fault, not the deadline's: it is judged as soon as there is one again
            _log.exception("a deadline can't be judged", recipient=row.id)
            await store.together(partial(deadlines.push_ahead, recipient=row.id, at=now + _PUSH))
    return judged


async def unread(store: Store) -> datetime | None:
    """Return the last deadline that can't be judged before every folder is read once more; None where none waits."""
    async with store.read() as session:
        read_at = await deadlines.last_read(session, folders_to_read(store.settings.mailbox))
        return await deadlines.unread(session, store.now(), read_at)


def folders_to_read(mailboxes: Sequence[MailboxSettings]) -> list[tuple[str, str]]:
    """Return the (mailbox, folder) pairs that must be searched before a deadline is judged."""
    return [(box.name, folder) for box in mailboxes if box.role == "receipts" for folder in box.folders]


async def _judge(session: AsyncSession, *, store: Store, recipient: str, upto: datetime | None) -> int:
    """Judge one recipient as it stands inside the transaction."""
    now = store.now()
    row = await session.get_one(Recipient, recipient, populate_existing=True)
    may_judge = row.submitted_at is None or (upto is not None and row.judge_at is not None and row.judge_at <= upto)
    if row.judge_at is None or row.judge_at > now or not may_judge:
        return 0
    if row.receipt is Receipt.OPEN and (row.deadline_at or row.submit_by) <= now:
        await _alert_overdue(session, store, row, now)
    else:
        await _alert_next_level(session, store, row, now)
    return 1


async def _alert_overdue(session: AsyncSession, store: Store, row: Recipient, now: datetime) -> None:
    is_submitted = row.submitted_at is not None
    variant, detail = ("", {}) if is_submitted else ("not submitted", {"submitted": False})
    fact = Fact(row.id, EventKind.OVERDUE, Source.CLOCK, variant=variant, detail=detail)
    reason = reasons.overdue(row.delivery, row.level, submitted=is_submitted)
    alarm = policy.Alarm("overdue", unproven=False, reason=reason)
    told = Provenance(f"clock:{fact.variant}", now)
    entry = Entry(row.id, [fact], told, SideEffects(alarms=[alarm]))
    await record_one(session, store.settings, entry, now=now)


async def _alert_next_level(session: AsyncSession, store: Store, row: Recipient, now: datetime) -> None:
    """Tell the next level of an open incident if it is due; either way the row gets its next judgement."""
    level = None
    if row.receipt is Receipt.OVERDUE and row.incident_opened_at is not None:
        message = await session.get_one(Message, row.message)
        levels = policy.levels(store.settings, message.policy)
        further = policy.next_level(levels, row.incident_opened_at, row.escalation)
        level = row.escalation + 1 if further is not None and further.due_at <= now else None
    entry = Entry(row.id, [], Provenance("clock", now), SideEffects(escalate_to=level))
    await record_one(session, store.settings, entry, now=now)


async def monitor(
    store: Store, relay: Health, boxes: Mapping[str, Health], clock: Health, *, started_at: datetime
) -> int:
    """Say once what we can't see, and once that we can again; return how many alerts that made."""
    now, told = store.now(), 0
    watched = [(box, boxes[box.name]) for box in store.settings.mailbox]  # other settings may come meanwhile
    async with store.read() as session:
        upto = await deadlines.horizon(session, folders_to_read(store.settings.mailbox))
        held = await deadlines.held(session, now, upto)
        reads = {box.name: await _last_read(session, box) for box, _ in watched}
        known = await monitors.open_alerts(session)
    for box, health in watched:
        last = reads[box.name]
        is_stale = now - (last or started_at) > max(3 * box.poll, _BLIND_AFTER)
        is_blind = is_stale or (not health.is_up and (health.permanent or held > 0))
        since = health.since or last or started_at
        told += await _tell(store, health, is_blind=is_blind, since=since, last=last, held=held)
    if any(subject.startswith("mailbox:") and subject.removeprefix("mailbox:") not in reads for subject in known):
        told += await store.together(lambda session: monitors.forget_mailboxes(session, store.settings, now=now))
    is_down = relay.since is not None and (relay.permanent or now - relay.since > _BLIND_AFTER)
    told += await _tell(store, relay, is_blind=is_down, since=relay.since or now, last=None, held=0)
    if clock.since is not None and all(last is not None and last >= clock.since for last in reads.values()):
        clock.up()
    told += await _tell(store, clock, is_blind=not clock.is_up, since=clock.since or now, last=None, held=held)
    return told


async def _last_read(session: AsyncSession, box: MailboxSettings) -> datetime | None:
    return await deadlines.last_read(session, [(box.name, folder) for folder in box.folders])


async def _tell(
    store: Store, health: Health, *, is_blind: bool, since: datetime, last: datetime | None, held: int
) -> bool:
    async def work(session: AsyncSession) -> bool:
        now, settings = store.now(), store.settings
        if is_blind:
            reason = health.reason or "it was not read to its end for too long"
            sight = monitors.Sight(since=since, reason=reason, last_complete_read=last, held=held)
            return await monitors.blind(session, settings, health.subject, sight, now=now)
        # A mailbox is read by one daemon of several: only its read tells the others.
        is_elsewhere = health.subject.startswith("mailbox:") and not store.is_sqlite
        seen = (last or datetime.min.replace(tzinfo=UTC)) if is_elsewhere else None
        return health.is_up and await monitors.clear(session, settings, health.subject, now=now, seen=seen)

    return await store.together(work)
