"""Queued recipients to a scripted relay: what each answer means, and that nothing is sent twice or lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from structlog.testing import capture_logs

from receiptd import compose, decide
from receiptd.accept import AcceptedMessage, SubmitOptions, accept
from receiptd.facts import Cause, Delivery, Event, EventKind, Level, Receipt, Trust
from receiptd.models import Attempt, Message, Recipient
from receiptd.recipients import attempts
from receiptd.smtp import Relay
from receiptd.standing import RecipientRecord
from receiptd.store import submissions
from receiptd.store.monitors import Health
from receiptd.store.submissions import Due, fair_share
from receiptd.submit import backoff, submit
from receiptd.watchdog import Watchdog
from tests.fake_smtp import EVERYTHING, Drop, FakeSMTP, Hang, Later, When
from tests.statements import Statements
from tests.steps_fixture import START, StepsFixture, dsn, open_steps
from tests.test_smtp import LeapingClock

NO_DSN = tuple(word for word in EVERYTHING if word != "DSN")


class Post:
    """The steps with a relay behind them."""

    def __init__(self, steps: StepsFixture, smtp: FakeSMTP) -> None:
        self.steps, self.smtp = steps, smtp
        self.relay = Relay(steps.store.settings.submission)
        self.health = Health("relay:relay")
        self.wake, self.stop, self.watchdog = asyncio.Event(), asyncio.Event(), Watchdog()

    async def submit(self) -> int:
        return await submit(
            self.steps.store, self.relay, self.health, wake=self.wake, stop=self.stop, watchdog=self.watchdog
        )

    async def events(self, taken: AcceptedMessage) -> list[Event]:
        return list((await self.steps.whole(taken)).events)

    async def kinds(self, taken: AcceptedMessage) -> list[EventKind]:
        return [event.kind for event in await self.events(taken)]

    async def attempts(self, row: Recipient | RecipientRecord) -> list[Attempt]:
        async with self.steps.store.read() as session:
            found = (await session.exec(select(Attempt).where(Attempt.recipient == row.id))).all()
        return sorted(found, key=lambda attempt: attempt.id)

    async def standing(self, taken: AcceptedMessage, number: int = 0) -> tuple[Delivery, Receipt]:
        row = await self.steps.recipient(taken, number)
        return row.delivery, row.receipt

    async def reached_dot(self, number: int) -> None:
        """Wait until so many messages were transmitted to their final dot."""
        while len(self.smtp.messages) < number:
            await asyncio.sleep(0.002)


@asynccontextmanager
async def posted(folder: Path, *, ehlo: Iterable[str] = EVERYTHING, **changes: Any) -> AsyncIterator[Post]:
    async with FakeSMTP(ehlo=ehlo) as smtp:
        submission = {"url": f"smtp://127.0.0.1:{smtp.port}"} | changes.pop("submission", {})
        async with open_steps(folder, submission=submission, **changes) as steps:
            post = Post(steps, smtp)
            try:
                yield post
            finally:
                await post.relay.close()


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with posted(tmp_path) as post:
        yield post


# --- accepted -----------------------------------------------------------------------------------------------------


async def test_each_recipient_gets_an_envelope_of_its_own(post: Post) -> None:
    taken = await post.steps.take("bob@b.test", "carol@c.test")
    assert await post.submit() == 2
    for row in taken.recipients:
        (mail,) = [line for line in post.smtp.said("MAIL") if row.token in line]
        assert f"FROM:<receipts+{row.token}@a.test>" in mail
        assert f"RET=HDRS ENVID={row.envelope_id}" in mail
        (rcpt,) = [line for line in post.smtp.said("RCPT") if row.address in line]
        assert rcpt == f"RCPT TO:<{row.address}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{row.address}"
        (copy,) = [raw for raw in post.smtp.messages if row.token.encode() in raw]
        assert f"Disposition-Notification-To: <receipts+{row.token}@a.test>".encode() in copy
    first, second = (raw.partition(b"\r\n\r\n")[2] for raw in post.smtp.messages)
    assert first == second


@pytest.mark.parametrize("subaddress", ["+", "-", "@", ""])
async def test_a_read_receipt_is_asked_to_the_return_path_letter_for_letter(tmp_path: Path, subaddress: str) -> None:
    """RFC 8098 §2.1: where the two differ, no automatic answer may come; the case of a local part is a difference."""
    receipts = {"address": "Receipts@a.test", "subaddress": subaddress}
    async with posted(tmp_path, receipts=receipts) as post:
        await post.steps.take()
        await post.submit()
        (mail,), (raw,) = post.smtp.said("MAIL"), post.smtp.messages
        return_path = mail.partition("<")[2].partition(">")[0]
        asked = [line for line in raw.split(b"\r\n") if line.startswith(b"Disposition-Notification-To:")]
        assert asked == [f"Disposition-Notification-To: <{return_path}>".encode()]


async def test_a_read_receipt_asked_of_one_recipient_stands_in_no_other_copy(tmp_path: Path) -> None:
    """RFC 8098 §2.1: who shall not be asked gets a copy without the request, in an envelope of its own."""
    async with posted(tmp_path, receipts={"address": "receipts@a.test", "mdn": "required"}) as post:
        draft = compose.Draft(from_="office@a.test", to=("bob@b.test",), bcc=("eve@e.test",), text="x")
        letter = compose.compose(draft, now=START)
        taken = await accept(post.steps.store, letter, SubmitOptions(owner="uid:1", require=Level.DISPLAYED))
        assert await post.submit() == 2
        assert [row.mdn_requested for row in taken.recipients] == [True, False]
        (asking,) = [raw for raw in post.smtp.messages if b"Disposition-Notification-To" in raw]
        assert taken.recipients[0].token.encode() in asking
        assert [len(post.smtp.said(verb)) for verb in ("MAIL", "RCPT", "DATA")] == [2, 2, 2]


async def test_accepted_is_kept_with_its_dialogue_and_starts_the_clock(post: Post) -> None:
    taken = await post.steps.take()
    await post.submit()
    row = await post.steps.recipient(taken)
    assert (row.delivery, row.level, row.dsn_requested) == (Delivery.ACCEPTED, "accepted", True)
    assert (row.submitted_at, row.deadline_at) == (START, START + timedelta(hours=4))
    assert (row.next_attempt_at, row.claimed_by) == (None, None)
    accepted = (await post.events(taken))[-1]
    assert accepted.detail["reply"] == "250 2.0.0 Ok: queued as 4XyZ1"
    assert "S: 250 2.0.0 Ok: queued as 4XyZ1" in accepted.detail["dialogue"]
    (attempt,) = await post.attempts(row)
    assert (attempt.outcome, attempt.reply_code, attempt.finished_at) == ("accepted", 250, START)
    assert await post.submit() == 0


async def test_a_relay_without_dsn_is_noted_on_the_recipient(tmp_path: Path) -> None:
    async with posted(tmp_path, ehlo=NO_DSN) as post:
        taken = await post.steps.take()
        await post.submit()
        assert (await post.steps.recipient(taken)).dsn_requested is False
        assert "ENVID" not in "".join(post.smtp.lines)


async def test_where_the_settings_say_refuse_a_relay_without_dsn_fails_the_message(tmp_path: Path) -> None:
    async with posted(tmp_path, ehlo=NO_DSN, submission={"without_dsn": "refuse"}) as post:
        taken = await post.steps.take()
        await post.submit()
        assert await post.standing(taken) == (Delivery.FAILED, Receipt.FAILED)
        assert (await post.steps.recipient(taken)).dsn_requested is False
        assert post.smtp.messages == []
        assert [kind for kind, _, _ in await post.steps.told()] == ["receipt.failed"]


async def test_a_report_or_automatic_answer_asks_for_no_receipt(post: Post) -> None:
    raw = b"From: office@a.test\nTo: bob@b.test\nAuto-Submitted: auto-replied\nSubject: away\n\nI am away.\n"
    taken = await accept(post.steps.store, compose.adopt(raw, now=START), SubmitOptions(owner="uid:1"))
    await post.submit()
    (row,) = taken.recipients
    assert (row.require, row.mdn_requested) == ("accepted", False)
    assert "NOTIFY" not in "".join(post.smtp.lines)
    assert b"Disposition-Notification-To" not in post.smtp.messages[0]
    assert await post.standing(taken) == (Delivery.ACCEPTED, Receipt.MET)


async def test_without_sub_addresses_the_token_travels_in_a_header(tmp_path: Path) -> None:
    async with posted(tmp_path, receipts={"address": "receipts@a.test", "subaddress": ""}) as post:
        (row,) = (await post.steps.take()).recipients
        await post.submit()
        assert f"Receipt-Token: {row.token}\r\n".encode() in post.smtp.messages[0]
        assert "FROM:<receipts@a.test>" in post.smtp.said("MAIL")[0]


async def test_the_id_that_a_relay_gives_the_message_is_kept(post: Post) -> None:
    taken = await post.steps.take()
    post.smtp.script["."] = ["250 2.6.0 <new@relay.test> [InternalId=7] Queued mail for delivery"]
    await post.submit()
    (attempt,) = await post.attempts(taken.recipients[0])
    assert attempt.alias_message_id == "<new@relay.test>"


@pytest.mark.parametrize("step", [None, Drop()])
async def test_the_deadlines_clock_starts_at_the_final_dot_and_not_before_data(
    post: Post, step: Drop | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay lets us wait for a second before it takes the content, and for another before it answers the dot."""
    began = datetime.now(UTC)
    monkeypatch.setattr(post.steps.store, "now", lambda: START + (datetime.now(UTC) - began))
    taken = await post.steps.take()
    post.smtp.script |= {"DATA": [Later(1, "354 go on")], ".": [step or Later(1, "250 2.0.0 Ok: queued as 4XyZ1")]}
    assert await post.submit() == 1
    row = await post.steps.recipient(taken)
    assert row.submitted_at is not None
    assert row.deadline_at == row.submitted_at + timedelta(hours=4)
    assert timedelta(seconds=1) <= row.submitted_at - START < timedelta(seconds=1.9)
    (attempt,) = await post.attempts(row)
    assert attempt.started_at - START < timedelta(seconds=0.9)


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "reply", "place"),
    [
        ("RCPT", "550 5.1.1 no such user", "rcpt"),
        ("DATA", "554 5.7.1 no", "data"),
        (".", "554 5.6.0 looks like spam", "data"),
        (".", "552 5.3.4 too big", "size"),
    ],
)
async def test_a_refusal_of_this_recipient_or_message_is_a_failure_at_once(
    post: Post, verb: str, reply: str, place: str
) -> None:
    taken = await post.steps.take()
    post.smtp.script[verb] = [reply]
    assert await post.submit() == 1
    assert await post.standing(taken) == (Delivery.FAILED, Receipt.FAILED)
    failed = (await post.events(taken))[-1]
    assert (failed.kind, failed.trust, failed.detail["place"]) == (EventKind.FAILED, Trust.KEYED, place)
    assert (failed.detail["reply_code"], failed.detail["status"]) == (int(reply[:3]), reply.split()[1])
    assert await post.steps.told() == [("receipt.failed", 1, ("ops",))]
    post.steps.pass_time(days=1)
    assert await post.submit() == 0
    assert post.health.is_up


