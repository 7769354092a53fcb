"""Raw reports become facts: each try counted first, each report once, and what can't be read is set aside."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.testing import capture_logs

from receiptd import settle as settling
from receiptd.facts import Delivery, EventKind, Level, Receipt, Report, Source, Verdict
from receiptd.interpret import interpret
from receiptd.models import EventCopy, EventRow, Message, Recipient, ReportRow
from receiptd.recipients.move import MOST_EVENTS, MOST_UNKEYED_EVENTS
from receiptd.settle import settle
from receiptd.store import reports
from tests.stage import START, Stage, dsn, staged

RECORDED = Path(__file__).parent / "fixtures" / "reports"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


async def _keep(stage: Stage, *raws: bytes) -> None:
    """Store raw reports as a read of the mailbox does; settle none."""
    batch = [reports.Raw(number, stage.instant, len(raw), raw) for number, raw in enumerate(raws, 1)]
    async with stage.store.write() as session:
        await reports.keep(session, "receipts", "INBOX", 1, batch, upto=len(raws), now=stage.instant)


async def _rows(stage: Stage) -> list[ReportRow]:
    async with stage.store.read() as session:
        return list((await session.exec(select(ReportRow).order_by(col(ReportRow.uid)))).all())


async def _verdict(stage: Stage, raw: bytes) -> Verdict | None:
    """Return what becomes of *raw*, the only report."""
    await stage.receive(raw)
    (row,) = await _rows(stage)
    assert row.due_at is None
    return row.verdict


# --- verdicts -----------------------------------------------------------------------------------------------------


async def test_a_report_moves_its_recipient_in_the_same_transaction(stage: Stage) -> None:
    taken = await stage.submitted("bob@b.test", "carol@c.test")
    assert await _verdict(stage, dsn(taken.recipients[0].token)) is Verdict.MATCHED
    bob, carol = (await stage.whole(taken)).recipients
    assert (bob.delivery, bob.receipt, bob.level, bob.trust) == ("delivered", "met", "delivered", "keyed")
    assert (carol.delivery, carol.receipt) == (Delivery.ACCEPTED, Receipt.OPEN)
    (row,) = await _rows(stage)
    assert (row.kind, row.tries, row.subject) == ("dsn", 1, "Delivery Status")


async def test_a_report_that_fits_nobody_is_unmatched(stage: Stage) -> None:
    await stage.submitted()
    assert await _verdict(stage, dsn("a" * 24)) is Verdict.UNMATCHED
    assert await stage.alerts() == []


async def test_ordinary_mail_is_noise(stage: Stage) -> None:
    assert await _verdict(stage, b"From: x@y.test\nSubject: Offer\n\nBuy now.\n") is Verdict.NOISE


async def test_our_own_copy_is_noise(stage: Stage) -> None:
    taken = await stage.submitted()
    raw = f"From: office@a.test\nTo: bob@b.test\nMessage-ID: {taken.message.message_id}\n\nGood day.\n"
    assert await _verdict(stage, raw.encode()) is Verdict.NOISE


async def test_a_report_with_the_tokens_of_two_is_suspicious_and_moves_nothing_but_is_told(stage: Stage) -> None:
    taken = await stage.submitted("bob@b.test", "carol@c.test")
    bob, carol = taken.recipients
    raw = dsn(bob.token, action="failed", status="5.1.1", envelope_id=carol.token)
    assert await _verdict(stage, raw) is Verdict.SUSPICIOUS
    rows = (await stage.whole(taken)).recipients
    assert {row.delivery for row in rows} == {Delivery.ACCEPTED}
    assert {alert.data["unproven"] for alert in await stage.alerts()} == {True}


@pytest.mark.parametrize("raw", [b"\x00", b"\xff" * 1000, b"Content-Type: multipart/report; boundary=x\n\n--x\n" * 50])
async def test_rubbish_is_settled_like_anything_else(stage: Stage, raw: bytes) -> None:
    assert await _verdict(stage, raw) in (Verdict.NOISE, Verdict.UNMATCHED)


async def test_nothing_that_comes_back_is_answered_by_mail(stage: Stage) -> None:
    """RFC 3834 §2, RFC 5321 §4.5.5: neither a report nor its alert makes a message, so nothing can go in circles."""
    taken = await stage.submitted()
    token = taken.recipients[0].token.encode()
    recorded = [path.read_bytes() for path in sorted(RECORDED.glob("*.eml"))]
    await stage.receive(*(b"Delivered-To: receipts+" + token + b"@a.test\n" + raw for raw in recorded))
    assert len(await _rows(stage)) == len(recorded) > 50
    assert await stage.alerts()
    async with stage.store.read() as session:
        assert [row.id for row in (await session.exec(select(Message))).all()] == [taken.message.id]
        assert [row.next_attempt_at for row in (await session.exec(select(Recipient))).all()] == [None]


async def test_the_token_of_a_report_is_not_listed_with_it(stage: Stage) -> None:
    taken = await stage.submitted()
    token = taken.recipients[0].token
    await stage.receive(dsn(token).replace(b"Delivery Status", f"Undelivered: receipts+{token}@a.test".encode()))
    (row,) = await _rows(stage)
    assert token not in (row.subject or "")


async def test_a_report_of_fifty_megabytes_is_settled_in_three_times_its_size(stage: Stage) -> None:
    taken = await stage.submitted()
    attached = b"--=\nContent-Type: application/octet-stream\n\n" + (b"y" * 77 + b"\n") * 640_000 + b"\n--=--\n"
    raw = dsn(taken.recipients[0].token).replace(b"--=--\n", attached)
    tracemalloc.start()
    try:
        await stage.receive(raw)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(raw), "it is in memory here once more than counts"
    finally:
        tracemalloc.stop()
    assert (await stage.recipient(taken)).delivery is Delivery.DELIVERED


# --- before our own word, more than one, and again ----------------------------------------------------------------


async def test_a_report_before_our_own_accepted_proves_it_and_starts_the_clock(stage: Stage) -> None:
    taken = await stage.take()
    await stage.receive(dsn(taken.recipients[0].token, action="relayed"))
    row = await stage.recipient(taken)
    assert (row.delivery, row.receipt, row.next_attempt_at) == (Delivery.RELAYED, Receipt.MET, None)
    assert row.submitted_at == START


async def test_no_report_is_older_than_its_message(stage: Stage) -> None:
    """The mailbox server's clock may be slow: what it has is in time all the same, and no earlier than sent."""
    taken = await stage.submitted()
    await stage.receive(dsn(taken.recipients[0].token), received_at=START - timedelta(hours=2))
    (event,) = [event for event in (await stage.whole(taken)).events if event.kind is EventKind.DELIVERED]
    assert event.observed_at == START


