"""Addresses beyond ASCII: domains by either of their names, local parts where every server on the way takes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.offices import office_in
from tests.office import Json, Office
from tests.servers.world import World

pytestmark = pytest.mark.servers

DELIVERED = ("--require", "delivered")


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world) as office:
        yield office


def _is_settled(recipient: Json) -> bool:
    return bool(recipient["receipt"] != "open")


def test_both_names_of_a_domain_are_one_recipient(office: Office, world: World) -> None:
    letter = office.send("bob@bücher.test", "bob@xn--bcher-kva.test", options=DELIVERED)
    shown = office.wait(letter, _is_settled)
    assert [recipient["address"] for recipient in shown["recipients"]] == ["bob@xn--bcher-kva.test"]
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["trust"]) == ("delivered", "keyed")
    mark = shown["message_id"].encode()
    assert sum(mark in message for message in world.messages_of("bob@xn--bcher-kva.test")) == 1


def test_a_local_part_beyond_ascii_is_named_as_it_is_in_an_internationalized_report(office: Office) -> None:
    letter = office.send("jürgen@box.test", options=DELIVERED)
    recipient = office.wait(letter, _is_settled)["recipients"][0]
    assert (recipient["delivery"], recipient["trust"]) == ("delivered", "keyed")
    assert [branch["final_recipient"] for branch in recipient["branches"]] == ["jürgen@box.test"]


def test_nobody_of_that_name_beyond_ascii_fails(office: Office) -> None:
    letter = office.send("jörgen@box.test", options=DELIVERED)
    shown = office.wait(letter, _is_settled)
    failed = next(event for event in shown["events"] if event["kind"] == "failed")
    assert (failed["detail"]["status"], failed["detail"]["cause"]) == ("5.1.1", "user_unknown")
    alert = office.receiver.wait_for("receipt.failed", address="jörgen@box.test")
    assert alert.data["recipient"]["delivery"] == "failed"
