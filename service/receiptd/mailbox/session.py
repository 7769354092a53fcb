"""A mailbox session after login: folders, search, fetch, delete and move, waiting for news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import date
from typing import TypeVar

import structlog
from aioimaplib.aioimaplib import AUTH, SELECTED

from receiptd.mailbox import portions, response_parser, utf7
from receiptd.mailbox.command import Response
from receiptd.mailbox.connection import Connection
from receiptd.mailbox.faults import (
    FolderClosed,
    FolderMissing,
    MailboxDown,
    MailboxRefused,
    MessageWithheld,
    printable,
)
from receiptd.mailbox.values import Fetched, FolderInfo, Look, Selected, Summary

BEGINNING = 2 << 20
"""Bytes fetched of a message larger than max_report; nothing after them is ever interpreted."""
HEADER = 128 << 10
"""Bytes fetched of a header: fifty of them stay within what one FETCH may return."""
LONGEST_IDLE = 300.0
"""Seconds. Middleboxes drop an idle connection soon after; the renewal notices a dead one."""
LAST_UID = (1 << 32) - 1

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Mailbox:
    """A mailbox, used by one task at a time; every call may raise MailboxDown, after which it can't be used."""

    def __init__(self, connection: Connection, capabilities: frozenset[str], *, may_idle: bool) -> None:
        self.capabilities = capabilities
        self._connection = connection
        self.folder: str | None = None
        """What the server calls the folder that is open."""
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
        wanted = "INBOX" if utf7.is_inbox(name) else name
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
        """Open the folder *name* as `select` does, read-only: its messages keep even their \\Recent."""
        return await self._opened("EXAMINE", name)

    async def open(self, name: str, *, unchanged: bool) -> Selected:
        """Open the folder *name*: with SELECT, unless it is to be left *unchanged* or the server won't.

        SELECT makes the server write down the UIDs that it gives: Courier forgets those that only EXAMINE saw.
        EXAMINE leaves \\Recent to people's own programs.
        """
        if unchanged:
            return await self.examine(name)
        try:
            return await self.select(name)
        except FolderClosed:
            return await self.examine(name)

    async def _opened(self, verb: str, name: str) -> Selected:
        self._connection.forget_counts()
        response = await self._connection.ask(verb, utf7.quoted(name))
        if not response.is_ok:
            self._connection.state, self.folder = AUTH, None
            await self._explain_no_folder(name, response)
        self._connection.state, self._connection.has_news, self.folder = SELECTED, False, name
        validity, following, exists, is_read_only = response_parser.selected(response.untagged, response.text)
        if not validity:
            raise MailboxDown(
                f"The mailbox server {self._connection.server} gives {name} no UIDVALIDITY: "
                "it can't be known which messages are new.",
                permanent=True,
            )
        return Selected(validity, following, exists, is_read_only)

    async def _explain_no_folder(self, name: str, response: Response) -> None:
        if name not in {folder.name for folder in await self.folders()}:
            raise FolderMissing(f"The mailbox has no folder {name!r}: make it, or correct folders in [[mailbox]].")
        raise FolderClosed(
            f"The mailbox server {self._connection.server} won't open {name}: {printable(response.text)}. "
            "Check the user's rights to it, or leave it out of folders in [[mailbox]]."
        )

    async def _listed(self) -> tuple[tuple[FolderInfo, str], ...]:
        returned = ("RETURN (SPECIAL-USE)",) if self.capabilities >= {"SPECIAL-USE", "LIST-EXTENDED"} else ()
        return self._understand(response_parser.folders, await self._read("LIST", '""', '"*"', *returned))

    # Reading.

    async def search_from(self, uid: int, since: date | None = None) -> list[int]:
        """Return the UIDs from *uid* on, in order; with *since*, only of what came on that day or later."""
        if uid > LAST_UID:
            return []
        # Dovecot searches what it has already announced; a NOOP makes it look first (RFC 9051 §6.1.2).
        await self._read("NOOP")
        self._connection.has_news = False
        # Not `n:*`: that means `*:n` where n is beyond the end (RFC 9051 §9, seq-range), and GNU imap4d finds nothing.
        criteria = [f"UID {max(uid, 1)}:{LAST_UID}", *(["SINCE", portions.imap_date(since)] if since else [])]
        found = response_parser.found_uids((await self._read("SEARCH", *criteria, by_uid=True)).untagged)
        if not found and uid <= 1 and since is None and self._connection.exists:
            raise MailboxDown(
                f"The mailbox server {self._connection.server} says that {self.folder} has messages "
                f"({self._connection.exists}) and finds none of them: its search can't be relied on."
            )
        return sorted(one for one in found if one >= uid)

    async def look(self, uids: Iterable[int]) -> Look:
        """Return what the server says about *uids*; those that a second SEARCH doesn't list are gone and left out."""
        there, withheld = list[Summary](), set[int]()
        for batch in portions.batches(uids):
            told = await self.told(batch)
            for uid in await self._still_listed(uid for uid in batch if uid not in told):
                told |= await self.told([uid])
                withheld |= set() if uid in told else {uid}
            there += [told[uid] for uid in batch if uid in told]
        return Look(tuple(there), frozenset(withheld))

    async def summaries(self, uids: Iterable[int]) -> list[Summary]:
        """Return size, date and flags of *uids*; those that are gone are left out.

        Raises MessageWithheld where the server lists one and returns nothing for it.
        """
        look = await self.look(uids)
        if look.withheld:
            raise self.withheld(look.withheld)
        return list(look.there)

    def withheld(self, uids: Iterable[int]) -> MessageWithheld:
        """Return the error that says which messages the server lists and doesn't return."""
        return MessageWithheld(
            f"The mailbox server {self._connection.server} lists messages in {self.folder} and doesn't hand them over "
            f"(UID {portions.uid_set(sorted(uids)[:10])}): look at them with another program, and move them "
            "out of the folder."
        )

    async def told(self, uids: Iterable[int]) -> dict[int, Summary]:
        """Return what one FETCH says about at most 50 *uids*; it proves nothing about those it leaves out."""
        response = await self._read(
            "FETCH", portions.uid_set(uids), "(UID FLAGS INTERNALDATE RFC822.SIZE)", by_uid=True
        )
        items = self._understand(response_parser.fetched, response)
        told = {uid: response_parser.summary(uid, items[uid]) for uid in items}
        return {uid: summary for uid, summary in told.items() if summary is not None}

    async def _still_listed(self, uids: Iterable[int]) -> list[int]:
        """Return which of *uids* a SEARCH lists: a FETCH that leaves a message out doesn't say that it is gone."""
        asked = sorted(uids)
        if not asked:
            return []
        listed = response_parser.found_uids(
            (await self._read("SEARCH", f"UID {portions.uid_set(asked)}", by_uid=True)).untagged
        )
        return [uid for uid in asked if uid in listed]

    async def fetch(self, uids: Iterable[int], *, max_report: int) -> AsyncIterator[Fetched]:
        """Yield the messages *uids* without marking them seen, in order; those that are gone are left out.

        Of a message longer than *max_report* bytes come the first 2 MiB, header included, `truncated`.
        """
        for batch in portions.batches(uids):
            for group in portions.groups(await self.summaries(batch), max_report):
                section, most = "BODY.PEEK[]", None
                if group[0].size > max_report:
                    section, most = f"BODY.PEEK[]<0.{BEGINNING}>", BEGINNING
                async for fetched in self._contents(group, section, most):
                    yield fetched

    async def fetch_headers(self, uids: Iterable[int]) -> AsyncIterator[Fetched]:
        """Yield the headers of *uids*, in order; `truncated` where a header is longer than 128 KiB."""
        for batch in portions.batches(uids):
            async for fetched in self._contents(await self.summaries(batch), f"BODY.PEEK[HEADER]<0.{HEADER}>", HEADER):
                yield fetched

    async def _contents(self, group: list[Summary], section: str, most: int | None) -> AsyncIterator[Fetched]:
        contents = await self._bodies(group, section, most)
        missing = [one for one in group if one.uid not in contents]
        if missing:
            contents |= await self._one_by_one(missing, section, most)
        for one in group:
            if (raw := contents.get(one.uid)) is not None:
                is_cut = (most is not None and len(raw) >= most) or (not raw and one.size > 0)
                yield Fetched(one.uid, one.internaldate, one.size, raw, truncated=is_cut)

    async def _bodies(self, group: list[Summary], section: str, most: int | None) -> dict[int, bytes]:
        """Return the contents by UID; any may be left out, also for a NO to one of them."""
        expected = sum(min(one.size, most or one.size) for one in group)
        response = await self._connection.ask(
            "FETCH", portions.uid_set(one.uid for one in group), f"(UID {section})", by_uid=True, expected=expected
        )
        if not response.is_ok and response_parser.is_temporary(response.text):
            raise self._blind("FETCH", response)
        bodies = {
            uid: response_parser.body(items)
            for uid, items in self._understand(response_parser.fetched, response).items()
        }
        return {uid: raw for uid, raw in bodies.items() if raw is not None}

    async def _one_by_one(self, missing: list[Summary], section: str, most: int | None) -> dict[int, bytes]:
        """Return the contents of messages that a FETCH left out; nothing of those that are gone.

        One that exists and can't be fetched is empty: it must be noticed, and may not stop the ones after it.
        """
        there = await self._still_listed(one.uid for one in missing)
        contents = {}
        for one in missing:
            if one.uid in there:
                contents[one.uid] = (await self._bodies([one], section, most)).get(one.uid, b"")
        return contents

    async def _read(self, name: str, *args: str, by_uid: bool = False) -> Response:
        """Send a command that only reads: a NO to it means that the mailbox can't be read."""
        response = await self._connection.ask(name, *args, by_uid=by_uid)
        if not response.is_ok:
            raise self._blind(name, response)
        return response

    def _blind(self, name: str, response: Response) -> MailboxDown:
        self._connection.drop(f"it refuses {name}: {printable(response.text)}")
        return self._connection.down()

    def _understand(self, read: Callable[[Iterable[response_parser.Pieces]], T], response: Response) -> T:
        try:
            return read(response.untagged)
        except ValueError as odd:
            self._connection.drop(f"it sent what isn't valid IMAP: {odd}")
            raise self._connection.down() from odd

    # Changing.

    async def mark_seen(self, uids: Iterable[int]) -> None:
        """Mark *uids* as read."""
        for batch in portions.batches(uids):
            await self._change("STORE", portions.uid_set(batch), r"+FLAGS.SILENT (\Seen)")

    async def delete(self, uids: Iterable[int]) -> None:
        """Remove *uids*, or leave them marked as deleted where the server can't remove these alone."""
        for batch in portions.batches(uids):
            await self._remove(batch)

    async def move(self, uids: Iterable[int], folder: str) -> None:
        """Move *uids* to *folder*, which is made if need be."""
        target, refusal = await self._target(folder)
        for batch in portions.batches(uids):
            how = "MOVE" if "MOVE" in self.capabilities else "COPY"
            response = await self._connection.ask(how, portions.uid_set(batch), utf7.quoted(target), by_uid=True)
            if not response.is_ok:
                raise refusal or self._refused(how, response)
            if how == "COPY":
                await self._remove(batch)

    async def _target(self, folder: str) -> tuple[str, MailboxRefused | None]:
        """Return what the server calls the folder to move to, made if need be, and why it couldn't be made."""
        if (known := await self.resolve(folder)) is not None:
            return known, None
        target = await self.new_name(folder)
        response = await self._connection.ask("CREATE", utf7.quoted(target))
        if response.is_ok or response_parser.code(response.text) == "ALREADYEXISTS":
            return target, None
        return target, MailboxRefused(
            f"The mailbox server {self._connection.server} won't create the folder {target} "
            f"({printable(response.text)}): create it yourself, or name one that is there in after of [[mailbox]]."
        )

    async def new_name(self, folder: str) -> str:
        """Return what a folder *folder* that isn't there yet is to be called: some servers keep all below INBOX."""
        if "NAMESPACE" not in self.capabilities or utf7.is_inbox(folder):
            return folder
        prefix = self._understand(response_parser.personal_prefix, await self._read("NAMESPACE"))
        return folder if folder.startswith(prefix) else prefix + folder

    async def _remove(self, batch: list[int]) -> None:
        """Delete *batch* and nothing else: a plain EXPUNGE would take with it what other people marked."""
        await self._change("STORE", portions.uid_set(batch), r"+FLAGS.SILENT (\Deleted)")
        if "UIDPLUS" in self.capabilities:
            await self._change("EXPUNGE", portions.uid_set(batch))
        else:
            _log.warning(
                "mailbox.left_deleted",
                server=self._connection.server,
                folder=self.folder,
                count=len(batch),
                reason="the server has no UIDPLUS: they stay, marked as deleted, until somebody expunges them",
            )

    async def _change(self, name: str, *args: str, by_uid: bool = True) -> None:
        response = await self._connection.ask(name, *args, by_uid=by_uid)
        if not response.is_ok:
            raise self._refused(name, response)

    def _refused(self, name: str, response: Response) -> MailboxRefused:
        return MailboxRefused(
            f"The mailbox server {self._connection.server} refuses {name} in {self.folder}: "
            f"{printable(response.text)}; check the user's rights there, the quota and after in [[mailbox]]."
        )

    # Waiting.

    async def wait_for_news(self, seconds: float, wake: asyncio.Event | None = None) -> bool:
        """Wait until more messages are announced in the selected folder (True), at most *seconds* (False).

        It ends early too when *wake* is set. Only a hint: whoever waits must search afterwards in either case.
        Without IDLE nothing else ends it early, but for the loss of the connection.
        """
        clock = self._connection.loop.time
        end = clock() + seconds
        rousing = asyncio.ensure_future(self._rouse_at(wake or asyncio.Event()))
        try:
            while not self._connection.has_news and (left := end - clock()) > 0:
                if self._has_idle:
                    self._has_idle = await self._connection.idle(min(left, LONGEST_IDLE))
                else:
                    await self._connection.rest(left)
        finally:
            rousing.cancel()
        news, self._connection.has_news = bool(self._connection.has_news), False
        return news

    async def _rouse_at(self, wake: asyncio.Event) -> None:
        await wake.wait()
        self._connection.rouse()
