"""An ordinary IMAP server (pymap, over TLS) is read as it should be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from receiptd.mailbox import Mailbox, MailboxDown, open_mailbox
from receiptd.sandbox.imap_server import ImapServer
from receiptd.settings import MailboxSettings

RECEIVED = datetime(2026, 7, 17, 9, 44, 25, tzinfo=UTC)
LETTER = b"Subject: hello\r\n\r\n5 * 3 :)\r\n"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[ImapServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ImapServer("receipts@a.org", 'p"ss \\ word', context)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def settings(server: ImapServer, authority: trustme.CA, tmp_path: Path) -> MailboxSettings:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return MailboxSettings(
        url=f"imaps://receipts%40a.org@127.0.0.1:{server.port}",
        password_file=Path("/run/password"),
        ca_file=tmp_path / "ca.pem",
    )


@pytest.fixture
async def mailbox(server: ImapServer, settings: MailboxSettings) -> AsyncIterator[Mailbox]:
    async with open_mailbox(settings, password=server.password) as mailbox:
        yield mailbox


async def test_a_message_is_found_fetched_and_left_unseen(server: ImapServer, mailbox: Mailbox) -> None:
    await server.deliver(LETTER, RECEIVED)
    selected = await mailbox.select("INBOX")
    assert selected.uidnext is not None
    assert (selected.exists, selected.uidnext - 1) == (1, (await mailbox.search_from(1))[0])
    fetched = [one async for one in mailbox.fetch(await mailbox.search_from(1), max_report=1 << 20)]
    assert [(one.raw, one.size, one.internaldate, one.truncated) for one in fetched] == [
        (LETTER, len(LETTER), RECEIVED, False)
    ]
    (summary,) = await mailbox.summaries([fetched[0].uid])
    assert "\\Seen" not in summary.flags
    assert await mailbox.search_from(selected.uidnext) == []


async def test_hundreds_of_messages_are_read(server: ImapServer, mailbox: Mailbox) -> None:
    for _ in range(300):
        await server.deliver(LETTER, RECEIVED)
    await mailbox.select("INBOX")
    uids = await mailbox.search_from(1)
    assert len(uids) == 300
    assert [one.uid async for one in mailbox.fetch(uids, max_report=1 << 20)] == uids


async def test_big_messages_come_whole_and_bigger_ones_cut(server: ImapServer, mailbox: Mailbox) -> None:
    big = b"Subject: big\r\n\r\n" + b"a line that is long enough\r\n" * 340_000
    await server.deliver(big, RECEIVED)
    await mailbox.select("INBOX")
    (whole,) = [one async for one in mailbox.fetch([await _only(mailbox)], max_report=len(big))]
    assert whole.raw == big
    (cut,) = [one async for one in mailbox.fetch([await _only(mailbox)], max_report=len(big) - 1)]
    assert (cut.raw, cut.truncated) == (big[: 2 << 20], True)
    (header,) = [one async for one in mailbox.fetch_headers([await _only(mailbox)])]
    assert (header.raw, header.truncated) == (b"Subject: big\r\n\r\n", False)


async def _only(mailbox: Mailbox) -> int:
    (uid,) = await mailbox.search_from(1)
    return uid


async def test_messages_are_marked_moved_and_deleted(server: ImapServer, mailbox: Mailbox) -> None:
    for _ in range(3):
        await server.deliver(LETTER, RECEIVED)
    await mailbox.select("INBOX")
    first, second, third = await mailbox.search_from(1)
    await mailbox.mark_seen([first])
    assert ["\\Seen" in one.flags for one in await mailbox.summaries([first, second])] == [True, False]
    await mailbox.move([second], "Junk")
    await mailbox.delete([third])
    assert await mailbox.search_from(1) == [first]
    assert (await mailbox.select("Junk")).exists == 1


async def test_a_folder_that_is_not_there_to_move_to_is_made(server: ImapServer, mailbox: Mailbox) -> None:
    await server.deliver(LETTER, RECEIVED)
    await mailbox.select("INBOX")
    await mailbox.move(await mailbox.search_from(1), "Erledigt & früher")
    assert await mailbox.resolve("Erledigt & früher") == "Erledigt & früher"
    assert (await mailbox.select("Erledigt & früher")).exists == 1


async def test_a_new_message_ends_the_wait(server: ImapServer, mailbox: Mailbox) -> None:
    await mailbox.select("INBOX")
    waiting = asyncio.create_task(mailbox.wait_for_news(30))
    await asyncio.sleep(0.1)
    await server.deliver(LETTER, RECEIVED)
    assert await asyncio.wait_for(waiting, 5)
    assert len(await mailbox.search_from(1)) == 1
    assert not await mailbox.wait_for_news(0.1)


async def test_a_server_that_stops_is_noticed_while_waiting(server: ImapServer, mailbox: Mailbox) -> None:
    await mailbox.select("INBOX")
    waiting = asyncio.create_task(mailbox.wait_for_news(30))
    await asyncio.sleep(0.1)
    await server.stop()
    with pytest.raises(MailboxDown):
        await asyncio.wait_for(waiting, 5)


async def test_a_wrong_password_is_told(server: ImapServer, settings: MailboxSettings) -> None:
    with pytest.raises(MailboxDown, match=r"receipts@a\.org") as down:
        async with open_mailbox(settings, password="wrong"):
            pass
    assert down.value.permanent
