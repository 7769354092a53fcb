"""Ways in: TLS or STARTTLS, password or access token, and every form that a return path can have."""

from __future__ import annotations

import imaplib
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import is_met
from tests.daemon_process import PATIENCE, DaemonProcess, await_that, event, kinds
from tests.fork_server import ForkServer
from tests.servers.world import HOST, World

pytestmark = pytest.mark.servers


@contextmanager
def _mailbox(world: World, user: str) -> Iterator[imaplib.IMAP4]:
    context = ssl.create_default_context(cafile=str(world.ca_file))
    with imaplib.IMAP4_SSL(HOST, world.imap.imaps, ssl_context=context, timeout=PATIENCE) as imap:
        imap.login(user, world.password)
        yield imap


def _holds(imap: imaplib.IMAP4, folder: str, criterion: str) -> int:
    """Return how many messages of a folder fit, or -1 where there is no such folder."""
    if imap.select(folder, readonly=True)[0] != "OK":
        return -1
    return len(imap.uid("SEARCH", criterion)[1][0].split())


def _stranger_writes(imap: imaplib.IMAP4) -> None:
    """Put a message into the mailbox that is about nothing we sent."""
    imap.append("INBOX", "", "", b"From: friend@box.test\r\nSubject: Lunch?\r\n\r\nToday at noon?\r\n")


def test_a_receipt_comes_by_an_access_token_from_a_command_and_a_file_on_tls_and_starttls(
    fork_server: ForkServer, world: World
) -> None:
    address = world.new_receipts_address()
    say = f"import sys; sys.stdout.write('{world.access_token(address)}')"
    with (
        daemon_in(
            fork_server,
            world,
            address=address,
            relay=world.relay.tls_url(address),
            relay_login=f"oauth = {{token_command = '''{sys.executable} -c \"{say}\"'''}}",
            mailbox=world.imap.starttls_url(address),
            box_login='oauth = {token_file = "mailbox-token"}',
            box='after = "seen"',
            receipts='subaddress = "-"',
            secrets={"mailbox-token": world.access_token(address)},
        ) as daemon,
        _mailbox(world, address) as imap,
    ):
        _stranger_writes(imap)
        letter = daemon.send("alice@box.test", options=("--require", "delivered"))
        shown = daemon.wait(letter, is_met)
        delivered = event(shown, "delivered")
        assert (delivered["trust"], delivered["matched_by"]) == ("sealed", "return_path")
        accepted = event(shown, "accepted")
        assert accepted["detail"]["tls"].startswith("TLSv1.3")
        await_that(lambda: _holds(imap, "INBOX", "SEEN") == 1)
        assert _holds(imap, "INBOX", 'UNSEEN SUBJECT "Lunch?"') == 1


def test_a_matched_report_is_moved_and_other_mail_is_left_where_it_lies(fork_server: ForkServer, world: World) -> None:
    address = world.new_receipts_address()
    with (
        daemon_in(
            fork_server, world, address=address, receipts='subaddress = "@"', box='after = "move:Processed"'
        ) as daemon,
        _mailbox(world, address) as imap,
    ):
        _stranger_writes(imap)
        imap.create("Processed")
        letter = daemon.send("alice@box.test", options=("--require", "delivered"))
        shown = daemon.wait(letter, is_met)
        assert shown["recipients"][0]["trust"] == "sealed"
        await_that(lambda: _holds(imap, "Processed", "ALL") == 1)
        assert _holds(imap, "INBOX", "ALL") == _holds(imap, "INBOX", 'SUBJECT "Lunch?"') == 1


def test_a_matched_report_is_deleted_and_other_mail_is_left_where_it_lies(
    fork_server: ForkServer, world: World
) -> None:
    address = world.new_receipts_address()
    with (
        daemon_in(fork_server, world, address=address, box='after = "delete"') as daemon,
        _mailbox(world, address) as imap,
    ):
        _stranger_writes(imap)
        daemon.wait(daemon.send("bob@b.test"), is_met)
        await_that(lambda: _holds(imap, "INBOX", "ALL") == 1)
        assert _holds(imap, "INBOX", 'SUBJECT "Lunch?"') == 1


def test_without_subaddresses_a_report_still_finds_its_letter(fork_server: ForkServer, world: World) -> None:
    address = world.new_receipts_address()
    with (
        daemon_in(fork_server, world, address=address, receipts='subaddress = ""') as daemon,
        _mailbox(world, address) as imap,
    ):
        _stranger_writes(imap)
        letter = daemon.send("alice@box.test", options=("--require", "delivered"))
        shown = daemon.wait(letter, is_met)
        delivered = event(shown, "delivered")
        assert delivered["matched_by"] == "envelope_id"
        kept = daemon.reports()
        assert [report["verdict"] for report in kept] == ["matched"], "people's mail is none of ours"


def test_without_subaddresses_each_server_gives_back_another_key(fork_server: ForkServer, world: World) -> None:
    """Postfix and Exim give back the envelope id; OpenSMTPD, and Dovecot where its Sieve rejects, the header alone."""
    found = {
        "bob@b.test": ("relayed", "envelope_id", "sealed"),
        "bob@exim.test": ("relayed", "envelope_id", "sealed"),
        "bob@osmtpd.test": ("delivered", "returned_header", "keyed"),
        "gone@osmtpd.test": ("failed", "returned_header", "keyed"),
        "reject@b.test": ("refused", "returned_header", "keyed"),
    }
    with daemon_in(fork_server, world, receipts='subaddress = ""') as daemon:
        letters = {address: daemon.post(address) for address in found}
        for address, (kind, *told) in found.items():
            letter = letters[address]
            await_that(partial(_is_told, daemon, letter, kind))
            heard = event(daemon.message(letter), kind)
            assert [heard["matched_by"], heard["trust"]] == told, address


def _is_told(daemon: DaemonProcess, letter: str, kind: str) -> bool:
    return kind in kinds(daemon.message(letter))


def test_an_expired_access_token_fails_nothing_and_a_new_one_is_tried_when_a_person_says_so(
    fork_server: ForkServer, world: World
) -> None:
    address = world.new_receipts_address()
    with daemon_in(
        fork_server,
        world,
        address=address,
        relay_login='oauth = {token_file = "relay-token"}',
        secrets={"relay-token": world.access_token(address, lifetime=-10)},
    ) as daemon:
        letter = daemon.send("alice@box.test", options=("--require", "delivered"))
        blind = daemon.receiver.wait_for("monitor.blind")
        assert (blind.data["what"], "token" in blind.data["reason"]) == ("relay", True)
        assert daemon.message(letter)["recipients"][0]["delivery"] == "queued"
        (daemon.folder / "relay-token").write_text(world.access_token(address))
        assert daemon.run("retry", letter).status == 0
        daemon.wait(letter, is_met)