async def test_a_refusal_says_its_cause_in_the_events_detail_and_in_words(post: Post) -> None:
    taken = await post.steps.take()
    post.smtp.script["RCPT"] = ["550 5.1.2 Host or domain name not found"]
    await post.submit()
    failed = (await post.events(taken))[-1]
    assert failed.detail["cause"] == Cause.HOST_UNKNOWN
    (alert,) = await post.steps.alerts()
    said = "The submission server refused the message for this recipient: the domain has no mail server (5.1.2)."
    assert alert.data["reason"] == (await post.steps.recipient(taken)).reason == said


async def test_a_deferral_says_its_cause_while_it_waits_and_when_it_ends(post: Post) -> None:
    taken = await post.steps.take()
    post.smtp.script["RCPT"] = ["452 4.2.2 Mailbox full"] * 2
    await post.submit()
    put_off = "The submission server put the message off for this recipient"
    assert (await post.events(taken))[-1].detail["cause"] == Cause.MAILBOX_FULL
    waiting = await post.steps.recipient(taken)
    assert waiting.reason == f"{put_off}: the mailbox is full (4.2.2); it is tried again."
    post.steps.pass_time(days=5)
    await post.submit()
    failed = await post.steps.recipient(taken)
    ended = "until the time for trying ran out; the last reason: the mailbox is full (4.2.2)."
    assert failed.reason == f"{put_off} {ended}"


