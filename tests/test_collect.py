"""The mailbox becomes rows: every message once, whatever the server does to its folders meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from receiptd import collect as collecting
from receiptd.collect import Progress, collect, watch
from receiptd.escalate import escalate, monitor
from receiptd.facts import Receipt
from receiptd.mailbox import (
    FolderClosed,
    FolderMissing,
    Mailbox,
    MailboxDown,
    MailboxFault,
    MessageWithheld,
    open_mailbox,
)
from receiptd.models import Folder, ReportRow
from receiptd.settle import settle
from receiptd.store import folders, reports
from receiptd.store.monitors import Health
from tests.fake_imap import Conversation, FakeImap, Message, hang_up
from tests.steps_fixture import START, StepsFixture, dsn, open_steps, settings_in

DATE = "24-Nov-2026 09:00:00 +0000"
BOTH = '* LIST () "/" INBOX\r\n* LIST (\\Junk) "/" Spam\r\n'
RENUMBERED = "* 3 EXISTS\r\n* OK [UIDVALIDITY 8] new\r\n* OK [UIDNEXT 4] next\r\nTAG OK [READ-WRITE] done\r\n"


class Post:
    """The steps and the mailbox whose reports they collect."""

    def __init__(self, steps: StepsFixture, imap: FakeImap) -> None:
        self.steps, self.imap = steps, imap
        self.box = steps.store.settings.mailbox[0]
        self.progress = Progress()

    def put(self, *raws: bytes) -> None:
        for raw in raws:
            self.imap.messages[max(self.imap.messages, default=0) + 1] = Message(raw, date=DATE)

    async def collect(self) -> int:
        async with open_mailbox(self.box, password="sesame") as mailbox:
            return await collect(self.steps.store, self.box, mailbox, self.progress)

    async def rows(self) -> list[ReportRow]:
        async with self.steps.store.read() as session:
            return sorted((await session.exec(select(ReportRow))).all(), key=lambda row: row.uid)

    async def folder(self, name: str = "INBOX") -> Folder | None:
        async with self.steps.store.read() as session:
            return await session.get(Folder, ("receipts", name))


@asynccontextmanager
async def posted(folder: Path, *, box: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Post]:
    (folder / "password").write_text("sesame")
    async with FakeImap() as imap:
        mailbox: dict[str, Any] = {
            "url": f"imap://receipts@127.0.0.1:{imap.port}",
            "password_file": str(folder / "password"),
            "folders": ["INBOX"],
            "idle": False,
        }
        table = {key: value for key, value in (mailbox | (box or {})).items() if value is not None}
        async with open_steps(folder, mailbox=[table], **changes) as steps:
            yield Post(steps, imap)


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with posted(tmp_path) as post:
        yield post


def _mail(number: int) -> bytes:
    return f"Subject: {number}\r\n\r\nx\r\n".encode()


async def test_what_came_is_stored_raw_with_the_time_our_server_had_it(post: Post) -> None:
    post.put(_mail(1), _mail(2))
    assert await post.collect() == 2
    first, second = await post.rows()
    assert (first.mailbox, first.folder, first.uidvalidity, first.uid) == ("receipts", "INBOX", 7, 1)
    assert first.received_at == START - timedelta(minutes=30)
    assert first.fetched_at == second.due_at == START
    folder = await post.folder()
    assert folder is not None
    assert (folder.uid, folder.uidvalidity, folder.read_at) == (2, 7, START)
    assert "BODY.PEEK" in " ".join(post.imap.got), "nothing is marked as read"


@pytest.mark.parametrize(
    ("subaddress", "after", "verb"),
    [("+", "keep", "SELECT"), ("+", "seen", "SELECT"), ("", "seen", "SELECT"), ("", "keep", "EXAMINE")],
)
async def test_only_a_mailbox_of_people_in_which_nothing_changes_is_opened_for_reading_alone(
    tmp_path: Path, subaddress: str, after: str, verb: str
) -> None:
    """SELECT takes \\Recent from people's own programs; without it Courier doesn't write down the UIDs it gives."""
    receipts = {"address": "receipts@a.test", "subaddress": subaddress}
    async with posted(tmp_path, box={"after": after}, receipts=receipts) as post:
        post.put(_mail(1))
        await post.collect()
        assert {line.split()[0] for line in post.imap.got if "INBOX" in line and "LIST" not in line} == {verb}


async def test_each_message_is_fetched_once(post: Post) -> None:
    post.put(_mail(1), _mail(2))
    await post.collect()
    post.imap.got.clear()
    assert await post.collect() == 0
    assert post.imap.commands("BODY") == []
    post.put(_mail(3))
    assert await post.collect() == 1
    assert all(line.startswith("UID FETCH 3 ") for line in post.imap.commands("BODY"))


async def test_a_message_from_the_future_is_dated_when_it_was_fetched(post: Post) -> None:
    post.imap.messages[1] = Message(_mail(1), date="24-Nov-2027 09:00:00 +0000")
    await post.collect()
    assert (await post.rows())[0].received_at == START


async def test_a_folder_is_complete_as_of_the_start_of_the_read(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while we read may be missed by it."""
    post.put(_mail(1))
    _pass_while_it_reads(post, monkeypatch, seconds=50)
    await post.collect()
    folder = await post.folder()
    assert folder is not None
    assert folder.read_at == START


