"""The daemon does all its work under the filter of system calls that its unit has, and the filter is real."""

from __future__ import annotations

import functools
import grp
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from receiptd import client, connection
from receiptd.errors import ReceiptdError
from tests.api_fixture import letter
from tests.faults.peers import Peers, tables
from tests.receiver import Receiver
from tests.test_deploy import HOUSE, analyze, unit
from tests.unit_filter import allowed

GROUP = "daemon"
"""A group of every Debian that no test runs in."""


@functools.cache
def expand(word: str) -> frozenset[str]:
    """Return the system calls in a set of systemd's, those of its inner sets included."""
    if not word.startswith("@"):
        return frozenset((word,))
    lines = analyze("syscall-filter", "--no-pager", word).stdout.splitlines()
    names = [line.strip() for line in lines if line.startswith("    ") and not line.strip().startswith("#")]
    assert names, word
    return frozenset(name for inner in names for name in expand(inner))


def locked_in(*words: str) -> list[str]:
    """Return the command that runs *words* under the unit's filter."""
    names = sorted(allowed(unit()["SystemCallFilter"], expand))
    return [sys.executable, "-m", "tests.unit_filter", json.dumps(names), *words]


def test_the_filter_of_the_unit_forbids_what_a_service_need_not_do() -> None:
    program = "import os; os.umask(0); print('here')\ntry: os.chown('.', -1, 0)\nexcept OSError as e: print(e.errno)"
    shown = subprocess.run(
        locked_in(sys.executable, "-c", program), cwd=HOUSE, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["here", "1"]


@contextmanager
def running(folder: Path, peers: Peers, receiver: Receiver) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon under the unit's filter, with sockets of which one is another group's."""
    config = tables(peers.smtp_port, peers.imap.port).furnish(folder, receiver, {"password": "x"})
    listen = (
        f'[{{unix = "{folder}/send.sock", mode = "0666", scope = "send"}}, '
        f'{{unix = "{folder}/api.sock", mode = "0660", group = "{GROUP}", scope = "operate"}}]'
    )
    environ = {**os.environ, "RECEIPTD_SERVICE__LISTEN": listen, "PYTHONPATH": str(HOUSE)}
    words = locked_in(sys.executable, "-m", "receiptd", "run", "--config", str(config))
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(words, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(60)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder into which other users may look."""
    made = Path(tempfile.mkdtemp(prefix="rcpt-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_under_the_filter_of_its_unit_the_daemon_sends_collects_and_opens_a_socket_to_a_group(folder: Path) -> None:
    peers, receiver = Peers(), Receiver()
    try:
        with running(folder, peers, receiver) as daemon:
            socket_path = folder / "api.sock"
            _wait(lambda: _answers(socket_path) or daemon.poll() is not None)
            assert daemon.poll() is None, (folder / "log").read_text()
            api = client.Client([connection.UnixConnection(socket_path)])
            taken = api.post("/v1/messages", letter(to=["bob@b.test"]))
            peers.wait_for_dots(1)
            peers.report("bob@b.test")
            _wait(lambda: api.get(f"/v1/messages/{taken['id']}")["recipients"][0]["delivery"] == "delivered")
            assert _group_in_acl(socket_path) == grp.getgrnam(GROUP).gr_gid
            assert socket_path.stat().st_mode & 0o777 == 0o660
        assert daemon.returncode == 0
        assert not [line for line in (folder / "log").read_text().splitlines() if "error" in line.lower()]
    finally:
        receiver.close()
        peers.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as somebody else")
def test_a_socket_with_a_group_lets_its_members_in_and_nobody_else(folder: Path) -> None:
    peers, receiver = Peers(), Receiver()
    try:
        with running(folder, peers, receiver):
            _wait(lambda: _answers(folder / "api.sock"))
            assert _may_connect(folder / "api.sock", uid=4242, gid=grp.getgrnam(GROUP).gr_gid)
            assert not _may_connect(folder / "api.sock", uid=4242, gid=4242)
            assert not _may_connect(folder / "api.sock", uid=4242, gid=os.getegid())
    finally:
        receiver.close()
        peers.close()


def _wait(until: object) -> None:
    give_up = time.monotonic() + 60
    while not until():  # type: ignore[operator]
        assert time.monotonic() < give_up
        time.sleep(0.05)


def _answers(path: Path) -> bool:
    with suppress(ReceiptdError):
        client.Client([connection.UnixConnection(path)]).get("/healthz")
        return True
    return False


def _group_in_acl(path: Path) -> int:
    packed = os.getxattr(path, "system.posix_acl_access")[4:]
    entries = [struct.unpack("<HHI", packed[start : start + 8]) for start in range(0, len(packed), 8)]
    return int(next(number for tag, _, number in entries if tag == 0x08))


def _may_connect(path: Path, *, uid: int, gid: int) -> bool:
    """Whether such a user may open the socket."""
    before = os.getegid(), os.getgroups()
    with socket.socket(socket.AF_UNIX) as door:
        os.setgroups([])
        os.setegid(gid)
        os.seteuid(uid)
        try:
            return door.connect_ex(str(path)) == 0
        finally:
            os.seteuid(0)
            os.setegid(before[0])
            os.setgroups(before[1])
