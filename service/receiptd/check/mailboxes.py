"""Can every mailbox be read, with all its folders, and what can its server do?"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from urllib.parse import unquote

from receiptd import duration
from receiptd.check.account import access_token, password
from receiptd.check.finding import Finding, fail, good, warn
from receiptd.errors import ReceiptdError
from receiptd.mailbox import FolderClosed, FolderMissing, Mailbox, MessageWithheld, open_mailbox
from receiptd.settings import MailboxSettings, Settings

TIMEOUT = 20.0


def open_one(settings: MailboxSettings) -> AbstractAsyncContextManager[Mailbox]:
    """Log in to the mailbox of *settings*; raises BadSettings where its secret can't be read."""
    return open_mailbox(settings, password=password(settings), access_token=access_token(settings), time_limit=TIMEOUT)


async def findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Log in to each mailbox and yield what that shows."""
    for one in settings.mailbox:
        what = "mailbox" if len(settings.mailbox) == 1 else one.name
        try:
            async with open_one(one) as mailbox:
                yield good(what, f"the server lets {unquote(one.user or '')} in")
                for finding in [*_abilities(one, mailbox, what), *await _folders(settings, one, mailbox, what)]:
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


async def _folders(settings: Settings, box: MailboxSettings, mailbox: Mailbox, what: str) -> list[Finding]:
    found, resolved = [], set()
    unchanged = box.after == "keep" and settings.is_shared(box)
    for wanted in box.folders:
        name = await mailbox.resolve(wanted)
        if name is None:
            found.append(_missing(box, what, wanted))
            continue
        resolved.add(name)
        found.append(await _folder(box, mailbox, what, wanted, name, unchanged=unchanged))
    found += await _target(box, mailbox, what, resolved)
    found += [
        warn(what, f"the junk folder {folder.name} is not searched: reports in it go unseen; add it to folders")
        for folder in await mailbox.folders()
        if folder.special_use == r"\junk" and folder.name not in resolved
    ]
    return found


def _missing(box: MailboxSettings, what: str, wanted: str) -> Finding:
    if not box.names_folders:
        return good(what, f"there is no folder {wanted}, so only the others are searched")
    return fail(
        what,
        f"there is no folder {wanted}: correct folders, or make it if the server sorts mail there; until then no "
        "deadline is judged",
    )


async def _folder(
    settings: MailboxSettings, mailbox: Mailbox, what: str, wanted: str, name: str, *, unchanged: bool
) -> Finding:
    try:
        selected = await mailbox.open(name, unchanged=unchanged)
        found = await mailbox.search_from(1)
        await mailbox.summaries(found[-1:])
    except (FolderMissing, FolderClosed, MessageWithheld) as error:
        return fail(what, str(error))
    called = name if name == wanted else f"{wanted} (here {name})"
    if selected.is_read_only and settings.after != "keep":
        return warn(what, f"{called} is read-only: after = {settings.after!r} can't be done there")
    return good(what, f"{called} can be read; it holds {_count(selected.exists)}")


async def _target(box: MailboxSettings, mailbox: Mailbox, what: str, read: set[str]) -> list[Finding]:
    """Say where `after = "move:FOLDER"` takes settled reports; nothing is made before there is one."""
    if not box.after.startswith("move:"):
        return []
    wanted = box.after.removeprefix("move:")
    name = await mailbox.resolve(wanted)
    if name in read:
        return [fail(what, f"after = {box.after!r} moves reports to a folder that is read: name another one")]
    if name is None:
        name = await mailbox.new_name(wanted)
        return [good(what, f"settled reports go to {name}, which is made when there is the first")]
    return [good(what, f"settled reports go to {name}")]


def _count(messages: int) -> str:
    return "one message" if messages == 1 else f"{messages} messages"