async def test_one_refused_recipient_leaves_the_others_alone(post: Post) -> None:
    taken = await post.steps.take("bob@b.test", "carol@c.test", "dave@d.test")
    post.smtp.script["RCPT"] = ["550 5.1.1 no such user"]
    assert await post.submit() == 3
    standing = sorted([(await post.standing(taken, number))[0] for number in range(3)])
    assert standing == [Delivery.ACCEPTED, Delivery.ACCEPTED, Delivery.FAILED]


async def test_a_deferral_waits_longer_each_time(post: Post) -> None:
    taken = await post.steps.take()
    post.smtp.script["RCPT"] = ["450 4.2.0 greylisted"] * 3
    waits = []
    for _ in range(3):
        await post.submit()
        row = await post.steps.recipient(taken)
        assert (row.delivery, row.receipt) == (Delivery.DEFERRED, Receipt.OPEN)
        assert row.next_attempt_at is not None
        waits.append((row.next_attempt_at - post.steps.instant).total_seconds() / 60)
        post.steps.instant = row.next_attempt_at - timedelta(seconds=1)
        assert await post.submit() == 0, "not before its time"
        post.steps.pass_time(seconds=1)
    assert all(0.9 * usual <= wait <= 1.1 * usual for wait, usual in zip(waits, (1, 2, 4), strict=True)), waits
    await post.submit()
    assert await post.standing(taken) == (Delivery.ACCEPTED, Receipt.OPEN)
    (deferred,) = [event for event in await post.events(taken) if event.kind is EventKind.DEFERRED]
    assert deferred.count == 3, "one fact, three times told"
    assert await post.steps.alerts() == []


