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
from sqlmodel import Session, col, select
from structlog.testing import capture_logs

from receiptd import settle as settling
from receiptd.facts import Delivery, EventKind, Level, Receipt, Report, Source, Verdict
from receiptd.interpret import interpret
from receiptd.models import EventCopy, EventRow, Message, Recipient, ReportRow
from receiptd.recipients.move import MOST_EVENTS, MOST_UNKEYED_EVENTS
from receiptd.settle import settle
from receiptd.store import candidates, folders, reports, settlement
from tests.steps_fixture import START, StepsFixture, dsn, open_steps

RECORDED = Path(__file__).parent / "fixtures" / "reports"


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def _keep(steps: StepsFixture, *raws: bytes) -> None:
    """Store raw reports as a read of the mailbox does; settle none."""
    batch = [folders.Raw(number, steps.instant, len(raw), raw) for number, raw in enumerate(raws, 1)]
    await steps.store.transact(
        lambda session: folders.keep(session, "receipts", "INBOX", 1, batch, upto=len(raws), now=steps.instant)
    )


async def _rows(steps: StepsFixture) -> list[ReportRow]:
    async with steps.store.read() as session:
        return list((await session.exec(select(ReportRow).order_by(col(ReportRow.uid)))).all())


async def _verdict(steps: StepsFixture, raw: bytes) -> Verdict | None:
    """Return what becomes of *raw*, the only report."""
    await steps.receive(raw)
    (row,) = await _rows(steps)
    assert row.due_at is None
    return row.verdict


# --- verdicts -----------------------------------------------------------------------------------------------------


