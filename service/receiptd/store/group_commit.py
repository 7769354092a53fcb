"""Group commit: what gathers while the commit before it is under way is committed together, as one set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlmodel import Session

from receiptd.store.engine import Store
from receiptd.store.faults import is_down

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class GroupCommit(Generic[I, R]):
    """Commits items in sets of at most *most* by *work*, which returns one result for each item, in order.

    An item whose set raises is committed alone, so that a bad one takes nothing of the others with it; where the
    database fails, all of the set fail.
    """

    def __init__(self, store: Store, work: Callable[[Session, Sequence[I]], Sequence[R]], *, most: int) -> None:
        self._store = store
        self._work = work
        self._most = most
        self._waiting: list[tuple[I, asyncio.Future[R]]] = []
        self._committer: asyncio.Task[None] | None = None

    async def add(self, item: I) -> R:
        """Commit *item* with whatever else waits; return its result once it is on disk, or raise what *work* did."""
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._run())
        return await done

    def withdraw(self, item: I) -> bool:
        """Take *item* back unless its commit has begun; return whether that worked."""
        before = len(self._waiting)
        self._waiting = [one for one in self._waiting if one[0] is not item]
        return len(self._waiting) < before

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            await self._commit(some)

    async def _commit(self, some: list[tuple[I, asyncio.Future[R]]]) -> None:
        try:
            results = await self._store.transact(lambda session: self._work(session, [item for item, _ in some]))
        except Exception as fault:
            if len(some) == 1 or is_down(fault):
                for _, done in some:
                    _fail(done, fault)
                return
            for one in some:
                await self._commit([one])
            return
        for (_, done), result in zip(some, results, strict=True):
            if not done.done():
                done.set_result(result)


def _fail(done: asyncio.Future[R], fault: Exception) -> None:
    if not done.done():
        done.set_exception(fault)
