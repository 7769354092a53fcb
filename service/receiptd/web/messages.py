"""Messages: hand one over, and see what became of it."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import PlainTextResponse

from receiptd.accept import AcceptedMessage, accept
from receiptd.decide import NoSuchThing
from receiptd.facts import Receipt
from receiptd.models import Evidence
from receiptd.store import messages
from receiptd.web import description, requests, schemas, serializers
from receiptd.web.auth import Anyone, Caller, Sender
from receiptd.web.context import AppContext, Context
from receiptd.web.parameters import After, KnownParameters, Limit, NoNull, no_cursor
from receiptd.web.quotas import HourlyQuota
from receiptd.web.raw import RAW, mail
from receiptd.web.relay_limits import check_relay_limits

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1", dependencies=[NoNull, KnownParameters], responses=description.ANYWHERE)

_ID = re.compile("[0-9a-f]{32}")

MessageId = Annotated[str, Path(description="Its id.")]
Receipts = Annotated[list[Receipt], Query(default_factory=list, description="A recipient's receipt is any of these.")]
Labels = Annotated[list[str], Query(default_factory=list, description="NAME=VALUE; all of these are there.")]
Text = Annotated[str | None, Query(max_length=1000, description="It is in subject, addresses or Message-ID.")]


@router.post("/messages", status_code=202, responses=description.problems(413), openapi_extra=requests.MESSAGE)
async def post_message(
    request: Request,
    context: Context,
    caller: Sender,
    terms: Annotated[requests.QueryTerms, Query()],
    idempotency_key: requests.Key = None,
) -> schemas.AcceptedMessage:
    """Take a message; answer when it is on disk."""
    caller.refuse_anonymous()
    store = context.store
    most = store.settings.service.max_message
    quota: HourlyQuota | None = request.app.state.hourly if caller.is_metered else None
    async with requests.reserve_body(request, caller, request.app.state.bodies, most):
        if quota:
            await quota.check(store, caller.owner)
        letter, options = await requests.read_message(
            request, caller, most, store.now(), terms, idempotency_key or None
        )
        if quota:
            await quota.check(store, caller.owner, len(letter.content))
        taken = await accept(store, letter, options, await check_relay_limits(context, letter))
    if taken.is_new:
        if quota:
            quota.note(caller.owner, taken.message.created_at, len(letter.content))
        log_accepted(taken)
        context.wake_submit()
    return taken_answer(context, taken)


def log_accepted(taken: AcceptedMessage) -> None:
    """Log that a message was accepted: by its id, as addresses and subjects don't belong in the journal."""
    row = taken.message
    copied = {"copy_of": row.resent_from} if row.resent_from else {}
    _log.info("a message was taken", message=row.id, recipients=len(taken.recipients), policy=row.policy, **copied)


def taken_answer(context: AppContext, taken: AcceptedMessage) -> schemas.AcceptedMessage:
    return serializers.accepted(taken.message, taken.recipients, [*taken.message.warnings, *context.warnings()])


@router.get("/messages")
async def list_messages(
    context: Context,
    caller: Anyone,
    receipt: Receipts,
    label: Labels,
    q: Text = None,
    after: After = None,
    limit: Limit = 50,
) -> schemas.MessagePage:
    """List messages, newest first."""
    if after is not None and not _ID.fullmatch(after):
        raise no_cursor(after)
    only = messages.Filter(
        after=after,
        receipts=tuple(receipt),
        text=q,
        labels=tuple(map(requests.read_label, label)),
        owner=caller.sees,
    )
    found = await context.store.query(partial(messages.newest, only=only, limit=limit + 1))
    items = [serializers.message(whole, waits=context.waits()) for whole in found[:limit]]
    return schemas.MessagePage(items=items, next=items[-1].id if len(found) > limit else None)


async def message_or_404(context: AppContext, caller: Caller, message: str) -> messages.Whole:
    whole = await context.store.query(partial(messages.whole, message=message, owner=caller.sees))
    if whole is None:
        raise NoSuchThing(f"there is no message {message!r}: `receiptd list` shows their ids")
    return whole


@router.get("/messages/{message}", responses=description.problems(404))
async def get_message(context: Context, caller: Anyone, message: MessageId) -> schemas.MessageDetail:
    """Show one message with every event."""
    return serializers.message_detail(await message_or_404(context, caller, message), waits=context.waits())


@router.get("/messages/{message}/events", responses=description.problems(404))
async def get_events(context: Context, caller: Anyone, message: MessageId) -> schemas.EventPage:
    """List the events of one message."""
    return schemas.EventPage(items=serializers.events(await message_or_404(context, caller, message)), next=None)


@router.get(
    "/messages/{message}/raw",
    response_class=PlainTextResponse,
    responses=description.text("The message.", RAW) | description.problems(404),
)
async def get_raw(context: Context, caller: Anyone, message: MessageId) -> Response:
    """Hand out the message as it was accepted."""
    whole = await message_or_404(context, caller, message)
    kept = await context.store.query(lambda session: session.get_one(Evidence, whole.message.evidence))
    return mail(kept.content, f"{message}.eml")
