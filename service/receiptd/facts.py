"""States, Event, Report, RecipientState: frozen values in the words of the RFCs, no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

LONGEST_MESSAGE_ID = 998
"""Octets of a Message-ID of ours: what fits a line (RFC 5322 §2.1.1), and an index of PostgreSQL (2.7 kB)."""


class _Ranked(StrEnum):
    """An enum whose order of definition is its strength, weakest first."""

    rank: int

    def __init__(self, _: str) -> None:
        self.rank = len(type(self).__members__)

    def at_least(self, other: _Ranked) -> bool:
        """Whether this is as strong as *other* or stronger."""
        return self.rank >= other.rank


class Delivery(StrEnum):
    """How far the message came (docs/design.md §6, first track)."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    ACCEPTED = "accepted"
    DELAYED = "delayed"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    DELIVERED = "delivered"
    FAILED = "failed"
    CONTRADICTED = "contradicted"
    CANCELLED = "cancelled"


class Disposition(StrEnum):
    """What became of it behind the mailbox (second track, RFC 8098 §3.2.6)."""

    NONE = "none"
    PROCESSED = "processed"
    DISPATCHED = "dispatched"
    DELETED = "deleted"
    REFUSED = "refused"
    DENIED = "denied"
    ERROR = "error"
    DISPLAYED = "displayed"
    REPLIED = "replied"


class Receipt(StrEnum):
    """Whether what the sender required has come (third track)."""

    OPEN = "open"
    MET = "met"
    MET_LATE = "met_late"
    OVERDUE = "overdue"
    FAILED = "failed"
    WAIVED = "waived"

    @property
    def is_met(self) -> bool:
        return self in (Receipt.MET, Receipt.MET_LATE)


class Level(_Ranked):
    """What is proven, weakest first; `expanded` proves as much as `relayed`."""

    ACCEPTED = "accepted"
    RELAYED = "relayed"
    DELIVERED = "delivered"
    DISPLAYED = "displayed"
    REPLIED = "replied"


class Trust(_Ranked):
    """How sure it is that a report is about this recipient: who could have written it (docs/design.md §5).

    Only servers on the way know what `sealed` takes; anyone who has the copy knows what `keyed` takes.
    """

    WEAK = "weak"
    PLAUSIBLE = "plausible"
    KEYED = "keyed"
    SEALED = "sealed"


class Role(StrEnum):
    """The header field that named the recipient."""

    TO = "to"
    CC = "cc"
    BCC = "bcc"


class EventKind(StrEnum):
    """One fact about one recipient."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"
    ACCEPTED = "accepted"
    DELAYED = "delayed"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISPLAYED = "displayed"
    DELETED = "deleted"
    REFUSED = "refused"
    DISPATCHED = "dispatched"
    PROCESSED = "processed"
    DENIED = "denied"
    ERROR = "error"
    REPLIED = "replied"
    AUTO_REPLIED = "auto_replied"
    COMPLAINED = "complained"
    HELD = "held"
    OVERDUE = "overdue"
    MET = "met"
    ACKNOWLEDGED = "acknowledged"
    WAIVED = "waived"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    RESENT = "resent"


class Source(StrEnum):
    """Who says so."""

    SMTP = "smtp"
    DSN = "dsn"
    BOUNCE = "bounce"
    MDN = "mdn"
    REPLY = "reply"
    FEEDBACK = "feedback"
    CLOCK = "clock"
    PERSON = "person"


class MatchedBy(StrEnum):
    """The key by which a report found its recipient."""

    RETURN_PATH = "return_path"
    ENVELOPE_ID = "envelope_id"
    RETURNED_HEADER = "returned_header"
    MESSAGE_ID = "message_id"
    ALIAS = "alias"
    REFERENCES = "references"
    PERSON = "person"


class ReportKind(StrEnum):
    """What kind of message came back (docs/commands.md, interpret)."""

    DSN = "dsn"
    BOUNCE = "bounce"
    MDN = "mdn"
    AUTO_REPLY = "auto_reply"
    FEEDBACK = "feedback"
    REPLY = "reply"
    ORDINARY = "ordinary"


class Action(StrEnum):
    """What a report says of one recipient: RFC 3464 §2.3.3 actions and RFC 8098 §3.2.6.2 dispositions."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    DISPLAYED = "displayed"
    DELETED = "deleted"
    DISPATCHED = "dispatched"
    PROCESSED = "processed"
    DENIED = "denied"
    ERROR = "error"


class Cause(StrEnum):
    """Why a delivery failed or waits, in words a person can act on."""

    USER_UNKNOWN = "user_unknown"
    MAILBOX_FULL = "mailbox_full"
    MAILBOX_DISABLED = "mailbox_disabled"
    HOST_UNKNOWN = "host_unknown"
    HOST_UNREACHABLE = "host_unreachable"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    SPAM = "spam"
    VIRUS = "virus"
    POLICY = "policy"
    AUTHENTICATION = "authentication"
    TOO_BIG = "too_big"
    CONTENT = "content"
    RELAY_DENIED = "relay_denied"
    RATE_LIMITED = "rate_limited"
    LOOP = "loop"
    SYSTEM = "system"
    SECURITY = "security"
    MOVED = "moved"
    PROTOCOL = "protocol"
    OTHER = "other"


class Verdict(StrEnum):
    """What became of a report."""

    MATCHED = "matched"
    UNMATCHED = "unmatched"
    SUSPICIOUS = "suspicious"
    NOISE = "noise"
    SET_ASIDE = "set_aside"


