"""Whoever replaces the database under the running daemon, or removes its log: it is noticed, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from receiptd.errors import TryLater, Unavailable
from tests.daemon_process import PATIENCE, DaemonProcess
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer


def database(daemon: DaemonProcess) -> Path:
    return daemon.folder / "receiptd.db"


def back_up(daemon: DaemonProcess) -> Path:
    copy = daemon.folder / "backup.db"
    with sqlite3.connect(database(daemon)) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def rename(daemon: DaemonProcess, copy: Path) -> None:
    copy.replace(database(daemon))


def write_over(daemon: DaemonProcess, copy: Path) -> None:
    shutil.copyfile(copy, database(daemon))


def remove(daemon: DaemonProcess, _: Path) -> None:
    database(daemon).unlink()


def remove_log(daemon: DaemonProcess, _: Path) -> None:
    Path(f"{database(daemon)}-wal").unlink()


def ends(daemon: DaemonProcess) -> str:
    """Wait until the daemon has ended by itself; return its last line."""
    assert daemon.child is not None
    assert daemon.child.wait(PATIENCE) == os.EX_IOERR, daemon.log
    daemon.child = None
    return daemon.log.splitlines()[-1]


Act = Callable[[DaemonProcess, Path], None]


@pytest.mark.parametrize("act", [rename, write_over, remove, remove_log])
def test_it_takes_nothing_more_and_ends_with_a_sentence(fork_server: ForkServer, peers: Peers, act: Act) -> None:
    with daemon_with(fork_server, peers) as daemon:
        alice = daemon.post("alice@b.test")
        daemon.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        copy = back_up(daemon)
        act(daemon, copy)
        with pytest.raises((TryLater, Unavailable)):
            daemon.post("bob@b.test")
        assert str(database(daemon)) in (said := ends(daemon))
        assert "while receiptd ran, so it ends" in said
        assert "bob@b.test" not in peers.recipients
        if act is not write_over:  # who reads while it is written over finds anything
            assert "Traceback" not in daemon.log


@pytest.mark.parametrize("act", [rename, write_over])
def test_what_was_put_in_its_place_is_not_spoilt_by_the_old_log(
    fork_server: ForkServer, peers: Peers, act: Act
) -> None:
    with daemon_with(fork_server, peers) as daemon:
        alice = daemon.post("alice@b.test")
        daemon.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        copy = back_up(daemon)
        peers.stop_relay()
        carol = daemon.post("carol@b.test", text="x\n" * 10_000)
        peers.start_relay()
        daemon.wait(carol, lambda recipient: recipient["delivery"] == "accepted")
        act(daemon, copy)
        ends(daemon)
        with sqlite3.connect(database(daemon)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert opened.execute("SELECT count(*) FROM message").fetchall() == [(1,)]
        opened.close()
        daemon.start()
        assert daemon.message(alice)["recipients"][0]["delivery"] == "accepted"


def test_without_its_log_nothing_is_lost_that_was_taken(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers) as daemon:
        letters = [daemon.post(f"bob{number}@b.test") for number in range(5)]
        remove_log(daemon, database(daemon))
        ends(daemon)
        daemon.start()
        for letter in letters:
            daemon.wait(letter, lambda recipient: recipient["delivery"] in ("accepted", "uncertain"))
        assert len(peers.recipients) == len(set(peers.recipients))


def test_neither_its_own_checkpoints_nor_copies_of_it_disturb_anything(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers) as daemon:
        for number in range(16):
            back_up(daemon)
            if not number % 4:
                assert daemon.run("check").status in (0, 1)
            letter = daemon.post(f"bob{number}@b.test", text="x\n" * 200_000)
            daemon.wait(letter, lambda recipient: recipient["delivery"] == "accepted")
        assert daemon.child is not None
        assert daemon.child.poll() is None
