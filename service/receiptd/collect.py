"""Mailbox -> raw report rows, before anyone reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial

import structlog

from receiptd import telemetry
from receiptd.errors import ReceiptdError
from receiptd.interpret import classify_header, is_report
from receiptd.mailbox import (
    Fetched,
    FolderClosed,
    FolderMissing,
    Mailbox,
    MailboxFault,
    MailboxRefused,
    MessageWithheld,
    Selected,
    Summary,
)
from receiptd.settings import MailboxSettings
from receiptd.store import Store, folders, is_down, messages, reason_of, reports
from receiptd.store.folders import Cursor, Raw, ToClear
from receiptd.store.monitors import Health
from receiptd.watchdog import pause

_log = structlog.get_logger(__name__)

_AT_A_TIME = 50
_MOST_TRIES = 5
"""So often a message that is there is asked for, over about a minute; then it is set aside, and somebody is told."""
_ROOM = timedelta(seconds=1)
"""How long fetching waits for settling before it asks again whether there is room."""
_NO_END = 1 << 32
"""Behind the last UID that can be (RFC 9051 §9, uniqueid)."""

Open = Callable[[], AbstractAsyncContextManager[Mailbox]]


@dataclass(slots=True)
class Progress:
    """What whoever reads a mailbox again and again remembers of it."""

    missing: set[str] = field(default_factory=set)
    """Folders of which was told already that they aren't there."""
    inbox: tuple[int, int, date | None] | None = None
    """Of the last read of INBOX: UIDVALIDITY, the UID behind all it found, and the day from which it searched."""
    tries: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """How often a message was asked for and not handed over, by folder, UIDVALIDITY and UID."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when reports were settled: while too much waits for that, nothing is fetched."""
    on_new: Callable[[], None] = lambda: None
    """Called as soon as new reports are stored, long before the read is complete."""
    health: Health = field(default_factory=lambda: Health("mailbox"))

    def may_still_come(self, folder: str, uidvalidity: int, uid: int) -> bool:
        """Whether to ask once more for a message that isn't handed over: a server's bad minute passes."""
        key = folder, uidvalidity, uid
        self.tries[key] = self.tries.get(key, 0) + 1
        return self.tries[key] < _MOST_TRIES


async def collect(store: Store, box: MailboxSettings, mailbox: Mailbox, progress: Progress) -> int:
    """Read every folder to its end once; return how many reports are new.

    Raises MailboxFault where that isn't possible: the mailbox is blind then. A folder that can't be read stops
    no other one. Only the default's Junk, which nobody named, may be missing: that is told once.
    """
    new, faults = 0, list[Exception]()
    for name in box.folders:
        try:
            real = await _resolve(store, box, mailbox, name, progress)
            if real is not None:
                new += await _read(store, box, mailbox, name, real, progress)
        except (FolderMissing, FolderClosed, MessageWithheld) as fault:
            faults.append(fault)
        except Exception as fault:
            if isinstance(fault, MailboxFault) or is_down(fault):
                raise
            faults.append(fault)  # of this folder alone, such as a row that can't be understood
    if faults:
        raise faults[0]
    telemetry.MAILBOX_LAST_READ.labels(box.name).set(store.now().timestamp())
    return new


async def _resolve(store: Store, box: MailboxSettings, mailbox: Mailbox, name: str, progress: Progress) -> str | None:
    """Return what the server calls the folder *name*; None where it has none and need not have it."""
    real = await mailbox.resolve(name)
    if real is not None:
        progress.missing.discard(name)
        return real
    cursor = await store.query(partial(folders.cursor, mailbox=box.name, folder=name))
    if cursor.uidvalidity is not None:
        raise FolderMissing(
            f"The folder {name}, which was read before, isn't in the mailbox now: if it is gone for good, "
            "leave it out of folders in [[mailbox]].",
            permanent=False,
        )
    if box.names_folders:
        raise FolderMissing(f"The mailbox has no folder {name!r}: make it, or correct folders in [[mailbox]].")
    await _note_missing(store, box, name, progress)
    return None


