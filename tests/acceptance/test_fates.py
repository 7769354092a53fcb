"""Fates on real servers: letters start together, and each recipient meets what its server makes of it."""

from __future__ import annotations

import pytest

from tests.acceptance.readers import has
from tests.daemon_process import DaemonProcess, Json, await_that, event, kinds

pytestmark = pytest.mark.servers

RELAYED, DELIVERED = {"require": "relayed"}, {"require": "delivered"}

# Recipient, what is required, and the delivery and receipt it must come to.
FATES = {
    "handed on by LMTP": ("alice@b.test", RELAYED, "relayed", "met"),
    "next server without DSN": ("bob@nodsn.test", RELAYED, "relayed", "met"),
    "a catch-all": ("anybody@catchall.test", DELIVERED, "delivered", "met"),
    "mailbox full": ("full@b.test", RELAYED, "failed", "failed"),
    "refused after DATA": ("picky@box.test", DELIVERED, "failed", "failed"),
    "put off until it expires": ("never@later.test", RELAYED, "failed", "failed"),
    "a server that never answers": ("nobody@down.test", RELAYED, "failed", "failed"),
    "relayed to a server that bounces it after all": ("gone@nodsn.test", RELAYED, "failed", "failed"),
    "only relayed where delivery is required": ("bob@b.test", {**DELIVERED, "within": "3s"}, "relayed", "overdue"),
    "a mailbox at Exim, which it cannot tell from a redirect": ("alice@exim.test", RELAYED, "relayed", "met"),
    "no such user at Exim": ("nosuch@exim.test", RELAYED, "failed", "failed"),
    "a redirect at Exim to a server that takes it": ("forward@exim.test", RELAYED, "relayed", "met"),
    "an alias with two members at Exim": ("team@exim.test", RELAYED, "relayed", "met"),
    "handed on by Exim to a server without DSN": ("bob@gate.exim.test", RELAYED, "relayed", "met"),
    "a redirect at Exim to nobody": ("gone@exim.test", RELAYED, "failed", "failed"),
    "a redirect at Exim that expires": ("waiting@exim.test", RELAYED, "failed", "failed"),
    "a mailbox at OpenSMTPD": ("alice@osmtpd.test", DELIVERED, "delivered", "met"),
    "no such user at OpenSMTPD": ("nosuch@osmtpd.test", RELAYED, "failed", "failed"),
    "a redirect at OpenSMTPD to a server that takes it": ("forward@osmtpd.test", RELAYED, "relayed", "met"),
    "an alias with two members at OpenSMTPD": ("pair@osmtpd.test", RELAYED, "relayed", "met"),
    "handed on by OpenSMTPD to a server without DSN": ("bob@gate.osmtpd.test", RELAYED, "relayed", "met"),
    "a redirect at OpenSMTPD to nobody": ("gone@osmtpd.test", RELAYED, "failed", "failed"),
    "a redirect at OpenSMTPD that expires": ("waiting@osmtpd.test", RELAYED, "failed", "failed"),
    "delivered to one member of an alias, expired for the other": (
        *("torn@osmtpd.test", DELIVERED, "contradicted", "failed"),
    ),
    "an alias with two members": ("team@box.test", RELAYED, "expanded", "met"),
    "a forwarded address": ("forward@box.test", RELAYED, "expanded", "met"),
    "a forward that expires": ("waiting@box.test", RELAYED, "failed", "failed"),
    "a domain of aliases": ("anybody@alias.test", RELAYED, "expanded", "met"),
    "an alias with a member that fails": ("mixed@box.test", DELIVERED, "failed", "failed"),
}
LEVELS = {"relayed": "relayed", "expanded": "relayed", "delivered": "delivered"}


@pytest.fixture(scope="module")
def letters(daemon: DaemonProcess) -> dict[str, str]:
    """Send all letters before any of them is awaited."""
    return {fate: daemon.post(address, **required) for fate, (address, required, *_) in FATES.items()}


@pytest.mark.parametrize("fate", FATES)
def test_a_letter_meets_its_fate(daemon: DaemonProcess, letters: dict[str, str], fate: str) -> None:
    _, _, delivery, receipt = FATES[fate]
    recipient = daemon.wait(letters[fate], has(delivery=delivery, receipt=receipt))["recipients"][0]
    if delivery in LEVELS:
        assert recipient["level"] == LEVELS[delivery]


def _at_its_end(daemon: DaemonProcess, letters: dict[str, str], fate: str) -> Json:
    return daemon.wait(letters[fate], has(delivery=FATES[fate][2], receipt=FATES[fate][3]))


