"""An IMAP server that follows its script and records what it received."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

CAPABILITY = "IMAP4rev1 IDLE MOVE UIDPLUS"

Said: TypeAlias = "str | bytes | Callable[[Conversation, str], Awaitable[None]]"
"""A response, `TAG` standing for the command's tag, or what is to be done instead."""


@dataclass
class Message:
    content: bytes
    date: str = "17-Jul-2026 02:44:25 -0700"
    flags: str = ""
    stated_size: int | None = None

    @property
    def size(self) -> int:
        return len(self.content) if self.stated_size is None else self.stated_size


@dataclass
class FakeImap:
    """`on(pattern, said)` overrides the response to commands that match; the latest override wins.

    Untold, it is a small plain server with *messages* by UID, one folder INBOX, and no opinion on passwords.
    """

    capability: str = CAPABILITY
    greeting: str = "* OK ready"
    messages: dict[int, Message] = field(default_factory=dict)
    listed: str = '* LIST () "/" INBOX\r\n'
    tls: ssl.SSLContext | None = None
    left_out: set[int] = field(default_factory=set)
    """Messages that a FETCH says nothing of, with an OK."""
    phantoms: set[int] = field(default_factory=set)
    """UIDs that a SEARCH lists, and there are no such messages."""
    uidvalidity: int = 7
    got: list[str] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    _told: list[tuple[re.Pattern[str], Said]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def on(self, pattern: str, said: Said) -> None:
        self._told.insert(0, (re.compile(pattern, re.IGNORECASE | re.DOTALL), said))

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def commands(self, word: str) -> list[str]:
        return [line for line in self.got if word in line]

    async def __aenter__(self) -> FakeImap:
        self._server = await asyncio.start_server(self._welcome, "127.0.0.1", 0, limit=1 << 24, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        conversation = Conversation(self, reader, writer)
        self.conversations.append(conversation)
        try:
            await conversation.run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    def answer_to(self, command: str) -> Said:
        for pattern, said in self._told:
            if pattern.match(command):
                return said
        return self._plainly(command)

    def _plainly(self, command: str) -> str | bytes:
        if command == "CAPABILITY":
            return f"* CAPABILITY {self.capability}\r\nTAG OK done\r\n"
        if command.startswith("LIST"):
            return self.listed + "TAG OK done\r\n"
        if command.startswith(("SELECT", "EXAMINE")):
            right = "READ-WRITE" if command.startswith("SELECT") else "READ-ONLY"
            following = max(self.messages, default=0) + 1
            return (
                f"* {len(self.messages)} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY {self.uidvalidity}] fine\r\n"
                f"* OK [UIDNEXT {following}] next\r\nTAG OK [{right}] done\r\n"
            )
        if command.startswith("UID SEARCH"):
            found = {*self._named(command.split()[3]), *self.phantoms}
            return f"* SEARCH {' '.join(map(str, sorted(found)))}\r\nTAG OK done\r\n"
        if command.startswith("UID FETCH"):
            _, _, uids, items = command.split(" ", 3)
            return (
                b"".join(self.fetched(uid, items) for uid in self._named(uids) if uid not in self.left_out)
                + b"TAG OK done\r\n"
            )
        if command == "LOGOUT":
            return "* BYE see you\r\nTAG OK done\r\n"
        return "TAG OK done\r\n"

    def fetched(self, uid: int, items: str) -> bytes:
        """Return the untagged FETCH response for *items* of the message *uid*, its content as a literal."""
        message = self.messages[uid]
        number = sorted(self.messages).index(uid) + 1
        parts = [b"UID %d" % uid]
        if "FLAGS" in items:
            parts += [b"FLAGS (%s)" % message.flags.encode(), b'INTERNALDATE "%s"' % message.date.encode()]
            parts += [b"RFC822.SIZE %d" % message.size]
        if section := re.search(r"BODY\.PEEK\[(\w*)\](?:<(\d+)\.(\d+)>)?", items):
            content = message.content
            if section[1] == "HEADER":
                content = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            origin = b""
            if section[2]:
                content, origin = content[int(section[2]) :][: int(section[3])], b"<%s>" % section[2].encode()
            parts += [b"BODY[%s]%s {%d}\r\n%s" % (section[1].encode(), origin, len(content), content)]
        return b"* %d FETCH (%s)\r\n" % (number, b" ".join(parts))

    def _named(self, uids: str) -> list[int]:
        """Return the messages of a UID set; `n:*` brings the last one, as the standard says."""
        known = sorted(self.messages)
        if uids.endswith(":*"):
            return [uid for uid in known if uid >= int(uids[:-2]) or uid == known[-1]]
        if ":" in uids:
            first, last = map(int, uids.split(":"))
            return [uid for uid in known if first <= uid <= last]
        return [uid for uid in map(int, uids.split(",")) if uid in self.messages]


@dataclass
class Conversation:
    """One connection."""

    server: FakeImap
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def run(self) -> None:
        if self.server.greeting:
            await self.send(self.server.greeting + "\r\n")
        while True:
            tag, command = await self.read_command()
            self.server.got.append(command)
            said = self.server.answer_to(command)
            if callable(said):
                await said(self, tag)
            else:
                await self.send(said, tag)
            if command == "LOGOUT":
                return

    async def read_command(self) -> tuple[str, str]:
        """Return tag and command, its literals in place of their marks."""
        line = await self.read_line()
        while mark := re.search(rb"\{(\d+)\}$", line):
            await self.send("+ go on\r\n")
            literal = await self.reader.readexactly(int(mark[1]))
            line = line[: mark.start()] + literal + await self.read_line()
        tag, _, command = line.decode("utf-8").partition(" ")
        return tag, command

    async def read_line(self) -> bytes:
        line = await self.reader.readuntil(b"\r\n")
        return line[:-2]

    async def send(self, said: str | bytes, tag: str = "") -> None:
        data = said.encode("utf-8") if isinstance(said, str) else said
        if tag:
            data = re.sub(rb"(^|\n)TAG ", rb"\g<1>" + tag.encode() + b" ", data)
        self.writer.write(data)
        await self.writer.drain()

    async def upgrade(self, context: ssl.SSLContext) -> None:
        """Go on under TLS, as the server's side (asyncio.StreamWriter.start_tls, Python 3.11)."""
        await self.writer.start_tls(context)


async def hang_up(conversation: Conversation, _: str) -> None:
    """End the connection without a word."""
    raise ConnectionError


async def say_nothing(_: Conversation, __: str) -> None:
    """Let the client wait."""
