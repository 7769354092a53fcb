"""Whether the daemon lives, whether it can do its work, and its figures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from receiptd import telemetry
from receiptd.store import deadlines, dispatches, messages, queue
from receiptd.store.alerts import rfc3339
from receiptd.store.monitors import Health
from receiptd.web.house import House
from receiptd.web.rights import Reader, Rooms

router = APIRouter()

_FRESH = timedelta(minutes=5)
_DATABASE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well, and since when it isn't."""

    name: str
    ok: bool
    reason: str | None = None
    since: datetime | None = None


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    """The process is alive and its loop turns."""
    return {"alive": True}


@router.get("/readyz")
async def readyz(house: Rooms, _: Reader) -> JSONResponse:
    """The database answers, every mailbox is fresh, the relay takes mail, no alert is stranded."""
    found = await checks(house)
    ready = all(check.ok for check in found)
    shown = [{"name": c.name, "ok": c.ok, "reason": c.reason, "since": rfc3339(c.since)} for c in found]
    return JSONResponse({"ready": ready, "checks": shown}, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics(house: Rooms, _: Reader) -> Response:
    """The figures of docs/metrics.md in Prometheus' text format."""
    await _refresh(house)
    return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def checks(house: House) -> list[Check]:
    """Look at everything that must be well."""
    return [*await _database(house), _of_health("relay", house.relay)]


async def _database(house: House) -> list[Check]:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), house.store.read() as session:
            stranded = await dispatches.undelivered(session)
            off = await dispatches.gone(session, [webhook.name for webhook in house.store.settings.webhook])
            fresh = [
                _freshness(box.name, house, await deadlines.last_read(session, [(box.name, f) for f in box.folders]))
                for box in house.store.settings.mailbox
            ]
    except Exception as error:
        return [Check("database", ok=False, reason=f"{type(error).__name__}: {error}"[:300])]
    alerts = Check("alerts", ok=True)
    if stranded:
        alerts = Check("alerts", ok=False, reason=f"{stranded} alerts were taken by no webhook: see `receiptd alerts`")
    webhooks = [_webhook(webhook.name, off.get(webhook.name)) for webhook in house.store.settings.webhook]
    return [_writing(house), *fresh, alerts, *webhooks]


def _writing(house: House) -> Check:
    trouble = house.store.trouble
    if trouble is None:
        return Check("database", ok=True)
    return Check("database", ok=False, reason=f"it takes no writes: {trouble.reason}", since=trouble.since)


def _webhook(name: str, gone_at: datetime | None) -> Check:
    reason = "it answered 410 Gone, so it gets nothing until one of its alerts is replayed: `receiptd alerts replay`"
    return Check(f"webhook:{name}", ok=gone_at is None, reason=reason if gone_at else None, since=gone_at)


def _freshness(name: str, house: House, last: datetime | None) -> Check:
    box = next(box for box in house.store.settings.mailbox if box.name == name)
    health = house.mailboxes[name]
    if not health.is_up:
        return _of_health(f"mailbox:{name}", health)
    if last is None:
        return Check(f"mailbox:{name}", ok=False, reason="not read to its end yet", since=house.started_at)
    if house.store.now() - last > max(3 * box.poll, _FRESH):
        return Check(f"mailbox:{name}", ok=False, reason="not read to its end for too long", since=last)
    return Check(f"mailbox:{name}", ok=True)


def _of_health(name: str, health: Health) -> Check:
    return Check(name, ok=health.is_up, reason=health.reason or None, since=health.since)


async def _refresh(house: House) -> None:
    """Set the gauges that are a look at the tables."""
    async with house.store.read() as session:
        standing = await messages.counts(session)
        oldest = await queue.oldest(session, house.store.settings.submission.submit_within)
        backlog = await dispatches.backlog(session)
    telemetry.RECIPIENTS.clear()
    for (delivery, receipt), count in standing.items():
        telemetry.RECIPIENTS.labels(delivery, receipt).set(count)
    telemetry.QUEUE_OLDEST.set((house.store.now() - oldest).total_seconds() if oldest else 0)
    for webhook in house.store.settings.webhook:
        telemetry.WEBHOOK_BACKLOG.labels(webhook.name).set(backlog.get(webhook.name, 0))
