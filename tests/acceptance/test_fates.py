"""Fates on real servers: letters start together, and each recipient meets what its server makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.offices import office_in
from tests.office import Json, Office
from tests.servers.world import World

pytestmark = pytest.mark.servers

RELAYED, DELIVERED = ("--require", "relayed"), ("--require", "delivered")

# Recipient, options, and the delivery and receipt it must come to.
FATES = {
    "handed on by LMTP": ("alice@b.test", RELAYED, "relayed", "met"),
    "delivered by its own server": ("alice@box.test", DELIVERED, "delivered", "met"),
    "next server without DSN": ("bob@nodsn.test", RELAYED, "relayed", "met"),
    "unknown user": ("nobody@b.test", RELAYED, "failed", "failed"),
    "mailbox full": ("full@b.test", RELAYED, "failed", "failed"),
    "refused after DATA": ("picky@box.test", DELIVERED, "failed", "failed"),
    "only relayed where delivery is required": ("bob@b.test", (*DELIVERED, "--within", "3s"), "relayed", "overdue"),
}


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world) as office:
        yield office


@pytest.fixture(scope="module")
def letters(office: Office) -> dict[str, str]:
    """Send all letters before any of them is awaited."""
    return {fate: office.send(address, options=options) for fate, (address, options, *_) in FATES.items()}


@pytest.mark.parametrize("fate", FATES)
def test_a_letter_meets_its_fate(office: Office, letters: dict[str, str], fate: str) -> None:
    _, _, delivery, receipt = FATES[fate]

    def has_met_it(recipient: Json) -> bool:
        return (recipient["delivery"], recipient["receipt"]) == (delivery, receipt)

    office.wait(letters[fate], has_met_it)


def test_a_full_mailbox_is_named_as_the_cause(office: Office, letters: dict[str, str]) -> None:
    shown = office.wait(letters["mailbox full"], lambda recipient: bool(recipient["receipt"] == "failed"))
    failed = next(event for event in shown["events"] if event["kind"] == "failed")
    assert failed["detail"]["cause"] == "mailbox_full"
