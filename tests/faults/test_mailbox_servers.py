"""A real Dovecot that hangs, renumbers its folders or holds monsters: reports are settled, and time is kept."""

from __future__ import annotations

import imaplib
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.daemons import daemon_in
from tests.daemon_process import DaemonProcess, Json, await_that
from tests.fork_server import ForkServer
from tests.servers.world import HOST, World

MONSTER = 50 << 20
MEMORY = 400 << 20
"""What a daemon may take at most, with such a report in it: several copies of 50 MB, and its own 100 MB."""


@pytest.fixture(scope="module")
def daemon(fork_server: ForkServer, world: World) -> Iterator[DaemonProcess]:
    with daemon_in(fork_server, world) as daemon:
        yield daemon


def _is_met(recipient: Json) -> bool:
    return bool(recipient["receipt"] == "met")


def _append(world: World, address: str, *messages: bytes) -> None:
    """Put messages into the INBOX as a mail program does."""
    with imaplib.IMAP4_SSL(
        HOST, world.imap.imaps, ssl_context=ssl.create_default_context(cafile=str(world.ca_file))
    ) as box:
        box.login(address, world.password)
        for message in messages:
            status, said = box.append("INBOX", "", imaplib.Time2Internaldate(time.time()), message)
            assert status == "OK", said


def _large_report(size: int) -> bytes:
    """Return a bounce of so many octets, most of them in the message that it returns."""
    line = b"x" * 74 + b"\r\n"
    head = (
        b"From: MAILER-DAEMON@b.test\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="=-b"\r\n\r\n'
        b"--=-b\r\n\r\nIt can't be delivered.\r\n--=-b\r\nContent-Type: message/rfc822\r\n\r\nSubject: A film\r\n\r\n"
    )
    return head + line * ((size - len(head)) // len(line))


def _nested_report(depth: int) -> bytes:
    """Return a report inside so many parts, each inside the other."""
    head = b"From: MAILER-DAEMON@b.test\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n"
    parts = b"".join(
        b'Content-Type: multipart/report; boundary="=-%d"\r\n\r\n--=-%d\r\n' % (number, number)
        for number in range(depth)
    )
    ends = b"".join(b"\r\n--=-%d--" % number for number in reversed(range(depth)))
    return head + parts + b"Content-Type: text/plain\r\n\r\nIt can't be delivered.\r\n" + ends + b"\r\n"


def _peak_memory(daemon: DaemonProcess) -> int:
    """Return the most memory that the daemon has ever had, in octets."""
    assert daemon.child is not None
    status = Path(f"/proc/{daemon.child.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def test_monsters_are_settled_or_set_aside_within_bounds_and_hold_up_nobody(
    fork_server: ForkServer, world: World
) -> None:
    with daemon_in(fork_server, world) as daemon:
        monsters = [_large_report(MONSTER - 1000), _large_report(MONSTER + (5 << 20)), _nested_report(1000)]
        _append(world, daemon.receipts_address, *monsters)
        letter = daemon.post("alice@box.test", require="delivered")
        daemon.wait(letter, _is_met)
        await_that(lambda: len(daemon.reports()) == 4 and all(report["verdict"] for report in daemon.reports()))
        assert _peak_memory(daemon) < MEMORY, f"{_peak_memory(daemon) >> 20} MiB"
        assert not daemon.receiver.about("alice@box.test")


def test_while_the_mailbox_hangs_no_silence_is_told_and_then_all_is_made_up_for(
    daemon: DaemonProcess, world: World
) -> None:
    world["mailbox"].pause()
    try:
        silent = daemon.post("anybody@silent.test", require="delivered", within="2s")
        letter = daemon.post("alice@box.test", require="delivered", within="1h")
        daemon.await_figure("receiptd_overdue_held", 1)
        assert daemon.message(silent)["recipients"][0]["receipt"] == "open"
        assert not daemon.receiver.about("anybody@silent.test")
    finally:
        world["mailbox"].resume()
    daemon.wait(letter, _is_met)
    alert = daemon.receiver.wait_for("receipt.overdue", address="anybody@silent.test")
    assert alert.data["escalation"] == 1


def test_after_dovecot_lost_its_uids_nothing_is_counted_twice_and_nothing_missed(
    daemon: DaemonProcess, world: World
) -> None:
    first = daemon.post("alice@box.test", require="delivered")
    before = daemon.wait(first, _is_met)
    known = len(daemon.reports())
    user = daemon.receipts_address.partition("@")[0]
    maildir = world.root / "mail" / "a.test" / user / "Maildir"
    world["mailbox"].stop()
    for index in maildir.glob("dovecot*"):
        index.unlink()
    world["mailbox"].start()
    second = daemon.post("bob@box.test", require="delivered")
    daemon.wait(second, _is_met)
    assert "the server renumbered a folder" in daemon.log
    assert len(daemon.reports()) == known + 1
    after = daemon.message(first)
    assert [event["count"] for event in after["events"]] == [event["count"] for event in before["events"]]
