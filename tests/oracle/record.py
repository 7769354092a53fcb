"""Recipients: append what was told of them, move them, and write the alerts that their new state demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import lifecycle, policy
from receiptd.facts import (
    Branch,
    Delivery,
    Demand,
    Disposition,
    Event,
    EventKind,
    Fact,
    MatchedBy,
    Receipt,
    RecipientState,
    Source,
    Trust,
)
from receiptd.identifiers import id_of
from receiptd.models import EventCopy, EventRow, Message, Recipient
from receiptd.settings import EscalationLevel, Settings
from tests.oracle import copies, incidents
from tests.oracle.incidents import Moved

MOST_EVENTS = 200
"""Reports' facts kept of one recipient; further ones are only counted, but for the first of a kind."""
MOST_UNKEYED_EVENTS = 100
"""Of these, events that a stranger could have sent: a flood of them must leave room for the true ones."""

_NOT_SUBMITTED = (Delivery.QUEUED, Delivery.DEFERRED, Delivery.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Told:
    """Who told a fact (id of a report, an attempt, a decision), when our server had it, and the bytes it rests on."""

    by: str
    observed_at: datetime
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """What happens in the same move without being a fact.

    *columns* are set in the same update; *alarms* (the clock's) are raised beside those that the facts
    demand; *escalate_to* tells that level of the open incident.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    alarms: Sequence[policy.Alarm] = ()
    escalate_to: int | None = None


def demand_of(row: Recipient) -> Demand:
    """Return what the sender requires of this recipient; until the final dot its deadline is that of submission."""
    return Demand(
        address=row.address,
        require=row.require,
        deadline=row.deadline_at or row.submit_by,
        minimum_trust=row.minimum_trust,
        onward=row.onward,
    )


def state_of(row: Recipient) -> RecipientState:
    """Return the state that the columns cache."""
    return RecipientState(
        delivery=row.delivery,
        disposition=row.disposition,
        receipt=row.receipt,
        level=row.level,
        trust=row.trust,
        branches=tuple(map(_branch, row.branches)),
        reason=row.reason,
    )


def _branch(kept: Mapping[str, str]) -> Branch:
    return Branch(kept["final_recipient"], Delivery(kept["delivery"]), Disposition(kept["disposition"]))


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


async def events_of(session: AsyncSession, recipient: str) -> tuple[Event, ...]:
    """Return the events of one recipient."""
    rows = (await session.exec(select(EventRow).where(EventRow.recipient == recipient))).all()
    return in_order(rows)


def in_order(rows: Iterable[EventRow]) -> tuple[Event, ...]:
    """Return the events as our server had them; within one instant (INTERNALDATE has seconds) in the way's order."""
    return tuple(sorted(map(event_of, rows), key=lambda event: (event.observed_at, _ORDER[event.kind], event.id)))


_ORDER = {kind: number for number, kind in enumerate(EventKind)} | {EventKind.MET: len(EventKind)}
"""A receipt is met by what else happened in that instant, a person's word included: that stands before it."""


async def record(
    session: AsyncSession,
    settings: Settings,
    recipient: str,
    facts: Sequence[Fact],
    told: Told,
    *,
    now: datetime,
    beside: Beside | None = None,
) -> Moved:
    """Append *facts*, fold all events into the state, and write what follows, in the caller's transaction.

    The update is a compare-and-set on `version`: only one writer moves a recipient, and only that one
    writes alerts.
    """
    query = select(Recipient).where(Recipient.id == recipient).with_for_update()
    row = (await session.exec(query.execution_options(populate_existing=True))).one()
    session.expunge(row)  # no write but the compare-and-set below
    message = await session.get_one(Message, row.message)
    version, before = row.version, state_of(row)
    if row.submitted_at is not None and told.observed_at < row.submitted_at:
        told = replace(told, observed_at=row.submitted_at)  # no report is older than its message
    new_events = await _append(session, row, facts, told)
    beside = beside or Beside()
    values = dict(beside.columns)
    _set(row, values)
    events = await events_of(session, recipient)
    after = lifecycle.fold(events, demand_of(row))
    submission = _submission_columns(row, after, told)
    _set(row, values, submission)
    if "deadline_at" in submission:
        after = lifecycle.fold(events, demand_of(row))
    _set(row, values, _state_columns(after))
    if after.receipt.is_met and not before.receipt.is_met:
        await _append(session, row, [Fact(row.id, EventKind.MET, Source.CLOCK)], Told(row.id, now))
    demand = demand_of(row)
    moved = Moved(row, before, after, tuple(new_events), policy.is_contested(after, demand))
    # What the clock says counts only while the receipt is overdue: that much has changed since.
    is_overdue = after.receipt is Receipt.OVERDUE
    raised = (*policy.alarms(before, after, new_events, demand), *(beside.alarms if is_overdue else ()))
    _set(row, values, await incidents.follow(session, settings, message, moved, raised, now=now))
    if beside.escalate_to is not None and is_overdue and beside.escalate_to > row.escalation:
        _set(row, values, await incidents.escalate(session, settings, message, row, beside.escalate_to, now=now))
    _set(row, values, {"judge_at": next_judgement(row, policy.levels(settings, message.policy))})
    values["event_count"] = row.event_count
    await _compare_and_set(session, row, version, values)
    if message.resent_from is not None:
        await _tell_forebears(session, settings, message, row, events, replace(told, by=f"copy:{row.id}"), now=now)
    return moved


async def _tell_forebears(
    session: AsyncSession,
    settings: Settings,
    copy: Message,
    row: Recipient,
    events: Sequence[Event],
    told: Told,
    *,
    now: datetime,
) -> None:
    """Let those to whom the same was sent before know whether the receipt of this copy is met.

    Only the copy's own reports count: what a later one has told it tells the others itself.
    """
    own = lifecycle.fold((event for event in events if not event.is_of_copy), demand_of(row))
    told = replace(told, observed_at=own.met_at or told.observed_at)
    for forebear in await copies.before(session, copy, row):
        fact = copies.news(forebear, await events_of(session, forebear), copy, row, own)
        if fact is not None:
            await record(session, settings, forebear, [fact], told, now=now)


class Stale(Exception):
    """Somebody else moved the recipient in between: the transaction must be done again."""


async def _compare_and_set(session: AsyncSession, row: Recipient, version: int, values: dict[str, Any]) -> None:
    row.version = version + 1
    statement = (
        update(Recipient)
        .where(col(Recipient.id) == row.id, col(Recipient.version) == version)
        .values(version=version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(statement)).rowcount != 1:
        raise Stale(row.id)


def _set(row: Recipient, values: dict[str, Any], more: dict[str, Any] | None = None) -> None:
    values.update(more or {})
    for name, value in values.items():
        setattr(row, name, value)


def _state_columns(state: RecipientState) -> dict[str, Any]:
    return {
        "delivery": state.delivery,
        "disposition": state.disposition,
        "receipt": state.receipt,
        "level": state.level,
        "trust": state.trust,
        "branches": [
            {"final_recipient": b.final_recipient, "delivery": str(b.delivery), "disposition": str(b.disposition)}
            for b in state.branches
        ],
        "reason": state.reason,
    }


def _submission_columns(row: Recipient, state: RecipientState, told: Told) -> dict[str, Any]:
    """Return what a known outcome changes: nothing is sent again, and the deadline's clock runs.

    A report may be settled before our own `accepted` is: it proves acceptance all the same.
    """
    if state.delivery in _NOT_SUBMITTED:
        return {}
    changes: dict[str, Any] = {"next_attempt_at": None, "claimed_by": None, "claimed_until": None}
    if row.submitted_at is None and state.level is not None:
        changes["submitted_at"] = told.observed_at
        changes["deadline_at"] = told.observed_at + timedelta(seconds=row.within)
    return changes


def next_judgement(row: Recipient, levels: Sequence[EscalationLevel]) -> datetime | None:
    """Return when escalate must look at this recipient next, or None if nothing can become due.

    Later levels are told of silence alone: bad news is final, and level 1 has it.
    """
    due: list[datetime] = []
    if row.receipt is Receipt.OPEN:
        due.append(row.deadline_at or row.submit_by)
    if row.receipt is Receipt.OVERDUE and row.incident_opened_at is not None:
        further = policy.next_level(levels, row.incident_opened_at, row.escalation)
        if further is not None:
            due.append(max(further.due_at, row.acknowledged_until or further.due_at))
    return min(due, default=None)


async def _append(session: AsyncSession, row: Recipient, facts: Sequence[Fact], told: Told) -> list[Event]:
    """Insert the facts that are new; count those that are known. Returns those that are new, or surer than before."""
    new: list[Event] = []
    for fact in facts:
        key = id_of("event", row.id, fact.kind, fact.final_recipient or "", fact.variant)
        known = await session.get(EventRow, key)
        if known is not None:
            if await _count(session, known, fact, told):
                new.append(event_of(known))
        else:
            row.event_count += 1
            if await _has_room(session, row, fact):
                new.append(event_of(await _insert(session, key, row.id, fact, told)))
    return new


async def _has_room(session: AsyncSession, row: Recipient, fact: Fact) -> bool:
    """Whether a new fact is kept: a flood of reports must hide neither another kind of news nor our own facts."""
    if row.event_count <= (MOST_EVENTS if fact.trust.at_least(Trust.KEYED) else MOST_UNKEYED_EVENTS):
        return True
    if fact.source in (Source.PERSON, Source.CLOCK, Source.SMTP) or fact.matched_by is MatchedBy.PERSON:
        return True
    known = select(EventRow.trust).where(EventRow.recipient == row.id, EventRow.kind == fact.kind).distinct()
    return not any(Trust(trust).at_least(fact.trust) for trust in (await session.exec(known)).all())


async def _insert(session: AsyncSession, key: str, recipient: str, fact: Fact, told: Told) -> EventRow:
    row = EventRow(
        id=key,
        recipient=recipient,
        kind=fact.kind,
        observed_at=told.observed_at,
        occurred_at=fact.occurred_at,
        source=fact.source,
        trust=fact.trust,
        matched_by=fact.matched_by,
        final_recipient=fact.final_recipient,
        evidence=told.evidence,
        detail=dict(fact.detail),
    )
    session.add(row)
    await session.flush()
    session.add(_copy(row, fact, told))
    await session.flush()
    return row


def _copy(row: EventRow, fact: Fact, told: Told) -> EventCopy:
    return EventCopy(
        id=id_of("copy", row.id, told.by), event=row.id, told_by=told.by, observed_at=told.observed_at, trust=fact.trust
    )


async def _count(session: AsyncSession, row: EventRow, fact: Fact, told: Told) -> bool:
    """Add a copy; return whether it makes the event surer.

    The event keeps its best-trusted copies' earliest time, whatever the order they came in.
    Where a person vouches for a report that was suspicious, the same copy is only trusted more than before.
    """
    copy = _copy(row, fact, told)
    known = await session.get(EventCopy, copy.id)
    if known is None:
        row.count += 1
        if row.count <= 1000:
            session.add(copy)
    elif known.trust.at_least(fact.trust):
        return False
    else:
        known.trust = fact.trust
    is_surer = fact.trust.rank > row.trust.rank
    if is_surer:
        row.trust, row.observed_at, row.evidence = fact.trust, told.observed_at, told.evidence
        row.source, row.matched_by, row.detail = fact.source, fact.matched_by, dict(fact.detail)
    elif fact.trust is row.trust and told.observed_at < row.observed_at:
        row.observed_at, row.evidence = told.observed_at, told.evidence
    await session.flush()
    return is_surer
