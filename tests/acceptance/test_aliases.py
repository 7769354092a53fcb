"""Aliases on real servers: one address, several fates behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.offices import office_in
from tests.office import Office
from tests.servers.world import World

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world) as office:
        yield office


def test_a_catch_all_is_delivered(office: Office) -> None:
    letter = office.send("anybody@catchall.test", options=("--require", "delivered"))
    office.wait(letter, lambda recipient: bool(recipient["receipt"] == "met"), within=8)


def test_an_alias_with_a_branch_that_fails_fails_at_once(office: Office) -> None:
    letter = office.send("mixed@box.test", options=("--require", "delivered"))
    office.receiver.wait_for("receipt.failed", address="mixed@box.test")
    assert office.message(letter)["recipients"][0]["receipt"] == "failed"
