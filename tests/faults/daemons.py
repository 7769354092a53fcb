"""Daemons whose relay and mailbox are fakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.daemon_process import DaemonProcess, open_daemon
from tests.faults.peers import Peers, tables
from tests.fork_server import ForkServer


@contextmanager
def daemon_with(
    fork_server: ForkServer, peers: Peers, *, service: str = "", submission: str = "", start: bool = True
) -> Iterator[DaemonProcess]:
    """Open a daemon on fake *peers*; the arguments are further lines of its settings."""
    told = tables(peers.smtp_port, peers.imap.port, service=service, submission=submission)
    with open_daemon(fork_server, told, {"password": "sesame"}, start=start) as daemon:
        yield daemon