@pytest.mark.parametrize("minutes", [-60, 60])
async def test_a_read_in_which_the_clock_was_set_is_not_complete(
    post: Post, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """It began on another clock's time: after a jump backward it would serve deadlines that are to come."""
    post.put(_mail(1))
    _pass_while_it_reads(post, monkeypatch, minutes=minutes)
    await post.collect()
    folder = await post.folder()
    assert folder is not None
    assert (len(await post.rows()), folder.read_at) == (1, None)


def _pass_while_it_reads(post: Post, monkeypatch: pytest.MonkeyPatch, **time: float) -> None:
    true = folders.keep

    def keep(*args: Any, **words: Any) -> folders.Kept:
        post.steps.pass_time(**time)
        return true(*args, **words)

    monkeypatch.setattr(folders, "keep", keep)


async def test_many_are_fetched_fifty_at_a_time_and_each_fifty_is_committed(post: Post) -> None:
    post.put(*map(_mail, range(1, 121)))
    refused = "* NO no\r\nTAG NO [UNAVAILABLE] try later\r\n"
    post.imap.on(r"UID FETCH 101", refused)
    with pytest.raises(MailboxDown):
        await post.collect()
    assert len(await post.rows()) == 100
    folder = await post.folder()
    assert folder is not None
    assert (folder.uid, folder.read_at) == (100, None), "it was not read to its end"
    post.imap._told.clear()
    assert await post.collect() == 20
    assert len(await post.rows()) == 120


async def test_large_ones_are_committed_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MOST_OCTETS", 5000)
    alone = settings_in(tmp_path).service.model_dump() | {"max_report": 1024}
    async with posted(tmp_path, service=alone) as post:
        post.put(*(_mail(number) + b"x" * 2000 for number in range(1, 6)))
        post.imap.on(r"UID FETCH 4 .*BODY", "* NO no\r\nTAG NO [UNAVAILABLE] try later\r\n")
        with pytest.raises(MailboxDown):
            await post.collect()
        folder = await post.folder()
        assert folder is not None
        assert ([row.uid for row in await post.rows()], folder.uid, folder.read_at) == ([1, 2, 3], 3, None)
        post.imap._told.clear()
        assert await post.collect() == 2


async def test_cursor_and_rows_are_one_transaction(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.put(_mail(1), _mail(2))
    true = folders._row

    def fail_at_the_second(*args: Any) -> dict[str, Any]:
        row: dict[str, Any] = true(*args)
        if row["uid"] == 2:
            raise ZeroDivisionError
        return row

    monkeypatch.setattr(folders, "_row", fail_at_the_second)
    with pytest.raises(ZeroDivisionError):
        await post.collect()
    folder = await post.folder()
    assert folder is not None
    assert (folder.uid, await post.rows()) == (0, [])
    monkeypatch.undo()
    assert await post.collect() == 2


async def test_when_the_server_renumbers_a_folder_it_is_read_anew_and_what_is_known_stays_known(post: Post) -> None:
    post.put(_mail(1), _mail(2))
    await post.collect()
    post.imap.on("SELECT|EXAMINE", RENUMBERED)
    post.imap.messages = {uid: Message(_mail(number), date=DATE) for uid, number in ((1, 2), (2, 1), (3, 3))}
    assert await post.collect() == 1
    folder = await post.folder()
    assert folder is not None
    assert (folder.uidvalidity, folder.uid) == (8, 3)
    assert len(await post.rows()) == 3


async def test_the_same_bytes_at_another_time_are_another_report(post: Post) -> None:
    post.put(_mail(1))
    post.imap.messages[2] = Message(_mail(1), date="24-Nov-2026 09:00:01 +0000")
    assert await post.collect() == 2


# --- folders ------------------------------------------------------------------------------------------------------


async def test_junk_is_found_by_its_use_whatever_its_name(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"folders": ["INBOX", "Junk"]}) as post:
        post.imap.listed = BOTH
        post.put(_mail(1))
        await post.collect()
        assert {line.split(" ", 1)[1].strip('"') for line in post.imap.commands("SELECT")} == {"INBOX", "Spam"}
        folder = await post.folder("Junk")
        assert folder is not None
        assert folder.uid == 1


async def test_the_defaults_junk_that_nobody_named_may_be_missing_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(collecting._log, "warning", lambda text, **_: warned.append(text))
    async with posted(tmp_path, box={"folders": None}) as post:
        for _ in range(3):
            await post.collect()
            post.steps.pass_time(minutes=1)
        folder = await post.folder("Junk")
        assert folder is not None
        assert folder.read_at == START + timedelta(minutes=2), "deadlines need not wait for it"
        assert len(warned) == 1
        post.imap.listed = BOTH
        await post.collect()
        assert post.progress.missing == set()


@pytest.mark.parametrize("folders", [["INBOX", "Inboxx"], ["Inboxx", "INBOX"], ["INBOX", "Junk"]])
async def test_a_folder_that_the_settings_name_and_the_server_hasnt_is_blindness(
    tmp_path: Path, folders: list[str]
) -> None:
    async with posted(tmp_path, box={"folders": folders}) as post:
        post.put(_mail(1))
        with pytest.raises(FolderMissing, match="correct folders") as fault:
            await post.collect()
        assert fault.value.permanent, "a person must correct the settings"
        folder = await post.folder(next(name for name in folders if name != "INBOX"))
        assert folder is None or folder.read_at is None, "no deadline may be judged"
        assert len(await post.rows()) == 1, "what the other folders hold is read all the same"


async def test_a_folder_that_was_read_before_and_is_missing_today_is_blindness(tmp_path: Path) -> None:
    """A server's LIST forgot it for a minute: judged by that, deadlines were told as overdue."""
    async with posted(tmp_path, box={"folders": None}) as post:
        post.imap.listed = BOTH
        await post.collect()
        post.steps.pass_time(minutes=1)
        post.imap.listed = '* LIST () "/" INBOX\r\n'
        with pytest.raises(FolderMissing, match="read before") as fault:
            await post.collect()
        assert not fault.value.permanent, "it may come back"
        folder = await post.folder("Junk")
        assert folder is not None
        assert folder.read_at == START
        post.imap.listed = BOTH
        await post.collect()
        folder = await post.folder("Junk")
        assert folder is not None
        assert folder.read_at == START + timedelta(minutes=1)


async def test_a_folder_that_cant_be_selected_is_blindness_and_the_others_are_read(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"folders": ["Junk", "INBOX"]}) as post:
        post.imap.listed = BOTH
        post.put(_mail(1))
        post.imap.on('(SELECT|EXAMINE) "Spam"', "TAG NO [NOPERM] not yours\r\n")
        with pytest.raises(FolderClosed, match="not yours"):
            await post.collect()
        junk, inbox = await post.folder("Junk"), await post.folder()
        assert inbox is not None
        assert (junk, inbox.read_at, len(await post.rows())) == (None, START, 1)


