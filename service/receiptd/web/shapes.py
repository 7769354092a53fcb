"""The JSON of messages, events, reports and alerts, as scripts read it (docs/api.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from receiptd import token
from receiptd.facts import Delivery, Event
from receiptd.lifecycle import uncounted
from receiptd.models import Message, Recipient, ReportRow
from receiptd.store.alerts import rfc3339
from receiptd.store.dispatches import Sent
from receiptd.store.events import Recorded
from receiptd.store.messages import Whole
from receiptd.store.recipients import demand_of


def accepted(message: Message, recipients: tuple[Recipient, ...]) -> dict[str, Any]:
    """Return the answer to a message that was taken."""
    return {
        "id": message.id,
        "message_id": message.message_id,
        "recipients": [{"id": row.id, "address": row.address} for row in recipients],
        "warnings": message.warnings,
    }


def message(whole: Whole, *, with_events: bool, waits: str | None = None) -> dict[str, Any]:
    """Return a message with its recipients, and their events where asked for; *waits* as for each recipient."""
    row = whole.message
    shown: dict[str, Any] = {
        "id": row.id,
        "message_id": row.message_id,
        "from": row.from_address,
        "sender": row.sender,
        "subject": row.subject,
        "created_at": rfc3339(row.created_at),
        "policy": row.policy,
        "labels": row.labels,
        "resent_from": row.resent_from,
        "recipients": [recipient(one, waits=waits) for one in whole.recipients],
    }
    if with_events:
        shown["events"] = events(whole)
    return shown


def events(whole: Whole) -> list[dict[str, Any]]:
    """Return the events of a message; where one doesn't count, or rests on what is not all kept, its detail says so."""
    shown = [event(one) for one in whole.events]
    idle = _uncounted(whole)
    for one in shown:
        if one["id"] in idle:
            one["detail"]["counts"] = False
        if one["evidence"] and (kept := _kept(one["evidence"], whole.evidence)) != "whole":
            one["detail"]["evidence_kept"] = kept
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


def recipient(row: Recipient, *, waits: str | None = None) -> dict[str, Any]:
    """Return one recipient with its three tracks; *waits* says why nothing that is queued goes out now."""
    reasons = [row.reason, waits if row.delivery is Delivery.QUEUED else None]
    return {
        "id": row.id,
        "address": row.address,
        "role": row.role,
        "require": row.require,
        "deadline": rfc3339(row.deadline_at),
        "delivery": row.delivery,
        "disposition": row.disposition,
        "receipt": row.receipt,
        "level": row.level,
        "reason": " ".join(filter(None, reasons)) or None,
        "dsn_requested": row.dsn_requested,
        "mdn_requested": row.mdn_requested,
        "trust": row.trust,
        "branches": row.branches,
    }


def event(one: Event) -> dict[str, Any]:
    """Return one event; tokens in its detail are cut, they are keys."""
    return {
        "id": one.id,
        "recipient": one.recipient,
        "kind": one.kind,
        "observed_at": rfc3339(one.observed_at),
        "occurred_at": rfc3339(one.occurred_at),
        "source": one.source,
        "trust": one.trust,
        "matched_by": one.matched_by,
        "final_recipient": one.final_recipient,
        "count": one.count,
        "evidence": one.evidence,
        "detail": {name: _masked(value) for name, value in one.detail.items()},
    }


def recorded(one: Recorded) -> dict[str, Any]:
    """Return an event for those who follow along: they must be told whose it is."""
    return {**event(one.event), "message": one.message, "cursor": str(one.place)}


def _masked(value: Any) -> Any:
    return token.mask(value) if isinstance(value, str) else value


def report(row: ReportRow, *, truncated: bool, of: Sequence[Recipient]) -> dict[str, Any]:
    """Return what is known of a message that came back; *truncated*: only its first part is kept.

    *of* are those of whom it told something.
    """
    return {
        "id": row.id,
        "mailbox": row.mailbox,
        "folder": row.folder,
        "received_at": rfc3339(row.received_at),
        "size": row.size,
        "kind": row.kind,
        "verdict": row.verdict,
        "message": of[0].message if of else None,
        "recipients": [one.id for one in of],
        "from": row.from_address,
        "subject": row.subject,
        "reason": row.reason,
        "evidence": f"sha256:{row.evidence}",
        "truncated": truncated or row.truncated,
    }


def alert(sent: Sent) -> dict[str, Any]:
    """Return an alert with every attempt to tell it."""
    row = sent.alert
    return {
        "id": row.id,
        "type": row.type,
        "created_at": rfc3339(row.created_at),
        "resolved_at": rfc3339(row.resolved_at),
        "undelivered": row.undelivered,
        "data": row.data,
        "dispatches": [
            {
                "webhook": dispatch.webhook,
                "outcome": dispatch.outcome,
                "next_attempt_at": rfc3339(dispatch.due_at),
                "attempts": [
                    {
                        "at": rfc3339(attempt.started_at),
                        "status": attempt.status,
                        "milliseconds": attempt.milliseconds,
                        "reason": attempt.reason,
                    }
                    for attempt in sent.attempts
                    if attempt.dispatch == dispatch.id
                ],
            }
            for dispatch in sent.dispatches
        ],
    }
