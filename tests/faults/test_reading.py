"""Whatever the mailbox does, no report is lost or counted twice, and what can't be read is told as that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
from sqlmodel import func, select

from receiptd.collect import Progress, watch
from receiptd.facts import Delivery, Receipt, Report
from receiptd.interpret import interpret
from receiptd.mailbox import Mailbox, MailboxDown, MessageWithheld, open_mailbox
from receiptd.models import EventRow, ReportRow
from receiptd.settings import MailboxSettings, read_secret
from receiptd.store import reports
from tests.fake_imap import FakeImap, Message, hang_up, say_nothing
from tests.faults.workshop import Workshop, workshop

POISON = b"(poison)"


class Killed(BaseException):
    """The process is gone: nothing after this is done."""


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    async with workshop() as shop:
        yield shop


@asynccontextmanager
async def _watching(shop: Workshop, *, patience: float = 10) -> AsyncIterator[None]:
    """Let the mailbox be watched as the daemon does."""
    stop = asyncio.Event()
    (box,) = shop.store.settings.mailbox
    assert box.password_file is not None
    password_file = box.password_file

    def enter() -> AbstractAsyncContextManager[Mailbox]:
        return open_mailbox(box, password=read_secret(password_file), time_limit=patience)

    async def on_read(_: int) -> None:
        return

    task = asyncio.create_task(
        watch(
            shop.store,
            box,
            shop.box_health,
            enter,
            stop=stop,
            on_read=on_read,
        )
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _await_health(shop: Workshop, *, is_up: bool) -> None:
    async with asyncio.timeout(60):
        while shop.box_health.is_up is not is_up:
            await asyncio.sleep(0.02)


async def _letters(shop: Workshop, *addresses: str) -> list[str]:
    """Send a letter to each, and let the reports come."""
    keys = [await shop.send(address) for address in addresses]
    await shop.submit()
    for address in addresses:
        shop.report(address)
    return keys


async def _counts(shop: Workshop) -> tuple[int, int]:
    """Return how many reports are kept, and how often facts were told by them."""
    async with shop.store.read() as session:
        kept = (await session.exec(select(func.count()).select_from(ReportRow))).one()
        told = (await session.exec(select(func.sum(EventRow.count)).where(EventRow.kind == "delivered"))).one()
    return kept, told or 0


def _renumber(imap: FakeImap, first: int, uidvalidity: int) -> None:
    """Give all messages other UIDs, from *first* on, as a server does that lost its index."""
    imap.messages = dict(enumerate(imap.messages.values(), first))
    imap.on(
        "EXAMINE",
        f"* {len(imap.messages)} EXISTS\r\n* OK [UIDVALIDITY {uidvalidity}] anew\r\n"
        f"* OK [UIDNEXT {first + len(imap.messages)}] next\r\nTAG OK [READ-WRITE] done\r\n",
    )


async def test_a_mailbox_without_inbox_is_blind_and_no_deadline_is_judged(shop: Workshop) -> None:
    shop.imap.on("SELECT|EXAMINE", "TAG NO no such mailbox\r\n")
    bob = await shop.send("bob@b.test")
    await shop.submit()
    async with _watching(shop):
        await _await_health(shop, is_up=False)
        shop.clock.turn(minutes=2)
        await shop.escalate()
        await shop.monitor()
        await shop.deliver()
        (blind,) = await shop.alerts()
        assert (blind.type, blind.data["what"], blind.data["held"]) == ("monitor.blind", "mailbox", 1)
        assert "INBOX" in blind.data["reason"]
        shop.imap._told.clear()
        await _await_health(shop, is_up=True)
    await shop.escalate()
    await shop.monitor()
    assert (await shop.recipient(bob)).receipt is Receipt.OVERDUE
    assert sorted(alert.type for alert in await shop.alerts()) == ["monitor.blind", "monitor.clear", "receipt.overdue"]


async def test_a_mailbox_that_lists_no_inbox_is_told_at_once_though_no_deadline_waits(shop: Workshop) -> None:
    shop.imap.listed = '* LIST () "/" Archive\r\n'
    shop.imap.on("SELECT|EXAMINE", "TAG NO [NONEXISTENT] Mailbox doesn't exist: INBOX\r\n")
    async with _watching(shop):
        await _await_health(shop, is_up=False)
        await shop.monitor()
    (blind,) = await shop.alerts()
    assert (blind.type, blind.data["what"]) == ("monitor.blind", "mailbox")
    assert "has no folder 'INBOX'" in blind.data["reason"]


async def test_a_password_file_that_is_gone_for_a_while_makes_the_mailbox_blind_and_ends_nothing(
    shop: Workshop,
) -> None:
    (box,) = shop.store.settings.mailbox
    assert box.password_file is not None
    box.password_file.unlink()
    async with _watching(shop):
        await _await_health(shop, is_up=False)
        await shop.monitor()
        (blind,) = await shop.alerts()
        assert "password" in blind.data["reason"]
        box.password_file.write_text("sesame")
        await _await_health(shop, is_up=True)


def _name_folders(shop: Workshop, *names: str) -> None:
    """Let the settings name these folders, or none."""
    settings = shop.store.settings
    values = settings.mailbox[0].model_dump(exclude={"folders"})
    box = MailboxSettings.model_validate(values | ({"folders": names} if names else {}))
    shop.store.settings = settings.model_copy(update={"mailbox": (box,)})


async def test_a_missing_folder_that_the_settings_name_holds_every_deadline(shop: Workshop) -> None:
    _name_folders(shop, "INBOX", "Inboxx")
    bob = await shop.send("bob@b.test")
    await shop.submit()
    shop.clock.turn(minutes=2)
    async with _watching(shop):
        await _await_health(shop, is_up=False)
    assert await shop.escalate() == 0
    await shop.monitor()
    assert (await shop.recipient(bob)).receipt is Receipt.OPEN
    (blind,) = await shop.alerts()
    assert (blind.type, blind.data["held"]) == ("monitor.blind", 1)


async def test_a_missing_junk_that_nobody_named_holds_no_deadline_up(shop: Workshop) -> None:
    _name_folders(shop)
    bob = await shop.send("bob@b.test")
    await shop.submit()
    shop.clock.turn(minutes=2)
    await shop.collect()
    await shop.escalate()
    await shop.monitor()
    assert (await shop.recipient(bob)).receipt is Receipt.OVERDUE
    assert [alert.type for alert in await shop.alerts()] == ["receipt.overdue"]


async def test_a_mailbox_that_hangs_is_blind_and_not_stuck(shop: Workshop) -> None:
    (bob,) = await _letters(shop, "bob@b.test")
    shop.imap.on("UID SEARCH", say_nothing)
    async with _watching(shop, patience=0.3):
        await _await_health(shop, is_up=False)
        shop.clock.turn(minutes=2)
        await shop.escalate()
        await shop.monitor()
        assert [alert.type for alert in await shop.alerts()] == ["monitor.blind"]
        shop.imap._told.clear()
        await _await_health(shop, is_up=True)
    await shop.escalate()
    assert (await shop.recipient(bob)).receipt is Receipt.OPEN, "what came is not settled yet"
    await shop.settle()
    assert (await shop.recipient(bob)).receipt is Receipt.MET, "it came in time, whenever it was read"


async def test_after_new_uids_nothing_is_counted_twice_and_nothing_missed(shop: Workshop) -> None:
    await _letters(shop, "alice@b.test", "bob@b.test")
    assert await shop.collect() == 2
    await shop.settle()
    (carol,) = await _letters(shop, "carol@b.test")
    _renumber(shop.imap, first=1, uidvalidity=8)
    assert await shop.collect() == 1, "only carol's, though a UID below the old cursor may be hers"
    await shop.settle()
    assert (await shop.recipient(carol)).receipt is Receipt.MET
    assert await _counts(shop) == (3, 3)

    (dave,) = await _letters(shop, "dave@b.test")
    _renumber(shop.imap, first=100, uidvalidity=9)
    assert await shop.collect() == 1
    await shop.settle()
    assert (await shop.recipient(dave)).receipt is Receipt.MET
    assert await _counts(shop) == (4, 4)


async def test_a_connection_lost_while_fetching_loses_no_report(shop: Workshop) -> None:
    keys = await _letters(shop, "alice@b.test", "bob@b.test")
    shop.imap.on(r"UID FETCH \S+ \(UID BODY", hang_up)
    with pytest.raises(MailboxDown):
        await shop.collect()
    assert await _counts(shop) == (0, 0)
    shop.imap._told.clear()
    await shop.collect()
    await shop.settle()
    assert [(await shop.recipient(key)).receipt for key in keys] == [Receipt.MET, Receipt.MET]


async def test_a_process_that_dies_between_fetching_and_settling_loses_no_report(shop: Workshop) -> None:
    (bob,) = await _letters(shop, "bob@b.test")
    await shop.collect()
    shop.imap.messages.clear()
    await shop.restart()
    await shop.settle()
    row = await shop.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)


async def test_a_process_that_dies_while_settling_settles_once_and_holds_the_deadline(shop: Workshop) -> None:
    (bob,) = await _letters(shop, "bob@b.test")
    shop.clock.turn(seconds=50)
    await shop.collect()
    await reports.begin_reading(shop.store, 50)
    await shop.restart()
    shop.clock.turn(seconds=20)
    await shop.collect()
    await shop.settle()
    await shop.escalate()
    assert (await shop.recipient(bob)).receipt is Receipt.OPEN
    assert not await shop.alerts()
    shop.clock.turn(seconds=20)
    await shop.settle()
    assert (await shop.recipient(bob)).receipt is Receipt.MET
    assert await _counts(shop) == (1, 1)


async def test_a_report_that_kills_its_reader_is_set_aside_after_three_tries_and_no_other_with_it(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poison is read together with the others at first, and every reader of it dies."""
    keys = await _letters(shop, "alice@b.test", "bob@b.test", "carol@b.test")
    shop.imap.messages[2].content += POISON

    def read(raw: bytes) -> Report:
        if raw.endswith(POISON):
            raise Killed
        return interpret(raw)

    monkeypatch.setattr("receiptd.settle.interpret", read)
    await shop.collect()
    deaths = 0
    for _ in range(12):
        try:
            while await shop.settle():
                pass
        except Killed:
            deaths += 1
            await shop.restart()
        shop.clock.turn(minutes=1)
    assert deaths == 3
    assert [(await shop.recipient(key)).receipt for key in keys] == [Receipt.MET, Receipt.OPEN, Receipt.MET]
    (alert,) = await shop.alerts()
    assert alert.type == "monitor.set_aside"
    assert "begun 3 times" in alert.data["reason"]


async def test_a_message_that_the_server_has_and_does_not_hand_over_is_set_aside(shop: Workshop) -> None:
    shop.imap.messages[1] = Message(b"", stated_size=900)
    (bob,) = await _letters(shop, "bob@b.test")
    progress = Progress()
    with pytest.raises(MessageWithheld):
        await shop.collect(progress)
    await shop.settle()
    assert (await shop.recipient(bob)).receipt is Receipt.MET, "it holds up no other"
    for _ in range(3):
        with pytest.raises(MessageWithheld):
            await shop.collect(progress)
    await shop.collect(progress)
    await shop.settle()
    assert [alert.type for alert in await shop.alerts()] == ["monitor.set_aside"]