async def test_a_folder_whose_row_cant_be_understood_stops_no_other(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"folders": ["Junk", "INBOX"]}) as post:
        post.imap.listed = BOTH
        post.put(_mail(1))
        await post.collect()
        async with post.steps.store.write() as session:
            junk = await session.get_one(Folder, ("receipts", "Junk"))
            junk.recent = {"one": [1, 2]}
        post.put(_mail(2))
        post.steps.pass_time(minutes=1)
        with pytest.raises(ValueError, match="one"):
            await post.collect()
        inbox, junk_now = await post.folder(), await post.folder("Junk")
        assert inbox is not None
        assert junk_now is not None
        assert (inbox.read_at, junk_now.read_at) == (post.steps.instant, START), "deadlines are held"


# --- room ---------------------------------------------------------------------------------------------------------


async def test_fetching_waits_for_settling_and_the_mailbox_is_not_blind(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be settled is bounded on disk; the read isn't complete, so deadlines are held meanwhile."""
    monkeypatch.setattr(reports, "MOST_WAITING", 50)
    store, clock, relay = post.steps.store, Health("clock:clock"), Health("relay:relay")
    post.progress.health = health = Health("mailbox:receipts")
    await post.collect()
    taken = await post.steps.submitted()
    post.steps.pass_time(hours=5)
    post.put(*map(_mail, range(1, 61)))
    reading = asyncio.create_task(post.collect())
    while not health.is_waiting:
        await asyncio.sleep(0.01)
    assert (len(await post.rows()), reading.done()) == (50, False)
    assert await monitor(store, relay, {"receipts": health}, clock, started_at=START) == 0, "nobody is blind"
    assert await escalate(store) == 0, "deadlines are held"
    assert (await post.steps.recipient(taken)).receipt is Receipt.OPEN
    while await settle(store):
        pass
    post.progress.settled.set()
    assert await reading == 60
    assert not health.is_waiting
    while await settle(store):
        pass
    assert await escalate(store) == 1


async def test_a_report_is_told_of_as_soon_as_it_is_stored(tmp_path: Path) -> None:
    """Whoever settles needn't wait until the other folders are read."""
    async with posted(tmp_path, box={"folders": ["INBOX", "Junk"]}) as post:
        post.imap.listed = BOTH
        post.put(_mail(1))
        seen: list[bool] = []
        post.progress.on_new = lambda: seen.append(any("Spam" in line for line in post.imap.got if "LIST" not in line))
        await post.collect()
        assert seen[0] is False


async def test_a_folder_that_only_examine_opens_is_read(post: Post) -> None:
    post.imap.on("SELECT", "TAG NO [NOPERM] not yours to change\r\n")
    post.put(_mail(1))
    assert await post.collect() == 1


async def test_a_mailbox_without_its_inbox_is_blind(post: Post) -> None:
    post.imap.on("SELECT|EXAMINE", "TAG NO [NONEXISTENT] no such folder\r\n")
    with pytest.raises(MailboxFault, match="INBOX"):
        await post.collect()
    assert await post.folder() is None


# --- servers that say what isn't so ---------------------------------------------------------------------------------


async def _cursor(post: Post) -> tuple[int, bool]:
    """Return the cursor of INBOX, and whether a read of it was complete."""
    folder = await post.folder()
    assert folder is not None
    return folder.uid, folder.read_at is not None


async def test_a_message_that_a_fetch_leaves_out_once_is_asked_for_again(post: Post) -> None:
    post.put(_mail(1), _mail(2), _mail(3))
    told = b"".join(post.imap.fetched(uid, "FLAGS") for uid in (1, 3)) + b"TAG OK done\r\n"
    post.imap.on(r"UID FETCH 1,2,3 \(UID FLAGS", told)
    assert await post.collect() == 3
    assert await _cursor(post) == (3, True)


async def test_a_message_that_every_fetch_leaves_out_holds_cursor_and_deadlines_but_no_other_message(
    post: Post,
) -> None:
    post.put(_mail(1), _mail(2), _mail(3))
    post.imap.left_out = {2}
    for _ in range(2):
        with pytest.raises(MessageWithheld, match="UID 2"):
            await post.collect()
        assert [row.uid for row in await post.rows()] == [1, 3]
        assert await _cursor(post) == (1, False)
    post.imap.left_out.clear()
    assert await post.collect() == 1
    assert await _cursor(post) == (3, True)


@pytest.mark.parametrize("subaddress", ["+", ""])
async def test_a_message_whose_content_is_refused_for_a_minute_is_not_lost(tmp_path: Path, subaddress: str) -> None:
    receipts = {"address": "receipts@a.test", "subaddress": subaddress}
    async with posted(tmp_path, receipts=receipts) as post:
        await post.steps.submitted()
        post.put(*(dsn(token * 24).replace(b"\n", b"\r\n") for token in "abc"))

        async def all_but_the_second(conversation: Conversation, tag: str) -> None:
            _, _, uids, items = post.imap.got[-1].split(" ", 3)
            told = b"".join(post.imap.fetched(uid, items) for uid in map(int, uids.split(",")) if uid != 2)
            await conversation.send(told + b"TAG OK done\r\n", tag)

        post.imap.on(r"UID FETCH [0-9,]* \(UID BODY", all_but_the_second)
        for _ in range(3):
            with pytest.raises(MessageWithheld, match="UID 2"):
                await post.collect()
            assert [row.uid for row in await post.rows()] == [1, 3]
            assert await _cursor(post) == (1, False)
        post.imap._told.clear()
        assert await post.collect() == 1
        assert await _cursor(post) == (3, True)


async def test_messages_whose_content_is_never_handed_over_are_set_aside_each_with_an_alert(post: Post) -> None:
    post.put(_mail(1), _mail(2))
    post.imap.on(r"UID FETCH [0-9,]* \(UID BODY", "TAG OK done\r\n")
    for _ in range(4):
        with pytest.raises(MessageWithheld):
            await post.collect()
    assert await post.collect() == 2
    while await settle(post.steps.store):
        pass
    assert [alert.type for alert in await post.steps.alerts()] == ["monitor.set_aside"] * 2
    assert await _cursor(post) == (2, True)


async def test_a_message_that_a_second_search_denies_is_gone(post: Post) -> None:
    post.put(_mail(1), _mail(2), _mail(3))
    post.imap.on(r"UID SEARCH UID 1:", "* SEARCH 1 2 3\r\nTAG OK done\r\n")
    del post.imap.messages[2]
    assert await post.collect() == 2
    assert await _cursor(post) == (3, True)


@pytest.mark.parametrize("phantom", [9, 4_000_000_000])
async def test_a_wrong_uid_in_a_search_hides_no_mail_to_come(post: Post, phantom: int) -> None:
    post.put(_mail(1))
    post.imap.phantoms = {phantom}
    assert await post.collect() == 1
    assert await _cursor(post) == (1, True), "not beyond UIDNEXT - 1"
    post.imap.phantoms = set()
    post.put(_mail(2))
    assert await post.collect() == 1


async def test_what_comes_between_opening_and_searching_is_stored_once(post: Post) -> None:
    async def one_more(conversation: Conversation, tag: str) -> None:
        post.put(_mail(2))
        post.imap._told.clear()
        await conversation.send("TAG OK done\r\n", tag)

    post.put(_mail(1))
    post.imap.on("NOOP", one_more)
    assert await post.collect() == 2
    assert await _cursor(post) == (1, True)
    assert await post.collect() == 0
    assert (await _cursor(post), len(await post.rows())) == ((2, True), 2)


async def test_a_folder_with_messages_of_which_a_search_finds_none_is_blindness(post: Post) -> None:
    """GNU imap4d finds nothing of `n:*`: every report was lost without a word."""
    post.put(_mail(1))
    post.imap.on("UID SEARCH", "* SEARCH\r\nTAG OK done\r\n")
    with pytest.raises(MailboxDown, match="finds none"):
        await post.collect()
    assert await _cursor(post) == (0, False)


async def test_no_search_asks_for_a_star(post: Post) -> None:
    post.put(_mail(1))
    await post.collect()
    assert post.imap.commands("SEARCH")
    assert not [line for line in post.imap.got if ":*" in line]


async def test_uids_that_are_used_twice_under_one_uidvalidity_are_a_renumbering(post: Post) -> None:
    """Courier after EXAMINE: another message has the number now, and the known one a higher one."""
    post.put(_mail(1), b"Subject: known\r\n\r\na longer one\r\n")
    await post.collect()
    known = post.imap.messages[2]
    post.imap.messages |= {2: Message(b"Subject: new\r\n\r\n", date=DATE), 3: known}
    assert await post.collect() == 1
    assert await _cursor(post) == (3, True)
    assert len(await post.rows()) == 3


async def test_a_known_message_of_the_same_size_and_second_under_a_higher_uid_is_a_renumbering(post: Post) -> None:
    post.put(_mail(1))
    await post.collect()
    post.imap.messages = {1: Message(_mail(2), date=DATE), 2: Message(_mail(1), date=DATE)}
    assert await post.collect() == 1
    assert (await _cursor(post), len(await post.rows())) == ((2, True), 2)


async def test_a_copy_of_a_known_message_makes_no_folder_read_again_and_again(post: Post) -> None:
    post.put(_mail(1))
    await post.collect()
    post.put(_mail(1))
    for _ in range(2):
        assert await post.collect() == 0
    post.imap.got.clear()
    assert await post.collect() == 0
    assert not post.imap.commands("BODY")


async def test_a_message_of_another_date_under_a_known_uid_is_a_renumbering(post: Post) -> None:
    post.put(_mail(1))
    await post.collect()
    post.imap.messages = {1: Message(_mail(2), date="24-Nov-2026 09:00:01 +0000")}
    assert await post.collect() == 1


async def test_numbers_that_begin_anew_under_one_uidvalidity_are_a_renumbering(post: Post) -> None:
    """A mailbox restored from backup: below the cursor new mail would never be seen."""
    post.put(*map(_mail, range(1, 9)))
    await post.collect()
    post.imap.messages = {1: Message(_mail(11), date=DATE)}
    assert await post.collect() == 1
    assert await _cursor(post) == (1, True)


async def test_what_a_server_keeps_in_a_messages_header_makes_no_other_report_of_it(post: Post) -> None:
    """GNU imap4d shows and rewrites these lines of an mbox, and gives a new UIDVALIDITY with each delivery."""
    post.put(b"Subject: 1\r\n\r\nStatus: kept\r\n")
    assert await post.collect() == 1
    for number in (1, 2):
        kept = b"Subject: 1\r\nX-IMAPbase: 7 %d\r\nX-UID: %d\r\nStatus: RO\r\n\r\nStatus: kept\r\n" % (number, number)
        post.imap.uidvalidity += 1
        post.imap.messages = {number: Message(kept, date=DATE)}
        assert await post.collect() == 0
    post.imap.uidvalidity += 1
    post.imap.messages = {1: Message(b"Subject: 1\r\n\r\nStatus: another\r\n", date=DATE)}
    assert await post.collect() == 1


async def test_a_date_that_is_none_is_no_renumbering(post: Post) -> None:
    post.imap.messages[1] = Message(_mail(1), date="yesterday")
    await post.collect()
    assert await post.collect() == 0


_COMING = st.tuples(st.integers(0, 3), st.sets(st.integers(1, 12)), st.sets(st.integers(1, 20)), st.booleans())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(_COMING, min_size=1, max_size=5))
async def test_whatever_a_server_leaves_out_or_makes_up_every_message_is_stored_once(
    tmp_path: Path, rounds: list[tuple[int, set[int], set[int], bool]]
) -> None:
    """Law 1: a cursor that passes a message that nobody stored loses it without a word."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        async with posted(Path(folder)) as post:
            for coming, left_out, phantoms, renumbers in rounds:
                post.put(*(_mail(100 + len(post.imap.messages) + number) for number in range(coming)))
                post.imap.left_out, post.imap.phantoms = left_out, phantoms
                post.imap.uidvalidity += renumbers
                with suppress(MailboxFault):
                    await post.collect()
                stored = {row.evidence for row in await post.rows()}
                folder_row = await post.folder()
                passed = folder_row.uid if folder_row else 0
                for uid, message in post.imap.messages.items():
                    assert uid > passed or hashlib.sha256(message.content).hexdigest() in stored
            post.imap.left_out, post.imap.phantoms = set(), set()
            await post.collect()
            assert len(await post.rows()) == len(post.imap.messages)


# --- what becomes of matched reports ------------------------------------------------------------------------------


async def _matched(post: Post) -> None:
    """Collect one report that is matched and one that isn't; settle them."""
    taken = await post.steps.submitted()
    post.put(dsn(taken.recipients[0].token).replace(b"\n", b"\r\n"), _mail(2))
    await post.collect()
    while await settle(post.steps.store):
        pass
    post.imap.got.clear()


