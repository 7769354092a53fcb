"""Races: what two daemons on one PostgreSQL do at the same moment comes out as if one had done it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select, text

from receiptd import compose, decide
from receiptd.accept import AcceptedMessage, SubmitOptions, accept
from receiptd.escalate import escalate, monitor
from receiptd.facts import Delivery, EventKind, Fact, Source, Verdict
from receiptd.models import Alert, Attempt, EventRow, Folder, Recipient, ReportRow
from receiptd.recipients import Entry, Provenance, restore
from receiptd.recipients.record import record
from receiptd.settle import settle
from receiptd.store import Store, dispatches, ensure, evidence, folders, monitors, notices, submissions
from receiptd.store.monitors import Health, Outage
from tests.servers.postgres import Postgres
from tests.steps_fixture import StepsFixture, dsn, keep, open_steps

pytestmark = pytest.mark.postgresql

ROUNDS = 40


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


@pytest.fixture
async def nodes(steps: StepsFixture) -> AsyncIterator[list[Store]]:
    """Three daemons' stores on the database of *steps*."""
    async with AsyncExitStack() as closing:
        stores = [Store(steps.store.settings, clock=steps.clock) for _ in range(3)]
        for store in stores:
            closing.push_async_callback(store.close)
            async with store.read():
                pass  # a race needs connections that are there already
        yield stores


async def count(steps: StepsFixture, model: Any, *where: Any) -> int:
    async with steps.store.read() as session:
        return len((await session.exec(select(model).where(*where))).all())


async def at_once(works: Sequence[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*works))


async def test_two_readers_of_one_folder_keep_each_report_once(steps: StepsFixture, nodes: list[Store]) -> None:
    async def read(store: Store, folder: str, raws: Sequence[folders.Raw]) -> int:
        kept = await keep(store, "receipts", folder, 1, list(raws), upto=3, now=steps.instant)
        await store.transact(lambda session: folders.complete(session, "receipts", folder, steps.instant))
        return kept.new

    for number in range(ROUNDS):
        contents = [f"Subject: {number}/{uid}\n\nbody\n".encode() for uid in (1, 2, 3)]
        raws = [folders.Raw(uid, steps.instant, len(raw), raw) for uid, raw in enumerate(contents, 1)]
        assert sum(await at_once([read(node, f"F{number}", raws) for node in nodes])) == 3
    assert await count(steps, ReportRow) == 3 * ROUNDS
    assert await count(steps, Folder, Folder.uid == 3) == ROUNDS


async def test_a_folder_of_the_greatest_numbers_imap_has_is_read(steps: StepsFixture) -> None:
    """UID and UIDVALIDITY have 32 bits without a sign (RFC 9051 §2.3.1.1)."""
    most = 2**32 - 1
    raw = folders.Raw(most, steps.instant, 7, b"A: b\n\nc")
    await steps.store.transact(lambda session: folders.restart(session, "receipts", "INBOX", most))
    await keep(steps.store, "receipts", "INBOX", most, [raw], upto=most, now=steps.instant)
    assert await count(steps, ReportRow, ReportRow.uid == most, ReportRow.uidvalidity == most) == 1
    assert await count(steps, Folder, Folder.uid == most, Folder.uidvalidity == most) == 1


async def test_one_idempotency_key_is_one_message(steps: StepsFixture, nodes: list[Store]) -> None:
    async def take(store: Store, key: str) -> AcceptedMessage:
        draft = compose.Draft(from_="office@a.test", to=("bob@b.test",), subject=key, text="Good day.")
        letter = compose.compose(draft, now=steps.instant)
        options = SubmitOptions(owner="uid:1000", idempotency_key=key, fingerprint="f")
        return await accept(store, letter, options)

    for number in range(ROUNDS):
        taken = await at_once([take(node, f"key {number}") for node in nodes])
        assert len({one.message.id for one in taken}) == 1
        assert sorted(one.is_new for one in taken) == [False, False, True]
    assert await count(steps, Recipient) == ROUNDS


