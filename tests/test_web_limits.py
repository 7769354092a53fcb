"""Clients that are slow, many, or send no HTTP: nobody holds a connection or memory for as long as they like."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from receiptd import errors
from receiptd.client import find
from receiptd.web import api, protocol, requests
from receiptd.web.quotas import Busy, HourlyQuota, Quota
from tests.api_fixture import ApiFixture, letter, open_api

POST = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Type: message/rfc822\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiFixture]:
    monkeypatch.setattr(protocol, "_HEADER_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "_BODY_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "_READING_SECONDS", 0.3)
    monkeypatch.setattr(requests, "_ROOM_TIMEOUT", 0.05)
    async with open_api(tmp_path) as server:
        yield server


async def _connect(server: ApiFixture, listener: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if listener == "tcp":
        host, port = server.tcp.split(":")
        return await asyncio.open_connection(host, int(port))
    return await asyncio.open_unix_connection(server.folder / "send.sock")


async def _drip(writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Send one octet after the other, and never come to an end."""
    while True:
        writer.write(octets[:1])
        octets = octets[1:] or octets
        await asyncio.sleep(0.05)


async def _cut_off(server: ApiFixture, listener: str, begin: bytes, drip: bytes) -> bytes:
    """Return all that was said until the daemon closed the connection on somebody so slow."""
    reader, writer = await _connect(server, listener)
    writer.write(begin)
    dripping = asyncio.create_task(_drip(writer, drip))
    said = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            while piece := await reader.read(65536):
                said += piece
    dripping.cancel()
    writer.close()
    return said


@pytest.mark.parametrize("listener", ["unix", "tcp"])
async def test_a_header_that_never_ends_is_cut_off(server: ApiFixture, listener: str) -> None:
    assert await _cut_off(server, listener, b"", GET) == b""
    assert (await server.api.get("/healthz")).status_code == 200


@pytest.mark.parametrize("listener", ["unix", "tcp"])
async def test_a_second_header_that_never_ends_is_cut_off(server: ApiFixture, listener: str) -> None:
    assert b"alive" in await _cut_off(server, listener, GET + b"\r\n", GET)


async def test_who_says_nothing_at_all_is_cut_off(server: ApiFixture) -> None:
    reader, writer = await _connect(server, "unix")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_body_that_comes_at_a_crawl_is_cut_off(server: ApiFixture, caplog: pytest.LogCaptureFixture) -> None:
    begin = POST + b"Content-Length: 1000000\r\n\r\nFrom: a@a.test\r\n"
    assert await _cut_off(server, "unix", begin, b"x") == b""
    await server.send()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "it is no fault of ours"


async def test_the_rest_of_a_body_that_was_refused_is_cut_off_too(server: ApiFixture) -> None:
    begin = POST + b"Content-Length: 100000000\r\n\r\n"
    assert b"413" in await _cut_off(server, "unix", begin, b"x")


