"""Nobody reads the log: that stops nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from receiptd.log_writer import LogWriter
from tests.daemon_process import DaemonProcess, await_that, environment
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer


@contextmanager
def with_a_pipe_that_nobody_reads(daemon: DaemonProcess) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the daemon with a full pipe for stderr; give the process and the pipe's other end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "receiptd", "run", "--config", str(daemon.config)]
    with subprocess.Popen(command, stderr=writing, env=environment()) as process:
        os.close(writing)
        try:
            await_that(lambda: answers(daemon))
            yield process, reading
        finally:
            process.kill()
            os.close(reading)


def answers(daemon: DaemonProcess) -> bool:
    try:
        return daemon.look("/healthz")[0] == 200
    except OSError:
        return False


def test_mail_goes_out_and_the_daemon_stops_when_it_is_told_to(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers, start=False) as daemon, with_a_pipe_that_nobody_reads(daemon) as (process, _):
        letters = [daemon.post(f"bob{number}@b.test") for number in range(20)]
        daemon.wait(letters[-1], lambda recipient: recipient["delivery"] == "accepted")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_whoever_reads_again_is_told_how_much_is_missing(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers, start=False) as daemon, with_a_pipe_that_nobody_reads(daemon) as (_, reading):
        for number in range(3):
            daemon.post(f"bob{number}@b.test")
        said = b""
        give_up = time.monotonic() + 30
        while said.count(b"a message was taken") < 3:
            assert time.monotonic() < give_up
            said += os.read(reading, 1 << 16)


def test_what_finds_no_room_is_counted_and_told() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing, most=10)
    for number in range(100_000):
        writer.write(f"line {number}\n")
    said = b""
    while b"were not written" not in said:
        said += os.read(reading, 1 << 20)
        writer.write("line\n")
    writer.close(1.0)
    os.close(reading)
    os.close(writing)
    assert b"lines of this log were not written: nobody read it" in said
