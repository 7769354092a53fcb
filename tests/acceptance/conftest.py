"""What the acceptance tests share: a daemon, and a sender without receiptd, to show what the world does by itself."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

import pytest

from receiptd import correlation_token
from tests.acceptance.daemons import daemon_in
from tests.daemon_process import PATIENCE, DaemonProcess
from tests.fork_server import ForkServer
from tests.servers.world import HOST, World


@pytest.fixture(scope="module")
def daemon(fork_server: ForkServer, world: World) -> Iterator[DaemonProcess]:
    """Open a daemon for the tests of one file: more of them would have its bad news collected, as many at once are."""
    with daemon_in(fork_server, world) as daemon:
        yield daemon


@dataclass(frozen=True)
class Correspondence:
    """One letter to one recipient, and what comes back for it."""

    world: World
    token: str
    receipts: str
    folder: str = "INBOX"

    @property
    def return_path(self) -> str:
        return self.receipts.replace("@", f"+{self.token}@")

    def reports(self) -> list[bytes]:
        """Everything that came to this letter's return path."""
        return [message for message in self.world.messages_of(self.receipts, self.folder) if self._is_ours(message)]

    def await_report(self, saying: str, *, folder: str = "INBOX", within: float = PATIENCE) -> Message:
        """Return the report that has *saying* (a regular expression) on a line of its own."""
        wanted = re.compile(rb"(?mi)^" + saying.encode() + rb"\s*$")

        def speaks(message: bytes) -> bool:
            return self._is_ours(message) and wanted.search(message) is not None

        return message_from_bytes(self.world.await_message(self.receipts, speaks, folder=folder, within=within))

    def _is_ours(self, message: bytes) -> bool:
        return b"Delivered-To: " + self.return_path.encode() + b"\n" in message.replace(b"\r\n", b"\n")


Post = Callable[..., Correspondence]


@pytest.fixture
def post(world: World) -> Post:
    """Return a function that sends one letter with every DSN request through the submission server."""
    receipts = world.new_receipts_address()

    def send(recipient: str, *, notify: str = "SUCCESS,FAILURE", size: int = 0) -> Correspondence:
        letter = Correspondence(world, correlation_token.make(), receipts)
        content = (
            f"From: {receipts}\r\nTo: {recipient}\r\nSubject: A letter\r\nMessage-ID: <{letter.token}@a.test>\r\n"
            f"Disposition-Notification-To: {letter.return_path}\r\n\r\nGood day.\r\n"
        )
        with submission(world, receipts) as relay:
            relay.sendmail(
                letter.return_path,
                [recipient],
                content + "x" * 70 * (size // 70),
                mail_options=["RET=HDRS", f"ENVID={letter.token}"],
                rcpt_options=[f"NOTIFY={notify}", f"ORCPT=rfc822;{recipient}"],
            )
        return letter

    return send


def submission(world: World, user: str, password: str | None = None) -> smtplib.SMTP:
    """Return a connection to the relay after STARTTLS and AUTH."""
    relay = smtplib.SMTP(HOST, world.relay.submission, timeout=PATIENCE)
    try:
        relay.starttls(context=ssl.create_default_context(cafile=str(world.ca_file)))
        relay.login(user, password or world.password)
    except BaseException:
        relay.close()
        raise
    return relay
