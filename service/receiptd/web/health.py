"""Whether the daemon lives, whether it can do its work, and its figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from fastapi import APIRouter, Response
from sqlmodel import Session
from starlette.responses import PlainTextResponse

from receiptd import policy, telemetry
from receiptd.settings import MailboxSettings, Settings
from receiptd.store import dispatches, folders, messages, submissions
from receiptd.store.monitors import Health
from receiptd.web import description, schemas
from receiptd.web.auth import Reader
from receiptd.web.context import AppContext, Context

router = APIRouter(responses=description.problems(400, 429, 500))
_OF_READERS = description.problems(401, 403)

_FRESH = timedelta(minutes=5)
_DATABASE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well, and since when it isn't; the work goes on without what isn't *needed*."""

    name: str
    ok: bool
    reason: str | None = None
    since: datetime | None = None
    needed: bool = True


@router.get("/healthz")
async def healthz() -> schemas.Life:
    """The process is alive and its loop turns."""
    return schemas.Life(alive=True)


_NOT_READY: description.Responses = {503: {"model": schemas.Readiness, "description": "It isn't ready."}}


@router.get("/readyz", responses=_OF_READERS | _NOT_READY)
async def readyz(context: Context, _: Reader, response: Response) -> schemas.Readiness:
    """The database answers, every mailbox is fresh, the relay takes mail, no alert is stranded and none would be."""
    found = await checks(context)
    ready = all(check.ok or not check.needed for check in found)
    response.status_code = 200 if ready else 503
    shown = [schemas.Check(name=c.name, ok=c.ok, reason=c.reason, since=c.since) for c in found]
    return schemas.Readiness(ready=ready, checks=shown)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=_OF_READERS | description.problems(503) | description.text("The figures."),
)
async def metrics(context: Context, _: Reader) -> Response:
    """The figures of docs/metrics.md in Prometheus' text format."""
    await _refresh(context)
    return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def checks(context: AppContext) -> list[Check]:
    """Look at everything that must be well."""
    return [*await _database(context), _of_health("relay", context.relay)]


async def _database(context: AppContext) -> list[Check]:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), context.store.read() as session:
            stranded = await dispatches.undelivered(session)
            off = await dispatches.gone(session, [webhook.name for webhook in context.store.settings.webhook])
            read = await context.store.query(partial(_last_reads, boxes=context.store.settings.mailbox))
    except Exception as error:
        return [Check("database", ok=False, reason=f"{type(error).__name__}: {error}"[:300])]
    fresh = [_freshness(name, context, last) for name, last in read.items()]
    alerts = Check("alerts", ok=True)
    if stranded:
        alerts = Check("alerts", ok=False, reason=f"{stranded} alerts were taken by no webhook: see `receiptd alerts`")
    webhooks = [_webhook(context.store.settings, webhook.name, off) for webhook in context.store.settings.webhook]
    return [_writing(context), *fresh, alerts, *webhooks]


def _last_reads(session: Session, boxes: Sequence[MailboxSettings]) -> dict[str, datetime | None]:
    return {box.name: folders.last_read(session, [(box.name, name) for name in box.folders]) for box in boxes}


def _writing(context: AppContext) -> Check:
    trouble, ledger = context.store.trouble, context.store.ledger
    if trouble is None and ledger is not None and ledger.trouble:
        return Check("database", ok=False, reason=f"nothing is sent: the note of the last attempt {ledger.trouble}")
    if trouble is None:
        return Check("database", ok=True)
    return Check("database", ok=False, reason=f"it takes no writes: {trouble.reason}", since=trouble.since)


def _webhook(settings: Settings, name: str, off: Mapping[str, datetime]) -> Check:
    """Whether *name* gets alerts; where others are told in its place, the service is as ready as before."""
    if name not in off:
        return Check(f"webhook:{name}", ok=True)
    reason = "it answered 410 Gone, so it gets nothing until one of its alerts is replayed: `receiptd alerts replay`"
    told = {one: _endpoints(settings, one) for one in sorted(settings.policy)}
    unheard = [one for one, endpoints in told.items() if name in endpoints and endpoints <= off.keys()]
    if unheard:
        reason += f"; no other is left for policy {', '.join(unheard)}"
    return Check(f"webhook:{name}", ok=False, reason=reason, since=off[name], needed=bool(unheard))


def _endpoints(settings: Settings, name: str) -> set[str]:
    """Return the webhooks that any level of a policy tells."""
    return {to for level in policy.levels(settings, name) for to in level.to}


def _freshness(name: str, context: AppContext, last: datetime | None) -> Check:
    box = next(box for box in context.store.settings.mailbox if box.name == name)
    health = context.mailboxes[name]
    if not health.is_up:
        return _of_health(f"mailbox:{name}", health)
    if last is None:
        return Check(f"mailbox:{name}", ok=False, reason="not read to its end yet", since=context.started_at)
    if not health.is_waiting and context.store.now() - last > max(3 * box.poll, _FRESH):
        return Check(f"mailbox:{name}", ok=False, reason="not read to its end for too long", since=last)
    return Check(f"mailbox:{name}", ok=True)


def _of_health(name: str, health: Health) -> Check:
    return Check(name, ok=health.is_up, reason=health.reason or None, since=health.since)


async def _refresh(context: AppContext) -> None:
    """Set the gauges that are a look at the tables."""
    standing = await context.store.query(messages.counts)
    async with context.store.read() as session:
        oldest = await submissions.oldest(session, context.store.settings.submission.submit_within)
        backlog = await dispatches.backlog(session)
        off = await dispatches.gone(session, [webhook.name for webhook in context.store.settings.webhook])
    telemetry.RECIPIENTS.clear()
    for (delivery, receipt), count in standing.items():
        telemetry.RECIPIENTS.labels(delivery, receipt).set(count)
    telemetry.QUEUE_OLDEST.set((context.store.now() - oldest).total_seconds() if oldest else 0)
    for webhook in context.store.settings.webhook:
        telemetry.WEBHOOK_BACKLOG.labels(webhook.name).set(backlog.get(webhook.name, 0))
        telemetry.WEBHOOK_OFF.labels(webhook.name).set(webhook.name in off)
