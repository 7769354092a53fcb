"""The relay as the steps see it: a pool of persistent connections, under one rate."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from receiptd import settings
from receiptd.errors import ReceiptdError
from receiptd.smtp.connection import Connection, Login, TokenSource
from receiptd.smtp.envelope import Envelope
from receiptd.smtp.outcome import Dropped, Outcome
from receiptd.smtp.pipeline import Key
from receiptd.smtp.pool import Pool, quit_all
from receiptd.smtp.rate import RateLimit
from receiptd.smtp.reply import Capabilities
from receiptd.smtp.server import parse_url
from receiptd.smtp.single import BeforeData, carry
from receiptd.smtp.stream import Stream
from receiptd.smtp.timeouts import Timeouts
from receiptd.smtp.transaction import Transaction, refused_unseen
from receiptd.smtp.worker import Means

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
        login = Login(password, submission.password_file, access_token)
        self._pool = Pool(self.server, login, submission.ca_file, submission.connections)
        self._rate = RateLimit(submission.rate_limit)
        self._timeouts = Timeouts(final=final_reply)
        self._without_dsn = submission.without_dsn

    @property
    def capabilities(self) -> Capabilities | None:
        """What the latest connection offered; None until there was one."""
        return self._pool.capabilities

    def set_rate(self, limit: tuple[int, timedelta] | None) -> None:
        """Limit the rate from now on; what has its turn keeps it."""
        self._rate.set(limit)

    def stream(self) -> Stream[Key]:
        """Return a new stream over this relay's connections."""
        return Stream(Means(self._pool, self._rate, self._timeouts, self._without_dsn))

    async def submit(self, envelope: Envelope, *, before_data: BeforeData) -> Outcome:
        """Carry one message to one recipient and return what became of it.

        *before_data* is awaited after RCPT was accepted and before DATA; if it raises, DATA is never said.
        Raises RelayDown for what is about us (nothing was sent then) and BadData for what must not be sent.
        Cancellation closes the connection: where DATA had begun, the outcome is unknown.
        """
        if (refused := refused_unseen(envelope)) is not None:
            return refused
        await asyncio.sleep(self._rate.reserve())
        async with self._pool.slots:
            if (used := self._pool.take_idle()) is not None:
                try:
                    return await self._run(used, envelope, before_data)
                except Dropped:
                    # The server had closed the idle connection, or refuses more on it: nothing was sent.
                    pass
            return await self._run(await self._pool.connect(), envelope, before_data)

    async def _run(self, connection: Connection, envelope: Envelope, before_data: BeforeData) -> Outcome:
        try:
            transaction = Transaction(envelope, connection.peer, without_dsn=self._without_dsn)
            outcome = await carry(connection, transaction, self._timeouts, before_data)
        except BaseException:
            connection.close()
            raise
        self._pool.give_back(connection)
        return outcome

    def turns(self, within: timedelta, most: int) -> int:
        """Return how many transactions, at most *most*, could start *within* that time under the rate."""
        return self._rate.turns(within, most)

    async def probe(self) -> Capabilities:
        """Connect, log in and quit; return the relay's capabilities, or raise RelayDown."""
        connection = await self._pool.connect()
        await quit_all([connection])
        return connection.peer.capabilities

    async def ask_again(self) -> Capabilities | None:
        """Return the relay's capabilities now; the last known, where they are fresh or it doesn't answer soon."""
        now = asyncio.get_running_loop().time()
        if now - self._pool.asked_at > _FRESH_SECONDS:
            self._pool.asked_at = now
            with contextlib.suppress(ReceiptdError, TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self.probe()
        return self.capabilities

    async def close(self) -> None:
        """Close all idle connections with QUIT; those in use are closed when their transaction ends."""
        await self._pool.close()
