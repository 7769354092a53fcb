"""Who follows along: every event once, in the order of its record, and nothing missed over a reconnection."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from receiptd.identifiers import serials
from receiptd.store import events
from receiptd.web import event_stream
from tests.api_fixture import ApiFixture, Json, open_api
from tests.steps_fixture import dsn


class Told(NamedTuple):
    place: str
    kind: str
    data: Json


class Stream:
    """The server-sent events of one answer."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.comments: list[str] = []
        self._lines = answer.aiter_lines()

    async def next(self) -> Told | None:
        """Return the next event; None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(5):
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments.append(line)
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    assert set(fields) == {"id", "event", "data"}
                    return Told(fields["id"], fields["event"], json.loads(fields["data"]))
        return None

    async def take(self, number: int) -> list[Told]:
        found = [await self.next() for _ in range(number)]
        assert None not in found
        return [one for one in found if one]


@asynccontextmanager
async def following(client: httpx2.AsyncClient, since: str | None = None, **query: Any) -> AsyncIterator[Stream]:
    headers = {"last-event-id": since} if since else {}
    async with client.stream("GET", "/v1/events", params={"stream": "", **query}, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(tmp_path) as server:
        yield server


async def _page(client: httpx2.AsyncClient, **query: Any) -> Json:
    answer = await client.get("/v1/events", params=query)
    assert answer.status_code == 200, answer.text
    page: Json = answer.json()
    assert set(page) == {"items", "next"}
    return page


# --- the stream ---------------------------------------------------------------------------------------------------


async def test_who_follows_is_told_what_is_recorded_from_then_on(server: ApiFixture) -> None:
    before = await server.send()
    async with following(server.api) as stream:
        taken = await server.steps.submitted()
        await server.steps.receive(dsn(taken.recipients[0].token))
        told = await stream.take(4)
    assert [one.kind for one in told] == ["queued", "accepted", "delivered", "met"]
    assert {one.data["message"] for one in told} == {taken.message.id} != {before["id"]}
    shown = (await server.api.get(f"/v1/messages/{taken.message.id}")).json()
    beside = ("message", "cursor")
    assert [{n: v for n, v in one.data.items() if n not in beside} for one in told] == shown["events"]
    assert [one.data["cursor"] for one in told] == [one.place for one in told]


async def test_who_comes_again_misses_nothing_and_hears_nothing_twice(server: ApiFixture) -> None:
    async with following(server.api) as stream:
        first = await server.send()
        (told,) = await stream.take(1)
    meanwhile = [(await server.send())["id"] for _ in range(3)]
    async with following(server.api, told.place) as stream:
        later = await server.send()
        assert [one.data["message"] for one in await stream.take(4)] == [*meanwhile, later["id"]]
    async with following(server.api, after="0") as stream:
        assert [one.data["message"] for one in await stream.take(5)] == [first["id"], *meanwhile, later["id"]]


async def test_more_events_than_one_look_takes_all_come(server: ApiFixture) -> None:
    await server.steps.take(*(f"u{n}@b.test" for n in range(501)))
    async with following(server.api, after="0") as stream:
        told = await stream.take(501)
    assert len({one.data["id"] for one in told}) == 501
    places = [event_stream.place_of(one.place) for one in told]
    assert places == sorted(places)


async def test_a_user_hears_only_of_what_that_user_sent(server: ApiFixture) -> None:
    async with following(server.sender) as stream, following(server.api) as all_of_it:
        theirs = await server.steps.take()
        mine = await server.send(server.sender)
        assert [one.data["message"] for one in await stream.take(1)] == [mine["id"]]
        assert [one.data["message"] for one in await all_of_it.take(2)] == [theirs.message.id, mine["id"]]
    assert [one["message"] for one in (await _page(server.sender))["items"]] == [mine["id"]]


async def test_each_scope_hears_what_it_may_see(server: ApiFixture) -> None:
    erp, dashboard = server.over_tcp("erp"), server.over_tcp("dashboard")
    sent, other = await server.send(erp), await server.send()
    assert [one["message"] for one in (await _page(erp))["items"]] == [sent["id"]]
    assert [one["message"] for one in (await _page(dashboard))["items"]] == [sent["id"], other["id"]]
    assert (await server.over_tcp().get("/v1/events?stream")).status_code == 401


async def test_a_heartbeat_comes_where_nothing_happens(server: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_HEARTBEAT", 0.0)
    monkeypatch.setattr(event_stream, "_PAUSE", 0.01)
    async with following(server.api) as stream, asyncio.timeout(5):
        async for line in stream._lines:
            if line == ": still there":
                break


async def test_no_stream_keeps_the_daemon_from_its_end(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(tmp_path / "api.sock"))
        connection.sendall(b"GET /v1/events?stream&after=0 HTTP/1.1\r\nHost: a\r\n\r\n")
        sent = await server.send()
        said = b""
        while sent["id"].encode() not in said:
            said += await asyncio.to_thread(connection.recv, 65536)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    connection.settimeout(1)
    assert connection.recv(100) == b"0\r\n\r\n", "it is ended, not cut off"
    connection.close()


async def test_streams_are_counted_and_given_back(server: ApiFixture) -> None:
    async with AsyncExitStack() as open_ones:
        for _ in range(8):
            await open_ones.enter_async_context(following(server.api))
        answer = await server.api.get("/v1/events?stream")
        assert (answer.status_code, answer.json()["exit_status"]) == (429, 75)
        assert int(answer.headers["retry-after"]) > 0
        async with following(server.over_tcp("boss")):
            pass
    async with asyncio.timeout(5):
        while not await _may_follow(server.api):
            pass


async def _may_follow(client: httpx2.AsyncClient) -> bool:
    async with client.stream("GET", "/v1/events?stream") as answer:
        return answer.status_code == 200


# --- the list -----------------------------------------------------------------------------------------------------


async def test_the_list_begins_with_the_oldest_and_its_cursor_goes_on_as_a_stream(server: ApiFixture) -> None:
    sent = [(await server.send())["id"] for _ in range(5)]
    found: list[str] = []
    after: Json = {}
    while True:
        page = await _page(server.api, limit=2, **after)
        found += [one["message"] for one in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == sent
    async with following(server.api, page["items"][-1]["cursor"]) as stream:
        sent.append((await server.send())["id"])
        assert [one.data["message"] for one in await stream.take(1)] == sent[-1:]


async def _walk(client: httpx2.AsyncClient, **query: Any) -> list[Json]:
    """Return every page of one event."""
    pages = [await _page(client, limit=1, **query)]
    while pages[-1]["next"] is not None:
        pages.append(await _page(client, limit=1, **query | {"after": pages[-1]["next"]}))
    return pages


@pytest.mark.parametrize("stride", [1, 3, 1000])
async def test_a_user_learns_nothing_of_others_messages_not_even_how_many(
    server: ApiFixture, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    monkeypatch.setattr(events, "STRIDE", stride)
    assert await _page(server.sender) == {"items": [], "next": None}
    mine = [await server.send(server.sender, to=["a@b.test", "b@b.test"]) for _ in range(2)]
    alone = await _walk(server.sender)
    assert [page["items"][0]["message"] for page in alone] == [sent["id"] for sent in mine for _ in range(2)]
    for _ in range(5):
        await server.steps.submitted()
    assert await _walk(server.sender) == alone
    mine.append(await server.send(server.sender))
    (last,) = await _walk(server.sender, after=alone[-1]["items"][0]["cursor"])
    assert [item["message"] for item in last["items"]] == [mine[-1]["id"]]
    assert (await _page(server.sender, limit=4))["next"] == alone[-1]["items"][0]["cursor"]


BAD: list[Any] = [
    {"after": "x"}, {"after": ""}, {"after": "-1_"}, {"after": "9" * 30 + "_"}, {"limit": "0"}, {"stream": "no"},
    {"stream": "", "after": "x"},
]  # fmt: skip


async def test_what_is_no_place_among_the_events_is_422(server: ApiFixture) -> None:
    for query in BAD:
        answer = await server.api.get("/v1/events", params=query)
        assert answer.status_code == 422, query
    answer = await server.api.get("/v1/events?stream", headers={"last-event-id": "x"})
    assert answer.status_code == 422


async def test_an_event_that_is_told_again_is_not_a_new_one(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    report = dsn(taken.recipients[0].token)
    await server.steps.receive(report)
    before = await _page(server.api)
    await server.steps.receive(b"X-Copy: 2\n" + report)
    after = await _page(server.api)
    assert [one["cursor"] for one in after["items"]] == [one["cursor"] for one in before["items"]]
    assert [one["count"] for one in after["items"] if one["kind"] == "delivered"] == [2]


async def test_a_clock_that_was_set_back_before_a_restart_hides_nothing(server: ApiFixture) -> None:
    """The next process begins behind what the last one recorded, whatever its clock says."""
    ahead = serials.next() + 3_600_000_000
    await server.send()
    async with server.steps.store.write() as session:
        await (await session.connection()).exec_driver_sql("UPDATE event SET serial = ?", (ahead,))
    follower = await event_stream.Follower.from_now(server.steps.store)
    await events.go_on(server.steps.store)
    later = await server.send()
    assert [one.message for one in await follower.look()] == [later["id"]]


# --- writers that commit out of order -----------------------------------------------------------------------------


async def test_an_event_that_commits_behind_a_later_one_is_told_once(
    server: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on PostgreSQL, where nobody takes turns: the earlier place fills up after the later one was read."""
    store = server.steps.store
    monkeypatch.setattr(store, "is_sqlite", False)
    follower = await event_stream.Follower.from_now(store)
    first, second = (await server.steps.take()).recipients[0], (await server.steps.take()).recipients[0]
    early, late = await follower.look()
    async with store.write() as session:
        connection = await session.connection()
        place = early.place.serial - 1_000_000
        await connection.exec_driver_sql(
            "UPDATE event SET serial = ?, id = ? WHERE id = ?", (place, "f" * 32, early.event.id)
        )
    assert {early.event.recipient, late.event.recipient} == {first.id, second.id}
    assert [one.event.id for one in await follower.look()] == ["f" * 32]
    assert await follower.look() == []
    again = event_stream.Follower.behind(store, late.place)
    assert [one.event.id for one in await again.look()] == ["f" * 32, late.event.id]
