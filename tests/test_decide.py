"""What a person decides: acknowledge, waive, confirm, cancel, retry, resend, each with its refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from receiptd import compose, decide, errors
from receiptd.accept import AcceptedMessage, SubmitOptions, accept
from receiptd.decide import NoSuchThing, Pointless
from receiptd.facts import Delivery, Event, EventKind, Level, Receipt, Source, Trust
from receiptd.models import Evidence, Message
from receiptd.standing import RecipientRecord
from receiptd.store.messages import Whole
from tests.steps_fixture import START, StepsFixture, dsn, open_steps, settings_in, watching

DAY = timedelta(days=1)
Verb = Callable[[str], Awaitable[RecipientRecord]]


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


class Person:
    """Somebody who decides about the recipients of one message."""

    def __init__(self, steps: StepsFixture, taken: AcceptedMessage) -> None:
        self.steps, self.taken, self.row = steps, taken, taken.recipients[0].id

    async def acknowledge(
        self, row: str | None = None, reason: str = "on it", lasting: timedelta = DAY
    ) -> RecipientRecord:
        return await decide.acknowledge(self.steps.store, row or self.row, by="uid:0", reason=reason, lasting=lasting)

    async def waive(self, row: str | None = None, reason: str = "not needed") -> RecipientRecord:
        return await decide.waive(self.steps.store, row or self.row, by="uid:0", reason=reason)

    async def confirm(self, row: str | None = None, reason: str = "they called") -> RecipientRecord:
        return await decide.confirm(self.steps.store, row or self.row, by="uid:0", reason=reason)

    async def cancel(self) -> int:
        return await decide.cancel(self.steps.store, self.taken.message.id, by="uid:0")

    async def retry(self) -> int:
        return await decide.retry(self.steps.store, self.taken.message.id)

    async def resend(self) -> AcceptedMessage:
        return await decide.resend(self.steps.store, self.taken.message.id, by="uid:0")

    async def said(self) -> list[Event]:
        """Return the events that a person told, but for handing the message over."""
        events = (await self.steps.whole(self.taken)).events
        return [event for event in events if event.source is Source.PERSON and event.kind is not EventKind.QUEUED]

    async def told(self) -> list[tuple[str, int]]:
        return [(kind, level) for kind, level, _ in await self.steps.told()]


async def _overdue(steps: StepsFixture) -> Person:
    """Let a deadline pass and its alert be tried."""
    person = Person(steps, await steps.submitted())
    steps.pass_time(hours=5)
    await steps.judge()
    await _try_all(steps)
    return person


async def _try_all(steps: StepsFixture) -> None:
    async with steps.store.write() as session:
        for dispatch in await steps.dispatches():
            dispatch.attempts = 1
            await session.merge(dispatch)


# --- acknowledge --------------------------------------------------------------------------------------------------


async def test_acknowledging_holds_the_next_level_until_it_expires(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await person.acknowledge(lasting=timedelta(days=2))
    steps.pass_time(hours=47)
    await steps.judge()
    assert await person.told() == [("receipt.overdue", 1)]
    steps.pass_time(hours=2)
    await steps.judge()
    assert await person.told() == [("receipt.overdue", 1), ("receipt.overdue", 2)]


async def test_a_new_kind_of_news_is_told_at_once_although_acknowledged(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await person.acknowledge()
    await steps.receive(dsn(person.taken.recipients[0].token, action="failed", status="5.1.1"))
    assert await person.told() == [("receipt.overdue", 1), ("receipt.failed", 1)]


async def test_who_decided_and_why_is_an_event(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await person.acknowledge(reason="I call them")
    await person.acknowledge(reason="still calling")
    said = await person.said()
    assert {event.kind for event in said} == {EventKind.ACKNOWLEDGED}
    assert {event.detail["reason"] for event in said} == {"I call them", "still calling"}
    assert {event.detail["by"] for event in said} == {"uid:0"}


async def test_an_acknowledgement_says_until_when_it_holds(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await person.acknowledge(lasting=timedelta(hours=2))
    [said] = await person.said()
    assert said.detail["until"] == "2026-11-24T16:30:00Z"


async def test_what_is_not_open_cannot_be_acknowledged(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    with pytest.raises(Pointless, match=r"nothing is open about bob@b\.test"):
        await person.acknowledge()
    person = await _overdue(steps)
    await person.waive()
    with pytest.raises(Pointless):
        await person.acknowledge()


# --- waive, confirm -----------------------------------------------------------------------------------------------


async def test_waiving_ends_the_incident_and_later_news_is_only_recorded(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    row = await person.waive()
    assert (row.receipt, row.incident_opened_at, row.judge_at) == (Receipt.WAIVED, None, None)
    assert await person.told() == [("receipt.overdue", 1), ("receipt.resolved", 1)]
    assert (await steps.alerts())[-1].data["outcome"] == "waived"
    await steps.receive(dsn(person.taken.recipients[0].token, action="failed", status="5.1.1"))
    steps.pass_time(days=9)
    await steps.judge()
    assert len(await steps.alerts()) == 2
    read = await steps.recipient(person.taken)
    assert (read.delivery, read.receipt) == (Delivery.FAILED, Receipt.WAIVED)


async def test_a_receipt_waived_before_its_deadline_is_never_overdue(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await person.waive()
    steps.pass_time(days=9)
    assert await steps.judge() == 0
    assert await steps.alerts() == []


async def test_a_message_waived_before_it_was_sent_is_sent_all_the_same(steps: StepsFixture) -> None:
    person = Person(steps, await steps.take())
    row = await person.waive()
    assert row.next_attempt_at == START


async def test_confirming_meets_the_receipt_and_proves_nothing_more(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await steps.receive(dsn(person.taken.recipients[0].token, action="failed", status="5.1.1"))
    await _try_all(steps)
    row = await person.confirm()
    assert (row.receipt, row.delivery, row.level) == (Receipt.MET, Delivery.FAILED, Level.ACCEPTED)
    assert await person.told() == [("receipt.failed", 1), ("receipt.resolved", 1)]
    assert (await steps.alerts())[-1].data["outcome"] == "recovered"


async def test_a_persons_word_stands_before_the_receipt_that_it_meets(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await person.confirm()
    kinds = [event.kind for event in (await steps.whole(person.taken)).events]
    assert kinds[-2:] == [EventKind.CONFIRMED, EventKind.MET]


async def test_a_failure_after_a_persons_confirm_alerts_once_until_a_person_ends_it(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    token = person.taken.recipients[0].token
    await person.confirm()
    for status in ("5.1.1", "5.1.1", "5.2.2"):
        await steps.receive(dsn(token, action="failed", status=status))
    await _try_all(steps)
    row = await steps.recipient(person.taken)
    assert (row.receipt, row.delivery, await person.told()) == (Receipt.MET, Delivery.FAILED, [("receipt.failed", 1)])
    (alert,) = await steps.alerts()
    assert (alert.data["unproven"], alert.data["recipient"]["receipt"]) == (False, "met")
    assert alert.data["reason"].startswith("A person confirmed the receipt. A report says that delivery failed")
    await person.acknowledge()
    await steps.receive(dsn(token, action="delayed", status="4.4.1"))
    assert (await steps.recipient(person.taken)).incident_opened_at is not None, "nothing of this is a receipt"
    assert (await person.confirm()).incident_opened_at is None
    assert await person.told() == [("receipt.failed", 1), ("receipt.resolved", 1)]


async def test_who_looks_at_an_alert_about_what_is_met_has_not_ended_it(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await steps.receive(dsn(person.taken.recipients[0].token))
    await steps.tell(person.row, EventKind.COMPLAINED, source=Source.FEEDBACK)
    assert (await person.acknowledge()).incident_opened_at is not None


async def test_confirming_what_was_waived_is_met(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await person.waive()
    assert (await person.confirm()).receipt is Receipt.MET


async def test_what_is_waived_or_met_is_not_decided_again(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await person.waive()
    with pytest.raises(Pointless, match="already"):
        await person.waive()
    await person.confirm()
    for verb in (person.waive, person.confirm):
        with pytest.raises(Pointless, match=r"the receipt of bob@b\.test is met already") as refusal:
            await verb()
        assert refusal.value.exit_status == 65
    assert [event.kind for event in await person.said()] == [EventKind.WAIVED, EventKind.CONFIRMED]


async def test_what_came_late_stays_late_for_nobody_can_confirm_it(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await steps.receive(dsn(person.taken.recipients[0].token))
    with pytest.raises(Pointless):
        await person.confirm()
    assert (await steps.recipient(person.taken)).receipt is Receipt.MET_LATE


@pytest.mark.parametrize("verb", ["waive", "confirm"])
async def test_an_incident_about_what_is_met_can_be_ended(steps: StepsFixture, verb: str) -> None:
    person = Person(steps, await steps.submitted())
    await steps.receive(dsn(person.taken.recipients[0].token))
    await steps.tell(person.row, EventKind.COMPLAINED, source=Source.FEEDBACK)
    assert (await steps.recipient(person.taken)).incident_opened_at is not None
    assert (await getattr(person, verb)()).incident_opened_at is None


async def test_what_a_person_says_arrived_is_not_sent_a_second_time(steps: StepsFixture) -> None:
    person = Person(steps, await steps.take())
    await steps.tell(person.row, EventKind.UNCERTAIN, source=Source.SMTP, next_attempt_at=START + timedelta(minutes=15))
    await person.confirm()
    steps.pass_time(hours=1)
    assert await steps.claim(10) == []


@pytest.mark.parametrize("reason", ["", "  \n"])
async def test_a_decision_without_a_reason_is_refused(steps: StepsFixture, reason: str) -> None:
    person = await _overdue(steps)
    for verb in (person.acknowledge, person.waive, person.confirm):
        with pytest.raises(errors.BadData, match="say why"):
            await verb(reason=reason)
    assert await person.said() == []


async def test_a_decision_about_nobody_names_the_command_that_shows_ids(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    for verb in (person.acknowledge, person.waive, person.confirm):
        with pytest.raises(NoSuchThing, match="receiptd show"):
            await verb(row="none")
    for act in (decide.retry(steps.store, "none"), decide.cancel(steps.store, "none", by="uid:0")):
        with pytest.raises(NoSuchThing, match="receiptd list"):
            await act
    with pytest.raises(NoSuchThing, match="receiptd list"):
        await decide.resend(steps.store, "none", by="uid:0")


# --- cancel -------------------------------------------------------------------------------------------------------


async def test_cancelling_stops_what_is_queued_and_leaves_what_was_sent(steps: StepsFixture) -> None:
    taken = await steps.take("bob@b.test", "carol@c.test")
    await steps.tell(taken.recipients[0].id, EventKind.ACCEPTED, source=Source.SMTP)
    person = Person(steps, taken)
    assert await person.cancel() == 1
    bob, carol = (await steps.whole(taken)).recipients
    assert (bob.delivery, bob.receipt) == (Delivery.ACCEPTED, Receipt.OPEN)
    assert (carol.delivery, carol.receipt, carol.next_attempt_at) == (Delivery.CANCELLED, Receipt.WAIVED, None)
    assert await steps.claim(10) == []
    steps.pass_time(days=1)
    await steps.judge()
    assert [alert.recipient for alert in await steps.alerts()] == [bob.id], "what was cancelled is not overdue"


async def test_what_is_sent_or_about_to_be_cannot_be_cancelled(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    with pytest.raises(Pointless, match=r"nothing left to cancel.*receiptd waive"):
        await person.cancel()
    person = Person(steps, await steps.take())
    await _into_data(steps)
    with pytest.raises(Pointless):
        await person.cancel()
    assert await person.said() == []


async def _into_data(steps: StepsFixture) -> None:
    """Let what is queued come to the point where DATA begins."""
    assert len(await steps.claim(1)) == 1


async def test_what_is_uncertain_cannot_be_cancelled_for_it_may_be_there(steps: StepsFixture) -> None:
    person = Person(steps, await steps.take())
    await steps.tell(person.row, EventKind.UNCERTAIN, source=Source.SMTP)
    with pytest.raises(Pointless):
        await person.cancel()


# --- retry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EventKind.DEFERRED, EventKind.UNCERTAIN])
async def test_retrying_takes_up_now_what_waits(steps: StepsFixture, kind: EventKind) -> None:
    person = Person(steps, await steps.take())
    await steps.tell(person.row, kind, source=Source.SMTP, next_attempt_at=START + DAY)
    assert await steps.claim(10) == []
    assert await person.retry() == 1
    (work,) = await steps.claim(10)
    assert work.recipient.id == person.row


async def test_retrying_what_is_held_after_a_second_refusal_tries_a_third_time(steps: StepsFixture) -> None:
    person = Person(steps, await steps.take())
    await steps.tell(person.row, EventKind.UNCERTAIN, source=Source.SMTP, next_attempt_at=None)
    assert await person.retry() == 1
    assert len(await steps.claim(10)) == 1


async def test_what_is_in_data_is_not_tried_beside_it(steps: StepsFixture) -> None:
    person = Person(steps, await steps.take())
    await _into_data(steps)
    await person.retry()
    assert await steps.claim(10) == []


async def test_what_no_longer_waits_cannot_be_retried(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    with pytest.raises(Pointless, match=r"nothing waits.*receiptd resend"):
        await person.retry()


# --- resend -------------------------------------------------------------------------------------------------------


async def _content(steps: StepsFixture, whole: Whole) -> bytes:
    async with steps.store.read() as session:
        return (await session.get_one(Evidence, whole.message.evidence)).content


async def test_resending_is_a_new_message_to_those_whose_receipt_is_not_met(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test", "dave@d.test", require=Level.DELIVERED)
    bob, carol, dave = taken.recipients
    await steps.receive(dsn(bob.token), dsn(carol.token, action="failed", status="5.1.1", recipient="carol@c.test"))
    steps.pass_time(minutes=1)
    copy = await Person(steps, taken).resend()
    whole = await steps.whole(copy)
    assert [row.address for row in whole.recipients] == ["carol@c.test", "dave@d.test"]
    assert {row.token for row in whole.recipients}.isdisjoint({carol.token, dave.token})
    assert {row.require for row in whole.recipients} == {Level.DELIVERED}
    assert {row.next_attempt_at for row in whole.recipients} == {steps.instant}
    assert whole.message.message_id != taken.message.message_id
    assert whole.message.resent_from == taken.message.id
    old, new = await _content(steps, await steps.whole(taken)), await _content(steps, whole)
    assert taken.message.message_id.encode() not in new
    assert new.partition(b"\r\n\r\n")[2] == old.partition(b"\r\n\r\n")[2]
    said = {event.recipient: event for event in await Person(steps, taken).said()}
    assert set(said) == {carol.id, dave.id}
    assert copy.message.id in said[carol.id].detail["reason"]


async def test_resending_moves_nothing_of_the_old_message(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await person.resend()
    row = await steps.recipient(person.taken)
    assert (row.delivery, row.receipt) == (Delivery.ACCEPTED, Receipt.OVERDUE)
    await steps.receive(dsn(person.taken.recipients[0].token))
    assert (await steps.recipient(person.taken)).receipt is Receipt.MET_LATE


async def test_each_recipient_of_a_copy_keeps_its_role(steps: StepsFixture) -> None:
    draft = compose.Draft(from_="a@a.test", to=("bob@b.test",), bcc=("eve@e.test",), text="x")
    copy = await (await _sent(steps, draft)).resend()
    assert [(row.address, row.role) for row in copy.recipients] == [("bob@b.test", "to"), ("eve@e.test", "bcc")]
    assert b"eve@e.test" not in await _content(steps, await steps.whole(copy))


async def _sent(steps: StepsFixture, draft: compose.Draft, **options: Any) -> Person:
    """Let the relay have accepted every copy of *draft*."""
    taken = await accept(
        steps.store, compose.compose(draft, now=steps.instant), SubmitOptions(owner="uid:1000", **options)
    )
    for row in taken.recipients:
        await steps.tell(row.id, EventKind.ACCEPTED, source=Source.SMTP, submitted_at=steps.instant)
    return Person(steps, taken)


OF_EACH = {"require": "delivered", "within": "4h", "minimum_trust": "keyed"}
SLOW = {"name": "slow.test", "require": "accepted", "within": "5d"}


def _terms(taken: AcceptedMessage) -> list[tuple[str, str, int, bool]]:
    return [(row.address, row.require, row.within, row.mdn_requested) for row in taken.recipients]


async def test_each_recipient_of_a_copy_keeps_what_was_asked_of_it(tmp_path: Path) -> None:
    receipts = {"address": "receipts@a.test", "mdn_never": ["@slow.test"]}
    draft = compose.Draft(from_="a@a.test", to=("bob@b.test", "carol@slow.test"), cc=("dave@d.test",), text="x")
    policy = {"default": OF_EACH | {"domain": [SLOW]}}
    async with open_steps(tmp_path, policy=policy, receipts=receipts, mailbox=watching(tmp_path, "a@a.test")) as steps:
        person = await _sent(steps, draft)
        await _fail(steps, person.taken)
        copy = await person.resend()
        assert _terms(copy) == _terms(person.taken)
        assert len({row.within for row in copy.recipients}) == 2
        person = await _sent(steps, draft, require=Level.DISPLAYED, require_all=True, mdn=False)
        copy = await person.resend()
        assert _terms(copy) == _terms(person.taken)
        assert {(row.require, row.mdn_requested) for row in copy.recipients} == {(Level.DISPLAYED, False)}


async def _fail(steps: StepsFixture, taken: AcceptedMessage) -> None:
    for row in taken.recipients:
        await steps.tell(row.id, EventKind.FAILED)


async def test_a_policy_that_is_gone_or_less_strict_now_stands_in_no_copys_way(tmp_path: Path) -> None:
    policies = {"default": {}, "old": {"require": "delivered", "within": "1d"}}
    async with open_steps(tmp_path, policy=policies) as steps:
        person = Person(steps, await steps.submitted(policy="old"))
        steps.store.settings = settings_in(tmp_path, policy={"default": {"minimum_trust": "plausible"}})
        copy = await person.resend()
        assert _terms(copy) == _terms(person.taken)
        assert copy.message.policy == "old"
        assert copy.recipients[0].minimum_trust is Trust.PLAUSIBLE, "how reports are judged is for the settings to say"


async def test_no_copy_awaits_an_answer_that_nobody_would_see(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    boxes = [
        {"name": name, "role": role, "url": f"imaps://{user}%40a.test@127.0.0.1", "password_file": str(password)}
        for name, role, user in (("receipts", "receipts", "receipts"), ("office", "replies", "office"))
    ]
    async with open_steps(tmp_path, mailbox=boxes) as steps:
        person = Person(steps, await steps.submitted(require=Level.REPLIED))
        steps.store.settings = settings_in(tmp_path)
        with pytest.raises(errors.BadData, match=r"office@a\.test"):
            await person.resend()
        assert await person.said() == []


async def test_the_copy_belongs_to_who_sent_the_first_and_names_who_resent_it(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted(labels={"order": "17"}))
    copy = await person.resend()
    assert (copy.message.owner, copy.message.labels) == ("uid:1000", {"order": "17"})
    (said,) = await person.said()
    assert (said.kind, said.detail["by"], said.detail["copy"]) == (EventKind.RESENT, "uid:0", copy.message.id)


async def test_a_copy_and_its_link_are_one_transaction(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted("bob@b.test", "carol@c.test"))
    await _refuse_the_second_resent_event(steps)
    with pytest.raises(IntegrityError, match="no room"):
        await person.resend()
    async with steps.store.read() as session:
        assert [one.id for one in (await session.exec(select(Message))).all()] == [person.taken.message.id]
    assert await person.said() == []


_FULL_SQLITE = """
    CREATE TRIGGER no_room BEFORE INSERT ON event
    WHEN NEW.kind = 'resent' AND EXISTS (SELECT 1 FROM event WHERE kind = 'resent')
    BEGIN SELECT RAISE(ABORT, 'no room'); END
