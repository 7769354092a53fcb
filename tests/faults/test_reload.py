"""SIGHUP: a running daemon takes over new settings, names what needs a restart, and keeps the old ones otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from receiptd.client import Daemon, _UnixConnection
from receiptd.errors import ReceiptdError, TryLater
from tests.faults.letters import report
from tests.faults.offices import office_with
from tests.faults.peers import Peers, fake_peers
from tests.house import letter
from tests.nursery import Nursery
from tests.office import Office, await_that

RELOADED = "settings reloaded"
REFUSED = "the new settings can't be used, so the old ones hold"


@pytest.fixture
def office(nursery: Nursery, peers: Peers) -> Iterator[Office]:
    with office_with(nursery, peers) as office:
        yield office


def _change(office: Office, old: str, new: str) -> None:
    settings = office.config.read_text()
    assert old in settings
    office.config.write_text(settings.replace(old, new))


def _reload(office: Office, word: str = RELOADED) -> str:
    """Send SIGHUP; return the lines that the daemon wrote to its log since, as soon as *word* is among them."""
    assert office.child is not None
    before = len(office.log)
    os.kill(office.child.pid, signal.SIGHUP)
    await_that(lambda: word in office.log[before:], lambda: office.log[before:])
    return office.log[before:]


def test_a_new_policy_holds_for_what_is_handed_over_from_then_on(office: Office) -> None:
    with pytest.raises(ReceiptdError, match="no policy 'strict'"):
        office.post("bob@b.test", policy="strict")
    _change(office, "[policy.default]", '[policy.strict]\nrequire = "delivered"\n\n[policy.default]')
    assert "policy" in _reload(office)
    message = office.message(office.post("bob@b.test", policy="strict"))
    assert message["recipients"][0]["require"] == "delivered"


def test_a_webhook_gets_what_comes_from_then_on_at_its_new_url(office: Office, peers: Peers) -> None:
    _change(office, office.receiver.url("ops"), office.receiver.url("pager"))
    assert "webhook" in _reload(office)
    peers.script("RCPT", "550 5.1.1 no such user")
    office.post("bob@b.test")
    assert office.receiver.wait_for("receipt.failed").endpoint == "pager"


def test_a_new_mailbox_is_read_and_the_old_one_no_more(office: Office, peers: Peers) -> None:
    with fake_peers() as others:
        message = office.post("bob@b.test")
        peers.wait_for_dots(1)
        _change(office, f"imap://receipts@127.0.0.1:{peers.imap.port}", f"imap://receipts@127.0.0.1:{others.imap.port}")
        assert "mailbox" in _reload(office)
        others.put(report(peers.return_path("bob@b.test"), "bob@b.test"))
        office.wait(message, lambda recipient: recipient["receipt"] == "met")
        await_that(lambda: office.ready()["mailbox:receipts"]["ok"])
        assert all(one.writer.is_closing() for one in peers.imap.conversations)


def test_one_more_mailbox_is_read_beside_the_first(office: Office, peers: Peers) -> None:
    with fake_peers() as others:
        message = office.post("bob@b.test")
        peers.wait_for_dots(1)
        more = f"""[[mailbox]]
name = "second"
url = "imap://receipts@127.0.0.1:{others.imap.port}"
password_file = "password"
folders = ["INBOX"]
idle = false

[policy.default]"""
        _change(office, "[policy.default]", more)
        _reload(office)
        others.put(report(peers.return_path("bob@b.test"), "bob@b.test"))
        office.wait(message, lambda recipient: recipient["receipt"] == "met")
        assert {"mailbox:receipts", "mailbox:second"} <= office.ready().keys()


def test_a_new_rate_holds_for_what_waits(office: Office, peers: Peers) -> None:
    _change(office, "[submission]", '[submission]\nrate = "2/h"')
    assert "submission.rate" in _reload(office)
    messages = [office.post(f"u{n}@b.test") for n in range(4)]
    peers.wait_for_dots(2)
    _change(office, 'rate = "2/h"', 'rate = "3/h"')
    _reload(office)
    peers.wait_for_dots(3)
    states = [office.message(message)["recipients"][0]["delivery"] for message in messages]
    assert "queued" in states
    _change(office, 'rate = "3/h"', "")
    _reload(office)
    peers.wait_for_dots(4)


def test_new_quotas_hold_from_then_on(office: Office) -> None:
    _change(office, "[service]", '[service]\nmessages_per_hour = 1\nbytes_per_hour = "1M"\nmax_evidence = "1M"')
    told = _reload(office)
    assert "service.max_evidence, service.messages_per_hour, service.bytes_per_hour" in told
    assert "restart" not in told
    sender = Daemon([_UnixConnection(office.folder / "send.sock")])
    sender.post("/v1/messages", letter())
    with pytest.raises(TryLater, match="1 message within an hour"):
        sender.post("/v1/messages", letter())


def test_what_needs_a_restart_is_named_and_everything_else_is_taken_over(office: Office) -> None:
    _change(office, "[submission]", '[submission]\nconnections = 3\ngive_up = "2d"')
    _change(office, "[service]", '[service]\nmax_message = "10K"')
    told = _reload(office, "wait for a restart")
    assert "service.max_message, submission.connections" in told
    assert "submission.give_up" in told
    office.post("bob@b.test", text="x" * 100_000)


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
    office: Office, peers: Peers, old: str, new: str, reason: str
) -> None:
    _change(office, old, new)
    told = _reload(office, REFUSED)
    assert reason in told
    assert "Traceback" not in told
    _change(office, new, old)
    peers.script("RCPT", "550 5.1.1 no such user")
    office.post("bob@b.test")
    assert office.receiver.wait_for("receipt.failed").endpoint == "ops"