def test_the_longest_wait_is_half_an_hour() -> None:
    for tried in (5, 10, 100, 10_000):
        assert timedelta(minutes=27) <= backoff(tried) <= timedelta(minutes=33)


async def test_what_is_put_off_beyond_give_up_fails(post: Post) -> None:
    taken = await post.steps.take()
    post.steps.pass_time(days=5)
    post.smtp.script["RCPT"] = ["450 4.2.0 try later"]
    await post.submit()
    assert await post.standing(taken) == (Delivery.FAILED, Receipt.FAILED)
    assert [attempt.outcome for attempt in await post.attempts(taken.recipients[0])] == ["refused"]


# --- the relay is down --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "step", "permanent"),
    [
        ("CONNECT", "554 5.7.1 go away", True),
        ("CONNECT", Drop(), False),
        ("MAIL", "550 5.7.1 not you", True),
        ("MAIL", "421 4.3.2 shutting down", False),
        ("RCPT", "530 5.7.0 Authentication required", True),
        ("DATA", "421 4.3.2 shutting down", False),
        ("DATA", Drop(), False),
    ],
)
async def test_what_is_about_us_fails_nothing(post: Post, verb: str, step: str | Drop, permanent: bool) -> None:
    taken = await post.steps.take("bob@b.test", "carol@c.test")
    post.smtp.script[verb] = [step] * 4
    assert await post.submit() == 0
    for number in range(2):
        row = await post.steps.recipient(taken, number)
        assert (row.delivery, row.receipt, row.claimed_by) == (Delivery.QUEUED, Receipt.OPEN, None)
        assert row.next_attempt_at is not None
    assert not post.health.is_up
    assert post.health.permanent is permanent
    assert await post.steps.alerts() == []
    post.smtp.script.clear()
    post.steps.pass_time(minutes=5)
    assert await post.submit() == 2
    assert post.health.is_up
    assert len(post.smtp.messages) == 2


async def test_a_relay_that_is_down_and_works_again_is_each_told_once(post: Post) -> None:
    await post.steps.take("bob@b.test", "carol@c.test")
    post.smtp.script["CONNECT"] = ["554 5.7.1 go away"] * 4
    with capture_logs() as told:
        await post.submit()
        post.smtp.script.clear()
        post.steps.pass_time(minutes=5)
        await post.submit()
    assert [line["event"] for line in told] == ["the relay can't be used", "the relay can be used again"]


async def test_what_never_reached_the_wire_does_not_say_that_the_relay_works(post: Post) -> None:
    post.health.down(post.steps.instant, "gone", permanent=False)
    post.steps.pass_time(minutes=5)
    taken = await post.steps.take()
    async with post.steps.store.write() as session:  # as an earlier release took it
        (await session.get_one(Message, taken.message.id)).longest_line = 2000
    await post.submit()
    assert not post.health.is_up


