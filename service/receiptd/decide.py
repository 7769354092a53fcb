"""What a person decides: acknowledge, waive, confirm, cancel, retry, resend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

from sqlmodel import Session, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import compose, errors, policy
from receiptd.accept import AcceptedMessage, RecipientTerms, Submission, SubmitOptions, a_few, check_answers, put
from receiptd.facts import Delivery, EventKind, Fact, Receipt, Source
from receiptd.identifiers import new_id
from receiptd.mail.timestamps import rfc3339
from receiptd.models import Evidence, Message, Recipient
from receiptd.recipients import Entry, Provenance, SideEffects, record_one
from receiptd.settings import Settings
from receiptd.standing import RecipientRecord
from receiptd.store import Store, alerts, messages, resends, submissions

ACKNOWLEDGED_FOR = timedelta(days=1)
_QUEUED = (Delivery.QUEUED, Delivery.DEFERRED)
_HELD = (*_QUEUED, Delivery.UNCERTAIN)
_NOT_TO_BE_SENT: dict[str, Any] = {"next_attempt_at": None, "claimed_by": None, "claimed_until": None}


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a person decides, why, and what else of the row it sets."""

    kind: EventKind
    by: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)


class NoSuchThing(errors.BadData):
    """There is no recipient or message of that id (that the asker may see)."""


class Pointless(errors.BadData):
    """The decision has no meaning in the state that things are in."""


async def acknowledge(store: Store, recipient: str, *, by: str, reason: str, lasting: timedelta) -> RecipientRecord:
    """Hold back further levels of an open incident for *lasting*: somebody is at it."""
    until = store.now() + lasting
    detail, columns = {"until": rfc3339(until)}, {"acknowledged_until": until}
    return await _decide(store, recipient, _Decision(EventKind.ACKNOWLEDGED, by, reason, detail, columns))


async def waive(store: Store, recipient: str, *, by: str, reason: str) -> RecipientRecord:
    """Need no receipt any more: ends the incident; later news is only recorded."""
    return await _decide(store, recipient, _Decision(EventKind.WAIVED, by, reason))


async def confirm(store: Store, recipient: str, *, by: str, reason: str) -> RecipientRecord:
    """Take the receipt as met by a person's word; what is proven stays what it is."""
    return await _decide(store, recipient, _Decision(EventKind.CONFIRMED, by, reason))


def check_reason(reason: str) -> None:
    """Refuse a decision of which nobody says why."""
    if not reason.strip():
        raise errors.BadData("say why: a decision without a reason helps nobody who reads it later")


async def _decide(store: Store, recipient: str, decision: _Decision) -> RecipientRecord:
    check_reason(decision.reason)

    async def work(session: AsyncSession) -> RecipientRecord:
        row = await session.get(Recipient, recipient, populate_existing=True, with_for_update=True)
        if row is None:
            raise NoSuchThing(NO_RECIPIENT.format(recipient))
        if why := _why_pointless(row, decision.kind):
            raise Pointless(why)
        has_arrived = decision.kind is EventKind.CONFIRMED and row.delivery is Delivery.UNCERTAIN
        made = replace(decision, columns=_NOT_TO_BE_SENT) if has_arrived else decision
        if (until := made.columns.get("acknowledged_until")) is not None:
            await alerts.hold_back(session, row.id, now=store.now(), until=until)
        return await _record(session, store, row.id, made)

    return await store.promptly(work)


def _why_pointless(row: Recipient, kind: EventKind) -> str | None:
    """Return why the decision would change nothing; an open incident, whatever it is about, can be ended."""
    if kind is EventKind.ACKNOWLEDGED:
        is_open = row.incident_opened_at is not None
        return None if is_open else f"nothing is open about {row.address}: there is no alert to acknowledge"
    if row.receipt.is_met and row.incident_opened_at is None:
        return f"the receipt of {row.address} is met already: there is nothing to decide about it"
    if row.receipt is Receipt.WAIVED and kind is EventKind.WAIVED:
        return f"no receipt of {row.address} is awaited any more: it was waived or cancelled already"
    return None


async def _record(session: AsyncSession, store: Store, recipient: str, decision: _Decision) -> RecipientRecord:
    now = store.now()
    made = new_id(now)
    said = {"by": decision.by, "reason": decision.reason, **decision.detail}
    fact = Fact(recipient, decision.kind, Source.PERSON, detail=said, variant=made)
    entry = Entry(recipient, [fact], Provenance(made, now), SideEffects(decision.columns))
    moved = await record_one(session, store.settings, entry, now=now)
    return moved.recipient


async def cancel(store: Store, message: str, *, by: str) -> int:
    """Don't send what isn't submitted yet; return how many recipients that were."""

    async def work(session: AsyncSession) -> int:
        rows = await _recipients(session, message)
        queued = [row for row in rows if row.delivery in _QUEUED and not await submissions.is_in_data(session, row.id)]
        if not queued:
            raise Pointless(
                "there is nothing left to cancel: every copy was sent, is being sent, failed or was cancelled "
                "(`receiptd waive RECIPIENT` ends the wait for a receipt)"
            )
        why = "cancelled before submission"
        for row in queued:
            decision = _Decision(EventKind.CANCELLED, by, why, columns=_NOT_TO_BE_SENT)
            await _record(session, store, row.id, decision)
        return len(queued)

    return await store.promptly(work)


