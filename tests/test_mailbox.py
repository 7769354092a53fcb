"""A mailbox shows all that came and touches only what it is told to, whatever the server does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from receiptd.mailbox import (
    Fetched,
    FolderClosed,
    FolderInfo,
    FolderMissing,
    Mailbox,
    MailboxDown,
    MailboxRefused,
    Selected,
    open_mailbox,
)
from receiptd.settings import MailboxSettings
from tests.fake_imap import CAPABILITY, Conversation, FakeImap, Message, Said, hang_up, say_nothing

MAX_REPORT = 50 << 20
LETTER = b"Subject: hello\r\n\r\n* 5 * 3 :) {4}\r\nA1 OK no\r\n* BYE\r\n"


@asynccontextmanager
async def _inside(
    server: FakeImap, *, folder: str | None = "INBOX", time_limit: float = 10, idle: bool = True
) -> AsyncIterator[Mailbox]:
    settings = MailboxSettings(url=f"imap://me@127.0.0.1:{server.port}", password_file=Path("/run/password"), idle=idle)
    async with open_mailbox(settings, password="secret", time_limit=time_limit) as mailbox:
        if folder:
            await mailbox.select(folder)
        yield mailbox


async def _all(mailbox: Mailbox, uids: list[int], max_report: int = MAX_REPORT) -> list[Fetched]:
    return [fetched async for fetched in mailbox.fetch(uids, max_report=max_report)]


def _letters(number: int, content: bytes = LETTER) -> dict[int, Message]:
    return {uid: Message(content) for uid in range(1, number + 1)}


# --- folders -------------------------------------------------------------------------------------------------------

LISTED = (
    '* LIST (\\HasChildren) "." "INBOX"\r\n* LIST (\\Junk) "." "Spam&APw-"\r\n'
    '* LIST () "." INBOX.Processed\r\n* LIST (\\Noselect) "." Public\r\nTAG OK done\r\n'
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("inbox", "INBOX"),
        ("Junk", "Spamü"),
        ("Spamü", "Spamü"),
        ("Processed", "INBOX.Processed"),
        ("Public", None),
        ("Nowhere", None),
    ],
)
async def test_a_folder_is_found_by_name_by_use_or_below_the_inbox(name: str, found: str | None) -> None:
    async with FakeImap() as server, _inside(server, folder=None) as mailbox:
        server.on("LIST", LISTED)
        assert await mailbox.resolve(name) == found


async def test_a_folder_called_junk_wins_over_one_used_as_such() -> None:
    async with FakeImap() as server, _inside(server, folder=None) as mailbox:
        server.on("LIST", '* LIST (\\Junk) "/" Spam\r\n* LIST () "/" Junk\r\nTAG OK done\r\n')
        assert await mailbox.resolve("Junk") == "Junk"


async def test_special_use_is_asked_for_where_it_must_be() -> None:
    async with FakeImap(capability=CAPABILITY + " SPECIAL-USE LIST-EXTENDED") as server, _inside(server) as mailbox:
        assert await mailbox.folders() == (FolderInfo("INBOX"),)
        assert server.got[-1] == 'LIST "" "*" RETURN (SPECIAL-USE)'


async def test_a_folder_s_name_travels_quoted_and_encoded() -> None:
    async with FakeImap() as server, _inside(server, folder='Entwürfe "a" & b') as _:
        assert server.got[-1] == 'SELECT "Entw&APw-rfe \\"a\\" &- b"'


async def test_selecting_tells_validity_next_uid_and_number() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server, folder=None) as mailbox:
        assert await mailbox.select("INBOX") == Selected(uidvalidity=7, uidnext=4, exists=3)
        server.on("SELECT", "* 9 EXISTS\r\n* OK [uidvalidity 8]\r\n* OK [UIDNEXT 77]\r\nTAG OK [READ-ONLY] ok\r\n")
        assert await mailbox.select("INBOX") == Selected(uidvalidity=8, uidnext=77, exists=9, is_read_only=True)


async def test_a_folder_may_be_opened_for_reading_alone() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server, folder=None) as mailbox:
        assert await mailbox.examine("INBOX") == Selected(uidvalidity=7, uidnext=4, exists=3, is_read_only=True)
        assert server.commands("SELECT") == []


async def test_a_next_uid_that_isn_t_told_is_unknown() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server, folder=None) as mailbox:
        server.on("SELECT", "* 3 EXISTS\r\n* OK [UIDVALIDITY 8]\r\nTAG OK ok\r\n")
        assert (await mailbox.select("INBOX")).uidnext is None


async def test_a_folder_without_uidvalidity_can_t_be_read() -> None:
    async with FakeImap() as server, _inside(server, folder=None) as mailbox:
        server.on("SELECT", "* 3 EXISTS\r\nTAG OK ok\r\n")
        with pytest.raises(MailboxDown, match="UIDVALIDITY") as down:
            await mailbox.select("INBOX")
        assert down.value.permanent


async def test_a_missing_folder_is_told_apart_from_one_that_won_t_open() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        server.on("SELECT", "TAG NO no way\r\n")
        with pytest.raises(FolderMissing, match="Nowhere"):
            await mailbox.select("Nowhere")
        with pytest.raises(FolderClosed, match="no way"):
            await mailbox.select("INBOX")


# --- searching and fetching ----------------------------------------------------------------------------------------


async def test_searching_behind_the_last_message_finds_nothing() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server) as mailbox:
        assert await mailbox.search_from(2) == [2, 3]
        assert await mailbox.search_from(4) == []
        assert await mailbox.search_from(1 << 32) == []


async def test_a_search_finds_what_the_server_had_not_announced_yet() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:

        async def look(conversation: Conversation, tag: str) -> None:
            server.messages = _letters(1)
            await conversation.send("* 1 EXISTS\r\nTAG OK done\r\n", tag)

        server.on("NOOP", look)
        assert await mailbox.search_from(1) == [1]
        assert not await mailbox.wait_for_news(0)


async def test_a_hundred_thousand_uids_are_found_in_order() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        numbers = " ".join(map(str, range(4_000_100_000, 4_000_000_000, -1)))
        server.on("UID SEARCH", f"* SEARCH {numbers}\r\nTAG OK done\r\n")
        assert await mailbox.search_from(1) == list(range(4_000_000_001, 4_000_100_001))


async def test_a_refused_search_is_blindness_and_no_empty_folder() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        server.on("UID SEARCH", "TAG NO [SERVERBUG] try later\r\n")
        with pytest.raises(MailboxDown, match="try later"):
            await mailbox.search_from(1)


async def test_messages_come_whole_unseen_and_fifty_at_a_time() -> None:
    async with FakeImap(messages=_letters(120)) as server, _inside(server) as mailbox:
        fetched = await _all(mailbox, await mailbox.search_from(1))
        assert [(one.uid, one.raw, one.truncated) for one in fetched] == [(uid, LETTER, False) for uid in range(1, 121)]
        fetches = server.commands("UID FETCH")
        assert max(line.split()[2].count(",") + 1 for line in fetches) == 50
        for line in fetches:
            assert set(line.split(" ", 3)[3].strip("()").split()) <= {
                "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]",
            }  # fmt: skip


async def test_five_thousand_messages_are_fetched_without_losing_one() -> None:
    async with FakeImap(messages=_letters(5000)) as server, _inside(server) as mailbox:
        assert [one.uid for one in await _all(mailbox, await mailbox.search_from(1))] == list(range(1, 5001))


async def test_one_fetch_brings_at_most_eight_mebibytes() -> None:
    async with FakeImap(messages=_letters(5, b"x" * (3 << 20))) as server, _inside(server) as mailbox:
        assert [len(one.raw) for one in await _all(mailbox, [1, 2, 3, 4, 5])] == [3 << 20] * 5
        assert [line.split()[2] for line in server.commands("BODY.PEEK")] == ["1,2", "3,4", "5"]


async def test_a_message_of_nine_megabytes_comes_byte_for_byte() -> None:
    content = b"Subject: big\r\n\r\n" + b"* 5 EXISTS (\r\n" * 700_000
    async with FakeImap(messages={1: Message(LETTER), 2: Message(content), 3: Message(LETTER)}) as server:
        async with _inside(server) as mailbox:
            fetched = await _all(mailbox, [1, 2, 3])
        assert [one.raw for one in fetched] == [LETTER, content, LETTER]
        assert [line.split()[2] for line in server.commands("BODY.PEEK")] == ["1", "2", "3"]


async def test_of_a_message_beyond_the_limit_the_beginning_comes() -> None:
    content = b"Subject: big\r\n\r\n" + b"x" * (3 << 20)
    async with FakeImap(messages={1: Message(LETTER), 2: Message(content)}) as server, _inside(server) as mailbox:
        whole, cut = await _all(mailbox, [1, 2], max_report=1 << 20)
        assert (whole.raw, whole.truncated) == (LETTER, False)
        assert (cut.raw, cut.truncated, cut.size) == (content[: 2 << 20], True, len(content))


async def test_a_size_that_is_only_estimated_does_no_harm() -> None:
    messages = {1: Message(LETTER, stated_size=1), 2: Message(LETTER, stated_size=100 << 20)}
    async with FakeImap(messages=messages) as server, _inside(server) as mailbox:
        assert [(one.raw, one.truncated) for one in await _all(mailbox, [1, 2])] == [(LETTER, False)] * 2


async def test_headers_come_alone_and_bounded() -> None:
    messages = {1: Message(LETTER), 2: Message(b"X: " + b"y" * 200_000 + b"\r\n\r\nbody")}
    async with FakeImap(messages=messages) as server, _inside(server) as mailbox:
        short, long = [one async for one in mailbox.fetch_headers([2, 1])]
        assert (short.raw, short.truncated, short.size) == (b"Subject: hello\r\n\r\n", False, len(LETTER))
        assert (len(long.raw), long.truncated) == (128 << 10, True)


async def test_quoted_bodies_and_foreign_news_are_told_apart() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server) as mailbox:
        server.on(
            r"UID FETCH \S+ \(UID BODY",
            '* 2 EXPUNGE\r\n* 1 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (UID 1 BODY[] "5 * 3 :(")\r\n* 7 EXISTS\r\n'
            "* 3 FETCH (UID 3 FLAGS (\\Seen))\r\n* 2 FETCH (BODY[] {3}\r\na)b UID 2)\r\n* OK by the way\r\n"
            '* 3 FETCH (UID 3 BODY[] "")\r\nTAG OK done\r\n',
        )
        fetched = await _all(mailbox, [1, 2, 3])
        assert [(one.uid, one.raw) for one in fetched] == [(1, b"5 * 3 :("), (2, b"a)b"), (3, b"")]


async def test_thousands_of_unasked_lines_neither_hang_nor_break_anything() -> None:
    async with FakeImap(messages=_letters(2)) as server, _inside(server, time_limit=20) as mailbox:
        noise = "".join(f"* {number} EXPUNGE\r\n" for number in range(5000, 0, -1))
        flags = "".join(f"* {number} FETCH (FLAGS (\\Seen))\r\n" for number in range(1, 5001))

        async def noisily(conversation: Conversation, tag: str) -> None:
            await conversation.send(noise + flags)
            await conversation.send(server.fetched(1, "BODY.PEEK[]") + flags.encode() + b"TAG OK done\r\n", tag)

        server.on(r"UID FETCH 1 \(UID BODY", noisily)
        server.on("LIST", "".join(f'* LIST () "/" "f{number}"\r\n' for number in range(5000)) + "TAG OK done\r\n")
        started = time.monotonic()
        assert [one.raw for one in await _all(mailbox, [1])] == [LETTER]
        assert len(await mailbox.folders()) == 5000
        assert time.monotonic() - started < 10


async def test_messages_that_are_gone_are_left_out() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server) as mailbox:
        assert [one.uid for one in await _all(mailbox, [1, 2, 3, 99])] == [1, 2, 3]
        server.on(r"UID FETCH 1,2,3 \(UID BODY", server.fetched(1, "BODY.PEEK[]") + b"TAG OK done\r\n")
        server.on("UID SEARCH UID 2,3", "* SEARCH\r\nTAG OK done\r\n")
        assert [one.uid for one in await _all(mailbox, [1, 2, 3])] == [1]


@pytest.mark.parametrize("end", ["TAG NO some could not be read\r\n", "TAG OK done\r\n"])
async def test_a_message_the_server_won_t_hand_over_is_seen_and_stops_nobody(end: str) -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server) as mailbox:
        server.on(r"UID FETCH 1,2,3 \(UID BODY", server.fetched(1, "BODY.PEEK[]") + end.encode())
        server.on(r"UID FETCH 2 \(UID BODY", end)
        fetched = await _all(mailbox, [1, 2, 3])
        assert [(one.uid, one.raw, one.truncated) for one in fetched] == [
            (1, LETTER, False), (2, b"", True), (3, LETTER, False),
        ]  # fmt: skip


async def test_a_server_with_a_bad_hour_is_blindness_and_no_empty_message() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:
        server.on(r"UID FETCH 1 \(UID BODY", "TAG NO [THROTTLED] bandwidth\r\n")
        with pytest.raises(MailboxDown, match="bandwidth"):
            await _all(mailbox, [1])


async def test_summaries_tell_flags_size_and_date() -> None:
    messages = {5: Message(LETTER, flags="\\Seen $Junk"), 9: Message(LETTER)}
    async with FakeImap(messages=messages) as server, _inside(server) as mailbox:
        seen, unseen = await mailbox.summaries([9, 5, 5])
        assert (seen.uid, seen.size, seen.flags) == (5, len(LETTER), frozenset({"\\Seen", "$Junk"}))
        assert seen.internaldate.isoformat() == "2026-07-17T09:44:25+00:00"
        assert (unseen.uid, unseen.flags) == (9, frozenset())


# --- whatever is odd drops the connection --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("* BYE Autologout; \x1b[31midle for too long\r\n", "closed the session: Autologout; [31midle for too long"),
        ("TAG BAD what?\r\n", "doesn't understand FETCH: what"),
        ("X99 OK done\r\n", "isn't valid IMAP"),
        ("hello?\r\n", "isn't valid IMAP"),
        ("+ go on\r\n", "isn't valid IMAP"),
        ("* 1 FETCH (UID 1 BODY[] (\r\nTAG OK done\r\n", "isn't valid IMAP"),
        ("* 1 FETCH (UID 1 BODY[] {999999999999}\r\n" + "x" * (1 << 20), "more than was asked for"),
    ],
)
async def test_an_odd_answer_drops_the_connection_and_says_so(
    answer: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiptd.mailbox.connection.MOST_BYTES", 1 << 19)
    async with FakeImap(messages=_letters(1)) as server:

        async def oddly(conversation: Conversation, tag: str) -> None:
            await conversation.send(answer, tag)
            if "BYE" in answer:
                raise ConnectionError

        server.on(r"UID FETCH 1 \(UID BODY", oddly)
        async with _inside(server) as mailbox:
            with pytest.raises(MailboxDown) as down:
                await _all(mailbox, [1])
            assert words in str(down.value)
            assert not down.value.permanent
            with pytest.raises(MailboxDown):
                await mailbox.search_from(1)
        assert "LOGOUT" not in server.got


async def test_silence_is_given_up_after_a_time() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server, time_limit=0.2) as mailbox:
        for command in ("UID STORE", "UID COPY", "UID MOVE", "UID EXPUNGE"):
            server.on(command, say_nothing)
        with pytest.raises(MailboxDown, match="didn't answer STORE"):
            await mailbox.mark_seen([1])


@pytest.mark.parametrize(
    "command", ["CAPABILITY", "LIST", "SELECT", "UID SEARCH", "UID FETCH", "UID STORE", "UID MOVE"]
)
async def test_a_lost_connection_is_noticed_at_once(command: str) -> None:
    async with FakeImap(messages=_letters(1)) as server:
        server.on(command, hang_up)

        async def everything() -> None:
            async with _inside(server) as mailbox:
                await mailbox.resolve("x")
                await _all(mailbox, await mailbox.search_from(1))
                await mailbox.mark_seen([1])
                await mailbox.move([1], "x")

        started = time.monotonic()
        with pytest.raises(MailboxDown, match=r"closed the connection|connection broke"):
            await everything()
        assert time.monotonic() - started < 5


async def test_a_cancelled_call_leaves_no_connection_behind() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:
        server.on("UID FETCH", say_nothing)
        call = asyncio.create_task(mailbox.summaries([1]))
        while not server.commands("UID FETCH"):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(MailboxDown):
            await mailbox.search_from(1)


async def test_two_tasks_can_t_mix_their_commands() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:
        first = asyncio.create_task(mailbox.search_from(1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one task"):
            await mailbox.summaries([1])
        assert await first == [1]


async def test_a_connection_lost_in_the_middle_of_a_body_gives_no_half_message() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:

        async def halfway(conversation: Conversation, _: str) -> None:
            await conversation.send(server.fetched(1, "BODY.PEEK[]")[:-20])
            raise ConnectionError

        server.on(r"UID FETCH 1 \(UID BODY", halfway)
        with pytest.raises(MailboxDown):
            await _all(mailbox, [1])


async def test_messages_arrive_whole_however_the_network_cuts_them() -> None:
    async with FakeImap(messages=_letters(2)) as server, _inside(server) as mailbox:

        async def drop_by_drop(conversation: Conversation, tag: str) -> None:
            answer = (
                server.fetched(1, "BODY.PEEK[]") + b"* 2 FETCH (UID 2 BODY[] {0}\r\n)\r\n" + f"{tag} OK\r\n".encode()
            )
            for at in range(len(answer)):
                await conversation.send(answer[at : at + 1])
                await asyncio.sleep(0)

        server.on(r"UID FETCH 1,2 \(UID BODY", drop_by_drop)
        assert [one.raw for one in await _all(mailbox, [1, 2])] == [LETTER, b""]


async def test_nothing_of_a_message_or_password_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:
        await _all(mailbox, [1])
    assert "secret" not in caplog.text
    assert "Subject" not in caplog.text


# --- tidying up ----------------------------------------------------------------------------------------------------


async def test_changes_go_fifty_at_a_time() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        await mailbox.mark_seen(range(1, 121))
        await mailbox.move(range(1, 121), "Processed")
        await mailbox.delete(range(1, 121))
        for word in ("STORE", "MOVE", "EXPUNGE"):
            counts = [line.split()[2].count(",") + 1 for line in server.commands(f"UID {word}")]
            assert set(counts) == {50, 20}


async def test_a_move_is_one_command_where_the_server_can() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        await mailbox.move([2, 1], "Erledigt & weg")
        assert server.got[-1] == 'UID MOVE 1,2 "Erledigt &- weg"'


async def test_a_move_is_copy_and_delete_where_it_can_t() -> None:
    async with FakeImap(capability="IMAP4rev1 UIDPLUS") as server, _inside(server) as mailbox:
        await mailbox.move([1], "Processed")
        assert server.got[-3:] == [
            'UID COPY 1 "Processed"', "UID STORE 1 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 1",
        ]  # fmt: skip


async def test_nobody_else_s_mail_is_expunged_and_we_say_so() -> None:
    async with FakeImap(capability="IMAP4rev1") as server, _inside(server) as mailbox:
        with structlog.testing.capture_logs() as logs:
            await mailbox.delete([1])
            await mailbox.move([2], "Processed")
        assert not server.commands("EXPUNGE")
        assert [(entry["event"], entry["count"]) for entry in logs] == [("mailbox.left_deleted", 1)] * 2


async def test_a_copy_that_fails_deletes_nothing() -> None:
    async with FakeImap(capability="IMAP4rev1 UIDPLUS") as server, _inside(server) as mailbox:
        server.on("UID COPY", "TAG NO [OVERQUOTA] full\r\n")
        with pytest.raises(MailboxRefused, match="full"):
            await mailbox.move([1], "Processed")
        assert not server.commands("STORE")
        assert await mailbox.search_from(1) == []


async def test_a_folder_to_move_to_is_made_if_need_be() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:

        async def create(conversation: Conversation, tag: str) -> None:
            server.on("UID MOVE", "TAG OK done\r\n")
            await conversation.send("TAG OK done\r\n", tag)

        server.on("UID MOVE", "TAG NO [TRYCREATE] no such folder\r\n")
        server.on("CREATE", create)
        await mailbox.move([1], "Processed")
        assert server.got[-2:] == ['CREATE "Processed"', 'UID MOVE 1 "Processed"']


@pytest.mark.parametrize("capability", [CAPABILITY, "IMAP4rev1 UIDPLUS"])
async def test_a_folder_to_move_to_is_found_as_those_that_are_read(capability: str) -> None:
    """Behind the prefix INBOX. a COPY to the bare name is refused, by Cyrus and Courier without TRYCREATE."""
    async with FakeImap(messages=_letters(1), capability=capability) as server, _inside(server) as mailbox:
        server.listed = LISTED.removesuffix("TAG OK done\r\n")
        await mailbox.move([1], "Processed")
        how = "MOVE" if "MOVE" in capability else "COPY"
        assert server.commands(how) == [f'UID {how} 1 "INBOX.Processed"']
        assert not server.commands("CREATE")


async def test_a_folder_to_move_to_is_made_behind_the_servers_prefix() -> None:
    async with FakeImap(messages=_letters(1), capability=CAPABILITY + " NAMESPACE") as server:
        server.on("NAMESPACE", '* NAMESPACE (("INBOX." ".")) NIL (("shared." "."))\r\nTAG OK done\r\n')
        async with _inside(server) as mailbox:
            await mailbox.move([1], "Processed")
        assert server.commands("INBOX.") == ['CREATE "INBOX.Processed"', 'UID MOVE 1 "INBOX.Processed"']


async def test_a_folder_to_move_to_that_cant_be_made_is_named_with_what_to_do() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:
        server.on("CREATE", "TAG NO not here\r\n")
        server.on("UID MOVE", "TAG NO no such mailbox\r\n")
        with pytest.raises(MailboxRefused, match=r"won't create the folder Done \(not here\): create it yourself"):
            await mailbox.move([1], "Done")


async def test_a_refused_change_leaves_the_mailbox_readable() -> None:
    async with FakeImap(messages=_letters(1)) as server, _inside(server) as mailbox:
        server.on("UID STORE", "TAG NO [NOPERM] read-only\r\n")
        with pytest.raises(MailboxRefused, match="read-only"):
            await mailbox.mark_seen([1])
        assert await mailbox.search_from(1) == [1]


# --- waiting -------------------------------------------------------------------------------------------------------


def _idling(*pushed: str, heard: list[str], end: str = "TAG OK idled\r\n") -> Said:
    async def idle(conversation: Conversation, tag: str) -> None:
        await conversation.send("+ idling\r\n")
        for line in pushed:
            await conversation.send(line)
        heard.append((await conversation.read_line()).decode())
        await conversation.send(end, tag)

    return idle


@pytest.mark.parametrize(
    ("pushed", "is_news"),
    [
        ("* 4 EXISTS\r\n", True),
        ("* 1 RECENT\r\n", True),
        ("* 2 EXPUNGE\r\n* 3 EXISTS\r\n", True),
        ("* 3 EXISTS\r\n* OK still here\r\n* 1 FETCH (FLAGS (\\Seen))\r\n", False),
        ("* 2 EXPUNGE\r\n* 2 EXISTS\r\n* 0 RECENT\r\n", False),
    ],
)
async def test_only_more_messages_are_news(pushed: str, is_news: bool) -> None:
    heard: list[str] = []
    async with FakeImap(messages=_letters(3)) as server, _inside(server) as mailbox:
        server.on("IDLE", _idling(pushed, heard=heard))
        started = time.monotonic()
        assert await mailbox.wait_for_news(30 if is_news else 0.3) is is_news
        assert (0 if is_news else 0.3) <= time.monotonic() - started < 5
        assert heard == ["DONE"]
        assert await mailbox.search_from(3) == [3]


async def test_news_that_came_before_the_wait_is_not_waited_for() -> None:
    async with FakeImap(messages=_letters(3)) as server, _inside(server) as mailbox:
        server.on("UID STORE", "* 4 EXISTS\r\nTAG OK done\r\n")
        await mailbox.mark_seen([1])
        assert await mailbox.wait_for_news(10)
        assert not server.commands("IDLE")


async def test_idle_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiptd.mailbox.session.LONGEST_IDLE", 0.05)
    heard: list[str] = []
    async with FakeImap() as server, _inside(server) as mailbox:
        server.on("IDLE", _idling(heard=heard))
        assert not await mailbox.wait_for_news(0.3)
        assert len(heard) >= 3


@pytest.mark.parametrize("answer", ["TAG NO not here\r\n", "+ idling\r\nTAG OK enough\r\n"])
async def test_a_server_that_won_t_idle_is_not_asked_in_a_loop(answer: str) -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        server.on("IDLE", answer)
        started = time.monotonic()
        assert not await mailbox.wait_for_news(0.2)
        assert time.monotonic() - started >= 0.2
        assert len(server.commands("IDLE")) == 1


@pytest.mark.parametrize("how", ["switched off", "not offered"])
async def test_without_idle_it_is_a_plain_wait(how: str) -> None:
    capability = CAPABILITY if how == "switched off" else "IMAP4rev1"
    async with FakeImap(capability=capability) as server, _inside(server, idle=how == "not offered") as mailbox:
        assert not await mailbox.wait_for_news(0.1)
        assert not server.commands("IDLE")


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.parametrize("moment", ["at once", "later"])
async def test_a_connection_lost_while_waiting_is_noticed_at_once(idle: bool, moment: str) -> None:
    async with FakeImap() as server, _inside(server, idle=idle) as mailbox:

        async def leave(conversation: Conversation, _: str) -> None:
            if moment == "later":
                await conversation.send("+ idling\r\n")
                await asyncio.sleep(0.05)
            await conversation.send("* BYE shutting down\r\n")
            raise ConnectionError

        server.on("IDLE", leave)
        if not idle:
            asyncio.get_running_loop().call_later(0.05, server.conversations[0].writer.close)
        started = time.monotonic()
        with pytest.raises(MailboxDown, match=r"shutting down|closed the connection"):
            await mailbox.wait_for_news(30)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.parametrize("moment", [None, 0.0, 0.1])
async def test_whoever_is_woken_waits_no_longer_and_goes_on_with_the_same_connection(
    idle: bool, moment: float | None
) -> None:
    heard: list[str] = []
    async with FakeImap(messages=_letters(3)) as server, _inside(server, idle=idle) as mailbox:
        server.on("IDLE", _idling(heard=heard))
        for _ in range(2):
            wake = asyncio.Event()
            if moment is None:
                wake.set()
            else:
                asyncio.get_running_loop().call_later(moment, wake.set)
            started = time.monotonic()
            await mailbox.wait_for_news(30, wake)
            assert time.monotonic() - started < 5
        assert not await mailbox.wait_for_news(0.2), "it was woken once"
        assert await mailbox.search_from(3) == [3]
        assert len(server.conversations) == 1


async def test_a_server_that_never_confirms_the_end_of_idle_is_dropped() -> None:
    async with FakeImap() as server, _inside(server, time_limit=0.2) as mailbox:
        server.on("IDLE", _idling(heard=[], end=""))
        with pytest.raises(MailboxDown, match="didn't answer IDLE"):
            await mailbox.wait_for_news(0.1)


async def test_waiting_can_be_cancelled() -> None:
    async with FakeImap() as server, _inside(server) as mailbox:
        server.on("IDLE", "+ idling\r\n")
        waiting = asyncio.create_task(mailbox.wait_for_news(60))
        while not server.commands("IDLE"):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
