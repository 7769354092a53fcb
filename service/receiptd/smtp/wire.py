"""Commands out, replies in: a bounded reply queue on an open connection."""

from __future__ import annotations

import asyncio
from collections import deque

from receiptd.smtp.reply import Reply, printable
from receiptd.transport import abort

_LONGEST_REPLY = 32 * 1024
_CHUNK = 256 * 1024
_BLOCK_SECONDS = 180
"""For one block of content to leave (RFC 5321 §4.5.3.2.5)."""


class ConnectionLost(Exception):
    """The connection ended, or what came over it isn't SMTP; the text says which."""


class Wire(asyncio.Protocol):
    """The client's side of the wire, with one future for every reply that is owed.

    It takes over the transport from aiosmtplib, which awaits each reply before the next command and would
    drop the replies to pipelined ones. A reply to no command (421 before an idle server closes) makes the
    wire unusable, so that it can't be mistaken for the reply to a later command.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._owed: deque[asyncio.Future[Reply]] = deque()
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
        """Whether the next command may go out: alive, and nothing owed."""
        return self._end is None and not self._owed and not self._transport.is_closing()

    def send(self, line: str) -> asyncio.Future[Reply]:
        """Write a command and return the future of its reply."""
        self.write(line.encode() + b"\r\n")
        return self.expect()

    def expect(self) -> asyncio.Future[Reply]:
        """Return the future of the next reply that isn't expected yet."""
        owed: asyncio.Future[Reply] = self._loop.create_future()
        self._owed.append(owed)
        return owed

    def write(self, block: bytes | memoryview) -> None:
        """Pass *block* to the transport; raise ConnectionLost where it has ended, and nothing of it was sent."""
        if self._end is not None or self._transport.is_closing():
            raise ConnectionLost(self._end or "the connection was closed")
        self._transport.write(block)

    async def receive(self, owed: asyncio.Future[Reply], seconds: float) -> Reply:
        """Await a reply; raise ConnectionLost if the connection ends or *seconds* pass."""
        try:
            async with asyncio.timeout(seconds):
                return await owed
        except TimeoutError:
            self.abort(f"no reply within {seconds:g} seconds")
            raise ConnectionLost(f"no reply within {seconds:g} seconds") from None

    async def send_content(self, content: bytes) -> asyncio.Future[Reply]:
        """Write the content with its final dot and return the future of the reply.

        Raises ConnectionLost only where the dot wasn't sent. A server that refuses before the dot gets no dot: the
        future is done, and the connection has ended.
        """
        block = memoryview(stuff_dots(content))
        owed = self.expect()
        for start in range(0, len(block), _CHUNK):
            if start:
                await self._drain()
            if owed.done() and owed.exception() is None:
                self.abort("the server answered before the final dot")
                if not owed.result().is_positive:
                    return owed
            self.write(block[start : start + _CHUNK])
        return owed

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
        """Close at once; what is owed fails."""
        self._fail(reason)
        abort(self._transport)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def _fail(self, reason: str) -> None:
        if self._end is None:
            self._end = reason
        self._flowing.set()
        while self._owed:
            owed = self._owed.popleft()
            if not owed.done():
                owed.set_exception(ConnectionLost(self._end))
                owed.exception()  # the second of two pipelined replies may never be awaited

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
        owed = self._owed.popleft()
        if not owed.done():
            owed.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection broke: {exc}" if exc else "the server closed the connection")
        self._closed.set()

    def pause_writing(self) -> None:
        self._flowing.clear()

    def resume_writing(self) -> None:
        self._flowing.set()


def stuff_dots(content: bytes) -> bytes:
    """Return *content* as it follows DATA: leading dots doubled, last line ended, the final dot (RFC 5321 §4.5.2)."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"
