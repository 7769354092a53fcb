"""While the relay is down every letter stays queued, and each goes out once when it is back."""

from __future__ import annotations

from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import Json, Office


def _is_accepted(recipient: Json) -> bool:
    return bool(recipient["delivery"] == "accepted")


def _deliveries(office: Office, letters: list[str]) -> set[str]:
    return {recipient["delivery"] for letter in letters for recipient in office.message(letter)["recipients"]}


def test_a_relay_that_is_down_at_the_start_and_again_later_delays_all_and_fails_nothing(
    nursery: Nursery, peers: Peers
) -> None:
    peers.stop_relay()
    with office_with(nursery, peers) as office:
        early = [office.post("alice@b.test"), office.post("bob@b.test")]
        office.await_figure('receiptd_submissions_total{outcome="relay_down"}', 1)
        assert _deliveries(office, early) == {"queued"}
        assert not office.ready()["relay"]["ok"]
        peers.start_relay()
        for letter in early:
            office.wait(letter, _is_accepted)
        assert office.ready()["relay"]["ok"]

        peers.stop_relay()
        late = [office.post("carol@b.test"), office.post("dave@b.test")]
        office.await_figure('receiptd_submissions_total{outcome="relay_down"}', 2)
        assert _deliveries(office, late) == {"queued"}
        peers.start_relay()
        for letter in late:
            office.wait(letter, _is_accepted)
        assert sorted(peers.recipients) == ["alice@b.test", "bob@b.test", "carol@b.test", "dave@b.test"]
        assert not office.receiver.alerts, "a short while is no news"
