"""What strangers can make us keep has an end, and what proves something is kept whole."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from receiptd import compose, telemetry
from receiptd.accept import SubmitOptions, accept
from receiptd.assign import assign
from receiptd.facts import Delivery, EventKind, MatchedBy, Verdict
from receiptd.interpret import interpret
from receiptd.models import EventCopy, EventRow, Evidence, Folder, Recipient, ReportRow
from receiptd.settle import settle
from receiptd.standing import RecipientRecord
from receiptd.store import evidence, folders, settlement
from receiptd.store.folders import Raw
from tests import recorded
from tests.api_fixture import open_api
from tests.steps_fixture import START, StepsFixture, dsn, open_steps

STRANGE = "z" * 24
LARGE = evidence.KEPT + 40_000


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


def _padded(raw: bytes, size: int = LARGE) -> bytes:
    """Return *raw* with a returned body behind all that it says, so that it has *size* bytes."""
    return raw + b"x" * (size - len(raw))


def _late(raw: bytes, size: int = LARGE) -> bytes:
    """Return the report *raw* with so long a text for people that what it says comes behind the first 64 kB."""
    return raw.replace(b"See below.", b"See below. " * (size // 11))


def _ordinary(word: str, size: int = LARGE) -> bytes:
    return _padded(f"From: eve@x.test\nSubject: {word}\n\nBuy! ".encode(), size)


def _two_tokens(one: str, other: str) -> bytes:
    return dsn(one, envelope_id=other)


async def _fetched(
    steps: StepsFixture, raw: bytes, *, uid: int, uidvalidity: int = 1, after: timedelta = timedelta()
) -> int:
    """Put *raw* into the store as a read of the mailbox does; return how many of it are new."""
    came = [Raw(uid, steps.instant + after, len(raw), raw)]
    kept = await steps.store.transact(
        lambda session: folders.keep(session, "receipts", "INBOX", uidvalidity, came, upto=uid, now=steps.instant)
    )
    return kept.new


async def _settle_all(steps: StepsFixture) -> None:
    while await settle(steps.store):
        pass


async def _set_aside(steps: StepsFixture, raw: bytes, *, uid: int, after: timedelta = timedelta()) -> None:
    """Let *raw* come, and let it have been begun so often that it is set aside."""
    await _fetched(steps, raw, uid=uid, after=after)
    async with steps.store.write() as session:
        for row in (await session.exec(select(ReportRow).where(ReportRow.uid == uid))).all():
            row.tries = settlement.MOST_READINGS
            session.add(row)
    await _settle_all(steps)


async def _rows(steps: StepsFixture) -> list[ReportRow]:
    async with steps.store.read() as session:
        return list((await session.exec(select(ReportRow).order_by(col(ReportRow.uid)))).all())


async def _kept(steps: StepsFixture, raw: bytes) -> Evidence | None:
    async with steps.store.read() as session:
        return await session.get(Evidence, hashlib.sha256(raw).hexdigest())


async def _is_cut(steps: StepsFixture, raw: bytes) -> bool:
    """Whether only the first part of *raw* is kept; it must be one or the other."""
    kept = await _kept(steps, raw)
    assert kept is not None
    assert kept.size == len(raw)
    assert kept.content == (raw[: evidence.KEPT] if kept.truncated else raw)
    return kept.truncated


# --- the first 64 kB ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", evidence.SPEAKS_OF_NOBODY)
async def test_of_a_report_that_speaks_of_nobody_the_first_64_kb_are_kept(
    steps: StepsFixture, verdict: Verdict
) -> None:
    bob, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    raw = _padded(
        {
            Verdict.UNMATCHED: dsn(STRANGE),
            Verdict.SUSPICIOUS: _two_tokens(bob.token, carol.token),
            Verdict.NOISE: _ordinary("hello"),
        }[verdict]
    )
    await steps.receive(raw)
    (row,) = await _rows(steps)
    assert (row.verdict, row.size, row.evidence) == (verdict, len(raw), hashlib.sha256(raw).hexdigest())
    assert await _is_cut(steps, raw)


async def test_what_proves_something_or_could_not_be_read_stays_whole(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted()).recipients
    proof, unread = _padded(dsn(bob.token)), _ordinary("unread")
    await steps.receive(proof)
    await _set_aside(steps, unread, uid=2)
    assert [row.verdict for row in await _rows(steps)] == [Verdict.MATCHED, Verdict.SET_ASIDE]
    assert not await _is_cut(steps, proof)
    assert not await _is_cut(steps, unread)


async def test_a_report_of_64_kb_is_not_cut(steps: StepsFixture) -> None:
    raw = _ordinary("hello", evidence.KEPT)
    await steps.receive(raw)
    assert not await _is_cut(steps, raw)


async def test_a_person_can_assign_what_a_report_said_behind_what_is_kept(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    (bob,) = taken.recipients
    raw = _late(dsn(STRANGE, action="failed", status="5.1.1"))
    await steps.receive(raw)
    assert not any(one.status for one in interpret(raw[: evidence.KEPT]).recipients)
    assert await _is_cut(steps, raw)
    (row,) = await _rows(steps)
    moved = await assign(steps.store, row.id, bob.id, by="uid:0", reason="the order number")
    assert moved.delivery is Delivery.FAILED
    (event,) = [one for one in (await steps.whole(taken)).events if one.matched_by is MatchedBy.PERSON]
    assert (event.detail["status"], event.evidence) == ("5.1.1", f"sha256:{row.evidence}")


@pytest.mark.parametrize("name", recorded.EXPECTED)
def test_what_any_report_says_is_recalled_as_it_was_read(name: str) -> None:
    raw = (recorded.FOLDER / name).read_bytes()
    said = interpret(raw)
    kept = Evidence(sha256="", size=len(raw), stored_at=START, said=evidence.words_of(said), content=raw)
    assert evidence.recall(kept) == said


async def test_words_that_are_as_long_as_a_report_are_not_kept_beside_it(steps: StepsFixture) -> None:
    raw = _padded(dsn(STRANGE))
    blocks = "".join(
        f"Final-Recipient: rfc822; {number}@b.test\nAction: failed\nDiagnostic-Code: smtp; 550 {'no ' * 300}\n\n"
        for number in range(300)
    )
    raw = raw.replace(b"Final-Recipient: rfc822; bob@b.test\n", f"Action: failed\n\n{blocks}".encode())
    await steps.receive(raw)
    kept = await _kept(steps, raw)
    assert kept is not None
    assert kept.truncated
    assert len(kept.said or b"") <= evidence.KEPT


# --- the same bytes twice -----------------------------------------------------------------------------------------


async def test_what_comes_again_is_read_whole_and_cut_again(steps: StepsFixture) -> None:
    raw = _late(dsn(STRANGE))
    await steps.receive(raw)
    assert await _fetched(steps, raw, uid=2, after=timedelta(seconds=9)) == 1
    assert not await _is_cut(steps, raw)
    await _settle_all(steps)
    assert [row.kind for row in await _rows(steps)] == ["dsn", "dsn"]
    assert await _is_cut(steps, raw)


async def test_bytes_on_which_something_else_rests_stay_whole(steps: StepsFixture) -> None:
    raw = _ordinary("unread")
    await _set_aside(steps, raw, uid=1)
    await _fetched(steps, raw, uid=2, after=timedelta(seconds=9))
    await _settle_all(steps)
    assert [row.verdict for row in await _rows(steps)] == [Verdict.SET_ASIDE, Verdict.NOISE]
    assert not await _is_cut(steps, raw)


async def test_our_own_message_stays_whole_though_it_comes_back(steps: StepsFixture) -> None:
    draft = compose.Draft(from_="office@a.test", to=("bob@b.test",), subject="A report", text="Word. " * LARGE)
    taken = await accept(steps.store, compose.compose(draft, now=steps.instant), SubmitOptions(owner="uid:1000"))
    async with steps.store.read() as session:
        content = (await session.get_one(Evidence, taken.message.evidence)).content
    await steps.receive(content)
    (row,) = await _rows(steps)
    assert (row.verdict, row.evidence) == (Verdict.NOISE, taken.message.evidence)
    assert not await _is_cut(steps, content)


async def test_a_folder_that_is_renumbered_brings_nothing_back_that_was_cut(steps: StepsFixture) -> None:
    raw = _ordinary("hello")
    await steps.receive(raw)
    assert await _fetched(steps, raw, uid=7, uidvalidity=2) == 0
    assert await _is_cut(steps, raw)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["proof", "strange", "hello"]), st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_in_whatever_order_the_same_bytes_come_only_what_speaks_of_nobody_is_cut(
    came: Sequence[tuple[str, bool, int]],
) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_steps(Path(folder)) as steps:
                (bob,) = (await steps.submitted()).recipients
                raws = {"proof": _padded(dsn(bob.token)), "strange": _late(dsn(STRANGE)), "hello": _ordinary("hello")}
                for uid, (name, is_set_aside, second) in enumerate(came, start=1):
                    after = timedelta(seconds=second)
                    if is_set_aside:
                        await _set_aside(steps, raws[name], uid=uid, after=after)
                    else:
                        await _fetched(steps, raws[name], uid=uid, after=after)
                        await _settle_all(steps)
                rows = await _rows(steps)
                for name in {name for name, _, _ in came}:
                    digest = hashlib.sha256(raws[name]).hexdigest()
                    verdicts = {row.verdict for row in rows if row.evidence == digest}
                    assert await _is_cut(steps, raws[name]) == verdicts.issubset(evidence.SPEAKS_OF_NOBODY)

    asyncio.run(play())


async def test_a_flood_leaves_a_database_of_bounded_size(steps: StepsFixture, tmp_path: Path) -> None:
    for start in range(0, 200, 20):
        await steps.receive(*(_ordinary(f"number {number}", 1 << 20) for number in range(start, start + 20)))
    assert len(await _rows(steps)) == 200
    on_disk = sum(path.stat().st_size for path in tmp_path.glob("receiptd.db*"))
    # 200 x 64 kB, and what is waiting to be read or to go from the log into the file: not 200 MB.
    assert on_disk < 80 << 20


# --- what the holder of a copy can make us keep ---------------------------------------------------------------------


def _distinct(raw: bytes, number: int, size: int = LARGE) -> bytes:
    """Return *raw* as other bytes that say the same."""
    return _padded(raw.replace(b"See below.", f"See {number}.".encode()), size)


async def _count(steps: StepsFixture, recipient: Recipient | RecipientRecord) -> int:
    """Return how often `delivered` was told of *recipient*."""
    of_it = select(EventRow.count).where(EventRow.recipient == recipient.id, EventRow.kind == EventKind.DELIVERED)
    async with steps.store.read() as session:
        return (await session.exec(of_it)).one()


async def _all_kept(steps: StepsFixture) -> dict[str, int]:
    """Return how many bytes are kept under each digest of a report."""
    async with steps.store.read() as session:
        reported = select(ReportRow.evidence)
        rows = (await session.exec(select(Evidence).where(col(Evidence.sha256).in_(reported)))).all()
    return {row.sha256: len(row.content) + len(row.said or b"") for row in rows}


async def test_of_a_report_that_repeats_an_event_the_first_64_kb_are_kept(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted()).recipients
    first, again = (_distinct(dsn(bob.token), number) for number in range(2))
    await _receive_one_by_one(steps, first, again)
    assert [row.verdict for row in await _rows(steps)] == [Verdict.MATCHED, Verdict.MATCHED]
    assert await _count(steps, bob) == 2
    assert not await _is_cut(steps, first)
    assert await _is_cut(steps, again)


async def test_further_events_of_a_kind_stay_whole_where_there_is_room(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted()).recipients
    raws = [_padded(dsn(bob.token, action="delayed", status=f"4.4.{number}")) for number in range(3)]
    await _receive_one_by_one(steps, *raws)
    assert [await _is_cut(steps, raw) for raw in raws] == [False] * 3


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    """Steps that keep 300 kB of what is known of a recipient already."""
    service = {"database": f"sqlite:///{tmp_path}/receiptd.db", "max_evidence": 300_000}
    async with open_steps(tmp_path, service=service) as steps:
        yield steps


@pytest.mark.parametrize("size", [LARGE, 5000])
@pytest.mark.parametrize("varies", [True, False])
async def test_one_recipients_holder_can_not_fill_the_disk(tight: StepsFixture, size: int, varies: bool) -> None:
    (bob,) = (await tight.submitted()).recipients
    raws = [
        _distinct(dsn(bob.token, action="delayed", status=f"4.4.{number if varies else 1}"), number, size)
        for number in range(80 if size < LARGE else 20)
    ]
    await _receive_one_by_one(tight, *raws)
    kept = await _all_kept(tight)
    first = hashlib.sha256(raws[0]).hexdigest()
    assert kept[first] == size, "the first of a kind is whole"
    assert 200_000 < sum(kept.values()) - size <= 300_000


async def test_beyond_the_limit_the_first_of_another_kind_is_still_whole(tight: StepsFixture) -> None:
    (bob,) = (await tight.submitted()).recipients
    await _receive_one_by_one(tight, *(_distinct(dsn(bob.token), number) for number in range(8)))
    failed = _padded(dsn(bob.token, action="failed", status="5.1.1"), 1 << 20)
    await _receive_one_by_one(tight, failed)
    assert not await _is_cut(tight, failed)
    assert (await _rows(tight))[-1].verdict is Verdict.MATCHED


async def test_what_is_beyond_the_limit_is_noise_that_says_why_and_goes_like_it(
    tight: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MOST", 3)
    (bob,) = (await tight.submitted()).recipients
    await _receive_one_by_one(tight, *(_distinct(dsn(bob.token), number) for number in range(12)))
    noise = [row for row in await _rows(tight) if row.verdict is Verdict.NOISE]
    assert len(noise) > 3
    assert {row.reason for row in noise} == {
        "it repeats what is known of this recipient, and [service] max_evidence is reached: it is only counted"
    }
    assert await _count(tight, bob) == 12
    assert await evidence.drop_oldest(tight.store) == {Verdict.NOISE: len(noise) - 3}


async def test_of_what_an_event_is_only_counted_for_nothing_is_kept(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiptd.recipients.move.MOST_EVENTS", 3)
    (bob,) = (await steps.submitted()).recipients
    raws = [_padded(dsn(bob.token, action="delayed", status=f"4.4.{number}")) for number in range(6)]
    await _receive_one_by_one(steps, *raws)
    kept = await _all_kept(steps)
    assert [kept[hashlib.sha256(raw).hexdigest()] for raw in raws] == [LARGE, LARGE, 0, 0, 0, 0]


async def test_a_copy_beyond_a_thousand_is_only_counted(steps: StepsFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_COPIES", 3)
    monkeypatch.setattr("receiptd.recipients.move.MOST_COPIES", 3)
    (bob,) = (await steps.submitted()).recipients
    await _receive_one_by_one(steps, *(_distinct(dsn(bob.token), number, 3000) for number in range(6)))
    assert await _count(steps, bob) == 6
    async with steps.store.read() as session:
        event = select(EventRow.id).where(EventRow.kind == EventKind.DELIVERED)
        assert len((await session.exec(select(EventCopy).where(EventCopy.event == event.scalar_subquery()))).all()) == 3
    assert [row.verdict for row in await _rows(steps)][-1] is Verdict.NOISE


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bob", "carol"]),
            st.sampled_from(["delivered", "delayed", "failed", "relayed"]),
            st.integers(0, 2),
            st.sampled_from([2000, 60_000, LARGE, 250_000]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_comes_each_recipient_keeps_the_first_of_a_kind_whole_and_so_much_beside_it(
    came: Sequence[tuple[str, str, int, int]],
) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            service = {"database": f"sqlite:///{folder}/receiptd.db", "max_evidence": 200_000}
            async with open_steps(Path(folder), service=service) as steps:
                taken = await steps.submitted("bob@b.test", "carol@c.test")
                people = dict(zip(("bob", "carol"), taken.recipients, strict=True))
                firsts: dict[tuple[str, str], bytes] = {}
                beside = dict.fromkeys(people, frozenset[str]())
                for number, (name, action, status, size) in enumerate(came):
                    one = people[name]
                    said = dsn(one.token, action=action, status=f"4.0.{status}", recipient=one.address)
                    raw = _distinct(said, number, size)
                    await _receive_one_by_one(steps, raw)
                    if firsts.setdefault((name, action), raw) is not raw:
                        beside[name] |= {hashlib.sha256(raw).hexdigest()}
                kept = await _all_kept(steps)
                for raw in firsts.values():
                    assert not await _is_cut(steps, raw)
                for digests in beside.values():
                    assert sum(kept[digest] for digest in digests) <= 200_000

    asyncio.run(play())


# --- no more than so many -----------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three reports of a verdict be enough, and let two go at once."""
    monkeypatch.setattr(evidence, "MOST", 3)
    monkeypatch.setattr(evidence, "_AT_ONCE", 2)


