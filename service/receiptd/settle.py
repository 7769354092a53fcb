"""Interpret, match, append events, move the recipient, commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import match, telemetry
from receiptd.facts import Fact, Report, ReportKind, Verdict
from receiptd.interpret import interpret
from receiptd.recipients import Entry, Provenance, record
from receiptd.settings import MailboxSettings
from receiptd.store import Store, candidates, evidence, is_down, monitors, reports, settlement
from receiptd.store.after_commit import once_committed
from receiptd.store.settlement import MOST_READINGS, MOST_TRIES, Raw, Settled, Unsettled

_log = structlog.get_logger(__name__)

MOST = 60
"""Reports in a set: it holds the writer for some 50 ms, so that nobody else waits long."""
_LARGE = 256 * 1024
"""Bytes from which a report is read beside the event loop."""
_IN_A_ROW = 20
"""Small reports that are read before the event loop has its turn."""
_BY_BRANCH = (ReportKind.REPLY, ReportKind.AUTO_REPLY, ReportKind.ORDINARY)
"""Kinds whose author may be a branch behind an address: what a report before them told is looked at."""
_REPEATED = "it repeats what is known of this recipient, and [service] max_evidence is reached: it is only counted"


@dataclass(frozen=True, slots=True)
class _Read:
    """A report that was read and matched, and is still to be written."""

    raw: Raw
    report: Report
    matched: match.Matched
    reason: str | None
    found: Sequence[match.Candidate]

    @property
    def by_recipient(self) -> dict[str, list[Fact]]:
        grouped: dict[str, list[Fact]] = {}
        for fact in self.matched.facts:
            grouped.setdefault(fact.recipient_id, []).append(fact)
        return grouped


async def settle(store: Store, *, limit: int = MOST) -> int:
    """Settle up to *limit* raw reports; return how many are settled or set aside.

    The try is counted and committed before anyone reads a byte: a report that kills the process is
    set aside after some tries, not for ever the first in line. Raises what the database raises where
    it fails: what isn't settled then is taken up again later, and that was nobody's try.
    """
    taken = await settlement.begin_reading(store, limit)
    readable = [raw for raw in taken if _unreadable(raw) is None]
    try:
        settled = await _set_aside_unreadable(store, taken)
        together = await _settle_together(store, readable)
    except Exception as fault:
        if is_down(fault):
            ids = [raw.report.id for raw in taken]
            settlement.spoil(store, ids[0], ids[1:])
        raise
    return settled + together + await _settle_one_by_one(store, readable[together:])


async def _settle_together(store: Store, raws: Sequence[Raw]) -> int:
    """Settle *raws*, mostly in one transaction; return how many of the first are, before one raised or found no room.

    It ends before an answer whose message others in it tell something of: the match looks at what they told.
    """
    done = 0
    try:
        said = await _interpret_all(raws) if len(raws) > 1 else []
        while done < len(said):
            read = await _match_all(store, raws[done:], said[done:])
            some = read[: _before_an_answer(read)]
            await store.transact(partial(_write, store, some))
            done += len(some)
    except Exception as error:
        _log.warning("a set of reports is settled one by one", reports=len(raws) - done, reason=repr(error))
    return done


def _before_an_answer(read: Sequence[_Read]) -> int:
    """Return how many reports come before one that is matched by what others before it tell.

    Who answers for one of several recipients may be known by a branch that a report named.
    """
    told: set[str] = set()
    for number, one in enumerate(read):
        if one.report.kind in _BY_BRANCH and any(candidate.message_id in told for candidate in one.found):
            return number
        by_recipient = one.by_recipient
        told |= {candidate.message_id for candidate in one.found if candidate.recipient_id in by_recipient}
    return len(read)


async def _settle_one_by_one(store: Store, raws: Sequence[Raw]) -> int:
    """Settle each of *raws* in a transaction of its own, so that a bad one stops no other."""
    settled = 0
    for number, raw in enumerate(raws):
        try:
            settled += await _settle_alone(store, raw)
        except Exception as fault:
            if is_down(fault):
                settlement.spoil(store, raw.report.id, [other.report.id for other in raws[number + 1 :]])
                raise
            _log.exception("a report can't be set aside", report=raw.report.id)
    return settled


async def _settle_alone(store: Store, raw: Raw) -> int:
    try:
        read = await _match_all(store, [raw], await _interpret_all([raw]))
        await store.transact(partial(_write, store, read))
    except Exception as error:
        if is_down(error):
            raise
        return await _give_up(store, raw.report, error)
    return 1


async def _give_up(store: Store, report: Unsettled, error: Exception) -> int:
    """Try a report that raised again later, or set it aside."""
    _log.error("a report can't be settled", report=report.id, tries=report.tries, exc_info=error)
    if report.tries < MOST_TRIES:
        return 0
    await _set_aside(store, report, f"a report could not be read in {report.tries} tries: {error!r}")
    return 1


async def _set_aside_unreadable(store: Store, taken: Sequence[Raw]) -> int:
    count = 0
    for raw in taken:
        if reason := _unreadable(raw):
            await _set_aside(store, raw.report, reason)
            count += 1
    return count


def _unreadable(raw: Raw) -> str | None:
    """Return why a report isn't to be read (again), or None."""
    if not raw.content:
        return "the mailbox has the message but does not hand it over"
    if raw.report.tries > MOST_READINGS:
        return f"reading a report was begun {MOST_READINGS} times and never ended"
    return None