async def _note_missing(store: Store, box: MailboxSettings, name: str, progress: Progress) -> None:
    if name not in progress.missing:
        _log.warning("there is no such folder, so nothing is read there", mailbox=box.name, folder=name)
        progress.missing.add(name)
    await store.transact(partial(folders.complete, mailbox=box.name, folder=name, started_at=store.now()))


async def _read(store: Store, box: MailboxSettings, mailbox: Mailbox, name: str, real: str, progress: Progress) -> int:
    started_at, offset = store.now(), store.clock_offset()
    selected = await mailbox.open(real, unchanged=_is_unchanged(store, box))
    upto, last_read = await _cursor(store, box.name, name, mailbox, selected)
    first = await _since(store, last_read) if _is_shared(store, box) else None
    since = None if upto else first
    new, withheld, was_elsewhere = await _store_all(store, box, mailbox, name, selected, progress, upto, since)
    if was_elsewhere and upto:
        await _restart(store, box.name, name, selected)
        again, withheld, _ = await _store_all(store, box, mailbox, name, selected, progress, 0, first)
        new += again
    await _clear(store, box, mailbox, name, selected.uidvalidity)
    if withheld:
        raise mailbox.withheld(withheld)
    if store.clock_jumped(offset):
        # When this read began is on another clock's time: taken for now's, deadlines to come would pass as searched.
        return new
    await store.transact(partial(folders.complete, mailbox=box.name, folder=name, started_at=started_at))
    return new


async def _store_all(
    store: Store,
    box: MailboxSettings,
    mailbox: Mailbox,
    name: str,
    selected: Selected,
    progress: Progress,
    upto: int,
    since: date | None,
) -> tuple[int, set[int], bool]:
    """Store what came behind *upto*; return how many reports are new, which UIDs are withheld, and `was_elsewhere`.

    The cursor passes only what a FETCH told of or a second SEARCH denied, and stays below UIDNEXT: beyond it a
    server's mistake in a SEARCH would hide all real mail to come.
    """
    found = await mailbox.search_from(upto + 1, since)
    if name.upper() == "INBOX":
        progress.inbox = (selected.uidvalidity, max(found, default=upto) + 1, since)
    new, withheld, was_elsewhere = 0, set[int](), False
    end = (selected.uidnext or _NO_END) - 1
    owed = partial(progress.may_still_come, name, selected.uidvalidity)
    for uids in _chunks(found):
        await _await_room(store, box, progress)
        look = await mailbox.look(uids)
        withheld |= {uid for uid in look.withheld if uid <= end}
        there = [one.uid for one in look.there]
        wanted: dict[int, bool | None] = dict.fromkeys(there, True)
        if _is_shared(store, box):
            wanted = await _ours(store, box, mailbox, there)
        withheld |= {uid for uid, sure in wanted.items() if sure is None and owed(uid)}
        seen = {one.uid: _mark(one) for one in look.there if one.is_dated}
        wanted = {uid: sure for uid, sure in wanted.items() if uid not in withheld}
        async for raws, passed in _portions(_fetched(store, mailbox, wanted), max(uids)):
            withheld |= {raw.uid for raw in raws if not raw.content and raw.size and owed(raw.uid)}
            most = min([end, *(uid - 1 for uid in withheld)])
            kept = await store.transact(
                partial(
                    folders.keep,
                    mailbox=box.name,
                    folder=name,
                    uidvalidity=selected.uidvalidity,
                    raws=[raw for raw in raws if raw.uid not in withheld],
                    upto=min(passed, most),
                    now=store.now(),
                    passed=seen,
                )
            )
            new, was_elsewhere = new + kept.new, was_elsewhere or kept.was_elsewhere
            if kept.new:
                progress.on_new()
    return new, withheld, was_elsewhere


