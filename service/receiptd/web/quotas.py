"""How much callers may do at a time, together and each, and how much in an hour."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

from receiptd.errors import TryLater
from receiptd.settings import show_size
from receiptd.store import Store, messages

HOUR = timedelta(hours=1)


class Busy(TryLater):
    """So much is under way that this must wait (429)."""


class Quota:
    """Something of which there is *most* for all, half of that over TCP, and *of_one* for any one caller.

    No caller can take all of it, and programs on the network leave room for the users of this machine. *what* is its
    name, counted in *unit*; *way_out* says what a caller can do who gets none.
    """

    def __init__(self, most: int, of_one: int, what: str, way_out: str, *, unit: int = 1) -> None:
        self._most, self._of_one = most, of_one
        self._what, self._way_out, self._unit = what, way_out, unit
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @contextmanager
    def reserve(self, owner: str, amount: int = 1) -> Iterator[None]:
        """Reserve *amount* for *owner* while the context lasts; raise Busy where there is no room for it."""
        if limit := self._exceeded(owner, amount):
            raise Busy(f"too many {self._what}: {limit} at a time; {self._way_out}")
        self._held[owner] += amount
        try:
            yield
        finally:
            self._held[owner] -= amount
            self._held += Counter()  # drop the entries that are zero
            self._freed.set()

    def has_room(self, owner: str, amount: int = 1) -> bool:
        """Whether *owner* may hold *amount* more."""
        return self._exceeded(owner, amount) is None

    def _exceeded(self, owner: str, amount: int) -> str | None:
        """Return the limit that *amount* more for *owner* would exceed, as words."""
        over_tcp = sum(held for name, held in self._held.items() if _is_over_tcp(name))
        limits = [(self._held[owner], self._of_one, "one caller"), (self._held.total(), self._most, "all callers")]
        if _is_over_tcp(owner):
            limits.append((over_tcp, self._most // 2, "all callers over TCP"))
        for held, most, whose in limits:
            if held + amount > most:
                return f"{whose} may have {most // self._unit}"
        return None

    async def wait_for_room(self, owner: str, amount: int, seconds: float) -> None:
        """Wait until there is room, for at most *seconds*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.has_room(owner, amount):
                    self._freed.clear()
                    await self._freed.wait()


def _is_over_tcp(owner: str) -> bool:
    return owner.startswith("token:")


class HourlyQuota:
    """What each sender handed over on send.sock within the last hour; from before the start, read from the database."""

    def __init__(self) -> None:
        self._hours: dict[str, _Hour] = {}

    async def check(self, store: Store, owner: str, octets: int = 1) -> None:
        """Raise Busy where *owner* may hand over no message of *octets* now; say which limit it is, and until when."""
        hour = await self._hour(store, owner)
        limits = store.settings.service
        most, size = limits.messages_per_hour, limits.bytes_per_hour
        if len(hour.taken) >= most:
            raise Busy(_hour_is_full(f"{most} message" + "s" * (most > 1), "messages_per_hour", hour.taken[-most][0]))
        if (excess := hour.octets + octets - size) > 0:
            raise Busy(_hour_is_full(f"messages of {show_size(size)} octets", "bytes_per_hour", hour.oldest(excess)))

    def note(self, owner: str, taken_at: datetime, octets: int) -> None:
        """Count a message that was taken."""
        self._hours[owner].add(taken_at, octets)

    async def _hour(self, store: Store, owner: str) -> _Hour:
        since = store.now() - HOUR
        if owner not in self._hours:
            before = await store.query(partial(messages.handed_over, owner=owner, since=since))
            self._hours.setdefault(owner, _Hour(before))
        self._hours[owner].forget(since)
        return self._hours[owner]


class _Hour:
    """When one sender handed over what, oldest first."""

    def __init__(self, taken: Iterable[tuple[datetime, int]]) -> None:
        self.taken = deque(taken)
        self.octets = sum(octets for _, octets in self.taken)

    def add(self, at: datetime, octets: int) -> None:
        self.taken.append((at, octets))
        self.octets += octets

    def forget(self, since: datetime) -> None:
        while self.taken and self.taken[0][0] <= since:
            self.octets -= self.taken.popleft()[1]

    def oldest(self, octets: int) -> datetime | None:
        """Return when the last of the oldest that make up *octets* was handed over; None where all are fewer."""
        for at, size in self.taken:
            octets -= size
            if octets <= 0:
                return at
        return None


def _hour_is_full(most: str, setting: str, since: datetime | None) -> str:
    when = f"try again after {since + HOUR:%H:%M:%S} UTC, or ask" if since else "make it smaller, or ask"
    return (
        f"you may hand over {most} within an hour and no more ([service] {setting}): "
        f"{when} whoever runs receiptd for more"
    )
