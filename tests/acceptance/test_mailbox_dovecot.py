"""Dovecot is read as it should be."""

from __future__ import annotations

import asyncio
import imaplib
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiptd.mailbox import FolderInfo, FolderMissing, Mailbox, MailboxDown, open_mailbox
from receiptd.settings import MailboxSettings
from tests.daemon_process import PATIENCE
from tests.servers.world import HOST, World

LETTER = b"Subject: hello\r\n\r\n5 * 3 :)\r\n"
Deliver = Callable[..., None]


@pytest.fixture
def address(world: World) -> str:
    return world.new_receipts_address()


@pytest.fixture
def deliver(world: World, address: str) -> Deliver:
    """Return a function that puts messages into a folder, as another program would."""

    def append(*messages: bytes, folder: str = "INBOX") -> None:
        context = ssl.create_default_context(cafile=str(world.ca_file))
        with imaplib.IMAP4_SSL(HOST, world.imap.imaps, ssl_context=context) as other:
            other.login(address, world.password)
            for message in messages:
                kind, said = other.append(folder, "", '"17-Jul-2026 02:44:25 -0700"', message)
                assert kind == "OK", said

    return append


@pytest.fixture
def settings(world: World, address: str) -> MailboxSettings:
    return MailboxSettings(url=world.imap.url(address), password_file=Path("/run/password"), ca_file=world.ca_file)


@pytest.fixture
async def mailbox(world: World, settings: MailboxSettings) -> AsyncIterator[Mailbox]:
    async with open_mailbox(settings, password=world.password) as mailbox:
        await mailbox.select("INBOX")
        yield mailbox


async def test_starttls_leads_in_too(world: World, address: str, settings: MailboxSettings) -> None:
    by_starttls = settings.model_copy(update={"url": world.imap.starttls_url(address)})
    async with open_mailbox(by_starttls, password=world.password) as mailbox:
        assert {"MOVE", "UIDPLUS", "IDLE", "SPECIAL-USE"} <= mailbox.capabilities


async def test_a_wrong_password_is_told(settings: MailboxSettings, address: str) -> None:
    for wrong in ("wrong", "wröng"):
        with pytest.raises(MailboxDown, match="password_file") as down:
            async with open_mailbox(settings, password=wrong):
                pass
        assert down.value.permanent
        assert address in str(down.value)


async def test_folders_show_what_they_are_for(mailbox: Mailbox) -> None:
    assert set(await mailbox.folders()) == {FolderInfo("INBOX"), FolderInfo("Junk", r"\junk")}
    assert await mailbox.resolve("inbox") == "INBOX"
    assert await mailbox.resolve("Nowhere") is None
    with pytest.raises(FolderMissing):
        await mailbox.select("Nowhere")


async def test_messages_come_byte_for_byte_and_stay_unseen(mailbox: Mailbox, deliver: Deliver) -> None:
    messages = [b"Subject: %d\r\n\r\n" % number + b"5 * 3 :(\r\n" * number for number in range(120)]
    deliver(*messages)
    uids = await mailbox.search_from(1)
    fetched = [one async for one in mailbox.fetch(uids, max_report=1 << 20)]
    assert [one.raw for one in fetched] == messages
    assert {one.internaldate for one in fetched} == {datetime(2026, 7, 17, 9, 44, 25, tzinfo=UTC)}
    assert all("\\Seen" not in one.flags for one in await mailbox.summaries(uids))
    assert await mailbox.search_from(uids[-1]) == [uids[-1]]
    assert await mailbox.search_from(uids[-1] + 1) == []


async def test_big_messages_come_whole_and_bigger_ones_cut(mailbox: Mailbox, deliver: Deliver) -> None:
    big = b"Subject: big\r\n\r\n" + b"a line that is long enough\r\n" * 340_000
    deliver(big, LETTER)
    uids = await mailbox.search_from(1)
    whole, _ = [one async for one in mailbox.fetch(uids, max_report=len(big))]
    assert whole.raw == big
    cut, letter = [one async for one in mailbox.fetch(uids, max_report=1 << 20)]
    assert (cut.raw, cut.truncated, cut.size) == (big[: 2 << 20], True, len(big))
    assert (letter.raw, letter.truncated) == (LETTER, False)
    header, _ = [one async for one in mailbox.fetch_headers(uids)]
    assert (header.raw, header.truncated) == (b"Subject: big\r\n\r\n", False)


async def test_a_message_of_fifty_megabytes_is_fetched_in_three_times_its_size(
    mailbox: Mailbox, deliver: Deliver
) -> None:
    deliver(b"Subject: big\r\n\r\n" + b"a line that is long enough\r\n" * 1_785_000)
    uids = await mailbox.search_from(1)
    tracemalloc.start()
    try:
        (whole,) = [one async for one in mailbox.fetch(uids, max_report=50 << 20)]
        assert whole.size == len(whole.raw) > 49_000_000
        assert tracemalloc.get_traced_memory()[1] < 3 * whole.size
    finally:
        tracemalloc.stop()


async def test_messages_are_marked_moved_and_deleted(mailbox: Mailbox, deliver: Deliver) -> None:
    deliver(*[LETTER] * 180)
    uids = await mailbox.search_from(1)
    await mailbox.mark_seen(uids[:60])
    assert sum("\\Seen" in one.flags for one in await mailbox.summaries(uids)) == 60
    await mailbox.move(uids[60:120], "Erledigt & früher")
    await mailbox.delete(uids[120:])
    assert await mailbox.search_from(1) == uids[:60]
    assert (await mailbox.select("Erledigt & früher")).exists == 60


async def test_without_move_it_is_copied_and_only_ours_is_expunged(
    mailbox: Mailbox, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(LETTER, LETTER)
    first, second = await mailbox.search_from(1)
    monkeypatch.setattr(mailbox, "capabilities", mailbox.capabilities - {"MOVE"})
    await mailbox.move([first], "Junk")
    assert await mailbox.search_from(1) == [second]
    assert (await mailbox.select("Junk")).exists == 1


async def test_a_new_message_ends_the_wait_and_nothing_else_does(mailbox: Mailbox, deliver: Deliver) -> None:
    deliver(LETTER)
    assert len(await mailbox.search_from(1)) == 1
    assert not await mailbox.wait_for_news(0.3)
    waiting = asyncio.create_task(mailbox.wait_for_news(PATIENCE))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(deliver, LETTER)
    assert await asyncio.wait_for(waiting, PATIENCE)
    assert len(await mailbox.search_from(1)) == 2


async def test_a_message_removed_by_somebody_else_is_left_out(
    mailbox: Mailbox, deliver: Deliver, settings: MailboxSettings, world: World
) -> None:
    deliver(LETTER, LETTER, LETTER)
    uids = await mailbox.search_from(1)
    async with open_mailbox(settings, password=world.password) as other:
        await other.select("INBOX")
        await other.delete([uids[1]])
    assert [one.uid async for one in mailbox.fetch(uids, max_report=1 << 20)] == [uids[0], uids[2]]
