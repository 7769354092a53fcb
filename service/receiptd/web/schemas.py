"""What the API answers, as types: the description at /v1/openapi.json is made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, PlainSerializer, WithJsonSchema

from receiptd.facts import (
    AlertType,
    Delivery,
    Disposition,
    EventKind,
    Level,
    MatchedBy,
    Receipt,
    ReportKind,
    Role,
    Source,
    Trust,
    Verdict,
)
from receiptd.mail.timestamps import rfc3339

Instant = Annotated[
    datetime, PlainSerializer(rfc3339, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""RFC 3339 in UTC, to the second."""
Item = TypeVar("Item", bound=BaseModel)


class Page(BaseModel, Generic[Item]):
    """A part of a list; `next` is what `after` takes to go on, null at the end."""

    items: list[Item]
    next: str | None


class Problem(BaseModel):
    """An error (RFC 9457), with the exit status that a command has for it."""

    type: str
    title: str
    status: int
    detail: str
    exit_status: int


class AcceptedRecipient(BaseModel):
    """One recipient of a message that was taken."""

    id: str
    address: str


class AcceptedMessage(BaseModel):
    """A message that is on disk, and what its sender should know."""

    id: str
    message_id: str
    recipients: list[AcceptedRecipient]
    warnings: list[str]


class Branch(BaseModel):
    """One final recipient that reports named behind an address."""

    final_recipient: str
    delivery: Delivery
    disposition: Disposition


class Recipient(BaseModel):
    """One recipient with its three tracks."""

    id: str
    address: str
    role: Role
    require: Level
    deadline: Instant | None
    delivery: Delivery
    disposition: Disposition
    receipt: Receipt
    level: Level | None
    reason: str | None
    dsn_requested: bool | None
    mdn_requested: bool
    trust: Trust | None
    branches: list[Branch]


class AcknowledgedRecipient(Recipient):
    """A recipient whose incident is held back for a while."""

    acknowledged_until: Instant | None


class Event(BaseModel):
    """One fact about one recipient."""

    id: str
    recipient: str
    kind: EventKind
    observed_at: Instant
    occurred_at: Instant | None
    source: Source
    trust: Trust
    matched_by: MatchedBy | None
    final_recipient: str | None
    count: int
    evidence: str | None
    detail: dict[str, Any]


class RecordedEvent(Event):
    """An event in the stream of all events: with its message and its cursor."""

    message: str
    cursor: str


class Message(BaseModel):
    """A message with its recipients."""

    id: str
    message_id: str
    from_: str = Field(serialization_alias="from")
    sender: str | None
    subject: str
    created_at: Instant
    policy: str
    labels: dict[str, str]
    resent_from: str | None
    recipients: list[Recipient]


class MessageDetail(Message):
    """A message with its recipients and every event."""

    events: list[Event]


class Report(BaseModel):
    """A message that came back, and what became of it."""

    id: str
    mailbox: str
    folder: str
    received_at: Instant
    size: int
    kind: ReportKind | None
    verdict: Verdict | None
    message: str | None
    recipients: list[str]
    from_: str | None = Field(serialization_alias="from")
    subject: str | None
    reason: str | None
    evidence: str
    truncated: bool


class DispatchAttempt(BaseModel):
    """One POST of an alert to a webhook, and what came of it."""

    at: Instant
    status: int | None
    milliseconds: int
    reason: str | None


class Dispatch(BaseModel):
    """An alert on its way to one webhook: pending, delivered, failed, gone or dropped."""

    webhook: str
    outcome: str
    next_attempt_at: Instant | None
    attempts: list[DispatchAttempt]


class Alert(BaseModel):
    """An alert with every attempt to tell it; `data` is what its webhooks are sent."""

    id: str
    type: AlertType
    created_at: Instant
    resolved_at: Instant | None
    undelivered: bool
    data: dict[str, Any]
    dispatches: list[Dispatch]


class Released(BaseModel):
    """How many recipients were held and aren't any more."""

    released: int


class ReplayedAlert(BaseModel):
    """The alert that is sent again."""

    id: str


class MessagePage(Page[Message]):
    """Messages, newest first."""


class EventPage(Page[Event]):
    """All events of one message."""


class RecordedEventPage(Page[RecordedEvent]):
    """Events of all messages in the order in which they were recorded."""


class ReportPage(Page[Report]):
    """Reports, newest first."""


class AlertPage(Page[Alert]):
    """Alerts, newest first."""


class Life(BaseModel):
    """The process is alive."""

    alive: bool


class Check(BaseModel):
    """One thing that must be well, and since when it isn't."""

    name: str
    ok: bool
    reason: str | None
    since: Instant | None


class Readiness(BaseModel):
    """Whether the service does its work."""

    ready: bool
    checks: list[Check]
