"""Group commit: what gathers while the commit before it is under way is committed together, as one set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar, cast

from sqlmodel import Session

from receiptd.store.engine import Store
from receiptd.store.faults import is_down

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
_Waiting = tuple[I, "asyncio.Future[R]"]


class GroupCommit(Generic[I, R]):
    """Commits items in sets of at most *most* by *work*, which returns one result for each item, in order.

    An item whose set raises is committed alone, so that a bad one takes nothing of the others with it; where the
    database fails, all of the set fail. Nothing is taken before the transaction has begun: until then somebody may
    lose patience, and more may gather.
    """

    def __init__(self, store: Store, work: Callable[[Session, Sequence[I]], Sequence[R]], *, most: int) -> None:
        self._store = store
        self._work = work
        self._most = most
        self._waiting: list[_Waiting[I, R]] = []
        self._lock = Lock()  # items are taken on the thread of the transaction
        self._committer: asyncio.Task[None] | None = None

    async def add(self, item: I) -> R:
        """Commit *item* with whatever else waits; return its result once it is on disk, or raise what *work* did."""
        return await self._queue(item)

    async def promptly(self, item: I) -> R:
        """Do as `add` for somebody who waits for an answer, and even if they are gone before it comes.

        Raises DatabaseFault where the commit could not even begin for ten seconds: then it never does.
        """
        done = self._queue(item)
        await asyncio.wait((done,), timeout=self._store.PATIENCE)
        if not done.done() and self.withdraw(item):
            raise self._store.out_of_patience()
        return await asyncio.shield(done)

    def _queue(self, item: I) -> asyncio.Future[R]:
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((item, done))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._run())
        return done

    def withdraw(self, item: I) -> bool:
        """Take *item* back unless its commit has begun; return whether that worked."""
        with self._lock:
            before = len(self._waiting)
            self._waiting = [one for one in self._waiting if one[0] is not item]
            return len(self._waiting) < before

    def _take(self) -> list[_Waiting[I, R]]:
        with self._lock:
            some, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        return some

    async def _run(self) -> None:
        while self._waiting:
            await self._commit_what_waits()

    async def _commit_what_waits(self) -> None:
        some: list[_Waiting[I, R]] = []

        def work(session: Session) -> Sequence[R]:
            session.connection()
            some.extend(self._take())
            return self._work(session, [item for item, _ in some]) if some else ()

        await self._commit(some, work)

    async def _commit(self, some: list[_Waiting[I, R]], work: Callable[[Session], Sequence[R]]) -> None:
        try:
            results = await self._store.transact(work)
        except Exception as fault:
            some = some or self._take()
            if len(some) == 1 or is_down(fault):
                for _, done in some:
                    _fail(done, fault)
                return
            for one in some:
                await self._commit([one], lambda session, one=one: self._work(session, [one[0]]))  # type: ignore[misc]
            return
        for (_, done), result in zip(some, results, strict=True):
            if not done.done():
                done.set_result(result)


def _fail(done: asyncio.Future[R], fault: Exception) -> None:
    if not done.done():
        done.set_exception(fault)


def shared(
    store: Store, name: str, work: Callable[[Session, Sequence[I]], Sequence[R]], *, most: int
) -> GroupCommit[I, R]:
    """Return the one group commit of *store* with this *name*; it does *work*."""
    return cast(GroupCommit[I, R], store.groups.setdefault(name, GroupCommit(store, work, most=most)))
