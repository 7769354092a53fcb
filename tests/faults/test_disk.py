"""Without room on the disk nothing is taken and nothing is lost, and with room again all goes on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.testing import capture_logs

from receiptd.errors import TryLater
from receiptd.facts import Delivery, Receipt
from receiptd.models import Lease
from receiptd.submit import submit
from receiptd.watchdog import Watchdog
from tests.daemon_process import DaemonProcess, await_that, kinds
from tests.fake_smtp import Hang
from tests.faults.daemons import daemon_with
from tests.faults.peers import fake_peers
from tests.faults.steps_with_peers import StepsWithPeers, steps_with_peers
from tests.fork_server import ForkServer

LARGE = f"{'x' * 70}\n" * 50_000
"""A text of 3.5 MB: more than SQLite keeps in memory before it writes."""


@contextmanager
def _no_more_room(daemon: DaemonProcess) -> Iterator[None]:
    """Let the kernel refuse the daemon any file that grows beyond what the largest of its has now."""
    assert daemon.child is not None
    sizes = [file.stat().st_size for file in daemon.folder.iterdir() if file.is_file()]
    resource.prlimit(daemon.child.pid, resource.RLIMIT_FSIZE, (max(sizes), resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(daemon.child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_message_that_finds_no_room_is_not_taken_and_the_daemon_lives_on(fork_server: ForkServer) -> None:
    with fake_peers(ehlo=("PIPELINING", "DSN")) as peers, daemon_with(fork_server, peers) as daemon:
        first = daemon.post("alice@b.test")
        daemon.wait(first, lambda recipient: recipient["delivery"] == "accepted")
        with _no_more_room(daemon):
            with pytest.raises(TryLater, match="nothing was taken"):
                daemon.post("bob@b.test", text=LARGE, key="the invoice")
            refused = _post_until_there_is_no_room(daemon)
        second = daemon.post("bob@b.test", text=LARGE, key="the invoice")
        daemon.wait(second, lambda recipient: recipient["delivery"] == "accepted")
        peers.report("bob@b.test")
        daemon.wait(second, lambda recipient: recipient["receipt"] == "met")
        assert peers.recipients.count("bob@b.test") == 1
        items = daemon.api.get("/v1/messages", [("limit", "200")])["items"]
        known = {item["recipients"][0]["address"] for item in items}
        assert known >= set(peers.recipients), "whoever got a letter is known"
        assert refused not in known


def test_without_room_readyz_says_why_and_with_room_again_all_goes_on_without_a_restart(
    fork_server: ForkServer,
) -> None:
    with fake_peers() as peers, daemon_with(fork_server, peers) as daemon:
        alice = daemon.post("alice@b.test")
        daemon.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        with _no_more_room(daemon):
            _post_until_there_is_no_room(daemon)
            peers.report("alice@b.test")
            await_that(lambda: not daemon.ready()["mailbox:receipts"]["ok"], daemon.ready)
            checks = daemon.ready()
            assert "the database does not take what it holds" in checks["mailbox:receipts"]["reason"]
            assert "it takes no writes: d" in checks["database"]["reason"]
            assert (checks["database"]["ok"], checks["database"]["since"] is None) == (False, False)
            assert daemon.message(alice)["recipients"][0]["receipt"] == "open", "it can be looked at all the time"
            sent = daemon.send_with_receipt("-f", "office@a.test", "-s", "An invoice", "dave@b.test")
            assert (sent.returncode, sent.stdout) == (75, b"")
            assert b"nothing was taken: fix that, or try again later" in sent.stderr
        await_that(lambda: all(check["ok"] for check in daemon.ready().values()), daemon.ready)
        shown = daemon.wait(alice, lambda recipient: recipient["receipt"] == "met")
        assert kinds(shown).count("delivered") == 1
        assert "Traceback" not in daemon.log


def _post_until_there_is_no_room(daemon: DaemonProcess) -> str:
    """Return the address of the first small letter that is not taken."""
    for number in range(150):
        address = f"carol{number}@b.test"
        try:
            daemon.post(address)
        except TryLater:
            return address
    raise AssertionError("there was room all the time")


@pytest.fixture
async def steps() -> AsyncIterator[StepsWithPeers]:
    async with steps_with_peers() as steps:
        yield steps


async def test_of_works_that_share_a_commit_none_is_told_what_the_database_gave_up(steps: StepsWithPeers) -> None:
    async def put(session: AsyncSession, name: str) -> str:
        session.add(Lease(name=name, holder=name, until=steps.clock()))
        await session.flush()
        if name == "full":
            connection = await session.connection()
            await connection.execute(text("ROLLBACK"))  # what SQLite does by itself where a write finds no room
            await connection.execute(text("SELECT no_such_column"))
        return name

    names = ("first", "full", "last")
    works = [steps.store.together(partial(put, name=name)) for name in names]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    told = [outcome for outcome in outcomes if isinstance(outcome, str)]
    async with steps.store.read() as session:
        stored = [name for name in names if await session.get(Lease, name) is not None]
    assert told == stored, "whoever was told that it is on disk is right"
    assert await steps.store.together(partial(put, name="afterwards")) == "afterwards"


async def test_no_letter_is_sent_whose_attempt_can_not_be_written(steps: StepsWithPeers) -> None:
    bob = await steps.send("bob@b.test")
    async with steps.unwritable():
        with pytest.raises(OperationalError):
            await steps.submit()
        assert not steps.smtp.said("MAIL")
    row = await steps.recipient(bob)
    assert (row.delivery, row.claimed_by) == (Delivery.QUEUED, None), "it need not wait for the end of its claim"
    assert await steps.submit() == 1
    assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED
    assert len(steps.smtp.messages) == 1


async def test_the_relays_answer_is_kept_until_the_database_takes_it(steps: StepsWithPeers) -> None:
    """Else a letter that was accepted would be held for uncertain, and sent a second time."""
    bob = await steps.send("bob@b.test")
    steps.smtp.script["."] = [Hang()]
    running = asyncio.create_task(steps.submit())
    await _until(lambda: len(steps.smtp.messages) == 1)
    async with steps.unwritable():
        steps.smtp.say_unasked("250 2.0.0 Ok: queued as late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(running)
    assert await running == 1
    assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED
    steps.clock.turn(hours=1)
    assert await steps.submit() == 0
    assert await steps.kinds(bob) == ["accepted", "queued"]
    assert len(steps.smtp.messages) == 1


async def test_a_claim_that_the_database_refuses_cuts_off_no_transaction(steps: StepsWithPeers) -> None:
    bob = await steps.send("bob@b.test")
    steps.smtp.script["."] = [Hang()]
    wake = asyncio.Event()
    running = asyncio.create_task(
        submit(steps.store, steps.relay, steps.relay_health, wake=wake, stop=steps.stop, watchdog=Watchdog())
    )
    await _until(lambda: len(steps.smtp.messages) == 1)
    async with steps.unwritable():
        wake.set()
        await _until(lambda: not wake.is_set())
        steps.smtp.say_unasked("250 2.0.0 Ok: queued as late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(running)
    assert await running == 1
    assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED


async def test_a_report_that_can_not_be_stored_stays_in_the_mailbox_and_holds_the_deadline(
    steps: StepsWithPeers,
) -> None:
    bob = await steps.send("bob@b.test")
    await steps.submit()
    steps.clock.turn(seconds=50)
    steps.report("bob@b.test")
    async with steps.unwritable():
        with pytest.raises(OperationalError, match="readonly"):
            await steps.collect()
        assert "database" in await steps.readyz()
        steps.clock.turn(minutes=2)
        assert await steps.escalate() == 0, "after its deadline"
    assert await steps.collect() == 1
    assert await steps.settle() == 1
    await steps.escalate()
    assert (await steps.recipient(bob)).receipt is Receipt.MET
    assert await steps.kinds(bob) == ["accepted", "delivered", "met", "queued"]
    assert (await steps.alerts(), "database" in await steps.readyz()) == ([], False)


async def test_a_silence_that_can_not_be_written_down_is_told_once_afterwards(steps: StepsWithPeers) -> None:
    bob = await steps.send("bob@b.test")
    await steps.submit()
    steps.clock.turn(minutes=2)
    await steps.collect()
    async with steps.unwritable():
        for _ in range(2):
            with capture_logs() as logs, pytest.raises(OperationalError, match="readonly"):
                await steps.escalate()
            assert logs == [], "it is no fault of the deadline's"
    await steps.escalate()
    await steps.escalate()
    assert [alert.type for alert in await steps.alerts()] == ["receipt.overdue"]
    assert (await steps.kinds(bob)).count("overdue") == 1


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.002)