async def test_the_journal_has_a_line_for_what_the_relay_did_not_take_and_names_nobody(post: Post) -> None:
    taken = await post.steps.take("bob@b.test", "carol@c.test")
    post.smtp.script["RCPT"] = ["550 5.1.1 <bob@b.test> is no such user"]
    with capture_logs() as told:
        await post.submit()
    (line,) = told
    assert (line["outcome"], line["reply_code"], line["status"]) == ("refused", 550, "5.1.1")
    assert (line["message"], line["log_level"]) == (taken.message.id, "info")
    assert "@" not in repr(line)


async def test_while_the_relay_is_down_one_recipient_at_a_time_asks(post: Post) -> None:
    await post.steps.take(*(f"u{n}@b.test" for n in range(9)))
    post.smtp.script["CONNECT"] = ["554 5.7.1 go away"] * 99
    await post.submit()
    post.steps.pass_time(minutes=5)
    before = post.smtp.connections
    await post.submit()
    assert post.smtp.connections == before + 1
    await post.submit()
    assert post.smtp.connections == before + 1, "it is left alone for a while"


async def test_when_the_relay_is_back_everything_held_for_it_goes_at_once(post: Post) -> None:
    await post.steps.take(*(f"u{n}@b.test" for n in range(30)))
    post.smtp.script["CONNECT"] = ["421 4.3.2 shutting down"] * 999
    for _ in range(40):
        await post.submit()
        post.steps.pass_time(seconds=10)
    await post.submit()
    post.smtp.script.clear()
    post.health.retry_at = None  # as `receiptd retry` of any message does
    assert await post.submit() == 30


@pytest.mark.parametrize(("permanent", "seconds"), [(False, 30), (True, 300)])
def test_a_relay_that_is_down_is_asked_again_within_half_a_minute_and_one_that_refuses_us_within_five(
    permanent: bool, seconds: int
) -> None:
    health, waits = Health("relay:relay"), list[float]()
    for _ in range(20):
        health.down(START, "gone", permanent=permanent)
        assert health.retry_at is not None
        waits.append((health.retry_at - START).total_seconds())
    assert (waits[0], waits[-1]) == (2, seconds)


async def test_transactions_that_fail_together_are_one_failure_of_the_relay(post: Post) -> None:
    await post.steps.take(*(f"u{n}@b.test" for n in range(20)))
    post.smtp.script["CONNECT"] = ["421 4.3.2 shutting down"] * 99
    await post.submit()
    assert post.health.failures == 1


async def test_while_the_relay_is_asked_whether_it_is_back_nobody_else_asks(post: Post) -> None:
    await post.steps.take(*(f"u{n}@b.test" for n in range(9)))
    post.health.down(post.steps.instant, "gone", permanent=False)
    post.steps.pass_time(minutes=5)
    post.smtp.script["CONNECT"] = [Hang()] * 99
    asking = asyncio.create_task(post.submit())
    for _ in range(5):
        await asyncio.sleep(0.02)
        post.wake.set()
    assert post.smtp.connections == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


# --- uncertain ----------------------------------------------------------------------------------------------------


async def _uncertain(post: Post) -> AcceptedMessage:
    taken = await post.steps.take()
    post.smtp.script["."] = [Drop()]
    assert await post.submit() == 1
    assert await post.standing(taken) == (Delivery.UNCERTAIN, Receipt.OPEN)
    return taken


async def test_no_answer_to_the_final_dot_is_uncertain_and_the_clock_runs(post: Post) -> None:
    taken = await _uncertain(post)
    row = await post.steps.recipient(taken)
    assert (row.submitted_at, row.deadline_at) == (START, START + timedelta(hours=4))
    assert row.next_attempt_at == START + timedelta(minutes=15)
    (attempt,) = await post.attempts(row)
    assert attempt.outcome == "uncertain"
    assert await post.steps.alerts() == []


async def test_what_is_uncertain_is_sent_again_after_the_wait_byte_for_byte(post: Post) -> None:
    taken = await _uncertain(post)
    post.steps.pass_time(minutes=14, seconds=59)
    assert await post.submit() == 0
    post.steps.pass_time(seconds=1)
    assert await post.submit() == 1
    first, second = post.smtp.messages
    assert first == second
    assert len(set(post.smtp.said("MAIL"))) == len(set(post.smtp.said("RCPT"))) == 1
    row = await post.steps.recipient(taken)
    assert (row.delivery, row.submitted_at) == (Delivery.ACCEPTED, START), "the clock started at the first dot"