async def test_one_report_may_speak_of_several_branches(stage: Stage) -> None:
    taken = await stage.submitted("team@b.test")
    token = taken.recipients[0].token
    raw = dsn(token, action="expanded", recipient="team@b.test")
    members = "".join(
        f"\nOriginal-Recipient: rfc822;team@b.test\nFinal-Recipient: rfc822; {name}@b.test\n"
        f"Action: {action}\nStatus: {status}\n"
        for name, action, status in (("ann", "delivered", "2.0.0"), ("ben", "failed", "5.2.2"))
    )
    await stage.receive(raw.replace(b"Diagnostic-Code: smtp; 250 ok\n", members.encode()))
    row = await stage.recipient(taken)
    assert {branch["final_recipient"] for branch in row.branches} >= {"ann@b.test", "ben@b.test"}
    assert (row.delivery, row.receipt) == (Delivery.CONTRADICTED, Receipt.FAILED)


async def test_the_state_is_the_same_in_whatever_order_reports_come(stage: Stage) -> None:
    ends = set()
    for order in itertools.permutations(("relayed", "delivered", "failed")):
        taken = await stage.submitted()
        (row,) = taken.recipients
        for action in order:
            await stage.receive(dsn(row.token, action=action, status="5.0.0" if action == "failed" else "2.0.0"))
        row = await stage.recipient(taken)
        ends.add((row.delivery, row.receipt, row.level))
    assert ends == {(Delivery.CONTRADICTED, Receipt.FAILED, Level.RELAYED)}


