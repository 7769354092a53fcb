"""A password that is wrong is told once, loses nothing, and all goes on when it is right again."""

from __future__ import annotations

from tests.acceptance.daemons import daemon_in
from tests.daemon_process import DaemonProcess, await_that
from tests.fork_server import ForkServer
from tests.servers.world import World


def _told(daemon: DaemonProcess) -> list[str]:
    """Return the types of all alerts that ops took, each alert once."""
    return [kind for _, kind in dict.fromkeys((a.id, a.type) for a in daemon.receiver.alerts if a.endpoint == "ops")]


def _await_told(daemon: DaemonProcess, *kinds: str) -> None:
    """Return when ops has taken alerts of these types; fail if it takes any other, or one twice."""
    await_that(lambda: len(_told(daemon)) >= len(kinds), lambda: (_told(daemon), daemon.log))
    assert sorted(_told(daemon)) == sorted(kinds)


def test_with_a_wrong_password_for_the_relay_all_stays_queued_until_it_is_right(
    fork_server: ForkServer, world: World
) -> None:
    with daemon_in(fork_server, world, secrets={"relay-password": "wrong"}) as daemon:
        letters = [daemon.post("alice@b.test"), daemon.post("bob@b.test")]
        blind = daemon.receiver.wait_for("monitor.blind")
        assert blind.data["what"] == "relay"
        assert "password" in blind.data["reason"]
        for letter in letters:
            (recipient,) = daemon.message(letter)["recipients"]
            assert (recipient["delivery"], recipient["receipt"]) == ("queued", "open")
        assert not daemon.ready()["relay"]["ok"]

        (daemon.folder / "relay-password").write_text(world.password)
        for letter in letters:
            daemon.wait(letter, lambda recipient: recipient["receipt"] == "met")
        _await_told(daemon, "monitor.blind", "monitor.clear")


def test_with_a_wrong_password_for_the_mailbox_deadlines_wait_until_it_can_be_read(
    fork_server: ForkServer, world: World
) -> None:
    with daemon_in(fork_server, world, secrets={"password": "wrong"}) as daemon:
        silent = daemon.post("someone@silent.test", within="2s")
        answered = daemon.post("bob@b.test", within="10s")
        blind = daemon.receiver.wait_for("monitor.blind")
        assert (blind.data["what"], blind.data["name"]) == ("mailbox", "receipts")
        assert "password" in blind.data["reason"]
        world.await_message(daemon.receipts_address, lambda report: b"bob@b.test" in report)
        daemon.await_figure("receiptd_overdue_held", 1)
        assert daemon.message(silent)["recipients"][0]["receipt"] == "open"
        assert _told(daemon) == ["monitor.blind"]

        (daemon.folder / "password").write_text(world.password)
        daemon.wait(answered, lambda recipient: recipient["receipt"] == "met")
        daemon.receiver.wait_for("receipt.overdue", address="someone@silent.test")
        _await_told(daemon, "monitor.blind", "monitor.clear", "receipt.overdue")
