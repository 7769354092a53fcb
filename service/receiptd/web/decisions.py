"""What a person decides: of recipients, messages, reports and alerts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import decide
from receiptd.assign import assign
from receiptd.decide import NoSuchThing, Pointless
from receiptd.recipients import restore
from receiptd.standing import RecipientRecord
from receiptd.store import dispatches, handover
from receiptd.web import description, requests, schemas, serializers
from receiptd.web.auth import Operator
from receiptd.web.context import AppContext, Context
from receiptd.web.messages import MessageId, log_accepted, message_or_404, taken_answer
from receiptd.web.parameters import KnownParameters, NoNull
from receiptd.web.reports import AlertId, ReportId

router = APIRouter(prefix="/v1", dependencies=[NoNull, KnownParameters], responses=description.ANYWHERE)

RecipientId = Annotated[str, Path(description="Its id.")]

_DECISION = description.problems(404, 409)
_SAID = description.problems(404, 409, 413)


@router.post("/messages/{message}/cancel", responses=_DECISION)
async def cancel(context: Context, caller: Operator, message: MessageId) -> schemas.Message:
    """Don't send what isn't submitted yet."""
    await decide.cancel(context.store, message, by=caller.owner)
    return serializers.message(await message_or_404(context, caller, message), waits=context.waits())


@router.post("/messages/{message}/retry", responses=_DECISION)
async def retry(context: Context, caller: Operator, message: MessageId) -> schemas.Message:
    """Try now what waits."""
    await decide.retry(context.store, message)
    context.relay.retry_at = None  # whoever asks for a retry may just have fixed it
    context.wake()
    return serializers.message(await message_or_404(context, caller, message), waits=context.waits())


@router.post("/held/retry", responses=description.problems(409))
async def retry_held(context: Context, _: Operator) -> schemas.Released:
    """Send all that is held since a start with a database that may have been an older copy."""
    released = await restore.release(context.store)
    if not released:
        raise Pointless("nothing is held: only a start with a database that may come from a backup holds what waits")
    context.relay.retry_at = None
    context.wake()
    return schemas.Released(released=released)


@router.post("/messages/{message}/resend", status_code=202, responses=_DECISION)
async def resend(context: Context, caller: Operator, message: MessageId) -> schemas.AcceptedMessage:
    """Send a new copy to those whom the first left without its receipt."""
    taken = await decide.resend(context.store, message, by=caller.owner)
    log_accepted(taken)
    context.wake()
    return taken_answer(context, taken)


@router.post("/recipients/{recipient}/acknowledge", responses=_SAID, openapi_extra=requests.DECISION)
async def acknowledge(
    request: Request, context: Context, caller: Operator, recipient: RecipientId
) -> schemas.AcknowledgedRecipient:
    """Hold back further levels of an incident for a while."""
    body = await requests.read_decision(request)
    lasting = body.for_ or decide.ACKNOWLEDGED_FOR
    row = await decide.acknowledge(context.store, recipient, by=caller.owner, reason=body.reason, lasting=lasting)
    return serializers.acknowledged(row, waits=context.waits())


@router.post("/recipients/{recipient}/waive", responses=_SAID, openapi_extra=requests.DECISION)
async def waive(request: Request, context: Context, caller: Operator, recipient: RecipientId) -> schemas.Recipient:
    """Need no receipt any more."""
    body = await requests.read_decision(request)
    return _decided(context, await decide.waive(context.store, recipient, by=caller.owner, reason=body.reason))


@router.post("/recipients/{recipient}/confirm", responses=_SAID, openapi_extra=requests.DECISION)
async def confirm(request: Request, context: Context, caller: Operator, recipient: RecipientId) -> schemas.Recipient:
    """Take the receipt as met by a person's word."""
    body = await requests.read_decision(request)
    return _decided(context, await decide.confirm(context.store, recipient, by=caller.owner, reason=body.reason))


def _decided(context: AppContext, row: RecipientRecord) -> schemas.Recipient:
    context.wake()
    return serializers.recipient(row, waits=context.waits())


@router.post("/reports/{report}/assign", responses=_SAID, openapi_extra=requests.ASSIGNMENT)
async def assign_report(request: Request, context: Context, caller: Operator, report: ReportId) -> schemas.Recipient:
    """Take a person's word for whom a report speaks of that is unmatched or suspicious."""
    body = await requests.read_assignment(request)
    row = await assign(context.store, report, body.recipient, by=caller.owner, reason=body.reason)
    return _decided(context, row)


@router.post("/alerts/{alert}/replay", status_code=202, responses=_DECISION)
async def replay(context: Context, _: Operator, alert: AlertId) -> schemas.ReplayedAlert:
    """Send an alert again."""

    async def work(session: AsyncSession) -> None:
        found = await dispatches.alert(session, alert)
        if found is None:
            raise NoSuchThing(f"there is no alert {alert!r}: `receiptd alerts` lists them")
        if not await handover.replay(session, context.store.settings, found, context.store.now()):
            raise Pointless(
                f"no webhook takes {found.type}, so the alert goes to nobody: name this type in `events` of a "
                "[[webhook]], restart receiptd, and replay the alert then"
            )

    await context.store.promptly(work)
    context.wake()
    return schemas.ReplayedAlert(id=alert)
