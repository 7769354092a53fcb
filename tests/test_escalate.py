"""Deadlines and bad news become alerts: once, in order, never on guesswork."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiptd import decide, policy
from receiptd.accept import AcceptedMessage
from receiptd.escalate import escalate, monitor
from receiptd.facts import EventKind, Fact, Level, Receipt, Source
from receiptd.lifecycle import reasons
from receiptd.models import Recipient
from receiptd.recipients import Entry, Provenance, SideEffects, record_one
from receiptd.recipients.move import MOST_EVENTS
from receiptd.store import folders
from receiptd.store.monitors import Health, Outage, blind
from tests.steps_fixture import StepsFixture, complete, dsn, open_steps


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def test_a_deadline_without_a_receipt_is_overdue_and_told_once(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=4, seconds=1)
    assert await steps.judge() == 1
    assert await steps.judge() == 0
    assert (await steps.recipient(taken)).receipt is Receipt.OVERDUE
    assert await steps.told() == [("receipt.overdue", 1, ("ops",))]


async def test_an_overdue_recipient_gives_the_reason_that_its_alert_gives(steps: StepsFixture) -> None:
    taken = await steps.submitted(require=Level.DELIVERED)
    assert (await steps.recipient(taken)).reason is None
    steps.pass_time(hours=4, seconds=1)
    await steps.judge()
    (alert,) = await steps.alerts()
    reason = (await steps.recipient(taken)).reason
    assert reason == alert.data["reason"] == reasons.OVERDUE[Level.ACCEPTED]
    await steps.receive(dsn(taken.recipients[0].token, action="relayed"))
    assert (await steps.recipient(taken)).reason == reasons.OVERDUE[Level.RELAYED]
    await steps.receive(dsn(taken.recipients[0].token))
    assert (await steps.recipient(taken)).reason is None


async def test_what_is_submitted_late_is_overdue_and_no_deadline_has_passed(steps: StepsFixture) -> None:
    taken = await steps.take()
    steps.pass_time(hours=1, seconds=1)
    await escalate(steps.store)
    assert (await steps.recipient(taken)).reason == reasons.NOT_SUBMITTED
    await steps.tell(taken.recipients[0].id, EventKind.ACCEPTED, source=Source.SMTP)
    assert (await steps.recipient(taken)).reason == reasons.SUBMITTED_LATE


async def test_a_deadline_that_cannot_be_judged_stops_no_other(steps: StepsFixture) -> None:
    poisoned, other = await steps.submitted(), await steps.submitted()
    async with steps.store.write() as session:
        row = await session.get_one(Recipient, poisoned.recipients[0].id)
        row.branches = [{"final_recipient": "bob@b.test"}]
    steps.pass_time(hours=4, seconds=1)
    with capture_logs() as logs:
        assert await steps.judge() == 1
        assert await steps.judge() == 0, "it is pushed ahead"
    assert [(one["event"], one["recipient"]) for one in logs] == [("a deadline can't be judged", row.id)]
    assert (await steps.recipient(other)).receipt is Receipt.OVERDUE


async def test_a_receipt_in_time_is_never_overdue(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    await steps.receive(dsn(taken.recipients[0].token))
    steps.pass_time(days=3)
    assert await steps.judge() == 0
    assert await steps.told() == []


async def test_a_receipt_that_another_daemon_brought_since_the_deadline_was_judged_alerts_nobody(
    steps: StepsFixture,
) -> None:
    taken = await steps.submitted()
    recipient = taken.recipients[0].id
    steps.pass_time(hours=4, seconds=1)
    overdue = Fact(recipient, EventKind.OVERDUE, Source.CLOCK)
    alarm = policy.Alarm("overdue", unproven=False, reason="silence")
    await steps.receive(dsn(taken.recipients[0].token))
    for effects in (SideEffects(alarms=[alarm]), SideEffects(escalate_to=2)):
        entry = Entry(recipient, [overdue], Provenance("clock:", steps.instant), effects)
        async with steps.store.write() as session:
            await record_one(session, steps.store.settings, entry, now=steps.instant)
    assert (await steps.recipient(taken)).receipt is Receipt.MET_LATE
    assert await steps.alerts() == []


async def test_no_deadline_is_judged_before_every_folder_was_searched_after_it(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=3)
    await steps.read_all()
    steps.pass_time(hours=2)
    assert await escalate(steps.store) == 0
    await complete(steps.store, "receipts", "INBOX", steps.instant)
    assert await escalate(steps.store) == 0, "Junk was not searched yet"
    assert (await steps.recipient(taken)).receipt is Receipt.OPEN
    assert await steps.judge() == 1


async def test_no_deadline_is_judged_while_a_report_is_unsettled(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=3)
    raw = dsn(taken.recipients[0].token)
    batch = [folders.Raw(1, steps.instant, len(raw), raw)]
    await steps.store.transact(
        lambda session: folders.keep(session, "receipts", "INBOX", 1, batch, upto=1, now=steps.instant)
    )
    steps.pass_time(hours=2)
    assert await steps.judge() == 0
    assert await steps.told() == []


async def test_a_report_set_aside_holds_up_no_deadline(steps: StepsFixture) -> None:
    await steps.submitted()
    batch = [folders.Raw(1, steps.instant, 0, b"")]
    await steps.store.transact(
        lambda session: folders.keep(session, "receipts", "INBOX", 1, batch, upto=1, now=steps.instant)
    )
    await steps.receive()
    steps.pass_time(hours=5)
    assert await steps.judge() == 1
    assert [kind for kind, _, _ in await steps.told()] == ["monitor.set_aside", "receipt.overdue"]


async def test_later_levels_count_from_the_first_alert(steps: StepsFixture) -> None:
    await steps.submitted()
    steps.pass_time(hours=5)
    await steps.judge()
    steps.pass_time(hours=23)
    assert await steps.judge() == 0
    steps.pass_time(hours=1)
    assert await steps.judge() == 1
    assert await steps.told() == [("receipt.overdue", 1, ("ops",)), ("receipt.overdue", 2, ("boss", "ops"))]
    steps.pass_time(days=9)
    assert await steps.judge() == 0


PATIENT = {"default": {"levels": [{"after": "30m", "to": ["ops"]}, {"after": "1d", "to": ["boss"]}]}}


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    """Steps whose first level is told half an hour after an incident began."""
    async with open_steps(tmp_path, policy=PATIENT) as steps:
        yield steps


async def _due(steps: StepsFixture) -> list[tuple[str, timedelta]]:
    """Return to which webhooks something goes, and how long from now."""
    return [(one.webhook, one.due_at - steps.instant) for one in await steps.dispatches() if one.due_at is not None]


async def test_the_first_level_is_told_so_long_after_the_incident_began(patient: StepsFixture) -> None:
    taken = await patient.submitted()
    patient.pass_time(hours=4, seconds=1)
    await patient.judge()
    assert (await patient.recipient(taken)).receipt is Receipt.OVERDUE, "the state doesn't wait"
    assert await _due(patient) == [("ops", timedelta(minutes=30))]


async def test_what_is_met_before_the_first_level_was_told_is_told_to_nobody(patient: StepsFixture) -> None:
    taken = await patient.submitted()
    patient.pass_time(hours=4, seconds=1)
    await patient.judge()
    patient.pass_time(minutes=29)
    await patient.receive(dsn(taken.recipients[0].token))
    assert await _due(patient) == []
    assert "receipt.resolved" not in [kind for kind, _, _ in await patient.told()]


async def test_bad_news_waits_as_long_and_what_comes_later_in_the_incident_no_longer(patient: StepsFixture) -> None:
    taken = await patient.submitted()
    token = taken.recipients[0].token
    await patient.receive(dsn(token, action="failed", status="5.1.1"))
    assert await _due(patient) == [("ops", timedelta(minutes=30))]
    patient.pass_time(minutes=20)
    await patient.receive(dsn(token))
    assert await _due(patient) == [("ops", timedelta(minutes=10))] * 2, "failed and contradicted"
    patient.pass_time(minutes=11)
    assert all(length < timedelta(0) for _, length in await _due(patient))


async def test_later_levels_count_from_the_beginning_of_the_incident_too(patient: StepsFixture) -> None:
    await patient.submitted()
    patient.pass_time(hours=4, seconds=1)
    await patient.judge()
    patient.pass_time(hours=23, minutes=59)
    assert await patient.judge() == 0
    patient.pass_time(minutes=1)
    assert await patient.judge() == 1
    assert sorted(await _due(patient)) == [("boss", timedelta(0)), ("ops", timedelta(hours=-23.5))]


async def test_whoever_acknowledges_before_the_first_level_was_told_holds_that_back_too(patient: StepsFixture) -> None:
    taken = await patient.submitted()
    patient.pass_time(hours=4, seconds=1)
    await patient.judge()
    lasting, row = timedelta(hours=2), taken.recipients[0].id
    await decide.acknowledge(patient.store, row, by="uid:0", reason="on it", lasting=lasting)
    assert await _due(patient) == [("ops", lasting)]


async def test_later_levels_are_held_while_blind(steps: StepsFixture) -> None:
    await steps.submitted()
    steps.pass_time(hours=5)
    await steps.judge()
    steps.pass_time(days=2)
    assert await escalate(steps.store) == 0
    assert await steps.judge() == 1


async def test_a_message_that_is_not_submitted_in_time_is_overdue_even_while_blind(steps: StepsFixture) -> None:
    taken = await steps.take()
    steps.pass_time(hours=1, seconds=1)
    assert await escalate(steps.store) == 1
    (alert,) = await steps.alerts()
    assert alert.type == "receipt.overdue"
    assert alert.data["reason"].startswith("Not submitted")
    assert (await steps.recipient(taken)).receipt is Receipt.OVERDUE


async def test_a_failure_is_told_at_once_and_only_to_level_1(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    await steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
    steps.pass_time(days=3)
    await steps.judge()
    assert await steps.told() == [("receipt.failed", 1, ("ops",))]


async def test_a_failure_after_delivery_is_a_contradiction(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    token = taken.recipients[0].token
    await steps.receive(dsn(token), dsn(token, action="failed", status="5.0.0"))
    assert [kind for kind, _, _ in await steps.told()] == ["receipt.contradicted"]


async def test_the_same_report_twice_is_one_event_and_one_alert(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    raw = dsn(taken.recipients[0].token, action="failed", status="5.1.1")
    await steps.receive(raw)
    steps.pass_time(minutes=1)
    await steps.receive(raw.replace(b"See below", b"See  below"))
    failed = [event for event in (await steps.whole(taken)).events if event.kind is EventKind.FAILED]
    assert [event.count for event in failed] == [2]
    assert len(await steps.alerts()) == 1


async def test_a_receipt_after_the_alert_resolves_it_for_whom_it_may_have_reached(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=5)
    await steps.judge()
    for dispatch in await steps.dispatches():
        async with steps.store.write() as session:
            dispatch.attempts = 1
            await session.merge(dispatch)
    steps.pass_time(minutes=1)
    await steps.receive(dsn(taken.recipients[0].token))
    resolved = (await steps.alerts())[-1]
    assert (resolved.type, resolved.data["outcome"], resolved.data["late"]) == ("receipt.resolved", "met", True)
    assert (await steps.told())[-1] == ("receipt.resolved", 1, ("ops",))
    assert (await steps.recipient(taken)).receipt is Receipt.MET_LATE


async def test_where_nobody_was_told_neither_alert_nor_resolution_is_sent(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=5)
    await steps.judge()
    await steps.receive(dsn(taken.recipients[0].token))
    assert [dispatch.outcome for dispatch in await steps.dispatches()] == ["dropped"]


async def test_what_reached_our_server_in_time_is_in_time_however_late_it_is_read(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=3)
    arrived = steps.instant
    steps.pass_time(hours=9)
    await steps.receive(dsn(taken.recipients[0].token), received_at=arrived)
    assert (await steps.recipient(taken)).receipt is Receipt.MET


async def test_a_mailbox_that_leaves_the_settings_while_it_is_blind_is_blind_no_longer(steps: StepsFixture) -> None:
    """Its alert would stay open for ever: nobody reads it again."""
    async with steps.store.write() as session:
        sight = Outage(since=steps.instant, reason="gone")
        await blind(session, steps.store.settings, "mailbox:old", sight, now=steps.instant)
    async with steps.store.write() as session:
        for dispatch in await steps.dispatches():
            dispatch.attempts = 1
            await session.merge(dispatch)
    boxes, others = {"receipts": Health("mailbox:receipts")}, [Health("relay:relay"), Health("clock:clock")]
    for _ in range(2):
        await monitor(steps.store, others[0], boxes, others[1], started_at=steps.instant)
    told = await steps.alerts()
    assert sorted(alert.type for alert in told) == ["monitor.blind", "monitor.clear"]
    assert all(alert.resolved_at is not None for alert in told)


async def test_a_mailbox_that_is_not_read_is_one_alert_until_it_is_read_again(steps: StepsFixture) -> None:
    started_at, up = steps.instant, Health("relay:relay")
    box, clock = Health("mailbox:receipts"), Health("clock:clock")
    await steps.read_all()
    steps.pass_time(minutes=6)
    box.down(steps.instant, "the password was refused", permanent=False)
    for _ in range(3):
        await monitor(steps.store, up, {"receipts": box}, clock, started_at=started_at)
        steps.pass_time(minutes=6)
    (alert,) = await steps.alerts()
    assert (alert.type, alert.data["what"], alert.data["name"]) == ("monitor.blind", "mailbox", "receipts")
    assert alert.data["reason"] == "the password was refused"
    async with steps.store.write() as session:
        for dispatch in await steps.dispatches():
            dispatch.attempts = 1
            await session.merge(dispatch)
    box.up()
    await steps.read_all()
    await monitor(steps.store, up, {"receipts": box}, clock, started_at=started_at)
    assert [alert.type for alert in await steps.alerts()] == ["monitor.blind", "monitor.clear"]


async def test_a_person_who_waives_ends_the_incident(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=5)
    await steps.judge()
    await steps.tell(taken.recipients[0].id, EventKind.WAIVED, source=Source.PERSON)
    steps.pass_time(days=5)
    assert await steps.judge() == 0
    await steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
    assert [kind for kind, _, _ in await steps.told()] == ["receipt.overdue"]
    assert (await steps.recipient(taken)).receipt is Receipt.WAIVED


async def _flooded(steps: StepsFixture) -> AcceptedMessage:
    """Let a holder of the return path send more delay reports than are kept."""
    taken = await steps.submitted()
    token = taken.recipients[0].token
    reports_ = [dsn(token, action="delayed", status=f"4.{n // 100}.{n % 100}") for n in range(MOST_EVENTS + 10)]
    await steps.receive(*reports_)
    return taken


async def test_a_flood_of_reports_hides_no_failure(steps: StepsFixture) -> None:
    taken = await _flooded(steps)
    await steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
    assert [kind for kind, _, _ in await steps.told()] == ["receipt.failed"]


async def test_a_flood_of_reports_holds_up_neither_deadline_nor_person(steps: StepsFixture) -> None:
    taken = await _flooded(steps)
    steps.pass_time(hours=5)
    assert await steps.judge() == 1
    assert await steps.judge() == 0, "it is judged once, not for ever"
    assert (await steps.recipient(taken)).receipt is Receipt.OVERDUE
    await steps.tell(taken.recipients[0].id, EventKind.WAIVED, source=Source.PERSON)
    assert (await steps.recipient(taken)).receipt is Receipt.WAIVED


async def test_a_flood_of_reports_is_kept_within_bounds(steps: StepsFixture) -> None:
    taken = await _flooded(steps)
    assert len((await steps.whole(taken)).events) <= MOST_EVENTS + len(EventKind)
