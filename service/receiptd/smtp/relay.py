"""The relay: a bounded pool of persistent connections, under one rate."""

from __future__ import annotations

import asyncio
import contextlib
import math
from datetime import timedelta

from receiptd import settings
from receiptd.errors import ReceiptdError
from receiptd.smtp.connection import Connection, Login, TokenSource, connect
from receiptd.smtp.envelope import Envelope
from receiptd.smtp.outcome import Dropped, Outcome
from receiptd.smtp.rate import SlidingWindow
from receiptd.smtp.reply import Capabilities
from receiptd.smtp.server import parse_url
from receiptd.smtp.transaction import BeforeData, Timeouts, Transaction, too_long

_IDLE_SECONDS = 60
"""Servers close idle connections after 5 minutes (RFC 5321 §4.5.3.2.7), some sooner; a new one is cheap."""
_QUIT_SECONDS = 2
_FRESH_SECONDS, _ANSWER_SECONDS = 60, 5
"""How long the relay's capabilities stay current, and how long to wait for an update."""


class Relay:
    """The submission server as the steps see it.

    *password* and *access_token* say how to log in; without both, password_file is read at each login, and
    without that there is no AUTH. *final_reply* is how long to wait after the final dot, in seconds.
    """

    def __init__(
        self,
        submission: settings.Submission,
        *,
        password: str | None = None,
        access_token: TokenSource | None = None,
        final_reply: float = 600,
    ) -> None:
        if submission.oauth and access_token is None:
            raise ValueError("a relay with oauth needs access_token, or it would go without AUTH")
        self.server = parse_url(submission.url)
        self.capabilities: Capabilities | None = None
        """What the latest connection offered; None until there was one."""
        self._asked_at = -math.inf
        self._login = Login(password, submission.password_file, access_token)
        self._ca_file = submission.ca_file
        self._without_dsn = submission.without_dsn
        self._timeouts = Timeouts(final=final_reply)
        self._slots = asyncio.Semaphore(submission.connections)
        self._idle: list[Connection] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._window: SlidingWindow | None = None
        self.set_rate(submission.rate_limit)

    def set_rate(self, limit: tuple[int, timedelta] | None) -> None:
        """Limit the rate from now on; what has its turn keeps it."""
        known = self._window or SlidingWindow(0, 0)
        self._window = known.resized(limit[0], limit[1].total_seconds()) if limit else None

    async def submit(self, envelope: Envelope, *, before_data: BeforeData) -> Outcome:
        """Carry one message to one recipient and return what became of it.

        *before_data* is awaited after RCPT was accepted and before DATA; if it raises, DATA is never said.
        Raises RelayDown for what is about us (nothing was sent then) and BadData for what must not be sent.
        Cancellation closes the connection: where DATA had begun, the outcome is unknown.
        """
        envelope.check()
        if refused := too_long(envelope):
            return refused
        if self._window is not None:
            await self._wait_for_turn(self._window)
        async with self._slots:
            if (used := self._take_idle()) is not None:
                try:
                    return await self._run(used, envelope, before_data)
                except Dropped:
                    # The server had closed the idle connection, or refuses more on it: nothing was sent.
                    pass
            return await self._run(await self._connect(), envelope, before_data)

    def turns(self, within: timedelta, most: int) -> int:
        """Return how many transactions, at most *most*, could start *within* that time under the rate."""
        if self._window is None:
            return most
        now = asyncio.get_running_loop().time()
        return self._window.turns(now, now + within.total_seconds(), most)

    async def probe(self) -> Capabilities:
        """Connect, log in and quit; return the relay's capabilities, or raise RelayDown."""
        connection = await self._connect()
        await _quit([connection])
        return connection.capabilities

    async def ask_again(self) -> Capabilities | None:
        """Return the relay's capabilities now; the last known, where they are fresh or it doesn't answer soon."""
        if asyncio.get_running_loop().time() - self._asked_at > _FRESH_SECONDS:
            self._note_asked()
            with contextlib.suppress(ReceiptdError, TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self.probe()
        return self.capabilities

    def _note_asked(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Close all idle connections with QUIT; those in use are closed when their transaction ends."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await _quit(idle)

    async def _run(self, connection: Connection, envelope: Envelope, before_data: BeforeData) -> Outcome:
        try:
            transaction = Transaction(connection, envelope, self._timeouts)
            outcome = await transaction.run(before_data, without_dsn=self._without_dsn)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return outcome

    async def _connect(self) -> Connection:
        connection = await connect(self.server, self._login, self._ca_file)
        self.capabilities = connection.capabilities
        self._note_asked()
        return connection

    def _take_idle(self) -> Connection | None:
        """Return the most recently used connection that is alive and fresh; the others may time out."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.wire.is_usable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        if self._is_closed or not connection.wire.is_usable:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._sweep_idle)

    def _sweep_idle(self) -> None:
        """Close what was idle too long."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        for connection in [old for old in self._idle if old.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.close()
        self._sweep = None
        if self._idle:
            self._sweep_later()

    async def _wait_for_turn(self, window: SlidingWindow) -> None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(window.reserve(now) - now)


async def _quit(connections: list[Connection]) -> None:
    """Send QUIT and wait a moment for the connections to end."""
    for connection in connections:
        connection.close()
    try:
        async with asyncio.timeout(_QUIT_SECONDS):
            await asyncio.gather(*(connection.wire.wait_closed() for connection in connections))
    except TimeoutError:
        for connection in connections:
            connection.wire.abort("the server didn't close the connection")