"""
_FULL_POSTGRESQL = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.kind = 'resent' AND EXISTS (SELECT 1 FROM event WHERE kind = 'resent') THEN
            RAISE EXCEPTION 'no room' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER no_room BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION no_room()
"""


async def _refuse_the_second_resent_event(steps: StepsFixture) -> None:
    async with steps.store.write() as session:
        trigger = _FULL_SQLITE if steps.store.is_sqlite else _FULL_POSTGRESQL
        await (await session.connection()).exec_driver_sql(trigger)


OUT = {
    "accepted": [],
    "delayed": [EventKind.DELAYED],
    "relayed": [EventKind.RELAYED],
    "overdue": [EventKind.OVERDUE],
    "failed": [EventKind.FAILED],
    "contradicted": [EventKind.DELIVERED, EventKind.FAILED],
    "denied": [EventKind.DENIED],
}
NOT_OUT = {
    "queued": ([], r"not sent for certain yet.*receiptd retry"),
    "deferred": ([EventKind.DEFERRED], r"not sent for certain yet.*receiptd retry"),
    "uncertain": ([EventKind.UNCERTAIN], r"not sent for certain yet.*receiptd retry"),
    "cancelled": ([EventKind.CANCELLED], "cancelled before it was sent.*hand it over anew"),
    "waived": ([EventKind.ACCEPTED, EventKind.WAIVED], "waived"),
    "met": ([EventKind.ACCEPTED, EventKind.CONFIRMED], "met"),
    "met late": ([EventKind.ACCEPTED, EventKind.OVERDUE, EventKind.DISPLAYED], "met"),
    "waived and failed": ([EventKind.ACCEPTED, EventKind.WAIVED, EventKind.FAILED], "waived"),
    "uncertain and overdue": ([EventKind.UNCERTAIN, EventKind.OVERDUE], r"receiptd retry"),
}
_SOURCES = {
    EventKind.DISPLAYED: Source.MDN,
    EventKind.DENIED: Source.MDN,
    EventKind.WAIVED: Source.PERSON,
    EventKind.CONFIRMED: Source.PERSON,
    EventKind.CANCELLED: Source.PERSON,
    EventKind.OVERDUE: Source.CLOCK,
    EventKind.ACCEPTED: Source.SMTP,
    EventKind.DEFERRED: Source.SMTP,
    EventKind.UNCERTAIN: Source.SMTP,
}