async def test_reports_that_several_settle_at_once_tell_each_fact_once(steps: StepsFixture, nodes: list[Store]) -> None:
    taken = await steps.submitted(*(f"r{number}@b.test" for number in range(ROUNDS)))
    batch = []
    for uid, row in enumerate(taken.recipients, 1):
        raw = dsn(row.token, recipient=row.address, action="failed", status="5.1.1")
        batch.append(folders.Raw(uid, steps.instant, len(raw), raw))
    await keep(steps.store, "receipts", "INBOX", 1, batch, upto=ROUNDS, now=steps.instant)

    async def work(store: Store) -> None:
        while await settle(store, limit=7):
            pass

    await at_once([work(node) for node in nodes])
    assert await count(steps, EventRow, EventRow.kind == EventKind.FAILED) == ROUNDS
    alerts = await steps.alerts()
    assert sum(len(alert.data.get("recipients", "1")) for alert in alerts) >= ROUNDS
    assert await count(steps, Recipient, Recipient.delivery == Delivery.FAILED) == ROUNDS


async def test_a_deadline_that_several_judge_at_once_is_one_alert(steps: StepsFixture, nodes: list[Store]) -> None:
    taken = await steps.submitted(*(f"r{number}@b{number}.test" for number in range(ROUNDS)))
    steps.pass_time(hours=5)
    await steps.read_all()
    await at_once([escalate(node) for node in nodes])
    assert await count(steps, EventRow, EventRow.kind == EventKind.OVERDUE) == ROUNDS
    told = Counter(alert.recipient for alert in await steps.alerts() if alert.recipient)
    assert set(told.values()) == {1}
    assert set(told) <= {row.id for row in taken.recipients}


async def test_a_dispatch_is_claimed_by_one(steps: StepsFixture, nodes: list[Store]) -> None:
    taken = await steps.submitted(*(f"r{number}@b{number}.test" for number in range(ROUNDS)))
    for row in taken.recipients:
        await steps.tell(row.id, EventKind.FAILED)
    steps.pass_time(minutes=5)
    claimed = await at_once([dispatches.claim(node, {"ops": 7}) for _ in range(5) for node in nodes])
    posts = [post.dispatch.id for posts in claimed for post in posts]
    assert len(posts) == len(set(posts))
    assert posts


async def test_a_recipient_is_taken_by_one_or_cancelled(steps: StepsFixture, nodes: list[Store]) -> None:
    taken = [await steps.take(f"r{number}@b.test") for number in range(ROUNDS)]

    async def submit(store: Store) -> list[str]:
        hold = store.settings.submission.uncertain_wait
        take = partial(submissions.take, node=store.node, now=steps.instant, hold=hold, limit=5)
        names: list[str] = []
        while works := await store.transact(take):
            names += [work.recipient.id for work in works]
        return names

    async def cancel(store: Store) -> list[str]:
        for one in taken:
            with suppress(decide.Pointless):  # it was taken
                await decide.cancel(store, one.message.id, by="uid:0")
        return []

    sent = [name for names in await at_once([submit(nodes[0]), cancel(nodes[1]), submit(nodes[2])]) for name in names]
    assert len(sent) == len(set(sent))
    async with steps.store.read() as session:
        rows = (await session.exec(select(Recipient.id, Recipient.delivery))).all()
        attempts = set((await session.exec(select(Attempt.recipient))).all())
    cancelled = {name for name, delivery in rows if delivery is Delivery.CANCELLED}
    assert not cancelled & attempts
    assert cancelled | attempts == {name for name, _ in rows}
    assert attempts == set(sent)


async def test_what_several_cant_see_is_one_alert_and_so_is_its_end(steps: StepsFixture, nodes: list[Store]) -> None:
    async def blind(store: Store, subject: str, number: int) -> bool:
        sight = Outage(
            since=steps.instant + timedelta(milliseconds=number), reason="no answer"
        )  # each saw it by itself
        async with store.write() as session:
            return await monitors.blind(session, store.settings, subject, sight, now=steps.instant)

    async def clear(store: Store, subject: str) -> bool:
        async with store.write() as session:
            return await monitors.clear(session, store.settings, subject, now=steps.instant)

    for number in range(ROUNDS):
        subject = f"relay:{number}"
        assert sum(await at_once([blind(node, subject, i) for i, node in enumerate(nodes)])) == 1
        async with steps.store.write() as session:  # somebody was told
            await session.exec(text("UPDATE dispatch SET attempts = 1"))  # type: ignore[call-overload]
        assert sum(await at_once([clear(node, subject) for node in nodes])) == 1
    assert await count(steps, Alert) == 2 * ROUNDS


