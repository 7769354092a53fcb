"""Nobody is in, or there is no room for now: what is heard meanwhile, and by whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import has, is_met
from tests.daemon_process import DaemonProcess, await_that, event, kinds
from tests.fork_server import ForkServer
from tests.servers.world import World

pytestmark = pytest.mark.servers

CURIOUS = 'events = ["receipt.*", "receipt.auto_reply", "receipt.met"]'


@pytest.fixture(scope="module")
def daemon(fork_server: ForkServer, world: World) -> Iterator[DaemonProcess]:
    """Ask for reports of delay; `boss` wants to hear of automatic answers and of receipts too, `ops` does not."""
    with daemon_in(fork_server, world, receipts='notify = ["success", "failure", "delay"]', boss=CURIOUS) as daemon:
        yield daemon


def test_an_absence_moves_nothing_and_is_told_to_those_who_asked_for_it(daemon: DaemonProcess) -> None:
    letter = daemon.send("vacation@b.test")
    told = daemon.receiver.wait_for("receipt.auto_reply", address="vacation@b.test")
    assert "back on Monday" in told.data["excerpt"]
    daemon.receiver.wait_for("receipt.met", address="vacation@b.test")
    assert {alert.endpoint for alert in daemon.receiver.about("vacation@b.test")} == {"boss"}
    shown = daemon.message(letter)
    assert {"auto_replied", "relayed"} < set(kinds(shown))
    assert (shown["recipients"][0]["delivery"], shown["recipients"][0]["disposition"]) == ("relayed", "none")


def test_a_mailbox_without_room_for_now_delays_and_fails_nothing(daemon: DaemonProcess) -> None:
    letter = daemon.send("brimful@b.test")
    shown = daemon.wait(letter, has(delivery="delayed"))
    assert shown["recipients"][0]["receipt"] == "open"
    detail = event(shown, "delayed")["detail"]
    assert (detail["status"], detail["cause"]) == ("4.2.2", "mailbox_full")
    assert not daemon.receiver.about("brimful@b.test")


# A forward that waits at a server of the recipient's; what its delivery and receipt come to; whom the reports name.
# OpenSMTPD tries a second time after more than six minutes only: here it gives up before.
FORWARDS = {
    "Postfix": ("late@b.test", "expanded", "met", "after2@later.test"),
    "Exim": ("late@exim.test", "relayed", "met", "late@exim.test"),
    "OpenSMTPD": ("waiting@osmtpd.test", "failed", "failed", "never@later.test"),
}


@pytest.fixture(scope="module")
def forwarded(daemon: DaemonProcess) -> dict[str, str]:
    """Send all of them before any is awaited."""
    return {server: daemon.post(address) for server, (address, *_) in FORWARDS.items()}


@pytest.mark.parametrize("server", FORWARDS)
def test_a_letter_that_waits_at_a_server_of_the_recipients_is_delayed_until_more_is_known(
    daemon: DaemonProcess, forwarded: dict[str, str], server: str
) -> None:
    address, delivery, receipt, named = FORWARDS[server]
    await_that(lambda: "delayed" in kinds(daemon.message(forwarded[server])))
    recipient = daemon.wait(forwarded[server], has(delivery=delivery, receipt=receipt))["recipients"][0]
    delayed = event(daemon.message(forwarded[server]), "delayed")
    assert (delayed["final_recipient"] or address, delayed["detail"]["stated_action"]) == (named, "delayed")
    assert named in {branch["final_recipient"] for branch in recipient["branches"]}
    assert {alert.type for alert in daemon.receiver.about(address)} <= {f"receipt.{receipt}"}


def test_a_letter_that_waited_is_as_good_as_any_when_it_comes_in_time(daemon: DaemonProcess) -> None:
    letter = daemon.send("after2@later.test", options=("--require", "delivered"))
    shown = daemon.wait(letter, is_met)
    assert {"delayed", "delivered"} < set(kinds(shown))
    daemon.receiver.wait_for("receipt.met", address="after2@later.test")
    assert {alert.type for alert in daemon.receiver.about("after2@later.test")} == {"receipt.met"}
