"""Incidents: all alerts about one recipient, from the first until it is resolved or waived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from receiptd import alert as alert_rules
from receiptd import correlation_token, policy
from receiptd.facts import AlertType, Event, EventKind, Receipt, RecipientState
from receiptd.identifiers import id_of
from receiptd.mail.timestamps import rfc3339
from receiptd.settings.model import Settings
from receiptd.standing import AlertRecord, DispatchRecord, MessageRecord, RecipientRecord

_TYPES = {
    "failed": AlertType.RECEIPT_FAILED,
    "overdue": AlertType.RECEIPT_OVERDUE,
    "contradicted": AlertType.RECEIPT_CONTRADICTED,
    "refused": AlertType.RECEIPT_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Moved:
    """A recipient before and after a move; *recipient* is the row as it will be written.

    *is_contested*: a person's word alone meets the receipt, and reports say otherwise.
    """

    recipient: RecipientRecord
    before: RecipientState
    after: RecipientState
    new_events: tuple[Event, ...]
    is_contested: bool


class Incident:
    """The alerts about one recipient and their dispatches while a move is drawn up; nothing here touches a database."""

    def __init__(
        self,
        message: MessageRecord,
        recipient: RecipientRecord,
        raised: Mapping[str, AlertRecord],
        dispatches: Mapping[str, DispatchRecord],
        settings: Settings,
        now: datetime,
    ) -> None:
        self.recipient = recipient
        self.alerts = dict(raised)
        self.dispatches = dict(dispatches)
        self._message = message
        self._settings = settings
        self._now = now

    def follow(self, moved: Moved, alarms: Iterable[policy.Alarm]) -> None:
        """Write the alerts that a move demands, and end the incident where the move does."""
        evidence = next((event.evidence for event in reversed(moved.new_events) if event.evidence), None)
        self._tell_subscribers(moved, evidence)
        if moved.after.receipt is Receipt.WAIVED:
            self._resolve(moved, None, outcome="waived")
            return
        opened = [self._raise(alarm, evidence) for alarm in alarms]
        if not any(opened) and self._is_over(moved):
            outcome = "recovered" if moved.before.receipt is Receipt.FAILED else "met"
            self._resolve(moved, evidence, outcome=outcome)

    def escalate(self, level: int) -> None:
        """Tell the next *level* of the open incident what the first was told."""
        last = max(self._of_incident(), key=lambda alert: (alert.created_at, alert.id), default=None)
        if last is None:
            return
        alarm = policy.Alarm(
            kind=last.kind.rstrip("?+"),
            unproven=last.kind.endswith("?"),
            reason=str(last.data.get("reason", "")),
            again=last.kind.endswith("+"),
        )
        self._write(alarm, last.data.get("evidence"), level)
        self._set({"escalation": level})

    def _of_incident(self) -> list[AlertRecord]:
        """Return the alerts of this incident in one order, whether they were loaded or raised in this very set."""
        own = [alert for alert in self.alerts.values() if alert.incident == self.recipient.incident]
        return sorted(own, key=lambda alert: (alert.created_at, alert.level, alert.id))

    def _set(self, columns: Mapping[str, Any]) -> None:
        self.recipient = replace(self.recipient, **columns)

    def _is_over(self, moved: Moved) -> bool:
        """Whether an open incident ends: the requirement is met now, or was and has just been proven anew.

        What a person's word meets against what reports say, only a person's word ends.
        """
        if self.recipient.incident_opened_at is None or not moved.after.receipt.is_met:
            return False
        if not moved.before.receipt.is_met or any(event.kind in _ENDS for event in moved.new_events):
            return True
        if moved.is_contested:
            return False
        return any(
            event.trust.at_least(self.recipient.minimum_trust) and event.kind not in _NO_PROOF
            for event in moved.new_events
        )

    def _raise(self, alarm: policy.Alarm, evidence: str | None) -> bool:
        """Alert once for this kind in this incident; return whether that opened one."""
        is_opened = self.recipient.incident_opened_at is None
        if is_opened:
            self._set(
                {
                    "incident": self.recipient.incident + 1,
                    "incident_opened_at": self._now,
                    "escalation": 1,
                    "acknowledged_until": None,
                }
            )
        elif alarm.unproven and self._alert_id(alarm.kind, 1) in self.alerts:
            return False
        if self._alert_id(_kind(alarm), 1) not in self.alerts:
            self._write(alarm, evidence, 1)
        return is_opened

    def _alert_id(self, kind: str, level: int) -> str:
        return id_of("alert", self.recipient.id, self.recipient.incident, kind, level)

    def _write(self, alarm: policy.Alarm, evidence: str | None, level: int) -> None:
        data = recipient_data(
            self._settings,
            self._message,
            self.recipient,
            reason=alarm.reason,
            unproven=alarm.unproven,
            level=level,
            evidence=evidence,
        )
        levels = policy.levels(self._settings, self._message.policy)
        told = levels[min(level, len(levels)) - 1]
        due_at = max(self._now, (self.recipient.incident_opened_at or self._now) + told.after)
        alert = self._alert(self._alert_id(_kind(alarm), level), _TYPES[alarm.kind], _kind(alarm), data, level=level)
        self._post(alert, told.to, due_at=due_at)

    def _alert(
        self,
        key: str,
        kind: AlertType,
        name: str,
        data: Mapping[str, Any],
        *,
        level: int = 1,
        incident: int | None = None,
    ) -> AlertRecord:
        return AlertRecord(
            id=key,
            type=kind,
            created_at=self._now,
            recipient=self.recipient.id,
            incident=self.recipient.incident if incident is None else incident,
            kind=name,
            level=level,
            data=data,
            resolved_at=None,
            undelivered=False,
        )

    def _post(
        self, alert: AlertRecord, to: Iterable[str], *, due_at: datetime, only: Sequence[str] | None = None
    ) -> None:
        """Keep *alert* and a dispatch of it for each webhook that is to be told."""
        chosen = alert_rules.chosen(self._settings, alert.type, to, only=only)
        self.alerts[alert.id] = replace(alert, undelivered=not chosen and only is None)
        for webhook in chosen:
            key = id_of("dispatch", alert.id, webhook)
            self.dispatches[key] = DispatchRecord(key, alert.id, webhook, due_at, 0, "pending", None)

    def _resolve(self, moved: Moved, evidence: str | None, *, outcome: str) -> None:
        """End the open incident: withdraw what nobody was told, and tell everyone else that it is over."""
        if self.recipient.incident_opened_at is None:
            return
        raised = self._of_incident()
        told = self._withdraw({alert.id for alert in raised})
        if told:
            data = recipient_data(
                self._settings,
                self._message,
                self.recipient,
                reason=_end(moved, outcome),
                level=self.recipient.escalation,
                evidence=evidence,
            )
            data |= {
                "resolves": [alert.id for alert in raised],
                "outcome": outcome,
                "late": self.recipient.receipt is Receipt.MET_LATE,
            }
            alert = self._alert(self._alert_id("resolved", 1), AlertType.RECEIPT_RESOLVED, "resolved", data)
            self._post(alert, told, due_at=self._now, only=told)
        for alert in raised:
            self.alerts[alert.id] = replace(alert, resolved_at=self._now, undelivered=False)
        self._set({"incident_opened_at": None, "escalation": 0, "acknowledged_until": None})

    def _withdraw(self, raised: set[str]) -> list[str]:
        """Drop dispatches of *raised* alerts that were never attempted; return the webhooks that may know of one."""
        own = [dispatch for dispatch in self.dispatches.values() if dispatch.alert in raised]
        for dispatch in own:
            if dispatch.attempts == 0 and dispatch.outcome == "pending":
                self.dispatches[dispatch.id] = replace(dispatch, outcome="dropped", due_at=None, finished_at=self._now)
        return sorted({dispatch.webhook for dispatch in own if dispatch.attempts > 0})

    def _tell_subscribers(self, moved: Moved, evidence: str | None) -> None:
        """Tell of receipts and auto-replies those webhooks that name these types in full."""
        for kind, key, reason, proof, detail in _tellings(moved, evidence):
            webhooks = [webhook.name for webhook in self._settings.webhook if kind in webhook.events]
            alert_id = id_of("alert", self.recipient.id, kind, key)
            if webhooks and alert_id not in self.alerts:
                data = recipient_data(
                    self._settings, self._message, self.recipient, reason=reason, level=0, evidence=proof
                )
                data |= {name: detail[name] for name in ("excerpt", "returns_at") if detail.get(name)}
                self._post(self._alert(alert_id, kind, key[:24], data, incident=0), webhooks, due_at=self._now)


_ENDS = {EventKind.CONFIRMED, EventKind.WAIVED}
_NO_PROOF = {
    EventKind.FAILED,
    EventKind.REFUSED,
    EventKind.COMPLAINED,
    EventKind.HELD,
    EventKind.AUTO_REPLIED,
    EventKind.ACKNOWLEDGED,
}


def _kind(alarm: policy.Alarm) -> str:
    """Return the kind as stored: a doubtful alarm doesn't stand in the way of the sure one."""
    return f"{alarm.kind}?" if alarm.unproven else f"{alarm.kind}+" if alarm.again else alarm.kind


