"""Silence is told within seconds of its deadline, whatever `poll` says: a real daemon on a real Dovecot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.acceptance.daemons import daemon_in
from tests.daemon_process import DaemonProcess, await_that
from tests.fork_server import ForkServer
from tests.servers.world import World

pytestmark = pytest.mark.servers

SOON = 5.0
"""Seconds after a deadline within which silence is told."""


@pytest.fixture(params=[True, False], ids=["idle", "poll alone"])
def patient(fork_server: ForkServer, world: World, request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    """Open a daemon that looks into its mailbox every ten minutes."""
    with daemon_in(fork_server, world, box="" if request.param else "idle = false", start=False) as daemon:
        settings = daemon.config.read_text()
        daemon.config.write_text(settings.replace('poll = "1s"', 'poll = "10m"'))
        daemon.start(ready="/readyz")
        yield daemon


def test_silence_is_told_within_seconds_of_its_deadline_whatever_poll_says(patient: DaemonProcess) -> None:
    message = patient.post("alice@box.test", require="displayed", within="8s")
    shown = patient.wait(message, lambda recipient: bool(recipient["deadline"]))
    deadline = datetime.fromisoformat(shown["recipients"][0]["deadline"]).astimezone(UTC)
    time.sleep(max((deadline - datetime.now(UTC)).total_seconds() - 1, 0))
    assert not patient.receiver.alerts
    await_that(lambda: patient.receiver.alerts)
    late = (datetime.now(UTC) - deadline).total_seconds()
    alert = patient.receiver.alerts[0]
    assert alert.type == "receipt.overdue"
    assert late < SOON + 1, "a deadline is shown to the second"


def test_a_report_that_lies_unread_at_the_deadline_is_a_receipt_and_no_alert(
    patient: DaemonProcess, world: World
) -> None:
    message = patient.post("alice@box.test", within="8s")
    shown = patient.wait(message, lambda recipient: recipient["receipt"] != "open", within=8 + SOON + 5)
    assert shown["recipients"][0]["receipt"] == "met"
    assert not patient.receiver.alerts
