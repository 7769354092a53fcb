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
from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import PATIENCE, Office, await_that

SECONDS = 6


def descriptors(office: Office) -> list[int]:
    assert office.child is not None
    return sorted(int(link.name) for link in Path(f"/proc/{office.child.pid}/fd").iterdir())


def cpu_seconds(office: Office) -> float:
    assert office.child is not None
    fields = Path(f"/proc/{office.child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def no_descriptor_is_free(office: Office) -> Iterator[None]:
    assert office.child is not None
    before = resource.prlimit(office.child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(office.child.pid, resource.RLIMIT_NOFILE, (len(descriptors(office)), before[1]))
    try:
        yield
    finally:
        resource.prlimit(office.child.pid, resource.RLIMIT_NOFILE, before)


def test_it_does_not_spin_and_says_it_once_and_all_goes_on_with_free_ones(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers) as office, ExitStack() as clients:
        alice = office.post("alice@b.test")
        office.wait(alice, lambda recipient: recipient["delivery"] == "accepted")
        with no_descriptor_is_free(office):
            for name in ("send.sock", "api.sock"):
                for _ in range(20):
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(str(office.folder / name))
            peers.report("alice@b.test")
            logged, began, used = len(office.log), time.monotonic(), cpu_seconds(office)
            time.sleep(SECONDS)
            assert (cpu_seconds(office) - used) / (time.monotonic() - began) < 0.2
            assert len(office.log) - logged < 5_000
            assert office.log.count("no file descriptor is free") == 1
        clients.close()
        await_that(lambda: answers(office))
        office.wait(alice, lambda recipient: recipient["receipt"] == "met")
        bob = office.post("bob@b.test")
        office.wait(bob, lambda recipient: recipient["delivery"] == "accepted")
        assert "Traceback" not in office.log
        await_that(lambda: "file descriptors are free again" in office.log)


def test_the_watchdog_is_fed_though_none_is_free(nursery: Nursery, peers: Peers) -> None:
    with (
        office_with(nursery, peers, start=False) as office,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(str(office.folder / "notify"))
        systemd.settimeout(PATIENCE)
        office.environ = {"NOTIFY_SOCKET": str(office.folder / "notify"), "WATCHDOG_USEC": "1000000"}
        office.start()
        with no_descriptor_is_free(office):
            for _ in range(12):  # more than were sent before
                while systemd.recv(1000) != b"WATCHDOG=1":
                    pass
            assert office.child is not None
            assert office.child.poll() is None


def answers(office: Office) -> bool:
    try:
        return bool(office.look("/healthz"))
    except (OSError, ReceiptdError):
        return False
