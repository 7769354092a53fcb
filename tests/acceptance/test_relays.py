"""Refusals of the relay itself: what they mean depends on where they come."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.offices import office_in
from tests.acceptance.readers import has
from tests.nursery import Nursery
from tests.office import Json, Office
from tests.servers.world import World

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("address", ["forbidden@b.test", "unwanted@b.test"])
def test_a_letter_that_the_relay_refuses_fails_at_once(office: Office, address: str) -> None:
    letter = office.send(address)
    office.receiver.wait_for("receipt.failed", address=address)
    assert office.message(letter)["recipients"][0]["delivery"] == "failed"


# --- a relay that can't ask for reports -----------------------------------------------------------------------------


def _send_by_relay_without_dsn(office: Office) -> Json:
    """Return the answer to the second letter: only after the first it is known what the relay can."""
    words = ("-f", "office@a.test", "-s", "An invoice", "--json", "bob@box.test")
    first = office.send_with_receipt(*words)
    assert first.returncode == 0, first.stderr.decode()
    answer: Json = json.loads(first.stdout)
    return answer


def test_a_relay_without_dsn_shows_why_no_report_will_come(nursery: Nursery, world: World) -> None:
    with office_in(nursery, world, relay=world.relay.plain_url_without_dsn, relay_login="") as office:
        letter = _send_by_relay_without_dsn(office)["id"]
        shown = office.wait(letter, has(delivery="accepted"))
        assert shown["recipients"][0]["dsn_requested"] is False
        assert any("DSN" in warning for warning in _send_by_relay_without_dsn(office)["warnings"])


def test_where_dsn_is_a_must_a_relay_without_it_fails_the_letter(nursery: Nursery, world: World) -> None:
    refuse = 'without_dsn = "refuse"'
    with office_in(
        nursery, world, relay=world.relay.plain_url_without_dsn, relay_login="", submission=refuse
    ) as office:
        office.send("bob@box.test")
        alert = office.receiver.wait_for("receipt.failed", address="bob@box.test")
        assert "the relay offers no delivery reports" in alert.data["reason"]
