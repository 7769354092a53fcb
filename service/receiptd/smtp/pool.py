"""A bounded pool of connections to the relay that stay open."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from receiptd.smtp.connection import Connection, Login, connect
from receiptd.smtp.reply import Capabilities
from receiptd.smtp.server import Server

_IDLE_SECONDS = 60
"""Servers close idle connections after 5 minutes (RFC 5321 §4.5.3.2.7), some sooner; a new one is cheap."""
_QUIT_SECONDS = 2


class Pool:
    """Connections to *server*, at most *size* in use: whoever takes one holds one of `slots`."""

    def __init__(self, server: Server, login: Login, ca_file: Path | None, size: int) -> None:
        self.server = server
        self.size = size
        self.slots = asyncio.Semaphore(size)
        self.capabilities: Capabilities | None = None
        """What the latest connection offered; None until there was one."""
        self.asked_at = -math.inf
        self._login, self._ca_file = login, ca_file
        self._idle: list[Connection] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def connect(self) -> Connection:
        """Open a connection; raise RelayDown where that fails."""
        connection = await connect(self.server, self._login, self._ca_file)
        self.capabilities, self.asked_at = connection.peer.capabilities, _now()
        return connection

    def take_idle(self) -> Connection | None:
        """Return the most recently used connection that is alive and fresh; the others may time out."""
        oldest = _now() - _IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.wire.is_usable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep *connection* for the next user, or close it where it can't serve one."""
        if self._is_closed or not connection.wire.is_usable:
            connection.close()
            return
        connection.idle_since = _now()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep_later()

    async def close(self) -> None:
        """Close all idle connections with QUIT; those in use are closed when they are given back."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await quit_all(idle)

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._sweep_idle)

    def _sweep_idle(self) -> None:
        """Close what was idle too long."""
        oldest = _now() - _IDLE_SECONDS
        for connection in [old for old in self._idle if old.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.close()
        self._sweep = None
        if self._idle:
            self._sweep_later()


async def quit_all(connections: list[Connection]) -> None:
    """Send QUIT and wait a moment for the connections to end."""
    for connection in connections:
        connection.close()
    try:
        async with asyncio.timeout(_QUIT_SECONDS):
            await asyncio.gather(*(connection.wire.wait_closed() for connection in connections))
    except TimeoutError:
        for connection in connections:
            connection.wire.abort("the server didn't close the connection")


def _now() -> float:
    return asyncio.get_running_loop().time()
