"""What can't be taken is refused with one sentence and the status of sysexits.h, and harms nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.client import HTTPConnection
from socket import AF_UNIX, socket

import pytest

from tests.daemon_process import DaemonProcess
from tests.fake_smtp import EVERYTHING
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers, fake_peers
from tests.fork_server import ForkServer

LIMITS = (*(line for line in EVERYTHING if not line.startswith("SIZE")), "SIZE 10000000")
LARGE = 30 << 20


@pytest.fixture(scope="module")
def relay() -> Iterator[Peers]:
    """A relay that takes at most 10 MB."""
    with fake_peers(ehlo=LIMITS) as peers:
        yield peers


@pytest.fixture(scope="module")
def daemon(fork_server: ForkServer, relay: Peers) -> Iterator[DaemonProcess]:
    with daemon_with(fork_server, relay) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def small_daemon(fork_server: ForkServer, relay: Peers) -> Iterator[DaemonProcess]:
    """A daemon that takes messages up to 1 MB."""
    with daemon_with(fork_server, relay, service='max_message = "1M"') as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _nothing_was_taken(daemon: DaemonProcess, small_daemon: DaemonProcess) -> Iterator[None]:
    """Whatever a test had refused left nothing behind."""
    before = [len(each.api.get("/v1/messages")["items"]) for each in (daemon, small_daemon)]
    yield
    after = [len(each.api.get("/v1/messages")["items"]) for each in (daemon, small_daemon)]
    assert after[1] == before[1]
    assert after[0] <= before[0] + 2


def _refusal(daemon: DaemonProcess, *words: str, stdin: bytes = b"Good day.\n") -> tuple[int, str]:
    """Let send-with-receipt fail; return its exit status and its one sentence."""
    done = daemon.send_with_receipt(*words, stdin=stdin)
    said = done.stderr.decode()
    assert not done.stdout
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return done.returncode, said


def test_a_message_without_recipients_is_bad_data(daemon: DaemonProcess) -> None:
    status, said = _refusal(daemon, "-t", stdin=b"From: office@a.test\nSubject: To nobody\n\nGood day.\n")
    assert status == os.EX_DATAERR
    assert "no recipient" in said


@pytest.mark.parametrize("address", ["bob@b.test\r\nBcc: eve@evil.test", "bob@b.test\nRCPT TO:<eve@evil.test>"])
def test_a_recipient_of_two_lines_is_bad_data_and_reaches_no_relay(
    daemon: DaemonProcess, relay: Peers, address: str
) -> None:
    status, said = _refusal(daemon, "-f", "office@a.test", address)
    assert status == os.EX_DATAERR
    assert "line break" in said
    assert not any("evil.test" in line for line in relay.smtp.lines)


def test_text_that_is_not_utf_8_is_bad_data(daemon: DaemonProcess) -> None:
    status, said = _refusal(daemon, "-f", "office@a.test", "bob@b.test", stdin="Grüße\n".encode("latin-1"))
    assert status == os.EX_DATAERR
    assert "not UTF-8" in said
    assert "iconv" in said


def test_a_complete_message_that_is_not_utf_8_goes_out_byte_for_byte(daemon: DaemonProcess, relay: Peers) -> None:
    message = "From: office@a.test\r\nTo: bob@b.test\r\nSubject: Grüße\r\n\r\nGrüße aus Köln\r\n".encode("latin-1")
    done = daemon.send_with_receipt("-t", stdin=message)
    assert done.returncode == 0, done.stderr.decode()
    daemon.wait(done.stdout.decode().strip(), lambda recipient: recipient["delivery"] == "accepted")
    assert relay.smtp.messages[-1].endswith("\r\n\r\nGrüße aus Köln\r\n".encode("latin-1"))


def test_a_message_over_the_limit_is_bad_data(small_daemon: DaemonProcess) -> None:
    header = b"From: office@a.test\nTo: bob@b.test\n\n"
    for words, stdin in ((("-t",), header + b"x" * 70 * 20_000), (("-f", "office@a.test", "b@b.test"), b"x\n" * 10**6)):
        status, said = _refusal(small_daemon, *words, stdin=stdin)
        assert status == os.EX_DATAERR
        assert "max_message" in said


@pytest.mark.parametrize("declared", [True, False])
def test_a_request_over_the_limit_is_413(small_daemon: DaemonProcess, *, declared: bool) -> None:
    link = HTTPConnection("localhost", timeout=10)
    link.sock = socket(AF_UNIX)
    link.sock.connect(str(small_daemon.folder / "send.sock"))
    body = b"From: office@a.test\r\nTo: bob@b.test\r\n\r\n" + b"x" * (1 << 20)
    headers = {"content-type": "message/rfc822"}
    try:
        if declared:
            link.request("POST", "/v1/messages", body, headers)
        else:
            link.request("POST", "/v1/messages", (body[at : at + 9999] for at in range(0, len(body), 9999)), headers)
        assert link.getresponse().status == 413
    finally:
        link.close()


def test_an_attachment_over_the_relays_size_is_bad_data_and_harms_nobody(daemon: DaemonProcess, relay: Peers) -> None:
    large = daemon.folder / "film.bin"
    large.write_bytes(b"\0" * LARGE)
    words = ("-f", "office@a.test", "-s", "A film", "-a", str(large), "bob@b.test")
    for _ in range(2):  # before the relay is known, and when it is
        status, said = _refusal(daemon, *words)
        assert status == os.EX_DATAERR
        assert "the relay takes 10000000 at most" in said
        letter = daemon.post("carol@b.test")
        daemon.wait(letter, lambda recipient: recipient["delivery"] == "accepted")
        assert relay.recipients[-1] == "carol@b.test"
