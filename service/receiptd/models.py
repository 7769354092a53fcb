"""The tables: what is on disk, one class a table; the queue between two steps is a row of one of these."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Index, LargeBinary, MetaData, String, Text, TypeDecorator, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from receiptd.facts import (
    Delivery,
    Disposition,
    EventKind,
    Level,
    MatchedBy,
    Receipt,
    Role,
    Source,
    Trust,
    Verdict,
)
from receiptd.identifiers import serials

_JSON = JSON().with_variant(JSONB(), "postgresql")


class Words(TypeDecorator[StrEnum]):
    """A member of a StrEnum kept as its text, so that SQL reads like the docs."""

    impl = String(24)
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: StrEnum | str | None, dialect: Dialect) -> str | None:
        """Return the text to store; ValueError for a word that isn't one of the kind's."""
        return None if value is None else self.kind(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Return the member that the text names."""
        return None if value is None else self.kind(value)


def _index(name: str, *columns: str, where: str | None = None, flag: str | None = None, unique: bool = False) -> Index:
    """Return an index, partial with *where* or where *flag* is set, the same on both databases.

    SQLite has no booleans: a query says `flag = 1` there, and only an index that says the same serves it.
    """
    sqlite, postgresql = (f"{flag} = 1", flag) if flag else (where, where)
    return Index(
        name,
        *columns,
        unique=unique,
        sqlite_where=None if sqlite is None else text(sqlite),
        postgresql_where=None if postgresql is None else text(postgresql),
    )


def _words(kind: type[StrEnum]) -> Any:
    return Words(kind)


