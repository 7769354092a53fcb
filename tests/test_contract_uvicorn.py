"""The undocumented parts of uvicorn and h11 that web/ relies on: each test says which part, and why it is needed.

Nothing of receiptd runs here. If a test fails after an update of uvicorn, `web/protocol.py` or `web/listeners.py`
has lost what it stands on, whether or not another test notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 8 << 20


class Recorder(H11Protocol):
    """uvicorn's protocol, writing down which of its methods are called and in which state."""

    calls: list[str]
    refused: list[str]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.calls.append("connection_made")
        self.client, self.server = ("uid:1", 2), ("/path", None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.calls.append("data_received")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.calls.append("on_response_complete")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.calls.append("connection_lost")

    def pause_writing(self) -> None:
        super().pause_writing()
        self.calls.append("pause_writing")

    def resume_writing(self) -> None:
        super().resume_writing()
        self.calls.append("resume_writing")

    def send_400_response(self, msg: str) -> None:
        self.refused.append(msg)
        self.transport.close()


class Served:
    """A uvicorn server on two Unix sockets, with what its protocols and its application saw."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / "one.sock", folder / "two.sock"]
        self.scopes: list[dict[str, Any]] = []
        self.protocols: list[Recorder] = []
        self.calls: list[str] = []
        self.refused: list[str] = []
        self.started_with: list[list[socket.socket] | None] = []
        self.signals_captured = 0

    @property
    def latest(self) -> Recorder:
        return self.protocols[-1]

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer once the whole body is there; /large is more than the socket's buffers hold."""
        self.scopes.append(scope)
        while (await receive()).get("more_body"):
            pass
        body = b"x" * LARGE if scope["path"] == "/large" else b"ok"
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    @contextlib.asynccontextmanager
    async def connected(self, number: int = 0) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect to one of the sockets until the context ends."""
        reader, writer = await asyncio.open_unix_connection(self.paths[number])
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def state(self) -> Any:
        """Return the state of the peer of the latest connection."""
        return self.latest.conn.their_state

    async def until(self, *calls: str) -> None:
        """Wait until the protocol's methods were called in this order, others between them or not."""
        async with asyncio.timeout(10):
            while not _in_order(calls, self.calls):
                await asyncio.sleep(0.01)


def _in_order(wanted: tuple[str, ...], found: list[str]) -> bool:
    rest = iter(found)
    return all(one in rest for one in wanted)


async def _no_app(scope: Any, receive: Any, send: Any) -> None: ...


async def _answer(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"ok")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    sockets = [socket.socket(socket.AF_UNIX) for _ in served.paths]
    for sock, path in zip(sockets, served.paths, strict=True):
        sock.bind(str(path))

    class Protocol(Recorder):
        calls, refused = served.calls, served.refused

        def connection_made(self, transport: Any) -> None:
            served.protocols.append(self)
            super().connection_made(transport)

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            served.signals_captured += 1
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            served.started_with.append(sockets)

    config = uvicorn.Config(
        served.app,
        interface="asgi3",
        proxy_headers=False,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        h11_max_incomplete_event_size=4096,
    )
    server = Server(config)
    before = signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(server.serve(sockets=sockets))
    async with asyncio.timeout(10):
        while not served.started_with:
            await asyncio.sleep(0.01)
    assert signal.getsignal(signal.SIGTERM) is before
    try:
        yield served
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)


async def test_a_connection_goes_through_these_methods_of_the_protocol(served: Served) -> None:
    """`PeerProtocol` overrides all of them: the limits of connections and the timers hang on them."""
    async with served.connected() as (reader, writer):
        writer.write(GET)
        await _answer(reader)
        await served.until("connection_made", "data_received", "on_response_complete", "connection_lost")


async def test_client_and_server_are_ours_to_set_before_the_first_byte(served: Served) -> None:
    """On a Unix socket uvicorn knows no client; `auth.caller_of` reads the uid that `PeerProtocol` puts there."""
    async with served.connected() as (reader, writer):
        writer.write(GET)
        await _answer(reader)
        assert (served.scopes[0]["client"], served.scopes[0]["server"]) == (("uid:1", 2), ("/path", None))


