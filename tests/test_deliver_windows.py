"""Each endpoint has a window of its own: one that hangs, is slow or has much to catch up with delays no other."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from receiptd import deliver
from receiptd.models import Alert
from receiptd.store import monitors
from receiptd.watchdog import Watchdog
from tests.test_daemon import in_this_process
from tests.webhook_fixture import WebhookFixture, open_webhooks

POLICIES: dict[str, Any] = {
    "default": {"levels": [{"to": ["ops"]}]},
    "contracts": {"levels": [{"to": ["boss"]}]},
}


class Gate:
    """Holds up what is posted to one endpoint until it opens."""

    def __init__(self, hooks: WebhookFixture, name: str) -> None:
        self._open = threading.Event()
        self._name = name
        hooks.receiver.answers = self._answer

    def _answer(self, endpoint: str) -> int:
        if endpoint == self._name:
            self._open.wait(30)
        return 204

    def open(self) -> None:
        self._open.set()


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[WebhookFixture]:
    async with open_webhooks(tmp_path, policy=POLICIES) as hooks:
        yield hooks


def posted(hooks: WebhookFixture, name: str) -> list[str]:
    return [key for endpoint, key in hooks.receiver.posts if endpoint == name]


async def news(hooks: WebhookFixture, count: int, policy: str = "default") -> list[Alert]:
    return [await hooks.bad_news(f"u{n}@b{n}.test", policy=policy) for n in range(count)]


async def test_an_endpoint_that_hangs_delays_no_other(hooks: WebhookFixture) -> None:
    gate = Gate(hooks, "ops")
    stuck = await news(hooks, deliver.WINDOW + 3)
    async with hooks.delivering():
        await hooks.until(lambda: len(posted(hooks, "ops")) == deliver.WINDOW)
        for n in range(3):
            alert = await hooks.bad_news(f"v{n}@c.test", policy="contracts")
            hooks.wake.set()
            await hooks.until(lambda: [got.id for got in hooks.receiver.alerts][-1:] == [alert.id])  # noqa: B023
        assert len(posted(hooks, "ops")) == deliver.WINDOW, "its own window is full, and no more is begun there"
        gate.open()
        await hooks.until(lambda: len(posted(hooks, "ops")) == len(stuck))
    assert sorted(posted(hooks, "ops")) == sorted(alert.id for alert in stuck), "each once"


async def test_what_waits_for_an_endpoint_is_posted_as_soon_as_its_window_has_room(hooks: WebhookFixture) -> None:
    backlog = await news(hooks, 3 * deliver.WINDOW)
    assert await hooks.deliver() == len(backlog)
    assert sorted(posted(hooks, "ops")) == sorted(alert.id for alert in backlog), "each once"


async def test_a_stop_lets_posts_end_and_begins_no_further_one(hooks: WebhookFixture) -> None:
    gate = Gate(hooks, "ops")
    await news(hooks, deliver.WINDOW + 3)
    async with hooks.delivering() as task:
        await hooks.until(lambda: len(posted(hooks, "ops")) == deliver.WINDOW)
        hooks.stop.set()
        hooks.wake.set()
        await asyncio.sleep(0.05)
        assert not task.done(), "posts under way may end"
        gate.open()
        async with asyncio.timeout(10):
            await task
    assert len(posted(hooks, "ops")) == deliver.WINDOW
    assert sorted(d.outcome for d in await hooks.steps.dispatches()) == [
        *["delivered"] * deliver.WINDOW,
        *["pending"] * 3,
    ]


async def test_a_post_that_is_cut_off_is_on_record_and_is_sent_again_under_the_same_id(hooks: WebhookFixture) -> None:
    gate = Gate(hooks, "ops")
    (alert,) = await news(hooks, 1)
    task = asyncio.create_task(hooks.deliver())
    await hooks.until(lambda: posted(hooks, "ops") == [alert.id])
    (attempt,) = await hooks.attempts()
    assert "under way" in (attempt.reason or "")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gate.open()
    assert await hooks.deliver() == 0, "whoever posts it may still be at it"
    hooks.pass_time(minutes=1)
    assert await hooks.deliver() == 1
    assert posted(hooks, "ops") == [alert.id] * 2
    assert [(row.status, row.reason) for row in await hooks.attempts()] == [(None, attempt.reason), (204, None)]


@pytest.mark.sqlite
async def test_a_database_that_is_away_while_posts_are_under_way_loses_no_answer(
    hooks: WebhookFixture,
) -> None:
    gate = Gate(hooks, "ops")
    (alert,) = await news(hooks, 1)
    task = asyncio.create_task(hooks.deliver())
    await hooks.until(lambda: posted(hooks, "ops") == [alert.id])
    async with hooks.steps.store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE alert RENAME TO away")
    hooks.wake.set()
    await asyncio.sleep(0.05)
    assert not task.done()
    async with hooks.steps.store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE away RENAME TO alert")
    gate.open()
    with pytest.raises(OperationalError):
        await task
    assert (await hooks.dispatch(alert)).outcome == "delivered"


async def test_two_takers_of_one_database_send_nothing_twice(hooks: WebhookFixture) -> None:
    backlog = await news(hooks, 3 * deliver.WINDOW)
    other = deliver.Endpoints(hooks.http)
    both = await asyncio.gather(
        hooks.deliver(),
        deliver.deliver(hooks.steps.store, other, wake=asyncio.Event(), stop=hooks.stop, watchdog=Watchdog()),
    )
    assert sum(both) == len(backlog)
    assert sorted(posted(hooks, "ops")) == sorted(alert.id for alert in backlog)


async def test_a_backlog_goes_out_oldest_first_when_the_endpoint_is_back(
    hooks: WebhookFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "WINDOW", 1)
    hooks.receiver.answers = lambda _: 500
    backlog = []
    for n in range(6):
        hooks.pass_time(seconds=1)
        backlog.append(await hooks.bad_news(f"u{n}@b{n}.test"))
    for _ in range(4):
        await hooks.deliver()
        hooks.pass_time(minutes=6)
    assert all(alert.undelivered for alert in await hooks.steps.alerts())
    hooks.receiver.answers = lambda _: 204
    hooks.receiver.posts.clear()
    fresh = await hooks.bad_news("v@c.test")
    assert await hooks.deliver() == 1 + len(backlog)
    assert posted(hooks, "ops") == [fresh.id, *(alert.id for alert in backlog)]
    assert all(not alert.undelivered for alert in await hooks.steps.alerts())


async def test_what_is_stranded_and_under_way_is_not_taken_again_because_another_one_was_taken(
    hooks: WebhookFixture,
) -> None:
    hooks.receiver.answers = lambda _: 500
    backlog = await news(hooks, 3)
    for _ in range(4):
        await hooks.deliver()
        hooks.pass_time(minutes=6)
    gate = Gate(hooks, "ops")
    hooks.receiver.posts.clear()
    hooks.pass_time(hours=1)
    async with hooks.delivering():
        await hooks.until(lambda: len(posted(hooks, "ops")) == len(backlog))
        hooks.receiver.answers = lambda _: 204
        fresh = await hooks.bad_news("v@c.test")
        hooks.wake.set()
        await hooks.until(lambda: [got.id for got in hooks.receiver.alerts] == [fresh.id])
        hooks.wake.set()
        await asyncio.sleep(0.1)
        gate.open()
        await hooks.until(lambda: len(hooks.receiver.alerts) == 1 + len(backlog))
    assert sorted(posted(hooks, "ops")) == sorted(alert.id for alert in (*backlog, fresh)), "each once"


async def test_names_that_are_looked_up_for_ever_leave_threads_for_everybody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver blocks a thread for as long as it likes, whatever time-out waits for it."""
    look_up, asked, may_answer = socket.getaddrinfo, [], threading.Event()

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if host in ("hang.test", b"hang.test"):
            asked.append(host)
            may_answer.wait(30)
            raise socket.gaierror
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with in_this_process(tmp_path, monkeypatch) as running:
        store = running.daemon.store
        hook = store.settings.webhook[0].model_copy(update={"events": ("monitor.*",), "url": "http://hang.test/"})
        store.settings = store.settings.model_copy(update={"webhook": (hook,)})
        await running.start()
        for n in range(deliver.WINDOW):
            async with store.write() as session:
                await monitors.set_aside(session, store.settings, f"r{n}", "receipts", reason="?", now=store.now())
        running.daemon.deliver.wake.set()
        try:
            async with asyncio.timeout(10):
                while len(asked) < deliver.WINDOW:
                    await asyncio.sleep(0.005)
                assert await asyncio.to_thread(lambda: "a turn") == "a turn"
        finally:
            may_answer.set()
