"""The HTTP API, version 1: messages, decisions, reports, alerts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import structlog
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from receiptd import decide, errors
from receiptd.accept import Taken, accept
from receiptd.assign import assign
from receiptd.decide import NoSuchThing, Pointless
from receiptd.facts import Receipt, Verdict
from receiptd.models import Evidence, Recipient
from receiptd.store import dispatches, evidence, handover, messages, reports, restore
from receiptd.store.alerts import rfc3339
from receiptd.store.faults import DatabaseFault
from receiptd.web import follow, health, requests, shapes
from receiptd.web.bounds import Share
from receiptd.web.doors import Caller
from receiptd.web.house import House
from receiptd.web.problems import (
    Forbidden,
    answer_database_fault,
    answer_fault,
    answer_nobody,
    answer_our_fault,
    problem,
)
from receiptd.web.relay_limits import foresee
from receiptd.web.rights import Anyone, KnownTerms, Limit, NoNull, Operator, Reader, Rooms
from receiptd.web.sentences import sentence

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1", dependencies=[NoNull, KnownTerms])


def create_app(house: House) -> FastAPI:
    """Return the application that serves *house*."""
    app = FastAPI(title="receiptd", version="1", openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None)
    app.state.house = house
    app.state.bodies = _bodies(house)
    app.add_exception_handler(errors.ReceiptdError, answer_fault)
    app.add_exception_handler(SQLAlchemyError, answer_database_fault)
    app.add_exception_handler(DatabaseFault, answer_database_fault)
    app.add_exception_handler(ClientDisconnect, answer_nobody)
    app.add_exception_handler(Exception, answer_our_fault)
    app.add_exception_handler(RequestValidationError, _answer_bad_request)
    app.add_exception_handler(HTTPException, _answer_http)
    app.include_router(router)
    app.include_router(follow.router)
    app.include_router(health.router)
    return app


def _bodies(house: House) -> Share:
    """Return how many octets of messages are in memory at a time: of four of the largest, two for one caller."""
    largest = requests.largest_body(house.store.settings.service.max_message)
    sentence = f"messages of {4 * largest >> 20} MiB are being taken just now, or yours of half of that: try again soon"
    return Share(4 * largest, 2 * largest, sentence)


async def _answer_bad_request(_: Request, fault: Exception) -> Response:
    first = cast(RequestValidationError, fault).errors()[0]
    return problem(422, sentence(first), errors.BadData.exit_status)


async def _answer_http(_: Request, fault: Exception) -> Response:
    found = cast(HTTPException, fault)
    return problem(found.status_code, str(found.detail), errors.UsageError.exit_status)


_ID = re.compile("[0-9a-f]{32}")


@router.post("/messages", status_code=202, openapi_extra=requests.MESSAGE_SCHEMA)
async def post_message(request: Request, house: Rooms, caller: Anyone) -> dict[str, Any]:
    """Take a message; answer when it is on disk."""
    if not caller.may("send"):
        raise Forbidden("this token may read but not send")
    caller.refuse_anybody()
    store = house.store
    most = store.settings.service.max_message
    async with requests.holding_body(request, caller, request.app.state.bodies, most):
        letter, wish = await requests.read_message(request, caller, most, store.now())
        warnings = await foresee(house, letter)
        taken = await accept(store, letter, wish, warnings)
    if taken.is_new:
        _tell(taken)
        house.ring()
    return _taken(house, taken)


def _tell(taken: Taken) -> None:
    """Write to the journal that a message was taken: by its id, for addresses and subjects are nobody's there."""
    row = taken.message
    copied = {"copy_of": row.resent_from} if row.resent_from else {}
    _log.info("a message was taken", message=row.id, recipients=len(taken.recipients), policy=row.policy, **copied)


def _taken(house: House, taken: Taken) -> dict[str, Any]:
    warnings = [*taken.message.warnings, *house.warnings()]
    return shapes.accepted(taken.message, taken.recipients) | {"warnings": warnings}