async def _await_room(store: Store, box: MailboxSettings, progress: Progress) -> None:
    """Wait while too much is fetched and not settled: what is still in the mailbox takes no room on our disk.

    The read isn't complete meanwhile, so deadlines are held; but nobody is blind.
    """
    while True:
        progress.settled.clear()
        if await store.query(reports.has_room):
            break
        if not progress.health.is_waiting:
            _log.info("fetching waits until what is here is settled", mailbox=box.name)
        progress.health.is_waiting = True
        await pause(progress.settled, _ROOM)
    progress.health.is_waiting = False


def _mark(summary: Summary) -> tuple[int, int]:
    """Return by what a message is known again without its content."""
    return summary.size, int(summary.internaldate.timestamp())


def _is_unchanged(store: Store, box: MailboxSettings) -> bool:
    """Whether the mailbox must look to people's own programs as if nobody had read it."""
    return box.after == "keep" and _is_shared(store, box)


def _is_shared(store: Store, box: MailboxSettings) -> bool:
    return store.settings.is_shared(box)


async def _since(store: Store, last_read: datetime | None) -> date:
    """Return the day from which a mailbox that people use may hold something for us."""
    first = await store.query(messages.first_accepted_at)
    return (max(last_read or first, first) if first else store.now()).date() - timedelta(days=1)


async def _ours(store: Store, box: MailboxSettings, mailbox: Mailbox, uids: Sequence[int]) -> dict[int, bool | None]:
    """Return which of *uids* are, by their headers, answers to our messages or (not among replies) reports.

    False where a message only looks like a report: its body has to tell before it is stored. None where the server
    didn't hand over the header.
    """
    chosen = dict[int, bool | None]()
    async for header in mailbox.fetch_headers(uids):
        if not header.raw:
            chosen[header.uid] = None
            continue
        seen = classify_header(header.raw)
        is_sure = seen.is_report and box.role == "receipts"
        if not is_sure and seen.answered_ids:
            is_sure = await store.query(partial(folders.are_ours, message_ids=seen.answered_ids))
        if is_sure or (seen.seems_report and box.role == "receipts"):
            chosen[header.uid] = is_sure
    return chosen


async def _fetched(store: Store, mailbox: Mailbox, uids: Mapping[int, bool | None]) -> AsyncIterator[Fetched]:
    async for one in mailbox.fetch(list(uids), max_report=store.settings.service.max_report):
        if uids.get(one.uid) or not one.raw or is_report(one.raw):
            yield one


async def _cursor(
    store: Store, box: str, folder: str, mailbox: Mailbox, selected: Selected
) -> tuple[int, datetime | None]:
    """Return the last UID that was read and when; zero where the server gave UIDs a new meaning."""
    row = await store.query(partial(folders.cursor, mailbox=box, folder=folder))
    renumbered = row.uidvalidity is not None and await _is_renumbered(mailbox, row, selected)
    if row.uidvalidity is not None and not renumbered:
        return row.uid, row.read_at
    await _restart(store, box, folder, selected, is_first=not renumbered)
    return 0, row.read_at


async def _restart(store: Store, box: str, folder: str, selected: Selected, *, is_first: bool = False) -> None:
    if not is_first:
        _log.warning("the server renumbered a folder; it is read anew", mailbox=box, folder=folder)
    await store.transact(partial(folders.restart, mailbox=box, folder=folder, uidvalidity=selected.uidvalidity))


async def _is_renumbered(mailbox: Mailbox, row: Cursor, selected: Selected) -> bool:
    """Whether UIDs mean other messages than before: some servers use them twice under one UIDVALIDITY."""
    if row.uidvalidity != selected.uidvalidity or (selected.uidnext is not None and row.uid >= selected.uidnext):
        return True
    recent = {int(uid): tuple(mark) for uid, mark in (row.recent or {}).items()}
    told = await mailbox.told(recent) if recent else {}
    return any(one.is_dated and uid in recent and _mark(one) != recent[uid] for uid, one in told.items())


