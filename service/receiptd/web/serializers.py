"""The JSON of messages, events, reports and alerts, as scripts read it (docs/api.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from receiptd import correlation_token
from receiptd.facts import AlertType, Delivery, Event, ReportKind
from receiptd.lifecycle import uncounted
from receiptd.models import Dispatch, Recipient, ReportRow
from receiptd.standing import RecipientRecord, demand_of
from receiptd.store.dispatches import Sent
from receiptd.store.events import Recorded
from receiptd.store.messages import Whole
from receiptd.store.new_messages import StoredMessage
from receiptd.web import schemas


def accepted(
    message: StoredMessage, recipients: tuple[RecipientRecord, ...], warnings: list[str]
) -> schemas.AcceptedMessage:
    """Return the answer to a message that was taken."""
    return schemas.AcceptedMessage(
        id=message.id,
        message_id=message.message_id,
        recipients=[schemas.AcceptedRecipient(id=row.id, address=row.address) for row in recipients],
        warnings=warnings,
    )


def message(whole: Whole, *, waits: str | None = None) -> schemas.Message:
    """Return a message with its recipients; *waits* as for each of them."""
    return schemas.Message(**_message(whole, waits))


def message_detail(whole: Whole, *, waits: str | None = None) -> schemas.MessageDetail:
    """Return a message with its recipients and their events."""
    return schemas.MessageDetail(**_message(whole, waits), events=events(whole))


def _message(whole: Whole, waits: str | None) -> dict[str, Any]:
    row = whole.message
    return {
        "id": row.id,
        "message_id": row.message_id,
        "from_": row.from_address,
        "sender": row.sender,
        "subject": row.subject,
        "created_at": row.created_at,
        "policy": row.policy,
        "labels": row.labels,
        "resent_from": row.resent_from,
        "recipients": [recipient(one, waits=waits) for one in whole.recipients],
    }


def events(whole: Whole) -> list[schemas.Event]:
    """Return the events of a message; where one doesn't count, or rests on what is not all kept, its detail says so."""
    shown = [event(one) for one in whole.events]
    idle = _uncounted(whole)
    for one in shown:
        if one.id in idle:
            one.detail["counts"] = False
        if one.evidence and (kept := _kept(one.evidence, whole.evidence)) != "whole":
            one.detail["evidence_kept"] = kept
    return shown


def _uncounted(whole: Whole) -> frozenset[str]:
    told: dict[str, list[Event]] = {}
    for one in whole.events:
        told.setdefault(one.recipient, []).append(one)
    return frozenset().union(*(uncounted(told.get(row.id, ()), demand_of(row)) for row in whole.recipients))


def _kept(evidence: str, known: Mapping[str, bool]) -> str:
    """Return how much is kept of a report: where it speaks of nobody a part, and in a flood nothing."""
    is_cut = known.get(evidence.removeprefix("sha256:"))
    return "nothing" if is_cut is None else "part" if is_cut else "whole"


def recipient(row: Recipient | RecipientRecord, *, waits: str | None = None) -> schemas.Recipient:
    """Return one recipient with its three tracks; *waits* says why nothing that is queued goes out now."""
    return schemas.Recipient(**_recipient(row, waits))


def acknowledged(row: Recipient | RecipientRecord, *, waits: str | None) -> schemas.AcknowledgedRecipient:
    """Return a recipient, and until when its incident is held back."""
    return schemas.AcknowledgedRecipient(**_recipient(row, waits), acknowledged_until=row.acknowledged_until)


def _recipient(row: Recipient | RecipientRecord, waits: str | None) -> dict[str, Any]:
    reasons = [row.reason, waits if row.delivery is Delivery.QUEUED else None]
    return {
        "id": row.id,
        "address": row.address,
        "role": row.role,
        "require": row.require,
        "deadline": row.deadline_at,
        "delivery": row.delivery,
        "disposition": row.disposition,
        "receipt": row.receipt,
        "level": row.level,
        "reason": _masked(" ".join(filter(None, reasons))) or None,
        "dsn_requested": row.dsn_requested,
        "mdn_requested": row.mdn_requested,
        "trust": row.trust,
        "branches": [schemas.Branch.model_validate(_masked(one)) for one in row.branches],
    }


def event(one: Event) -> schemas.Event:
    """Return one event; tokens in what a report says are cut, they are keys."""
    return schemas.Event(**_event(one))


def recorded(one: Recorded) -> schemas.RecordedEvent:
    """Return an event as the stream of all events has it: with its message."""
    return schemas.RecordedEvent(**_event(one.event), message=one.message, cursor=str(one.place))


def _event(one: Event) -> dict[str, Any]:
    return {
        "id": one.id,
        "recipient": one.recipient,
        "kind": one.kind,
        "observed_at": one.observed_at,
        "occurred_at": one.occurred_at,
        "source": one.source,
        "trust": one.trust,
        "matched_by": one.matched_by,
        "final_recipient": _masked(one.final_recipient),
        "count": one.count,
        "evidence": one.evidence,
        "detail": {name: _masked(value) for name, value in one.detail.items()},
    }


def _masked(value: Any) -> Any:
    """Return *value* without tokens, however deep they stand."""
    if isinstance(value, str):
        return correlation_token.mask(value)
    if isinstance(value, Mapping):
        return {name: _masked(one) for name, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, Sequence) else value


def report(row: ReportRow, *, truncated: bool, of: Sequence[Recipient]) -> schemas.Report:
    """Return what is known of a message that came back; *truncated*: only its first part is kept.

    *of* are those of whom it told something.
    """
    return schemas.Report(
        id=row.id,
        mailbox=row.mailbox,
        folder=row.folder,
        received_at=row.received_at,
        size=row.size,
        kind=ReportKind(row.kind) if row.kind else None,
        verdict=row.verdict,
        message=of[0].message if of else None,
        recipients=[one.id for one in of],
        from_=row.from_address,
        subject=row.subject,
        reason=row.reason,
        evidence=f"sha256:{row.evidence}",
        truncated=truncated or row.truncated,
    )


def alert(sent: Sent) -> schemas.Alert:
    """Return an alert with every attempt to tell it."""
    row = sent.alert
    return schemas.Alert(
        id=row.id,
        type=AlertType(row.type),
        created_at=row.created_at,
        resolved_at=row.resolved_at,
        undelivered=row.undelivered,
        data=row.data,
        dispatches=[_dispatch(sent, one) for one in sent.dispatches],
    )


def _dispatch(sent: Sent, row: Dispatch) -> schemas.Dispatch:
    return schemas.Dispatch(
        webhook=row.webhook,
        outcome=row.outcome,
        next_attempt_at=row.due_at,
        attempts=[
            schemas.DispatchAttempt(
                at=one.started_at, status=one.status, milliseconds=one.milliseconds, reason=one.reason
            )
            for one in sent.attempts
            if one.dispatch == row.id
        ],
    )
