"""Queued recipients -> submission server, one transaction each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import compose, telemetry
from receiptd.errors import BadData
from receiptd.facts import Cause, Delivery, EventKind, Fact, Source, Trust
from receiptd.identifiers import new_id
from receiptd.interpret import causes
from receiptd.mail.return_path import ReturnPaths
from receiptd.models import Attempt
from receiptd.recipients import Entry, Provenance, SideEffects, attempts, record_one
from receiptd.smtp import Accepted, Dialogue, Envelope, Outcome, Refused, Relay, RelayDown, Uncertain
from receiptd.store import Store, is_down, queue, reason_of
from receiptd.store.monitors import Health
from receiptd.store.queue import Work
from receiptd.watchdog import Watchdog

_log = structlog.get_logger(__name__)

_LONGEST_WAIT = timedelta(minutes=30)
_LONGEST_TRANSACTION = timedelta(hours=1)
"""Every time-out of RFC 5321 §4.5.3.2 in one transaction, and the wait for a turn under `rate`, stay below this."""
_LONGEST_FAULT = timedelta(hours=1)
"""How long the database may fail before what it does not take is left to `recover`."""
_REST = timedelta(seconds=10)
"""How long a recipient is left alone whose attempt the database did not take: its relay was asked in vain."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


async def submit(
    store: Store, relay: Relay, health: Health, *, wake: asyncio.Event, stop: asyncio.Event, watchdog: Watchdog
) -> int:
    """Submit what is due, a bounded window at a time; return how many recipients moved.

    The window is refilled as transactions end and when *wake* is set, so that one slow transaction
    holds up nobody. Under a rate no more is claimed than gets a turn while the claim holds. Ends when
    nothing is due, the relay is down, or *stop* is set.
    """
    window = 2 * store.settings.submission.connections
    running: set[asyncio.Task[bool]] = set()
    moved = 0
    try:
        while True:
            wake.clear()
            room = relay.turns(queue.LEASE / 2, (window if health.is_up else 1) - len(running))
            if room > 0 and not stop.is_set() and health.may_try(store.now()):
                works = await _claim(store, room, is_idle=not running)
                running |= {asyncio.create_task(_guarded(store, relay, health, work, watchdog)) for work in works}
            if not running:
                return moved
            done, running = await _first(running, wake)
            moved += sum(task.result() for task in done)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _claim(store: Store, limit: int, *, is_idle: bool) -> list[Work]:
    """Claim up to *limit*; while transactions are under way, a fault of the database must not cut them off."""
    try:
        return await queue.claim(store, limit)
    except Exception as fault:
        if is_idle or not is_down(fault):
            raise
        _log.warning("the database fails, so nothing further is submitted now", reason=reason_of(fault))
        return []


