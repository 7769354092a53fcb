"""What a person says of a report: whose it is, where it fits nobody or speaks against itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import correlation_token, match
from receiptd.accept import a_few
from receiptd.decide import NO_RECIPIENT, NoSuchThing, Pointless, check_reason
from receiptd.facts import Delivery, Fact, FoundToken, MatchedBy, Report, Verdict
from receiptd.interpret import interpret
from receiptd.models import Evidence, Message, Recipient, ReportRow
from receiptd.recipients import Entry, Provenance, record_one
from receiptd.settle import is_to_clear
from receiptd.standing import RecipientRecord
from receiptd.store import Store, candidates, evidence, reports

_ASSIGNABLE = (Verdict.UNMATCHED, Verdict.SUSPICIOUS)
_CONFIRM = "if you know that the message arrived, `receiptd confirm RECIPIENT` says so by your word"
_WHY_NOT = {
    None: "this report is not settled yet: try again in a moment",
    Verdict.MATCHED: "this report is matched already{}: there is nothing to assign",
    Verdict.NOISE: f"this is no report, or one of no message of ours: it says nothing of anybody; {_CONFIRM}",
    Verdict.SET_ASIDE: f"this report can't be read, so it says nothing of anybody; {_CONFIRM}",
}


async def assign(store: Store, report: str, recipient: str, *, by: str, reason: str) -> RecipientRecord:
    """Settle *report* for *recipient*, as if its token had come back: somebody who looked vouches for the match.

    It is read once more, and before the transaction: a large report takes time that no transaction should.
    """
    check_reason(reason)
    said = await _read(store, report)

    async def work(session: AsyncSession) -> RecipientRecord:
        locked = await session.get(ReportRow, report, populate_existing=True, with_for_update=True)
        row = await _checked(session, locked, report)
        at = await _recipient(session, row, recipient)
        decided = {"by": by, "reason": reason}
        facts = [replace(fact, detail={**fact.detail, **decided}) for fact in await _facts(session, store, said, at)]
        told = Provenance(row.id, row.received_at, f"sha256:{row.evidence}")
        moved = await record_one(session, store.settings, Entry(at.id, facts, told), now=store.now())
        row.verdict, row.clear = Verdict.MATCHED, is_to_clear(store, row.mailbox)
        row.reason = reports.shown(f"assigned to {at.address} by {by}: {reason}")
        return moved.recipient

    return await store.promptly(work)


async def _read(store: Store, report: str) -> Report:
    """Return what the report says, as settle read it, though only its first part may be kept."""
    async with store.read() as session:
        row = await _checked(session, await reports.get(session, report), report)
        kept = await session.get_one(Evidence, row.evidence)
    said = evidence.recall(kept)
    return said if said is not None else await asyncio.to_thread(interpret, kept.content)


async def _checked(session: AsyncSession, row: ReportRow | None, report: str) -> ReportRow:
    """Return *row* if it may be assigned."""
    if row is None:
        raise NoSuchThing(f"there is no report {report!r}: `receiptd reports` lists them")
    if row.verdict not in _ASSIGNABLE:
        whose = row.reason or _whose((await reports.spoken_of(session, [report])).get(report, ()))
        raise Pointless(_WHY_NOT[row.verdict].format(f" ({whose})" if whose else ""))
    return row


def _whose(rows: Sequence[Recipient]) -> str:
    """Return of whom a report told something, by address and message; mostly that is one."""
    addresses: dict[str, list[str]] = {}
    for row in rows:
        addresses.setdefault(row.message, []).append(row.address)
    return "; ".join(f"to {a_few(those)} in message {message}" for message, those in addresses.items())


async def _recipient(session: AsyncSession, report: ReportRow, recipient: str) -> Recipient:
    """Return the recipient if the report can speak of it.

    A report proves that its message was sent: of one that still waits it would keep it from ever being sent.
    """
    row = await session.get(Recipient, recipient, populate_existing=True, with_for_update=True)
    if row is None:
        raise NoSuchThing(NO_RECIPIENT.format(recipient))
    if row.submitted_at is None and row.delivery is not Delivery.UNCERTAIN:
        raise Pointless(f"the message was not sent to {row.address}: no report can speak of it")
    if report.fetched_at < (await session.get_one(Message, row.message)).created_at:
        raise Pointless(f"this report was here before the message to {row.address} was: it speaks of another")
    return row


async def _facts(session: AsyncSession, store: Store, said: Report, at: Recipient) -> tuple[Fact, ...]:
    key = match.Keys((FoundToken(at.token, MatchedBy.PERSON),), ())
    (everyone,) = await session.run_sync(lambda inner: candidates.of_keys(cast(Session, inner), [key]))
    receipts = store.settings.receipts
    facts = match.assigned(
        said,
        next(one for one in everyone if one.recipient_id == at.id),
        everyone,
        branches=[branch["final_recipient"] for branch in at.branches],
        receipts_address=receipts.address,
        subaddress=receipts.subaddress,
    )
    if not facts:
        named = match.addresses(said)
        whom = (
            f"it names only {a_few(list(map(correlation_token.mask, named)))}"
            if named
            else "perhaps of another recipient"
        )
        raise Pointless(f"this report says nothing of {at.address}: {whom}; {_CONFIRM}")
    return facts
