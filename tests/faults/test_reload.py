"""SIGHUP: a running daemon takes over new settings, names what needs a restart, and keeps the old ones otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from receiptd.client import Client
from receiptd.connection import UnixConnection
from receiptd.errors import ReceiptdError, TryLater
from tests.api_fixture import letter
from tests.daemon_process import DaemonProcess, await_that
from tests.faults.daemons import daemon_with
from tests.faults.letters import report
from tests.faults.peers import Peers, fake_peers
from tests.fork_server import ForkServer

RELOADED = "settings reloaded"
REFUSED = "the new settings can't be used, so the old ones hold"


@pytest.fixture
def daemon(fork_server: ForkServer, peers: Peers) -> Iterator[DaemonProcess]:
    with daemon_with(fork_server, peers) as daemon:
        yield daemon


def _change(daemon: DaemonProcess, old: str, new: str) -> None:
    settings = daemon.config.read_text()
    assert old in settings
    daemon.config.write_text(settings.replace(old, new))


def _reload(daemon: DaemonProcess, word: str = RELOADED) -> str:
    """Send SIGHUP; return the lines that the daemon wrote to its log since, as soon as *word* is among them."""
    assert daemon.child is not None
    before = len(daemon.log)
    os.kill(daemon.child.pid, signal.SIGHUP)
    await_that(lambda: word in daemon.log[before:], lambda: daemon.log[before:])
    return daemon.log[before:]


def test_a_new_policy_holds_for_what_is_handed_over_from_then_on(daemon: DaemonProcess) -> None:
    with pytest.raises(ReceiptdError, match="no policy 'strict'"):
        daemon.post("bob@b.test", policy="strict")
    _change(daemon, "[policy.default]", '[policy.strict]\nrequire = "delivered"\n\n[policy.default]')
    assert "policy" in _reload(daemon)
    message = daemon.message(daemon.post("bob@b.test", policy="strict"))
    assert message["recipients"][0]["require"] == "delivered"


def test_a_webhook_gets_what_comes_from_then_on_at_its_new_url(daemon: DaemonProcess, peers: Peers) -> None:
    _change(daemon, daemon.receiver.url("ops"), daemon.receiver.url("pager"))
    assert "webhook" in _reload(daemon)
    peers.script("RCPT", "550 5.1.1 no such user")
    daemon.post("bob@b.test")
    assert daemon.receiver.wait_for("receipt.failed").endpoint == "pager"


def test_a_new_mailbox_is_read_and_the_old_one_no_more(daemon: DaemonProcess, peers: Peers) -> None:
    with fake_peers() as others:
        message = daemon.post("bob@b.test")
        peers.wait_for_dots(1)
        _change(daemon, f"imap://receipts@127.0.0.1:{peers.imap.port}", f"imap://receipts@127.0.0.1:{others.imap.port}")
        assert "mailbox" in _reload(daemon)
        others.put(report(peers.return_path("bob@b.test"), "bob@b.test"))
        daemon.wait(message, lambda recipient: recipient["receipt"] == "met")
        await_that(lambda: daemon.ready()["mailbox:receipts"]["ok"])
        assert all(one.writer.is_closing() for one in peers.imap.conversations)


def test_one_more_mailbox_is_read_beside_the_first(daemon: DaemonProcess, peers: Peers) -> None:
    with fake_peers() as others:
        message = daemon.post("bob@b.test")
        peers.wait_for_dots(1)
        more = f"""[[mailbox]]
name = "second"
url = "imap://receipts@127.0.0.1:{others.imap.port}"
password_file = "password"
folders = ["INBOX"]
idle = false

[policy.default]"""
        _change(daemon, "[policy.default]", more)
        _reload(daemon)
        others.put(report(peers.return_path("bob@b.test"), "bob@b.test"))
        daemon.wait(message, lambda recipient: recipient["receipt"] == "met")
        assert {"mailbox:receipts", "mailbox:second"} <= daemon.ready().keys()


def test_a_new_rate_holds_for_what_waits(daemon: DaemonProcess, peers: Peers) -> None:
    _change(daemon, "[submission]", '[submission]\nrate = "2/h"')
    assert "submission.rate" in _reload(daemon)
    messages = [daemon.post(f"u{n}@b.test") for n in range(4)]
    peers.wait_for_dots(2)
    _change(daemon, 'rate = "2/h"', 'rate = "3/h"')
    _reload(daemon)
    peers.wait_for_dots(3)
    states = [daemon.message(message)["recipients"][0]["delivery"] for message in messages]
    assert "queued" in states
    _change(daemon, 'rate = "3/h"', "")
    _reload(daemon)
    peers.wait_for_dots(4)


def test_new_quotas_hold_from_then_on(daemon: DaemonProcess) -> None:
    _change(daemon, "[service]", '[service]\nmessages_per_hour = 1\nbytes_per_hour = "1M"\nmax_evidence = "1M"')
    told = _reload(daemon)
    assert "service.max_evidence, service.messages_per_hour, service.bytes_per_hour" in told
    assert "restart" not in told
    sender = Client([UnixConnection(daemon.folder / "send.sock")])
    sender.post("/v1/messages", letter())
    with pytest.raises(TryLater, match="1 message within an hour"):
        sender.post("/v1/messages", letter())


def test_what_needs_a_restart_is_named_and_everything_else_is_taken_over(daemon: DaemonProcess) -> None:
    _change(daemon, "[submission]", '[submission]\nconnections = 3\ngive_up = "2d"')
    _change(daemon, "[service]", '[service]\nmax_message = "10K"')
    told = _reload(daemon, "wait for a restart")
    assert "service.max_message, submission.connections" in told
    assert "submission.give_up" in told
    daemon.post("bob@b.test", text="x" * 100_000)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[policy.default]", "[policy.default]\nwitin = 1", "within"),
        ("[[webhook]]", "[[webhoook]]", "webhook"),
        ('secret_file = "webhook"', 'secret_file = "nowhere"', "nowhere"),
        ("[service]", "[service", "TOML"),
    ],
)
def test_settings_with_a_mistake_change_nothing_and_are_told_in_a_sentence(
    daemon: DaemonProcess, peers: Peers, old: str, new: str, reason: str
) -> None:
    _change(daemon, old, new)
    told = _reload(daemon, REFUSED)
    assert reason in told
    assert "Traceback" not in told
    _change(daemon, new, old)
    peers.script("RCPT", "550 5.1.1 no such user")
    daemon.post("bob@b.test")
    assert daemon.receiver.wait_for("receipt.failed").endpoint == "ops"