async def _first(
    running: set[asyncio.Task[bool]], wake: asyncio.Event
) -> tuple[set[asyncio.Task[bool]], set[asyncio.Task[bool]]]:
    """Wait until a transaction ends or somebody wakes us."""
    woken = asyncio.ensure_future(wake.wait())
    try:
        done, pending = await asyncio.wait({*running, woken}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        woken.cancel()
    return {task for task in running if task in done}, {task for task in running if task in pending}


async def _carry(store: Store, relay: Relay, health: Health, work: Work) -> bool:
    """Submit one recipient and commit what became of it; False where nothing did."""
    attempt = Attempt(id=new_id(store.now()), recipient=work.recipient.id, started_at=store.now(), node=store.node)
    try:
        with telemetry.SUBMIT_SECONDS.time():
            outcome = await _transact(store, relay, work, attempt)
    except queue.NoLongerDue:
        return False
    except RelayDown as fault:
        await _put_back(store, health, attempt, fault)
        return False
    except BadData as fault:  # never reached the wire
        outcome = Refused("message", permanent=True, reply=None, reason=str(fault), dialogue="")
    except Exception as fault:
        if not is_down(fault):
            raise
        # Only the attempt's row and its note are written in there, and without these no DATA is said.
        _log.warning("the attempt can't be written down, so nothing was sent", reason=reason_of(fault))
        await _give_back(store, attempt, store.now() + _REST)
        return False
    if outcome.dialogue and not isinstance(outcome, Uncertain):
        _note_up(health)
    telemetry.SUBMISSIONS.labels(_word(outcome)).inc()
    _tell(work, outcome)
    dot_at = _final_dot_at(attempt, outcome, store.now())
    await _write_down(store, lambda session: _settle(session, store, work, attempt, outcome, dot_at))
    return True


def _final_dot_at(attempt: Attempt, outcome: Outcome, now: datetime) -> datetime:
    """Return when the final dot was sent, by the clock as it is now; where there was none, when the attempt began."""
    if isinstance(outcome, Refused):
        return attempt.started_at
    return min(max(attempt.started_at, now - timedelta(seconds=outcome.waited)), now)


def _note_up(health: Health) -> None:
    if not health.is_up:
        _log.info("the relay can be used again")
    health.up()


def _tell(work: Work, outcome: Outcome) -> None:
    """Write to the journal what was not taken; what was, `receiptd show` knows."""
    if isinstance(outcome, Accepted):
        return
    reply = outcome.reply if isinstance(outcome, Refused) else None
    _log.info(
        "the relay did not take a message for a recipient",
        outcome=_word(outcome),
        message=work.message.id,
        recipient=work.recipient.id,
        reply_code=reply.code if reply else None,
        status=reply.enhanced if reply else None,
    )


async def _write_down(store: Store, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """Commit what has happened at the relay: no fault of the database undoes it, so try until it is written."""
    give_up = asyncio.get_running_loop().time() + _LONGEST_FAULT.total_seconds()
    pause = _FIRST_PAUSE
    while True:
        try:
            return await store.together(work)
        except Exception as fault:
            is_gone = store.files is not None and store.files.fault is not None
            if is_gone or not is_down(fault) or asyncio.get_running_loop().time() > give_up:
                raise
            _log.warning("the database fails, so an answer of the relay waits", reason=reason_of(fault))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _guarded(store: Store, relay: Relay, health: Health, work: Work, watchdog: Watchdog) -> bool:
    """Let a recipient that raises stop nobody else: its lease pushes it ahead, and the journal tells."""
    try:
        with watchdog.track("transaction", _LONGEST_TRANSACTION + _LONGEST_FAULT):
            return await _carry(store, relay, health, work)
    except Exception as fault:
        if is_down(fault):
            _log.error(
                "an answer of the relay is not written down", recipient=work.recipient.id, reason=reason_of(fault)
            )
        else:
            _log.exception("a submission failed in an unforeseen way", recipient=work.recipient.id)
        return False


async def _transact(store: Store, relay: Relay, work: Work, attempt: Attempt) -> Outcome:
    async def before_data(_: Dialogue) -> None:
        attempt.started_at = store.now()
        begun = Attempt(**attempt.model_dump())
        hold = store.settings.submission.uncertain_wait

        async def begin(session: AsyncSession) -> int:
            await queue.begin(session, begun, work.claimed_until, hold=hold)
            return store.ledger.turn() if store.ledger else 0

        turn = await store.together(begin)
        if store.ledger is not None:
            store.ledger.note(turn, begun.id)

    return await relay.submit(_envelope(store, work), before_data=before_data)


def _envelope(store: Store, work: Work) -> Envelope:
    receipts, row, message = store.settings.receipts, work.recipient, work.message
    return_path = ReturnPaths(receipts.address, receipts.subaddress).of(row.token)
    content = compose.for_recipient(
        work.content,
        disposition_notification_to=return_path if row.mdn_requested else None,
        receipt_token=None if receipts.subaddress else row.token,
    )
    return Envelope(
        return_path=return_path,
        recipient=row.address,
        content=content,
        envelope_id=row.envelope_id or row.token,
        notify=receipts.notify,
        ret=receipts.ret,
        request_dsn=message.may_request,
        needs_8bitmime=message.needs_8bitmime,
        needs_smtputf8=message.needs_smtputf8,
        longest_line=message.longest_line,
    )


async def _put_back(store: Store, health: Health, attempt: Attempt, fault: RelayDown) -> None:
    """The fault is about us: the recipient stays queued and due, and the relay is left alone for a while.

    It is the relay that is waited for (`Health.may_try`), so that everything goes as soon as one of them finds it back.
    """
    now = store.now()
    if health.is_up:
        _log.warning("the relay can't be used", reason=str(fault), place=fault.stage)
    if health.may_try(now):  # else one of those that were under way beside it has told already
        health.down(now, str(fault), permanent=fault.permanent)
    telemetry.SUBMISSIONS.labels("relay_down").inc()
    await _give_back(store, attempt, now)


async def _give_back(store: Store, attempt: Attempt, at: datetime) -> None:
    """Nothing was sent: let the recipient be taken up again at *at*."""

    async def work(session: AsyncSession) -> None:
        await queue.finish(session, attempt, "not sent", store.now())
        await queue.release(session, attempt.recipient, at)

    await _write_down(store, work)


async def _settle(
    session: AsyncSession, store: Store, work: Work, attempt: Attempt, outcome: Outcome, dot_at: datetime
) -> None:
    attempt.dialogue = outcome.dialogue
    match outcome:
        case Accepted():
            await _accepted(session, store, work, attempt, outcome, dot_at)
        case Uncertain():
            await attempts.make_uncertain(session, store, attempt, outcome.reason, dot_at)
        case Refused():
            await _refused(session, store, work, attempt, outcome)


async def _accepted(
    session: AsyncSession, store: Store, work: Work, attempt: Attempt, outcome: Accepted, dot_at: datetime
) -> None:
    row, now = work.recipient, store.now()
    attempt.alias_message_id = outcome.alias_message_id
    attempt.reply_code, attempt.reply = outcome.reply.code, outcome.reply.text
    await queue.finish(session, attempt, "accepted", now)
    submitted_at = row.submitted_at or dot_at
    detail = {
        "reply": str(outcome.reply),
        "dsn_requested": outcome.dsn_requested,
        "dsn_refused": outcome.dsn_refused,
        "tls": outcome.capabilities.tls,
        "dialogue": outcome.dialogue,
    }
    fact = Fact(row.id, EventKind.ACCEPTED, Source.SMTP, detail=detail, variant=attempt.id)
    changes = {
        "submitted_at": submitted_at,
        "deadline_at": submitted_at + timedelta(seconds=row.within),
        "dsn_requested": outcome.dsn_requested,
        "attempts": row.attempts + 1,
    }
    await _record(session, store, work, Provenance(attempt.id, dot_at), fact, changes)


async def _refused(session: AsyncSession, store: Store, work: Work, attempt: Attempt, outcome: Refused) -> None:
    """Decide what a refusal means: failed, later again, or (after an unknown outcome) still unknown."""
    row, now = work.recipient, store.now()
    if outcome.reply is not None:
        attempt.reply_code, attempt.reply = outcome.reply.code, outcome.reply.text
    is_final = outcome.permanent or now >= row.give_up_at
    await queue.finish(session, attempt, "refused" if is_final else "deferred", now)
    changes: dict[str, Any] = {"attempts": row.attempts + 1}
    if not is_final:
        changes |= {"next_attempt_at": now + backoff(row.attempts), "claimed_by": None, "claimed_until": None}
        fact = _fact(work, EventKind.DEFERRED, outcome, variant=str(attempt.reply_code))
    elif row.delivery is Delivery.UNCERTAIN:
        # The first copy may have arrived: a refusal of the second proves nothing about it.
        changes |= {"next_attempt_at": None, "claimed_by": None, "claimed_until": None}
        fact = _fact(work, EventKind.FAILED, outcome, variant=attempt.id, trust=Trust.WEAK)
    else:
        fact = _fact(work, EventKind.FAILED, outcome, variant=attempt.id)
    if outcome.stage == "dsn":
        changes["dsn_requested"] = False
    await _record(session, store, work, Provenance(attempt.id, attempt.started_at), fact, changes)


def _fact(work: Work, kind: EventKind, outcome: Refused, *, variant: str, trust: Trust = Trust.KEYED) -> Fact:
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


async def _record(
    session: AsyncSession, store: Store, work: Work, told: Provenance, fact: Fact, changes: dict[str, Any]
) -> None:
    entry = Entry(work.recipient.id, [fact], told, SideEffects(changes))
    await record_one(session, store.settings, entry, now=store.now())


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after *attempts* refusals: a minute, doubling up to half an hour, give or take."""
    wait = min(timedelta(minutes=2 ** min(attempts, 10)), _LONGEST_WAIT)
    return wait * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing


def _word(outcome: Outcome) -> str:
    match outcome:
        case Refused(permanent=permanent):
            return "refused" if permanent else "deferred"
        case Accepted():
            return "accepted"
        case _:
            return "uncertain"
