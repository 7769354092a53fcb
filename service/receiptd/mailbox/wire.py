"""One IMAP connection: aioimaplib's protocol with its traps fenced, one command at a time.

aioimaplib 2.0.3 recurses once for each line of a read, loses its place behind parentheses in quoted
strings, deletes "* " inside lines, waits for ever when the server goes away and answers no second
SASL challenge. So responses are framed here by their literals alone and handed on in small portions,
every command has a time limit, and whatever is odd drops the connection: the next one starts clean.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterator
from typing import Any

import aioimaplib
from aioimaplib.aioimaplib import CONNECTED, CRLF, NONAUTH, Command, IMAP4ClientProtocol

from receiptd.mailbox.faults import MailboxDown, printable
from receiptd.mailbox.question import Answer, Question
from receiptd.transport import abort

LINES_AT_ONCE = 100
"""Far from the recursion limit of 1,000."""
MOST_BYTES = 32 << 20
"""More than that in answer to one command, beyond what it asked for, is no mail server."""
BYTES_PER_SECOND = 32 << 10
"""Slower than this a fetch is given up."""

_TAGGED = re.compile(rb"[A-Z0-9]+ (OK|NO|BAD)\b")
_COUNT = re.compile(rb"(\d+) (EXISTS|RECENT|EXPUNGE)\b", re.IGNORECASE)

# At DEBUG it prints whole messages, at INFO lines it did not expect; also, its password mask misses quoting.
logging.getLogger("aioimaplib").setLevel(logging.WARNING)


class Wire(IMAP4ClientProtocol):
    """A connection to *server*, which its sentences name."""

    state: str
    transport: Any

    def __init__(self, server: str, patience: float) -> None:
        super().__init__(asyncio.get_running_loop())
        self.server = server
        self.patience = patience
        self.greeting: bytes | None = None
        self.greeted = asyncio.Event()
        self.closed = asyncio.Event()
        self._roused = asyncio.Event()
        self.lost: str | None = None
        self.has_news = False
        self._counts: dict[bytes, int] = {}
        self._budget = MOST_BYTES
        self._upgrade: Question | None = None

    # What aioimaplib calls, or asyncio.

    def data_received(self, data: bytes) -> None:
        """Hand *data* to aioimaplib in portions that its recursion survives."""
        self._budget -= len(data)
        if self._budget < 0:
            return self.drop("it sent far more than was asked for")
        try:
            for portion in self._portions(data):
                # What follows the OK to STARTTLS in the clear may be anybody's, and would count as said under TLS.
                if self._upgrade is not None and self._upgrade.is_done:
                    return self.drop("it went on in the clear after STARTTLS: somebody may be tampering with the line")
                if self.lost is None:
                    super().data_received(portion)
        except (aioimaplib.AioImapException, ValueError, LookupError, AttributeError, RecursionError) as odd:
            self.drop(f"it sent what is no IMAP: {printable(str(odd))}")

    def connection_lost(self, error: Exception | None) -> None:
        """Wake everybody at once."""
        self.lost = self.lost or (
            f"the connection broke: {printable(str(error))}" if error else "it closed the connection"
        )
        self.closed.set()
        self._roused.set()
        self.greeted.set()
        if self._running is not None:
            self._running.fail(self.lost)

    def _handle_line(self, line: bytes, current: Command | None) -> Command | None:
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

    def _untagged_response(self, line: bytes) -> Command | None:
        line = line.removeprefix(b"* ")
        if line.upper().startswith(b"BYE") and self._running_name != "LOGOUT":
            self.lost = self.lost or f"it said goodbye: {printable(line[4:]) or 'no reason given'}"
        if self._running is not None:
            self._running.append_to_resp(line)
        self._count(line)
        return self._running

    def _continuation(self, line: bytes) -> None:
        question = self._running
        if question is not None and question.name == "IDLE":
            question.may_go_on = True
            self._end_idle_for_news()
        elif question is not None and question.replies:
            self.transport.write(question.replies.popleft() + CRLF)
        else:
            raise aioimaplib.Abort("a demand for more that nothing can follow")

    # What the rest of the mailbox calls.

    async def ask(
        self, name: str, *args: str, by_uid: bool = False, replies: tuple[bytes, ...] = (), expected: int = 0
    ) -> Answer:
        """Send a command, return its answer; raise MailboxDown, the connection dropped, if there is none or a BAD one.

        *replies* answer the server's demands for more, in order. *expected* bytes lengthen time and bounds.
        """
        question = Question(name, self.new_tag(), *args, prefix="UID" if by_uid else None, replies=replies)
        return await self._put(question, self.patience + expected / BYTES_PER_SECOND, expected)

    async def idle(self, seconds: float) -> bool:
        """Wait in IDLE until there is news, or *seconds* have passed; return False if the server won't have it."""
        question = Question("IDLE", self.new_tag(), prefix=None, replies=())
        timer = self.loop.call_later(seconds, self._end_idle, question)
        try:
            answer = await self._put(question, seconds + self.patience, 0)
        finally:
            timer.cancel()
        return answer.is_ok and question.was_ended

    async def rest(self, seconds: float) -> None:
        """Wait for *seconds*, or until `rouse`; raise MailboxDown as soon as the connection is lost."""
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
        """Let whoever waits for news wait no longer, though none has come."""
        self.has_news = True
        self._roused.set()
        self._end_idle_for_news()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on under TLS (RFC 9051 §6.2.1); forget what was said in the clear. Raises what the handshake raises."""
        self._upgrade = Question("STARTTLS", self.new_tag(), prefix=None, replies=())
        if not (await self._put(self._upgrade, self.patience, 0)).is_ok:
            raise MailboxDown(f"{self.server} refuses STARTTLS: use imaps://, or ask its administrator", permanent=True)
        try:
            transport = await self.loop.start_tls(self.transport, self, context, server_hostname=host)
        except BaseException:  # asyncio closes the connection and tells nobody
            self.connection_lost(None)
            raise
        if self.lost is not None:
            raise self.down()
        self.transport, self._upgrade = transport, None

    def down(self) -> MailboxDown:
        """Return the fault that says why the connection is gone."""
        return MailboxDown(f"The mailbox at {self.server} can't be read: {self.lost}.")

    def drop(self, reason: str) -> None:
        """End the connection without another word; the first reason stays."""
        self.lost = self.lost or reason
        if self.transport is not None:
            abort(self.transport)

    @property
    def exists(self) -> int:
        """How many messages the open folder holds, as announced so far."""
        return self._counts.get(b"EXISTS", 0)

    def forget_counts(self) -> None:
        """Count anew: another folder is being opened."""
        self._counts.clear()

    # Inside.

    @property
    def _running(self) -> Question | None:
        return self.pending_sync_command or next(iter(self.pending_async_commands.values()), None)

    @property
    def _running_name(self) -> str:
        return self._running.name if self._running is not None else ""

    async def _put(self, question: Question, seconds: float, expected: int) -> Answer:
        if self.lost is not None:
            raise self.down()
        if self._running is not None:
            raise RuntimeError(f"{question.name} while {self._running.name} runs: a mailbox is for one task at a time")
        self._budget = MOST_BYTES + 2 * expected
        try:
            async with asyncio.timeout(seconds):
                await self.execute(question)
        except TimeoutError:
            self.drop(f"it did not answer {question.name} within {seconds:.0f} seconds")
            raise self.down() from None
        except aioimaplib.AioImapException as error:
            self.drop(printable(str(error)))
            raise self.down() from error
        except BaseException:  # cancelled: an answer is still to come, so nobody may use this connection again
            self.drop("we are stopping")
            raise
        if question.result not in ("OK", "NO"):
            self.drop(f"it does not understand {question.name}: {printable(question.text)}")
            raise self.down()
        return Answer(question.result == "OK", question.text, tuple(question.responses))

    def _portions(self, data: bytes) -> Iterator[bytes]:
        """Cut *data* into what may be handed on at once: the rest of a literal, or a few lines."""
        start = 0
        while start < len(data):
            literal = self.current_command.lacks if isinstance(self.current_command, Question) else 0
            end = start + literal if literal else _behind_lines(data, start, 1 if self._upgrade else LINES_AT_ONCE)
            yield data[start:end]
            start = end

    def _count(self, line: bytes) -> None:
        """Keep count of messages: only more of them are news, or a talkative server would wake us for ever."""
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

    def _end_idle(self, question: Question | None) -> None:
        if question is not None and question.may_go_on and not question.was_ended and not question.is_done:
            question.was_ended = True
            self.idle_done()


def _behind_lines(data: bytes, start: int, lines: int) -> int:
    """Return where so many lines from *start* on end."""
    for _ in range(lines):
        start = data.find(CRLF, start) + len(CRLF)
        if start < len(CRLF):
            return len(data)
    return start