async def retry(store: Store, message: str) -> int:
    """Try now what waits: deferred, or held after an unknown outcome; return how many recipients that were."""

    async def work(session: AsyncSession) -> int:
        waiting = [row for row in await _recipients(session, message) if row.delivery in _HELD]
        if not waiting:
            raise Pointless(
                "nothing waits to be sent: every copy was submitted, failed or was cancelled "
                "(`receiptd resend ID` sends a new one)"
            )
        for row in waiting:
            is_tried_now = row.claimed_until is not None and row.claimed_until > store.now()
            if not is_tried_now:
                columns = {"next_attempt_at": store.now(), "claimed_by": None, "claimed_until": None}
                now = store.now()
                entry = Entry(row.id, [], Provenance("person", now), SideEffects(columns))
                await record_one(session, store.settings, entry, now=now)
        return len(waiting)

    return await store.promptly(work)


async def resend(store: Store, message: str, *, by: str) -> AcceptedMessage:
    """Send a new copy, with new tokens and a new Message-ID, to those whom the first left without its receipt.

    The same Message-ID would be swallowed by duplicate filters (Exchange has one). Copy and link are written
    together: a copy that nothing links to the first would be a stranger's.
    """
    letter = await _renewed(store, message)
    return await store.promptly(lambda session: _resend(session, store, message, letter, by))


async def _renewed(store: Store, message: str) -> compose.Letter:
    """Return the message under a new Message-ID: a large one takes time that no transaction should."""

    def look(session: Session) -> tuple[messages.Whole, bytes]:
        whole = messages.whole(session, message)
        if whole is None:
            raise NoSuchThing(_NO_MESSAGE.format(message))
        return whole, session.get_one(Evidence, whole.message.evidence).content

    whole, content = await store.query(look)
    everyone = [(row.role, row.address) for row in whole.recipients]
    return await asyncio.to_thread(compose.renew, content, everyone, now=store.now())


async def _resend(
    session: AsyncSession, store: Store, message: str, letter: compose.Letter, by: str
) -> AcceptedMessage:
    rows = await _recipients(session, message)
    sent_again = await session.run_sync(lambda inner: resends.of(cast(Session, inner), rows))
    left_out = {row.id: why for row in rows if (why := _why_no_copy(row, sent_again.get(row.address, ())))}
    again = [row for row in rows if row.id not in left_out]
    if not again:
        raise Pointless(f"nobody is left to send it to again ({'; '.join(_told(rows, left_out))})")
    old = await session.get_one(Message, message)
    terms = [_terms_again(store.settings, old.policy, row) for row in again]
    letter = replace(letter, recipients=tuple(one.addressee for one in terms))
    check_answers(store.settings, letter, terms)
    options = SubmitOptions(owner=old.owner, policy=old.policy, labels=old.labels, sender=old.sender)
    told = _told((row for row in rows if not _is_settled(row)), left_out)
    remarks = [f"not sent again to {one}" for one in told]
    submission = Submission(letter, options, terms, remarks=remarks, resent_from=old.id)
    (taken,) = await session.run_sync(lambda inner: put(cast(Session, inner), store, [submission]))
    detail = {"copy": taken.message.id}
    for row in again:
        reason = f"sent again as {taken.message.id}"
        await _record(session, store, row.id, _Decision(EventKind.RESENT, by, reason, detail))
    return taken


def _why_no_copy(row: Recipient, sent_again: Sequence[Recipient]) -> str | None:
    """Return why this recipient gets no further copy, or None where only a further copy can help."""
    if row.delivery is Delivery.CANCELLED:
        return "cancelled before it was sent, so hand it over anew"
    if row.receipt.is_met:
        met = next((copy.message for copy in sent_again if copy.receipt.is_met), None)
        return f"the receipt of copy {met} is met" if met else "the receipt is met"
    if row.receipt is Receipt.WAIVED:
        return "the receipt is waived"
    if row.delivery in _HELD:
        return "not sent for certain yet, `receiptd retry` tries it now"
    for copy in sent_again:
        if copy.delivery in _HELD or copy.receipt is Receipt.OPEN:
            return f"copy {copy.message} is still awaited"
    return None


def _is_settled(row: Recipient) -> bool:
    return row.receipt.is_met or row.receipt is Receipt.WAIVED


def _told(rows: Iterable[Recipient], left_out: Mapping[str, str]) -> list[str]:
    """Return each reason why some were left out, after their addresses."""
    addresses: dict[str, list[str]] = {}
    for row in rows:
        if row.id in left_out:
            addresses.setdefault(left_out[row.id], []).append(row.address)
    return [f"{a_few(those)}: {why}" for why, those in addresses.items()]


def _terms_again(settings: Settings, name: str, row: Recipient) -> RecipientTerms:
    """Return what was asked of this recipient at first; how reports are judged is what the settings say now."""
    agreed = policy.effective(settings, name if name in settings.policy else "default", row.address)
    return RecipientTerms(
        addressee=compose.Addressee(row.address, row.role),
        require=row.require,
        within=timedelta(seconds=row.within),
        minimum_trust=agreed.minimum_trust,
        onward=agreed.onward,
        mdn=row.mdn_requested,
    )


NO_RECIPIENT = "there is no recipient {!r}: `receiptd show ID` lists their ids"
_NO_MESSAGE = "there is no message {!r}: `receiptd list` shows their ids"


async def _recipients(session: AsyncSession, message: str) -> Sequence[Recipient]:
    """Return the recipients as they are now, and keep others from moving them until this is committed."""
    query = select(Recipient).where(Recipient.message == message).order_by(col(Recipient.id)).with_for_update()
    rows = (await session.exec(query.execution_options(populate_existing=True))).all()
    if not rows:
        raise NoSuchThing(_NO_MESSAGE.format(message))
    return sorted(rows, key=lambda row: row.position)
