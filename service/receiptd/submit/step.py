"""The step: takes what is due, hands it to the relay, and commits what has ended, a set at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog
from sqlmodel import Session

from receiptd import telemetry
from receiptd.errors import BadData
from receiptd.recipients import record
from receiptd.smtp import Accepted, Finished, NotSent, Outcome, Refused, Relay, RelayDown, Stream, Uncertain
from receiptd.store import Store, is_down, reason_of, submissions
from receiptd.store.monitors import Health
from receiptd.store.submissions import Work
from receiptd.submit.flights import Flights
from receiptd.submit.outcomes import Ended, ended, not_sent, word
from receiptd.watchdog import Watchdog

_log = structlog.get_logger(__name__)

_LONGEST_FAULT = timedelta(hours=1)
"""How long the database may fail before what it does not take is left to `attempts.recover`."""
_REST = timedelta(seconds=10)
"""How long a recipient is left alone whose attempt could not be noted: its relay was not asked."""
_PAUSE = 0.5
"""Seconds between two tries of a database that fails."""
_SOON = timedelta(seconds=2)
"""Under a rate no more is taken than gets its turn within this time: what waits here can't be overtaken."""


async def submit(
    store: Store, relay: Relay, health: Health, *, wake: asyncio.Event, stop: asyncio.Event, watchdog: Watchdog
) -> int:
    """Submit what is due, a bounded window at a time; return how many recipients moved.

    The window is refilled as transactions end and when *wake* is set, so that one slow transaction
    holds up nobody. Ends when nothing is due, the relay is down, or *stop* is set.
    """
    stream: Stream[str] = relay.stream()
    async with stream:
        flights = Flights(stream, watchdog, store.settings.submission.connections)
        return await _Submission(store, relay, health, flights, wake, stop).run()


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one transaction took: with the bytes, by SHA-256, that were not at hand; *turn* is the ledger's."""

    works: Sequence[Work] = ()
    contents: Mapping[str, bytes] = field(default_factory=dict)
    turn: int = 0