class Table(SQLModel):
    """What all tables share: names for constraints, so that migrations can drop them anywhere."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Evidence(Table, table=True):
    """Raw bytes that facts rest on, once under their SHA-256; of what speaks of nobody, their first part."""

    sha256: str = Field(primary_key=True)
    """Of the whole, though only its first part be kept."""
    size: int
    """Of the whole, too."""
    stored_at: datetime
    truncated: bool = False
    """Only the first part of *content* is kept (see store/evidence)."""
    said: bytes | None = Field(default=None, sa_type=LargeBinary)
    """What the whole said, as JSON, where it is truncated."""
    # Behind all else: SQLite reads through it to whatever stands behind.
    content: bytes = Field(sa_type=LargeBinary)


class Message(Table, table=True):
    """What a user handed over; it has no state of its own."""

    __table_args__ = (
        _index("uq_message_owner_idempotency_key", "owner", "idempotency_key", unique=True),
        _index("ix_message_created_at_id", "created_at", "id"),
    )

    id: str = Field(primary_key=True)
    created_at: datetime
    owner: str
    """Who handed it over: `uid:1000` on a Unix socket, `token:NAME` over TCP."""
    from_address: str
    sender: str | None = None
    """Who owns the envelope (sendmail's -f), where that isn't the author in From."""
    subject: str = Field(sa_type=Text)
    message_id: str = Field(index=True)
    policy: str
    labels: dict[str, str] = Field(default_factory=dict, sa_type=_JSON)
    evidence: str = Field(foreign_key="evidence.sha256", index=True)
    may_request: bool = True
    may_request_mdn: bool = True
    needs_8bitmime: bool = False
    needs_smtputf8: bool = False
    longest_line: int = 0
    idempotency_key: str | None = None
    idempotency_hash: str | None = None
    warnings: list[str] = Field(default_factory=list, sa_type=_JSON)
    resent_from: str | None = None


class Recipient(Table, table=True):
    """One address of one message: all state lives here; the state columns are a cache of `lifecycle.fold`."""

    __table_args__ = (
        _index("ix_recipient_next_attempt_at", "next_attempt_at", where="next_attempt_at IS NOT NULL"),
        _index("ix_recipient_judge_submitted", "judge_at", where="judge_at IS NOT NULL AND submitted_at IS NOT NULL"),
        _index("ix_recipient_judge_unsubmitted", "judge_at", where="judge_at IS NOT NULL AND submitted_at IS NULL"),
        _index("ix_recipient_receipt_id", "receipt", "id"),
        _index("ix_recipient_domain_id", "domain", "id"),
        _index("ix_recipient_domain_ended", "domain", "id", where="receipt NOT IN ('open', 'waived')"),
    )

    id: str = Field(primary_key=True)
    message: str = Field(foreign_key="message.id", index=True)
    position: int
    address: str
    domain: str
    role: Role = Field(sa_type=_words(Role))
    token: str = Field(unique=True)
    """In the return path and in Disposition-Notification-To: whoever holds the copy can read it."""
    envelope_id: str | None = Field(default=None, unique=True, index=True)
    """In ENVID alone, so that only servers on the way can give it back; None: went out with the token there."""

    require: Level = Field(sa_type=_words(Level))
    within: int
    """Seconds from the first final dot to the deadline."""
    minimum_trust: Trust = Field(sa_type=_words(Trust))
    onward: bool = False
    mdn_requested: bool = False
    dsn_requested: bool | None = None
    """None until the relay's EHLO was seen."""

    delivery: Delivery = Field(default=Delivery.QUEUED, sa_type=_words(Delivery))
    disposition: Disposition = Field(default=Disposition.NONE, sa_type=_words(Disposition))
    receipt: Receipt = Field(default=Receipt.OPEN, sa_type=_words(Receipt))
    level: Level | None = Field(default=None, sa_type=_words(Level))
    trust: Trust | None = Field(default=None, sa_type=_words(Trust))
    branches: list[dict[str, str]] = Field(default_factory=list, sa_type=_JSON)
    reason: str | None = Field(default=None, sa_type=Text)
    version: int = 0
    event_count: int = 0

    next_attempt_at: datetime | None = None
    """When submit takes it up; None: nothing to submit."""
    attempts: int = 0
    give_up_at: datetime
    claimed_by: str | None = None
    claimed_until: datetime | None = None

    submit_by: datetime
    submitted_at: datetime | None = None
    """The first final dot: where the deadline's clock starts."""
    deadline_at: datetime | None = None
    judge_at: datetime | None = None
    """When escalate looks next: submit_by, then the deadline, then the next level; None: never."""
    incident: int = 0
    """How many incidents there were, the open one included."""
    incident_opened_at: datetime | None = None
    """None: no incident is open."""
    escalation: int = 0
    """The highest level alerted in the open incident."""
    acknowledged_until: datetime | None = None


class Attempt(Table, table=True):
    """One SMTP transaction that reached DATA or its refusal; committed before DATA."""

    __table_args__ = (_index("ix_attempt_unfinished", "started_at", where="finished_at IS NULL"),)

    id: str = Field(primary_key=True)
    recipient: str = Field(foreign_key="recipient.id", index=True)
    started_at: datetime
    finished_at: datetime | None = None
    outcome: str | None = None
    """accepted, refused, deferred or uncertain; None while the relay's answer is out."""
    reply_code: int | None = None
    reply: str | None = Field(default=None, sa_type=Text)
    dialogue: str | None = Field(default=None, sa_type=Text)
    alias_message_id: str | None = Field(default=None, index=True)
    node: str


class EventRow(Table, table=True):
    """One fact about one recipient, appended; its id is made of the fact, so that a second one can't be."""

    __tablename__ = "event"
    __table_args__ = (_index("ix_event_serial_id", "serial", "id"),)

    id: str = Field(primary_key=True)
    serial: int = Field(default_factory=serials.next, sa_type=BigInteger)
    """Grows from one event to the next that this process records: who follows along reads from where it was."""
    recipient: str = Field(foreign_key="recipient.id", index=True)
    kind: EventKind = Field(sa_type=_words(EventKind))
    observed_at: datetime
    occurred_at: datetime | None = None
    source: Source = Field(sa_type=_words(Source))
    trust: Trust = Field(sa_type=_words(Trust))
    matched_by: MatchedBy | None = Field(default=None, sa_type=_words(MatchedBy))
    final_recipient: str | None = None
    count: int = 1
    evidence: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=_JSON)


class EventCopy(Table, table=True):
    """Which report (or attempt) told an event, once each."""

    __tablename__ = "event_copy"

    id: str = Field(primary_key=True)
    event: str = Field(foreign_key="event.id", index=True)
    told_by: str = Field(index=True)
    observed_at: datetime
    trust: Trust = Field(sa_type=_words(Trust))


