"""A worker of a stream: it carries what waits over one connection at a time, until nothing waits."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic

from receiptd.smtp.backlog import Backlog
from receiptd.smtp.connection import Connection
from receiptd.smtp.outcome import Dropped, NotSent, Outcome, RelayDown
from receiptd.smtp.pipeline import Job, Key, Pipeline
from receiptd.smtp.pool import Pool
from receiptd.smtp.rate import RateLimit
from receiptd.smtp.timeouts import Timeouts

STALE_SECONDS = 300.0
"""What has waited longer for a connection isn't started: a process that was stopped for that long may have been
taken for dead, and its attempts for uncertain."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the workers of a relay share."""

    pool: Pool
    rate: RateLimit
    timeouts: Timeouts
    without_dsn: str


class Worker(Generic[Key]):
    """It is the feed of its pipelines (see pipeline.Feed)."""

    def __init__(self, means: Means, backlog: Backlog[Key]) -> None:
        self._means, self._backlog = means, backlog
        self._retries: deque[Job[Key]] = deque()
        """Jobs under which a connection ended; nothing of their content was sent, and they have their turn."""

    async def run(self) -> None:
        try:
            async with self._means.pool.slots:
                while (job := await self._start()) is not None:
                    await self._carry(job)
        finally:
            self._backlog.not_sent(self._retries, None)

    async def _start(self) -> Job[Key] | None:
        """Return the job that begins on a connection, once it has its turn."""
        if self._retries:
            return self._retries.popleft()
        while (job := self._next_waiting()) is not None:
            if await self._has_turn(job):
                return job
        return None

    def _next_waiting(self) -> Job[Key] | None:
        """Return what waits longest, unless that is so long that another may have taken it over."""
        while self._backlog.waiting:
            job = self._backlog.waiting.popleft()
            if asyncio.get_running_loop().time() - job.put_at <= STALE_SECONDS:
                return job
            self._backlog.tell(job, NotSent(None))
        return None

    async def _has_turn(self, job: Job[Key]) -> bool:
        """Wait for the turn of *job*; False where the stream was closed before."""
        if (seconds := self._means.rate.reserve()) <= 0:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._backlog.closing.wait()
        except TimeoutError:
            return True
        except BaseException:
            self._backlog.tell(job, NotSent(None))
            raise
        self._backlog.tell(job, NotSent(None))
        return False

    async def _carry(self, job: Job[Key]) -> None:
        """Carry *job* and what follows it over one connection."""
        try:
            used = None if job.was_dropped else self._means.pool.take_idle()
            connection = used or await self._means.pool.connect()
        except RelayDown as fault:
            self._fail([job], fault)
            return
        except BaseException as error:
            self._backlog.not_sent([job], error if isinstance(error, Exception) else None)
            if not isinstance(error, Exception):
                raise
            return
        await self._carry_over(connection, job, is_fresh=used is None)

    async def _carry_over(self, connection: Connection, job: Job[Key], *, is_fresh: bool) -> None:
        pipeline = Pipeline(connection, self, self._means.timeouts, without_dsn=self._means.without_dsn)
        try:
            await pipeline.run(job)
        except Dropped as fault:
            connection.wire.abort(str(fault))
            if is_fresh and not pipeline.carried:
                self._fail(pipeline.unfinished, fault)
            else:
                self._try_again(pipeline.unfinished)
        except RelayDown as fault:
            connection.close()
            self._fail(pipeline.unfinished, fault)
        except BaseException as error:
            connection.wire.abort("we closed the connection")
            self._backlog.not_sent(pipeline.unfinished, error if isinstance(error, Exception) else None)
            if not isinstance(error, Exception):
                raise
        else:
            self._means.pool.give_back(connection)

    def _try_again(self, jobs: list[Job[Key]]) -> None:
        """Carry *jobs* over a new connection: nothing of their content was sent."""
        for job in reversed(jobs):
            job.start_over()
            job.was_dropped = True
            self._retries.appendleft(job)

    def _fail(self, jobs: list[Job[Key]], fault: RelayDown) -> None:
        self._backlog.fail([*jobs, *self._retries], fault)
        self._retries.clear()

    # The feed of a pipeline.

    @property
    def is_quick(self) -> bool:
        return self._backlog.is_quick

    @is_quick.setter
    def is_quick(self, is_quick: bool) -> None:
        self._backlog.is_quick = is_quick

    def next(self) -> Job[Key] | None:
        if self._retries:
            return self._retries.popleft()
        if not self._backlog.waiting or not self._means.rate.take():
            return None
        return self._next_waiting()

    def done(self, job: Job[Key], outcome: Outcome) -> None:
        self._backlog.tell(job, outcome)

    def give_back(self, job: Job[Key]) -> None:
        self._backlog.put_back(job)
