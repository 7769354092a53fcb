"""Whoever replaces the database under the running daemon, or removes its log: it is noticed, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from receiptd.errors import TryLater, Unavailable
from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import PATIENCE, Office


def database(office: Office) -> Path:
    return office.folder / "receiptd.db"


def back_up(office: Office) -> Path:
    copy = office.folder / "backup.db"
    with sqlite3.connect(database(office)) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def rename(office: Office, copy: Path) -> None:
    copy.replace(database(office))


def write_over(office: Office, copy: Path) -> None:
    shutil.copyfile(copy, database(office))


def remove(office: Office, _: Path) -> None:
    database(office).unlink()


def remove_log(office: Office, _: Path) -> None:
    Path(f"{database(office)}-wal").unlink()


def ends(office: Office) -> str:
    """Wait until the daemon has ended by itself; return its last line."""
    assert office.child is not None
    assert office.child.wait(PATIENCE) == os.EX_IOERR, office.log
    office.child = None
    return office.log.splitlines()[-1]


Act = Callable[[Office, Path], None]


@pytest.mark.parametrize("act", [rename, write_over, remove, remove_log])
def test_it_takes_nothing_more_and_ends_with_a_sentence(nursery: Nursery, peers: Peers, act: Act) -> None:
    with office_with(nursery, peers) as office:
        alice = office.post("alice@b.test")
        office.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        copy = back_up(office)
        act(office, copy)
        with pytest.raises((TryLater, Unavailable)):
            office.post("bob@b.test")
        assert str(database(office)) in (said := ends(office))
        assert "while receiptd ran, so it ends" in said
        assert "bob@b.test" not in peers.recipients
        if act is not write_over:  # who reads while it is written over finds anything
            assert "Traceback" not in office.log


@pytest.mark.parametrize("act", [rename, write_over])
def test_what_was_put_in_its_place_is_not_spoilt_by_the_old_log(nursery: Nursery, peers: Peers, act: Act) -> None:
    with office_with(nursery, peers) as office:
        alice = office.post("alice@b.test")
        office.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        copy = back_up(office)
        peers.stop_relay()
        carol = office.post("carol@b.test", text="x\n" * 10_000)
        peers.start_relay()
        office.wait(carol, lambda recipient: recipient["delivery"] == "accepted")
        act(office, copy)
        ends(office)
        with sqlite3.connect(database(office)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert opened.execute("SELECT count(*) FROM message").fetchall() == [(1,)]
        opened.close()
        office.start()
        assert office.message(alice)["recipients"][0]["delivery"] == "accepted"


def test_without_its_log_nothing_is_lost_that_was_taken(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers) as office:
        letters = [office.post(f"bob{number}@b.test") for number in range(5)]
        remove_log(office, database(office))
        ends(office)
        office.start()
        for letter in letters:
            office.wait(letter, lambda recipient: recipient["delivery"] in ("accepted", "uncertain"))
        assert len(peers.recipients) == len(set(peers.recipients))


def test_neither_its_own_checkpoints_nor_copies_of_it_disturb_anything(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers) as office:
        for number in range(16):
            back_up(office)
            if not number % 4:
                assert office.run("check").status in (0, 1)
            letter = office.post(f"bob{number}@b.test", text="x\n" * 200_000)
            office.wait(letter, lambda recipient: recipient["delivery"] == "accepted")
        assert office.child is not None
        assert office.child.poll() is None