@pytest.mark.parametrize(
    ("after", "commands"),
    [
        ("keep", []),
        ("seen", ["UID STORE 1 +FLAGS.SILENT (\\Seen)"]),
        ("delete", ["UID STORE 1 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 1"]),
        ("move:Done", ['UID MOVE 1 "Done"']),
    ],
)
async def test_only_what_is_matched_is_touched_and_once(tmp_path: Path, after: str, commands: list[str]) -> None:
    async with posted(tmp_path, box={"after": after}) as post:
        await _matched(post)
        for _ in range(2):
            await post.collect()
        changes = ("UID STORE", "UID EXPUNGE", "UID MOVE", "UID COPY")
        assert [line for line in post.imap.got if line.startswith(changes)] == commands


async def test_a_mailbox_that_refuses_to_move_is_no_fault_and_is_asked_again(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"after": "move:Done"}) as post:
        await _matched(post)
        post.imap.on("UID MOVE", "TAG NO [NOPERM] not yours\r\n")
        assert await post.collect() == 0
        folder = await post.folder()
        assert folder is not None
        assert folder.read_at == START
        post.imap._told.clear()
        post.imap.got.clear()
        await post.collect()
        assert post.imap.commands("MOVE") == ['UID MOVE 1 "Done"']


async def test_after_a_renumbering_the_old_numbers_touch_nobody_elses_mail(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"after": "delete"}) as post:
        await _matched(post)
        post.imap.on("SELECT|EXAMINE", RENUMBERED)
        post.imap.messages = {1: Message(_mail(9), date=DATE)}
        await post.collect()
        assert [line for line in post.imap.got if "STORE" in line or "EXPUNGE" in line] == []


