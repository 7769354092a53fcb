"""A real Dovecot that hangs, renumbers its folders or holds monsters: reports are settled, and time is kept."""

from __future__ import annotations

import imaplib
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.offices import office_in
from tests.nursery import Nursery
from tests.office import Json, Office, await_that
from tests.servers.world import HOST, World

MONSTER = 50 << 20
MEMORY = 400 << 20
"""What a daemon may take at most, with such a report in it: several copies of 50 MB, and its own 100 MB."""


@pytest.fixture(scope="module")
def office(nursery: Nursery, world: World) -> Iterator[Office]:
    with office_in(nursery, world) as office:
        yield office


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


def _peak_memory(office: Office) -> int:
    """Return the most memory that the daemon has ever had, in octets."""
    assert office.child is not None
    status = Path(f"/proc/{office.child.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def test_monsters_are_settled_or_set_aside_within_bounds_and_hold_up_nobody(nursery: Nursery, world: World) -> None:
    with office_in(nursery, world) as office:
        monsters = [_large_report(MONSTER - 1000), _large_report(MONSTER + (5 << 20)), _nested_report(1000)]
        _append(world, office.receipts_address, *monsters)
        letter = office.post("alice@box.test", require="delivered")
        office.wait(letter, _is_met)
        await_that(lambda: len(office.reports()) == 4 and all(report["verdict"] for report in office.reports()))
        assert _peak_memory(office) < MEMORY, f"{_peak_memory(office) >> 20} MiB"
        assert not office.receiver.about("alice@box.test")


def test_while_the_mailbox_hangs_no_silence_is_told_and_then_all_is_made_up_for(office: Office, world: World) -> None:
    world["mailbox"].pause()
    try:
        silent = office.post("anybody@silent.test", require="delivered", within="2s")
        letter = office.post("alice@box.test", require="delivered", within="1h")
        office.await_figure("receiptd_overdue_held", 1)
        assert office.message(silent)["recipients"][0]["receipt"] == "open"
        assert not office.receiver.about("anybody@silent.test")
    finally:
        world["mailbox"].resume()
    office.wait(letter, _is_met)
    alert = office.receiver.wait_for("receipt.overdue", address="anybody@silent.test")
    assert alert.data["escalation"] == 1


def test_after_dovecot_lost_its_uids_nothing_is_counted_twice_and_nothing_missed(office: Office, world: World) -> None:
    first = office.post("alice@box.test", require="delivered")
    before = office.wait(first, _is_met)
    known = len(office.reports())
    user = office.receipts_address.partition("@")[0]
    maildir = world.root / "mail" / "a.test" / user / "Maildir"
    world["mailbox"].stop()
    for index in maildir.glob("dovecot*"):
        index.unlink()
    world["mailbox"].start()
    second = office.post("bob@box.test", require="delivered")
    office.wait(second, _is_met)
    assert "the server renumbered a folder" in office.log
    assert len(office.reports()) == known + 1
    after = office.message(first)
    assert [event["count"] for event in after["events"]] == [event["count"] for event in before["events"]]