async def _receive_one_by_one(steps: StepsFixture, *raws: bytes) -> None:
    for raw in raws:
        steps.pass_time(seconds=1)
        await steps.receive(raw)


def _dropped(verdict: Verdict) -> float:
    return telemetry.REGISTRY.get_sample_value("receiptd_reports_dropped_total", {"verdict": verdict}) or 0


@pytest.mark.usefixtures("few")
async def test_beyond_the_limit_the_oldest_of_a_verdict_go_with_their_bytes(steps: StepsFixture) -> None:
    strange = [dsn(STRANGE, recipient=f"{number}@b.test") for number in range(8)]
    hello = [_ordinary(f"number {number}", 500) for number in range(4)]
    await _receive_one_by_one(steps, *strange, *hello)
    before = _dropped(Verdict.UNMATCHED)
    assert await evidence.drop_oldest(steps.store) == {Verdict.UNMATCHED: 5, Verdict.NOISE: 1}
    assert _dropped(Verdict.UNMATCHED) - before == 5
    left = {row.evidence for row in await _rows(steps)}
    assert left == {hashlib.sha256(raw).hexdigest() for raw in (*strange[5:], *hello[1:])}
    async with steps.store.read() as session:
        sent = {one.sha256 for one in (await session.exec(select(Evidence))).all()}
    assert sent == left
    assert await evidence.drop_oldest(steps.store) == {}