async def test_a_body_that_comes_fast_enough_has_its_time(server: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_MIN_OCTETS_PER_SECOND", 10)
    reader, writer = await _connect(server, "unix")
    body = b"From: a@a.test\nTo: b@b.test\n\n" + b"x" * 70
    writer.write(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 10):
        writer.write(body[start : start + 10])
        await asyncio.sleep(0.05)
    assert b"202" in await reader.readline()
    writer.close()


async def test_who_reads_no_answer_is_cut_off(server: ApiFixture) -> None:
    taken = await server.send(text="x\n" * 250_000)
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    sock.connect(str(server.folder / "api.sock"))
    await asyncio.get_running_loop().sock_sendall(
        sock, f"GET /v1/messages/{taken['id']}/raw HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    )
    poll = select.poll()
    poll.register(sock, 0)  # hears of the hang-up alone, and reads nothing
    assert await asyncio.to_thread(poll.poll, 5000)
    sock.close()


NO_HTTP: list[bytes] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000,
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4_000,
    b"GET /v1/messages?q=" + b"x" * 20_000,
    b"GET /healthz HTTP/1.1\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
]


async def test_what_is_no_http_and_a_header_without_end_are_400(server: ApiFixture) -> None:
    for octets in NO_HTTP:
        reader, writer = await _connect(server, "unix")
        writer.write(octets)
        async with asyncio.timeout(5):
            said = await reader.read()
        assert said.startswith(b"HTTP/1.1 400 "), octets[:80]
        assert b"application/problem+json" in said
        writer.close()


async def test_connections_are_bounded_and_one_user_does_not_take_all(
    server: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_CONNECTIONS_OF_ONE", 3)
    kept = [await _connect(server, "unix") for _ in range(3)]
    reader, writer = await _connect(server, "unix")
    said = await reader.read()
    assert said.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after" in said
    assert f"uid:{os.getuid()} may have 3 at a time".encode() in said
    assert (await server.over_tcp().get("/healthz")).status_code == 200
    for _, other in (*kept, (reader, writer)):
        other.close()


async def test_tcp_never_shuts_the_sockets_of_people(server: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_MOST_CONNECTIONS", 3)
    kept = [await _connect(server, "tcp") for _ in range(3)]
    reader, writer = await _connect(server, "tcp")
    port = server.tcp.rpartition(":")[2]
    assert f"all callers of TCP port {port} may have 3 at a time".encode() in await reader.read()
    assert (await server.sender.get("/healthz")).status_code == 200
    assert (await server.api.get("/healthz")).status_code == 200
    for _, other in (*kept, (reader, writer)):
        other.close()


async def test_one_address_does_not_take_all_of_tcp(server: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_CONNECTIONS_OF_ONE", 2)
    kept = [await _connect(server, "tcp") for _ in range(2)]
    reader, writer = await _connect(server, "tcp")
    assert b"127.0.0.1 may have 2 at a time" in await reader.read()
    host, port = server.tcp.split(":")
    other = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
    other[1].write(GET + b"Connection: close\r\n\r\n")
    assert b"alive" in await other[0].read()
    for _, one in (*kept, (reader, writer), other):
        one.close()


# --- messages and bytes an hour -------------------------------------------------------------------------------------


async def _hand_over(server: ApiFixture, *, text: str = "x", as_operator: bool = False, key: str | None = None) -> Any:
    headers = {"idempotency-key": key} if key else {}
    client = server.api if as_operator else server.sender
    return await client.post("/v1/messages", json=letter(text=text), headers=headers)


@asynccontextmanager
async def metered(folder: Path, **limits: Any) -> AsyncIterator[ApiFixture]:
    """Open a house whose send.sock has these limits."""
    (folder / "boss").write_text("x" * 24)
    listen = [
        {"unix": str(folder / "send.sock"), "mode": "0666", "scope": "send"},
        {"unix": str(folder / "api.sock"), "scope": "operate"},
    ]
    async with open_api(
        folder, service={"database": f"sqlite:///{folder}/receiptd.db", "listen": listen, **limits}
    ) as server:
        yield server


async def test_a_sender_has_so_many_messages_an_hour_and_is_told_when_there_are_more(tmp_path: Path) -> None:
    async with metered(tmp_path, messages_per_hour=2) as server:
        assert (await _hand_over(server)).status_code == 202
        server.steps.pass_time(minutes=30)
        assert (await _hand_over(server, key="once")).status_code == 202
        answer = await _hand_over(server)
        assert (answer.status_code, answer.json()["exit_status"]) == (429, 75)
        assert answer.json()["detail"] == (
            "you may hand over 2 messages within an hour and no more ([service] messages_per_hour): "
            "try again after 10:30:00 UTC, or ask whoever runs receiptd for more"
        )
        assert (await _hand_over(server, as_operator=True)).status_code == 202, "who operates is not metered"
        server.steps.pass_time(minutes=30)
        assert (await _hand_over(server, key="once")).status_code == 202, "the same again is no further message"
        assert (await _hand_over(server)).status_code == 202
        assert (await _hand_over(server)).status_code == 429


async def test_a_sender_has_so_many_octets_an_hour(tmp_path: Path) -> None:
    async with metered(tmp_path, bytes_per_hour="100K") as server:
        assert (await _hand_over(server, text="x\n" * 30_000)).status_code == 202
        answer = await _hand_over(server, text="x\n" * 30_000)
        assert answer.status_code == 429
        assert "messages of 100K octets within an hour" in answer.json()["detail"]
        assert "try again after 10:30:00 UTC" in answer.json()["detail"]
        assert "make it smaller" in (await _hand_over(server, text="x\n" * 60_000)).json()["detail"]
        assert (await _hand_over(server)).status_code == 202, "a small one still has room"
        server.steps.pass_time(hours=1)
        assert (await _hand_over(server, text="x\n" * 30_000)).status_code == 202


async def test_what_was_handed_over_before_a_restart_counts(tmp_path: Path) -> None:
    async with metered(tmp_path, messages_per_hour=2) as server:
        await _hand_over(server)
        await _hand_over(server)
        after_restart = HourlyQuota()
        with pytest.raises(Busy, match="2 messages within an hour"):
            await after_restart.check(server.steps.store, f"uid:{os.getuid()}")
        await after_restart.check(server.steps.store, "uid:4242")


# --- messages in memory -------------------------------------------------------------------------------------------


def test_nobody_takes_more_than_its_share_and_what_is_given_back_is_free() -> None:
    quota = Quota(4, 2, "cups", "come back")
    with ExitStack() as held:
        held.enter_context(quota.reserve("a", 2))
        with pytest.raises(Busy, match="too many cups: one caller may have 2 at a time; come back"):
            held.enter_context(quota.reserve("a"))
        held.enter_context(quota.reserve("b", 1))
        held.enter_context(quota.reserve("c", 1))
        assert not quota.has_room("d")
        with pytest.raises(Busy, match="all callers may have 4 at a time"):
            held.enter_context(quota.reserve("d"))
    with quota.reserve("a", 2), quota.reserve("b", 2):
        pass


def test_programs_on_the_network_leave_half_of_it_to_people() -> None:
    quota = Quota(4, 2, "cups", "come back")
    with ExitStack() as held:
        held.enter_context(quota.reserve("token:a"))
        held.enter_context(quota.reserve("token:b"))
        with pytest.raises(Busy, match="all callers over TCP may have 2 at a time"):
            held.enter_context(quota.reserve("token:c"))
        held.enter_context(quota.reserve("uid:1", 2))


async def test_who_waits_gets_what_is_given_back() -> None:
    quota = Quota(1, 1, "cups", "come back")
    with ExitStack() as held:
        held.enter_context(quota.reserve("a"))
        waiting = asyncio.create_task(quota.wait_for_room("b", 1, 5))
        await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await waiting
    with quota.reserve("b"):
        pass


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Quota:
    """A quota of bodies that others hold wholly."""
    quota = Quota(1, 1, "messages being taken", "try again soon")
    monkeypatch.setattr(api, "_bodies", lambda _: quota)
    return quota


async def test_beyond_the_bound_a_message_must_wait_and_the_command_says_75(
    crowded: Quota, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_ROOM_TIMEOUT", 0.05)
    async with open_api(tmp_path) as server:
        answer = await server.api.post("/v1/messages", json=letter())
        assert (answer.status_code, answer.json()["exit_status"]) == (429, 75)
        assert int(answer.headers["retry-after"]) > 0
        assert (await server.api.get("/v1/messages")).json()["items"] == []
        config = tmp_path / "receiptd.toml"
        config.write_text(f'[service]\nlisten = [{{unix = "{tmp_path}/send.sock", scope = "send"}}]\n')
        daemon = find(config, environ={})
        for octets in (1000, 900_000):
            raw: Any = b"From: a@a.test\nTo: b@b.test\n\n" + b"x" * octets
            with pytest.raises(errors.TryLater, match="try again soon") as fault:
                await asyncio.to_thread(daemon.post_message, raw, [])
            assert fault.value.exit_status == 75
