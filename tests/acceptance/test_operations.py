"""Those who run the daemon: what it says of itself, who may see what, and incidents that somebody is at."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from receiptd import client
from receiptd.errors import BadData
from tests.daemon_process import DaemonProcess, await_that
from tests.servers.world import World

pytestmark = pytest.mark.servers

SOMEBODY_ELSE = 64105


def _await_status(daemon: DaemonProcess, path: str, status: int) -> str:
    await_that(lambda: daemon.look(path)[0] == status, lambda: daemon.look(path))
    return daemon.look(path)[1]


# --- what it says of itself -----------------------------------------------------------------------------------------


def test_the_figures_tell_what_happened_and_name_nobody(daemon: DaemonProcess) -> None:
    for address in ("alice@box.test", "nobody@box.test"):
        daemon.wait(daemon.post(address, require="delivered"), lambda recipient: bool(recipient["receipt"] != "open"))
    status, figures = daemon.look("/metrics")
    assert status == 200
    lines = figures.splitlines()
    for line in (
        'receiptd_messages_total{policy="default"} 2.0',
        'receiptd_recipients{delivery="delivered",receipt="met"} 1.0',
        'receiptd_recipients{delivery="failed",receipt="failed"} 1.0',
        'receiptd_reports_total{kind="dsn",verdict="matched"} 2.0',
        'receiptd_submissions_total{outcome="accepted"} 2.0',
    ):
        assert line in lines
    assert "@" not in figures


def test_it_is_alive_but_not_ready_while_its_mailbox_is_away(daemon: DaemonProcess, world: World) -> None:
    _await_status(daemon, "/readyz", 200)
    world["mailbox"].stop()
    try:
        told = _await_status(daemon, "/readyz", 503)
        assert '"mailbox:receipts","ok":false' in told.replace(" ", "")
        assert daemon.look("/healthz")[0] == 200
    finally:
        world["mailbox"].start()
    _await_status(daemon, "/readyz", 200)


# --- who may see what -----------------------------------------------------------------------------------------------


@contextmanager
def _as_somebody_else() -> Iterator[None]:
    os.seteuid(SOMEBODY_ELSE)
    try:
        yield
    finally:
        os.seteuid(0)


def test_who_sends_sees_his_own_letters_and_nobody_elses(daemon: DaemonProcess) -> None:
    daemon.folder.chmod(0o711)
    config = daemon.folder / "senders.toml"
    config.write_text(f'[service]\nlisten = [{{unix = "{daemon.folder}/send.sock", scope = "send"}}]\n')
    door = client.find(config, environ={})
    ours = daemon.send("alice@box.test")
    letter = {"from": "erp@a.test", "to": ["bob@box.test"], "subject": "Mine", "text": "Good day.\n"}
    with _as_somebody_else():
        theirs = door.post("/v1/messages", letter)["id"]
        assert [one["id"] for one in door.get("/v1/messages")["items"]] == [theirs]
        with pytest.raises(BadData, match="no message"):
            door.get(client.path("messages", ours))
    assert door.get(client.path("messages", ours))["id"] == ours
    with pytest.raises(BadData, match="no message"):
        door.get(client.path("messages", theirs))
    assert {ours, theirs} <= {one["id"] for one in daemon.api.get("/v1/messages")["items"]}


# --- somebody is at it ----------------------------------------------------------------------------------------------


def test_an_acknowledged_incident_goes_no_higher_until_the_acknowledgement_is_over(daemon: DaemonProcess) -> None:
    letter = daemon.send("anybody@silent.test", options=("--require", "delivered", "--within", "1s"))
    daemon.receiver.wait_for("receipt.overdue", address="anybody@silent.test")
    began = time.monotonic()
    recipient = daemon.message(letter)["recipients"][0]["id"]
    done = daemon.run("acknowledge", recipient, "--reason", "I ring them up", "--for", "4s")
    assert done.status == 0, done.said
    _await_alert(daemon, "boss", "receipt.overdue", "anybody@silent.test")
    assert time.monotonic() - began > 4, "level 2 was due after 3 s"
    done = daemon.run("waive", recipient, "--reason", "they have it")
    assert done.status == 0, done.said
    for endpoint in ("ops", "boss"):
        _await_alert(daemon, endpoint, "receipt.resolved", "anybody@silent.test")
    resolved = [alert for alert in daemon.receiver.about("anybody@silent.test") if alert.type == "receipt.resolved"]
    assert sorted(alert.endpoint for alert in resolved) == ["boss", "ops"]


def _await_alert(daemon: DaemonProcess, endpoint: str, kind: str, address: str) -> None:
    def told() -> list[tuple[str, str]]:
        return [(alert.endpoint, alert.type) for alert in daemon.receiver.about(address)]

    await_that(lambda: (endpoint, kind) in told(), told)
