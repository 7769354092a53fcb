"""While another process locks the database, whoever hands something over is answered soon, and nothing is taken."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import Office, await_that


@contextmanager
def locked(office: Office) -> Iterator[None]:
    other = sqlite3.connect(office.folder / "receiptd.db", isolation_level=None)
    other.execute("PRAGMA busy_timeout=5000")
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_hand_in_is_answered_with_75_after_ten_seconds_and_not_taken(nursery: Nursery, peers: Peers) -> None:
    def send(number: int) -> tuple[int, str, float]:
        began = time.monotonic()
        done = office.send_with_receipt("-f", "office@a.test", "-s", "An invoice", f"bob{number}@b.test")
        return done.returncode, done.stderr.decode(), time.monotonic() - began

    with office_with(nursery, peers) as office, ThreadPoolExecutor() as pool:
        alice = office.post("alice@b.test")
        office.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        with locked(office):
            time.sleep(1.5)  # steps wait for the lock already
            ended = list(pool.map(send, range(3)))
            decided = office.run("waive", office.message(alice)["recipients"][0]["id"], "--reason", "no")
            assert office.ready()["database"]["ok"] is False
            assert "locked" in office.ready()["database"]["reason"]
        assert [status for status, _, _ in ended] == [75, 75, 75], ended
        assert all("locked" in said and "nothing was taken" in said for _, said, _ in ended)
        assert all(seconds < 14 for _, _, seconds in ended), ended
        assert (decided.status, "locked" in decided.said) == (75, True)
        carol = office.post("carol@b.test")
        office.wait(carol, lambda recipient: recipient["delivery"] == "accepted")
        assert {address for address in peers.recipients if address.startswith("bob")} == set()
        items = office.daemon.get("/v1/messages", [("limit", "200")])["items"]
        assert len(items) == 2, "what was answered with 75 isn't taken afterwards"
        await_that(lambda: office.ready()["database"]["ok"], office.ready)
        assert "Traceback" not in office.log
