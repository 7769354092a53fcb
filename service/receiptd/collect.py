"""Mailbox -> raw report rows, before anyone reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime, timedelta

import structlog

from receiptd import telemetry
from receiptd.errors import ReceiptdError
from receiptd.interpret import glance, is_report
from receiptd.mailbox import Fetched, Mailbox, MailboxRefused, Selected
from receiptd.models import ReportRow
from receiptd.pulse import pause
from receiptd.settings import MailboxSettings
from receiptd.store import Store, is_down, messages, reason_of, reports
from receiptd.store.monitors import Health
from receiptd.store.reports import Raw

_log = structlog.get_logger(__name__)

_AT_A_TIME = 50

Open = Callable[[], AbstractAsyncContextManager[Mailbox]]


async def collect(store: Store, box: MailboxSettings, mailbox: Mailbox, missing: set[str]) -> int:
    """Read every folder to its end once; return how many reports are new.

    Raises MailboxFault where that isn't possible: an INBOX that can't be opened makes the mailbox blind. Any
    other folder that isn't there holds nothing, is told once, and remembered in *missing*.
    """
    new = 0
    for name in box.folders:
        real = await mailbox.resolve(name)
        if real is None:
            await _note_missing(store, box, name, missing)
            continue
        missing.discard(name)
        new += await _read(store, box, mailbox, name, real)
    telemetry.MAILBOX_LAST_READ.labels(box.name).set(store.now().timestamp())
    return new


async def _note_missing(store: Store, box: MailboxSettings, name: str, missing: set[str]) -> None:
    if name not in missing:
        _log.warning("there is no such folder, so nothing is read there", mailbox=box.name, folder=name)
        missing.add(name)
    now = store.now()
    async with store.write() as session:
        await reports.complete(session, box.name, name, now)


async def _read(store: Store, box: MailboxSettings, mailbox: Mailbox, name: str, real: str) -> int:
    started_at, offset = store.now(), store.clock_offset()
    selected = await _open(mailbox, box, real)
    upto, last_read = await _cursor(store, box.name, name, selected.uidvalidity)
    since = await _since(store, last_read) if _is_shared(store, box) and not upto else None
    new = 0
    for uids in _chunks(await mailbox.search_from(upto + 1, since)):
        wanted = await _ours(store, box, mailbox, uids) if _is_shared(store, box) else dict.fromkeys(uids, True)
        async for raws, passed in _portions(_fetched(store, mailbox, wanted), max(uids)):
            async with store.write() as session:
                new += await reports.keep(
                    session, box.name, name, selected.uidvalidity, raws, upto=passed, now=store.now()
                )
    await _clear(store, box, mailbox, name, selected.uidvalidity)
    if store.clock_jumped(offset):
        # When this read began is on another clock's time: taken for now's, deadlines to come would pass as searched.
        return new
    async with store.write() as session:
        await reports.complete(session, box.name, name, started_at)
    return new


async def _open(mailbox: Mailbox, box: MailboxSettings, folder: str) -> Selected:
    """Open *folder* with no more rights than are needed: SELECT takes \\Recent away from people's own programs."""
    return await (mailbox.examine(folder) if box.after == "keep" else mailbox.select(folder))


def _is_shared(store: Store, box: MailboxSettings) -> bool:
    """Whether people use the mailbox too: then only what is meant for us may be fetched."""
    return box.role == "replies" or not store.settings.receipts.subaddress


async def _since(store: Store, last_read: datetime | None) -> date:
    """Return the day from which a mailbox that people use may hold something for us."""
    async with store.read() as session:
        first = await messages.first_accepted_at(session)
    return (max(last_read or first, first) if first else store.now()).date() - timedelta(days=1)


async def _ours(store: Store, box: MailboxSettings, mailbox: Mailbox, uids: Sequence[int]) -> dict[int, bool]:
    """Return which of *uids* are, by their headers, answers to our messages or (not among replies) reports.

    False where a message only looks like a report: its body has to tell before it is stored.
    """
    chosen = dict[int, bool]()
    async for header in mailbox.fetch_headers(uids):
        seen = glance(header.raw)
        is_sure = seen.is_report and box.role == "receipts"
        if not is_sure and seen.answers:
            async with store.read() as session:
                is_sure = await reports.are_ours(session, seen.answers)
        if is_sure or (seen.seems_report and box.role == "receipts"):
            chosen[header.uid] = is_sure
    return chosen


async def _fetched(store: Store, mailbox: Mailbox, uids: Mapping[int, bool]) -> AsyncIterator[Fetched]:
    async for one in mailbox.fetch(list(uids), max_report=store.settings.service.max_report):
        if uids.get(one.uid) or is_report(one.raw):
            yield one


