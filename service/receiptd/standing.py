"""Where a recipient stands: the rows that a fact may change, as frozen values with the names of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from receiptd.facts import (
    Branch,
    Delivery,
    Demand,
    Disposition,
    Event,
    EventKind,
    Level,
    Receipt,
    RecipientState,
    Role,
    Trust,
)

MOST_COPIES = 1000
"""Reports that tell again what is known of one recipient, however short they are."""


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """What a move needs to know of the message (models.Message)."""

    id: str
    created_at: datetime
    from_address: str
    subject: str
    message_id: str
    policy: str
    labels: Mapping[str, str]
    resent_from: str | None


@dataclass(frozen=True, slots=True)
class RecipientRecord:
    """A row of models.Recipient."""

    id: str
    message: str
    position: int
    address: str
    domain: str
    role: Role
    token: str
    envelope_id: str | None
    require: Level
    within: int
    minimum_trust: Trust
    onward: bool
    mdn_requested: bool
    dsn_requested: bool | None
    delivery: Delivery
    disposition: Disposition
    receipt: Receipt
    level: Level | None
    trust: Trust | None
    branches: list[dict[str, str]]
    reason: str | None
    version: int
    event_count: int
    next_attempt_at: datetime | None
    attempts: int
    give_up_at: datetime
    claimed_by: str | None
    claimed_until: datetime | None
    submit_by: datetime
    submitted_at: datetime | None
    deadline_at: datetime | None
    judge_at: datetime | None
    incident: int
    incident_opened_at: datetime | None
    escalation: int
    acknowledged_until: datetime | None


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """A row of models.EventCopy."""

    id: str
    event: str
    told_by: str
    observed_at: datetime
    trust: Trust


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """A row of models.Alert about a recipient."""

    id: str
    type: str
    created_at: datetime
    recipient: str
    incident: int
    kind: str
    level: int
    data: Mapping[str, Any]
    resolved_at: datetime | None
    undelivered: bool


@dataclass(frozen=True, slots=True)
class DispatchRecord:
    """A row of models.Dispatch."""

    id: str
    alert: str
    webhook: str
    due_at: datetime | None
    attempts: int
    outcome: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One recipient with all that its next move depends on, by id.

    *events* are all of its events, *alerts* all of its alerts, *dispatches* those of the open incident's alerts;
    *copies* only those that the facts to come may repeat.
    """

    message: MessageRecord
    recipient: RecipientRecord
    events: Mapping[str, Event] = field(default_factory=dict)
    copies: Mapping[str, CopyRecord] = field(default_factory=dict)
    alerts: Mapping[str, AlertRecord] = field(default_factory=dict)
    dispatches: Mapping[str, DispatchRecord] = field(default_factory=dict)


class Demanding(Protocol):
    """What has the columns that say what is required: a row of models.Recipient, or its record."""

    @property
    def address(self) -> str: ...
    @property
    def require(self) -> Level: ...
    @property
    def deadline_at(self) -> datetime | None: ...
    @property
    def submit_by(self) -> datetime: ...
    @property
    def minimum_trust(self) -> Trust: ...
    @property
    def onward(self) -> bool: ...


def demand_of(row: Demanding) -> Demand:
    """Return what the sender requires of this recipient; until the final dot its deadline is that of submission."""
    return Demand(
        address=row.address,
        require=row.require,
        deadline=row.deadline_at or row.submit_by,
        minimum_trust=row.minimum_trust,
        onward=row.onward,
    )


def state_of(row: RecipientRecord) -> RecipientState:
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


def state_columns(state: RecipientState) -> dict[str, Any]:
    """Return the columns that cache *state*."""
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


def in_order(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the events as our server had them; within one instant (INTERNALDATE has seconds) in the way's order."""
    return tuple(sorted(events, key=lambda event: (event.observed_at, _ORDER[event.kind], event.id)))


_ORDER = {kind: number for number, kind in enumerate(EventKind)} | {EventKind.MET: len(EventKind)}
"""A receipt is met by what else happened in that instant, a person's word included: that stands before it."""