async def _interpret_all(raws: Sequence[Raw]) -> list[Report]:
    """Interpret *raws*: outside of any transaction, and with a turn for the event loop in between."""
    said: list[Report] = []
    for number, raw in enumerate(raws):
        said.append(await _interpret(raw.content))
        if number % _IN_A_ROW == _IN_A_ROW - 1:
            await asyncio.sleep(0)
    return said


async def _match_all(store: Store, raws: Sequence[Raw], said: Sequence[Report]) -> list[_Read]:
    """Match what *raws* said: outside of any transaction that writes."""
    found = await _candidates(store, said)
    return [_match(store, raw, report, own) for raw, report, own in zip(raws, said, found, strict=True)]


async def _interpret(content: bytes) -> Report:
    return await asyncio.to_thread(interpret, content) if len(content) > _LARGE else interpret(content)


async def _candidates(store: Store, said: Sequence[Report]) -> list[list[match.Candidate]]:
    """Return the candidates of each report; what needs much is looked up a bounded part at a time."""
    found: dict[int, list[match.Candidate]] = {}
    missing = list(range(len(said)))
    while missing:
        some = await store.query(partial(candidates.of_reports, reports=[said[number] for number in missing]))
        found |= {number: own for number, own in zip(missing, some, strict=True) if own is not None}
        missing = [number for number in missing if number not in found]
    return [found[number] for number in range(len(said))]


def _match(store: Store, raw: Raw, report: Report, found: Sequence[match.Candidate]) -> _Read:
    box = _mailbox(store, raw.report.mailbox)
    matched = match.match(
        report,
        found,
        receipts_address=store.settings.receipts.address,
        subaddress=store.settings.receipts.subaddress,
        authserv_id=box.authserv_id if box else None,
    )
    return _Read(raw, report, matched, match.reason(report, found, matched.verdict), found)


def _write(store: Store, read: Sequence[_Read], session: Session) -> None:
    entries = [
        Entry(
            recipient,
            facts,
            _provenance(one.raw.report),
        )
        for one in read
        for recipient, facts in one.by_recipient.items()
    ]
    record(session, store.settings, entries, now=store.now())
    is_matched = [one for one in read if one.matched.verdict is Verdict.MATCHED]
    rests = evidence.rests(session, {recipient for one in is_matched for recipient in one.by_recipient})
    settled = [_settled(session, store, one, rests) for one in read]
    settlement.close(session, settled)
    for one, end in zip(read, settled, strict=True):
        if end.verdict in evidence.SPEAKS_OF_NOBODY and one.raw.report.size > evidence.KEPT:
            evidence.cut(session, one.raw.report.evidence, one.report)
        once_committed(session, telemetry.REPORTS.labels(one.report.kind, end.verdict).inc)


def _provenance(report: Unsettled) -> Provenance:
    return Provenance(report.id, report.received_at, f"sha256:{report.evidence}")


def _settled(session: Session, store: Store, one: _Read, rests: dict[str, evidence.Rests]) -> Settled:
    """Return what is written of a report; of one that only repeats what is known, as much is kept as there is room."""
    row, verdict, reason = one.raw.report, one.matched.verdict, one.reason
    if verdict is Verdict.MATCHED:
        most = store.settings.service.max_evidence
        kept = {recipient: rests[recipient] for recipient in one.by_recipient}
        if not evidence.cut_repeated(session, row.id, row.evidence, kept, one.report, most):
            verdict, reason = Verdict.NOISE, _REPEATED
    return Settled(
        id=row.id,
        verdict=verdict,
        kind=one.report.kind,
        subject=reports.shown(one.report.subject),
        from_address=reports.shown(one.report.from_address),
        reason=reason,
        clear=one.matched.verdict is Verdict.MATCHED and is_to_clear(store, row.mailbox),
    )


def is_to_clear(store: Store, mailbox: str) -> bool:
    """Whether *mailbox* wants a matched report marked, moved or deleted."""
    box = _mailbox(store, mailbox)
    return box is not None and box.after != "keep"


def _mailbox(store: Store, name: str) -> MailboxSettings | None:
    return next((box for box in store.settings.mailbox if box.name == name), None)


async def _set_aside(store: Store, row: Unsettled, reason: str) -> None:
    async def work(session: AsyncSession) -> None:
        await reports.set_aside(session, row.id, reason)
        await monitors.set_aside(session, store.settings, row.id, row.mailbox, reason=reason, now=store.now())

    await store.together(work)
    telemetry.REPORTS.labels("unread", Verdict.SET_ASIDE).inc()
