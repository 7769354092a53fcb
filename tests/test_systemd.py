"""What systemd is told and what it hands over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from receiptd import systemd


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    return listening


def test_states_reach_the_socket_that_systemd_names(listener: socket.socket) -> None:
    with listener:
        assert systemd.notify("READY=1", "STATUS=reading", environ={"NOTIFY_SOCKET": listener.getsockname()})
        assert listener.recv(100) == b"READY=1\nSTATUS=reading"


def test_states_reach_an_abstract_socket() -> None:
    name = f"receiptd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        assert systemd.notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": "@" + name})
        assert listening.recv(100) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_told_and_nothing_fails() -> None:
    assert not systemd.notify("READY=1", environ={})
    assert systemd.watchdog_interval({}) is None
    assert systemd.passed_sockets({}) == {}


def test_a_supervisor_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    assert not systemd.notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": str(tmp_path / "none")})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
    assert not systemd.notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})


def test_the_watchdog_is_fed_at_half_its_time() -> None:
    mine = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert systemd.watchdog_interval(mine) == timedelta(seconds=15)
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "30000000"}) == timedelta(seconds=15)


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None


def test_sockets_meant_for_another_process_are_not_ours() -> None:
    assert systemd.passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == {}


def test_passed_sockets_come_by_their_names(tmp_path: Path) -> None:
    program = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from receiptd import systemd\n"
        "print({name: passed.getsockname() for name, passed in systemd.passed_sockets().items()})"
    )
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind(str(tmp_path / "send.sock"))
        second.bind(str(tmp_path / "api.sock"))
        heirs = f'exec {sys.executable} -c "$1" 3<&{first.fileno()} 4<&{second.fileno()}'
        shown = subprocess.run(
            ["/bin/bash", "-c", heirs, "sh", program],
            pass_fds=[first.fileno(), second.fileno()],
            env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "send:"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert shown.strip() == str({"send": str(tmp_path / "send.sock"), "1": str(tmp_path / "api.sock")})