async def test_after_a_renumbering_under_one_uidvalidity_the_old_numbers_touch_nobody_elses_mail(
    tmp_path: Path,
) -> None:
    async with posted(tmp_path, box={"after": "delete"}) as post:
        await _matched(post)
        report = post.imap.messages[1]
        post.imap.messages = {1: Message(b"Subject: private\r\n\r\n", date=DATE), 2: Message(_mail(2), date=DATE)}
        post.imap.messages[3] = report
        await post.collect()
        await post.collect()
        assert post.imap.commands("EXPUNGE") == ["UID EXPUNGE 3"]


# --- a mailbox that people use ------------------------------------------------------------------------------------


async def test_of_a_mailbox_that_people_use_only_reports_and_answers_to_us_are_stored(tmp_path: Path) -> None:
    async with posted(tmp_path, receipts={"address": "receipts@a.test", "subaddress": ""}) as post:
        taken = await post.steps.submitted()
        answer = f"From: bob@b.test\r\nIn-Reply-To: {taken.message.message_id}\r\nSubject: Re\r\n\r\nYes.\r\n"
        private = b"In-Reply-To: <x@y>\r\n\r\nprivate\r\n"
        post.put(_mail(1), dsn("a" * 24).replace(b"\n", b"\r\n"), answer.encode(), private)
        assert await post.collect() == 2
        assert [row.uid for row in await post.rows()] == [2, 3]
        folder = await post.folder()
        assert folder is not None
        assert folder.uid == 4
        assert await post.collect() == 0


