"""While another process locks the database, whoever hands something over is answered soon, and nothing is taken."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.daemon_process import DaemonProcess, await_that
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer


@contextmanager
def locked(daemon: DaemonProcess) -> Iterator[None]:
    other = sqlite3.connect(daemon.folder / "receiptd.db", isolation_level=None)
    other.execute("PRAGMA busy_timeout=5000")
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_hand_in_is_answered_with_75_after_ten_seconds_and_not_taken(fork_server: ForkServer, peers: Peers) -> None:
    def send(number: int) -> tuple[int, str, float]:
        began = time.monotonic()
        done = daemon.send_with_receipt("-f", "office@a.test", "-s", "An invoice", f"bob{number}@b.test")
        return done.returncode, done.stderr.decode(), time.monotonic() - began

    with daemon_with(fork_server, peers) as daemon, ThreadPoolExecutor() as pool:
        alice = daemon.post("alice@b.test")
        daemon.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        with locked(daemon):
            time.sleep(1.5)  # steps wait for the lock already
            ended = list(pool.map(send, range(3)))
            decided = daemon.run("waive", daemon.message(alice)["recipients"][0]["id"], "--reason", "no")
            assert daemon.ready()["database"]["ok"] is False
            assert "locked" in daemon.ready()["database"]["reason"]
        assert [status for status, _, _ in ended] == [75, 75, 75], ended
        assert all("locked" in said and "nothing was taken" in said for _, said, _ in ended)
        assert all(seconds < 14 for _, _, seconds in ended), ended
        assert (decided.status, "locked" in decided.said) == (75, True)
        carol = daemon.post("carol@b.test")
        daemon.wait(carol, lambda recipient: recipient["delivery"] == "accepted")
        assert {address for address in peers.recipients if address.startswith("bob")} == set()
        items = daemon.api.get("/v1/messages", [("limit", "200")])["items"]
        assert len(items) == 2, "what was answered with 75 isn't taken afterwards"
        await_that(lambda: daemon.ready()["database"]["ok"], daemon.ready)
        assert "Traceback" not in daemon.log