async def test_a_report_proves_what_was_uncertain_and_forbids_a_second_copy(post: Post) -> None:
    taken = await _uncertain(post)
    await post.steps.receive(dsn(taken.recipients[0].token, action="relayed"))
    post.steps.pass_time(hours=1)
    assert await post.submit() == 0
    assert await post.standing(taken) == (Delivery.RELAYED, Receipt.MET)


@pytest.mark.parametrize(("verb", "reply"), [("RCPT", "550 5.1.1 no such user"), (".", "554 5.6.0 seen already")])
async def test_a_refusal_of_the_second_copy_leaves_it_uncertain_and_is_told_unproven(
    post: Post, verb: str, reply: str
) -> None:
    taken = await _uncertain(post)
    post.steps.pass_time(minutes=15)
    post.smtp.script[verb] = [reply]
    assert await post.submit() == 1
    assert await post.standing(taken) == (Delivery.UNCERTAIN, Receipt.OPEN)
    (alert,) = await post.steps.alerts()
    assert (alert.type, alert.data["unproven"]) == ("receipt.failed", True)
    post.steps.pass_time(days=6)
    assert await post.submit() == 0


async def test_a_second_copy_that_is_put_off_is_tried_again_and_stays_uncertain(post: Post) -> None:
    taken = await _uncertain(post)
    post.steps.pass_time(minutes=15)
    post.smtp.script["RCPT"] = ["450 4.2.0 later"]
    await post.submit()
    assert (await post.standing(taken))[0] is Delivery.UNCERTAIN
    post.steps.pass_time(minutes=5)
    await post.submit()
    assert (await post.standing(taken))[0] is Delivery.ACCEPTED


@pytest.mark.sqlite
async def test_an_attempt_that_a_crash_left_in_data_is_uncertain_at_the_next_start(post: Post) -> None:
    taken = await post.steps.take()
    await post.steps.claim(1)
    assert (await post.standing(taken))[0] is Delivery.QUEUED
    assert await attempts.recover(post.steps.store) == 0, "our own attempt may still get its answer"
    post.steps.store.node = "a/1/later"
    assert await attempts.recover(post.steps.store) == 1
    assert (await post.standing(taken))[0] is Delivery.UNCERTAIN
    assert await post.submit() == 0
    assert post.smtp.messages == []


@pytest.mark.sqlite
async def test_who_is_cut_off_leaves_what_is_unknown_to_the_next_start(post: Post) -> None:
    """Evidence is waited for from then on: meanwhile nobody reads the mailbox."""
    taken = await post.steps.take()
    post.smtp.script["."] = [Hang()]
    running = asyncio.create_task(post.submit())
    await post.reached_dot(1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await post.standing(taken))[0] is Delivery.QUEUED
    assert [attempt.outcome for attempt in await post.attempts(taken.recipients[0])] == [None]
    post.steps.store.node = "a/1/later"
    assert await attempts.recover(post.steps.store) == 1
    assert (await post.standing(taken))[0] is Delivery.UNCERTAIN


# --- between claim and DATA ---------------------------------------------------------------------------------------


async def _held_at_rcpt(
    post: Post, reply: str = "250 2.1.5 Ok"
) -> tuple[AcceptedMessage, asyncio.Task[int], asyncio.Event]:
    """Claim a recipient, and let the relay answer RCPT once the event is set."""
    taken, told = await post.steps.take(), asyncio.Event()
    post.smtp.script["RCPT"] = [When(told, reply)]
    running = asyncio.create_task(post.submit())
    while not post.smtp.said("RCPT"):
        await asyncio.sleep(0.002)
    return taken, running, told


async def test_what_is_on_its_way_to_the_relay_can_not_be_cancelled_any_more(post: Post) -> None:
    """Its attempt is committed: it may go to DATA at any moment, so nobody is told that it doesn't."""
    taken, running, told = await _held_at_rcpt(post)
    with pytest.raises(decide.Pointless):
        await decide.cancel(post.steps.store, taken.message.id, by="uid:0")
    told.set()
    assert await running == 1
    assert (await post.standing(taken))[0] is Delivery.ACCEPTED


async def test_what_a_report_settles_before_it_is_taken_is_not_sent(post: Post) -> None:
    taken = await post.steps.take()
    await post.steps.receive(dsn(taken.recipients[0].token))
    assert await post.submit() == 0
    assert post.smtp.messages == []
    assert (await post.standing(taken))[0] is Delivery.DELIVERED


