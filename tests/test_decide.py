"""What a person decides: acknowledge, waive, confirm, cancel, retry, resend, each with its refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from receiptd import compose, decide, errors
from receiptd.accept import Taken, Wish, accept
from receiptd.decide import NoSuchThing, Pointless
from receiptd.facts import Delivery, Event, EventKind, Level, Receipt, Source
from receiptd.models import Attempt, Evidence, Recipient
from receiptd.store import queue
from receiptd.store.messages import Whole
from tests.stage import START, Stage, dsn, staged

DAY = timedelta(days=1)
Verb = Callable[[str], Awaitable[Recipient]]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


class Person:
    """Somebody who decides about the recipients of one message."""

    def __init__(self, stage: Stage, taken: Taken) -> None:
        self.stage, self.taken, self.row = stage, taken, taken.recipients[0].id

    async def acknowledge(self, row: str | None = None, reason: str = "on it", lasting: timedelta = DAY) -> Recipient:
        return await decide.acknowledge(self.stage.store, row or self.row, by="uid:0", reason=reason, lasting=lasting)

    async def waive(self, row: str | None = None, reason: str = "not needed") -> Recipient:
        return await decide.waive(self.stage.store, row or self.row, by="uid:0", reason=reason)

    async def confirm(self, row: str | None = None, reason: str = "they called") -> Recipient:
        return await decide.confirm(self.stage.store, row or self.row, by="uid:0", reason=reason)

    async def cancel(self) -> int:
        return await decide.cancel(self.stage.store, self.taken.message.id, by="uid:0")

    async def retry(self) -> int:
        return await decide.retry(self.stage.store, self.taken.message.id)

    async def resend(self) -> Taken:
        return await decide.resend(self.stage.store, self.taken.message.id, owner="uid:0")

    async def said(self) -> list[Event]:
        """Return the events that a person told, but for handing the message over."""
        events = (await self.stage.whole(self.taken)).events
        return [event for event in events if event.source is Source.PERSON and event.kind is not EventKind.QUEUED]

    async def told(self) -> list[tuple[str, int]]:
        return [(kind, level) for kind, level, _ in await self.stage.told()]


async def _overdue(stage: Stage) -> Person:
    """Let a deadline pass and its alert be tried."""
    person = Person(stage, await stage.submitted())
    stage.pass_time(hours=5)
    await stage.judge()
    await _try_all(stage)
    return person


async def _try_all(stage: Stage) -> None:
    async with stage.store.write() as session:
        for dispatch in await stage.dispatches():
            dispatch.attempts = 1
            await session.merge(dispatch)


# --- acknowledge --------------------------------------------------------------------------------------------------


async def test_acknowledging_holds_the_next_level_until_it_expires(stage: Stage) -> None:
    person = await _overdue(stage)
    await person.acknowledge(lasting=timedelta(days=2))
    stage.pass_time(hours=47)
    await stage.judge()
    assert await person.told() == [("receipt.overdue", 1)]
    stage.pass_time(hours=2)
    await stage.judge()
    assert await person.told() == [("receipt.overdue", 1), ("receipt.overdue", 2)]


async def test_a_new_kind_of_news_is_told_at_once_although_acknowledged(stage: Stage) -> None:
    person = await _overdue(stage)
    await person.acknowledge()
    await stage.receive(dsn(person.taken.recipients[0].token, action="failed", status="5.1.1"))
    assert await person.told() == [("receipt.overdue", 1), ("receipt.failed", 1)]


async def test_who_decided_and_why_is_an_event(stage: Stage) -> None:
    person = await _overdue(stage)
    await person.acknowledge(reason="I call them")
    await person.acknowledge(reason="still calling")
    said = await person.said()
    assert {event.kind for event in said} == {EventKind.ACKNOWLEDGED}
    assert {event.detail["reason"] for event in said} == {"I call them", "still calling"}
    assert {event.detail["by"] for event in said} == {"uid:0"}


async def test_what_is_not_open_cannot_be_acknowledged(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    with pytest.raises(Pointless, match=r"nothing is open about bob@b\.test"):
        await person.acknowledge()
    person = await _overdue(stage)
    await person.waive()
    with pytest.raises(Pointless):
        await person.acknowledge()


# --- waive, confirm -----------------------------------------------------------------------------------------------


async def test_waiving_ends_the_incident_and_later_news_is_only_recorded(stage: Stage) -> None:
    person = await _overdue(stage)
    row = await person.waive()
    assert (row.receipt, row.incident_opened_at, row.judge_at) == (Receipt.WAIVED, None, None)
    assert await person.told() == [("receipt.overdue", 1), ("receipt.resolved", 1)]
    assert (await stage.alerts())[-1].data["outcome"] == "waived"
    await stage.receive(dsn(person.taken.recipients[0].token, action="failed", status="5.1.1"))
    stage.pass_time(days=9)
    await stage.judge()
    assert len(await stage.alerts()) == 2
    row = await stage.recipient(person.taken)
    assert (row.delivery, row.receipt) == (Delivery.FAILED, Receipt.WAIVED)


async def test_a_receipt_waived_before_its_deadline_is_never_overdue(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    await person.waive()
    stage.pass_time(days=9)
    assert await stage.judge() == 0
    assert await stage.alerts() == []


async def test_a_message_waived_before_it_was_sent_is_sent_all_the_same(stage: Stage) -> None:
    person = Person(stage, await stage.take())
    row = await person.waive()
    assert row.next_attempt_at == START


async def test_confirming_meets_the_receipt_and_proves_nothing_more(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    await stage.receive(dsn(person.taken.recipients[0].token, action="failed", status="5.1.1"))
    await _try_all(stage)
    row = await person.confirm()
    assert (row.receipt, row.delivery, row.level) == (Receipt.MET, Delivery.FAILED, Level.ACCEPTED)
    assert await person.told() == [("receipt.failed", 1), ("receipt.resolved", 1)]
    assert (await stage.alerts())[-1].data["outcome"] == "recovered"


async def test_confirming_what_was_waived_is_met(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    await person.waive()
    assert (await person.confirm()).receipt is Receipt.MET


@pytest.mark.parametrize("reason", ["", "  \n"])
async def test_a_decision_without_a_reason_is_refused(stage: Stage, reason: str) -> None:
    person = await _overdue(stage)
    for verb in (person.acknowledge, person.waive, person.confirm):
        with pytest.raises(errors.BadData, match="say why"):
            await verb(reason=reason)
    assert await person.said() == []


async def test_a_decision_about_nobody_names_the_command_that_shows_ids(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    for verb in (person.acknowledge, person.waive, person.confirm):
        with pytest.raises(NoSuchThing, match="receiptd show"):
            await verb(row="none")
    for act in (decide.retry(stage.store, "none"), decide.cancel(stage.store, "none", by="uid:0")):
        with pytest.raises(NoSuchThing, match="receiptd list"):
            await act
    with pytest.raises(NoSuchThing, match="receiptd list"):
        await decide.resend(stage.store, "none", owner="uid:0")


# --- cancel -------------------------------------------------------------------------------------------------------


async def test_cancelling_stops_what_is_queued_and_leaves_what_was_sent(stage: Stage) -> None:
    taken = await stage.take("bob@b.test", "carol@c.test")
    await stage.tell(taken.recipients[0].id, EventKind.ACCEPTED, source=Source.SMTP)
    person = Person(stage, taken)
    assert await person.cancel() == 1
    bob, carol = (await stage.whole(taken)).recipients
    assert (bob.delivery, bob.receipt) == (Delivery.ACCEPTED, Receipt.OPEN)
    assert (carol.delivery, carol.receipt, carol.next_attempt_at) == (Delivery.CANCELLED, Receipt.WAIVED, None)
    assert await queue.claim(stage.store, 10) == []
    stage.pass_time(days=1)
    await stage.judge()
    assert [alert.recipient for alert in await stage.alerts()] == [bob.id], "what was cancelled is not overdue"


async def test_what_is_sent_or_about_to_be_cannot_be_cancelled(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    with pytest.raises(Pointless, match="nothing left to cancel"):
        await person.cancel()
    person = Person(stage, await stage.take())
    await _into_data(stage)
    with pytest.raises(Pointless):
        await person.cancel()
    assert await person.said() == []


async def _into_data(stage: Stage) -> None:
    """Let what is queued come to the point where DATA begins."""
    (work,) = await queue.claim(stage.store, 1)
    attempt = Attempt(id="a", recipient=work.recipient.id, started_at=stage.instant, node=stage.store.node)
    hold = timedelta(minutes=15)
    await stage.store.together(lambda session: queue.begin(session, attempt, work.claimed_until, hold=hold))


async def test_what_is_uncertain_cannot_be_cancelled_for_it_may_be_there(stage: Stage) -> None:
    person = Person(stage, await stage.take())
    await stage.tell(person.row, EventKind.UNCERTAIN, source=Source.SMTP)
    with pytest.raises(Pointless):
        await person.cancel()


# --- retry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EventKind.DEFERRED, EventKind.UNCERTAIN])
async def test_retrying_takes_up_now_what_waits(stage: Stage, kind: EventKind) -> None:
    person = Person(stage, await stage.take())
    await stage.tell(person.row, kind, source=Source.SMTP, next_attempt_at=START + DAY)
    assert await queue.claim(stage.store, 10) == []
    assert await person.retry() == 1
    (work,) = await queue.claim(stage.store, 10)
    assert work.recipient.id == person.row


async def test_retrying_what_is_held_after_a_second_refusal_tries_a_third_time(stage: Stage) -> None:
    person = Person(stage, await stage.take())
    await stage.tell(person.row, EventKind.UNCERTAIN, source=Source.SMTP, next_attempt_at=None)
    assert await person.retry() == 1
    assert len(await queue.claim(stage.store, 10)) == 1


async def test_what_is_in_data_is_not_tried_beside_it(stage: Stage) -> None:
    person = Person(stage, await stage.take())
    await _into_data(stage)
    await person.retry()
    assert await queue.claim(stage.store, 10) == []


async def test_what_no_longer_waits_cannot_be_retried(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    with pytest.raises(Pointless, match="nothing waits"):
        await person.retry()


# --- resend -------------------------------------------------------------------------------------------------------


async def _content(stage: Stage, whole: Whole) -> bytes:
    async with stage.store.read() as session:
        return (await session.get_one(Evidence, whole.message.evidence)).content


async def test_resending_is_a_new_message_to_those_whose_receipt_is_not_met(stage: Stage) -> None:
    taken = await stage.submitted("bob@b.test", "carol@c.test", "dave@d.test", require=Level.DELIVERED)
    bob, carol, dave = taken.recipients
    await stage.receive(dsn(bob.token), dsn(carol.token, action="failed", status="5.1.1", recipient="carol@c.test"))
    stage.pass_time(minutes=1)
    copy = await Person(stage, taken).resend()
    whole = await stage.whole(copy)
    assert [row.address for row in whole.recipients] == ["carol@c.test", "dave@d.test"]
    assert {row.token for row in whole.recipients}.isdisjoint({carol.token, dave.token})
    assert {row.require for row in whole.recipients} == {Level.DELIVERED}
    assert {row.next_attempt_at for row in whole.recipients} == {stage.instant}
    assert whole.message.message_id != taken.message.message_id
    assert whole.message.resent_from == taken.message.id
    old, new = await _content(stage, await stage.whole(taken)), await _content(stage, whole)
    assert taken.message.message_id.encode() not in new
    assert new.partition(b"\r\n\r\n")[2] == old.partition(b"\r\n\r\n")[2]
    said = {event.recipient: event for event in await Person(stage, taken).said()}
    assert set(said) == {carol.id, dave.id}
    assert copy.message.id in said[carol.id].detail["reason"]


async def test_resending_moves_nothing_of_the_old_message(stage: Stage) -> None:
    person = await _overdue(stage)
    await person.resend()
    row = await stage.recipient(person.taken)
    assert (row.delivery, row.receipt) == (Delivery.ACCEPTED, Receipt.OVERDUE)
    await stage.receive(dsn(person.taken.recipients[0].token))
    assert (await stage.recipient(person.taken)).receipt is Receipt.MET_LATE


async def test_each_recipient_of_a_copy_keeps_its_role(stage: Stage) -> None:
    draft = compose.Draft(from_="a@a.test", to=("bob@b.test",), bcc=("eve@e.test",), text="x")
    taken = await accept(stage.store, compose.compose(draft, now=START), Wish(owner="uid:1"))
    copy = await Person(stage, taken).resend()
    assert [(row.address, row.role) for row in copy.recipients] == [("bob@b.test", "to"), ("eve@e.test", "bcc")]
    assert b"eve@e.test" not in await _content(stage, await stage.whole(copy))


async def test_nothing_is_resent_where_every_receipt_is_met(stage: Stage) -> None:
    person = Person(stage, await stage.submitted())
    await person.confirm()
    with pytest.raises(Pointless, match="every receipt"):
        await person.resend()
