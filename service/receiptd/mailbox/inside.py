"""A mailbox we are logged in to: folders, searching, fetching, tidying up, waiting for news."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import date
from itertools import islice
from typing import TypeVar

import structlog
from aioimaplib.aioimaplib import AUTH, SELECTED

from receiptd.mailbox import answers, names
from receiptd.mailbox.faults import FolderMissing, MailboxDown, MailboxRefused, printable
from receiptd.mailbox.question import Answer
from receiptd.mailbox.values import Fetched, FolderInfo, Selected, Summary
from receiptd.mailbox.wire import Wire

UIDS_AT_ONCE = 50
"""More in one FETCH, STORE or MOVE, and aioimaplib's time grows with their square."""
BYTES_AT_ONCE = 8 << 20
BEGINNING = 2 << 20
"""What is fetched of a message beyond max_report; nothing behind it is ever interpreted."""
HEADER = 128 << 10
"""What is fetched of a header: fifty of them stay within BYTES_AT_ONCE."""
LONGEST_IDLE = 300.0
"""Seconds. Middleboxes forget a silent connection soon after; the renewal notices a dead one."""
LAST_UID = (1 << 32) - 1

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Mailbox:
    """A mailbox, used by one task at a time; every call may raise MailboxDown, after which it is of no more use."""

    def __init__(self, wire: Wire, capabilities: frozenset[str], *, may_idle: bool) -> None:
        self.capabilities = capabilities
        self._wire = wire
        self._folder = ""
        self._has_idle = may_idle and "IDLE" in capabilities

    # Folders.

    async def folders(self) -> tuple[FolderInfo, ...]:
        """Return every folder that can be selected."""
        return tuple(folder for folder, _ in await self._listed())

    async def resolve(self, name: str) -> str | None:
        """Return what the server calls the folder *name*, or None if it has none.

        INBOX in any case; Junk by its use (RFC 6154) where no folder has that name; a folder that the server
        keeps below INBOX.
        """
        listed = await self._listed()
        known = {folder.name for folder, _ in listed}
        wanted = "INBOX" if names.is_inbox(name) else name
        if wanted in known or wanted == "INBOX":
            return wanted
        if name.casefold() == "junk":
            for folder, _ in listed:
                if folder.special_use == r"\junk":
                    return folder.name
        return next((below for _, by in listed if by and (below := f"INBOX{by}{name}") in known), None)

    async def select(self, name: str) -> Selected:
        """Open the folder *name*, as `resolve` returns it; raise FolderMissing if there is none."""
        return await self._opened("SELECT", name)

    async def examine(self, name: str) -> Selected:
        """Open the folder *name* as `select` does, for reading alone: nothing in it loses even its \\Recent."""
        return await self._opened("EXAMINE", name)

    async def _opened(self, verb: str, name: str) -> Selected:
        self._wire.forget_counts()
        answer = await self._wire.ask(verb, _quoted(name))
        if not answer.is_ok:
            self._wire.state = AUTH
            await self._explain_no_folder(name, answer)
        self._wire.state, self._wire.has_news, self._folder = SELECTED, False, name
        validity, following, exists, is_read_only = answers.selected(answer.responses, answer.text)
        if not validity:
            raise MailboxDown(
                f"The mailbox server {self._wire.server} gives {name} no UIDVALIDITY: "
                "it can't be known which messages are new.",
                permanent=True,
            )
        if following is None:
            following = max(await self.search_from(1), default=0) + 1
        return Selected(validity, following, exists, is_read_only)

    async def _explain_no_folder(self, name: str, answer: Answer) -> None:
        if name not in {folder.name for folder in await self.folders()}:
            raise FolderMissing(f"The mailbox has no folder {name!r}: make it, or correct folders in [[mailbox]].")
        raise MailboxDown(f"The mailbox server {self._wire.server} won't open {name}: {printable(answer.text)}.")

    async def _listed(self) -> tuple[tuple[FolderInfo, str], ...]:
        returned = ("RETURN (SPECIAL-USE)",) if self.capabilities >= {"SPECIAL-USE", "LIST-EXTENDED"} else ()
        return self._understand(answers.folders, await self._read("LIST", '""', '"*"', *returned))

    # Reading.

    async def search_from(self, uid: int, since: date | None = None) -> list[int]:
        """Return the UIDs from *uid* on, in order; with *since*, only of what came on that day or later."""
        if uid > LAST_UID:
            return []
        # Dovecot searches what it has already announced; a NOOP makes it look first (RFC 9051 §6.1.2).
        await self._read("NOOP")
        self._wire.has_news = False
        # `n:*` means `*:n` where n is beyond the end: the last message, however old (RFC 9051 §9, seq-range).
        criteria = [f"UID {max(uid, 1)}:*", *(["SINCE", _imap_date(since)] if since else [])]
        found = answers.found_uids((await self._read("SEARCH", *criteria, by_uid=True)).responses)
        return sorted(one for one in found if one >= uid)

    async def summaries(self, uids: Iterable[int]) -> list[Summary]:
        """Return size, date and flags of *uids*; those that are gone are left out."""
        found = []
        for batch in _batches(uids):
            answer = await self._read("FETCH", _set(batch), "(UID FLAGS INTERNALDATE RFC822.SIZE)", by_uid=True)
            items = self._understand(answers.fetched, answer)
            told = (answers.summary(uid, items[uid]) for uid in batch if uid in items)
            found += [summary for summary in told if summary is not None]
        return found

    async def fetch(self, uids: Iterable[int], *, max_report: int) -> AsyncIterator[Fetched]:
        """Yield the messages *uids* without marking them seen, in order; those that are gone are left out.

        Of a message longer than *max_report* bytes come the first 2 MiB, header included, `truncated`.
        """
        for batch in _batches(uids):
            for group in _groups(await self.summaries(batch), max_report):
                section, most = "BODY.PEEK[]", None
                if group[0].size > max_report:
                    section, most = f"BODY.PEEK[]<0.{BEGINNING}>", BEGINNING
                async for fetched in self._contents(group, section, most):
                    yield fetched

    async def fetch_headers(self, uids: Iterable[int]) -> AsyncIterator[Fetched]:
        """Yield the headers of *uids*, in order; `truncated` where a header is longer than 128 KiB."""
        for batch in _batches(uids):
            async for fetched in self._contents(await self.summaries(batch), f"BODY.PEEK[HEADER]<0.{HEADER}>", HEADER):
                yield fetched

    async def _contents(self, group: list[Summary], section: str, most: int | None) -> AsyncIterator[Fetched]:
        contents = await self._bodies(group, section, most)
        missing = [one for one in group if one.uid not in contents]
        if missing:
            contents |= await self._hard_to_get(missing, section, most)
        for one in group:
            if (raw := contents.get(one.uid)) is not None:
                is_cut = (most is not None and len(raw) >= most) or (not raw and one.size > 0)
                yield Fetched(one.uid, one.internaldate, one.size, raw, truncated=is_cut)

    async def _bodies(self, group: list[Summary], section: str, most: int | None) -> dict[int, bytes]:
        """Return the contents by UID; any may be left out, also for a NO to one of them."""
        expected = sum(min(one.size, most or one.size) for one in group)
        answer = await self._wire.ask(
            "FETCH", _set(one.uid for one in group), f"(UID {section})", by_uid=True, expected=expected
        )
        if not answer.is_ok and answers.is_temporary(answer.text):
            raise self._blind("FETCH", answer)
        bodies = {uid: answers.body(items) for uid, items in self._understand(answers.fetched, answer).items()}
        return {uid: raw for uid, raw in bodies.items() if raw is not None}

    async def _hard_to_get(self, missing: list[Summary], section: str, most: int | None) -> dict[int, bytes]:
        """Return the contents of messages that a FETCH left out; nothing of those that are gone.

        One that is there and can't be had is empty: it must be seen, and may not stop the ones behind it.
        """
        asked = f"UID {_set(one.uid for one in missing)}"
        there = answers.found_uids((await self._read("SEARCH", asked, by_uid=True)).responses)
        contents = {}
        for one in missing:
            if one.uid in there:
                contents[one.uid] = (await self._bodies([one], section, most)).get(one.uid, b"")
        return contents

    async def _read(self, name: str, *args: str, by_uid: bool = False) -> Answer:
        """Ask; a NO to a question that only reads means that we can't see."""
        answer = await self._wire.ask(name, *args, by_uid=by_uid)
        if not answer.is_ok:
            raise self._blind(name, answer)
        return answer

    def _blind(self, name: str, answer: Answer) -> MailboxDown:
        self._wire.drop(f"it refuses {name}: {printable(answer.text)}")
        return self._wire.down()

    def _understand(self, read: Callable[[Iterable[answers.Pieces]], T], answer: Answer) -> T:
        try:
            return read(answer.responses)
        except ValueError as odd:
            self._wire.drop(f"it sent what is no IMAP: {odd}")
            raise self._wire.down() from odd

    # Tidying up.

    async def mark_seen(self, uids: Iterable[int]) -> None:
        """Mark *uids* as read."""
        for batch in _batches(uids):
            await self._change("STORE", _set(batch), r"+FLAGS.SILENT (\Seen)")

    async def delete(self, uids: Iterable[int]) -> None:
        """Remove *uids*, or leave them marked as deleted where the server can't remove these alone."""
        for batch in _batches(uids):
            await self._remove(batch)

    async def move(self, uids: Iterable[int], folder: str) -> None:
        """Move *uids* to *folder*, which is made if need be."""
        for batch in _batches(uids):
            if "MOVE" in self.capabilities:
                await self._carry("MOVE", batch, folder)
            else:
                await self._carry("COPY", batch, folder)
                await self._remove(batch)

    async def _carry(self, how: str, batch: list[int], folder: str) -> None:
        answer = await self._wire.ask(how, _set(batch), _quoted(folder), by_uid=True)
        if not answer.is_ok and answers.code(answer.text) == "TRYCREATE":
            target = await self.resolve(folder)
            if target is None:
                target = folder
                await self._change("CREATE", _quoted(folder), by_uid=False)
            answer = await self._wire.ask(how, _set(batch), _quoted(target), by_uid=True)
        if not answer.is_ok:
            raise self._refused(how, answer)

    async def _remove(self, batch: list[int]) -> None:
        """Delete *batch* and nothing else: a plain EXPUNGE would take with it what other people marked."""
        await self._change("STORE", _set(batch), r"+FLAGS.SILENT (\Deleted)")
        if "UIDPLUS" in self.capabilities:
            await self._change("EXPUNGE", _set(batch))
        else:
            _log.warning(
                "mailbox.left_deleted",
                server=self._wire.server,
                folder=self._folder,
                count=len(batch),
                reason="the server has no UIDPLUS: they stay, marked as deleted, until somebody expunges them",
            )

    async def _change(self, name: str, *args: str, by_uid: bool = True) -> None:
        answer = await self._wire.ask(name, *args, by_uid=by_uid)
        if not answer.is_ok:
            raise self._refused(name, answer)

    def _refused(self, name: str, answer: Answer) -> MailboxRefused:
        return MailboxRefused(
            f"The mailbox server {self._wire.server} refuses {name} in {self._folder}: {printable(answer.text)}; "
            "check the user's rights there, the quota and after in [[mailbox]]."
        )

    # Waiting.

    async def wait_for_news(self, seconds: float) -> bool:
        """Wait until more messages are announced in the selected folder (True), at most *seconds* (False).

        Only a hint: whoever waits must search afterwards in either case. Without IDLE it is a wait that
        ends early only when the connection is lost.
        """
        clock = self._wire.loop.time
        end = clock() + seconds
        while not self._wire.has_news and (left := end - clock()) > 0:
            if self._has_idle:
                self._has_idle = await self._wire.idle(min(left, LONGEST_IDLE))
            else:
                await self._wire.rest(left)
        news, self._wire.has_news = bool(self._wire.has_news), False
        return news


def _imap_date(day: date) -> str:
    """Return *day* as RFC 9051 writes it, in English whatever the locale."""
    return f"{day.day}-{answers.MONTHS[day.month - 1].title()}-{day.year}"


def _quoted(folder: str) -> str:
    return names.quote(names.encode(folder))


def _set(uids: Iterable[int]) -> str:
    return ",".join(map(str, uids))


def _batches(uids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(sorted(set(uids)))
    while batch := list(islice(rest, UIDS_AT_ONCE)):
        yield batch


def _groups(summaries: Iterable[Summary], max_report: int) -> Iterator[list[Summary]]:
    """Put together what one FETCH may bring: at most 8 MiB, and a message beyond *max_report* for itself."""
    group: list[Summary] = []
    room = BYTES_AT_ONCE
    for one in summaries:
        if group and (one.size > room or one.size > max_report or group[0].size > max_report):
            yield group
            group, room = [], BYTES_AT_ONCE
        group.append(one)
        room -= one.size
    if group:
        yield group
