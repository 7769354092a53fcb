"""Alerts sent again, to whom they went or would go today, and alerts whose webhook the settings no longer have."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiptd.facts import AlertType
from receiptd.models import Alert
from receiptd.store import handover, monitors
from tests.desk import Desk, desk_in
from tests.house import open_api
from tests.stage import Stage, dsn

ALL = ["receipt.*", "monitor.*"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_in(tmp_path) as desk:
        yield desk


async def _set_aside(stage: Stage) -> Alert:
    """Let a report be set aside; return the alert."""
    async with stage.store.write() as session:
        await monitors.set_aside(
            session, stage.store.settings, "r1", "receipts", reason="unreadable", now=stage.instant
        )
    return (await stage.alerts())[-1]


async def test_a_replay_of_an_alert_that_nobody_takes_says_so_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    hook = {
        "name": "ops", "url": "http://127.0.0.1:1/", "secret_file": str(tmp_path / "secret"), "events": ["receipt.*"],
    }  # fmt: skip
    async with open_api(tmp_path, webhook=[hook], policy={}) as home:
        alert = await _set_aside(home.stage)
        answer = await home.api.post(f"/v1/alerts/{alert.id}/replay")
        assert (answer.status_code, answer.json()["exit_status"]) == (409, 65)
        assert answer.json()["detail"] == (
            "no webhook takes monitor.set_aside, so the alert goes to nobody: name this type in `events` of a "
            "[[webhook]], restart receiptd, and replay the alert then"
        )
        assert home.rings == 0


async def test_a_replay_goes_to_those_who_take_the_type_today_where_nobody_did_when_it_was_raised(desk: Desk) -> None:
    desk.subscribe(ops=["receipt.*"], boss=["receipt.*"])
    alert = await _set_aside(desk.stage)
    assert await desk.replay(alert) == []
    assert (await desk.stage.alerts())[0].undelivered
    desk.subscribe(ops=ALL, boss=["receipt.*"])
    assert await desk.replay(alert) == ["ops"]
    assert await desk.deliver() == 1
    assert [(got.endpoint, got.id, got.type) for got in desk.receiver.alerts] == [
        ("ops", alert.id, AlertType.MONITOR_SET_ASIDE)
    ]
    assert not (await desk.stage.alerts())[0].undelivered


async def test_a_replay_passes_by_a_webhook_that_the_settings_no_longer_have(desk: Desk) -> None:
    alert = await desk.bad_news()
    await desk.deliver()
    desk.subscribe(team=ALL)
    assert await desk.replay(alert) == ["team"]
    await desk.deliver()
    assert desk.receiver.posts == [("ops", alert.id), ("team", alert.id)]


async def test_a_replay_of_what_is_being_posted_posts_it_once(desk: Desk) -> None:
    came, may_answer = threading.Event(), threading.Event()

    def answers(_: str) -> int:
        came.set()
        may_answer.wait(10)
        return 204

    desk.receiver.answers = answers
    alert = await desk.bad_news()
    async with desk.delivering():
        await desk.until(came.is_set)
        assert await desk.replay(alert) == ["ops"]
        desk.wake.set()
        may_answer.set()
        await desk.until(lambda: bool(desk.receiver.alerts))
    assert desk.receiver.posts == [("ops", alert.id)]


async def test_what_waits_for_a_webhook_that_the_settings_no_longer_have_is_told_to_others(desk: Desk) -> None:
    """Somebody gives a webhook another name and restarts while an alert waits for it."""
    desk.receiver.answers = lambda _: 500
    alert = await desk.bad_news()
    blind = await _set_aside(desk.stage)
    await desk.deliver()
    desk.receiver.answers = lambda _: 204
    desk.receiver.posts.clear()
    desk.subscribe(team=ALL)
    settings = desk.stage.store.settings
    levels = settings.policy["default"].levels
    renamed = settings.policy["default"].model_copy(
        update={"levels": tuple(level.model_copy(update={"to": ("team",)}) for level in levels)}
    )
    desk.stage.store.settings = settings.model_copy(update={"policy": {"default": renamed}})
    assert await handover.retire(desk.stage.store) == 0, "it is not due yet"
    desk.pass_time(seconds=6)
    assert await handover.retire(desk.stage.store) == 3
    await desk.deliver()
    assert sorted(desk.receiver.posts) == sorted([("team", alert.id), ("team", blind.id)])
    assert await handover.retire(desk.stage.store) == 0


async def test_what_waits_for_a_webhook_that_is_gone_from_the_settings_is_undelivered_where_no_other_takes_it(
    desk: Desk,
) -> None:
    desk.receiver.answers = lambda _: 500
    await desk.bad_news()
    await desk.deliver()
    desk.subscribe(team=["monitor.*"])
    desk.pass_time(seconds=6)
    assert await handover.retire(desk.stage.store) == 1
    assert [alert.undelivered for alert in await desk.stage.alerts()] == [True]
    desk.receiver.answers = lambda _: 204
    desk.subscribe(ops=ALL)
    desk.pass_time(days=1)
    assert await desk.deliver() == 1, "it goes out when the webhook is there again"


async def test_a_resolution_for_a_webhook_that_is_gone_from_the_settings_is_dropped(desk: Desk) -> None:
    taken = await desk.stage.submitted()
    desk.pass_time(hours=5)
    await desk.stage.judge()
    await desk.deliver()
    await desk.stage.receive(dsn(taken.recipients[0].token))
    desk.subscribe(team=ALL)
    assert await handover.retire(desk.stage.store) == 1
    resolved = (await desk.stage.alerts())[-1]
    assert (resolved.type, resolved.undelivered) == ("receipt.resolved", False)
    assert (await desk.dispatch(resolved)).outcome == "dropped"
    desk.pass_time(days=2)
    assert await handover.retire(desk.stage.store) == 0