async def test_connections_holds_every_open_connection_of_all_listeners(served: Served) -> None:
    """The limits per caller and per listener count it, this very connection included."""
    async with served.connected(0):
        async with served.connected(1):
            await served.until("connection_made", "connection_made")
            assert served.latest.connections == set(served.protocols)
        await served.until("connection_lost")
        assert len(served.latest.connections) == 1


async def test_the_state_of_the_peer_is_h11s(served: Served) -> None:
    """`conn.their_state` tells which timer runs: for a header, for a body, or none while the answer is under way."""
    async with served.connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n")
        await served.until("data_received")
        assert isinstance(served.latest.conn, h11.Connection)
        assert served.state() is h11.IDLE
        writer.write(b"\r\na")
        await served.until("data_received", "data_received")
        assert served.state() is h11.SEND_BODY
        writer.write(b"b")
        await _answer(reader)
        assert served.state() is h11.IDLE, "ready for the next request"


async def test_the_keep_alive_timer_runs_between_two_requests_only(served: Served) -> None:
    """While it runs no timer of ours does: an idle connection is uvicorn's to close."""
    async with served.connected() as (reader, writer):
        writer.write(GET)
        await _answer(reader)
        await served.until("on_response_complete")
        assert isinstance(served.latest.timeout_keep_alive_task, asyncio.TimerHandle)
        writer.write(b"GET / HTTP/1.1\r\n")
        await served.until("on_response_complete", "data_received")
        assert served.latest.timeout_keep_alive_task is None


@pytest.mark.parametrize("request_", [b"\0\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"a" * 5000])
async def test_what_is_not_http_or_has_too_long_a_header_is_refused_by_one_method(
    served: Served, request_: bytes
) -> None:
    """`send_400_response` is overridden, so that it answers with problem+json; the limit is a setting of Config."""
    async with served.connected() as (reader, writer):
        writer.write(request_)
        assert await reader.read() == b""
        assert len(served.refused) == 1


async def test_a_peer_that_does_not_read_pauses_writing(served: Served) -> None:
    """From `pause_writing` to `resume_writing` PeerProtocol watches whether the peer goes on reading."""
    async with served.connected() as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await served.until("pause_writing")
        assert served.latest.transport.get_write_buffer_size() > 0
        assert served.latest.flow.write_paused, "the application waits, so that the answer isn't all in memory"
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(LARGE)
        await served.until("pause_writing", "resume_writing")


async def test_an_answer_written_by_hand_ends_a_connection(served: Served) -> None:
    """`conn.send` and `transport` are enough to refuse a connection before it sent anything."""
    async with served.connected() as (reader, _):
        await served.until("connection_made")
        protocol = served.latest
        for event in (h11.Response(status_code=429, headers=[(b"content-length", b"0")]), h11.EndOfMessage()):
            protocol.transport.write(protocol.conn.send(event) or b"")
        protocol.transport.close()
        assert (await reader.read()).startswith(b"HTTP/1.1 429")


async def test_signals_and_startup_are_ours_to_override(served: Served) -> None:
    """The daemon handles SIGTERM itself; after `startup` the sockets listen again, with a longer queue."""
    assert served.signals_captured == 1
    assert served.started_with[0] is not None
    assert [sock.getsockname() for sock in served.started_with[0]] == list(map(str, served.paths))


async def test_the_backlog_of_the_settings_is_that_of_asyncio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 1, so that a shortage of descriptors is met one connection at a time, not 100 times in a row."""
    seen: list[Any] = []
    loop = asyncio.get_running_loop()
    create = loop.create_server

    async def note(*args: Any, **options: Any) -> Any:
        seen.append(options["backlog"])
        return await create(*args, **options)

    monkeypatch.setattr(loop, "create_server", note)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "one.sock"))

    server = uvicorn.Server(
        uvicorn.Config(_no_app, interface="asgi3", ws="none", lifespan="off", log_config=None, backlog=1)
    )
    server.should_exit = True
    await server.serve(sockets=[sock])
    sock.close()
    assert seen == [1]


async def test_at_its_end_the_server_closes_the_sockets_and_leaves_their_files(tmp_path: Path) -> None:
    """`serving` removes the files that are ours; a socket that systemd passed stays for the next start."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "one.sock"))

    server = uvicorn.Server(uvicorn.Config(_no_app, interface="asgi3", ws="none", lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    server.should_exit = True
    await asyncio.wait_for(task, 10)
    assert sock.fileno() == -1
    assert (tmp_path / "one.sock").is_socket()