async def _cursor(store: Store, mailbox: str, folder: str, uidvalidity: int) -> tuple[int, datetime | None]:
    """Return the last UID that was read and when; nought where the server gave all UIDs a new meaning."""
    async with store.write() as session:
        row = await reports.cursor(session, mailbox, folder)
        if row.uidvalidity != uidvalidity:
            if row.uidvalidity is not None:
                _log.warning("the server renumbered a folder; it is read anew", mailbox=mailbox, folder=folder)
            await reports.restart(session, mailbox, folder, uidvalidity)
        return row.uid, row.read_at


async def _portions(fetched: AsyncIterator[Fetched], upto: int) -> AsyncIterator[tuple[list[Raw], int]]:
    """Yield what is fetched and up to which UID it reaches, before it grows too large to be held at once."""
    raws, octets = list[Raw](), 0
    async for one in fetched:
        raws.append(_raw(one))
        octets += len(one.raw)
        if octets > reports.MOST_OCTETS:
            yield raws, one.uid
            raws, octets = [], 0
    yield raws, upto


def _raw(fetched: Fetched) -> Raw:
    return Raw(fetched.uid, fetched.internaldate, fetched.size, fetched.raw, fetched.truncated)


def _chunks(uids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (uids[start : start + _AT_A_TIME] for start in range(0, len(uids), _AT_A_TIME))


async def _clear(store: Store, box: MailboxSettings, mailbox: Mailbox, folder: str, uidvalidity: int) -> None:
    """Do to matched reports what `after` says; what isn't ours is left as it is."""
    if box.after == "keep":
        return
    async with store.read() as session:
        rows = await reports.to_clear(session, box.name, folder, uidvalidity, _AT_A_TIME)
    if not rows:
        return
    try:
        await _apply(box.after, mailbox, rows)
    except MailboxRefused as refusal:
        _log.warning("settled reports stay where they are", mailbox=box.name, folder=folder, reason=str(refusal))
        return
    async with store.write() as session:
        await reports.cleared(session, [row.id for row in rows])


async def _apply(after: str, mailbox: Mailbox, rows: Sequence[ReportRow]) -> None:
    uids = [row.uid for row in rows]
    if after == "seen":
        await mailbox.mark_seen(uids)
    elif after == "delete":
        await mailbox.delete(uids)
    else:
        await mailbox.move(uids, after.removeprefix("move:"))


async def watch(
    store: Store,
    box: MailboxSettings,
    health: Health,
    open_mailbox: Open,
    *,
    stop: asyncio.Event,
    on_read: Callable[[int], Awaitable[None]],
) -> None:
    """Read *box* again and again until *stop*: at once on news, at the latest after `poll`; reconnect for ever.

    *on_read* is awaited after each complete read with the number of new reports.
    """
    missing: set[str] = set()
    while not stop.is_set():
        try:
            async with open_mailbox() as mailbox:
                while not stop.is_set():
                    new = await collect(store, box, mailbox, missing)
                    if not health.is_up:
                        _log.info("the mailbox can be read again", mailbox=box.name)
                    health.up()
                    await on_read(new)
                    await _wait(store, mailbox, box)
        except Exception as fault:
            _note_down(store, box, health, fault)
            await pause(stop, timedelta(seconds=min(2**health.failures, 60)))


def _note_down(store: Store, box: MailboxSettings, health: Health, fault: Exception) -> None:
    """The mailbox can't be read, or what it holds not be stored: that ends nothing, and the monitor tells."""
    is_foreseen = isinstance(fault, ReceiptdError)
    reason = str(fault) if is_foreseen else f"{type(fault).__name__}: {fault}".splitlines()[0]
    if is_down(fault):
        is_foreseen, reason = True, f"the database does not take what it holds: {reason_of(fault)}"
    if health.is_up:
        _log.warning("the mailbox can't be read", mailbox=box.name, reason=reason, exc_info=not is_foreseen)
    health.down(store.now(), reason, permanent=isinstance(fault, ReceiptdError) and fault.permanent)


async def _wait(store: Store, mailbox: Mailbox, box: MailboxSettings) -> None:
    """Wait for news at most `poll`; IDLE watches the folder that is open, polling finds all else."""
    inbox = await mailbox.resolve("INBOX")
    if not box.idle or inbox is None:
        await asyncio.sleep(box.poll.total_seconds())
    elif not await _came_meanwhile(store, mailbox, box, inbox):
        await mailbox.wait_for_news(box.poll.total_seconds())


async def _came_meanwhile(store: Store, mailbox: Mailbox, box: MailboxSettings, inbox: str) -> bool:
    """Open INBOX and say whether it holds more than was read: what came before it is open, IDLE never tells."""
    selected = await _open(mailbox, box, inbox)
    name = next((name for name in box.folders if name.upper() == "INBOX"), None)
    if name is None:
        return False
    upto, _ = await _cursor(store, box.name, name, selected.uidvalidity)
    return bool(await mailbox.search_from(upto + 1))
