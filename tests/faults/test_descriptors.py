"""Without a free file descriptor nothing spins and nothing is lost, and what is wrong is said once."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from receiptd.errors import ReceiptdError
from tests.daemon_process import PATIENCE, DaemonProcess, await_that
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer

SECONDS = 6


def descriptors(daemon: DaemonProcess) -> list[int]:
    assert daemon.child is not None
    return sorted(int(link.name) for link in Path(f"/proc/{daemon.child.pid}/fd").iterdir())


def cpu_seconds(daemon: DaemonProcess) -> float:
    assert daemon.child is not None
    fields = Path(f"/proc/{daemon.child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def no_descriptor_is_free(daemon: DaemonProcess) -> Iterator[None]:
    assert daemon.child is not None
    before = resource.prlimit(daemon.child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.child.pid, resource.RLIMIT_NOFILE, (len(descriptors(daemon)), before[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.child.pid, resource.RLIMIT_NOFILE, before)


def test_it_does_not_spin_and_says_it_once_and_all_goes_on_with_free_ones(
    fork_server: ForkServer, peers: Peers
) -> None:
    with daemon_with(fork_server, peers) as daemon, ExitStack() as clients:
        alice = daemon.post("alice@b.test")
        daemon.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        with no_descriptor_is_free(daemon):
            for name in ("send.sock", "api.sock"):
                for _ in range(20):
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(str(daemon.folder / name))
            peers.report("alice@b.test")
            logged, began, used = len(daemon.log), time.monotonic(), cpu_seconds(daemon)
            time.sleep(SECONDS)
            assert (cpu_seconds(daemon) - used) / (time.monotonic() - began) < 0.2
            assert len(daemon.log) - logged < 5_000
            assert daemon.log.count("no file descriptor is free") == 1
        clients.close()
        await_that(lambda: answers(daemon))
        daemon.wait(alice, lambda recipient: recipient["receipt"] == "met")
        bob = daemon.post("bob@b.test")
        daemon.wait(bob, lambda recipient: recipient["delivery"] == "accepted")
        assert "Traceback" not in daemon.log
        await_that(lambda: "file descriptors are free again" in daemon.log)


def test_the_watchdog_is_fed_though_none_is_free(fork_server: ForkServer, peers: Peers) -> None:
    with (
        daemon_with(fork_server, peers, start=False) as daemon,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(str(daemon.folder / "notify"))
        systemd.settimeout(PATIENCE)
        daemon.environ = {"NOTIFY_SOCKET": str(daemon.folder / "notify"), "WATCHDOG_USEC": "1000000"}
        daemon.start()
        with no_descriptor_is_free(daemon):
            for _ in range(12):  # more than were sent before
                while systemd.recv(1000) != b"WATCHDOG=1":
                    pass
            assert daemon.child is not None
            assert daemon.child.poll() is None


def answers(daemon: DaemonProcess) -> bool:
    try:
        return bool(daemon.look("/healthz"))
    except (OSError, ReceiptdError):
        return False
