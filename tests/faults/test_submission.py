"""Whatever the relay does, a letter is sent once, or again only where SMTP leaves the outcome unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from receiptd.facts import Delivery, Receipt
from tests.fake_smtp import Drop, Hang
from tests.faults.steps_with_peers import StepsWithPeers, steps_with_peers


@pytest.fixture
async def steps() -> AsyncIterator[StepsWithPeers]:
    async with steps_with_peers() as steps:
        yield steps


async def _an_uncertain_letter(steps: StepsWithPeers) -> str:
    """Send a letter to bob@b.test whose final dot is never answered."""
    bob = await steps.send("bob@b.test")
    steps.smtp.script["."] = [Drop()]
    await steps.submit()
    assert (await steps.recipient(bob)).delivery is Delivery.UNCERTAIN
    return bob


async def test_a_letter_that_is_put_off_goes_out_later(steps: StepsWithPeers) -> None:
    bob = await steps.send("bob@b.test")
    steps.smtp.script["RCPT"] = ["450 4.2.0 greylisted"]
    await steps.submit()
    assert (await steps.recipient(bob)).delivery is Delivery.DEFERRED
    await steps.submit()
    assert len(steps.smtp.said("RCPT")) == 1, "it must wait before it asks again"
    steps.clock.turn(minutes=5)
    await steps.submit()
    assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED
    assert len(steps.smtp.messages) == 1
    assert not await steps.alerts()


async def test_a_letter_that_is_put_off_for_ever_fails_when_we_give_up() -> None:
    async with steps_with_peers(submission='give_up = "1h"\nsubmit_within = "5h"') as steps:
        bob = await steps.send("bob@b.test")
        steps.smtp.script["RCPT"] = ["450 4.2.0 try later"] * 20
        for _ in range(8):
            await steps.submit()
            steps.clock.turn(minutes=20)
        row = await steps.recipient(bob)
        assert (row.delivery, row.receipt) == (Delivery.FAILED, Receipt.FAILED)
        assert [alert.type for alert in await steps.alerts()] == ["receipt.failed"]
        asked = len(steps.smtp.said("RCPT"))
        steps.clock.turn(days=1)
        await steps.submit()
        assert len(steps.smtp.said("RCPT")) == asked


async def test_a_letter_not_submitted_in_time_is_told_though_no_mailbox_was_read(steps: StepsWithPeers) -> None:
    bob = await steps.send("bob@b.test")
    steps.smtp.script["CONNECT"] = ["554 5.7.1 go away"] * 5
    await steps.submit()
    assert (await steps.recipient(bob)).delivery is Delivery.QUEUED
    steps.clock.turn(minutes=61)
    await steps.escalate()
    (alert,) = await steps.alerts()
    assert alert.type == "receipt.overdue"
    assert alert.data["reason"].startswith("Not submitted")
    await steps.submit()
    steps.clock.turn(minutes=6)
    steps.smtp.script["CONNECT"] = []
    await steps.submit()
    assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_relay_that_breaks_off_before_the_content_delays_a_letter_and_no_more(
    steps: StepsWithPeers, verb: str
) -> None:
    steps.smtp.script[verb] = [Drop(), Drop("421 4.3.2 shutting down")]
    bob = await steps.send("bob@b.test")
    for _ in range(2):
        await steps.submit()
        assert (await steps.recipient(bob)).delivery is Delivery.QUEUED
        assert not steps.relay_health.is_up
        steps.clock.turn(minutes=1)
    await steps.submit()
    assert await steps.kinds(bob) == ["accepted", "queued"]
    assert len(steps.smtp.messages) == 1
    assert steps.relay_health.is_up


async def test_an_uncertain_letter_is_sent_again_only_after_the_wait_and_byte_for_byte(steps: StepsWithPeers) -> None:
    bob = await _an_uncertain_letter(steps)
    steps.clock.turn(minutes=14)
    await steps.submit()
    assert len(steps.smtp.messages) == 1
    steps.clock.turn(minutes=2)
    await steps.submit()
    first, second = steps.smtp.messages
    assert first == second
    envelopes = {line for line in steps.smtp.lines if line.startswith(("MAIL", "RCPT"))}
    assert len(envelopes) == 2, "the same return path, ENVID and recipient both times"
    assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED
    assert await steps.kinds(bob) == ["accepted", "queued", "uncertain"]


async def test_an_uncertain_letter_that_a_report_proves_is_never_sent_again(steps: StepsWithPeers) -> None:
    bob = await _an_uncertain_letter(steps)
    steps.report("bob@b.test")
    await steps.collect()
    await steps.settle()
    steps.clock.turn(hours=1)
    await steps.submit()
    assert len(steps.smtp.messages) == 1
    row = await steps.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)
    assert not await steps.alerts()


async def test_a_refusal_of_the_second_copy_proves_nothing_and_is_told_once(steps: StepsWithPeers) -> None:
    bob = await _an_uncertain_letter(steps)
    steps.smtp.script["RCPT"] = ["550 5.1.1 no such user"] * 3
    steps.clock.turn(minutes=16)
    await steps.submit()
    row = await steps.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.UNCERTAIN, Receipt.OPEN)
    steps.clock.turn(hours=1)
    await steps.submit()
    assert len(steps.smtp.said("RCPT")) == 2, "nobody sends it a third time"
    (alert,) = await steps.alerts()
    assert (alert.type, alert.data["unproven"]) == ("receipt.failed", True)


async def test_a_report_before_the_relays_answer_is_settled_and_the_answer_changes_nothing(
    steps: StepsWithPeers,
) -> None:
    bob = await steps.send("bob@b.test")
    steps.smtp.script["."] = [Hang()]
    submitting = asyncio.create_task(steps.submit())
    while not steps.smtp.messages:
        await asyncio.sleep(0.01)
    steps.report("bob@b.test")
    await steps.collect()
    await steps.settle()
    assert (await steps.recipient(bob)).delivery is Delivery.DELIVERED
    assert "accepted" not in await steps.kinds(bob)
    steps.smtp.say_unasked("250 2.0.0 Ok: queued as 4XyZ1")
    await submitting
    row = await steps.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)
    assert await steps.kinds(bob) == ["accepted", "delivered", "met", "queued"]
    steps.clock.turn(hours=1)
    await steps.submit()
    assert len(steps.smtp.messages) == 1