async def test_a_mailbox_that_another_daemon_cant_read_is_not_cleared_by_one_that_does_not_read_it(
    steps: StepsFixture, nodes: list[Store]
) -> None:
    await steps.read_all()

    async def look(store: Store, health: Health) -> None:
        healthy = Health("relay:relay"), Health("clock:clock")
        box = {"receipts": health}
        await monitor(store, healthy[0], box, healthy[1], started_at=steps.instant)

    down = Health("mailbox:receipts")
    down.down(steps.instant, "the password is wrong", permanent=True)
    await look(nodes[0], down)
    async with steps.store.write() as session:
        await session.exec(text("UPDATE dispatch SET attempts = 1"))  # type: ignore[call-overload]
    await look(nodes[1], Health("mailbox:receipts"))
    assert [alert.type for alert in await steps.alerts()] == ["monitor.blind"]
    steps.pass_time(seconds=5)
    await steps.read_all()
    await look(nodes[1], Health("mailbox:receipts"))
    assert [alert.type for alert in await steps.alerts()] == ["monitor.blind", "monitor.clear"]


async def test_daemons_of_one_machine_that_start_at_once_all_start(
    steps: StepsFixture, nodes: list[Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    for _ in range(ROUNDS):
        starts = await at_once([restore.begin(node) for node in nodes])
        assert [start.held for start in starts] == [0, 0, 0]
        for node in nodes:
            assert node.ledger is not None
            node.ledger.close()
            node.ledger = None
        async with steps.store.write() as session:
            await session.exec(text("DELETE FROM lease"))  # type: ignore[call-overload]


async def test_tables_that_several_make_at_once_are_made_once(postgres: Postgres) -> None:
    url = postgres.empty_database()
    await at_once([asyncio.to_thread(ensure, url) for _ in range(4)])
    postgres.drop(url)


async def test_several_who_sweep_at_once_drop_no_more_than_one_would(
    steps: StepsFixture, nodes: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MOST", 10)
    batch = [folders.Raw(uid, steps.instant, 20, f"Subject: {uid}\n\nspam\n".encode()) for uid in range(1, ROUNDS + 1)]
    await keep(steps.store, "receipts", "INBOX", 1, batch, upto=ROUNDS, now=steps.instant)
    while await settle(steps.store):
        pass
    verdict = (await _verdicts(steps)).most_common(1)[0][0]
    assert (await _verdicts(steps))[verdict] == ROUNDS
    await at_once([evidence.drop_oldest(node) for node in nodes])
    assert (await _verdicts(steps))[verdict] == 10


async def _verdicts(steps: StepsFixture) -> Counter[Verdict | None]:
    async with steps.store.read() as session:
        return Counter(row.verdict for row in (await session.exec(select(ReportRow))).all())


async def test_a_transaction_that_lost_a_deadlock_is_done_again(steps: StepsFixture, nodes: list[Store]) -> None:
    """The order of locks rules deadlocks out; an administrator's statement may make one all the same."""
    one, other = [(await steps.take(to)).recipients[0].id for to in ("a@b.test", "c@b.test")]
    barrier = asyncio.Barrier(2)
    loop = asyncio.get_running_loop()

    def cross(session: Session, first: str, second: str, tries: list[int]) -> None:
        tries.append(1)
        statement = text("UPDATE recipient SET attempts = attempts + 1 WHERE id = :id")
        session.connection().execute(statement, {"id": first})
        if len(tries) == 1:
            asyncio.run_coroutine_threadsafe(barrier.wait(), loop).result(10)
        session.connection().execute(statement, {"id": second})

    tries: list[int] = []
    there, back = list[int](), list[int]()
    await at_once(
        [
            nodes[0].transact(partial(cross, first=one, second=other, tries=there)),
            nodes[1].transact(partial(cross, first=other, second=one, tries=back)),
        ]
    )
    tries = there + back
    assert len(tries) == 3
    assert await count(steps, Recipient, Recipient.attempts == 2) == 2
    assert nodes[0].trouble is None
    assert nodes[1].trouble is None


async def test_a_transaction_that_is_rolled_back_each_time_fails_in_the_end(steps: StepsFixture) -> None:
    tries: list[int] = []

    def work(session: Session) -> None:
        tries.append(1)
        session.connection().execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(OperationalError):
        await steps.store.transact(work)
    assert len(tries) == 5


@pytest.mark.timeout(120)
async def test_no_order_of_sets_makes_a_deadlock(steps: StepsFixture, postgres: Postgres) -> None:
    """Many tasks of three daemons record overlapping sets, resent copies and open incidents among them, while
    others judge deadlines and claim dispatches: docs/design.md says in which order all of them lock."""
    rng = random.Random(9)
    taken = await steps.submitted(*(f"r{number}@b{number % 7}.test" for number in range(30)))
    rows = [row.id for row in taken.recipients]
    for row in rows[::3]:
        await steps.tell(row, EventKind.FAILED)
    again = await decide.resend(steps.store, taken.message.id, by="uid:0")
    copies = [row.id for row in again.recipients]
    steps.pass_time(hours=5)
    await steps.read_all()
    everyone = rows + copies
    kinds = (EventKind.RELAYED, EventKind.DELIVERED, EventKind.DELAYED)
    facts = [(one, kind) for one in everyone for kind in kinds] * 3
    rng.shuffle(facts)
    sets = [facts[start : start + 12] for start in range(0, len(facts), 12)]

    async def tell(store: Store, chosen: Sequence[tuple[str, EventKind]]) -> None:
        entries = [
            Entry(one, [Fact(one, kind, Source.DSN)], Provenance(f"{kind}", steps.instant)) for one, kind in chosen
        ]
        await store.transact(lambda session: record(session, store.settings, entries, now=steps.instant))

    stores = [Store(steps.store.settings, clock=steps.clock) for _ in range(3)]
    try:
        await at_once(
            [
                *(tell(stores[number % 3], chosen) for number, chosen in enumerate(sets)),
                *(escalate(store) for store in stores for _ in range(3)),
                *(dispatches.claim(store, {"ops": 5, "boss": 5}) for store in stores for _ in range(5)),
            ]
        )
    finally:
        for store in stores:
            await store.close()
    async with steps.store.read() as session:
        found = await session.exec(select(EventRow.recipient, EventRow.kind).where(EventRow.source == Source.DSN))
        told = Counter(found.all())
        delivery = dict((await session.exec(select(Recipient.id, Recipient.delivery))).all())
    assert {key: told[key] for key in facts} == dict.fromkeys(facts, 1)
    failed = set(rows[::3])
    assert {delivery[one] for one in everyone if one not in failed} == {Delivery.DELIVERED}
    assert {delivery[one] for one in failed} == {Delivery.CONTRADICTED}
    database = str(steps.store.url.database)
    assert postgres.execute(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database}'") == [(0,)]


async def test_what_one_daemon_takes_wakes_the_others_at_once(steps: StepsFixture, nodes: list[Store]) -> None:
    woken: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.create_task(notices.listen(nodes[1], woken.put_nowait, asyncio.Event()))
    try:
        async with asyncio.timeout(20):
            while woken.empty():  # until it listens
                await nodes[0].transact(partial(notices.tell, step="monitor"))
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        while not woken.empty():
            woken.get_nowait()
        taken = await steps.take()
        async with asyncio.timeout(1):
            assert await woken.get() == "submit"
        await steps.tell(taken.recipients[0].id, EventKind.FAILED)
        async with asyncio.timeout(1):
            assert await woken.get() == "deliver"
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