async def test_every_report_of_a_message_is_kept_and_none_moves_its_deadline(stage: Stage) -> None:
    """RFC 3464 §2: several are normal; §2.3.9: a server that tries on until Sunday is no reason to wait so long."""
    taken = await stage.submitted()
    row = await stage.recipient(taken)
    waits = dsn(row.token, action="delayed", status="4.4.1")
    until = b"Status: 4.4.1\nWill-Retry-Until: Sun, 29 Nov 2026 09:30:00 +0000"
    for raw in (waits.replace(b"Status: 4.4.1", until), dsn(row.token, action="delayed", status="4.4.7")):
        stage.pass_time(minutes=10)
        await stage.receive(raw)
        assert (await stage.recipient(taken)).deadline_at == row.deadline_at == START + timedelta(hours=4)
    assert (await stage.recipient(taken)).delivery is Delivery.DELAYED
    await stage.receive(dsn(row.token))
    assert (await stage.recipient(taken)).delivery is Delivery.DELIVERED
    told = [event for event in (await stage.whole(taken)).events if event.source is Source.DSN]
    assert [event.kind for event in told] == ["delayed", "delayed", "delivered"]
    assert told[0].detail["will_retry_until"] == "2026-11-29T09:30:00Z"


async def test_the_same_report_fetched_twice_is_known_by_its_bytes(stage: Stage) -> None:
    raw = dsn((await stage.submitted()).recipients[0].token)
    await stage.receive(raw)
    await stage.receive(raw)
    assert len(await _rows(stage)) == 1


async def test_the_same_fact_in_another_report_is_a_copy_and_keeps_the_earliest_time(stage: Stage) -> None:
    taken = await stage.submitted()
    raw = dsn(taken.recipients[0].token)
    stage.pass_time(hours=3)
    await stage.receive(raw)
    await stage.receive(raw.replace(b"See below", b"See above"), received_at=START + timedelta(hours=1))
    (event,) = [event for event in (await stage.whole(taken)).events if event.kind is EventKind.DELIVERED]
    assert (event.count, event.observed_at) == (2, START + timedelta(hours=1))
    async with stage.store.read() as session:
        copies = (await session.exec(select(EventCopy).where(EventCopy.event == event.id))).all()
    assert {copy.told_by for copy in copies} == {row.id for row in await _rows(stage)}


async def test_a_recipient_keeps_so_many_events_and_counts_the_rest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (MOST_EVENTS, MOST_UNKEYED_EVENTS) == (200, 100)
    monkeypatch.setattr("receiptd.recipients.move.MOST_EVENTS", 12)
    monkeypatch.setattr("receiptd.recipients.move.MOST_UNKEYED_EVENTS", 6)
    taken = await stage.submitted()
    (row,) = taken.recipients
    forged = [
        dsn("z" * 24, status=f"2.0.{n}", message_id=taken.message.message_id).replace(b"z" * 24, b"nobody")
        for n in range(10)
    ]
    await stage.receive(*forged)
    assert 5 < len((await stage.whole(taken)).events) <= 8, "a stranger can't fill the record"
    await stage.receive(*(dsn(row.token, action="delayed", status=f"4.0.{n}") for n in range(20)))
    row = await stage.recipient(taken)
    async with stage.store.read() as session:
        kept = len((await session.exec(select(EventRow).where(EventRow.recipient == row.id))).all())
    assert kept <= 12 + 2
    assert row.event_count > kept


# --- what can't be read -------------------------------------------------------------------------------------------