def _tellings(moved: Moved, evidence: str | None) -> list[tuple[AlertType, str, str, str | None, Mapping[str, Any]]]:
    tellings: list[tuple[AlertType, str, str, str | None, Mapping[str, Any]]] = [
        (AlertType.RECEIPT_AUTO_REPLY, event.id, policy.auto_reply_reason(event), event.evidence, event.detail)
        for event in moved.new_events
        if event.kind in (EventKind.AUTO_REPLIED, EventKind.HELD)
    ]
    if moved.after.receipt.is_met and not moved.before.receipt.is_met:
        tellings.append((AlertType.RECEIPT_MET, "met", _end(moved, "met"), evidence, {}))
    return tellings


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


_LONGEST_TEXT = 500


def recipient_data(
    settings: Settings,
    message: MessageRecord,
    row: RecipientRecord,
    *,
    reason: str,
    level: int,
    unproven: bool = False,
    evidence: str | None = None,
) -> dict[str, Any]:
    """Return the `data` of a receipt.* alert (docs/webhooks.md); foreign text is cut, tokens are masked."""
    return {
        "message": {
            "id": message.id,
            "message_id": message.message_id,
            "from": message.from_address,
            "subject": message.subject[:_LONGEST_TEXT],
            "labels": message.labels,
        },
        "recipient": {
            "id": row.id,
            "address": row.address,
            "delivery": row.delivery,
            "disposition": row.disposition,
            "receipt": row.receipt,
            "level": row.level,
            "deadline": rfc3339(row.deadline_at),
        },
        "escalation": level,
        "reason": correlation_token.mask(reason)[:_LONGEST_TEXT],
        "unproven": unproven,
        "evidence": evidence,
        "link": alert_rules.link(settings, message.id),
    }
