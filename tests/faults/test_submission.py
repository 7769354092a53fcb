"""Whatever the relay does, a letter is sent once, or again only where SMTP leaves the outcome unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from receiptd.facts import Delivery, Receipt
from tests.fake_smtp import Drop, Hang
from tests.faults.workshop import Workshop, workshop


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    async with workshop() as shop:
        yield shop


async def _an_uncertain_letter(shop: Workshop) -> str:
    """Send a letter to bob@b.test whose final dot is never answered."""
    bob = await shop.send("bob@b.test")
    shop.smtp.script["."] = [Drop()]
    await shop.submit()
    assert (await shop.recipient(bob)).delivery is Delivery.UNCERTAIN
    return bob


async def test_a_letter_that_is_put_off_goes_out_later(shop: Workshop) -> None:
    bob = await shop.send("bob@b.test")
    shop.smtp.script["RCPT"] = ["450 4.2.0 greylisted"]
    await shop.submit()
    assert (await shop.recipient(bob)).delivery is Delivery.DEFERRED
    await shop.submit()
    assert len(shop.smtp.said("RCPT")) == 1, "it must wait before it asks again"
    shop.clock.turn(minutes=5)
    await shop.submit()
    assert (await shop.recipient(bob)).delivery is Delivery.ACCEPTED
    assert len(shop.smtp.messages) == 1
    assert not await shop.alerts()


async def test_a_letter_that_is_put_off_for_ever_fails_when_we_give_up() -> None:
    async with workshop(submission='give_up = "1h"\nsubmit_within = "5h"') as shop:
        bob = await shop.send("bob@b.test")
        shop.smtp.script["RCPT"] = ["450 4.2.0 try later"] * 20
        for _ in range(8):
            await shop.submit()
            shop.clock.turn(minutes=20)
        row = await shop.recipient(bob)
        assert (row.delivery, row.receipt) == (Delivery.FAILED, Receipt.FAILED)
        assert [alert.type for alert in await shop.alerts()] == ["receipt.failed"]
        asked = len(shop.smtp.said("RCPT"))
        shop.clock.turn(days=1)
        await shop.submit()
        assert len(shop.smtp.said("RCPT")) == asked


async def test_a_letter_not_submitted_in_time_is_told_though_no_mailbox_was_read(shop: Workshop) -> None:
    bob = await shop.send("bob@b.test")
    shop.smtp.script["CONNECT"] = ["554 5.7.1 go away"] * 5
    await shop.submit()
    assert (await shop.recipient(bob)).delivery is Delivery.QUEUED
    shop.clock.turn(minutes=61)
    await shop.escalate()
    (alert,) = await shop.alerts()
    assert alert.type == "receipt.overdue"
    assert alert.data["reason"].startswith("Not submitted")
    await shop.submit()
    shop.clock.turn(minutes=6)
    shop.smtp.script["CONNECT"] = []
    await shop.submit()
    assert (await shop.recipient(bob)).delivery is Delivery.ACCEPTED


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_relay_that_breaks_off_before_the_content_delays_a_letter_and_no_more(
    shop: Workshop, verb: str
) -> None:
    shop.smtp.script[verb] = [Drop(), Drop("421 4.3.2 shutting down")]
    bob = await shop.send("bob@b.test")
    for _ in range(2):
        await shop.submit()
        assert (await shop.recipient(bob)).delivery is Delivery.QUEUED
        assert not shop.relay_health.is_up
        shop.clock.turn(minutes=1)
    await shop.submit()
    assert await shop.kinds(bob) == ["accepted", "queued"]
    assert len(shop.smtp.messages) == 1
    assert shop.relay_health.is_up


async def test_an_uncertain_letter_is_sent_again_only_after_the_wait_and_byte_for_byte(shop: Workshop) -> None:
    bob = await _an_uncertain_letter(shop)
    shop.clock.turn(minutes=14)
    await shop.submit()
    assert len(shop.smtp.messages) == 1
    shop.clock.turn(minutes=2)
    await shop.submit()
    first, second = shop.smtp.messages
    assert first == second
    envelopes = {line for line in shop.smtp.lines if line.startswith(("MAIL", "RCPT"))}
    assert len(envelopes) == 2, "the same return path, ENVID and recipient both times"
    assert (await shop.recipient(bob)).delivery is Delivery.ACCEPTED
    assert await shop.kinds(bob) == ["accepted", "queued", "uncertain"]


async def test_an_uncertain_letter_that_a_report_proves_is_never_sent_again(shop: Workshop) -> None:
    bob = await _an_uncertain_letter(shop)
    shop.report("bob@b.test")
    await shop.collect()
    await shop.settle()
    shop.clock.turn(hours=1)
    await shop.submit()
    assert len(shop.smtp.messages) == 1
    row = await shop.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)
    assert not await shop.alerts()


async def test_a_refusal_of_the_second_copy_proves_nothing_and_is_told_once(shop: Workshop) -> None:
    bob = await _an_uncertain_letter(shop)
    shop.smtp.script["RCPT"] = ["550 5.1.1 no such user"] * 3
    shop.clock.turn(minutes=16)
    await shop.submit()
    row = await shop.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.UNCERTAIN, Receipt.OPEN)
    shop.clock.turn(hours=1)
    await shop.submit()
    assert len(shop.smtp.said("RCPT")) == 2, "nobody sends it a third time"
    (alert,) = await shop.alerts()
    assert (alert.type, alert.data["unproven"]) == ("receipt.failed", True)


async def test_a_report_before_the_relays_answer_is_settled_and_the_answer_changes_nothing(shop: Workshop) -> None:
    bob = await shop.send("bob@b.test")
    shop.smtp.script["."] = [Hang()]
    submitting = asyncio.create_task(shop.submit())
    while not shop.smtp.messages:
        await asyncio.sleep(0.01)
    shop.report("bob@b.test")
    await shop.collect()
    await shop.settle()
    assert (await shop.recipient(bob)).delivery is Delivery.DELIVERED
    assert "accepted" not in await shop.kinds(bob)
    shop.smtp.say_unasked("250 2.0.0 Ok: queued as 4XyZ1")
    await submitting
    row = await shop.recipient(bob)
    assert (row.delivery, row.receipt) == (Delivery.DELIVERED, Receipt.MET)
    assert await shop.kinds(bob) == ["accepted", "delivered", "met", "queued"]
    shop.clock.turn(hours=1)
    await shop.submit()
    assert len(shop.smtp.messages) == 1
