"""Incidents: all alerts about one recipient, from the first until it is resolved or waived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import policy
from receiptd.facts import AlertType, Event, EventKind, Receipt, RecipientState
from receiptd.identifiers import id_of
from receiptd.models import Alert, Message, Recipient
from receiptd.settings import Settings
from tests.oracle import alerts

_TYPES = {
    "failed": AlertType.RECEIPT_FAILED,
    "overdue": AlertType.RECEIPT_OVERDUE,
    "contradicted": AlertType.RECEIPT_CONTRADICTED,
    "refused": AlertType.RECEIPT_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Moved:
    """A recipient before and after a record; *recipient* is the row as it will be written.

    *is_contested*: a person's word alone meets the receipt, and reports say otherwise.
    """

    recipient: Recipient
    before: RecipientState
    after: RecipientState
    new_events: tuple[Event, ...]
    is_contested: bool


async def follow(
    session: AsyncSession,
    settings: Settings,
    message: Message,
    moved: Moved,
    alarms: Iterable[policy.Alarm],
    *,
    now: datetime,
) -> dict[str, Any]:
    """Write the alerts that a move demands; return the columns of the recipient that follow from them."""
    evidence = next((event.evidence for event in reversed(moved.new_events) if event.evidence), None)
    await _tell_subscribers(session, settings, message, moved, evidence, now=now)
    row = moved.recipient
    if moved.after.receipt is Receipt.WAIVED:
        return await _resolve(session, settings, message, moved, None, outcome="waived", now=now)
    changes: dict[str, Any] = {}
    for alarm in alarms:
        changes |= await _raise(session, settings, message, row, alarm, evidence, now=now)
    if not changes and _is_over(moved):
        outcome = "recovered" if moved.before.receipt is Receipt.FAILED else "met"
        return await _resolve(session, settings, message, moved, evidence, outcome=outcome, now=now)
    return changes


async def escalate(
    session: AsyncSession,
    settings: Settings,
    message: Message,
    row: Recipient,
    level: int,
    *,
    now: datetime,
) -> dict[str, Any]:
    """Tell the next *level* of an open incident what the first was told; return the columns that change."""
    query = (
        select(Alert)
        .where(Alert.recipient == row.id, Alert.incident == row.incident)
        .order_by(col(Alert.created_at).desc(), col(Alert.id).desc())
    )
    last = (await session.exec(query)).first()
    if last is None:
        return {}
    alarm = policy.Alarm(
        kind=last.kind.rstrip("?+"),
        unproven=last.kind.endswith("?"),
        reason=str(last.data.get("reason", "")),
        again=last.kind.endswith("+"),
    )
    await _write(session, settings, message, row, alarm, last.data.get("evidence"), level, now=now)
    return {"escalation": level}


def _is_over(moved: Moved) -> bool:
    """Whether an open incident ends: the requirement is met now, or was and has just been proven anew.

    What a person's word meets against what reports say, only a person's word ends.
    """
    if moved.recipient.incident_opened_at is None or not moved.after.receipt.is_met:
        return False
    if not moved.before.receipt.is_met or any(event.kind in _ENDS for event in moved.new_events):
        return True
    if moved.is_contested:
        return False
    return any(
        event.trust.at_least(moved.recipient.minimum_trust) and event.kind not in _NO_PROOF
        for event in moved.new_events
    )


_ENDS = {EventKind.CONFIRMED, EventKind.WAIVED}
_NO_PROOF = {
    EventKind.FAILED,
    EventKind.REFUSED,
    EventKind.COMPLAINED,
    EventKind.HELD,
    EventKind.AUTO_REPLIED,
    EventKind.ACKNOWLEDGED,
}


async def _raise(
    session: AsyncSession,
    settings: Settings,
    message: Message,
    row: Recipient,
    alarm: policy.Alarm,
    evidence: str | None,
    *,
    now: datetime,
) -> dict[str, Any]:
    """Alert once for this kind in this incident, opening one if none is."""
    changes: dict[str, Any] = {}
    if row.incident_opened_at is None:
        changes = {"incident": row.incident + 1, "incident_opened_at": now, "escalation": 1, "acknowledged_until": None}
        for name, value in changes.items():
            setattr(row, name, value)
    elif alarm.unproven and await session.get(Alert, _alert_id(row, alarm.kind, 1)) is not None:
        return {}
    if await session.get(Alert, _alert_id(row, _kind(alarm), 1)) is None:
        await _write(session, settings, message, row, alarm, evidence, 1, now=now)
    return changes


def _kind(alarm: policy.Alarm) -> str:
    """Return the kind as stored: a doubtful alarm doesn't stand in the way of the sure one."""
    return f"{alarm.kind}?" if alarm.unproven else f"{alarm.kind}+" if alarm.again else alarm.kind


