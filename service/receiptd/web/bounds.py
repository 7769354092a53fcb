"""How much is done at a time, for all callers together and for one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from receiptd.errors import TryLater


class Busy(TryLater):
    """So much is under way that this must wait (429)."""


class Share:
    """Something of which there is *most* for all, and *of_one* for any one caller, so that none takes all."""

    def __init__(self, most: int, of_one: int, sentence: str) -> None:
        self._most, self._of_one, self._sentence = most, of_one, sentence
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @contextmanager
    def holding(self, owner: str, amount: int = 1) -> Iterator[None]:
        """Hold *amount* for *owner* while the context lasts; raise Busy where there is no room for it."""
        if not self.has_room(owner, amount):
            raise Busy(self._sentence)
        self._held[owner] += amount
        try:
            yield
        finally:
            self._held[owner] -= amount
            self._held += Counter()  # forget who holds nothing
            self._freed.set()

    def has_room(self, owner: str, amount: int = 1) -> bool:
        """Whether *owner* may hold *amount* more."""
        return self._held[owner] + amount <= self._of_one and self._held.total() + amount <= self._most

    async def room(self, owner: str, amount: int, patience: float) -> None:
        """Wait until there is room, at most for *patience* seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self.has_room(owner, amount):
                    self._freed.clear()
                    await self._freed.wait()
