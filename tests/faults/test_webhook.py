"""An alert that nobody takes goes to somebody else, is visible as undelivered, and is never given up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from receiptd.daemon import Daemon
from receiptd.models import Alert
from receiptd.store import handover
from tests.faults.workshop import Workshop, workshop


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    async with workshop() as shop:
        await shop.collect()
        yield shop


async def _bad_news(shop: Workshop, address: str) -> Alert:
    """Let a letter to *address* fail at once; return the alert."""
    await shop.send(address)
    shop.smtp.script.setdefault("RCPT", []).append("550 5.1.1 no such user")
    await shop.submit()
    return (await shop.alerts())[-1]


async def _deliver_for(shop: Workshop, minutes: int) -> None:
    """Let the step run as the daemon would, minute for minute."""
    for _ in range(minutes):
        await shop.deliver()
        shop.clock.turn(minutes=1)
        await shop.collect()


async def test_while_every_receiver_is_down_an_alert_waits_undelivered_and_goes_out_when_one_is_back(
    shop: Workshop,
) -> None:
    shop.receiver.answers = lambda _: 503
    alert = await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    assert [endpoint for endpoint, _ in shop.receiver.posts] == ["ops"]
    assert await shop.readyz() == {}
    await _deliver_for(shop, 9)
    assert (await shop.dispatch("ops")).attempts == 3
    assert (await shop.dispatch("boss")).attempts >= 1, "after three tries the next level is told"
    await _deliver_for(shop, 10)
    assert "alerts" in await shop.readyz()
    assert not shop.receiver.alerts

    shop.receiver.answers = lambda _: 204
    await _deliver_for(shop, 35)
    assert {taken.id for taken in shop.receiver.alerts} == {alert.id}
    assert sorted(taken.endpoint for taken in shop.receiver.alerts) == ["boss", "ops"]
    assert await shop.readyz() == {}
    assert {webhook_id for _, webhook_id in shop.receiver.posts} == {alert.id}
    assert await shop.attempts() == len(shop.receiver.posts)


async def test_after_the_schedule_is_over_an_alert_is_still_tried_every_day(shop: Workshop) -> None:
    shop.receiver.answers = lambda _: 500
    await _bad_news(shop, "bob@b.test")
    for _ in range(14):
        await shop.deliver()
        shop.clock.turn(hours=27)
    assert (await shop.dispatch("ops")).attempts == 14
    shop.receiver.answers = lambda _: 200
    await shop.deliver()
    assert {taken.endpoint for taken in shop.receiver.alerts} == {"ops", "boss"}


async def test_an_endpoint_that_is_gone_is_asked_no_more_and_the_next_level_hears_at_once(shop: Workshop) -> None:
    shop.receiver.answers = lambda endpoint: 410 if endpoint == "ops" else 204
    alert = await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    await shop.deliver()
    assert (await shop.dispatch("ops")).outcome == "gone"
    assert "410 Gone" in str((await shop.readyz())["webhook:ops"]), "whoever looks is told that it is off"
    assert [(taken.endpoint, taken.id) for taken in shop.receiver.alerts] == [("boss", alert.id)]
    shop.receiver.posts.clear()
    second = await _bad_news(shop, "carol@b.test")
    await _deliver_for(shop, 8)
    assert shop.receiver.posts == [("boss", second.id)]


async def test_an_alert_for_endpoints_that_are_all_gone_is_undelivered(shop: Workshop) -> None:
    shop.receiver.answers = lambda _: 410
    await _bad_news(shop, "bob@b.test")
    await _deliver_for(shop, 3)
    assert "alerts" in await shop.readyz()


async def test_a_replay_asks_an_endpoint_again_that_was_gone_and_brings_what_is_stranded_there(shop: Workshop) -> None:
    shop.receiver.answers = lambda _: 410
    alert = await _bad_news(shop, "bob@b.test")
    stranded = await _bad_news(shop, "carol@b.test")
    await _deliver_for(shop, 3)
    assert "alerts" in await shop.readyz()
    shop.receiver.answers = lambda _: 204
    await shop.store.together(lambda session: handover.replay(session, shop.store.settings, alert, shop.clock()))
    await _deliver_for(shop, 2)
    taken = sorted((taken.endpoint, taken.id) for taken in shop.receiver.alerts)
    assert taken == sorted((endpoint, one.id) for endpoint in ("ops", "boss") for one in (alert, stranded)), "each once"
    assert await shop.readyz() == {}
    await _bad_news(shop, "dave@b.test")
    await _deliver_for(shop, 1)
    assert shop.receiver.about("dave@b.test"), "it is on again"


async def test_retry_after_is_obeyed(shop: Workshop) -> None:
    shop.receiver.answers = lambda _: 429
    shop.receiver.headers["retry-after"] = "600"
    await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    shop.receiver.answers = lambda _: 204
    shop.clock.turn(seconds=599)
    await shop.deliver()
    assert len(shop.receiver.posts) == 1
    shop.clock.turn(seconds=2)
    await shop.deliver()
    assert [taken.endpoint for taken in shop.receiver.alerts] == ["ops"]


async def test_while_an_endpoint_asks_to_be_left_alone_nothing_else_is_posted_to_it(shop: Workshop) -> None:
    shop.receiver.answers = lambda _: 503
    shop.receiver.headers["retry-after"] = "120"
    first = await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    shop.receiver.answers = lambda _: 204
    second = await _bad_news(shop, "carol@b.test")
    shop.clock.turn(seconds=119)
    await shop.deliver()
    assert shop.receiver.posts == [("ops", first.id)]
    shop.clock.turn(seconds=2)
    await shop.deliver()
    assert sorted(taken.id for taken in shop.receiver.alerts) == sorted((first.id, second.id))


async def test_news_is_posted_after_five_minutes_to_an_endpoint_that_asks_for_longer(shop: Workshop) -> None:
    """It may be willing again long before; and nobody else would be told meanwhile."""
    shop.receiver.answers = lambda _: 503
    shop.receiver.headers["retry-after"] = "1200"
    await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    second = await _bad_news(shop, "carol@b.test")
    shop.receiver.answers = lambda _: 204
    shop.clock.turn(minutes=5)
    await shop.deliver()
    assert [taken.id for taken in shop.receiver.alerts] == [second.id]


async def test_an_endpoint_that_asks_for_hours_is_not_waited_for_alone(shop: Workshop) -> None:
    shop.receiver.answers = lambda endpoint: 503 if endpoint == "ops" else 204
    shop.receiver.headers["retry-after"] = "7200"
    alert = await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    assert [(taken.endpoint, taken.id) for taken in shop.receiver.alerts] == [("boss", alert.id)]
    shop.receiver.answers = lambda _: 204
    shop.clock.turn(minutes=119)
    await shop.deliver()
    assert len(shop.receiver.posts) == 2, "and what it asked for is obeyed"


async def test_a_clock_that_is_set_back_prolongs_no_wait_for_an_endpoint(shop: Workshop) -> None:
    shop.receiver.answers = lambda _: 503
    shop.receiver.headers["retry-after"] = "120"
    await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    shop.receiver.answers = lambda _: 204
    shop.clock.turn(hours=-1)
    await _bad_news(shop, "carol@b.test")
    await shop.deliver()
    assert shop.receiver.about("carol@b.test")


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_set_makes_no_retry_late_and_none_early(shop: Workshop, hours: int) -> None:
    shop.receiver.answers = lambda _: 503
    shop.receiver.headers["retry-after"] = "600"
    await _bad_news(shop, "bob@b.test")
    await shop.deliver()
    shop.receiver.answers = lambda _: 204
    daemon = Daemon(shop.store)
    shop.clock.turn(hours=hours)
    await daemon._look_at_the_clock()
    await daemon.http.aclose()
    shop.clock.turn(seconds=599)
    await shop.deliver()
    assert shop.receiver.alerts == []
    shop.clock.turn(seconds=2)
    await shop.deliver()
    assert shop.receiver.about("bob@b.test")


async def test_an_endpoint_that_does_not_answer_keeps_no_other_waiting(shop: Workshop) -> None:
    """Nothing listens at ops' port any more: that is an attempt like any other."""
    ops, boss = shop.store.settings.webhook
    closed = ops.model_copy(update={"url": "http://127.0.0.1:1/ops"})
    shop.store.settings = shop.store.settings.model_copy(update={"webhook": (closed, boss)})
    await _bad_news(shop, "bob@b.test")
    await _deliver_for(shop, 10)
    assert [taken.endpoint for taken in shop.receiver.alerts] == ["boss"]
    assert (await shop.dispatch("ops")).outcome == "pending"
