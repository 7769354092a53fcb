"""However and whenever the daemon ends, nothing is lost and nothing is sent twice but what SMTP leaves unknown."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes

import pytest

from receiptd import settings
from receiptd.errors import Unavailable
from receiptd.store import Store, folders, settlement
from tests.daemon_process import DaemonProcess, Json, kinds
from tests.fake_smtp import Hang, Later
from tests.faults.daemons import daemon_with
from tests.faults.letters import report
from tests.faults.peers import Peers, fake_peers
from tests.fork_server import ForkServer
from tests.steps_fixture import keep

QUEUED = "250 2.0.0 Ok: queued as 4XyZ1"
SOON_AGAIN = 'uncertain_wait = "2s"'


@dataclass(frozen=True)
class CutOff:
    """A daemon whose two letters were in DATA when it was told to end, at *told_at* (monotonic)."""

    daemon: DaemonProcess
    peers: Peers
    letters: tuple[str, str]
    told_at: float


@pytest.fixture(scope="module", autouse=True)
def cut_off(fork_server: ForkServer) -> Iterator[CutOff]:
    """Begun before the first test of this module, so that the last one need not wait for the 20 seconds."""
    with ExitStack() as stack:
        peers = stack.enter_context(fake_peers())
        daemon = stack.enter_context(daemon_with(fork_server, peers, submission=SOON_AGAIN))
        peers.script(".", Hang(), Hang())
        letters = (daemon.post("bob@b.test", within="1h"), daemon.post("carol@b.test", within="1h"))
        peers.wait_for_dots(2)
        assert daemon.child is not None
        daemon.child.terminate()
        yield CutOff(daemon, peers, letters, time.monotonic())


def _is_accepted(recipient: Json) -> bool:
    return bool(recipient["delivery"] == "accepted")


def test_a_transaction_in_data_is_finished_before_the_daemon_ends(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers) as daemon:
        peers.script(".", Later(1.5, QUEUED))
        letter = daemon.post("bob@b.test")
        peers.wait_for_dots(1)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 19, "and not after the 20 seconds that it would be given"
        daemon.start()
        shown = daemon.wait(letter, _is_accepted)
        assert kinds(shown) == ["queued", "accepted"]
        assert len(peers.smtp.messages) == 1


def test_what_was_taken_goes_out_though_the_daemon_is_killed_at_once(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers, submission=SOON_AGAIN) as daemon:
        letter = daemon.post("bob@b.test")
        daemon.stop(kill=True)
        daemon.start()
        shown = daemon.wait(letter, _is_accepted)
        assert kinds(shown)[-1] == "accepted"
        assert len(peers.smtp.messages) <= kinds(shown).count("uncertain") + 1


def test_a_report_that_a_killed_daemon_had_in_hand_is_settled_at_once_at_the_next_start(
    fork_server: ForkServer, peers: Peers
) -> None:
    with daemon_with(fork_server, peers) as daemon:
        letter = daemon.post("bob@b.test")
        daemon.wait(letter, _is_accepted)
        daemon.stop(kill=True)
        raw = report(peers.return_path("bob@b.test"), "bob@b.test", "delivered")
        asyncio.run(_take_in_hand(daemon, raw))
        daemon.start()
        daemon.wait(letter, lambda recipient: recipient["receipt"] == "met", within=25)


async def _take_in_hand(daemon: DaemonProcess, raw: bytes) -> None:
    """Fetch a report and count the try to read it, as a daemon does that is killed then."""
    store = Store(settings.load(daemon.config, environ={}))
    now = store.now()
    batch = [folders.Raw(1, now, len(raw), raw)]
    await keep(store, "receipts", "INBOX", 1, batch, upto=1, now=now)
    await settlement.begin_reading(store, 50)
    await store.close()


def test_a_letter_in_data_at_a_kill_is_uncertain_until_it_is_proven_or_sent_again(
    fork_server: ForkServer, peers: Peers
) -> None:
    with daemon_with(fork_server, peers, submission=SOON_AGAIN) as daemon:
        peers.script(".", Hang(), Hang())
        proven, silent = daemon.post("bob@b.test"), daemon.post("carol@b.test")
        peers.wait_for_dots(2)
        daemon.stop(kill=True)
        peers.report("bob@b.test")
        daemon.start()
        _check_both_ends(daemon, peers, proven, silent)


def _check_both_ends(daemon: DaemonProcess, peers: Peers, proven: str, silent: str) -> None:
    """Bob's letter is proven by a report and never sent again; carol's is sent again byte for byte."""
    shown = daemon.wait(silent, _is_accepted)
    assert kinds(shown) == ["queued", "uncertain", "accepted"]
    shown = daemon.wait(proven, lambda recipient: recipient["receipt"] == "met")
    assert kinds(shown) == ["queued", "uncertain", "delivered", "met"]
    to_bob, to_carol = (_copies(peers, address) for address in ("bob@b.test", "carol@b.test"))
    assert len(to_bob) == 1
    assert len(to_carol) == 2
    assert len(set(to_carol)) == 1, "the same Message-ID, token and bytes"
    assert not daemon.receiver.alerts


def _copies(peers: Peers, address: str) -> list[bytes]:
    return [content for content in list(peers.smtp.messages) if message_from_bytes(content)["To"] == address]


# --- kills at any instant --------------------------------------------------------------------------------------------

LETTERS = 30
KILLS = 10


class Correspondents:
    """Those who get the letters: each reports once, as soon as it has one; every fifth that it failed."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._answered: set[str] = set()

    def answer(self) -> None:
        for content in list(self._peers.smtp.messages):
            letter = message_from_bytes(content)
            address = letter["To"]
            if address not in self._answered:
                self._answered.add(address)
                action = "failed" if _fails(address) else "delivered"
                self._peers.put(report(letter["Disposition-Notification-To"].strip("<>"), address, action))


