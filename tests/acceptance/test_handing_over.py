"""What a real relay can't take is refused while the sender listens; what it may refuse is a warning."""

from __future__ import annotations

import os

import pytest

from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import is_met
from tests.daemon_process import DaemonProcess
from tests.fork_server import ForkServer
from tests.servers.world import World

pytestmark = pytest.mark.servers


def test_a_message_over_the_relays_size_is_refused_before_it_is_taken(daemon: DaemonProcess) -> None:
    done = daemon.send_with_receipt("-f", "office@a.test", "bob@box.test", stdin=b"x" * 70 * 40_000)
    assert done.returncode == os.EX_DATAERR
    assert b"the relay takes 2000000 at most (SIZE)" in done.stderr
    assert daemon.api.get("/v1/messages")["items"] == []


def test_a_raw_header_is_a_warning_and_arrives_by_a_relay_without_smtputf8(
    fork_server: ForkServer, world: World
) -> None:
    raw = "From: office@a.test\nTo: bob@box.test\nSubject: Übergabe\nMessage-ID: <raw-header@a.test>\n\nx\n".encode()
    with daemon_in(fork_server, world, relay=world.relay.plain_url_without_smtputf8, relay_login="") as daemon:
        done = daemon.send_with_receipt("-t", stdin=raw)
        assert done.returncode == os.EX_OK
        assert b"no SMTPUTF8" in done.stderr
        daemon.wait(done.stdout.decode().strip(), is_met)
    arrived = world.await_message("bob@box.test", lambda message: b"<raw-header@a.test>" in message)
    assert "Subject: Übergabe".encode() in arrived