@pytest.mark.usefixtures("few")
async def test_what_is_matched_set_aside_assigned_or_not_read_yet_never_goes(steps: StepsFixture) -> None:
    bob, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    await _receive_one_by_one(steps, dsn(STRANGE, recipient="carol@c.test"), dsn(bob.token))
    assigned = (await _rows(steps))[0]
    await assign(steps.store, assigned.id, carol.id, by="uid:0", reason="the order number")
    await _set_aside(steps, _ordinary("unread", 500), uid=3)
    await _fetched(steps, _ordinary("new", 500), uid=4)
    old = {row.id for row in await _rows(steps)}
    async with steps.store.write() as session:
        for row in (await session.exec(select(ReportRow).where(ReportRow.uid == 4))).all():
            row.due_at = steps.instant + timedelta(hours=1)
            session.add(row)
    steps._uid = 4
    await _receive_one_by_one(steps, *(dsn(STRANGE, recipient=f"{number}@b.test") for number in range(6)))
    assert await evidence.drop_oldest(steps.store) == {Verdict.UNMATCHED: 3}
    assert old < {row.id for row in await _rows(steps)}
    for row in await _rows(steps):
        async with steps.store.read() as session:
            assert await session.get(Evidence, row.evidence) is not None


@pytest.mark.usefixtures("few")
async def test_bytes_that_came_twice_stay_while_one_of_the_reports_does(steps: StepsFixture) -> None:
    raw = _ordinary("unread", 500)
    await _set_aside(steps, raw, uid=1)
    await _fetched(steps, raw, uid=2, after=timedelta(seconds=9))
    steps._uid = 2
    await _receive_one_by_one(steps, *(_ordinary(f"number {number}", 500) for number in range(3)))
    assert await evidence.drop_oldest(steps.store) == {Verdict.NOISE: 1}
    assert (await _rows(steps))[0].verdict is Verdict.SET_ASIDE
    assert not await _is_cut(steps, raw)