async def _tell_all(steps: StepsFixture, recipient: str, kinds: list[EventKind]) -> None:
    for kind in kinds:
        await steps.tell(recipient, kind, source=_SOURCES.get(kind, Source.DSN))


@pytest.mark.parametrize("kinds", OUT.values(), ids=OUT)
async def test_a_new_copy_goes_to_whom_the_first_left_without_its_receipt(
    steps: StepsFixture, kinds: list[EventKind]
) -> None:
    person = Person(steps, await steps.submitted(require=Level.DISPLAYED))
    await _tell_all(steps, person.row, kinds)
    assert [row.address for row in (await person.resend()).recipients] == ["bob@b.test"]


@pytest.mark.parametrize(("kinds", "why"), NOT_OUT.values(), ids=NOT_OUT)
async def test_no_copy_goes_to_whom_the_first_may_still_reach_or_who_needs_none(
    steps: StepsFixture, kinds: list[EventKind], why: str
) -> None:
    person = Person(steps, await steps.take(require=Level.DISPLAYED))
    await _tell_all(steps, person.row, kinds)
    with pytest.raises(Pointless, match=rf"nobody .*bob@b\.test: .*{why}") as refusal:
        await person.resend()
    assert refusal.value.exit_status == 65


async def test_who_is_left_out_of_a_copy_is_named_with_the_reason(steps: StepsFixture) -> None:
    person = Person(steps, await steps.take("bob@b.test", "carol@c.test", "dave@d.test"))
    bob, carol, _ = person.taken.recipients
    await _tell_all(steps, bob.id, [EventKind.FAILED])
    await _tell_all(steps, carol.id, [EventKind.ACCEPTED, EventKind.CONFIRMED])
    copy = await person.resend()
    assert [row.address for row in copy.recipients] == ["bob@b.test"]
    (warning,) = (await steps.whole(copy)).message.warnings
    assert warning.startswith("not sent again to dave@d.test: not sent for certain yet")


