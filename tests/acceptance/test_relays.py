"""Refusals of the relay itself: what they mean depends on where they come."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import has
from tests.daemon_process import DaemonProcess, Json
from tests.fork_server import ForkServer
from tests.servers.world import World

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("address", ["forbidden@b.test", "unwanted@b.test"])
def test_a_letter_that_the_relay_refuses_fails_at_once(daemon: DaemonProcess, address: str) -> None:
    letter = daemon.send(address)
    daemon.receiver.wait_for("receipt.failed", address=address)
    assert daemon.message(letter)["recipients"][0]["delivery"] == "failed"


# --- a relay that can't ask for reports -----------------------------------------------------------------------------


def _send_by_relay_without_dsn(daemon: DaemonProcess) -> Json:
    """Return the answer to the second letter: only after the first it is known what the relay can."""
    words = ("-f", "office@a.test", "-s", "An invoice", "--json", "bob@box.test")
    first = daemon.send_with_receipt(*words)
    assert first.returncode == 0, first.stderr.decode()
    answer: Json = json.loads(first.stdout)
    return answer


def test_a_relay_without_dsn_shows_why_no_report_will_come(fork_server: ForkServer, world: World) -> None:
    with daemon_in(fork_server, world, relay=world.relay.plain_url_without_dsn, relay_login="") as daemon:
        letter = _send_by_relay_without_dsn(daemon)["id"]
        shown = daemon.wait(letter, has(delivery="accepted"))
        assert shown["recipients"][0]["dsn_requested"] is False
        assert any("DSN" in warning for warning in _send_by_relay_without_dsn(daemon)["warnings"])


def test_where_dsn_is_a_must_a_relay_without_it_fails_the_letter(fork_server: ForkServer, world: World) -> None:
    refuse = 'without_dsn = "refuse"'
    with daemon_in(
        fork_server, world, relay=world.relay.plain_url_without_dsn, relay_login="", submission=refuse
    ) as daemon:
        daemon.send("bob@box.test")
        alert = daemon.receiver.wait_for("receipt.failed", address="bob@box.test")
        assert "the relay offers no delivery reports" in alert.data["reason"]
