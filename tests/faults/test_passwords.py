"""A password that is wrong is told once, loses nothing, and all goes on when it is right again."""

from __future__ import annotations

from tests.acceptance.offices import office_in
from tests.nursery import Nursery
from tests.office import Office, await_that
from tests.servers.world import World


def _told(office: Office) -> list[str]:
    """Return the types of all alerts that ops took, each alert once."""
    return [kind for _, kind in dict.fromkeys((a.id, a.type) for a in office.receiver.alerts if a.endpoint == "ops")]


def _await_told(office: Office, *kinds: str) -> None:
    """Return when ops has taken alerts of these types; fail if it takes any other, or one twice."""
    await_that(lambda: len(_told(office)) >= len(kinds), lambda: (_told(office), office.log))
    assert sorted(_told(office)) == sorted(kinds)


def test_with_a_wrong_password_for_the_relay_all_stays_queued_until_it_is_right(nursery: Nursery, world: World) -> None:
    with office_in(nursery, world, secrets={"relay-password": "wrong"}) as office:
        letters = [office.post("alice@b.test"), office.post("bob@b.test")]
        blind = office.receiver.wait_for("monitor.blind")
        assert blind.data["what"] == "relay"
        assert "password" in blind.data["reason"]
        for letter in letters:
            (recipient,) = office.message(letter)["recipients"]
            assert (recipient["delivery"], recipient["receipt"]) == ("queued", "open")
        assert not office.ready()["relay"]["ok"]

        (office.folder / "relay-password").write_text(world.password)
        for letter in letters:
            office.wait(letter, lambda recipient: recipient["receipt"] == "met")
        _await_told(office, "monitor.blind", "monitor.clear")


def test_with_a_wrong_password_for_the_mailbox_deadlines_wait_until_it_can_be_read(
    nursery: Nursery, world: World
) -> None:
    with office_in(nursery, world, secrets={"password": "wrong"}) as office:
        silent = office.post("someone@silent.test", within="2s")
        answered = office.post("bob@b.test", within="10s")
        blind = office.receiver.wait_for("monitor.blind")
        assert (blind.data["what"], blind.data["name"]) == ("mailbox", "receipts")
        assert "password" in blind.data["reason"]
        world.await_message(office.receipts_address, lambda report: b"bob@b.test" in report)
        office.await_figure("receiptd_overdue_held", 1)
        assert office.message(silent)["recipients"][0]["receipt"] == "open"
        assert _told(office) == ["monitor.blind"]

        (office.folder / "password").write_text(world.password)
        office.wait(answered, lambda recipient: recipient["receipt"] == "met")
        office.receiver.wait_for("receipt.overdue", address="someone@silent.test")
        _await_told(office, "monitor.blind", "monitor.clear", "receipt.overdue")
