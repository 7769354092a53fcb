"""The relay: a bounded pool of connections that stay open, under one rate."""

from __future__ import annotations

import asyncio
import contextlib
import math
from datetime import timedelta

from receiptd import settings
from receiptd.errors import ReceiptdError
from receiptd.smtp.connection import Connection, Login, TokenSource, connect
from receiptd.smtp.outcome import Dropped, Outcome, Transaction
from receiptd.smtp.rate import Bucket
from receiptd.smtp.reply import Capabilities
from receiptd.smtp.server import parse_url
from receiptd.smtp.transact import BeforeData, Exchange, Patience, too_long

_IDLE_SECONDS = 60
"""Servers hang up on silence after 5 minutes (RFC 5321 §4.5.3.2.7), some sooner; a fresh connection is cheap."""
_FAREWELL_SECONDS = 2
_FRESH_SECONDS, _ANSWER_SECONDS = 60, 5
"""How long what the relay offers is taken as known, and how long somebody waits to hear it again."""


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
        self._patience = Patience(final=final_reply)
        self._slots = asyncio.Semaphore(submission.connections)
        self._idle: list[Connection] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._bucket: Bucket | None = None
        self.set_rate(submission.rate_limit)

    def set_rate(self, limit: tuple[int, timedelta] | None) -> None:
        """Start at most so many messages in so long a time from now on; what has its turn keeps it."""
        known = self._bucket or Bucket(0, 0)
        self._bucket = known.resized(limit[0], limit[1].total_seconds()) if limit else None

    async def submit(self, transaction: Transaction, *, before_data: BeforeData) -> Outcome:
        """Carry one message to one recipient and return what became of it.

        *before_data* is awaited after RCPT was accepted and before DATA; if it raises, DATA is never said.
        Raises RelayDown for what is about us (nothing was sent then) and BadData for what must not reach the
        wire. Cancellation closes the connection: where DATA had begun, the outcome is unknown.
        """
        transaction.check()
        if refused := too_long(transaction):
            return refused
        if self._bucket is not None:
            await self._wait_for_turn(self._bucket)
        async with self._slots:
            if (used := self._take_idle()) is not None:
                try:
                    return await self._run(used, transaction, before_data)
                except Dropped:
                    # It lay idle and the server had hung up, or had enough of it: nothing was sent.
                    pass
            return await self._run(await self._connect(), transaction, before_data)

    def turns(self, within: timedelta, most: int) -> int:
        """Return how many transactions, *most* at most, could start *within* that time under the rate."""
        if self._bucket is None:
            return most
        now = asyncio.get_running_loop().time()
        return self._bucket.turns(now, now + within.total_seconds(), most)

    async def probe(self) -> Capabilities:
        """Connect, log in and take leave; return what the relay offers, raise RelayDown where it fails."""
        connection = await self._connect()
        await _take_leave([connection])
        return connection.capabilities

    async def ask_again(self) -> Capabilities | None:
        """Return what the relay offers now; what it last did, where that was just heard or it doesn't answer soon."""
        if asyncio.get_running_loop().time() - self._asked_at > _FRESH_SECONDS:
            self._note_asked()
            with contextlib.suppress(ReceiptdError, TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self.probe()
        return self.capabilities

    def _note_asked(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Take leave on all idle connections; those in use are closed when their transaction ends."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await _take_leave(idle)

    async def _run(self, connection: Connection, transaction: Transaction, before_data: BeforeData) -> Outcome:
        try:
            exchange = Exchange(connection, transaction, self._patience)
            outcome = await exchange.run(before_data, without_dsn=self._without_dsn)
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
        """Return the connection used last that is alive and fresh; the others may grow old."""
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
        """Close what lay idle too long."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        for connection in [old for old in self._idle if old.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.close()
        self._sweep = None
        if self._idle:
            self._sweep_later()

    async def _wait_for_turn(self, bucket: Bucket) -> None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(bucket.reserve(now) - now)


async def _take_leave(connections: list[Connection]) -> None:
    """Say QUIT and wait a moment for the connections to end."""
    for connection in connections:
        connection.close()
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await asyncio.gather(*(connection.wire.wait_closed() for connection in connections))
    except TimeoutError:
        for connection in connections:
            connection.wire.abort("the server didn't hang up")
