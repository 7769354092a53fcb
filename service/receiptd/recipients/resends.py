"""Resends: what the receipt of a copy that was sent again says to those who were sent the same before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from receiptd import lifecycle
from receiptd.facts import Event, EventKind, Fact, Receipt, RecipientState, Source
from receiptd.mail.timestamps import rfc3339
from receiptd.recipients.move import Entry, Provenance
from receiptd.standing import MessageRecord, Standing, demand_of, in_order


def entries(copy: Standing, predecessors: Iterable[Standing], told: Provenance) -> list[Entry]:
    """Return what *copy*, just moved by *told*, says to each of its *predecessors* to whom it is news.

    Only the copy's own reports count: what a later one has told it tells the others itself.
    """
    own = lifecycle.fold(
        in_order(event for event in copy.events.values() if not event.is_of_copy), demand_of(copy.recipient)
    )
    told = replace(told, by=f"copy:{copy.recipient.id}", observed_at=own.met_at or told.observed_at)
    facts = [_news(one, copy, own) for one in predecessors]
    return [Entry(fact.recipient_id, [fact], told) for fact in facts if fact is not None]


def _news(predecessor: Standing, copy: Standing, own: RecipientState) -> Fact | None:
    """Return what *copy* says to *predecessor*; None if it is no news.

    It says so where its receipt is met, and where it no longer is.
    """
    row = copy.recipient
    last = _last_said(predecessor.events.values(), row.id)
    was_met = last is not None and Receipt(last.detail["receipt"]).is_met
    if own.receipt.is_met == was_met and (not was_met or (last and last.observed_at == own.met_at)):
        return None
    detail = {
        "copy": copy.message.id,
        "recipient": row.id,
        "receipt": own.receipt,
        "level": own.level,
        "version": row.version,
        "reason": _reason(copy.message, own),
    }
    return Fact(
        predecessor.recipient.id, EventKind.RESENT, Source.CLOCK, detail=detail, variant=f"{row.id}:{row.version}"
    )


def _last_said(events: Iterable[Event], copy: str) -> Event | None:
    said = [event for event in events if event.is_of_copy and event.detail["recipient"] == copy]
    return max(said, key=lambda event: int(event.detail["version"]), default=None)


def _reason(copy: MessageRecord, own: RecipientState) -> str:
    word = "has its receipt" if own.receipt.is_met else "has its receipt no longer"
    why = f": {own.reason[0].lower()}{own.reason[1:].rstrip('.')}" if own.reason else ""
    return f"the copy sent again at {rfc3339(copy.created_at)} {word}{why}"
