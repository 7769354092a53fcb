"""A stream of envelopes through all connections of the relay, with outcomes as they come."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Generic, Self

from receiptd.smtp.backlog import Backlog, Finished
from receiptd.smtp.envelope import Envelope
from receiptd.smtp.pipeline import Job, Key
from receiptd.smtp.worker import Means, Worker


class Stream(Generic[Key]):
    """Envelopes through the relay's connections; where it pipelines, one follows the other without a pause.

    How a caller keeps the laws:

    1. commit the attempt rows of a set of recipients;
    2. `put` the envelope of each: from then on it may go to DATA at any moment;
    3. `outcomes` returns what has finished since the last call: commit that as one set.

    Every key that was put comes back once. `Accepted` and `Refused` were said by the relay, or by us before a
    word to it. `Uncertain`: the final dot was written and no reply came. `NotSent`: certainly nothing was taken, so
    the attempt may be closed as not sent and the recipient stays queued; its *fault* is RelayDown where the
    relay can't be used, and then all that still wait come back with the same fault. Whoever wants few open
    attempts looks at `waiting` and puts a few at a time; under a rate, as many as `Relay.turns` gives.

    `close` starts nothing more and lets what is under way finish; `abort` ends all connections at once. After
    either, `outcomes` returns what is left, and then [].
    """

    def __init__(self, means: Means) -> None:
        self._means = means
        self._backlog: Backlog[Key] = Backlog(self._hire)
        self._workers: set[asyncio.Task[None]] = set()
        self._working = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.close() if kind is None else self.abort())

    @property
    def waiting(self) -> int:
        """How many envelopes wait for a connection; nothing of these was sent."""
        return len(self._backlog.waiting)

    @property
    def unfinished(self) -> int:
        """How many envelopes have no outcome yet, waiting or under way."""
        return self._backlog.open

    def put(self, key: Key, envelope: Envelope) -> None:
        """Let *envelope*, whose attempt is committed, go to DATA."""
        self._backlog.add(Job(key, envelope))

    async def outcomes(self) -> list[Finished[Key]]:
        """Return what has finished since the last call, at least one; [] once the stream is closed and all told."""
        return await self._backlog.outcomes()

    def finished(self) -> list[Finished[Key]]:
        """Return what has finished since the last call, and wait for nothing."""
        return self._backlog.take_finished()

    async def close(self) -> None:
        """Start nothing more, and wait until what is under way has finished; what waits isn't sent."""
        self._backlog.close()
        while self._workers:
            await asyncio.wait(self._workers)

    async def abort(self) -> None:
        """End all connections now: what the relay may have is uncertain, all else wasn't sent."""
        self._backlog.close()
        for worker in self._workers:
            worker.cancel()
        await self.close()

    def _hire(self) -> None:
        if self._working < self._means.pool.size:
            self._working += 1
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        try:
            await Worker(self._means, self._backlog).run()
        finally:
            # Nothing is awaited between the worker's last look at what waits and this, so `put` sees who works.
            self._working -= 1
            if self._backlog.waiting and not self._backlog.closing.is_set():
                self._hire()
