"""An alert that nobody takes goes to somebody else, is visible as undelivered, and is never given up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from receiptd.daemon import Daemon
from receiptd.models import Alert
from receiptd.store import handover
from tests.faults.steps_with_peers import StepsWithPeers, steps_with_peers


@pytest.fixture
async def steps() -> AsyncIterator[StepsWithPeers]:
    async with steps_with_peers() as steps:
        await steps.collect()
        yield steps


async def _bad_news(steps: StepsWithPeers, address: str) -> Alert:
    """Let a letter to *address* fail at once; return the alert."""
    await steps.send(address)
    steps.smtp.script.setdefault("RCPT", []).append("550 5.1.1 no such user")
    await steps.submit()
    return (await steps.alerts())[-1]


async def _deliver_for(steps: StepsWithPeers, minutes: int) -> None:
    """Let the step run as the daemon would, minute for minute."""
    for _ in range(minutes):
        await steps.deliver()
        steps.clock.turn(minutes=1)
        await steps.collect()


async def test_while_every_receiver_is_down_an_alert_waits_undelivered_and_goes_out_when_one_is_back(
    steps: StepsWithPeers,
) -> None:
    steps.receiver.answers = lambda _: 503
    alert = await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    assert [endpoint for endpoint, _ in steps.receiver.posts] == ["ops"]
    assert await steps.readyz() == {}
    await _deliver_for(steps, 9)
    assert (await steps.dispatch("ops")).attempts == 3
    assert (await steps.dispatch("boss")).attempts >= 1, "after three tries the next level is told"
    await _deliver_for(steps, 10)
    assert "alerts" in await steps.readyz()
    assert not steps.receiver.alerts

    steps.receiver.answers = lambda _: 204
    await _deliver_for(steps, 35)
    assert {taken.id for taken in steps.receiver.alerts} == {alert.id}
    assert sorted(taken.endpoint for taken in steps.receiver.alerts) == ["boss", "ops"]
    assert await steps.readyz() == {}
    assert {webhook_id for _, webhook_id in steps.receiver.posts} == {alert.id}
    assert await steps.attempts() == len(steps.receiver.posts)


async def test_after_the_schedule_is_over_an_alert_is_still_tried_every_day(steps: StepsWithPeers) -> None:
    steps.receiver.answers = lambda _: 500
    await _bad_news(steps, "bob@b.test")
    for _ in range(14):
        await steps.deliver()
        steps.clock.turn(hours=27)
    assert (await steps.dispatch("ops")).attempts == 14
    steps.receiver.answers = lambda _: 200
    await steps.deliver()
    assert {taken.endpoint for taken in steps.receiver.alerts} == {"ops", "boss"}


async def test_an_endpoint_that_is_gone_is_asked_no_more_and_the_next_level_hears_at_once(
    steps: StepsWithPeers,
) -> None:
    steps.receiver.answers = lambda endpoint: 410 if endpoint == "ops" else 204
    alert = await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    await steps.deliver()
    assert (await steps.dispatch("ops")).outcome == "gone"
    assert "410 Gone" in str((await steps.readyz())["webhook:ops"]), "whoever looks is told that it is off"
    assert [(taken.endpoint, taken.id) for taken in steps.receiver.alerts] == [("boss", alert.id)]
    steps.receiver.posts.clear()
    second = await _bad_news(steps, "carol@b.test")
    await _deliver_for(steps, 8)
    assert steps.receiver.posts == [("boss", second.id)]


async def test_an_alert_for_endpoints_that_are_all_gone_is_undelivered(steps: StepsWithPeers) -> None:
    steps.receiver.answers = lambda _: 410
    await _bad_news(steps, "bob@b.test")
    await _deliver_for(steps, 3)
    assert "alerts" in await steps.readyz()


async def test_a_replay_asks_an_endpoint_again_that_was_gone_and_brings_what_is_stranded_there(
    steps: StepsWithPeers,
) -> None:
    steps.receiver.answers = lambda _: 410
    alert = await _bad_news(steps, "bob@b.test")
    stranded = await _bad_news(steps, "carol@b.test")
    await _deliver_for(steps, 3)
    assert "alerts" in await steps.readyz()
    steps.receiver.answers = lambda _: 204
    await steps.store.together(lambda session: handover.replay(session, steps.store.settings, alert, steps.clock()))
    await _deliver_for(steps, 2)
    taken = sorted((taken.endpoint, taken.id) for taken in steps.receiver.alerts)
    assert taken == sorted((endpoint, one.id) for endpoint in ("ops", "boss") for one in (alert, stranded)), "each once"
    assert await steps.readyz() == {}
    await _bad_news(steps, "dave@b.test")
    await _deliver_for(steps, 1)
    assert steps.receiver.about("dave@b.test"), "it is on again"


async def test_retry_after_is_obeyed(steps: StepsWithPeers) -> None:
    steps.receiver.answers = lambda _: 429
    steps.receiver.headers["retry-after"] = "600"
    await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    steps.receiver.answers = lambda _: 204
    steps.clock.turn(seconds=599)
    await steps.deliver()
    assert len(steps.receiver.posts) == 1
    steps.clock.turn(seconds=2)
    await steps.deliver()
    assert [taken.endpoint for taken in steps.receiver.alerts] == ["ops"]


async def test_while_an_endpoint_asks_to_be_left_alone_nothing_else_is_posted_to_it(steps: StepsWithPeers) -> None:
    steps.receiver.answers = lambda _: 503
    steps.receiver.headers["retry-after"] = "120"
    first = await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    steps.receiver.answers = lambda _: 204
    second = await _bad_news(steps, "carol@b.test")
    steps.clock.turn(seconds=119)
    await steps.deliver()
    assert steps.receiver.posts == [("ops", first.id)]
    steps.clock.turn(seconds=2)
    await steps.deliver()
    assert sorted(taken.id for taken in steps.receiver.alerts) == sorted((first.id, second.id))


async def test_news_is_posted_after_five_minutes_to_an_endpoint_that_asks_for_longer(steps: StepsWithPeers) -> None:
    """It may be willing again long before; and nobody else would be told meanwhile."""
    steps.receiver.answers = lambda _: 503
    steps.receiver.headers["retry-after"] = "1200"
    await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    second = await _bad_news(steps, "carol@b.test")
    steps.receiver.answers = lambda _: 204
    steps.clock.turn(minutes=5)
    await steps.deliver()
    assert [taken.id for taken in steps.receiver.alerts] == [second.id]


async def test_an_endpoint_that_asks_for_hours_is_not_waited_for_alone(steps: StepsWithPeers) -> None:
    steps.receiver.answers = lambda endpoint: 503 if endpoint == "ops" else 204
    steps.receiver.headers["retry-after"] = "7200"
    alert = await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    assert [(taken.endpoint, taken.id) for taken in steps.receiver.alerts] == [("boss", alert.id)]
    steps.receiver.answers = lambda _: 204
    steps.clock.turn(minutes=119)
    await steps.deliver()
    assert len(steps.receiver.posts) == 2, "and what it asked for is obeyed"


async def test_a_clock_that_is_set_back_prolongs_no_wait_for_an_endpoint(steps: StepsWithPeers) -> None:
    steps.receiver.answers = lambda _: 503
    steps.receiver.headers["retry-after"] = "120"
    await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    steps.receiver.answers = lambda _: 204
    steps.clock.turn(hours=-1)
    await _bad_news(steps, "carol@b.test")
    await steps.deliver()
    assert steps.receiver.about("carol@b.test")


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_set_makes_no_retry_late_and_none_early(steps: StepsWithPeers, hours: int) -> None:
    steps.receiver.answers = lambda _: 503
    steps.receiver.headers["retry-after"] = "600"
    await _bad_news(steps, "bob@b.test")
    await steps.deliver()
    steps.receiver.answers = lambda _: 204
    daemon = Daemon(steps.store)
    steps.clock.turn(hours=hours)
    await daemon._look_at_the_clock()
    await daemon.http.aclose()
    steps.clock.turn(seconds=599)
    await steps.deliver()
    assert steps.receiver.alerts == []
    steps.clock.turn(seconds=2)
    await steps.deliver()
    assert steps.receiver.about("bob@b.test")


async def test_an_endpoint_that_does_not_answer_keeps_no_other_waiting(steps: StepsWithPeers) -> None:
    """Nothing listens at ops' port any more: that is an attempt like any other."""
    ops, boss = steps.store.settings.webhook
    closed = ops.model_copy(update={"url": "http://127.0.0.1:1/ops"})
    steps.store.settings = steps.store.settings.model_copy(update={"webhook": (closed, boss)})
    await _bad_news(steps, "bob@b.test")
    await _deliver_for(steps, 10)
    assert [taken.endpoint for taken in steps.receiver.alerts] == ["boss"]
    assert (await steps.dispatch("ops")).outcome == "pending"