class _Submission:
    """One run of the step: from something due until nothing is."""

    def __init__(
        self, store: Store, relay: Relay, health: Health, flights: Flights, wake: asyncio.Event, stop: asyncio.Event
    ) -> None:
        self._store, self._relay, self._health = store, relay, health
        self._flights = flights
        self._wake, self._stop = wake, stop
        self._unwritten: list[Ended] = []
        self._failing_since: float | None = None
        self._turn = self._moved = 0
        self._landed_at = asyncio.get_running_loop().time()

    async def run(self) -> int:
        try:
            while True:
                self._wake.clear()
                self._start(await self._commit())
                is_failing = self._failing_since is not None
                if self._unwritten and not is_failing:
                    continue
                if not len(self._flights) and not is_failing:
                    return self._moved
                self._land(await self._flights.outcomes(self._wake, within=_PAUSE if is_failing else None))
        except asyncio.CancelledError:
            self._land(await self._flights.abort())
            await self._commit_once()
            raise

    def _room(self) -> int:
        if self._stop.is_set() or not self._health.may_try(self._store.now()):
            return 0
        room = self._flights.room if self._health.is_up else 1 - len(self._flights)
        return self._relay.turns(_SOON, room) if room > 0 else 0

    async def _commit(self) -> _Taken:
        """Write what has ended and take what is next, in one transaction."""
        room, some = self._room(), self._unwritten
        if not some and not room:
            self._failing_since = None
            return _Taken()
        try:
            taken = await self._store.transact(partial(self._write, some, room))
        except Exception as fault:
            await self._after(fault, some)
            return _Taken()
        self._written(some)
        return taken

    def _written(self, some: Sequence[Ended]) -> None:
        self._moved += sum(one.entry is not None for one in some)
        self._unwritten, self._failing_since = [], None
        self._turn += 1

    def _write(self, some: Sequence[Ended], room: int, session: Session) -> _Taken:
        store = self._store
        submissions.finish(session, [one.attempt for one in some])
        _release(session, some)
        record(session, store.settings, [one.entry for one in some if one.entry is not None], now=store.now())
        if not room:
            return _Taken()
        hold, at_hand = store.settings.submission.uncertain_wait, self._flights.messages
        works = submissions.take(session, node=store.node, now=store.now(), hold=hold, limit=room, turn=self._turn)
        wanted = {work.message.evidence for work in works if work.message.id not in at_hand}
        turn = store.ledger.turn() if store.ledger and works else 0
        return _Taken(works, submissions.contents(session, wanted), turn)

    async def _after(self, fault: Exception, some: Sequence[Ended]) -> None:
        """Nothing was written: wait where the database fails, else let the one that raises stop no other."""
        if not is_down(fault):
            if not some:
                raise fault
            self._unwritten = []
            for one in some:
                await self._write_alone(one)
            return
        now = asyncio.get_running_loop().time()
        self._failing_since = self._failing_since or now
        is_gone = self._store.files is not None and self._store.files.fault is not None
        is_hopeless = is_gone or now - self._failing_since > _LONGEST_FAULT.total_seconds()
        if is_hopeless or not (some or len(self._flights)):
            for one in some:
                recipient = one.work.recipient.id
                _log.error("an answer of the relay is not written down", recipient=recipient, reason=reason_of(fault))
            raise fault
        what = "an answer of the relay waits" if some else "nothing further is submitted now"
        _log.warning(f"the database fails, so {what}", reason=reason_of(fault))

    async def _write_alone(self, one: Ended) -> None:
        try:
            await self._store.transact(partial(self._write, [one], 0))
            self._moved += one.entry is not None
        except Exception as fault:
            if is_down(fault):
                self._failing_since = self._failing_since or asyncio.get_running_loop().time()
                self._unwritten.append(one)
            else:
                _log.exception("a submission failed in an unforeseen way", recipient=one.work.recipient.id)

    async def _commit_once(self) -> None:
        """Write what is known before this step is cut off.

        What isn't is uncertain at the next start: from then on evidence is waited for, as mail is read again.
        """
        known = [one for one in self._unwritten if one.attempt["outcome"] != "uncertain"]
        try:
            await self._store.transact(partial(self._write, known, 0))
        except Exception as fault:
            _log.warning("answers of the relay are not written down", reason=reason_of(fault))

    def _start(self, taken: _Taken) -> None:
        """Hand over what was taken, once its last attempt is noted outside the database."""
        now = self._store.now()
        try:
            if self._store.ledger is not None and taken.works:
                self._store.ledger.note(taken.turn, taken.works[-1].attempt)
        except Exception as fault:
            if not is_down(fault):
                raise
            _log.warning("the attempt can't be written down, so nothing was sent", reason=reason_of(fault))
            self._unwritten += [not_sent(work, now=now, release_at=now + _REST) for work in taken.works]
            return
        for work in taken.works:
            try:
                self._flights.start(work, self._store.settings, taken.contents)
            except BadData as fault:  # never reaches the wire
                self._end(work, Refused("message", permanent=True, reply=None, reason=str(fault), dialogue=""))
            except Exception:
                # Its lease pushes it ahead, so that it stops nobody else.
                _log.exception("a submission failed in an unforeseen way", recipient=work.recipient.id)
                self._unwritten.append(not_sent(work, now=now, release_at=None))
        self._flights.forget_unused()

    def _land(self, finished: Sequence[Finished[str]]) -> None:
        now = asyncio.get_running_loop().time()
        if finished:
            self._flights.measure(len(finished), now - self._landed_at)
            self._landed_at = now
        for one in finished:
            work = self._flights.land(one.key)
            if isinstance(one.outcome, NotSent):
                self._put_back(work, one.outcome.fault)
            else:
                self._end(work, one.outcome)

    def _end(self, work: Work, outcome: Outcome) -> None:
        if outcome.dialogue and not isinstance(outcome, Uncertain):
            if not self._health.is_up:
                _log.info("the relay can be used again")
            self._health.up()
        telemetry.SUBMISSIONS.labels(word(outcome)).inc()
        _tell(work, outcome)
        wait = self._store.settings.submission.uncertain_wait
        self._unwritten.append(ended(work, outcome, now=self._store.now(), uncertain_wait=wait))

    def _put_back(self, work: Work, fault: Exception | None) -> None:
        """Nothing was sent: the recipient stays queued and due.

        Where the relay can't be used, it is the relay that is waited for (`Health.may_try`), so that everything
        goes as soon as one of them finds it back.
        """
        now = self._store.now()
        release_at = now
        if isinstance(fault, RelayDown):
            if self._health.is_up:
                _log.warning("the relay can't be used", reason=str(fault), place=fault.stage)
            if self._health.may_try(now):  # else one of those that were under way beside it has told already
                self._health.down(now, str(fault), permanent=fault.permanent)
            telemetry.SUBMISSIONS.labels("relay_down").inc()
        elif fault is not None:
            _log.error("a submission failed in an unforeseen way", recipient=work.recipient.id, exc_info=fault)
            self._unwritten.append(not_sent(work, now=now, release_at=None))
            return
        self._unwritten.append(not_sent(work, now=now, release_at=release_at))


def _release(session: Session, some: Sequence[Ended]) -> None:
    instants = {one.release_at for one in some if one.release_at is not None}
    if instants:  # those of one set lie within moments: the last one is soon enough for all
        released = [one.work.recipient.id for one in some if one.release_at is not None]
        submissions.release(session, released, max(instants))


def _tell(work: Work, outcome: Outcome) -> None:
    """Write to the journal what was not taken; what was, `receiptd show` knows."""
    if isinstance(outcome, Accepted):
        return
    reply = outcome.reply if isinstance(outcome, Refused) else None
    _log.info(
        "the relay did not take a message for a recipient",
        outcome=word(outcome),
        message=work.message.id,
        recipient=work.recipient.id,
        reply_code=reply.code if reply else None,
        status=reply.enhanced if reply else None,
    )
