"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.peers import Peers, fake_peers


@pytest.fixture
def peers() -> Iterator[Peers]:
    """A relay and a mailbox that do as they are told."""
    with fake_peers() as peers:
        yield peers
