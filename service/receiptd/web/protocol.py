"""HTTP/1.1 that knows who is at the other end, and cuts off a peer that is too slow."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiptd.web.problems import problem

_MOST_CONNECTIONS, _CONNECTIONS_OF_ONE = 256, 128
"""Through one listener, so that TCP clients never exhaust the Unix sockets; and of one uid or IP address there."""
HEADER_KIB = 16
_HEADER_SECONDS = 15.0
"""How long a whole header may take."""
_BODY_SECONDS, _MIN_OCTETS_PER_SECOND = 30.0, 4096
"""How long a body may take, and for how many octets it gets a second more."""
_READING_SECONDS = 30.0
"""How often to check that a peer reads its answer as fast as that."""


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that knows who is at the other end, and cuts off a peer that is too slow.

    On a Unix socket `client` is the peer's uid and pid (SO_PEERCRED), which uvicorn leaves empty. A peer that sends a
    header or body too slowly, or doesn't read its answer, would hold a connection and memory for as long as it likes.
    """

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _waits_for_header = False
    _body_began: float | None = None
    _body_octets = 0

    def connection_made(self, transport: Any) -> None:
        """Note who is at the other end before the first byte is read."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, _ = struct.unpack("3i", packed)
            self.client = (f"uid:{uid}", pid)
            self.server = (sock.getsockname(), None)
        if limit := self._exceeded_limit():
            self._answer_and_close(
                problem(429, f"too many connections: {limit} at a time; try again soon", os.EX_TEMPFAIL)
            )
        else:
            self._wait_for_header()

    def _exceeded_limit(self) -> str | None:
        """Return the limit that this connection exceeds, as words."""
        beside = [one for one in self.connections if isinstance(one, PeerProtocol) and one.listener == self.listener]
        if sum(one.peer == self.peer for one in beside) > _CONNECTIONS_OF_ONE:
            return f"{self.peer} may have {_CONNECTIONS_OF_ONE}"
        if len(beside) > _MOST_CONNECTIONS:
            return f"all callers of {self.listener} may have {_MOST_CONNECTIONS}"
        return None

    @property
    def peer(self) -> str:
        """Who is at the other end, without the port or process that is another's each time."""
        return self.client[0] if self.client else ""

    @property
    def listener(self) -> str:
        """The listener it came through: a path, or a port (where we listen on all addresses, each is another)."""
        if self.server is None:
            return ""
        path, port = self.server
        return path if port is None else f"TCP port {port}"

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._set_deadline(None)
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for the rest as long as it comes fast enough."""
        super().data_received(data)
        self._update_deadline(len(data))

    def on_response_complete(self) -> None:
        """Go on with what the peer has sent meanwhile."""
        super().on_response_complete()
        self._update_deadline(0)

    def _update_deadline(self, octets: int) -> None:
        if self.transport.is_closing():
            return
        state = self.conn.their_state
        if state is not h11.SEND_BODY:
            self._body_began = None
        if state is h11.SEND_BODY:
            self._wait_for_body(octets)
        elif state is not h11.IDLE or self.timeout_keep_alive_task is not None:
            self._set_deadline(None)
        elif not self._waits_for_header:
            self._wait_for_header()

    def _wait_for_header(self) -> None:
        self._set_deadline(self.loop.time() + _HEADER_SECONDS)
        self._waits_for_header = True

    def _wait_for_body(self, octets: int) -> None:
        if self._body_began is None:
            self._body_began, self._body_octets = self.loop.time(), 0
        self._body_octets += octets
        self._set_deadline(self._body_began + _BODY_SECONDS + self._body_octets / _MIN_OCTETS_PER_SECOND)

    def _set_deadline(self, until: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if until is None else self.loop.call_at(until, self.transport.abort)
        self._waits_for_header = False

    def pause_writing(self) -> None:
        """Watch whether the peer goes on reading."""
        super().pause_writing()
        self._watch_reading(self.transport.get_write_buffer_size())

    def _watch_reading(self, unread: int) -> None:
        self._reading = self.loop.call_later(_READING_SECONDS, self._check_reading, unread)

    def _check_reading(self, unread: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > unread - _READING_SECONDS * _MIN_OCTETS_PER_SECOND:
            self.transport.abort()
        else:
            self._watch_reading(left)

    def resume_writing(self) -> None:
        """Stop watching: the peer has read on."""
        if self._reading is not None:
            self._reading.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what isn't HTTP with a problem, as everything else."""
        self._answer_and_close(
            problem(400, f"this is no HTTP request, or its header has more than {HEADER_KIB} KiB", os.EX_USAGE)
        )

    def _answer_and_close(self, answer: Response) -> None:
        """Send *answer* and close the connection."""
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (h11.Response(status_code=answer.status_code, headers=headers), h11.Data(data=bytes(answer.body))):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()
