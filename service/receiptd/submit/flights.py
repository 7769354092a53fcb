"""What is on its way to the relay: a bounded window of envelopes, and the bytes they share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from receiptd import compose, telemetry
from receiptd.mail.return_path import ReturnPaths
from receiptd.settings import Settings
from receiptd.smtp import Content, Envelope, Finished, Stream
from receiptd.store.submissions import Work
from receiptd.watchdog import Watchdog

_LONGEST = timedelta(hours=2)
"""Every time-out of RFC 5321 §4.5.3.2 in one transaction, the wait for a turn under `rate` and the database's hour."""
_WINDOW_SECONDS = 0.12
"""The window holds what the relay took in this time: enough that no connection waits while a set is committed."""
_GATHER_SECONDS = 0.02
"""While more is on its way than the connections carry, outcomes gather for so long: a commit has a price of its own."""
_LEAST, _MOST = 2, 12
"""Envelopes in the window for each connection."""


@dataclass(frozen=True, slots=True)
class _Flight:
    work: Work
    started: float
    tracked: AbstractContextManager[None]


class Flights:
    """The envelopes that were handed to a stream and have no outcome yet, by attempt."""

    def __init__(self, stream: Stream[str], watchdog: Watchdog, connections: int) -> None:
        self._stream = stream
        self._watchdog = watchdog
        self._connections = connections
        self._flights: dict[str, _Flight] = {}
        self._contents: dict[str, Content] = {}
        self._rate = 0.0
        self._news: asyncio.Task[list[Finished[str]]] | None = None

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def room(self) -> int:
        """How many more envelopes the window takes; a few at a time aren't worth a commit while others fly."""
        least, most = _LEAST * self._connections, _MOST * self._connections
        window = int(min(max(self._rate * _WINDOW_SECONDS, least), most))
        room = window - len(self._flights)
        return room if not self._flights or room >= window // 3 else 0

    @property
    def messages(self) -> frozenset[str]:
        """The messages whose bytes are at hand."""
        return frozenset(self._contents)

    def forget_unused(self) -> None:
        """Let go of the bytes of messages of which nothing is on its way."""
        used = {flight.work.message.id for flight in self._flights.values()}
        self._contents = {message: one for message, one in self._contents.items() if message in used}

    def start(self, work: Work, settings: Settings, raw: Mapping[str, bytes]) -> None:
        """Hand the envelope of *work* to the stream; raise BadData where its content can't be sent."""
        content = self._contents.get(work.message.id)
        if content is None:
            content = self._contents[work.message.id] = Content.of(raw[work.message.evidence])
        envelope = envelope_of(work, content, settings)
        tracked = self._watchdog.track("transaction", _LONGEST)
        tracked.__enter__()
        self._flights[work.attempt] = _Flight(work, asyncio.get_running_loop().time(), tracked)
        self._stream.put(work.attempt, envelope)

    def land(self, attempt: str) -> Work:
        """Return the work of an *attempt* that has its outcome."""
        flight = self._flights.pop(attempt)
        flight.tracked.__exit__(None, None, None)
        seconds = asyncio.get_running_loop().time() - flight.started
        telemetry.SUBMIT_SECONDS.observe(seconds)
        return flight.work

    async def outcomes(self, wake: asyncio.Event, *, within: float | None = None) -> list[Finished[str]]:
        """Return what has finished, at least one unless *wake* is set first or *within* seconds pass."""
        news = self._news = self._news or asyncio.ensure_future(self._stream.outcomes())
        woken = asyncio.ensure_future(wake.wait())
        try:
            await asyncio.wait({news, woken}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        if not news.done():
            return []
        self._news = None
        if len(self._flights) - len(news.result()) <= self._connections:
            return news.result()
        await asyncio.sleep(_GATHER_SECONDS)
        return [*news.result(), *self._stream.finished()]

    def measure(self, count: int, seconds: float) -> None:
        """Note that *count* envelopes had their outcome in *seconds*: the window follows the relay's pace."""
        if seconds > 0:
            self._rate = 0.7 * self._rate + 0.3 * count / seconds

    async def abort(self) -> list[Finished[str]]:
        """End all connections now; return what is known of everything that was on its way."""
        await self._stream.abort()
        return [*(await self._news if self._news else []), *(await self._stream.outcomes())]


def envelope_of(work: Work, content: Content, settings: Settings) -> Envelope:
    """Return the envelope of one recipient around the bytes that all recipients of its message share."""
    receipts, row, message = settings.receipts, work.recipient, work.message
    return_path = ReturnPaths(receipts.address, receipts.subaddress).of(row.token)
    return Envelope(
        return_path=return_path,
        recipient=row.address,
        content=content,
        header=compose.header_of_copy(
            disposition_notification_to=return_path if row.mdn_requested else None,
            receipt_token=None if receipts.subaddress else row.token,
        ),
        envelope_id=row.envelope_id or row.token,
        notify=receipts.notify,
        ret=receipts.ret,
        request_dsn=message.may_request,
        needs_8bitmime=message.needs_8bitmime,
        needs_smtputf8=message.needs_smtputf8,
        longest_line=message.longest_line,
    )
