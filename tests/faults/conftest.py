"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults.nursery import Nursery
from tests.faults.peers import Peers, fake_peers
from tests.office import environment


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where daemons and commands are forked."""
    with closing(Nursery(environment())) as nursery:
        yield nursery


@pytest.fixture
def peers() -> Iterator[Peers]:
    """A relay and a mailbox that do as they are told."""
    with fake_peers() as peers:
        yield peers
