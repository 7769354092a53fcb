"""Can every mailbox be read, with all its folders, and what can its server do?"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from urllib.parse import unquote

from receiptd import duration
from receiptd.check.account import access_token, password
from receiptd.check.finding import Finding, fail, good, warn
from receiptd.errors import ReceiptdError
from receiptd.mailbox import FolderMissing, Mailbox, open_mailbox
from receiptd.settings import MailboxSettings, Settings

PATIENCE = 20.0


def open_one(settings: MailboxSettings) -> AbstractAsyncContextManager[Mailbox]:
    """Log in to the mailbox of *settings*; raises BadSettings where its secret can't be read."""
    return open_mailbox(settings, password=password(settings), access_token=access_token(settings), patience=PATIENCE)


async def findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Log in to each mailbox and yield what that shows."""
    for one in settings.mailbox:
        what = "mailbox" if len(settings.mailbox) == 1 else one.name
        try:
            async with open_one(one) as mailbox:
                yield good(what, f"the server lets {unquote(one.user or '')} in")
                for finding in [*_abilities(one, mailbox, what), *await _folders(one, mailbox, what)]:
                    yield finding
        except ReceiptdError as error:
            yield fail(what, str(error))


def _abilities(settings: MailboxSettings, mailbox: Mailbox, what: str) -> list[Finding]:
    found = []
    if settings.idle and "IDLE" not in mailbox.capabilities:
        found.append(
            good(what, f"the server has no IDLE: reports are found by looking every {duration.show(settings.poll)}")
        )
    moves = settings.after.startswith("move:") and "MOVE" not in mailbox.capabilities
    if (moves or settings.after == "delete") and "UIDPLUS" not in mailbox.capabilities:
        found.append(
            warn(what, f"the server has no UIDPLUS: after = {settings.after!r} leaves reports marked as deleted")
        )
    return found


async def _folders(settings: MailboxSettings, mailbox: Mailbox, what: str) -> list[Finding]:
    found, resolved = [], set()
    for wanted in settings.folders:
        name = await mailbox.resolve(wanted)
        if name is not None:
            resolved.add(name)
        found.append(await _folder(settings, mailbox, what, wanted, name))
    found += [
        warn(what, f"the junk folder {folder.name} is not searched: reports in it go unseen; add it to folders")
        for folder in await mailbox.folders()
        if folder.special_use == r"\junk" and folder.name not in resolved
    ]
    return found


async def _folder(settings: MailboxSettings, mailbox: Mailbox, what: str, wanted: str, name: str | None) -> Finding:
    if name is None:
        return warn(what, f"there is no folder {wanted}: correct folders, or make it if the server sorts mail there")
    try:
        selected = await (mailbox.examine(name) if settings.after == "keep" else mailbox.select(name))
    except FolderMissing as error:
        return fail(what, str(error))
    called = name if name == wanted else f"{wanted} (here {name})"
    if selected.is_read_only and settings.after != "keep":
        return warn(what, f"{called} is read-only: after = {settings.after!r} can't be done there")
    return good(what, f"{called} can be read; it holds {_count(selected.exists)}")


def _count(messages: int) -> str:
    return "one message" if messages == 1 else f"{messages} messages"