class ReportRow(Table, table=True):
    """A message that came back, as fetched: committed before anyone reads it."""

    __tablename__ = "report"
    __table_args__ = (
        _index("ix_report_due_at", "due_at", where="due_at IS NOT NULL"),
        _index("ix_report_clear", "mailbox", "folder", flag="clear"),
        _index("ix_report_verdict_fetched_at", "verdict", "fetched_at"),
        _index("ix_report_fetched_at", "fetched_at"),
    )

    id: str = Field(primary_key=True)
    mailbox: str
    folder: str
    uidvalidity: int = Field(sa_type=BigInteger)
    uid: int = Field(sa_type=BigInteger)
    received_at: datetime
    """When our server took it (INTERNALDATE)."""
    fetched_at: datetime
    evidence: str = Field(foreign_key="evidence.sha256", index=True)
    size: int
    truncated: bool = False
    """Beyond max_report: only its first part was fetched."""
    due_at: datetime | None = None
    """When settle takes it up; None: settled or set aside."""
    tries: int = 0
    verdict: Verdict | None = Field(default=None, sa_type=_words(Verdict))
    kind: str | None = None
    subject: str | None = Field(default=None, sa_type=Text)
    from_address: str | None = None
    reason: str | None = Field(default=None, sa_type=Text)
    clear: bool = False
    """Matched, and still to be marked, moved or deleted in the mailbox as `after` says."""


class Alert(Table, table=True):
    """What people are told: written in the transaction that made it true."""

    __table_args__ = (
        _index("ix_alert_recipient_incident", "recipient", "incident"),
        _index("ix_alert_created_at_id", "created_at", "id"),
        _index("ix_alert_undelivered", "id", flag="undelivered"),
        _index("ix_alert_open_monitor", "subject", where="resolved_at IS NULL AND recipient IS NULL"),
    )

    id: str = Field(primary_key=True)
    type: str
    created_at: datetime
    recipient: str | None = Field(default=None, foreign_key="recipient.id")
    incident: int = 0
    kind: str
    level: int = 1
    subject: str | None = None
    """For monitor.*: what is blind, `mailbox:receipts` or `relay`."""
    data: dict[str, Any] = Field(default_factory=dict, sa_type=_JSON)
    resolved_at: datetime | None = None
    undelivered: bool = False
    """No endpoint took it, and none is left to try."""


class Dispatch(Table, table=True):
    """One alert on its way to one webhook."""

    __table_args__ = (
        _index("ix_dispatch_webhook_due_at", "webhook", "due_at", where="due_at IS NOT NULL"),
        _index("ix_dispatch_webhook_finished_at", "webhook", "finished_at"),
    )

    id: str = Field(primary_key=True)
    alert: str = Field(foreign_key="alert.id", index=True)
    webhook: str
    due_at: datetime | None = None
    attempts: int = 0
    outcome: str = "pending"
    """pending, delivered, failed (schedule exhausted), gone (410) or dropped (nothing to resolve)."""
    finished_at: datetime | None = None


class DispatchAttempt(Table, table=True):
    """One POST of a dispatch, and what came of it."""

    __tablename__ = "dispatch_attempt"

    id: str = Field(primary_key=True)
    dispatch: str = Field(foreign_key="dispatch.id", index=True)
    started_at: datetime
    milliseconds: int
    status: int | None = None
    reason: str | None = None


class Folder(Table, table=True):
    """How far a folder was read: the cursor moves in the transaction that stores what it passed."""

    mailbox: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    uidvalidity: int | None = Field(default=None, sa_type=BigInteger)
    uid: int = Field(default=0, sa_type=BigInteger)
    """The last UID that was passed."""
    read_at: datetime | None = None
    """The start of the last complete read."""
    recent: dict[str, list[int]] | None = Field(default=None, sa_type=_JSON)
    """Size and date (seconds) of the last messages that were passed, by UID: other ones there are a renumbering."""


class Lease(Table, table=True):
    """Who does what only one may do."""

    name: str = Field(primary_key=True)
    holder: str
    until: datetime


TABLES = Table.metadata
