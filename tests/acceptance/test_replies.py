"""Answers in a mailbox that people use: a person's answer counts, and what else lies there stays unread."""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import make_msgid

import pytest

from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import deliver, has
from tests.daemon_process import PATIENCE, DaemonProcess, kinds
from tests.fork_server import ForkServer
from tests.servers.world import HOST, World

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def clerk(world: World) -> str:
    """Return the address that letters come from and people answer to."""
    return world.new_receipts_address()


@pytest.fixture(scope="module")
def daemon(fork_server: ForkServer, world: World, clerk: str) -> Iterator[DaemonProcess]:
    replies = f"""
        [[mailbox]]
        name = "replies"
        role = "replies"
        url = "{world.imap.url(clerk)}"
        password_file = "password"
        ca_file = "{world.ca_file}"
        poll = "1s"
    """
    with daemon_in(fork_server, world, box=replies) as daemon:
        yield daemon


def _ask(daemon: DaemonProcess, clerk: str, address: str, level: str = "delivered") -> tuple[str, str]:
    """Send a letter that needs an answer; return its id and Message-ID when it is out."""
    letter = daemon.send(address, options=("-f", clerk, "--require", "replied"))
    shown = daemon.wait(letter, has(delivery=level))
    assert shown["recipients"][0]["receipt"] == "open"
    return letter, shown["message_id"]


def _write(world: World, sender: str, to: str, **fields: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Message-ID"] = sender, to, make_msgid(domain="box.test")
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content("We have it, thank you.\n")
    deliver(world, sender, to, message.as_bytes())


def test_a_persons_answer_is_a_reply_and_a_robots_is_not(daemon: DaemonProcess, world: World, clerk: str) -> None:
    asked, asked_id = _ask(daemon, clerk, "alice@box.test")
    other, other_id = _ask(daemon, clerk, "bob@box.test")
    _write(world, "bob@box.test", clerk, Subject="Away", In_Reply_To=other_id, Auto_Submitted="auto-replied")
    _write(world, "alice@box.test", clerk, Subject="Private: the party", References="<party@box.test>")
    _write(world, "alice@box.test", clerk, Subject="Re: An invoice", In_Reply_To=asked_id, References=asked_id)
    shown = daemon.wait(asked, has(level="replied", receipt="met"))
    assert shown["recipients"][0]["disposition"] == "replied"
    assert "replied" not in kinds(daemon.message(other))
    assert daemon.message(other)["recipients"][0]["receipt"] == "open"
    stored = daemon.reports()
    assert "Re: An invoice" in {report["subject"] for report in stored}
    assert not [report for report in stored if (report["subject"] or "").startswith("Private")]


def test_the_mailbox_of_a_person_is_left_as_it_was(daemon: DaemonProcess, world: World, clerk: str) -> None:
    """Not even "recent" is taken from a message: the person's own program is to be told of it."""
    asked, asked_id = _ask(daemon, clerk, "carol@b.test", level="relayed")
    _write(world, "carol@b.test", clerk, Subject="Re: An invoice", In_Reply_To=asked_id)
    daemon.wait(asked, has(level="replied", receipt="met"))
    context = ssl.create_default_context(cafile=str(world.ca_file))
    with imaplib.IMAP4_SSL(HOST, world.imap.imaps, ssl_context=context, timeout=PATIENCE) as imap:
        imap.login(clerk, world.password)
        told = imap.status("INBOX", "(MESSAGES RECENT UNSEEN)")[1][0].decode()
        everything, recent, unseen = map(int, re.findall(r"\d+", told.rpartition("(")[2]))
    assert everything == recent == unseen > 0


def test_an_answer_can_be_required_only_where_it_would_be_seen(daemon: DaemonProcess) -> None:
    words = ("-f", "elsewhere@a.test", "-s", "An invoice", "--require", "replied", "bob@box.test")
    done = daemon.send_with_receipt(*words)
    assert done.returncode == 65
    assert b"reply can't be required" in done.stderr