async def test_of_a_mailbox_that_people_use_mail_that_only_looks_like_a_bounce_is_not_stored(tmp_path: Path) -> None:
    parcel = b"From: shop@c.test\r\nSubject: Your parcel could not be delivered\r\n\r\nTell us a new date.\r\n"
    away = b"Return-Path: <>\r\nFrom: carl@c.test\r\nSubject: Out of office: Lunch\r\n\r\nI am away.\r\n"
    bounce = (
        b"Return-Path: <>\r\nFrom: mailer-daemon@b.test\r\nSubject: failure notice\r\n\r\n"
        b"I wasn't able to deliver your message.\r\n\r\n<bob@b.test>:\r\nNo mailbox here. (#5.1.1)\r\n"
    )
    async with posted(tmp_path, receipts={"address": "receipts@a.test", "subaddress": ""}) as post:
        await post.steps.submitted()
        post.put(parcel, away, bounce)
        assert await post.collect() == 1
        assert [row.uid for row in await post.rows()] == [3]
        folder = await post.folder()
        assert folder is not None
        assert folder.uid == 3


# --- again and again ----------------------------------------------------------------------------------------------


class Watcher:
    """Watches the mailbox of a post until told to stop."""

    def __init__(self, post: Post) -> None:
        self.post, self.health, self.stop = post, Health("mailbox:receipts"), asyncio.Event()
        self.wake = asyncio.Event()
        self.reads: list[int] = []
        self.opened = 0
        self.meanwhile: list[bytes] = []
        """What comes into the mailbox between a read and the wait after it."""

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Mailbox]:
        self.opened += 1
        async with open_mailbox(self.post.box, password="sesame") as mailbox:
            yield mailbox

    async def _on_read(self, new: int) -> None:
        self.reads.append(new)
        self.post.put(*self.meanwhile)
        self.meanwhile.clear()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Watcher]:
        store, box = self.post.steps.store, self.post.box
        task = asyncio.create_task(
            watch(store, box, self.health, self._open, stop=self.stop, on_read=self._on_read, wake=self.wake)
        )
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def test_news_is_read_at_once_where_the_server_idles(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"idle": True, "poll": "1h"}) as post:
        idle = asyncio.Event()

        async def say_news(conversation: Any, tag: str) -> None:
            await conversation.send("+ idling\r\n")
            await idle.wait()
            await conversation.send("* 1 EXISTS\r\n")
            assert await conversation.read_line() == b"DONE"
            await conversation.send("TAG OK done\r\n", tag)

        post.imap.on("IDLE", say_news)
        async with Watcher(post).watching() as watcher:
            await _until(lambda: watcher.reads == [0])
            post.put(_mail(1))
            idle.set()
            await _until(lambda: watcher.reads[:2] == [0, 1])


