"""The move: what facts change about one recipient, computed without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from receiptd import lifecycle, policy
from receiptd.facts import Delivery, Event, EventKind, Fact, MatchedBy, Receipt, RecipientState, Source, Trust
from receiptd.identifiers import id_of
from receiptd.recipients import incidents
from receiptd.recipients.incidents import Moved
from receiptd.settings.model import EscalationLevel, Settings
from receiptd.standing import (
    MOST_COPIES,
    CopyRecord,
    RecipientRecord,
    Standing,
    demand_of,
    in_order,
    state_columns,
    state_of,
)

MOST_EVENTS = 200
"""Reports' facts kept of one recipient; further ones are only counted, but for the first of a kind."""
MOST_UNKEYED_EVENTS = 100
"""Of these, events that an untrusted sender could have sent: a flood of them must leave room for the true ones."""

_NOT_SUBMITTED = (Delivery.QUEUED, Delivery.DEFERRED, Delivery.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who told a fact (id of a report, an attempt, a decision), when our server had it, and the bytes it rests on."""

    by: str
    observed_at: datetime
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class SideEffects:
    """What happens in the same move without being a fact.

    *columns* are set in the same update; *alarms* (the clock's) are raised beside those that the facts
    demand; *escalate_to* tells that level of the open incident.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    alarms: Sequence[policy.Alarm] = ()
    escalate_to: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is told of one recipient at one time: facts of one provenance, and what goes with them."""

    recipient: str
    facts: Sequence[Fact]
    provenance: Provenance
    effects: SideEffects = field(default_factory=SideEffects)

    def copy_keys(self) -> list[str]:
        """Return the ids of the copies that these facts may repeat."""
        return [copy_key(event_key(self.recipient, fact), self.provenance.by) for fact in self.facts]


@dataclass(frozen=True, slots=True)
class Change:
    """A move done: how the recipient stands after it, what it was, and the ids of its new events in order."""

    standing: Standing
    moved: Moved
    appended: tuple[str, ...]


def event_key(recipient: str, fact: Fact) -> str:
    """Return the id of the event that *fact* is of *recipient*: the same fact is the same event."""
    return id_of("event", recipient, fact.kind, fact.final_recipient or "", fact.variant)


def copy_key(event: str, told_by: str) -> str:
    """Return the id of the copy of *event* that *told_by* brought."""
    return id_of("copy", event, told_by)


def met_copy_key(recipient: str) -> str:
    """Return the id of the copy that a receipt leaves: one that is met anew, after it was lost, repeats it."""
    return copy_key(id_of("event", recipient, EventKind.MET, "", ""), recipient)


def move(standing: Standing, entry: Entry, settings: Settings, *, now: datetime) -> Change:
    """Append the facts of *entry*, fold all events into the state, and draw every consequence.

    Whether facts come in one set or in several, the same facts in the same order end in the same rows.
    """
    before = state_of(standing.recipient)
    told = clamped(entry.provenance, standing.recipient)
    draft = _Draft(standing)
    new_events = draft.append(entry.facts, told)
    draft.set(entry.effects.columns)
    after = _fold(draft, told)
    draft.set(state_columns(after))
    if after.receipt.is_met and not before.receipt.is_met:
        met = Fact(entry.recipient, EventKind.MET, Source.CLOCK)
        draft.append([met], Provenance(entry.recipient, now))
    demand = demand_of(draft.recipient)
    # The clock judged what it had read: another daemon may have brought the receipt, or told the level, since.
    is_overdue = after.receipt is Receipt.OVERDUE
    raised = (*policy.alarms(before, after, new_events, demand), *(entry.effects.alarms if is_overdue else ()))
    moved = Moved(draft.recipient, before, after, tuple(new_events), policy.is_contested(after, demand))
    told_of = incidents.Incident(standing.message, draft.recipient, standing.alerts, standing.dispatches, settings, now)
    told_of.follow(moved, raised)
    level = entry.effects.escalate_to
    if level is not None and is_overdue and level > told_of.recipient.escalation:
        told_of.escalate(level)
    draft.recipient = told_of.recipient
    draft.set(
        {
            "judge_at": next_judgement(draft.recipient, policy.levels(settings, standing.message.policy)),
            "version": draft.recipient.version + 1,
        }
    )
    standing = Standing(
        standing.message, draft.recipient, draft.events, draft.copies, told_of.alerts, told_of.dispatches
    )
    return Change(standing, replace(moved, recipient=draft.recipient), tuple(draft.appended))


def clamped(told: Provenance, row: RecipientRecord) -> Provenance:
    """Return *told* no earlier than the message: no report is older than that."""
    if row.submitted_at is not None and told.observed_at < row.submitted_at:
        return replace(told, observed_at=row.submitted_at)
    return told


def _fold(draft: _Draft, told: Provenance) -> RecipientState:
    """Return the state that all events prove; where they first prove acceptance, the deadline's clock starts."""
    events = in_order(draft.events.values())
    after = lifecycle.fold(events, demand_of(draft.recipient))
    submission = _submission_columns(draft.recipient, after, told)
    draft.set(submission)
    return lifecycle.fold(events, demand_of(draft.recipient)) if "deadline_at" in submission else after


def _submission_columns(row: RecipientRecord, state: RecipientState, told: Provenance) -> dict[str, Any]:
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


def next_judgement(row: RecipientRecord, levels: Sequence[EscalationLevel]) -> datetime | None:
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


class _Draft:
    """The recipient, its events and their copies while a move is drawn up."""

    def __init__(self, standing: Standing) -> None:
        self._recipient = standing.recipient
        self._columns: dict[str, Any] = {}
        """Set, and not yet in the record: a copy of 36 fields for each of them takes half the time of a move."""
        self.events = dict(standing.events)
        self.copies = dict(standing.copies)
        self.appended: list[str] = []

    @property
    def recipient(self) -> RecipientRecord:
        """The recipient with all that was set so far."""
        if self._columns:
            self._recipient = replace(self._recipient, **self._columns)
            self._columns = {}
        return self._recipient

    @recipient.setter
    def recipient(self, record: RecipientRecord) -> None:
        self._recipient, self._columns = record, {}

    @property
    def event_count(self) -> int:
        """How many events there are, those that weren't kept included."""
        count: int = self._columns.get("event_count", self._recipient.event_count)
        return count

    def set(self, columns: Mapping[str, Any]) -> None:
        """Set columns of the recipient."""
        self._columns.update(columns)

    def append(self, facts: Sequence[Fact], told: Provenance) -> list[Event]:
        """Insert facts that are new and count those that are known; return what is new, or surer than before."""
        new: list[Event] = []
        for fact in facts:
            key = event_key(self._recipient.id, fact)
            if (known := self.events.get(key)) is not None:
                if self._count(known, fact, told):
                    new.append(self.events[key])
                continue
            self.set({"event_count": self.event_count + 1})
            if self._has_room(fact):
                new.append(self._insert(key, fact, told))
        return new

    def _has_room(self, fact: Fact) -> bool:
        """Whether a new fact is kept: a flood of reports must hide neither another kind of news nor our own facts."""
        room = MOST_EVENTS if fact.trust.at_least(Trust.KEYED) else MOST_UNKEYED_EVENTS
        if self.event_count <= room:
            return True
        if fact.source in (Source.PERSON, Source.CLOCK, Source.SMTP) or fact.matched_by is MatchedBy.PERSON:
            return True
        return not any(event.trust.at_least(fact.trust) for event in self.events.values() if event.kind is fact.kind)

    def _insert(self, key: str, fact: Fact, told: Provenance) -> Event:
        event = Event(
            id=key,
            recipient=self._recipient.id,
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
        self.events[key] = event
        self.appended.append(key)
        self._keep_copy(_copy(key, fact, told))
        return event

    def _keep_copy(self, copy: CopyRecord) -> None:
        self.copies[copy.id] = copy

    def _count(self, event: Event, fact: Fact, told: Provenance) -> bool:
        """Add a copy; return whether it makes the event surer.

        The event keeps its best-trusted copies' earliest time, whatever the order they came in.
        Where a person vouches for a report that was suspicious, the same copy is only trusted more than before.
        """
        copy = _copy(event.id, fact, told)
        known = self.copies.get(copy.id)
        if known is None:
            event = replace(event, count=event.count + 1)
            if event.count <= MOST_COPIES:
                self._keep_copy(copy)
        elif known.trust.at_least(fact.trust):
            return False
        else:
            self._keep_copy(replace(known, trust=fact.trust))
        is_surer = fact.trust.rank > event.trust.rank
        if is_surer:
            event = replace(
                event,
                trust=fact.trust,
                observed_at=told.observed_at,
                evidence=told.evidence,
                source=fact.source,
                matched_by=fact.matched_by,
                detail=dict(fact.detail),
            )
        elif fact.trust is event.trust and told.observed_at < event.observed_at:
            event = replace(event, observed_at=told.observed_at, evidence=told.evidence)
        self.events[event.id] = event
        return is_surer


def _copy(event: str, fact: Fact, told: Provenance) -> CopyRecord:
    return CopyRecord(copy_key(event, told.by), event, told.by, told.observed_at, fact.trust)
