"""The relay: a fast SMTP server of our own that faults at any stage, records every transaction, and reports by fate."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Callable

from tests.chaos.fates import fate_of
from tests.chaos.journal import Journal, Transaction, Weather

_OFFERS = ("PIPELINING", "SIZE 50000000", "DSN", "8BITMIME", "SMTPUTF8")
_EHLO = "\r\n".join(["250-relay.test", *(f"250-{name}" for name in _OFFERS), "250 ENHANCEDSTATUSCODES"])
_HEADER = {
    name: re.compile(rb"(?im)^" + name.encode() + rb":[ \t]*([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)")
    for name in ("Message-ID", "Disposition-Notification-To")
}
_LATE = 1.5
_GONE = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class _Cut(Exception):
    """The connection ends here."""


class Relay:
    """Listens on a port of its own for each daemon, so that a transaction tells whose it is.

    *on_taken* is called with each transaction that was taken, whatever was answered.
    """

    def __init__(self, journal: Journal, weather: Weather, on_taken: Callable[[Transaction], None]) -> None:
        self.journal, self.weather, self.on_taken = journal, weather, on_taken
        self.ports: list[int] = []
        self.refuse_until = 0.0
        """Until then nobody is let in: the port closes each connection at once."""
        self._servers: list[asyncio.Server] = []

    async def start(self, nodes: int) -> None:
        for node in range(nodes):

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, node: int = node) -> None:
                await self._serve(node, reader, writer)

            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**22)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        for server in self._servers:
            server.close()

    async def _serve(self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(_Cut, asyncio.CancelledError, *_GONE):
                await _Session(self, node, reader, writer).run()
        finally:
            writer.transport.abort()


class _Session:
    """One connection."""

    def __init__(self, relay: Relay, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.relay, self.node, self.reader, self.writer = relay, node, reader, writer
        self.sender: str | None = None
        self.envelope_id: str | None = None
        self.transaction: Transaction | None = None

    def _strikes(self, probability: float, what: str) -> bool:
        if self.relay.weather.strikes(probability):
            self.relay.journal.strike(f"relay: {what}", node=self.node)
            return True
        return False

    async def run(self) -> None:
        if time.time() < self.relay.refuse_until:
            raise _Cut
        if self._strikes(0.01, "421 at connect"):
            await self._say("421 4.3.2 relay.test not now")
            raise _Cut
        if self._strikes(0.005, "silent at connect"):
            await asyncio.sleep(_LATE)
        await self._say("220 relay.test ESMTP")
        while line := await self.reader.readline():
            await self._command(line.decode("utf-8", "replace").rstrip("\r\n"))

    async def _command(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        match verb:
            case "EHLO":
                if self._strikes(0.01, "cut at EHLO"):
                    raise _Cut
                await self._say(_EHLO)
            case "MAIL":
                await self._mail(line)
            case "RCPT":
                await self._rcpt(line)
            case "DATA":
                await self._data()
            case "RSET":
                self._reset()
                await self._say("250 2.0.0 Ok")
            case "NOOP":
                await self._say("250 2.0.0 Ok")
            case "QUIT":
                await self._say("221 2.0.0 Bye")
                raise _Cut
            case _:
                await self._say("500 5.5.2 Error: command not recognized")

    def _reset(self) -> None:
        self.sender = self.envelope_id = self.transaction = None

    async def _mail(self, line: str) -> None:
        self._reset()
        if self._strikes(0.004, "451 at MAIL"):
            await self._say("451 4.3.0 try again later")
            return
        if self._strikes(0.002, "cut at MAIL"):
            raise _Cut
        self.sender = line.partition("<")[2].partition(">")[0]
        envelope_id = re.search(r"ENVID=(\S+)", line)
        self.envelope_id = envelope_id[1] if envelope_id else None
        await self._say("250 2.1.0 Ok")

    async def _rcpt(self, line: str) -> None:
        if self.sender is None:
            await self._say("503 5.5.1 Error: need MAIL command")
            return
        address = line.partition("<")[2].partition(">")[0]
        made = Transaction(time.time(), self.node, self.sender, self.envelope_id, address)
        self.relay.journal.transactions.append(made)
        if self._strikes(0.01, "450 at RCPT"):
            await self._answer(made, "450 4.2.1 mailbox busy")
            return
        if self._strikes(0.004, "cut at RCPT"):
            raise _Cut
        if fate_of(address).refused_at == "RCPT":
            await self._answer(made, "550 5.1.1 no such user")
            return
        self.transaction = made
        await self._answer(made, "250 2.1.5 Ok")

    async def _data(self) -> None:
        made = self.transaction
        if made is None:
            await self._say("554 5.5.1 Error: no valid recipients")
            return
        if self._strikes(0.004, "451 at DATA"):
            self.transaction = None
            await self._answer(made, "451 4.3.0 try again later")
            return
        if self._strikes(0.004, "cut at DATA"):
            raise _Cut
        await self._answer(made, "354 End data with <CR><LF>.<CR><LF>")
        made.reply = None
        if self._strikes(0.004, "reset amid the content"):
            await self.reader.read(100)
            raise _Cut
        content = await self.reader.readuntil(b"\r\n.\r\n")
        self.transaction = None
        await self._dot(made, content[:-3])

    async def _dot(self, made: Transaction, stuffed: bytes) -> None:
        content = re.sub(rb"(?m)^\.\.", b".", stuffed)
        made.dot_at = time.time()
        made.digest = hashlib.sha256(content).hexdigest()
        made.message_id, made.disposition_notification_to = (_header(content, name) for name in _HEADER)
        if fate_of(made.address).refused_at == ".":
            await self._answer(made, "554 5.7.1 content refused")
            return
        if self._strikes(0.006, "451 at the final dot"):
            await self._answer(made, "451 4.3.0 try again later")
            return
        if self._strikes(0.006, "cut after the final dot, not taken"):
            raise _Cut
        made.taken = True
        self.relay.on_taken(made)
        if self._strikes(0.008, "cut after the final dot, taken"):
            raise _Cut
        if self._strikes(0.01, "late reply to the final dot"):
            await asyncio.sleep(_LATE)
        await self._answer(made, f"250 2.0.0 Ok: queued as 4{len(self.relay.journal.transactions):09x}")
        if self._strikes(0.006, "cut after the last reply"):
            raise _Cut

    async def _answer(self, made: Transaction, reply: str) -> None:
        made.reply, made.reply_at = int(reply[:3]), time.time()
        await self._say(reply)

    async def _say(self, reply: str) -> None:
        self.writer.write(reply.encode() + b"\r\n")
        await self.writer.drain()


def _header(content: bytes, name: str) -> str | None:
    found = _HEADER[name].search(content.partition(b"\r\n\r\n")[0])
    return re.sub(r"\s+", " ", found[1].decode("utf-8", "replace")).strip() if found else None