async def test_what_a_report_settles_on_the_way_stays_settled(post: Post) -> None:
    taken, running, told = await _held_at_rcpt(post, "450 4.2.0 later")
    await post.steps.receive(dsn(taken.recipients[0].token))
    told.set()
    await running
    row = await post.steps.recipient(taken)
    assert (row.delivery, row.next_attempt_at) == (Delivery.DELIVERED, None)


async def test_a_retry_of_what_is_being_tried_sends_no_second_copy(post: Post) -> None:
    taken, running, told = await _held_at_rcpt(post)
    post.steps.pass_time(seconds=1)
    await decide.retry(post.steps.store, taken.message.id)
    told.set()
    await asyncio.gather(running, post.submit())
    assert len(post.smtp.messages) == 1
    assert await post.kinds(taken) == ["queued", "accepted"]


async def test_no_attempt_begins_beside_one_that_has_no_end_whoever_holds_the_claim(post: Post) -> None:
    await post.steps.take()
    (work,) = await post.steps.claim(1)
    async with post.steps.store.write() as session:
        (await session.get_one(Recipient, work.recipient.id)).next_attempt_at = START
    assert await post.steps.claim(1) == []
    async with post.steps.store.read() as session:
        row = await session.get_one(Recipient, work.recipient.id)
    assert row.next_attempt_at == START + submissions.LEASE, "it is left alone for as long again"


async def test_while_an_attempt_is_in_data_nobody_takes_the_recipient_over(post: Post) -> None:
    await post.steps.take()
    post.smtp.script["."] = [Hang()]
    running = asyncio.create_task(post.submit())
    await post.reached_dot(1)
    post.steps.pass_time(minutes=14, seconds=59)
    assert await post.steps.claim(10) == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- the window ---------------------------------------------------------------------------------------------------


async def test_the_window_is_refilled_while_one_transaction_is_slow(tmp_path: Path) -> None:
    async with posted(tmp_path, submission={"connections": 2}) as post:
        await post.steps.take(*(f"u{n}@b.test" for n in range(9)))
        post.smtp.script["."] = [Hang()]
        running = asyncio.create_task(post.submit())
        await post.reached_dot(9)
        assert post.smtp.open_at_most == 2
        post.smtp.say_unasked("250 2.0.0 Ok: queued as late")
        assert await running == 9


async def test_a_message_that_comes_meanwhile_goes_out_without_waiting_for_a_slow_one(post: Post) -> None:
    await post.steps.take()
    post.smtp.script["."] = [Hang()]
    running = asyncio.create_task(post.submit())
    await post.reached_dot(1)
    await post.steps.take("carol@c.test")
    post.wake.set()
    await post.reached_dot(2)
    post.smtp.say_unasked("250 2.0.0 Ok: queued as late")
    assert await running == 2