async def test_a_report_moves_its_recipient_in_the_same_transaction(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    assert await _verdict(steps, dsn(taken.recipients[0].token)) is Verdict.MATCHED
    bob, carol = (await steps.whole(taken)).recipients
    assert (bob.delivery, bob.receipt, bob.level, bob.trust) == ("delivered", "met", "delivered", "keyed")
    assert (carol.delivery, carol.receipt) == (Delivery.ACCEPTED, Receipt.OPEN)
    (row,) = await _rows(steps)
    assert (row.kind, row.tries, row.subject) == ("dsn", 1, "Delivery Status")


async def test_a_report_that_fits_nobody_is_unmatched(steps: StepsFixture) -> None:
    await steps.submitted()
    assert await _verdict(steps, dsn("a" * 24)) is Verdict.UNMATCHED
    assert await steps.alerts() == []


async def test_ordinary_mail_is_noise(steps: StepsFixture) -> None:
    assert await _verdict(steps, b"From: x@y.test\nSubject: Offer\n\nBuy now.\n") is Verdict.NOISE


async def test_our_own_copy_is_noise(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    raw = f"From: office@a.test\nTo: bob@b.test\nMessage-ID: {taken.message.message_id}\n\nGood day.\n"
    assert await _verdict(steps, raw.encode()) is Verdict.NOISE


async def test_a_report_with_the_tokens_of_two_is_suspicious_and_moves_nothing_but_is_told(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    bob, carol = taken.recipients
    raw = dsn(bob.token, action="failed", status="5.1.1", envelope_id=carol.token)
    assert await _verdict(steps, raw) is Verdict.SUSPICIOUS
    rows = (await steps.whole(taken)).recipients
    assert {row.delivery for row in rows} == {Delivery.ACCEPTED}
    assert {alert.data["unproven"] for alert in await steps.alerts()} == {True}


@pytest.mark.parametrize("raw", [b"\x00", b"\xff" * 1000, b"Content-Type: multipart/report; boundary=x\n\n--x\n" * 50])
async def test_rubbish_is_settled_like_anything_else(steps: StepsFixture, raw: bytes) -> None:
    assert await _verdict(steps, raw) in (Verdict.NOISE, Verdict.UNMATCHED)


async def test_nothing_that_comes_back_is_answered_by_mail(steps: StepsFixture) -> None:
    """RFC 3834 §2, RFC 5321 §4.5.5: neither a report nor its alert makes a message, so nothing can go in circles."""
    taken = await steps.submitted()
    token = taken.recipients[0].token.encode()
    recorded = [path.read_bytes() for path in sorted(RECORDED.glob("*.eml"))]
    await steps.receive(*(b"Delivered-To: receipts+" + token + b"@a.test\n" + raw for raw in recorded))
    assert len(await _rows(steps)) == len(recorded) > 50
    assert await steps.alerts()
    async with steps.store.read() as session:
        assert [row.id for row in (await session.exec(select(Message))).all()] == [taken.message.id]
        assert [row.next_attempt_at for row in (await session.exec(select(Recipient))).all()] == [None]


async def test_the_token_of_a_report_is_not_listed_with_it(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    token = taken.recipients[0].token
    await steps.receive(dsn(token).replace(b"Delivery Status", f"Undelivered: receipts+{token}@a.test".encode()))
    (row,) = await _rows(steps)
    assert token not in (row.subject or "")


async def test_a_report_of_fifty_megabytes_is_settled_in_three_times_its_size(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    attached = b"--=\nContent-Type: application/octet-stream\n\n" + (b"y" * 77 + b"\n") * 640_000 + b"\n--=--\n"
    raw = dsn(taken.recipients[0].token).replace(b"--=--\n", attached)
    tracemalloc.start()
    try:
        await steps.receive(raw)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(raw), "it is in memory here once more than counts"
    finally:
        tracemalloc.stop()
    assert (await steps.recipient(taken)).delivery is Delivery.DELIVERED


# --- before our own word, more than one, and again ----------------------------------------------------------------


async def test_a_report_before_our_own_accepted_proves_it_and_starts_the_clock(steps: StepsFixture) -> None:
    taken = await steps.take()
    await steps.receive(dsn(taken.recipients[0].token, action="relayed"))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.next_attempt_at) == (Delivery.RELAYED, Receipt.MET, None)
    assert row.submitted_at == START


async def test_no_report_is_older_than_its_message(steps: StepsFixture) -> None:
    """The mailbox server's clock may be slow: what it has is in time all the same, and no earlier than sent."""
    taken = await steps.submitted()
    await steps.receive(dsn(taken.recipients[0].token), received_at=START - timedelta(hours=2))
    (event,) = [event for event in (await steps.whole(taken)).events if event.kind is EventKind.DELIVERED]
    assert event.observed_at == START


async def test_one_report_may_speak_of_several_branches(steps: StepsFixture) -> None:
    taken = await steps.submitted("team@b.test")
    token = taken.recipients[0].token
    raw = dsn(token, action="expanded", recipient="team@b.test")
    members = "".join(
        f"\nOriginal-Recipient: rfc822;team@b.test\nFinal-Recipient: rfc822; {name}@b.test\n"
        f"Action: {action}\nStatus: {status}\n"
        for name, action, status in (("ann", "delivered", "2.0.0"), ("ben", "failed", "5.2.2"))
    )
    await steps.receive(raw.replace(b"Diagnostic-Code: smtp; 250 ok\n", members.encode()))
    row = await steps.recipient(taken)
    assert {branch["final_recipient"] for branch in row.branches} >= {"ann@b.test", "ben@b.test"}
    assert (row.delivery, row.receipt) == (Delivery.CONTRADICTED, Receipt.FAILED)


async def test_the_state_is_the_same_in_whatever_order_reports_come(steps: StepsFixture) -> None:
    ends = set()
    for order in itertools.permutations(("relayed", "delivered", "failed")):
        taken = await steps.submitted()
        token = taken.recipients[0].token
        for action in order:
            await steps.receive(dsn(token, action=action, status="5.0.0" if action == "failed" else "2.0.0"))
        row = await steps.recipient(taken)
        ends.add((row.delivery, row.receipt, row.level))
    assert ends == {(Delivery.CONTRADICTED, Receipt.FAILED, Level.RELAYED)}


async def test_every_report_of_a_message_is_kept_and_none_moves_its_deadline(steps: StepsFixture) -> None:
    """RFC 3464 §2: several are normal; §2.3.9: a server that tries on until Sunday is no reason to wait so long."""
    taken = await steps.submitted()
    row = await steps.recipient(taken)
    waits = dsn(row.token, action="delayed", status="4.4.1")
    until = b"Status: 4.4.1\nWill-Retry-Until: Sun, 29 Nov 2026 09:30:00 +0000"
    for raw in (waits.replace(b"Status: 4.4.1", until), dsn(row.token, action="delayed", status="4.4.7")):
        steps.pass_time(minutes=10)
        await steps.receive(raw)
        assert (await steps.recipient(taken)).deadline_at == row.deadline_at == START + timedelta(hours=4)
    assert (await steps.recipient(taken)).delivery is Delivery.DELAYED
    await steps.receive(dsn(row.token))
    assert (await steps.recipient(taken)).delivery is Delivery.DELIVERED
    told = [event for event in (await steps.whole(taken)).events if event.source is Source.DSN]
    assert [event.kind for event in told] == ["delayed", "delayed", "delivered"]
    assert told[0].detail["will_retry_until"] == "2026-11-29T09:30:00Z"


async def test_the_same_report_fetched_twice_is_known_by_its_bytes(steps: StepsFixture) -> None:
    raw = dsn((await steps.submitted()).recipients[0].token)
    await steps.receive(raw)
    await steps.receive(raw)
    assert len(await _rows(steps)) == 1


async def test_the_same_fact_in_another_report_is_a_copy_and_keeps_the_earliest_time(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    raw = dsn(taken.recipients[0].token)
    steps.pass_time(hours=3)
    await steps.receive(raw)
    await steps.receive(raw.replace(b"See below", b"See above"), received_at=START + timedelta(hours=1))
    (event,) = [event for event in (await steps.whole(taken)).events if event.kind is EventKind.DELIVERED]
    assert (event.count, event.observed_at) == (2, START + timedelta(hours=1))
    async with steps.store.read() as session:
        copies = (await session.exec(select(EventCopy).where(EventCopy.event == event.id))).all()
    assert {copy.told_by for copy in copies} == {row.id for row in await _rows(steps)}


async def test_a_recipient_keeps_so_many_events_and_counts_the_rest(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (MOST_EVENTS, MOST_UNKEYED_EVENTS) == (200, 100)
    monkeypatch.setattr("receiptd.recipients.move.MOST_EVENTS", 12)
    monkeypatch.setattr("receiptd.recipients.move.MOST_UNKEYED_EVENTS", 6)
    taken = await steps.submitted()
    (row,) = taken.recipients
    forged = [
        dsn("z" * 24, status=f"2.0.{n}", message_id=taken.message.message_id).replace(b"z" * 24, b"nobody")
        for n in range(10)
    ]
    await steps.receive(*forged)
    assert 5 < len((await steps.whole(taken)).events) <= 8, "a stranger can't fill the record"
    await steps.receive(*(dsn(row.token, action="delayed", status=f"4.0.{n}") for n in range(20)))
    now = await steps.recipient(taken)
    async with steps.store.read() as session:
        kept = len((await session.exec(select(EventRow).where(EventRow.recipient == row.id))).all())
    assert kept <= 12 + 2
    assert now.event_count > kept


# --- what can't be read -------------------------------------------------------------------------------------------


async def test_a_try_is_counted_before_anyone_reads(steps: StepsFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = await steps.submitted()
    await _keep(steps, dsn(taken.recipients[0].token))
    tries: list[int] = []

    async def die(_: bytes) -> Report:
        tries.extend([row.tries for row in await _rows(steps)])
        raise SystemExit

    monkeypatch.setattr(settling, "_interpret", die)
    with pytest.raises(SystemExit):
        await settle(steps.store)
    assert tries == [1]
    assert await settle(steps.store) == 0, "it waits before the next try"


async def test_what_kills_the_reader_is_set_aside_after_three_tries_and_told_once(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await steps.submitted()
    bad, good = dsn(taken.recipients[0].token), b"Subject: x\n\ny\n"
    await _keep(steps, bad, good)

    def poisoned(raw: bytes) -> Report:
        if raw == bad:
            raise ZeroDivisionError(f"at receipts+{taken.recipients[0].token}@a.test")
        return interpret(raw)

    monkeypatch.setattr(settling, "interpret", poisoned)
    for _ in range(10):
        await settle(steps.store)
        steps.pass_time(minutes=2)
    first, second = await _rows(steps)
    assert (first.verdict, first.tries, first.due_at) == (Verdict.SET_ASIDE, 3, None)
    assert (second.verdict, second.tries) == (Verdict.NOISE, 1), "it holds up nothing behind it"
    (alert,) = await steps.alerts()
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


async def _pragma(steps: StepsFixture, words: str) -> int:
    async with steps.store._writer.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        await raw.execute_fetchall(f"PRAGMA {words}")  # type: ignore[union-attr]
    writer = steps.store.threads.engines[0].raw_connection()
    try:
        (row,) = writer.cursor().execute(f"PRAGMA {words}").fetchall() or [(0,)]
        return int(row[0])
    finally:
        writer.close()


@asynccontextmanager
async def _full(steps: StepsFixture) -> AsyncIterator[None]:
    """Let the database take no further page: what fits into those it has is written, all else finds no room."""
    await _pragma(steps, f"max_page_count={await _pragma(steps, 'page_count')}")
    try:
        yield
    finally:
        await _pragma(steps, "max_page_count=1000000")


@pytest.mark.sqlite
async def test_a_database_without_room_is_no_fault_of_the_report(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    await _keep(steps, *(_large(row.token) for row in taken.recipients))
    async with _full(steps):
        for _ in range(6):
            with pytest.raises(OperationalError, match="full"):
                await settle(steps.store)
            assert all(row.verdict is None and row.due_at for row in await _rows(steps))
            steps.pass_time(minutes=2)
    while await settle(steps.store):
        pass
    assert [(row.verdict, row.tries) for row in await _rows(steps)] == [(Verdict.MATCHED, 1)] * 2
    assert {row.receipt for row in (await steps.whole(taken)).recipients} == {Receipt.MET}
    assert await steps.alerts() == []


@pytest.mark.sqlite
async def test_a_report_that_finds_no_room_waits_a_while_and_holds_up_none_behind_it(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    await _keep(steps, _large(taken.recipients[0].token), b"Subject: x\n\ny\n")
    async with _full(steps):
        with pytest.raises(OperationalError, match="full"):
            await settle(steps.store)
        assert await settle(steps.store) == 1
    assert [row.verdict for row in await _rows(steps)] == [None, Verdict.NOISE]
    assert await settle(steps.store) == 0
    steps.pass_time(seconds=5)
    assert await settle(steps.store) == 1


@pytest.mark.sqlite
async def test_a_try_is_given_back_though_the_database_takes_nothing_for_a_while(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turns read-only while a report is read, again and again."""
    taken = await steps.submitted()
    await _keep(steps, dsn(taken.recipients[0].token))
    for _ in range(5):
        async with _read_only_from_the_reading_on(steps, monkeypatch):
            for _ in range(2):
                with pytest.raises(OperationalError, match="readonly"):
                    await settle(steps.store)
        steps.pass_time(minutes=2)
    assert await settle(steps.store) == 1
    (row,) = await _rows(steps)
    assert (row.verdict, row.tries) == (Verdict.MATCHED, 1)


@asynccontextmanager
async def _read_only_from_the_reading_on(steps: StepsFixture, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async def read(raw: bytes) -> Report:
        await _pragma(steps, "query_only=ON")
        return interpret(raw)

    with monkeypatch.context() as patch:
        patch.setattr(settling, "_interpret", read)
        try:
            yield
        finally:
            await _pragma(steps, "query_only=OFF")


async def test_a_statement_that_this_report_alone_makes_fail_is_the_reports_fault(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session, reports: object) -> list[object]:
        session.connection().execute(sqlalchemy.text("SELECT no_such_column"))
        return []

    monkeypatch.setattr(candidates, "of_reports", fail)
    await _keep(steps, b"Subject: x\n\ny\n")
    with capture_logs():
        for _ in range(3):
            await settle(steps.store)
            steps.pass_time(minutes=2)
    (row,) = await _rows(steps)
    assert row.verdict is Verdict.SET_ASIDE


# --- what another process had taken -------------------------------------------------------------------------------


@pytest.mark.sqlite
async def test_what_a_dead_process_had_taken_is_read_at_once_at_the_next_start(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    await _keep(steps, *(dsn(row.token) for row in taken.recipients))
    await settlement.begin_reading(steps.store, 50)
    assert await settle(steps.store) == 0, "nobody else takes it while its reader may live"
    assert await settlement.recover(steps.store) == 2
    assert await settle(steps.store) == 1, "each may have ended its reader: it is read alone"
    assert await settle(steps.store) == 1
    assert [row.tries for row in await _rows(steps)] == [2, 2]


async def test_what_kills_every_process_that_reads_it_is_set_aside_at_the_fifth_start(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(_: bytes) -> Report:
        raise SystemExit

    monkeypatch.setattr(settling, "_interpret", die)
    await _keep(steps, b"Subject: x\n\ny\n")
    for _ in range(4):
        await settlement.recover(steps.store)
        with pytest.raises(SystemExit):
            await settle(steps.store)
        steps.pass_time(minutes=2)
    await settlement.recover(steps.store)
    assert await settle(steps.store) == 1
    (row,) = await _rows(steps)
    assert row.verdict is Verdict.SET_ASIDE
    assert [alert.type for alert in await steps.alerts()] == ["monitor.set_aside"]


@pytest.mark.sqlite
async def test_a_daemon_that_dies_at_every_start_sets_no_report_aside_within_seconds(steps: StepsFixture) -> None:
    """Whatever kills it, be it impatience: only the first reading is made up for at once."""
    taken = await steps.submitted("bob@b.test")
    await _keep(steps, dsn(taken.recipients[0].token))
    for _ in range(10):
        await settlement.recover(steps.store)
        await settlement.begin_reading(steps.store, 50)
    (row,) = await _rows(steps)
    assert (row.tries, row.verdict) == (2, None)
    steps.pass_time(minutes=2)
    assert await settle(steps.store) == 1
    assert (await steps.recipient(taken)).delivery is Delivery.DELIVERED


# --- the rest -----------------------------------------------------------------------------------------------------


async def test_what_the_mailbox_does_not_hand_over_is_set_aside_at_once(steps: StepsFixture) -> None:
    await _keep(steps, b"")
    assert await settle(steps.store) == 1
    (row,) = await _rows(steps)
    assert row.verdict is Verdict.SET_ASIDE
    assert [alert.type for alert in await steps.alerts()] == ["monitor.set_aside"]


async def test_settling_takes_so_many_at_a_time_oldest_first(steps: StepsFixture) -> None:
    await _keep(steps, *(f"Subject: {n}\n\nx\n".encode() for n in range(7)))
    assert [await settle(steps.store, limit=3) for _ in range(4)] == [3, 3, 1, 0]


async def test_what_is_read_at_once_is_bounded_in_octets(steps: StepsFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "MOST_OCTETS", 2500)
    await _keep(steps, *(f"Subject: {n}\n\n{'x' * 1000}\n".encode() for n in range(3)), b"Subject: 3\n\n" + b"x" * 5000)
    assert [await settle(steps.store) for _ in range(4)] == [2, 1, 1, 0]


async def test_a_report_is_marked_for_clearing_only_where_it_is_matched_and_the_settings_say_so(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    box = {"url": "imaps://receipts%40a.test@127.0.0.1", "password_file": str(tmp_path / "password")}
    async with open_steps(tmp_path, mailbox=[box | {"after": "seen"}]) as steps:
        taken = await steps.submitted()
        await steps.receive(dsn(taken.recipients[0].token), dsn("a" * 24))
        assert [row.clear for row in await _rows(steps)] == [True, False]


async def test_a_report_of_a_mailbox_that_is_no_longer_in_the_settings_is_settled(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    raw = dsn(taken.recipients[0].token)
    batch = [folders.Raw(1, steps.instant, len(raw), raw)]
    await steps.store.transact(
        lambda session: folders.keep(session, "gone", "INBOX", 1, batch, upto=1, now=steps.instant)
    )
    assert await settle(steps.store) == 1
    assert (await steps.recipient(taken)).receipt is Receipt.MET


async def test_fetching_waits_while_too_many_reports_or_octets_wait_to_be_settled(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await steps.store.query(reports.backlog) == (0, 0)
    await _keep(steps, b"Subject: x\n\none\n", b"Subject: x\n\ntwo\n")
    assert await steps.store.query(reports.backlog) == (2, 32)
    assert await steps.store.query(reports.has_room)
    for limit, most in (("MOST_WAITING", 2), ("MOST_WAITING_OCTETS", 32)):
        with monkeypatch.context() as few:
            few.setattr(reports, limit, most)
            assert not await steps.store.query(reports.has_room)
    with monkeypatch.context() as few:
        few.setattr(reports, "MOST_WAITING", 2)
        while await settle(steps.store):
            pass
        assert await steps.store.query(reports.has_room), "what is settled waits no more"
