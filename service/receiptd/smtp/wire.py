"""Commands out, replies in: a bounded reply queue on an open connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from receiptd.smtp.reply import Reply, printable
from receiptd.transport import abort

_LONGEST_REPLY = 32 * 1024
_CHUNK = 256 * 1024
_BLOCK_SECONDS = 180
"""For one block of content to leave (RFC 5321 §4.5.3.2.5)."""


class ConnectionLost(Exception):
    """The connection ended, or what came over it isn't SMTP; the text says which."""


class Wire(asyncio.Protocol):
    """The client's side of a connection, used by one task; it counts the replies that are owed.

    It takes over the transport from aiosmtplib, which awaits each reply before the next command and would
    drop the replies to pipelined ones. A reply to no command (421 before an idle server closes) makes the
    wire unusable, so that it can't be mistaken for the reply to a later command.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._owed = 0
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._size = 0
        self._end: str | None = None
        self._loop = asyncio.get_running_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._closed = asyncio.Event()
        transport.set_protocol(self)

    @property
    def is_usable(self) -> bool:
        """Whether the next command may go out: alive, and no reply owed or unread."""
        return self._end is None and not self._owed and not self._replies and not self._transport.is_closing()

    def send(self, commands: bytes, replies: int) -> None:
        """Write *commands*, to which so many *replies* are owed; raise ConnectionLost, with nothing of it sent."""
        self._check_open()
        self._owed += replies
        self._transport.write(commands)

    async def receive(self, seconds: float) -> Reply:
        """Return the next reply; raise ConnectionLost if the connection ends or *seconds* pass without one."""
        while not self._replies:
            self._check_open()
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(seconds, self.abort, f"no reply within {seconds:g} seconds")
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._replies.popleft()

    async def send_content(self, header: bytes, stuffed: bytes, following: bytes = b"", replies: int = 0) -> bool:
        """Write content with its final dot, and *following* commands right behind it, to which *replies* are owed.

        Returns True once the final dot was written. False: the server refused before the dot, so it gets none;
        its reply is still to be received, and the connection has ended. Raises ConnectionLost only where the dot
        wasn't written.
        """
        self._owed += 1
        last: bytes | memoryview = b""
        for number, block in enumerate(_blocks(header, stuffed)):
            if number:
                self._check_open()
                self._transport.write(last)
                await self._drain()
            if self._replies:
                self.abort("the server replied before the final dot")
                if not self._replies[0].is_positive:
                    return False
            last = block
        self._check_open()
        self._owed += replies
        self._transport.write(b"".join((last, following)) if following else last)
        return True

    def _check_open(self) -> None:
        if self._end is not None or self._transport.is_closing():
            raise ConnectionLost(self._end or "the connection was closed")

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_BLOCK_SECONDS):
                await self._flowing.wait()
        except TimeoutError:
            self.abort(f"the server took no content for {_BLOCK_SECONDS} seconds")

    def close(self) -> None:
        """Send QUIT where the server listens, and close."""
        if self.is_usable:
            self._transport.write(b"QUIT\r\n")
            self._end = "the connection was closed"
            self._transport.close()
        else:
            self.abort("the connection was closed")

    def abort(self, reason: str) -> None:
        """Close at once; replies that came before can still be received."""
        self._fail(reason)
        abort(self._transport)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def _fail(self, reason: str) -> None:
        if self._end is None:
            self._end = reason
        self._flowing.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        self._buffer += data
        if self._size > _LONGEST_REPLY:
            self.abort("the server's reply is too long")
            return
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            if self._end is None:
                self._take(line.rstrip(b"\r ").decode("utf-8", "surrogateescape"))
        if self._replies:
            self._wake()

    def _take(self, line: str) -> None:
        code = line[:3]
        if not (code.isascii() and code.isdigit() and line[3:4] in {"", " ", "-"}):
            self.abort("what the server answers isn't SMTP")
            return
        self._lines.append(line[4:])
        if line[3:4] == "-":
            return
        reply = Reply(int(code), printable("\n".join(self._lines)))
        self._lines, self._size = [], len(self._buffer)
        if not self._owed:
            self.abort(f"the server said {reply} unasked")
            return
        self._owed -= 1
        self._replies.append(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection broke: {exc}" if exc else "the server closed the connection")
        self._closed.set()

    def pause_writing(self) -> None:
        self._flowing.clear()

    def resume_writing(self) -> None:
        self._flowing.set()


def _blocks(header: bytes, stuffed: bytes) -> Iterator[bytes | memoryview]:
    """Cut the content into what is written at once: a small one is a single block."""
    if len(stuffed) <= _CHUNK:
        yield header + stuffed
        return
    yield header
    view = memoryview(stuffed)
    for start in range(0, len(stuffed), _CHUNK):
        yield view[start : start + _CHUNK]
