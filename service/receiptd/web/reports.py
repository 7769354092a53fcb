"""What came back, and who was told of it: reports and alerts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, cast

from fastapi import APIRouter, Path, Query, Response
from sqlmodel import Session
from starlette.responses import PlainTextResponse

from receiptd.decide import NoSuchThing
from receiptd.facts import AlertType, Verdict
from receiptd.models import Evidence
from receiptd.store import dispatches, evidence, reports
from receiptd.web import description, schemas, serializers
from receiptd.web.auth import Operator, Reader
from receiptd.web.context import Context
from receiptd.web.parameters import After, KnownParameters, Limit, NoNull, no_cursor
from receiptd.web.raw import RAW, mail

router = APIRouter(prefix="/v1", dependencies=[NoNull, KnownParameters], responses=description.ANYWHERE)

_ID = re.compile("[0-9a-f]{32}")

ReportId = Annotated[str, Path(description="Its id.")]
AlertId = Annotated[str, Path(description="Its id.")]
Verdicts = Annotated[list[Verdict], Query(default_factory=list, description="Any of these.")]
AlertTypes = Annotated[list[AlertType], Query(alias="type", default_factory=list, description="Any of these.")]


@router.get("/reports")
async def list_reports(
    context: Context, _: Reader, verdict: Verdicts, after: After = None, limit: Limit = 50
) -> schemas.ReportPage:
    """List what came back, newest first."""
    async with context.store.read() as session:
        if after is not None and await reports.get(session, after) is None:
            raise no_cursor(after)
        rows = await reports.newest(session, limit=limit + 1, after=after, verdicts=verdict)
        kept = partial(evidence.truncated, digests=[row.evidence for row in rows])
        is_cut = await session.run_sync(lambda inner: kept(cast(Session, inner)))
        whose = await reports.spoken_of(session, [row.id for row in rows])
    items = [
        serializers.report(row, truncated=is_cut.get(row.evidence, True), of=whose.get(row.id, ()))
        for row in rows[:limit]
    ]
    return schemas.ReportPage(items=items, next=items[-1].id if len(rows) > limit else None)


@router.get(
    "/reports/{report}/raw",
    response_class=PlainTextResponse,
    responses=description.text(
        "The report, or what is kept of it.",
        RAW | {"Receiptd-Truncated": "Where not all is kept: how many octets these are, of how many, 65536/1048576."},
    )
    | description.problems(404),
)
async def get_report(context: Context, _: Operator, report: ReportId) -> Response:
    """Hand out a report as it came, or what is kept of it; a header says how much of how much that is.

    It may give back an envelope id: who knows that can write a report that is believed.
    """
    async with context.store.read() as session:
        row = await reports.get(session, report)
        kept = await session.get(Evidence, row.evidence) if row else None
    if row is None or kept is None:
        raise NoSuchThing(f"there is no report {report!r}: `receiptd reports` lists them")
    size = row.size if row.truncated else kept.size
    cut = {"receiptd-truncated": f"{len(kept.content)}/{size}"} if row.truncated or kept.truncated else {}
    return mail(kept.content, f"{report}.eml", **cut)


@router.get("/alerts")
async def list_alerts(
    context: Context,
    _: Reader,
    type_: AlertTypes,
    after: After = None,
    limit: Limit = 50,
) -> schemas.AlertPage:
    """List alerts with every attempt to tell them, newest first."""
    async with context.store.read() as session:
        sent = await dispatches.newest(session, limit=limit + 1, after=_cursor(after), types=type_)
    last = sent[limit - 1].alert if len(sent) > limit else None
    return schemas.AlertPage(
        items=[serializers.alert(one) for one in sent[:limit]],
        next=f"{last.created_at.timestamp():.6f}_{last.id}" if last else None,
    )


def _cursor(after: str | None) -> tuple[datetime, str] | None:
    if after is None:
        return None
    stamp, _, key = after.partition("_")
    if not _ID.fullmatch(key):
        raise no_cursor(after)
    try:
        return datetime.fromtimestamp(float(stamp), UTC), key
    except (ValueError, OverflowError) as error:
        raise no_cursor(after) from error
