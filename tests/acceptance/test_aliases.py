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
    alert = office.receiver.wait_for("receipt.failed", address="mixed@box.test")
    assert "One branch of an alias" in alert.data["reason"]
    assert office.message(letter)["recipients"][0]["receipt"] == "failed"


@pytest.mark.parametrize("address", ["team@box.test", "forward@box.test", "anybody@alias.test"])
def test_an_alias_proves_no_more_than_that_it_was_expanded(office: Office, address: str) -> None:
    letter = office.send(address)
    shown = office.wait(letter, lambda recipient: bool(recipient["receipt"] == "met"))
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["level"]) == ("expanded", "relayed")
