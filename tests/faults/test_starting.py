"""A daemon that can't work as it is told says so in one sentence and with its exit status."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, environment
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer


@pytest.fixture
def closed(fork_server: ForkServer, peers: Peers) -> Iterator[DaemonProcess]:
    """A daemon that was never started."""
    with daemon_with(fork_server, peers, start=False) as daemon:
        yield daemon


@pytest.fixture
def used(closed: DaemonProcess) -> DaemonProcess:
    """A daemon that ended: its database has its tables."""
    assert closed.run("db", "upgrade").status == 0
    return closed


def _refusal(daemon: DaemonProcess, *words: str) -> tuple[int, str]:
    """Run a command that must fail; return its exit status and its one sentence."""
    ended = daemon.run(*(words or ("run",)))
    assert "Traceback" not in ended.said
    assert ended.said.count("\n") == 1, ended.said
    return ended.status, ended.said


def _change(daemon: DaemonProcess, old: str, new: str) -> None:
    text = daemon.config.read_text()
    assert old in text
    daemon.config.write_text(text.replace(old, new))


def test_an_unknown_setting_is_named_with_the_nearest_known_one(closed: DaemonProcess) -> None:
    _change(closed, 'poll = "1s"', 'pol = "1s"')
    status, said = _refusal(closed)
    assert status == os.EX_CONFIG
    assert "pol" in said
    assert "poll" in said.replace("'pol'", "").replace('"pol"', "")


def test_without_a_webhook_nobody_would_be_told_and_it_does_not_run(closed: DaemonProcess) -> None:
    text = closed.config.read_text()
    closed.config.write_text(text[: text.index("[policy.default]")])
    status, said = _refusal(closed)
    assert status == os.EX_CONFIG
    assert "nobody would be told" in said


def test_a_database_in_a_folder_that_is_not_there_is_named(closed: DaemonProcess) -> None:
    _change(closed, "/receiptd.db", "/nowhere/receiptd.db")
    status, said = _refusal(closed)
    assert status == os.EX_CANTCREAT
    assert str(closed.folder / "nowhere") in said


def test_a_database_that_may_not_be_written_is_named(used: DaemonProcess) -> None:
    """Even root may not write where a folder is mounted read-only; a folder in the file's place is like it."""
    (used.folder / "receiptd.db").unlink()
    (used.folder / "receiptd.db").mkdir()
    status, said = _refusal(used)
    assert status == os.EX_CANTCREAT
    assert "receiptd.db" in said


def test_a_database_whose_folder_may_not_be_written_is_named(used: DaemonProcess) -> None:
    used.folder.chmod(0o500)
    try:
        done = subprocess.run(
            [*_WITHOUT_ROOTS_WAY, sys.executable, "-m", "receiptd", "run", "--config", str(used.config)],
            capture_output=True,
            env=environment(),
            timeout=20,
            check=False,
        )
    finally:
        used.folder.chmod(0o700)
    assert done.returncode == os.EX_CANTCREAT, done.stderr.decode()
    assert b"write access" in done.stderr


_WITHOUT_ROOTS_WAY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Root writes everywhere; without these it is bound to a file's permissions like anybody."""


def _set_revision(folder: Path, revision: str) -> None:
    with sqlite3.connect(folder / "receiptd.db") as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(used: DaemonProcess) -> None:
    _set_revision(used.folder, "9999")
    for words in (("run",), ("db", "upgrade")):
        status, said = _refusal(used, *words)
        assert status == os.EX_CONFIG
        assert "newer receiptd" in said


def test_a_database_of_an_older_version_asks_for_the_upgrade(used: DaemonProcess) -> None:
    """Tables without a revision are what a database from before the first migration has."""
    with sqlite3.connect(used.folder / "receiptd.db") as database:
        database.execute("DELETE FROM alembic_version")
    database.close()
    status, said = _refusal(used)
    assert status == os.EX_CONFIG
    assert "receiptd db upgrade" in said


def test_a_second_daemon_on_the_same_database_is_refused(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers) as daemon:
        elsewhere = daemon.folder / "second.toml"
        elsewhere.write_text(daemon.config.read_text().replace(".sock", "2.sock"))
        ended = daemon.run("run", config=elsewhere)
        assert ended.status == os.EX_CANTCREAT
        assert "another receiptd already works on" in ended.said
        letter = daemon.post("alice@b.test")
        daemon.wait(letter, lambda recipient: recipient["delivery"] == "accepted")


def test_without_a_daemon_a_letter_is_not_taken(closed: DaemonProcess) -> None:
    words = ("-f", "office@a.test", "bob@b.test")
    done = closed.send_with_receipt(*words)
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"no daemon answers" in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_sockets_of_a_killed_daemon_are_replaced(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers) as daemon:
        daemon.stop(kill=True)
        assert (daemon.folder / "send.sock").is_socket()
        daemon.start()
        assert daemon.post("alice@b.test")


@pytest.mark.parametrize(("is_new", "room"), [(True, 0), (True, 8192), (True, 65536), (False, 0), (False, 8192)])
def test_a_start_on_a_full_disk_is_one_sentence(fork_server: ForkServer, peers: Peers, room: int, is_new: bool) -> None:
    with daemon_with(fork_server, peers, start=False) as daemon:
        if not is_new:
            daemon.start()
            daemon.post("alice@b.test", text="x\n" * 50_000)
            daemon.stop(kill=True)
        ended = subprocess.run(
            [sys.executable, "-m", "receiptd", "run", "--config", str(daemon.config)],
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY)),
            env=environment(),
            timeout=60,
            check=False,
        )
        said = ended.stderr.decode()
        assert (ended.returncode, "Traceback" in said) == (os.EX_CANTCREAT, False), said
        assert said.startswith("receiptd: ")
        assert said.count("\n") == 1, said
        daemon.start()
        if not is_new:
            assert len(daemon.api.get("/v1/messages")["items"]) == 1
        assert daemon.post("alice@b.test")