async def test_what_comes_between_reading_and_waiting_is_not_left_until_the_next_poll(tmp_path: Path) -> None:
    async with posted(tmp_path, box={"idle": True, "poll": "1h"}) as post:
        watcher = Watcher(post)
        watcher.meanwhile = [_mail(1)]
        async with watcher.watching():
            await _until(lambda: watcher.reads == [0, 1])
            await _until(lambda: post.imap.commands("IDLE"))
        assert len(post.imap.commands("IDLE")) == 1


@pytest.mark.parametrize("subaddress", ["+", ""])
async def test_a_uidvalidity_that_is_new_at_each_opening_is_no_news(tmp_path: Path, subaddress: str) -> None:
    """Courier and Panda before the first SELECT: the mailbox was read whole again and again without a wait."""
    receipts = {"address": "receipts@a.test", "subaddress": subaddress}
    box = {"idle": True, "poll": "1h", "folders": ["INBOX", "Junk"]}
    async with posted(tmp_path, box=box, receipts=receipts) as post:
        validity = iter(range(100, 200))

        async def renumber(conversation: Conversation, tag: str) -> None:
            post.imap.uidvalidity = next(validity)
            await conversation.send(post.imap._plainly("SELECT"), tag)

        post.imap.listed = BOTH
        post.imap.on("SELECT|EXAMINE", renumber)
        post.put(_mail(1))
        async with Watcher(post).watching() as watcher:
            await _until(lambda: post.imap.commands("IDLE"))
            assert len(watcher.reads) == 1
            folder = await post.folder()
            assert folder is not None
            assert (folder.uid, folder.uidvalidity) == (1, 100), "waiting moves no cursor"


