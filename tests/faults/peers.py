"""A relay and a mailbox that misbehave exactly as told, and the settings of a daemon that has only these."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from tests.daemon_process import PATIENCE, Tables, await_that
from tests.fake_imap import FakeImap, Message
from tests.fake_smtp import EVERYTHING, FakeSMTP, Step
from tests.faults.letters import report, return_path_of

T = TypeVar("T")


def tables(relay: int, mailbox: int, *, service: str = "", submission: str = "") -> Tables:
    """Return the settings of a daemon that has only these two ports, with further lines in its tables."""
    box = f"""
        url = "imap://receipts@127.0.0.1:{mailbox}"
        password_file = "password"
        folders = ["INBOX"]
        idle = false
    """
    return Tables(
        service=service,
        submission=f'url = "smtp://127.0.0.1:{relay}"\n{submission}',
        receipts='address = "receipts@a.test"',
        mailbox=box,
    )


class Peers:
    """The two fakes, on a loop in a thread of its own, so that a test may block on a daemon that talks to them."""

    def __init__(self, *, ehlo: tuple[str, ...] = EVERYTHING) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._ehlo = ehlo
        self.imap = FakeImap()
        self._do(self.imap.__aenter__())
        self.smtp = FakeSMTP(ehlo=ehlo)
        self._do(self.smtp.__aenter__())
        self.smtp_port = self.smtp.port

    def script(self, verb: str, *steps: Step) -> None:
        """Let the relay answer the next occurrences of *verb* so; `.` is the final dot."""
        self.smtp.script.setdefault(verb, []).extend(steps)

    def stop_relay(self) -> None:
        """End the relay: its port refuses connections."""
        self._do(self.smtp.__aexit__(None, None, None))

    def start_relay(self) -> None:
        """Start it again on the same port, with what it got before."""
        self._do(self._listen_again())

    async def _listen_again(self) -> None:
        self.smtp.server = await asyncio.start_server(self.smtp._serve, "127.0.0.1", self.smtp_port, limit=2**20)

    @property
    def recipients(self) -> list[str]:
        """The address of every RCPT, in order."""
        return [line.partition("<")[2].partition(">")[0] for line in self.smtp.said("RCPT")]

    def return_path(self, recipient: str) -> str:
        """Return the return path of the last transaction for *recipient*."""
        return return_path_of(self.smtp.lines, recipient)

    def put(self, content: bytes) -> int:
        """Put a message into the INBOX that came just now; return its UID."""
        uid = max(self.imap.messages, default=0) + 1
        date = datetime.now(UTC).strftime("%d-%b-%Y %H:%M:%S +0000")
        self.imap.messages = {**self.imap.messages, uid: Message(content, date=date)}
        return uid

    def report(self, recipient: str, action: str = "delivered") -> int:
        """Put a delivery report about *recipient* into the INBOX."""
        return self.put(report(self.return_path(recipient), recipient, action))

    def wait_for_dots(self, number: int) -> None:
        """Return when so many messages were transmitted to their final dot."""
        await_that(lambda: len(self.smtp.messages) >= number, lambda: f"{len(self.smtp.messages)} of {number}")

    def close(self) -> None:
        self._do(self.smtp.__aexit__(None, None, None))
        self._do(self.imap.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


@contextmanager
def fake_peers(*, ehlo: tuple[str, ...] = EVERYTHING) -> Iterator[Peers]:
    """Run a relay and a mailbox."""
    with contextlib.closing(Peers(ehlo=ehlo)) as peers:
        yield peers
