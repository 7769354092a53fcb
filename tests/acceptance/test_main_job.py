"""The main job on real Postfix and Dovecot: a letter goes out, reports come back, silence is told."""

from __future__ import annotations

import pytest

from tests.acceptance.readers import has, is_met
from tests.daemon_process import DaemonProcess, event, kinds

pytestmark = pytest.mark.servers


def test_a_letter_to_a_mailbox_is_delivered(daemon: DaemonProcess) -> None:
    letter = daemon.send("alice@box.test", options=("--require", "delivered"))
    shown = daemon.wait(letter, is_met)
    recipient = shown["recipients"][0]
    assert (recipient["delivery"], recipient["level"], recipient["trust"]) == ("delivered", "delivered", "sealed")
    assert kinds(shown) == ["queued", "accepted", "delivered", "met"]
    assert not daemon.receiver.about("alice@box.test")


def test_a_letter_to_an_unknown_user_fails_at_once(daemon: DaemonProcess) -> None:
    letter = daemon.send("nobody@b.test")
    alert = daemon.receiver.wait_for("receipt.failed", address="nobody@b.test")
    shown = daemon.message(letter)
    recipient = shown["recipients"][0]
    assert (recipient["delivery"], recipient["receipt"]) == ("failed", "failed")
    failed = event(shown, "failed")
    assert failed["detail"]["status"] == "5.1.1"
    assert alert.data["evidence"] == failed["evidence"]
    assert not alert.data["unproven"]


def test_silence_past_the_deadline_is_told_level_by_level(daemon: DaemonProcess) -> None:
    letter = daemon.send("anybody@silent.test", options=("--require", "delivered", "--within", "2s"))
    first = daemon.receiver.wait_for("receipt.overdue", address="anybody@silent.test")
    assert (first.endpoint, first.data["escalation"]) == ("ops", 1)
    daemon.receiver.wait_for("receipt.overdue", address="anybody@silent.test")
    shown = daemon.wait(letter, has(receipt="overdue"))
    assert shown["recipients"][0]["delivery"] in ("accepted", "relayed")
