"""The envelopes of a stream that wait for a connection, and the outcomes that wait for the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic

from receiptd.smtp.outcome import NotSent, Outcome
from receiptd.smtp.pipeline import Job, Key


@dataclass(frozen=True, slots=True)
class Finished(Generic[Key]):
    """What became of an envelope; each that was put into a stream comes back once."""

    key: Key
    outcome: Outcome | NotSent


class Backlog(Generic[Key]):
    """What waits, and what has finished; *hire* is called when something waits."""

    def __init__(self, hire: Callable[[], None]) -> None:
        self.waiting: deque[Job[Key]] = deque()
        self.open = 0
        """How many jobs have no outcome yet."""
        self.closing = asyncio.Event()
        self.is_quick = True
        """The relay's final replies come soon."""
        self._hire = hire
        self._finished: list[Finished[Key]] = []
        self._news = asyncio.Event()

    def add(self, job: Job[Key]) -> None:
        self.open += 1
        self._wait(job, self.waiting.append)

    def put_back(self, job: Job[Key]) -> None:
        """Let *job* wait again, in front of all others."""
        self._wait(job, self.waiting.appendleft)

    def _wait(self, job: Job[Key], wait: Callable[[Job[Key]], None]) -> None:
        if self.closing.is_set():
            self.tell(job, NotSent(None))
            return
        wait(job)
        self._hire()

    def close(self) -> None:
        """Let nothing start any more: what waits isn't sent."""
        self.closing.set()
        self.fail((), None)
        self._news.set()

    def tell(self, job: Job[Key], outcome: Outcome | NotSent) -> None:
        self.open -= 1
        self._finished.append(Finished(job.key, outcome))
        self._news.set()

    def not_sent(self, jobs: Iterable[Job[Key]], fault: Exception | None) -> None:
        for job in jobs:
            self.tell(job, NotSent(fault))

    def fail(self, jobs: Iterable[Job[Key]], fault: Exception | None) -> None:
        """Tell that neither *jobs* nor what waits was sent."""
        self.not_sent(jobs, fault)
        while self.waiting:
            self.tell(self.waiting.popleft(), NotSent(fault))

    async def outcomes(self) -> list[Finished[Key]]:
        """Return what has finished since the last call, at least one; [] once all is told and nothing can start."""
        while not self._finished and not (self.closing.is_set() and not self.open):
            self._news.clear()
            await self._news.wait()
        return self.take_finished()

    def take_finished(self) -> list[Finished[Key]]:
        """Return what has finished since the last call."""
        finished, self._finished = self._finished, []
        return finished
