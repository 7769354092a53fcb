"""Alerts: the rows of what people are told, and of what carries it to each webhook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import alert as alert_rules
from receiptd import telemetry
from receiptd.identifiers import id_of
from receiptd.models import Alert, Dispatch
from receiptd.settings import Settings
from receiptd.store.after_commit import once_committed


async def post(
    session: AsyncSession,
    settings: Settings,
    alert: Alert,
    to: Iterable[str],
    *,
    now: datetime,
    only: Sequence[str] | None = None,
) -> None:
    """Write *alert* and a dispatch, due at *now*, for each webhook that is to be told (see alert.chosen)."""
    chosen = alert_rules.chosen(settings, alert.type, to, only=only)
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
