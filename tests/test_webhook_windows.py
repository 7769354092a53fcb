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

from receiptd import webhook
from receiptd.models import Alert
from receiptd.pulse import Pulse
from receiptd.store import monitors
from tests.desk import Desk, desk_in
from tests.test_daemon import in_this_process

POLICIES: dict[str, Any] = {
    "default": {"levels": [{"to": ["ops"]}]},
    "contracts": {"levels": [{"to": ["boss"]}]},
}


class Gate:
    """Holds up what is posted to one endpoint until it opens."""

    def __init__(self, desk: Desk, name: str) -> None:
        self._open = threading.Event()
        self._name = name
        desk.receiver.answers = self._answer

    def _answer(self, endpoint: str) -> int:
        if endpoint == self._name:
            self._open.wait(30)
        return 204

    def open(self) -> None:
        self._open.set()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_in(tmp_path, policy=POLICIES) as desk:
        yield desk


def posted(desk: Desk, name: str) -> list[str]:
    return [key for endpoint, key in desk.receiver.posts if endpoint == name]


async def news(desk: Desk, count: int, policy: str = "default") -> list[Alert]:
    return [await desk.bad_news(f"u{n}@b{n}.test", policy=policy) for n in range(count)]


async def test_an_endpoint_that_hangs_delays_no_other(desk: Desk) -> None:
    gate = Gate(desk, "ops")
    stuck = await news(desk, webhook.WINDOW + 3)
    async with desk.delivering():
        await desk.until(lambda: len(posted(desk, "ops")) == webhook.WINDOW)
        for n in range(3):
            alert = await desk.bad_news(f"v{n}@c.test", policy="contracts")
            desk.wake.set()
            await desk.until(lambda: [got.id for got in desk.receiver.alerts][-1:] == [alert.id])  # noqa: B023
        assert len(posted(desk, "ops")) == webhook.WINDOW, "its own window is full, and no more is begun there"
        gate.open()
        await desk.until(lambda: len(posted(desk, "ops")) == len(stuck))
    assert sorted(posted(desk, "ops")) == sorted(alert.id for alert in stuck), "each once"


async def test_what_waits_for_an_endpoint_is_posted_as_soon_as_its_window_has_room(desk: Desk) -> None:
    backlog = await news(desk, 3 * webhook.WINDOW)
    assert await desk.deliver() == len(backlog)
    assert sorted(posted(desk, "ops")) == sorted(alert.id for alert in backlog), "each once"


async def test_a_stop_lets_posts_end_and_begins_no_further_one(desk: Desk) -> None:
    gate = Gate(desk, "ops")
    await news(desk, webhook.WINDOW + 3)
    async with desk.delivering() as task:
        await desk.until(lambda: len(posted(desk, "ops")) == webhook.WINDOW)
        desk.stop.set()
        desk.wake.set()
        await asyncio.sleep(0.05)
        assert not task.done(), "posts under way may end"
        gate.open()
        async with asyncio.timeout(10):
            await task
    assert len(posted(desk, "ops")) == webhook.WINDOW
    assert sorted(d.outcome for d in await desk.stage.dispatches()) == [
        *["delivered"] * webhook.WINDOW,
        *["pending"] * 3,
    ]


async def test_a_post_that_is_cut_off_is_on_record_and_is_sent_again_under_the_same_id(desk: Desk) -> None:
    gate = Gate(desk, "ops")
    (alert,) = await news(desk, 1)
    task = asyncio.create_task(desk.deliver())
    await desk.until(lambda: posted(desk, "ops") == [alert.id])
    (attempt,) = await desk.attempts()
    assert "under way" in (attempt.reason or "")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gate.open()
    assert await desk.deliver() == 0, "whoever posts it may still be at it"
    desk.pass_time(minutes=1)
    assert await desk.deliver() == 1
    assert posted(desk, "ops") == [alert.id] * 2
    assert [(row.status, row.reason) for row in await desk.attempts()] == [(None, attempt.reason), (204, None)]


async def test_a_database_that_is_away_while_posts_are_under_way_loses_no_answer(
    desk: Desk,
) -> None:
    gate = Gate(desk, "ops")
    (alert,) = await news(desk, 1)
    task = asyncio.create_task(desk.deliver())
    await desk.until(lambda: posted(desk, "ops") == [alert.id])
    async with desk.stage.store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE alert RENAME TO away")
    desk.wake.set()
    await asyncio.sleep(0.05)
    assert not task.done()
    async with desk.stage.store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE away RENAME TO alert")
    gate.open()
    with pytest.raises(OperationalError):
        await task
    assert (await desk.dispatch(alert)).outcome == "delivered"


async def test_two_takers_of_one_database_send_nothing_twice(desk: Desk) -> None:
    backlog = await news(desk, 3 * webhook.WINDOW)
    other = webhook.Endpoints(desk.http)
    both = await asyncio.gather(
        desk.deliver(),
        webhook.deliver(desk.stage.store, other, wake=asyncio.Event(), stop=desk.stop, pulse=Pulse()),
    )
    assert sum(both) == len(backlog)
    assert sorted(posted(desk, "ops")) == sorted(alert.id for alert in backlog)


async def test_a_backlog_goes_out_oldest_first_when_the_endpoint_is_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "WINDOW", 1)
    desk.receiver.answers = lambda _: 500
    backlog = []
    for n in range(6):
        desk.pass_time(seconds=1)
        backlog.append(await desk.bad_news(f"u{n}@b{n}.test"))
    for _ in range(4):
        await desk.deliver()
        desk.pass_time(minutes=6)
    assert all(alert.undelivered for alert in await desk.stage.alerts())
    desk.receiver.answers = lambda _: 204
    desk.receiver.posts.clear()
    fresh = await desk.bad_news("v@c.test")
    assert await desk.deliver() == 1 + len(backlog)
    assert posted(desk, "ops") == [fresh.id, *(alert.id for alert in backlog)]
    assert all(not alert.undelivered for alert in await desk.stage.alerts())


async def test_what_is_stranded_and_under_way_is_not_taken_again_because_another_one_was_taken(desk: Desk) -> None:
    desk.receiver.answers = lambda _: 500
    backlog = await news(desk, 3)
    for _ in range(4):
        await desk.deliver()
        desk.pass_time(minutes=6)
    gate = Gate(desk, "ops")
    desk.receiver.posts.clear()
    desk.pass_time(hours=1)
    async with desk.delivering():
        await desk.until(lambda: len(posted(desk, "ops")) == len(backlog))
        desk.receiver.answers = lambda _: 204
        fresh = await desk.bad_news("v@c.test")
        desk.wake.set()
        await desk.until(lambda: [got.id for got in desk.receiver.alerts] == [fresh.id])
        desk.wake.set()
        await asyncio.sleep(0.1)
        gate.open()
        await desk.until(lambda: len(desk.receiver.alerts) == 1 + len(backlog))
    assert sorted(posted(desk, "ops")) == sorted(alert.id for alert in (*backlog, fresh)), "each once"


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
        for n in range(webhook.WINDOW):
            async with store.write() as session:
                await monitors.set_aside(session, store.settings, f"r{n}", "receipts", reason="?", now=store.now())
        running.daemon.deliver.bell.set()
        try:
            async with asyncio.timeout(10):
                while len(asked) < webhook.WINDOW:
                    await asyncio.sleep(0.005)
                assert await asyncio.to_thread(lambda: "a turn") == "a turn"
        finally:
            may_answer.set()