def _alert_id(row: Recipient, kind: str, level: int) -> str:
    return id_of("alert", row.id, row.incident, kind, level)


async def _write(
    session: AsyncSession,
    settings: Settings,
    message: Message,
    row: Recipient,
    alarm: policy.Alarm,
    evidence: str | None,
    level: int,
    *,
    now: datetime,
) -> None:
    data = alerts.recipient_data(
        settings, message, row, reason=alarm.reason, unproven=alarm.unproven, level=level, evidence=evidence
    )
    alert = Alert(
        id=_alert_id(row, _kind(alarm), level),
        type=_TYPES[alarm.kind],
        created_at=now,
        recipient=row.id,
        incident=row.incident,
        kind=_kind(alarm),
        level=level,
        data=data,
    )
    levels = policy.levels(settings, message.policy)
    told = levels[min(level, len(levels)) - 1]
    due_at = max(now, (row.incident_opened_at or now) + told.after)
    await alerts.post(session, settings, alert, told.to, now=due_at)


async def _resolve(
    session: AsyncSession,
    settings: Settings,
    message: Message,
    moved: Moved,
    evidence: str | None,
    *,
    outcome: str,
    now: datetime,
) -> dict[str, Any]:
    """End the open incident: withdraw what nobody was told, and tell everyone else that it is over."""
    row = moved.recipient
    if row.incident_opened_at is None:
        return {}
    raised = (await session.exec(select(Alert).where(Alert.recipient == row.id, Alert.incident == row.incident))).all()
    told = await alerts.withdraw(session, [alert.id for alert in raised], now=now)
    if told:
        reason = _end(moved, outcome)
        data = alerts.recipient_data(settings, message, row, reason=reason, level=row.escalation, evidence=evidence)
        data |= {"resolves": [a.id for a in raised], "outcome": outcome, "late": row.receipt is Receipt.MET_LATE}
        alert = Alert(
            id=_alert_id(row, "resolved", 1),
            type=AlertType.RECEIPT_RESOLVED,
            created_at=now,
            recipient=row.id,
            incident=row.incident,
            kind="resolved",
            data=data,
        )
        await alerts.post(session, settings, alert, sorted(told), now=now, only=sorted(told))
    for raised_alert in raised:
        raised_alert.resolved_at = now
        raised_alert.undelivered = False
    return {"incident_opened_at": None, "escalation": 0, "acknowledged_until": None}


_END = {
    "met": "The required receipt has come.",
    "recovered": "The required receipt has come after all.",
    "waived": "A person decided that no receipt is needed.",
}


_NOTHING_OF_THIS = "It says nothing of what became of this message itself."


def _end(moved: Moved, outcome: str) -> str:
    """Return why it is over; a person's word is not a receipt that came, and a copy's is not this message's."""
    if outcome == "waived":
        return _END[outcome]
    if any(event.kind is EventKind.CONFIRMED for event in moved.new_events):
        return "A person confirmed the receipt."
    copy = next((str(event.detail["reason"]) for event in moved.new_events if event.is_of_copy), None)
    return _END[outcome] if copy is None else f"{copy[0].upper()}{copy[1:]}. {_NOTHING_OF_THIS}"


async def _tell_subscribers(
    session: AsyncSession, settings: Settings, message: Message, moved: Moved, evidence: str | None, *, now: datetime
) -> None:
    """Tell of receipts and auto-replies those webhooks that name these types in full."""
    row = moved.recipient
    tellings: list[tuple[AlertType, str, str, str | None, dict[str, Any]]] = [
        (AlertType.RECEIPT_AUTO_REPLY, event.id, policy.auto_reply_reason(event), event.evidence, dict(event.detail))
        for event in moved.new_events
        if event.kind in (EventKind.AUTO_REPLIED, EventKind.HELD)
    ]
    if moved.after.receipt.is_met and not moved.before.receipt.is_met:
        tellings.append((AlertType.RECEIPT_MET, "met", _end(moved, "met"), evidence, {}))
    for kind, key, reason, proof, detail in tellings:
        webhooks = [webhook.name for webhook in settings.webhook if kind in webhook.events]
        if webhooks and await session.get(Alert, id_of("alert", row.id, kind, key)) is None:
            data = alerts.recipient_data(settings, message, row, reason=reason, level=0, evidence=proof)
            data |= {name: detail[name] for name in ("excerpt", "returns_at") if detail.get(name)}
            alert = Alert(
                id=id_of("alert", row.id, kind, key),
                type=kind,
                created_at=now,
                recipient=row.id,
                kind=key[:24],
                data=data,
            )
            await alerts.post(session, settings, alert, webhooks, now=now)
