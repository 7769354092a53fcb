"""Alerts sent again, to whom they went or would go today, and alerts whose webhook the settings no longer have."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiptd.facts import AlertType
from receiptd.models import Alert
from receiptd.store import handover, monitors
from tests.api_fixture import open_api
from tests.steps_fixture import StepsFixture, dsn
from tests.webhook_fixture import WebhookFixture, open_webhooks

ALL = ["receipt.*", "monitor.*"]


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[WebhookFixture]:
    async with open_webhooks(tmp_path) as hooks:
        yield hooks


async def _set_aside(steps: StepsFixture) -> Alert:
    """Let a report be set aside; return the alert."""
    async with steps.store.write() as session:
        await monitors.set_aside(
            session, steps.store.settings, "r1", "receipts", reason="unreadable", now=steps.instant
        )
    return (await steps.alerts())[-1]


async def test_a_replay_of_an_alert_that_nobody_takes_says_so_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    hook = {
        "name": "ops", "url": "http://127.0.0.1:1/", "secret_file": str(tmp_path / "secret"), "events": ["receipt.*"],
    }  # fmt: skip
    async with open_api(tmp_path, webhook=[hook], policy={}) as server:
        alert = await _set_aside(server.steps)
        answer = await server.api.post(f"/v1/alerts/{alert.id}/replay")
        assert (answer.status_code, answer.json()["exit_status"]) == (409, 65)
        assert answer.json()["detail"] == (
            "no webhook takes monitor.set_aside, so the alert goes to nobody: name this type in `events` of a "
            "[[webhook]], restart receiptd, and replay the alert then"
        )
        assert server.wakes == 0


async def test_a_replay_goes_to_those_who_take_the_type_today_where_nobody_did_when_it_was_raised(
    hooks: WebhookFixture,
) -> None:
    hooks.subscribe(ops=["receipt.*"], boss=["receipt.*"])
    alert = await _set_aside(hooks.steps)
    assert await hooks.replay(alert) == []
    assert (await hooks.steps.alerts())[0].undelivered
    hooks.subscribe(ops=ALL, boss=["receipt.*"])
    assert await hooks.replay(alert) == ["ops"]
    assert await hooks.deliver() == 1
    assert [(got.endpoint, got.id, got.type) for got in hooks.receiver.alerts] == [
        ("ops", alert.id, AlertType.MONITOR_SET_ASIDE)
    ]
    assert not (await hooks.steps.alerts())[0].undelivered


async def test_a_replay_passes_by_a_webhook_that_the_settings_no_longer_have(hooks: WebhookFixture) -> None:
    alert = await hooks.bad_news()
    await hooks.deliver()
    hooks.subscribe(team=ALL)
    assert await hooks.replay(alert) == ["team"]
    await hooks.deliver()
    assert hooks.receiver.posts == [("ops", alert.id), ("team", alert.id)]


async def test_a_replay_of_what_is_being_posted_posts_it_once(hooks: WebhookFixture) -> None:
    came, may_answer = threading.Event(), threading.Event()

    def answers(_: str) -> int:
        came.set()
        may_answer.wait(10)
        return 204

    hooks.receiver.answers = answers
    alert = await hooks.bad_news()
    async with hooks.delivering():
        await hooks.until(came.is_set)
        assert await hooks.replay(alert) == ["ops"]
        hooks.wake.set()
        may_answer.set()
        await hooks.until(lambda: bool(hooks.receiver.alerts))
    assert hooks.receiver.posts == [("ops", alert.id)]


async def test_what_waits_for_a_webhook_that_the_settings_no_longer_have_is_told_to_others(
    hooks: WebhookFixture,
) -> None:
    """Somebody gives a webhook another name and restarts while an alert waits for it."""
    hooks.receiver.answers = lambda _: 500
    alert = await hooks.bad_news()
    blind = await _set_aside(hooks.steps)
    await hooks.deliver()
    hooks.receiver.answers = lambda _: 204
    hooks.receiver.posts.clear()
    hooks.subscribe(team=ALL)
    settings = hooks.steps.store.settings
    levels = settings.policy["default"].levels
    renamed = settings.policy["default"].model_copy(
        update={"levels": tuple(level.model_copy(update={"to": ("team",)}) for level in levels)}
    )
    hooks.steps.store.settings = settings.model_copy(update={"policy": {"default": renamed}})
    assert await handover.retire(hooks.steps.store) == 0, "it is not due yet"
    hooks.pass_time(seconds=6)
    assert await handover.retire(hooks.steps.store) == 3
    await hooks.deliver()
    assert sorted(hooks.receiver.posts) == sorted([("team", alert.id), ("team", blind.id)])
    assert await handover.retire(hooks.steps.store) == 0


async def test_what_waits_for_a_webhook_that_is_gone_from_the_settings_is_undelivered_where_no_other_takes_it(
    hooks: WebhookFixture,
) -> None:
    hooks.receiver.answers = lambda _: 500
    await hooks.bad_news()
    await hooks.deliver()
    hooks.subscribe(team=["monitor.*"])
    hooks.pass_time(seconds=6)
    assert await handover.retire(hooks.steps.store) == 1
    assert [alert.undelivered for alert in await hooks.steps.alerts()] == [True]
    hooks.receiver.answers = lambda _: 204
    hooks.subscribe(ops=ALL)
    hooks.pass_time(days=1)
    assert await hooks.deliver() == 1, "it goes out when the webhook is there again"


async def test_a_resolution_for_a_webhook_that_is_gone_from_the_settings_is_dropped(hooks: WebhookFixture) -> None:
    taken = await hooks.steps.submitted()
    hooks.pass_time(hours=5)
    await hooks.steps.judge()
    await hooks.deliver()
    await hooks.steps.receive(dsn(taken.recipients[0].token))
    hooks.subscribe(team=ALL)
    assert await handover.retire(hooks.steps.store) == 1
    resolved = (await hooks.steps.alerts())[-1]
    assert (resolved.type, resolved.undelivered) == ("receipt.resolved", False)
    assert (await hooks.dispatch(resolved)).outcome == "dropped"
    hooks.pass_time(days=2)
    assert await handover.retire(hooks.steps.store) == 0