# --- resend twice -------------------------------------------------------------------------------------------------


async def test_pressing_twice_is_one_copy(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    first, *others = sorted(
        await asyncio.gather(*(person.resend() for _ in range(5)), return_exceptions=True),
        key=lambda one: isinstance(one, Exception),
    )
    assert isinstance(first, AcceptedMessage)
    for other in others:
        assert isinstance(other, Pointless)
        assert f"copy {first.message.id} is still awaited" in str(other)
    assert len(await person.said()) == 1


async def test_another_copy_goes_when_the_last_failed_is_overdue_or_was_cancelled(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await Person(steps, copy).cancel()
    for kinds in ([EventKind.ACCEPTED, EventKind.OVERDUE], [EventKind.FAILED]):
        copy = await person.resend()
        await _tell_all(steps, copy.recipients[0].id, kinds)
    assert (await person.resend()).message.resent_from == person.taken.message.id
    assert len(await person.said()) == 4


async def test_nobody_is_sent_another_copy_who_has_met_the_last(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await steps.receive(dsn(copy.recipients[0].token))
    with pytest.raises(Pointless, match=f"the receipt of copy {copy.message.id} is met"):
        await person.resend()


async def test_a_copy_may_itself_be_sent_again_and_stands_for_the_first(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await _tell_all(steps, copy.recipients[0].id, [EventKind.ACCEPTED])
    third = await Person(steps, copy).resend()
    assert third.message.resent_from == copy.message.id
    await _tell_all(steps, copy.recipients[0].id, [EventKind.FAILED])
    with pytest.raises(Pointless, match=third.message.id):
        await person.resend()


async def test_a_copy_to_one_says_nothing_of_another(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted("bob@b.test", "carol@c.test"))
    carol = person.taken.recipients[1]
    await _tell_all(steps, carol.id, [EventKind.RELAYED])
    first = await person.resend()
    assert [row.address for row in first.recipients] == ["bob@b.test"]
    await steps.tell(carol.id, EventKind.FAILED)
    second = await person.resend()
    assert [row.address for row in second.recipients] == ["carol@c.test"]
    assert first.message.id in second.message.warnings[0]
    assert second.message.warnings[0].startswith("not sent again to bob@b.test")


# --- a copy's receipt ---------------------------------------------------------------------------------------------


async def _received(steps: StepsFixture, copy: AcceptedMessage, **report: str) -> None:
    """Let the relay have taken a copy, and a report of it come."""
    row = copy.recipients[0]
    await steps.tell(row.id, EventKind.ACCEPTED, source=Source.SMTP, submitted_at=steps.instant)
    steps.pass_time(minutes=1)
    await steps.receive(dsn(row.token, recipient=row.address, **report))


async def _resolutions(steps: StepsFixture) -> list[tuple[str | None, dict[str, Any]]]:
    return [(one.recipient, one.data) for one in await steps.alerts() if one.kind == "resolved"]


async def test_of_what_was_never_submitted_a_receipt_after_submit_within_is_late(steps: StepsFixture) -> None:
    """There was no final dot, so its deadline is the one by which it was to be submitted."""
    early, late, refused = [Person(steps, await steps.take(f"{name}@b.test")) for name in ("ann", "bob", "kim")]
    await steps.tell(refused.row, EventKind.FAILED, source=Source.SMTP)
    steps.pass_time(minutes=59)
    assert (await early.confirm()).receipt is Receipt.MET
    steps.pass_time(minutes=2)
    await steps.judge()
    assert (await late.confirm()).receipt is Receipt.MET_LATE
    await _received(steps, await refused.resend())
    assert (await steps.recipient(refused.taken)).receipt is Receipt.MET_LATE


async def test_a_report_that_is_settled_before_our_own_accepted_is_in_time_by_the_deadline_that_follows(
    steps: StepsFixture,
) -> None:
    person = Person(steps, await steps.take())
    steps.pass_time(hours=2)
    await steps.judge()
    await steps.receive(dsn(person.taken.recipients[0].token))
    row = await steps.recipient(person.taken)
    assert (row.receipt, row.deadline_at) == (Receipt.MET, steps.instant + timedelta(hours=4))


@pytest.mark.parametrize(("hours", "receipt"), [(3, Receipt.MET), (5, Receipt.MET_LATE)])
async def test_a_confirm_is_late_after_the_deadline_and_the_end_of_the_incident_says_so(
    steps: StepsFixture, hours: int, receipt: Receipt
) -> None:
    person = Person(steps, await steps.submitted())
    steps.pass_time(hours=hours)
    await steps.judge()
    await _try_all(steps)
    assert (await person.confirm()).receipt is receipt
    is_late = receipt is Receipt.MET_LATE
    assert [(data["outcome"], data["late"]) for _, data in await _resolutions(steps)] == [("met", True)] * is_late


async def test_a_copys_receipt_ends_the_firsts_incident_once_and_claims_nothing_of_the_first(
    steps: StepsFixture,
) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await _received(steps, copy)
    row = await steps.recipient(person.taken)
    assert (row.delivery, row.level, row.receipt) == (Delivery.ACCEPTED, Level.ACCEPTED, Receipt.MET_LATE)
    assert row.incident_opened_at is None
    await steps.receive(dsn(copy.recipients[0].token))
    steps.pass_time(days=3)
    await steps.judge()
    assert await person.told() == [("receipt.overdue", 1), ("receipt.resolved", 1)]
    ((recipient, data),) = await _resolutions(steps)
    assert (recipient, data["outcome"], data["late"]) == (person.row, "met", True)
    assert data["recipient"]["delivery"] == "accepted"
    assert data["reason"] == (
        "The copy sent again at 2026-11-24T14:30:00Z has its receipt. "
        "It says nothing of what became of this message itself."
    )
    assert data["evidence"] == next(one.evidence for one in (await steps.whole(copy)).events if one.evidence)


async def test_until_the_copy_is_met_the_first_goes_on_to_its_next_level(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await steps.tell(copy.recipients[0].id, EventKind.ACCEPTED, source=Source.SMTP, submitted_at=steps.instant)
    steps.pass_time(days=1)
    await steps.judge()
    assert ("receipt.overdue", 2) in await person.told()


async def test_a_copys_receipt_recovers_a_first_that_failed(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted())
    await _fail(steps, person.taken)
    await _try_all(steps)
    await _received(steps, await person.resend())
    row = await steps.recipient(person.taken)
    assert (row.delivery, row.receipt, row.deadline_at) == (Delivery.FAILED, Receipt.MET, START + timedelta(hours=4))
    ((_, data),) = await _resolutions(steps)
    assert (data["outcome"], data["recipient"]["delivery"]) == ("recovered", "failed")


async def test_whoever_confirms_the_copy_settles_the_first_by_the_same_word(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await Person(steps, copy).confirm()
    ((recipient, data),) = await _resolutions(steps)
    assert recipient == person.row
    assert "has its receipt: a person confirmed the receipt." in data["reason"]


async def test_a_copy_that_is_waived_leaves_the_first_as_it_is(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    await Person(steps, await person.resend()).waive()
    assert (await steps.recipient(person.taken)).receipt is Receipt.OVERDUE


async def test_a_copys_receipt_settles_all_that_was_sent_before_it(steps: StepsFixture) -> None:
    """Sent again twice from the first, and once more from the second: the last copy ends all three incidents."""
    first = await _overdue(steps)
    copies = [Person(steps, await first.resend())]
    await _fail(steps, copies[0].taken)
    copies.append(Person(steps, await first.resend()))
    await _fail(steps, copies[1].taken)
    await _try_all(steps)
    last = await copies[1].resend()
    await _received(steps, last)
    for person in (first, *copies):
        assert (await steps.recipient(person.taken)).receipt.is_met
    assert {recipient for recipient, _ in await _resolutions(steps)} == {one.row for one in (first, *copies)}
    news = [event for one in (first, *copies) for event in (await steps.whole(one.taken)).events if event.is_of_copy]
    assert [event.detail["copy"] for event in news] == [last.message.id] * 3


async def test_the_firsts_own_receipt_settles_no_copy(steps: StepsFixture) -> None:
    person = await _overdue(steps)
    copy = await person.resend()
    await steps.receive(dsn(person.taken.recipients[0].token))
    assert (await steps.recipient(copy)).receipt is Receipt.OPEN


async def test_a_copy_to_one_settles_nothing_of_another(steps: StepsFixture) -> None:
    person = Person(steps, await steps.submitted("bob@b.test", "carol@c.test"))
    await _received(steps, await person.resend())
    assert [row.receipt for row in (await steps.whole(person.taken)).recipients] == [Receipt.MET, Receipt.OPEN]


@pytest.mark.parametrize("first", [EventKind.OVERDUE, EventKind.FAILED])
async def test_a_copy_that_fails_after_all_takes_its_receipt_back(steps: StepsFixture, first: EventKind) -> None:
    person = Person(steps, await steps.submitted())
    await _tell_all(steps, person.row, [first])
    receipt = (await steps.recipient(person.taken)).receipt
    copy = await person.resend()
    await _received(steps, copy)
    assert (await steps.recipient(person.taken)).receipt.is_met
    await _received(steps, copy, action="failed", status="5.1.1")
    row = await steps.recipient(person.taken)
    assert (row.receipt, row.incident_opened_at) == (receipt, steps.instant)
    assert (await person.resend()).message.resent_from == person.taken.message.id


async def test_the_order_of_a_copys_reports_makes_no_difference_to_the_first(steps: StepsFixture) -> None:
    """Delivered and failed is contradicted, and whoever came first, the first message has no receipt by it."""
    receipts = []
    for actions in (("delivered", "failed"), ("failed", "delivered")):
        person = Person(steps, await steps.submitted())
        copy = await person.resend()
        for action in actions:
            await _received(steps, copy, action=action)
        receipts.append((await steps.recipient(person.taken)).receipt)
    assert receipts == [Receipt.OPEN, Receipt.OPEN]


async def test_a_copys_report_that_was_here_earlier_counts_from_then(steps: StepsFixture) -> None:
    """Two folders: what reached our server before the deadline is read after what reached it later."""
    person = Person(steps, await steps.submitted())
    copy = await person.resend()
    token = copy.recipients[0].token
    await _tell_all(steps, copy.recipients[0].id, [EventKind.ACCEPTED])
    steps.pass_time(hours=5)
    await steps.receive(dsn(token))
    assert (await steps.recipient(person.taken)).receipt is Receipt.MET_LATE
    await steps.receive(dsn(token, action="relayed"), folder="Junk", received_at=steps.instant - timedelta(hours=3))
    assert (await steps.recipient(person.taken)).receipt is Receipt.MET
