"""Interpret, match, append events, move the recipient, commit."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import structlog
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import match, telemetry
from receiptd.facts import Fact, Report, Verdict
from receiptd.interpret import interpret
from receiptd.models import ReportRow
from receiptd.recipients import Entry, Provenance, record
from receiptd.settings import MailboxSettings
from receiptd.store import Store, evidence, is_down, monitors, reports
from receiptd.store.after_commit import once_committed

_log = structlog.get_logger(__name__)

_LARGE = 256 * 1024
"""Bytes from which a report is read beside the event loop."""
_REPEATED = "it repeats what is known of this recipient, and [service] max_evidence is reached: it is only counted"


async def settle(store: Store, *, limit: int = 50) -> int:
    """Settle up to *limit* raw reports; return how many are settled or set aside.

    The try is counted and committed before anyone reads a byte: a report that kills the process is
    set aside after three tries, not for ever the first in line. Raises what the database raises where
    it fails: what isn't settled then is taken up again later, and that was nobody's try.
    """
    settled = 0
    taken = await reports.begin_reading(store, limit)
    for number, (row, raw) in enumerate(taken):
        try:
            settled += await _read(store, row, raw)
        except Exception as fault:
            if is_down(fault):
                reports.spoil(store, row, [other for other, _ in taken[number + 1 :]])
                raise
            _log.exception("a report can't be set aside", report=row.id)
    return settled


async def _read(store: Store, row: ReportRow, raw: bytes) -> bool:
    """Settle one report or set it aside; False where it is to be tried again."""
    if reason := _unreadable(row, raw):
        await _set_aside(store, row, reason)
        return True
    try:
        report = await _interpret(raw)
        await store.together(partial(_settle, store=store, row=row, report=report))
    except Exception as error:
        if is_down(error):
            raise
        _log.exception("a report can't be settled", report=row.id, tries=row.tries)
        if row.tries < reports.MOST_TRIES:
            return False
        await _set_aside(store, row, f"a report could not be read in {row.tries} tries: {error!r}")
    return True


def _unreadable(row: ReportRow, raw: bytes) -> str | None:
    """Return why *row* isn't to be read (again), or None."""
    if not raw:
        return "the mailbox has the message but does not hand it over"
    if row.tries > reports.MOST_TRIES:
        return f"reading a report was begun {reports.MOST_TRIES} times and never ended"
    return None


async def _interpret(raw: bytes) -> Report:
    return await asyncio.to_thread(interpret, raw) if len(raw) > _LARGE else interpret(raw)


async def _settle(session: AsyncSession, store: Store, row: ReportRow, report: Report) -> None:
    box = _mailbox(store, row)
    found = await reports.candidates(session, match.keys(report))
    matched = match.match(
        report,
        found,
        receipts_address=store.settings.receipts.address,
        subaddress=store.settings.receipts.subaddress,
        authserv_id=box.authserv_id if box else None,
    )
    told = Provenance(row.id, row.received_at, f"sha256:{row.evidence}")
    by_recipient = _by_recipient(matched.facts)
    entries = [Entry(recipient, facts, told) for recipient, facts in by_recipient.items()]
    await session.flush()
    await session.run_sync(lambda inner: record(cast(Session, inner), store.settings, entries, now=store.now()))
    row.verdict, row.kind = matched.verdict, report.kind
    row.reason = match.reason(report, found, matched.verdict)
    if matched.verdict is Verdict.MATCHED:
        most = store.settings.service.max_evidence
        if not await evidence.cut_repeated(session, row, by_recipient, report, most):
            row.verdict, row.reason = Verdict.NOISE, _REPEATED
    row.subject, row.from_address = reports.shown(report.subject), reports.shown(report.from_address)
    row.clear = matched.verdict is Verdict.MATCHED and is_to_clear(store, row)
    await reports.close(session, row)
    if row.verdict in evidence.SPEAKS_OF_NOBODY:
        await evidence.cut(session, row.evidence, report)
    once_committed(session, telemetry.REPORTS.labels(report.kind, row.verdict).inc)


def is_to_clear(store: Store, row: ReportRow) -> bool:
    """Whether the mailbox of *row* wants a matched report marked, moved or deleted."""
    box = _mailbox(store, row)
    return box is not None and box.after != "keep"


def _mailbox(store: Store, row: ReportRow) -> MailboxSettings | None:
    return next((box for box in store.settings.mailbox if box.name == row.mailbox), None)


def _by_recipient(facts: tuple[Fact, ...]) -> dict[str, list[Fact]]:
    grouped: dict[str, list[Fact]] = {}
    for fact in facts:
        grouped.setdefault(fact.recipient_id, []).append(fact)
    return grouped


async def _set_aside(store: Store, row: ReportRow, reason: str) -> None:
    async def work(session: AsyncSession) -> None:
        await reports.set_aside(session, row.id, reason)
        await monitors.set_aside(session, store.settings, row.id, row.mailbox, reason=reason, now=store.now())

    await store.together(work)
    telemetry.REPORTS.labels(row.kind or "unread", Verdict.SET_ASIDE).inc()