def _fails(address: str) -> bool:
    return address.startswith("gone")


def _addresses() -> list[str]:
    return [f"{'gone' if number % 5 == 0 else 'user'}{number}@b.test" for number in range(LETTERS)]


def _post_all(daemon: DaemonProcess, letters: dict[str, str]) -> None:
    """Hand all letters over as a careful program does: again with the same key until it is told that one is taken."""
    for address in _addresses():
        while address not in letters:
            try:
                letters[address] = daemon.post(address, key=address, within="1h")
            except Unavailable:
                time.sleep(0.01)


def test_kills_at_random_instants_lose_nothing_and_double_nothing(fork_server: ForkServer, peers: Peers) -> None:
    peers.script(".", *[Later(0.03, QUEUED)] * LETTERS * 2)
    correspondents, chance = Correspondents(peers), random.Random()
    with daemon_with(fork_server, peers, submission='uncertain_wait = "1s"\nconnections = 3') as daemon:
        letters: dict[str, str] = {}
        sender = threading.Thread(target=_post_all, args=(daemon, letters))
        sender.start()
        for number in range(KILLS):
            if number % 2:
                daemon.await_up()
            time.sleep(chance.uniform(0, 0.4))
            correspondents.answer()
            daemon.stop(kill=True)
            daemon.launch()
        daemon.await_up()
        sender.join()
        _let_the_wait_be_over(daemon)
        for address, letter in letters.items():
            _await_end(daemon, correspondents, letter, "failed" if _fails(address) else "met")
        _check_nothing_is_lost_or_double(daemon, peers, letters)


def _let_the_wait_be_over(daemon: DaemonProcess) -> None:
    """A report whose reading was cut off is read again after half a minute: let that be now."""
    database = sqlite3.connect(daemon.folder / "receiptd.db", timeout=10)
    with database:
        database.execute("UPDATE report SET due_at = fetched_at WHERE due_at IS NOT NULL")
    database.close()


def _await_end(daemon: DaemonProcess, correspondents: Correspondents, letter: str, receipt: str) -> None:
    def has_ended(recipient: Json) -> bool:
        correspondents.answer()
        return bool(recipient["receipt"] == receipt)

    daemon.wait(letter, has_ended)


def _check_nothing_is_lost_or_double(daemon: DaemonProcess, peers: Peers, letters: dict[str, str]) -> None:
    listed = daemon.api.get("/v1/messages", [("limit", "200")])["items"]
    assert {item["id"] for item in listed} == set(letters.values())
    for address, letter in letters.items():
        copies, events = _copies(peers, address), kinds(daemon.message(letter))
        assert 1 <= len(copies) <= 1 + events.count("uncertain"), (address, events)
        assert len(set(copies)) == 1
    for address in filter(_fails, letters):
        daemon.receiver.wait_for("receipt.failed", address=address)
    alerts = {(alert.address, alert.id) for alert in daemon.receiver.alerts}
    assert sorted(str(address) for address, _ in alerts) == sorted(filter(_fails, letters))


# --- last, for its 20 seconds have passed meanwhile ------------------------------------------------------------------


def test_what_is_in_data_for_twenty_seconds_is_cut_off_and_uncertain_at_the_next_start(cut_off: CutOff) -> None:
    daemon, peers = cut_off.daemon, cut_off.peers
    assert daemon.child is not None
    assert daemon.child.wait(30) == 0
    assert "a step was cut off" in daemon.log
    peers.report("bob@b.test")
    daemon.start()
    _check_both_ends(daemon, peers, *cut_off.letters)
