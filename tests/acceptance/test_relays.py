"""Refusals of the relay itself: what they mean depends on where they come."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.offices import office_in
from tests.office import Office, kinds
from tests.servers.world import World

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world) as office:
        yield office


@pytest.mark.parametrize("address", ["forbidden@b.test", "unwanted@b.test"])
def test_a_letter_that_the_relay_refuses_fails_at_once(office: Office, address: str) -> None:
    letter = office.send(address)
    office.receiver.wait_for("receipt.failed", address=address)
    assert office.message(letter)["recipients"][0]["delivery"] == "failed"


def test_a_letter_that_the_relay_puts_off_fails_nothing(office: Office) -> None:
    letter = office.send("busy@b.test")
    shown = office.wait(letter, lambda recipient: bool(recipient["delivery"] == "deferred"))
    assert "failed" not in kinds(shown)
