"""One IMAP connection: aioimaplib's protocol with its faults contained, one command at a time.

aioimaplib 2.0.3 recurses once for each line of a read, loses its place behind parentheses in quoted
strings, deletes "* " inside lines, waits forever when the server goes away and can't answer a second
SASL challenge. So responses are framed here by their literals alone and passed on in small portions,
every command has a time limit, and anything unexpected drops the connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterator
from typing import Any

import aioimaplib
from aioimaplib.aioimaplib import CONNECTED, CRLF, NONAUTH, IMAP4ClientProtocol
from aioimaplib.aioimaplib import Command as AioimaplibCommand

from receiptd.mailbox.command import Command, Response
from receiptd.mailbox.faults import MailboxDown, printable
from receiptd.transport import abort

LINES_AT_ONCE = 100
"""Far from the recursion limit of 1,000."""
MOST_BYTES = 32 << 20
"""The most bytes in response to one command, beyond what it asked for."""
BYTES_PER_SECOND = 32 << 10
"""A fetch slower than this is given up."""

_TAGGED = re.compile(rb"[A-Z0-9]+ (OK|NO|BAD)\b")
_COUNT = re.compile(rb"(\d+) (EXISTS|RECENT|EXPUNGE)\b", re.IGNORECASE)

# At DEBUG it prints whole messages, at INFO unexpected lines, and its password mask misses quoting.
logging.getLogger("aioimaplib").setLevel(logging.WARNING)


class Connection(IMAP4ClientProtocol):
    """A connection to *server*, a name used in error messages."""

    state: str
    transport: Any

    def __init__(self, server: str, time_limit: float) -> None:
        super().__init__(asyncio.get_running_loop())
        self.server = server
        self.time_limit = time_limit
        self.greeting: bytes | None = None
        self.greeted = asyncio.Event()
        self.closed = asyncio.Event()
        self._roused = asyncio.Event()
        self.lost: str | None = None
        self.has_news = False
        self._counts: dict[bytes, int] = {}
        self._budget = MOST_BYTES
        self._upgrade: Command | None = None

    # Called by aioimaplib or asyncio.

    def data_received(self, data: bytes) -> None:
        """Pass *data* to aioimaplib in portions small enough for its recursion."""
        self._budget -= len(data)
        if self._budget < 0:
            return self.drop("it sent far more than was asked for")
        try:
            for portion in self._portions(data):
                # Anything in the clear after the OK to STARTTLS may be injected, and would count as sent under TLS.
                if self._upgrade is not None and self._upgrade.is_done:
                    return self.drop("it sent more in the clear after STARTTLS: the connection may be tampered with")
                if self.lost is None:
                    super().data_received(portion)
        except (aioimaplib.AioImapException, ValueError, LookupError, AttributeError, RecursionError) as odd:
            self.drop(f"it sent what isn't valid IMAP: {printable(str(odd))}")

    def connection_lost(self, error: Exception | None) -> None:
        """Wake everyone who waits."""
        self.lost = self.lost or (
            f"the connection broke: {printable(str(error))}" if error else "it closed the connection"
        )
        self.closed.set()
        self._roused.set()
        self.greeted.set()
        if self._running is not None:
            self._running.fail(self.lost)

    def _handle_line(self, line: bytes, current: AioimaplibCommand | None) -> AioimaplibCommand | None:
        if self.state == CONNECTED:
            self.state, self.greeting = NONAUTH, line
            self.greeted.set()
            return None
        if current is not None:
            current.append_to_resp(line)
            return current
        if not line.startswith((b"* ", b"+")) and not _TAGGED.match(line):
            raise aioimaplib.Abort(f"a line {printable(line)[:60]!r}")
        return super()._handle_line(line, None)

    def _untagged_response(self, line: bytes) -> AioimaplibCommand | None:
        line = line.removeprefix(b"* ")
        if line.upper().startswith(b"BYE") and self._running_name != "LOGOUT":
            self.lost = self.lost or f"it closed the session: {printable(line[4:]) or 'no reason given'}"
        if self._running is not None:
            self._running.append_to_resp(line)
        self._count(line)
        return self._running

    def _continuation(self, line: bytes) -> None:
        command = self._running
        if command is not None and command.name == "IDLE":
            command.may_go_on = True
            self._end_idle_for_news()
        elif command is not None and command.replies:
            self.transport.write(command.replies.popleft() + CRLF)
        else:
            raise aioimaplib.Abort("an unexpected continuation request")

    # Called by the rest of the package.

    async def ask(
        self, name: str, *args: str, by_uid: bool = False, replies: tuple[bytes, ...] = (), expected: int = 0
    ) -> Response:
        """Send a command and return its response; on BAD or none, drop the connection and raise MailboxDown.

        *replies* answer the server's continuation requests, in order. *expected* bytes raise time limit and bounds.
        """
        command = Command(name, self.new_tag(), *args, prefix="UID" if by_uid else None, replies=replies)
        return await self._put(command, self.time_limit + expected / BYTES_PER_SECOND, expected)

    async def idle(self, seconds: float) -> bool:
        """Wait in IDLE until there is news, or *seconds* have passed; return False if the server refuses."""
        command = Command("IDLE", self.new_tag(), prefix=None, replies=())
        timer = self.loop.call_later(seconds, self._end_idle, command)
        try:
            response = await self._put(command, seconds + self.time_limit, 0)
        finally:
            timer.cancel()
        return response.is_ok and command.was_ended

    async def rest(self, seconds: float) -> None:
        """Wait for *seconds*, or until `rouse`; raise MailboxDown when the connection is lost."""
        try:
            async with asyncio.timeout(seconds):
                await self._roused.wait()
        except TimeoutError:
            return
        except asyncio.CancelledError:
            self.drop("we are stopping")
            raise
        if self.closed.is_set():
            raise self.down()
        self._roused.clear()

    def rouse(self) -> None:
        """End a wait for news, though there is none."""
        self.has_news = True
        self._roused.set()
        self._end_idle_for_news()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Switch to TLS (RFC 9051 §6.2.1). Raises what the handshake raises."""
        self._upgrade = Command("STARTTLS", self.new_tag(), prefix=None, replies=())
        if not (await self._put(self._upgrade, self.time_limit, 0)).is_ok:
            raise MailboxDown(f"{self.server} refuses STARTTLS: use imaps://, or ask its administrator", permanent=True)
        try:
            transport = await self.loop.start_tls(self.transport, self, context, server_hostname=host)
        except BaseException:  # asyncio closes the connection without calling connection_lost
            self.connection_lost(None)
            raise
        if self.lost is not None:
            raise self.down()
        self.transport, self._upgrade = transport, None

    def down(self) -> MailboxDown:
        """Return the error that says why the connection is gone."""
        return MailboxDown(f"The mailbox at {self.server} can't be read: {self.lost}.")

    def drop(self, reason: str) -> None:
        """Close the connection at once; the first reason is kept."""
        self.lost = self.lost or reason
        if self.transport is not None:
            abort(self.transport)

    @property
    def exists(self) -> int:
        """How many messages the open folder has, as announced so far."""
        return self._counts.get(b"EXISTS", 0)

    def forget_counts(self) -> None:
        """Reset the counts: another folder is being opened."""
        self._counts.clear()

    # Inside.

    @property
    def _running(self) -> Command | None:
        return self.pending_sync_command or next(iter(self.pending_async_commands.values()), None)

    @property
    def _running_name(self) -> str:
        return self._running.name if self._running is not None else ""

    async def _put(self, command: Command, seconds: float, expected: int) -> Response:
        if self.lost is not None:
            raise self.down()
        if self._running is not None:
            raise RuntimeError(f"{command.name} while {self._running.name} runs: a mailbox is for one task at a time")
        self._budget = MOST_BYTES + 2 * expected
        try:
            async with asyncio.timeout(seconds):
                await self.execute(command)
        except TimeoutError:
            self.drop(f"it didn't answer {command.name} within {seconds:.0f} seconds")
            raise self.down() from None
        except aioimaplib.AioImapException as error:
            self.drop(printable(str(error)))
            raise self.down() from error
        except BaseException:  # cancelled: a response is still to come, so this connection can't be used again
            self.drop("we are stopping")
            raise
        if command.result not in ("OK", "NO"):
            self.drop(f"it doesn't understand {command.name}: {printable(command.text)}")
            raise self.down()
        return Response(command.result == "OK", command.text, tuple(command.untagged))

    def _portions(self, data: bytes) -> Iterator[bytes]:
        """Split *data* into what may be passed on at once: the rest of a literal, or a few lines."""
        start = 0
        while start < len(data):
            literal = self.current_command.lacks if isinstance(self.current_command, Command) else 0
            end = start + literal if literal else _behind_lines(data, start, 1 if self._upgrade else LINES_AT_ONCE)
            yield data[start:end]
            start = end

    def _count(self, line: bytes) -> None:
        """Count messages: only a higher count is news, or a chatty server would wake us forever."""
        found = _COUNT.match(line)
        if not found:
            return
        number, word = int(found[1]), found[2].upper()
        if word == b"EXPUNGE":
            self._counts[b"EXISTS"] = max(self._counts.get(b"EXISTS", 0) - 1, 0)
            return
        self.has_news = self.has_news or number > self._counts.get(word, 0)
        self._counts[word] = number
        self._end_idle_for_news()

    def _end_idle_for_news(self) -> None:
        if self.has_news and self._running_name == "IDLE":
            self._end_idle(self._running)

    def _end_idle(self, command: Command | None) -> None:
        if command is not None and command.may_go_on and not command.was_ended and not command.is_done:
            command.was_ended = True
            self.idle_done()


def _behind_lines(data: bytes, start: int, lines: int) -> int:
    """Return the end of so many lines from *start* on."""
    for _ in range(lines):
        start = data.find(CRLF, start) + len(CRLF)
        if start < len(CRLF):
            return len(data)
    return start