@router.get("/messages")
async def list_messages(
    house: Rooms,
    caller: Anyone,
    receipt: Receipt | None = None,
    q: Annotated[str | None, Query(max_length=1000)] = None,
    label: str | None = None,
    after: str | None = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """List messages, newest first."""
    if after is not None and not _ID.fullmatch(after):
        raise _no_cursor(after)
    only = messages.Filter(
        after=after,
        receipt=receipt,
        text=q,
        label=None if label is None else requests.read_label(label),
        owner=caller.sees,
    )
    async with house.store.read() as session:
        found = await messages.newest(session, only, limit=limit + 1)
    items = [shapes.message(whole, with_events=False, waits=house.waits()) for whole in found[:limit]]
    return {"items": items, "next": items[-1]["id"] if len(found) > limit else None}


async def _whole(house: House, caller: Caller, message: str) -> messages.Whole:
    async with house.store.read() as session:
        whole = await messages.whole(session, message, owner=caller.sees)
    if whole is None:
        raise NoSuchThing(f"there is no message {message!r}: `receiptd list` shows their ids")
    return whole


@router.get("/messages/{message}")
async def get_message(house: Rooms, caller: Anyone, message: str) -> dict[str, Any]:
    """Show one message with every event."""
    return shapes.message(await _whole(house, caller, message), with_events=True, waits=house.waits())


@router.get("/messages/{message}/events")
async def get_events(house: Rooms, caller: Anyone, message: str) -> dict[str, Any]:
    """List the events of one message."""
    whole = await _whole(house, caller, message)
    return {"items": shapes.events(whole), "next": None}


@router.get("/messages/{message}/raw")
async def get_raw(house: Rooms, caller: Anyone, message: str) -> Response:
    """Hand out the message as it was accepted."""
    whole = await _whole(house, caller, message)
    async with house.store.read() as session:
        content = (await session.get_one(Evidence, whole.message.evidence)).content
    return _mail(content, f"{message}.eml")


def _mail(content: bytes, name: str, **further: str) -> Response:
    """Serve raw mail so that no browser runs what a stranger wrote."""
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return Response(content, media_type="text/plain", headers=headers | further)


@router.post("/messages/{message}/cancel")
async def cancel(house: Rooms, caller: Operator, message: str) -> dict[str, Any]:
    """Don't send what isn't submitted yet."""
    await decide.cancel(house.store, message, by=caller.owner)
    return shapes.message(await _whole(house, caller, message), with_events=False, waits=house.waits())


@router.post("/messages/{message}/retry")
async def retry(house: Rooms, caller: Operator, message: str) -> dict[str, Any]:
    """Try now what waits."""
    await decide.retry(house.store, message)
    house.relay.retry_at = None  # a person who says so has perhaps just mended it
    house.ring()
    return shapes.message(await _whole(house, caller, message), with_events=False, waits=house.waits())


@router.post("/held/retry")
async def retry_held(house: Rooms, _: Operator) -> dict[str, Any]:
    """Send all that is held since a start with a database that may have been an older copy."""
    released = await restore.release(house.store)
    if not released:
        raise Pointless("nothing is held: only a start with a database that may come from a backup holds what waits")
    house.relay.retry_at = None
    house.ring()
    return {"released": released}


@router.post("/messages/{message}/resend", status_code=202)
async def resend(house: Rooms, caller: Operator, message: str) -> dict[str, Any]:
    """Send a new copy to those whom the first left without its receipt."""
    taken = await decide.resend(house.store, message, by=caller.owner)
    _tell(taken)
    house.ring()
    return _taken(house, taken)


@router.post("/recipients/{recipient}/acknowledge")
async def acknowledge(request: Request, house: Rooms, caller: Operator, recipient: str) -> dict[str, Any]:
    """Hold back further levels of an incident for a while."""
    body = await requests.read_decision(request)
    lasting = body.for_ or decide.ACKNOWLEDGED_FOR
    row = await decide.acknowledge(house.store, recipient, by=caller.owner, reason=body.reason, lasting=lasting)
    until = {"acknowledged_until": rfc3339(row.acknowledged_until)}
    return shapes.recipient(row, waits=house.waits()) | until


@router.post("/recipients/{recipient}/waive")
async def waive(request: Request, house: Rooms, caller: Operator, recipient: str) -> dict[str, Any]:
    """Need no receipt any more."""
    body = await requests.read_decision(request)
    return _decided(house, await decide.waive(house.store, recipient, by=caller.owner, reason=body.reason))


@router.post("/recipients/{recipient}/confirm")
async def confirm(request: Request, house: Rooms, caller: Operator, recipient: str) -> dict[str, Any]:
    """Take the receipt as met by a person's word."""
    body = await requests.read_decision(request)
    return _decided(house, await decide.confirm(house.store, recipient, by=caller.owner, reason=body.reason))


def _decided(house: House, row: Recipient) -> dict[str, Any]:
    house.ring()
    return shapes.recipient(row, waits=house.waits())


@router.get("/reports")
async def list_reports(
    house: Rooms, _: Reader, verdict: Verdict | None = None, after: str | None = None, limit: Limit = 50
) -> dict[str, Any]:
    """List what came back, newest first."""
    async with house.store.read() as session:
        if after is not None and await reports.get(session, after) is None:
            raise _no_cursor(after)
        rows = await reports.newest(session, limit=limit + 1, after=after, verdict=verdict)
        is_cut = await evidence.truncated(session, [row.evidence for row in rows])
        whose = await reports.spoken_of(session, [row.id for row in rows])
    items = [
        shapes.report(row, truncated=is_cut.get(row.evidence, True), of=whose.get(row.id, ())) for row in rows[:limit]
    ]
    return {"items": items, "next": items[-1]["id"] if len(rows) > limit else None}


@router.get("/reports/{report}/raw")
async def get_report(house: Rooms, _: Operator, report: str) -> Response:
    """Hand out a report as it came, or what is kept of it; a header says how much of how much that is.

    It may give back an envelope id: who knows that can write a report that is believed.
    """
    async with house.store.read() as session:
        row = await reports.get(session, report)
        kept = await session.get(Evidence, row.evidence) if row else None
    if row is None or kept is None:
        raise NoSuchThing(f"there is no report {report!r}: `receiptd reports` lists them")
    size = row.size if row.truncated else kept.size
    cut = {"receiptd-truncated": f"{len(kept.content)}/{size}"} if row.truncated or kept.truncated else {}
    return _mail(kept.content, f"{report}.eml", **cut)


@router.post("/reports/{report}/assign")
async def assign_report(request: Request, house: Rooms, caller: Operator, report: str) -> dict[str, Any]:
    """Take a person's word for whom a report speaks of that is unmatched or suspicious."""
    body = await requests.read_assignment(request)
    row = await assign(house.store, report, body.recipient, by=caller.owner, reason=body.reason)
    return _decided(house, row)


@router.get("/alerts")
async def list_alerts(house: Rooms, _: Reader, after: str | None = None, limit: Limit = 50) -> dict[str, Any]:
    """List alerts with every attempt to tell them, newest first."""
    async with house.store.read() as session:
        sent = await dispatches.newest(session, limit=limit + 1, after=_cursor(after))
    last = sent[limit - 1].alert if len(sent) > limit else None
    return {
        "items": [shapes.alert(one) for one in sent[:limit]],
        "next": f"{last.created_at.timestamp():.6f}_{last.id}" if last else None,
    }


def _cursor(after: str | None) -> tuple[datetime, str] | None:
    if after is None:
        return None
    stamp, _, key = after.partition("_")
    if not _ID.fullmatch(key):
        raise _no_cursor(after)
    try:
        return datetime.fromtimestamp(float(stamp), UTC), key
    except (ValueError, OverflowError) as error:
        raise _no_cursor(after) from error


def _no_cursor(after: str) -> errors.BadData:
    return errors.BadData(f"after={after!r} is no cursor of this list: take what an answer calls `next`")


@router.post("/alerts/{alert}/replay", status_code=202)
async def replay(house: Rooms, _: Operator, alert: str) -> dict[str, Any]:
    """Send an alert again."""
    async with house.store.write() as session:
        found = await dispatches.alert(session, alert)
        if found is None:
            raise NoSuchThing(f"there is no alert {alert!r}: `receiptd alerts` lists them")
        if not await handover.replay(session, house.store.settings, found, house.store.now()):
            raise Pointless(
                f"no webhook takes {found.type}, so the alert goes to nobody: name this type in `events` of a "
                "[[webhook]], restart receiptd, and replay the alert then"
            )
    house.ring()
    return {"id": alert}
