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
from receiptd.store import settlement
from tests.fake_imap import FakeImap, Message, hang_up, say_nothing
from tests.faults.steps_with_peers import StepsWithPeers, steps_with_peers

POISON = b"(poison)"


class Killed(BaseException):
    """The process is gone: nothing after this is done."""


@pytest.fixture
async def steps() -> AsyncIterator[StepsWithPeers]:
    async with steps_with_peers() as steps:
        yield steps


@asynccontextmanager
async def _watching(steps: StepsWithPeers, *, patience: float = 10) -> AsyncIterator[None]:
    """Let the mailbox be watched as the daemon does."""
    stop = asyncio.Event()
    (box,) = steps.store.settings.mailbox
    assert box.password_file is not None
    password_file = box.password_file

    def enter() -> AbstractAsyncContextManager[Mailbox]:
        return open_mailbox(box, password=read_secret(password_file), time_limit=patience)

    async def on_read(_: int) -> None:
        return

    task = asyncio.create_task(
        watch(
            steps.store,
            box,
            steps.box_health,
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


async def _await_health(steps: StepsWithPeers, *, is_up: bool) -> None:
    async with asyncio.timeout(60):
        while steps.box_health.is_up is not is_up:
            await asyncio.sleep(0.02)


async def _letters(steps: StepsWithPeers, *addresses: str) -> list[str]:
    """Send a letter to each, and let the reports come."""
    keys = [await steps.send(address) for address in addresses]
    await steps.submit()
    for address in addresses:
        steps.report(address)
    return keys


async def _counts(steps: StepsWithPeers) -> tuple[int, int]:
    """Return how many reports are kept, and how often facts were told by them."""
    async with steps.store.read() as session:
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


async def test_a_mailbox_without_inbox_is_blind_and_no_deadline_is_judged(steps: StepsWithPeers) -> None:
    steps.imap.on("SELECT|EXAMINE", "TAG NO no such mailbox\r\n")
    bob = await steps.send("bob@b.test")
    await steps.submit()
    async with _watching(steps):
        await _await_health(steps, is_up=False)
        steps.clock.turn(minutes=2)
        await steps.escalate()
        await steps.monitor()
        await steps.deliver()
        (blind,) = await steps.alerts()
        assert (blind.type, blind.data["what"], blind.data["held"]) == ("monitor.blind", "mailbox", 1)
        assert "INBOX" in blind.data["reason"]
        steps.imap._told.clear()
        await _await_health(steps, is_up=True)
    await steps.escalate()
    await steps.monitor()
    assert (await steps.recipient(bob)).receipt is Receipt.OVERDUE
    assert sorted(alert.type for alert in await steps.alerts()) == ["monitor.blind", "monitor.clear", "receipt.overdue"]


async def test_a_mailbox_that_lists_no_inbox_is_told_at_once_though_no_deadline_waits(steps: StepsWithPeers) -> None:
    steps.imap.listed = '* LIST () "/" Archive\r\n'
    steps.imap.on("SELECT|EXAMINE", "TAG NO [NONEXISTENT] Mailbox doesn't exist: INBOX\r\n")
    async with _watching(steps):
        await _await_health(steps, is_up=False)
        await steps.monitor()
    (blind,) = await steps.alerts()
    assert (blind.type, blind.data["what"]) == ("monitor.blind", "mailbox")
    assert "has no folder 'INBOX'" in blind.data["reason"]


async def test_a_password_file_that_is_gone_for_a_while_makes_the_mailbox_blind_and_ends_nothing(
    steps: StepsWithPeers,
) -> None:
    (box,) = steps.store.settings.mailbox
    assert box.password_file is not None
    box.password_file.unlink()
    async with _watching(steps):
        await _await_health(steps, is_up=False)
        await steps.monitor()
        (blind,) = await steps.alerts()
        assert "password" in blind.data["reason"]
        box.password_file.write_text("sesame")
        await _await_health(steps, is_up=True)


def _name_folders(steps: StepsWithPeers, *names: str) -> None:
    """Let the settings name these folders, or none."""
    settings = steps.store.settings
    values = settings.mailbox[0].model_dump(exclude={"folders"})
    box = MailboxSettings.model_validate(values | ({"folders": names} if names else {}))
    steps.store.settings = settings.model_copy(update={"mailbox": (box,)})


async def test_a_missing_folder_that_the_settings_name_holds_every_deadline(steps: StepsWithPeers) -> None:
    _name_folders(steps, "INBOX", "Inboxx")
    bob = await steps.send("bob@b.test")
    await steps.submit()
    steps.clock.turn(minutes=2)
    async with _watching(steps):
        await _await_health(steps, is_up=False)
    assert await steps.escalate() == 0
    await steps.monitor()
    assert (await steps.recipient(bob)).receipt is Receipt.OPEN
    (blind,) = await steps.alerts()
    assert (blind.type, blind.data["held"]) == ("monitor.blind", 1)


async def test_a_missing_junk_that_nobody_named_holds_no_deadline_up(steps: StepsWithPeers) -> None:
    _name_folders(steps)
    bob = await steps.send("bob@b.test")
    await steps.submit()
    steps.clock.turn(minutes=2)
    await steps.collect()
    await steps.escalate()
    await steps.monitor()
    assert (await steps.recipient(bob)).receipt is Receipt.OVERDUE
    assert [alert.type for alert in await steps.alerts()] == ["receipt.overdue"]


async def test_a_mailbox_that_hangs_is_blind_and_not_stuck(steps: StepsWithPeers) -> None:
    (bob,) = await _letters(steps, "bob@b.test")
    steps.imap.on("UID SEARCH", say_nothing)
    async with _watching(steps, patience=0.3):
        await _await_health(steps, is_up=False)
        steps.clock.turn(minutes=2)
        await steps.escalate()
        await steps.monitor()
        assert [alert.type for alert in await steps.alerts()] == ["monitor.blind"]
        steps.imap._told.clear()
        await _await_health(steps, is_up=True)
    await steps.escalate()
    assert (await steps.recipient(bob)).receipt is Receipt.OPEN, "what came is not settled yet"
    await steps.settle()
    assert (await steps.recipient(bob)).receipt is Receipt.MET, "it came in time, whenever it was read"


async def test_after_new_uids_nothing_is_counted_twice_and_nothing_missed(steps: StepsWithPeers) -> None:
    await _letters(steps, "alice@b.test", "bob@b.test")
    assert await steps.collect() == 2
    await steps.settle()
    (carol,) = await _letters(steps, "carol@b.test")
    _renumber(steps.imap, first=1, uidvalidity=8)
    assert await steps.collect() == 1, "only carol's, though a UID below the old cursor may be hers"
    await steps.settle()
    assert (await steps.recipient(carol)).receipt is Receipt.MET
    assert await _counts(steps) == (3, 3)

    (dave,) = await _letters(steps, "dave@b.test")
    _renumber(steps.imap, first=100, uidvalidity=9)
    assert await steps.collect() == 1
    await steps.settle()
    assert (await steps.recipient(dave)).receipt is Receipt.MET
    assert await _counts(steps) == (4, 4)


async def test_a_connection_lost_while_fetching_loses_no_report(steps: StepsWithPeers) -> None:
    keys = await _letters(steps, "alice@b.test", "bob@b.test")
    steps.imap.on(r"UID FETCH \S+ \(UID BODY", hang_up)
    with pytest.raises(MailboxDown):
        await steps.collect()
    assert await _counts(steps) == (0, 0)
    steps.imap._told.clear()
    await steps.collect()
    await steps.settle()
    assert [(await steps.recipient(key)).receipt for key in keys] == [Receipt.MET, Receipt.MET]


async def test_a_process_that_dies_between_fetching_and_settling_loses_no_report(steps: StepsWithPeers) -> None:
    (bob,) = await _letters(steps, "bob@b.test")
    await steps.collect()
    steps.imap.messages.clear()
    await steps.restart()
    await steps.settle()
    row = await steps.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)


async def test_a_process_that_dies_while_settling_settles_once_and_holds_the_deadline(steps: StepsWithPeers) -> None:
    (bob,) = await _letters(steps, "bob@b.test")
    steps.clock.turn(seconds=50)
    await steps.collect()
    await settlement.begin_reading(steps.store, 50)
    await steps.restart()
    steps.clock.turn(seconds=20)
    await steps.collect()
    await steps.settle()
    await steps.escalate()
    assert (await steps.recipient(bob)).receipt is Receipt.OPEN
    assert not await steps.alerts()
    steps.clock.turn(seconds=20)
    await steps.settle()
    assert (await steps.recipient(bob)).receipt is Receipt.MET
    assert await _counts(steps) == (1, 1)


async def test_a_report_that_kills_its_reader_is_set_aside_after_some_tries_and_no_other_with_it(
    steps: StepsWithPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poison is read together with the others at first, and every reader of it dies."""
    keys = await _letters(steps, "alice@b.test", "bob@b.test", "carol@b.test")
    steps.imap.messages[2].content += POISON

    def read(raw: bytes) -> Report:
        if raw.endswith(POISON):
            raise Killed
        return interpret(raw)

    monkeypatch.setattr("receiptd.settle.interpret", read)
    await steps.collect()
    deaths = 0
    for _ in range(12):
        try:
            while await steps.settle():
                pass
        except Killed:
            deaths += 1
            await steps.restart()
        steps.clock.turn(minutes=1)
    assert deaths == 4
    assert [(await steps.recipient(key)).receipt for key in keys] == [Receipt.MET, Receipt.OPEN, Receipt.MET]
    (alert,) = await steps.alerts()
    assert alert.type == "monitor.set_aside"
    assert "begun 4 times" in alert.data["reason"]


async def test_a_message_that_the_server_has_and_does_not_hand_over_is_set_aside(steps: StepsWithPeers) -> None:
    steps.imap.messages[1] = Message(b"", stated_size=900)
    (bob,) = await _letters(steps, "bob@b.test")
    progress = Progress()
    with pytest.raises(MessageWithheld):
        await steps.collect(progress)
    await steps.settle()
    assert (await steps.recipient(bob)).receipt is Receipt.MET, "it holds up no other"
    for _ in range(3):
        with pytest.raises(MessageWithheld):
            await steps.collect(progress)
    await steps.collect(progress)
    await steps.settle()
    assert [alert.type for alert in await steps.alerts()] == ["monitor.set_aside"]
