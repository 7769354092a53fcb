"""What an outcome at the relay means for the recipient: a fact, and what is written of the attempt."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from receiptd.facts import Cause, Delivery, EventKind, Fact, Source, Trust
from receiptd.interpret import causes
from receiptd.recipients import Entry, Provenance, SideEffects
from receiptd.smtp import Accepted, Outcome, Refused, Uncertain
from receiptd.store.submissions import Work

_LONGEST_WAIT = timedelta(minutes=30)
_NOT_TAKEN: dict[str, Any] = {"next_attempt_at": None, "claimed_by": None, "claimed_until": None}


@dataclass(frozen=True, slots=True)
class Ended:
    """What is to be written of an attempt that ended.

    *entry* is None where nothing was sent; then the recipient is due again at *release_at*, or, where that is None,
    when its lease ends.
    """

    work: Work
    attempt: Mapping[str, Any]
    entry: Entry | None = None
    release_at: datetime | None = None


def ended(work: Work, outcome: Outcome, *, now: datetime, uncertain_wait: timedelta) -> Ended:
    """Return what *outcome* writes; *uncertain_wait* is how long evidence is waited for before a second try."""
    dot_at = final_dot_at(work.started_at, outcome, now)
    if isinstance(outcome, Accepted):
        attempt, entry = _accepted(work, outcome, dot_at)
    elif isinstance(outcome, Refused):
        attempt, entry = _refused(work, outcome, now)
    else:
        attempt, entry = {"outcome": "uncertain"}, _uncertain(work, outcome, dot_at, now + uncertain_wait)
    return Ended(work, _attempt(work, now, dialogue=outcome.dialogue, **attempt), entry)


def not_sent(work: Work, *, now: datetime, release_at: datetime | None) -> Ended:
    """Return what is written where certainly nothing was sent."""
    return Ended(work, _attempt(work, now, outcome="not sent"), release_at=release_at)


def _attempt(work: Work, now: datetime, **words: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(("reply_code", "reply", "dialogue", "alias_message_id"))
    return {"id": work.attempt, "finished_at": now, **empty, **words}


def final_dot_at(started_at: datetime, outcome: Outcome, now: datetime) -> datetime:
    """Return when the final dot was sent, by the clock as it is now; where there was none, when the attempt began."""
    if isinstance(outcome, Refused):
        return started_at
    return min(max(started_at, now - timedelta(seconds=outcome.waited)), now)


def _clock_runs(work: Work, dot_at: datetime) -> dict[str, Any]:
    """Return the columns of the deadline's clock, which starts at the first final dot."""
    submitted_at = work.recipient.submitted_at or dot_at
    return {
        "submitted_at": submitted_at,
        "deadline_at": submitted_at + timedelta(seconds=work.recipient.within),
        "attempts": work.recipient.attempts + 1,
    }


def _accepted(work: Work, outcome: Accepted, dot_at: datetime) -> tuple[dict[str, Any], Entry]:
    detail = {
        "reply": str(outcome.reply),
        "dsn_requested": outcome.dsn_requested,
        "dsn_refused": outcome.dsn_refused,
        "tls": outcome.capabilities.tls,
        "dialogue": outcome.dialogue,
    }
    fact = Fact(work.recipient.id, EventKind.ACCEPTED, Source.SMTP, detail=detail, variant=work.attempt)
    columns = {**_clock_runs(work, dot_at), "dsn_requested": outcome.dsn_requested}
    attempt = {
        "outcome": "accepted",
        "alias_message_id": outcome.alias_message_id,
        "reply_code": outcome.reply.code,
        "reply": outcome.reply.text,
    }
    return attempt, _entry(work, fact, dot_at, columns)


def _uncertain(work: Work, outcome: Uncertain, dot_at: datetime, again_at: datetime) -> Entry:
    detail = {"reason": outcome.reason}
    fact = Fact(work.recipient.id, EventKind.UNCERTAIN, Source.SMTP, variant=work.attempt, detail=detail)
    columns = {**_clock_runs(work, dot_at), **_NOT_TAKEN, "next_attempt_at": again_at}
    return _entry(work, fact, dot_at, columns)


def _refused(work: Work, outcome: Refused, now: datetime) -> tuple[dict[str, Any], Entry]:
    """Decide what a refusal means: failed, later again, or (after an unknown outcome) still unknown."""
    row, reply = work.recipient, outcome.reply
    is_final = outcome.permanent or now >= row.give_up_at
    columns: dict[str, Any] = {"attempts": row.attempts + 1}
    if not is_final:
        columns |= {**_NOT_TAKEN, "next_attempt_at": now + backoff(row.attempts)}
        fact = _refusal(work, EventKind.DEFERRED, outcome, variant=str(reply.code if reply else None))
    elif row.delivery is Delivery.UNCERTAIN:
        # The first copy may have arrived: a refusal of the second proves nothing about it.
        columns |= _NOT_TAKEN
        fact = _refusal(work, EventKind.FAILED, outcome, variant=work.attempt, trust=Trust.WEAK)
    else:
        fact = _refusal(work, EventKind.FAILED, outcome, variant=work.attempt)
    if outcome.stage == "dsn":
        columns["dsn_requested"] = False
    attempt = {
        "outcome": "refused" if is_final else "deferred",
        "reply_code": reply.code if reply else None,
        "reply": reply.text if reply else None,
    }
    return attempt, _entry(work, fact, work.started_at, columns)


def _refusal(work: Work, kind: EventKind, outcome: Refused, *, variant: str, trust: Trust = Trust.KEYED) -> Fact:
    detail: dict[str, Any] = {"reason": outcome.reason, "place": outcome.stage, "dialogue": outcome.dialogue}
    if outcome.reply is not None:
        detail |= {
            "status": outcome.reply.enhanced,
            "reply_code": outcome.reply.code,
            "diagnostic_code": f"smtp; {outcome.reply}",
            "cause": causes.of(outcome.reply.text, outcome.reply.enhanced, outcome.reply.code),
        }
    if outcome.stage == "size":
        detail["cause"] = Cause.TOO_BIG
    return Fact(work.recipient.id, kind, Source.SMTP, trust=trust, detail=detail, variant=variant)


def _entry(work: Work, fact: Fact, at: datetime, columns: Mapping[str, Any]) -> Entry:
    return Entry(work.recipient.id, [fact], Provenance(work.attempt, at), SideEffects(columns))


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after *attempts* refusals: a minute, doubling up to half an hour, give or take."""
    wait = min(timedelta(minutes=2 ** min(attempts, 10)), _LONGEST_WAIT)
    return wait * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing


def word(outcome: Outcome) -> str:
    """Return the outcome's name in logs and metrics."""
    match outcome:
        case Refused(permanent=permanent):
            return "refused" if permanent else "deferred"
        case Accepted():
            return "accepted"
        case _:
            return "uncertain"
