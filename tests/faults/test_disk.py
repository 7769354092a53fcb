"""Without room on the disk nothing is taken and nothing is lost, and with room again all goes on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.errors import TryLater
from receiptd.models import Lease
from tests.faults.offices import office_with
from tests.faults.peers import fake_peers
from tests.faults.workshop import Workshop, workshop
from tests.nursery import Nursery
from tests.office import Office

LARGE = f"{'x' * 70}\n" * 50_000
"""A text of 3.5 MB: more than SQLite keeps in memory before it writes."""


@contextmanager
def _no_more_room(office: Office) -> Iterator[None]:
    """Let the kernel refuse the daemon any file that grows beyond what the largest of its has now."""
    assert office.child is not None
    sizes = [file.stat().st_size for file in office.folder.iterdir() if file.is_file()]
    resource.prlimit(office.child.pid, resource.RLIMIT_FSIZE, (max(sizes), resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(office.child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_message_that_finds_no_room_is_not_taken_and_the_daemon_lives_on(nursery: Nursery) -> None:
    with fake_peers(ehlo=("PIPELINING", "DSN")) as peers, office_with(nursery, peers) as office:
        first = office.post("alice@b.test")
        office.wait(first, lambda recipient: recipient["delivery"] == "accepted")
        with _no_more_room(office):
            with pytest.raises(TryLater, match="nothing was taken"):
                office.post("bob@b.test", text=LARGE, key="the invoice")
            refused = _post_until_there_is_no_room(office)
        second = office.post("bob@b.test", text=LARGE, key="the invoice")
        office.wait(second, lambda recipient: recipient["delivery"] == "accepted")
        peers.report("bob@b.test")
        office.wait(second, lambda recipient: recipient["receipt"] == "met")
        assert peers.recipients.count("bob@b.test") == 1
        items = office.daemon.get("/v1/messages", [("limit", "200")])["items"]
        known = {item["recipients"][0]["address"] for item in items}
        assert known >= set(peers.recipients), "whoever got a letter is known"
        assert refused not in known


def _post_until_there_is_no_room(office: Office) -> str:
    """Return the address of the first small letter that is not taken."""
    for number in range(150):
        address = f"carol{number}@b.test"
        try:
            office.post(address)
        except TryLater:
            return address
    raise AssertionError("there was room all the time")


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    async with workshop() as shop:
        yield shop


async def test_of_works_that_share_a_commit_none_is_told_what_the_database_gave_up(shop: Workshop) -> None:
    async def put(session: AsyncSession, name: str) -> str:
        session.add(Lease(name=name, holder=name, until=shop.clock()))
        await session.flush()
        if name == "full":
            await session.exec(text("ROLLBACK"))  # type: ignore[call-overload]  # what SQLite does by itself where a write finds no room
            await session.exec(text("SELECT no_such_column"))  # type: ignore[call-overload]
        return name

    names = ("first", "full", "last")
    works = [shop.store.together(partial(put, name=name)) for name in names]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    told = [outcome for outcome in outcomes if isinstance(outcome, str)]
    async with shop.store.read() as session:
        stored = [name for name in names if await session.get(Lease, name) is not None]
    assert told == stored, "whoever was told that it is on disk is right"
    assert await shop.store.together(partial(put, name="afterwards")) == "afterwards"
