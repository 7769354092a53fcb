"""Nobody reads the log: that stops nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from receiptd.outlet import Outlet
from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import Office, await_that, environment


@contextmanager
def with_a_pipe_that_nobody_reads(office: Office) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the daemon with a full pipe for stderr; give the process and the pipe's other end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "receiptd", "run", "--config", str(office.config)]
    with subprocess.Popen(command, stderr=writing, env=environment()) as daemon:
        os.close(writing)
        try:
            await_that(lambda: answers(office))
            yield daemon, reading
        finally:
            daemon.kill()
            os.close(reading)


def answers(office: Office) -> bool:
    try:
        return office.look("/healthz")[0] == 200
    except OSError:
        return False


def test_mail_goes_out_and_the_daemon_stops_when_it_is_told_to(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers, start=False) as office, with_a_pipe_that_nobody_reads(office) as (daemon, _):
        letters = [office.post(f"bob{number}@b.test") for number in range(20)]
        office.wait(letters[-1], lambda recipient: recipient["delivery"] == "accepted")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(15) == 0


def test_whoever_reads_again_is_told_how_much_is_missing(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers, start=False) as office, with_a_pipe_that_nobody_reads(office) as (_, reading):
        for number in range(3):
            office.post(f"bob{number}@b.test")
        said = b""
        give_up = time.monotonic() + 30
        while said.count(b"a message was taken") < 3:
            assert time.monotonic() < give_up
            said += os.read(reading, 1 << 16)


def test_what_finds_no_room_is_counted_and_told() -> None:
    reading, writing = os.pipe()
    outlet = Outlet(writing, most=10)
    for number in range(100_000):
        outlet.write(f"line {number}\n")
    said = b""
    while b"were not written" not in said:
        said += os.read(reading, 1 << 20)
        outlet.write("line\n")
    outlet.close(1.0)
    os.close(reading)
    os.close(writing)
    assert b"lines of this log were not written: nobody read it" in said
