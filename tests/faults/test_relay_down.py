"""While the relay is down every letter stays queued, and each goes out once when it is back."""

from __future__ import annotations

from tests.daemon_process import DaemonProcess, Json
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer


def _is_accepted(recipient: Json) -> bool:
    return bool(recipient["delivery"] == "accepted")


def _deliveries(daemon: DaemonProcess, letters: list[str]) -> set[str]:
    return {recipient["delivery"] for letter in letters for recipient in daemon.message(letter)["recipients"]}


def test_a_relay_that_is_down_at_the_start_and_again_later_delays_all_and_fails_nothing(
    fork_server: ForkServer, peers: Peers
) -> None:
    peers.stop_relay()
    with daemon_with(fork_server, peers) as daemon:
        early = [daemon.post("alice@b.test"), daemon.post("bob@b.test")]
        daemon.await_figure('receiptd_submissions_total{outcome="relay_down"}', 1)
        assert _deliveries(daemon, early) == {"queued"}
        assert not daemon.ready()["relay"]["ok"]
        peers.start_relay()
        for letter in early:
            daemon.wait(letter, _is_accepted)
        assert daemon.ready()["relay"]["ok"]

        peers.stop_relay()
        late = [daemon.post("carol@b.test"), daemon.post("dave@b.test")]
        daemon.await_figure('receiptd_submissions_total{outcome="relay_down"}', 2)
        assert _deliveries(daemon, late) == {"queued"}
        peers.start_relay()
        for letter in late:
            daemon.wait(letter, _is_accepted)
        assert sorted(peers.recipients) == ["alice@b.test", "bob@b.test", "carol@b.test", "dave@b.test"]
        assert not daemon.receiver.alerts, "a short while is no news"