@pytest.mark.usefixtures("few")
async def test_what_went_is_not_fetched_again_and_tells_nothing_twice_where_it_is(steps: StepsFixture) -> None:
    bob, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    raws = [
        _two_tokens(bob.token, carol.token).replace(b"See below.", f"Number {number}.".encode()) for number in range(5)
    ]
    await _receive_one_by_one(steps, *raws)
    told, received_at = await steps.told(), (await _rows(steps))[0].received_at
    assert await evidence.drop_oldest(steps.store) == {Verdict.SUSPICIOUS: 2}
    async with steps.store.read() as session:
        assert (await session.get_one(Folder, ("receipts", "INBOX"))).uid == 5
    await steps.receive(raws[0], received_at=received_at)
    assert (await _rows(steps))[-1].verdict is Verdict.SUSPICIOUS
    assert await steps.told() == told


async def test_one_sweep_takes_so_many_and_leaves_the_rest_to_the_next(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MOST", 1)
    monkeypatch.setattr(evidence, "_AT_ONCE", 2)
    monkeypatch.setattr(evidence, "_IN_A_SWEEP", 4)
    await _receive_one_by_one(steps, *(_ordinary(f"number {number}", 500) for number in range(8)))
    assert await evidence.drop_oldest(steps.store) == {Verdict.NOISE: 4}
    assert await evidence.drop_oldest(steps.store) == {Verdict.NOISE: 3}


# --- what people see of it ----------------------------------------------------------------------------------------


async def test_who_asks_for_a_report_is_told_how_much_of_it_is_kept(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        (bob,) = (await server.steps.submitted()).recipients
        raws = {
            "unmatched": _padded(dsn(STRANGE)),
            "noise": _ordinary("short", 500),
            "matched": _padded(dsn(bob.token)),
        }
        await server.steps.receive(*raws.values())
        items = (await server.api.get("/v1/reports")).json()["items"]
        assert {item["verdict"]: item["truncated"] for item in items} == {
            "unmatched": True,
            "noise": False,
            "matched": False,
        }
        for item in items:
            raw = raws[item["verdict"]]
            answer = await server.api.get(f"/v1/reports/{item['id']}/raw")
            assert item["size"] == len(raw)
            assert item["evidence"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            assert answer.content == (raw[: evidence.KEPT] if item["truncated"] else raw)
            said = f"{evidence.KEPT}/{len(raw)}" if item["truncated"] else None
            assert answer.headers.get("receiptd-truncated") == said


async def test_what_exceeded_max_report_is_shown_as_truncated_though_it_matched(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        (bob,) = (await server.steps.submitted()).recipients
        raw = dsn(bob.token)
        first = Raw(1, server.steps.instant, 60 << 20, raw, truncated=True)
        await server.steps.store.transact(
            lambda session: folders.keep(session, "receipts", "INBOX", 1, [first], upto=1, now=server.steps.instant)
        )
        await _settle_all(server.steps)
        (item,) = (await server.api.get("/v1/reports")).json()["items"]
        assert (item["verdict"], item["truncated"]) == ("matched", True)
        answer = await server.api.get(f"/v1/reports/{item['id']}/raw")
        assert answer.headers["receiptd-truncated"] == f"{len(raw)}/{60 << 20}"


@pytest.mark.usefixtures("few")
async def test_an_event_says_how_much_is_kept_of_the_report_it_rests_on(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        taken = await server.steps.submitted("bob@b.test", "carol@c.test")
        bob, carol = taken.recipients
        proof = dsn(carol.token, recipient="carol@c.test")
        cut = _padded(_two_tokens(bob.token, carol.token))
        await _receive_one_by_one(server.steps, proof, cut)

        async def lacks() -> dict[str, str | None]:
            events = (await server.api.get(f"/v1/messages/{taken.message.id}")).json()["events"]
            assert (await server.api.get(f"/v1/messages/{taken.message.id}/events")).json()["items"] == events
            told = [event for event in events if event["evidence"]]
            return {event["evidence"][7:]: event["detail"].get("evidence_kept") for event in told}

        first, second = (hashlib.sha256(raw).hexdigest() for raw in (proof, cut))
        assert await lacks() == {first: None, second: "part"}
        flood = (_two_tokens(bob.token, carol.token).replace(b"See", f"{number}".encode()) for number in range(3))
        await _receive_one_by_one(server.steps, *flood)
        assert await evidence.drop_oldest(server.steps.store) == {Verdict.SUSPICIOUS: 1}
        assert await lacks() == {first: None, second: "nothing"}