async def test_a_row_that_raises_stops_nobody(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = await post.steps.take("bob@b.test"), await post.steps.take("carol@c.test")

    def poisoned(**words: Any) -> bytes:
        if words["disposition_notification_to"].startswith(f"receipts+{bad.recipients[0].token}"):
            raise ZeroDivisionError
        return b""

    monkeypatch.setattr(compose, "header_of_copy", poisoned)
    assert await post.submit() == 1
    assert (await post.standing(good))[0] is Delivery.ACCEPTED
    row = await post.steps.recipient(bad)
    assert row.delivery is Delivery.QUEUED
    assert row.next_attempt_at == START + submissions.LEASE, "it is pushed ahead"
    assert not post.watchdog.stuck()


async def test_when_told_to_stop_nothing_new_begins_and_what_is_under_way_ends(post: Post) -> None:
    first = await post.steps.take()
    post.smtp.script["."] = [Hang()]
    running = asyncio.create_task(post.submit())
    await post.reached_dot(1)
    post.stop.set()
    second = await post.steps.take("carol@c.test")
    post.wake.set()
    post.smtp.say_unasked("250 2.0.0 Ok: queued as last")
    assert await running == 1
    assert (await post.standing(first))[0] is Delivery.ACCEPTED
    assert (await post.standing(second))[0] is Delivery.QUEUED


async def test_under_a_rate_no_more_is_taken_than_gets_its_turn_soon(tmp_path: Path) -> None:
    """What waits longer than its lease would be taken up a second time, and nothing could overtake it."""
    async with posted(tmp_path, submission={"rate": "1/m"}) as post:
        await post.steps.take(*(f"u{n}@b.test" for n in range(20)))
        running = asyncio.create_task(post.submit())
        while not (await _standing(post, Delivery.ACCEPTED) and len(await _claimed(post)) == 0):
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        assert len(await _claimed(post)) == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("rate", "letters", "tick"), [("2/m", 40, 30), ("1/h", 3, 300)])
def test_under_a_slow_rate_no_claim_ends_before_its_turn_and_nothing_goes_twice(
    rate: str, letters: int, tick: int, tmp_path: Path
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with posted(tmp_path, submission={"rate": rate}) as post:
            post.steps.store.now = lambda: START + timedelta(seconds=loop.time() - begun)
            await post.steps.take(*(f"u{n}@b.test" for n in range(letters)))
            ticks = asyncio.create_task(_tick(post, tick))
            while len(await _standing(post, Delivery.ACCEPTED)) < letters:
                late = [row for row in await _claimed(post) if (row.claimed_until or START) <= post.steps.store.now()]
                assert not late, "its turn did not come while the claim held"
                await asyncio.sleep(tick)
            ticks.cancel()
            await asyncio.gather(ticks, return_exceptions=True)
            told = [line.partition("<")[2].partition(">")[0] for line in post.smtp.said("RCPT")]
            assert sorted(told) == sorted(f"u{n}@b.test" for n in range(letters))

    with asyncio.Runner(loop_factory=LeapingClock) as runner:
        runner.run(scenario())


async def _tick(post: Post, seconds: int) -> None:
    """Submit what is due every so many seconds, as the daemon does."""
    while True:
        await post.submit()
        await asyncio.sleep(seconds)


async def _rows(post: Post) -> list[Recipient]:
    async with post.steps.store.read() as session:
        return list((await session.exec(select(Recipient))).all())


async def _claimed(post: Post) -> list[Recipient]:
    return [row for row in await _rows(post) if row.claimed_by is not None]


async def _standing(post: Post, delivery: Delivery) -> list[Recipient]:
    return [row for row in await _rows(post) if row.delivery is delivery]


# --- fair shares --------------------------------------------------------------------------------------------------


def _due(owner: str, message: str, count: int) -> list[Due]:
    return [Due(f"{message}/{number}", message, owner, 1000) for number in range(count)]


def test_a_letter_behind_a_long_run_is_in_the_next_set() -> None:
    run, letter = _due("erp", "run", 100), _due("ann", "letter", 1)
    chosen = fair_share(run[:40], [*letter, *reversed(run[-39:])], limit=20)
    assert letter[0] in chosen
    assert chosen[:10] == run[:10], "and the run goes on in its order"


def test_a_letter_of_the_same_sender_overtakes_the_run_too() -> None:
    run, letter = _due("erp", "run", 100), _due("erp", "letter", 1)
    assert letter[0] in fair_share(run[:40], [*letter, *reversed(run[-39:])], limit=20)


def test_with_room_for_one_the_oldest_and_the_newest_take_turns() -> None:
    run, letter = _due("erp", "run", 100), _due("ann", "letter", 1)
    taken = [fair_share(run[:2], [*letter, run[-1]], limit=1, turn=turn)[0] for turn in (0, 1)]
    assert taken == [run[0], letter[0]]


def test_what_fits_a_set_is_taken_whole_and_in_order() -> None:
    run = _due("erp", "run", 7)
    assert fair_share(run, [], limit=10) == run


def test_no_more_octets_are_taken_than_fit_in_memory_but_for_a_first_of_any_size() -> None:
    large = [Due(f"r{number}", f"m{number}", "erp", submissions.MOST_OCTETS - 1) for number in range(3)]
    assert fair_share(large, [], limit=10) == large[:1]


async def test_a_commit_has_as_many_statements_for_500_recipients_as_for_60(tmp_path: Path) -> None:
    async with posted(tmp_path) as post:
        counts = []
        for number in (60, 500):
            await post.steps.take(*(f"u{n}@b.test" for n in range(number)))
            with Statements(post.steps.store) as statements:
                assert await post.submit() == number
            counts.append(statements.per_commit())
        assert max(counts[1]) <= max(counts[0])