def test_a_full_mailbox_is_named_as_the_cause(daemon: DaemonProcess, letters: dict[str, str]) -> None:
    shown = _at_its_end(daemon, letters, "mailbox full")
    assert event(shown, "failed")["detail"]["cause"] == "mailbox_full"


def test_exims_delivered_for_a_redirect_is_no_delivery(daemon: DaemonProcess, letters: dict[str, str]) -> None:
    shown = _at_its_end(daemon, letters, "a redirect at Exim to a server that takes it")
    assert event(shown, "relayed")["detail"]["stated_action"] == "delivered"


def test_exims_false_success_is_one_fact_however_often_it_is_said_and_the_failure_is_told(
    daemon: DaemonProcess, letters: dict[str, str]
) -> None:
    """A queue run that puts the letter off says each time that it was delivered, and the last one that it failed."""
    letter = letters["a redirect at Exim that expires"]
    shown = _at_its_end(daemon, letters, "a redirect at Exim that expires")
    assert {"relayed", "met", "failed"} < set(kinds(shown))
    await_that(lambda: event(daemon.message(letter), "relayed")["count"] > 1)
    assert kinds(daemon.message(letter)).count("relayed") == 1
    daemon.receiver.wait_for("receipt.failed", address="waiting@exim.test")
    told = [alert.type for alert in daemon.receiver.about("waiting@exim.test") if alert.endpoint == "ops"]
    assert told == ["receipt.failed"]


def test_opensmtpds_end_of_queue_time_is_a_failure(daemon: DaemonProcess, letters: dict[str, str]) -> None:
    shown = _at_its_end(daemon, letters, "a redirect at OpenSMTPD that expires")
    assert event(shown, "failed")["detail"]["stated_action"] == "delayed"


def test_a_failure_after_a_delivery_contradicts_it_and_is_told_once(
    daemon: DaemonProcess, letters: dict[str, str]
) -> None:
    shown = _at_its_end(daemon, letters, "delivered to one member of an alias, expired for the other")
    seen = kinds(shown)
    assert "met" in seen
    assert seen.index("delivered") < seen.index("failed")
    branches = {branch["final_recipient"]: branch["delivery"] for branch in shown["recipients"][0]["branches"]}
    assert branches == {"torn@osmtpd.test": "delivered", "never@later.test": "failed"}
    alert = daemon.receiver.wait_for("receipt.contradicted", address="torn@osmtpd.test")
    assert alert.data["evidence"] == event(shown, "failed")["evidence"]
    assert not alert.data["unproven"]
    told = [(alert.endpoint, alert.type) for alert in daemon.receiver.about("torn@osmtpd.test")]
    assert told.count(("ops", "receipt.contradicted")) == 1
    assert {kind for _, kind in told} == {"receipt.contradicted"}


def test_a_failed_member_of_an_alias_is_told_as_that(daemon: DaemonProcess, letters: dict[str, str]) -> None:
    _at_its_end(daemon, letters, "an alias with a member that fails")
    alert = daemon.receiver.wait_for("receipt.failed", address="mixed@box.test")
    assert "One branch of an alias" in alert.data["reason"]


def test_a_letter_that_a_filter_refuses_is_refused_though_it_was_relayed(daemon: DaemonProcess) -> None:
    letter = daemon.post("reject@b.test")
    alert = daemon.receiver.wait_for("receipt.refused", address="reject@b.test")
    recipient = daemon.wait(letter, has(receipt="failed"))["recipients"][0]
    assert (recipient["delivery"], recipient["disposition"]) == ("failed", "refused")
    assert not alert.data["unproven"]


def test_a_report_in_junk_counts(daemon: DaemonProcess) -> None:
    daemon.wait(daemon.post("spammy@box.test", **DELIVERED), has(receipt="met"))
    assert "Junk" in {report["folder"] for report in daemon.reports("matched")}


def test_recipients_of_one_letter_have_each_their_own_fate(daemon: DaemonProcess) -> None:
    letter = daemon.send(
        *("alice@box.test", "nosuch@b.test"),
        options=("--cc", "carol@b.test", "--bcc", "bob@box.test", "--require", "delivered"),
    )
    wanted = {
        ("alice@box.test", "to", "delivered"),
        ("nosuch@b.test", "to", "failed"),
        ("carol@b.test", "cc", "relayed"),
        ("bob@box.test", "bcc", "delivered"),
    }

    def states() -> set[tuple[str, str, str]]:
        return {(one["address"], one["role"], one["delivery"]) for one in daemon.message(letter)["recipients"]}

    await_that(lambda: states() == wanted, states)
