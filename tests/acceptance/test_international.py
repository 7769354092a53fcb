"""Addresses beyond ASCII: domains by either of their names, local parts where every server on the way takes them."""

from __future__ import annotations

import pytest

from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import has, is_met
from tests.daemon_process import DaemonProcess, event, kinds
from tests.fork_server import ForkServer
from tests.servers.world import World

pytestmark = pytest.mark.servers

DELIVERED = ("--require", "delivered")


def test_both_names_of_a_domain_are_one_recipient(daemon: DaemonProcess, world: World) -> None:
    letter = daemon.send("bob@bücher.test", "bob@xn--bcher-kva.test", options=DELIVERED)
    shown = daemon.wait(letter, is_met)
    assert [recipient["address"] for recipient in shown["recipients"]] == ["bob@xn--bcher-kva.test"]
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["trust"]) == ("delivered", "sealed")
    mark = shown["message_id"].encode()
    assert sum(mark in message for message in world.messages_of("bob@xn--bcher-kva.test")) == 1


def test_a_local_part_beyond_ascii_is_named_as_it_is_in_an_internationalized_report(daemon: DaemonProcess) -> None:
    letter = daemon.send("jürgen@box.test", options=DELIVERED)
    recipient = daemon.wait(letter, is_met)["recipients"][0]
    assert (recipient["delivery"], recipient["trust"]) == ("delivered", "sealed")
    assert [branch["final_recipient"] for branch in recipient["branches"]] == ["jürgen@box.test"]


def test_nobody_of_that_name_beyond_ascii_fails(daemon: DaemonProcess) -> None:
    letter = daemon.send("jörgen@box.test", options=DELIVERED)
    shown = daemon.wait(letter, has(receipt="failed"))
    detail = event(shown, "failed")["detail"]
    assert (detail["status"], detail["cause"]) == ("5.1.1", "user_unknown")
    alert = daemon.receiver.wait_for("receipt.failed", address="jörgen@box.test")
    assert alert.data["recipient"]["delivery"] == "failed"


def test_a_relay_without_smtputf8_takes_a_domain_by_its_ascii_name_and_a_local_part_not_at_all(
    fork_server: ForkServer, world: World
) -> None:
    with daemon_in(fork_server, world, relay=world.relay.plain_url_without_smtputf8, relay_login="") as daemon:
        refused = daemon.send("jürgen@box.test", options=DELIVERED)
        taken = daemon.send("bob@bücher.test", options=DELIVERED)
        alert = daemon.receiver.wait_for("receipt.failed", address="jürgen@box.test")
        assert "SMTPUTF8" in alert.data["reason"]
        shown = daemon.message(refused)
        assert (shown["recipients"][0]["delivery"], kinds(shown)) == ("failed", ["queued", "failed"])
        assert "SMTPUTF8" in event(shown, "failed")["detail"]["reason"]
        assert daemon.wait(taken, is_met)["recipients"][0]["address"] == "bob@xn--bcher-kva.test"
        assert not any(
            "jürgen" in line for line in world["relay"].log().splitlines() if daemon.receipts_address in line
        )