async def _portions(fetched: AsyncIterator[Fetched], upto: int) -> AsyncIterator[tuple[list[Raw], int]]:
    """Yield what is fetched and up to which UID it reaches, before it grows too large to be held at once."""
    raws, octets = list[Raw](), 0
    async for one in fetched:
        raws.append(_raw(one))
        octets += len(one.raw)
        if octets > folders.MOST_OCTETS:
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
    rows = await store.query(
        partial(folders.to_clear, mailbox=box.name, folder=folder, uidvalidity=uidvalidity, limit=_AT_A_TIME)
    )
    if not rows:
        return
    try:
        await _apply(box.after, mailbox, rows)
    except MailboxRefused as refusal:
        _log.warning("settled reports stay where they are", mailbox=box.name, folder=folder, reason=str(refusal))
        return
    await store.transact(partial(folders.cleared, reports=[row.id for row in rows]))


async def _apply(after: str, mailbox: Mailbox, rows: Sequence[ToClear]) -> None:
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
    progress: Progress | None = None,
    wake: asyncio.Event | None = None,
) -> None:
    """Read *box* again and again until *stop*: at once on news or *wake*, else after `poll`; reconnect for ever.

    *on_read* is awaited after each complete read with the number of new reports; *progress* names who is told before.
    """
    progress = progress or Progress()
    progress.health = health
    wake = wake or asyncio.Event()
    while not stop.is_set():
        try:
            async with open_mailbox() as mailbox:
                while not stop.is_set():
                    wake.clear()  # before the read begins: whoever wants one from now on wants another
                    new = await collect(store, box, mailbox, progress)
                    if not health.is_up:
                        _log.info("the mailbox can be read again", mailbox=box.name)
                    health.up()
                    await on_read(new)
                    await _wait(store, mailbox, box, progress, wake)
        except Exception as fault:
            _note_down(store, box, health, fault)
            wake.clear()
            # Whoever wants a read now gets a try; but not where a person must act: wrong passwords lock accounts.
            await pause(stop if health.permanent else wake, timedelta(seconds=min(2**health.failures, 60)))


def _note_down(store: Store, box: MailboxSettings, health: Health, fault: Exception) -> None:
    """The mailbox can't be read, or what it holds not be stored: that ends nothing, and the monitor tells."""
    is_foreseen = isinstance(fault, ReceiptdError)
    reason = str(fault) if is_foreseen else f"{type(fault).__name__}: {fault}".splitlines()[0]
    if is_down(fault):
        is_foreseen, reason = True, f"the database does not take what it holds: {reason_of(fault)}"
    if health.is_up:
        _log.warning("the mailbox can't be read", mailbox=box.name, reason=reason, exc_info=not is_foreseen)
    health.down(store.now(), reason, permanent=isinstance(fault, ReceiptdError) and fault.permanent)


async def _wait(store: Store, mailbox: Mailbox, box: MailboxSettings, progress: Progress, wake: asyncio.Event) -> None:
    """Wait for news or *wake*, at most `poll`; IDLE watches the folder that is open, polling finds all else."""
    inbox = await mailbox.resolve("INBOX")
    if not box.idle or inbox is None:
        await pause(wake, box.poll)
    elif not await _came_meanwhile(store, mailbox, box, inbox, progress):
        await mailbox.wait_for_news(box.poll.total_seconds(), wake)


async def _came_meanwhile(store: Store, mailbox: Mailbox, box: MailboxSettings, inbox: str, progress: Progress) -> bool:
    """Have INBOX open and say whether it holds more than was found: what came before it is open, IDLE never tells.

    A server that gives a new UIDVALIDITY at each opening has no news by that alone: it would be read without end.
    """
    opened = None if mailbox.folder == inbox else await mailbox.open(inbox, unchanged=_is_unchanged(store, box))
    if progress.inbox is None:
        return False
    uidvalidity, behind, since = progress.inbox
    if opened is not None and opened.uidvalidity != uidvalidity:
        return False
    return bool(await mailbox.search_from(behind, since))
