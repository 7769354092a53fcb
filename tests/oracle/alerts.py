"""Alerts: what people are told, and the row that carries it to each webhook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import correlation_token, telemetry
from receiptd.facts import AlertType
from receiptd.identifiers import id_of
from receiptd.models import Alert, Dispatch, Message, Recipient
from receiptd.settings import Settings, WebhookSettings
from receiptd.store.after_commit import once_committed

_LONGEST_TEXT = 500
_ONLY_BY_NAME = (AlertType.RECEIPT_MET, AlertType.RECEIPT_AUTO_REPLY)


def rfc3339(instant: datetime | None) -> str | None:
    """Return an instant as JSON has it, in UTC to the second."""
    return None if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def takes(webhook: WebhookSettings, kind: str) -> bool:
    """Whether *webhook* subscribes to alerts of this type."""
    if kind in _ONLY_BY_NAME:
        return kind in webhook.events
    return any(fnmatchcase(kind, pattern) for pattern in webhook.events)


def recipient_data(
    settings: Settings,
    message: Message,
    row: Recipient,
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
        "link": link(settings, message.id),
    }


def link(settings: Settings, message: str) -> str | None:
    """Return the message's address in the API, or None where nothing listens on TCP."""
    address = next((listen.tcp for listen in settings.service.listen if listen.tcp), None)
    return f"http://{address}/v1/messages/{message}" if address else None


async def post(
    session: AsyncSession,
    settings: Settings,
    alert: Alert,
    to: Iterable[str],
    *,
    now: datetime,
    only: Sequence[str] | None = None,
) -> None:
    """Write *alert* and a dispatch, due at *now*, for each webhook of *to* that takes its type.

    Where none does, all that take it get it: an alert that nobody was to hear is still one.
    With *only*, nobody outside it is told (a resolution is for those who knew).
    """
    subscribed = [webhook.name for webhook in settings.webhook if takes(webhook, alert.type)]
    chosen = [name for name in subscribed if name in set(to)]
    if not chosen and only is None:
        chosen = subscribed
    alert.undelivered = not chosen and only is None
    session.add(alert)
    await session.flush()
    once_committed(session, telemetry.ALERTS.labels(alert.type).inc)
    session.add_all(
        Dispatch(id=id_of("dispatch", alert.id, webhook), alert=alert.id, webhook=webhook, due_at=now)
        for webhook in chosen
    )
    await session.flush()


async def hold_back(session: AsyncSession, recipient: str, *, now: datetime, until: datetime) -> None:
    """Put off till *until* what of this recipient isn't due at its first level yet: somebody is at it."""
    raised = select(Alert.id).where(Alert.recipient == recipient, col(Alert.resolved_at).is_(None))
    await session.exec(
        update(Dispatch)
        .where(col(Dispatch.alert).in_(raised), col(Dispatch.attempts) == 0, col(Dispatch.due_at) > now)
        .where(col(Dispatch.due_at) < until)
        .values(due_at=until)
        .execution_options(synchronize_session=False)
    )


async def withdraw(session: AsyncSession, raised: Sequence[str], *, now: datetime) -> set[str]:
    """Drop the dispatches of *raised* alerts that were never attempted; return the webhooks that may know of one.

    They are locked: an attempt that another process begins just now is seen, or begins no more.
    """
    query = select(Dispatch).where(col(Dispatch.alert).in_(raised)).with_for_update()
    dispatches = (await session.exec(query.execution_options(populate_existing=True))).all()
    untold = [dispatch.id for dispatch in dispatches if dispatch.attempts == 0 and dispatch.outcome == "pending"]
    if untold:
        await session.exec(
            update(Dispatch)
            .where(col(Dispatch.id).in_(untold))
            .values(outcome="dropped", due_at=None, finished_at=now)
            .execution_options(synchronize_session=False)
        )
    return {dispatch.webhook for dispatch in dispatches if dispatch.attempts > 0}