async def test_a_try_is_counted_before_anyone_reads(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = await stage.submitted()
    await _keep(stage, dsn(taken.recipients[0].token))
    tries: list[int] = []

    async def die(_: bytes) -> Report:
        tries.extend([row.tries for row in await _rows(stage)])
        raise SystemExit

    monkeypatch.setattr(settling, "_interpret", die)
    with pytest.raises(SystemExit):
        await settle(stage.store)
    assert tries == [1]
    assert await settle(stage.store) == 0, "it waits before the next try"


async def test_what_kills_the_reader_is_set_aside_after_three_tries_and_told_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await stage.submitted()
    bad, good = dsn(taken.recipients[0].token), b"Subject: x\n\ny\n"
    await _keep(stage, bad, good)

    def poisoned(raw: bytes) -> Report:
        if raw == bad:
            raise ZeroDivisionError(f"at receipts+{taken.recipients[0].token}@a.test")
        return interpret(raw)

    monkeypatch.setattr(settling, "interpret", poisoned)
    for _ in range(10):
        await settle(stage.store)
        stage.pass_time(minutes=2)
    first, second = await _rows(stage)
    assert (first.verdict, first.tries, first.due_at) == (Verdict.SET_ASIDE, 3, None)
    assert (second.verdict, second.tries) == (Verdict.NOISE, 1), "it holds up nothing behind it"
    (alert,) = await stage.alerts()
    assert (alert.type, alert.data["name"], alert.data["report"]) == ("monitor.set_aside", "receipts", first.id)
    for text in (alert.data["reason"], first.reason or ""):
        assert "3 tries" in text
        assert taken.recipients[0].token not in text


# --- a database that fails ----------------------------------------------------------------------------------------


def _large(token: str) -> bytes:
    """Return a report whose facts need pages of their own, where counting a try needs none."""
    members = "".join(
        f"\nFinal-Recipient: rfc822; member{number}@b.test\nAction: delivered\nStatus: 2.0.0\n" for number in range(50)
    )
    return dsn(token).replace(b"Diagnostic-Code: smtp; 250 ok\n", members.encode())


async def _pragma(stage: Stage, words: str) -> int:
    async with stage.store._writer.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        (row,) = await raw.execute_fetchall(f"PRAGMA {words}") or [(0,)]  # type: ignore[union-attr]
        return int(row[0])


@asynccontextmanager
async def _full(stage: Stage) -> AsyncIterator[None]:
    """Let the database take no further page: what fits into those it has is written, all else finds no room."""
    await _pragma(stage, f"max_page_count={await _pragma(stage, 'page_count')}")
    try:
        yield
    finally:
        await _pragma(stage, "max_page_count=1000000")


async def test_a_database_without_room_is_no_fault_of_the_report(stage: Stage) -> None:
    taken = await stage.submitted("bob@b.test", "carol@c.test")
    await _keep(stage, *(_large(row.token) for row in taken.recipients))
    async with _full(stage):
        for _ in range(6):
            with pytest.raises(OperationalError, match="full"):
                await settle(stage.store)
            assert all(row.verdict is None and row.due_at for row in await _rows(stage))
            stage.pass_time(minutes=2)
    while await settle(stage.store):
        pass
    assert [(row.verdict, row.tries) for row in await _rows(stage)] == [(Verdict.MATCHED, 1)] * 2
    assert {row.receipt for row in (await stage.whole(taken)).recipients} == {Receipt.MET}
    assert await stage.alerts() == []


async def test_a_report_that_finds_no_room_waits_a_while_and_holds_up_none_behind_it(stage: Stage) -> None:
    taken = await stage.submitted()
    await _keep(stage, _large(taken.recipients[0].token), b"Subject: x\n\ny\n")
    async with _full(stage):
        with pytest.raises(OperationalError, match="full"):
            await settle(stage.store)
        assert await settle(stage.store) == 1
    assert [row.verdict for row in await _rows(stage)] == [None, Verdict.NOISE]
    assert await settle(stage.store) == 0
    stage.pass_time(seconds=5)
    assert await settle(stage.store) == 1


async def test_a_try_is_given_back_though_the_database_takes_nothing_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turns read-only while a report is read, again and again."""
    taken = await stage.submitted()
    await _keep(stage, dsn(taken.recipients[0].token))
    for _ in range(5):
        async with _read_only_from_the_reading_on(stage, monkeypatch):
            for _ in range(2):
                with pytest.raises(OperationalError, match="readonly"):
                    await settle(stage.store)
        stage.pass_time(minutes=2)
    assert await settle(stage.store) == 1
    (row,) = await _rows(stage)
    assert (row.verdict, row.tries) == (Verdict.MATCHED, 1)


@asynccontextmanager
async def _read_only_from_the_reading_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async def read(raw: bytes) -> Report:
        await _pragma(stage, "query_only=ON")
        return interpret(raw)

    with monkeypatch.context() as patch:
        patch.setattr(settling, "_interpret", read)
        try:
            yield
        finally:
            await _pragma(stage, "query_only=OFF")


async def test_a_statement_that_this_report_alone_makes_fail_is_the_reports_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(session: AsyncSession, _: object) -> list[object]:
        await session.exec(sqlalchemy.text("SELECT no_such_column"))  # type: ignore[call-overload]
        return []

    monkeypatch.setattr(reports, "candidates", fail)
    await _keep(stage, b"Subject: x\n\ny\n")
    with capture_logs():
        for _ in range(3):
            await settle(stage.store)
            stage.pass_time(minutes=2)
    (row,) = await _rows(stage)
    assert row.verdict is Verdict.SET_ASIDE


# --- what another process had taken -------------------------------------------------------------------------------


async def test_what_a_dead_process_had_taken_is_read_at_once_at_the_next_start(stage: Stage) -> None:
    taken = await stage.submitted("bob@b.test", "carol@c.test")
    await _keep(stage, *(dsn(row.token) for row in taken.recipients))
    await reports.begin_reading(stage.store, 50)
    assert await settle(stage.store) == 0, "nobody else takes it while its reader may live"
    assert await reports.recover(stage.store) == 2
    assert await settle(stage.store) == 1, "each may have ended its reader: it is read alone"
    assert await settle(stage.store) == 1
    assert [row.tries for row in await _rows(stage)] == [2, 2]


async def test_what_kills_every_process_that_reads_it_is_set_aside_at_the_fourth_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(_: bytes) -> Report:
        raise SystemExit

    monkeypatch.setattr(settling, "_interpret", die)
    await _keep(stage, b"Subject: x\n\ny\n")
    for _ in range(3):
        await reports.recover(stage.store)
        with pytest.raises(SystemExit):
            await settle(stage.store)
        stage.pass_time(minutes=2)
    await reports.recover(stage.store)
    assert await settle(stage.store) == 1
    (row,) = await _rows(stage)
    assert row.verdict is Verdict.SET_ASIDE
    assert [alert.type for alert in await stage.alerts()] == ["monitor.set_aside"]


async def test_a_daemon_that_dies_at_every_start_sets_no_report_aside_within_seconds(stage: Stage) -> None:
    """Whatever kills it, be it impatience: only the first reading is made up for at once."""
    taken = await stage.submitted("bob@b.test")
    await _keep(stage, dsn(taken.recipients[0].token))
    for _ in range(10):
        await reports.recover(stage.store)
        await reports.begin_reading(stage.store, 50)
    (row,) = await _rows(stage)
    assert (row.tries, row.verdict) == (2, None)
    stage.pass_time(minutes=2)
    assert await settle(stage.store) == 1
    assert (await stage.recipient(taken)).delivery is Delivery.DELIVERED


# --- the rest -----------------------------------------------------------------------------------------------------


async def test_what_the_mailbox_does_not_hand_over_is_set_aside_at_once(stage: Stage) -> None:
    await _keep(stage, b"")
    assert await settle(stage.store) == 1
    (row,) = await _rows(stage)
    assert row.verdict is Verdict.SET_ASIDE
    assert [alert.type for alert in await stage.alerts()] == ["monitor.set_aside"]


async def test_settling_takes_so_many_at_a_time_oldest_first(stage: Stage) -> None:
    await _keep(stage, *(f"Subject: {n}\n\nx\n".encode() for n in range(7)))
    assert [await settle(stage.store, limit=3) for _ in range(4)] == [3, 3, 1, 0]


async def test_what_is_read_at_once_is_bounded_in_octets(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_OCTETS", 2500)
    await _keep(stage, *(f"Subject: {n}\n\n{'x' * 1000}\n".encode() for n in range(3)), b"Subject: 3\n\n" + b"x" * 5000)
    assert [await settle(stage.store) for _ in range(4)] == [2, 1, 1, 0]


async def test_a_report_is_marked_for_clearing_only_where_it_is_matched_and_the_settings_say_so(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    box = {"url": "imaps://receipts%40a.test@127.0.0.1", "password_file": str(tmp_path / "password")}
    async with staged(tmp_path, mailbox=[box | {"after": "seen"}]) as stage:
        taken = await stage.submitted()
        await stage.receive(dsn(taken.recipients[0].token), dsn("a" * 24))
        assert [row.clear for row in await _rows(stage)] == [True, False]


async def test_a_report_of_a_mailbox_that_is_no_longer_in_the_settings_is_settled(stage: Stage) -> None:
    taken = await stage.submitted()
    raw = dsn(taken.recipients[0].token)
    async with stage.store.write() as session:
        batch = [reports.Raw(1, stage.instant, len(raw), raw)]
        await reports.keep(session, "gone", "INBOX", 1, batch, upto=1, now=stage.instant)
    assert await settle(stage.store) == 1
    assert (await stage.recipient(taken)).receipt is Receipt.MET