class AlertType(StrEnum):
    """What people and programs are told (docs/webhooks.md): the type of a webhook."""

    RECEIPT_FAILED = "receipt.failed"
    RECEIPT_OVERDUE = "receipt.overdue"
    RECEIPT_CONTRADICTED = "receipt.contradicted"
    RECEIPT_REFUSED = "receipt.refused"
    RECEIPT_AUTO_REPLY = "receipt.auto_reply"
    RECEIPT_RESOLVED = "receipt.resolved"
    RECEIPT_MET = "receipt.met"
    MONITOR_SET_ASIDE = "monitor.set_aside"
    MONITOR_BLIND = "monitor.blind"
    MONITOR_CLEAR = "monitor.clear"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about one recipient, appended and never changed.

    *observed_at* is when our server received the (earliest) report of it, *occurred_at* what the
    report claims. *final_recipient* is the branch it is about; None means the address we sent to.
    *detail* keeps the RFC fields that no law depends on, and `onward`, `automatic`, `refusal`, `vouched`.
    """

    id: str
    recipient: str
    kind: EventKind
    observed_at: datetime
    source: Source
    trust: Trust = Trust.KEYED
    occurred_at: datetime | None = None
    matched_by: MatchedBy | None = None
    final_recipient: str | None = None
    count: int = 1
    evidence: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_of_copy(self) -> bool:
        """Whether it tells how the receipt of a copy stands that was sent again, and not that one was."""
        return self.kind is EventKind.RESENT and "receipt" in self.detail


@dataclass(frozen=True, slots=True)
class Fact:
    """What one report, transaction, clock or person says of one recipient: an event to be.

    *variant* is what tells otherwise equal facts apart (status, reporting MTA, disposition mode …):
    two facts of the same recipient, kind, final recipient and variant are one event with two copies.
    """

    recipient_id: str
    kind: EventKind
    source: Source
    trust: Trust = Trust.KEYED
    matched_by: MatchedBy | None = None
    final_recipient: str | None = None
    occurred_at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """What a report says of one recipient (one recipient block of RFC 3464 §2.3, or one MDN)."""

    action: Action | None = None
    stated_action: str | None = None
    status: str | None = None
    reply_code: int | None = None
    final_recipient: str | None = None
    original_recipient: str | None = None
    diagnostic_code: str | None = None
    remote_mta: str | None = None
    cause: Cause | None = None
    occurred_at: datetime | None = None
    will_retry_until: datetime | None = None
    aliases: tuple[str, ...] = ()
    """Further addresses the report gives for the same recipient (X-Actual-Recipient and the like)."""


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A 24-character base32 word in a place where a token counts, and which place (docs/design.md §5)."""

    token: str
    place: MatchedBy


@dataclass(frozen=True, slots=True)
class Report:
    """What a message that came back says, as far as its own bytes tell."""

    kind: ReportKind
    recipients: tuple[ReportedRecipient, ...] = ()
    reporting_mta: str | None = None
    reporting_ua: str | None = None
    envelope_id: str | None = None
    original_message_id: str | None = None
    found_tokens: tuple[FoundToken, ...] = ()
    disposition_mode: str | None = None
    disposition_modifiers: tuple[str, ...] = ()
    arrival_date: datetime | None = None

    message_id: str | None = None
    date: datetime | None = None
    subject: str = ""
    from_address: str | None = None
    to_addresses: tuple[str, ...] = ()
    return_path: str | None = None
    """Envelope sender as our server recorded it; "" is the null path, None is unknown."""
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    alias_message_ids: tuple[str, ...] = ()
    """Ids a relay replaced: X-Microsoft-Original-Message-ID, X-Google-Original-Message-ID."""
    returned_from: str | None = None
    """From address of the returned original, if one came back."""
    authentication_results: tuple[str, ...] = ()
    """The topmost Authentication-Results fields, unfolded, outermost header only."""
    is_automatic: bool = False
    """Auto-Submitted other than `no`, or one of the older marks of automata."""
    is_refusal: bool = False
    """An MDN `deleted` that a delivery agent sent: Sieve reject (a delivery agent refusing on behalf of the reader)."""
    is_challenge: bool = False
    """A challenge-response request."""
    excerpt: str = ""
    """The first lines of the human-readable text, at most 500 characters."""
    returns_at: datetime | None = None
    """The return date an out-of-office reply states."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every candidate token once, in the order found."""
        return tuple(dict.fromkeys(found.token for found in self.found_tokens))


@dataclass(frozen=True, slots=True)
class Demand:
    """What the sender requires of one recipient, and what may satisfy it.

    *deadline* is None until the clock started (the first final dot, docs/design.md §7).
    """

    address: str
    require: Level = Level.RELAYED
    deadline: datetime | None = None
    minimum_trust: Trust = Trust.KEYED
    onward: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """One final recipient behind an address."""

    final_recipient: str
    delivery: Delivery
    disposition: Disposition = Disposition.NONE


@dataclass(frozen=True, slots=True)
class RecipientState:
    """What the events of a recipient prove, joined (docs/design.md §6)."""

    delivery: Delivery = Delivery.QUEUED
    disposition: Disposition = Disposition.NONE
    receipt: Receipt = Receipt.OPEN
    level: Level | None = None
    trust: Trust | None = None
    branches: tuple[Branch, ...] = ()
    disposition_mode: str | None = None
    disposition_modifiers: tuple[str, ...] = ()
    reason: str | None = None
    """One plain sentence: why the receipt failed, or what limits the claim ("one branch of an alias failed …")."""
    met_at: datetime | None = None
    """When the evidence that satisfied the requirement reached our server."""
    is_confirmed: bool = False
    """Whether a person's word meets the receipt, whatever reports say."""