async def test_old_mail_of_people_is_no_news(tmp_path: Path) -> None:
    receipts = {"address": "receipts@a.test", "subaddress": ""}
    async with posted(tmp_path, box={"idle": True, "poll": "1h"}, receipts=receipts) as post:
        post.imap.on("UID SEARCH .* SINCE", "* SEARCH\r\nTAG OK done\r\n")
        post.put(_mail(1))
        async with Watcher(post).watching() as watcher:
            await _until(lambda: post.imap.commands("IDLE"))
            assert watcher.reads == [0]


async def test_a_lost_connection_is_opened_anew_and_nothing_is_lost(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "pause", lambda *_: asyncio.sleep(0))
    post.put(_mail(1))
    post.imap.on("UID FETCH", hang_up)
    async with Watcher(post).watching() as watcher:
        await _until(lambda: watcher.opened >= 3)
        assert not watcher.health.is_up
        assert watcher.health.failures >= 2
        assert watcher.health.since == START
        post.imap._told.clear()
        await _until(lambda: watcher.reads == [1])
        assert watcher.health.is_up


async def test_the_wait_before_the_next_try_grows_to_a_minute(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def pause(_: asyncio.Event, length: timedelta) -> None:
        waits.append(length.total_seconds())
        await asyncio.sleep(0)

    monkeypatch.setattr(collecting, "pause", pause)
    post.imap.on("LOGIN|AUTHENTICATE", "TAG NO [AUTHENTICATIONFAILED] wrong\r\n")
    async with Watcher(post).watching() as watcher:
        await _until(lambda: len(waits) >= 8)
        assert watcher.health.permanent, "a wrong password stays wrong until a person mends it"
    assert waits[:8] == [2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("answer", "tries"), [("TAG NO [UNAVAILABLE] try later\r\n", 2), ("TAG NO no\r\n", 1)])
async def test_whoever_wants_a_read_now_gets_a_try_unless_a_person_must_act(
    post: Post, monkeypatch: pytest.MonkeyPatch, answer: str, tries: int
) -> None:
    monkeypatch.setattr(collecting, "timedelta", lambda **_: timedelta(hours=1))
    post.imap.on("LOGIN|AUTHENTICATE", answer)
    async with Watcher(post).watching() as watcher:
        await _until(lambda: not watcher.health.is_up)
        await asyncio.sleep(0.05)
        watcher.wake.set()
        await asyncio.sleep(0.3)
        assert watcher.opened == tries
