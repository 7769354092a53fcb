"""Offices whose relay and mailbox are fakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.peers import Peers, tables
from tests.nursery import Nursery
from tests.office import Office, open_daemon


@contextmanager
def office_with(
    nursery: Nursery, peers: Peers, *, service: str = "", submission: str = "", start: bool = True
) -> Iterator[Office]:
    """Open an office on fake *peers*; the arguments are further lines of its settings."""
    told = tables(peers.smtp_port, peers.imap.port, service=service, submission=submission)
    with open_daemon(nursery, told, {"password": "sesame"}, start=start) as office:
        yield office
