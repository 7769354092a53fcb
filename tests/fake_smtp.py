"""An SMTP server on loopback that follows its script and records the dialogue."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

EVERYTHING = ("PIPELINING", "SIZE 1000000", "DSN", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")

DEFAULTS = {
    "CONNECT": "220 fake.test ESMTP",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 End data with <CR><LF>.<CR><LF>",
    ".": "250 2.0.0 Ok: queued as 4XyZ1",
    "RSET": "250 2.0.0 Ok",
    "NOOP": "250 2.0.0 Ok",
    "STARTTLS": "220 2.0.0 Ready to start TLS",
    "QUIT": "221 2.0.0 Bye",
}


@dataclass(frozen=True)
class Drop:
    """Close the connection instead of replying, perhaps with last words."""

    words: str = ""


@dataclass(frozen=True)
class Hang:
    """Never reply."""


@dataclass(frozen=True)
class Later:
    """Reply after *seconds* of the loop's clock."""

    seconds: float
    reply: str


@dataclass(frozen=True)
class When:
    """Reply once *told* is set: a test that must be faster than the server needs no luck."""

    told: asyncio.Event
    reply: str


Step = str | Drop | Hang | Later | When | None


class FakeSMTP:
    """An SMTP server whose replies to a verb come from *script*, one an occurrence, then from DEFAULTS.

    *ehlo* is offered in the clear, *after_tls* and *after_auth* instead once they happened. `.` is the verb
    of the final dot, CONNECT that of the greeting.
    """

    def __init__(
        self,
        *,
        ehlo: Iterable[str] = EVERYTHING,
        after_tls: Iterable[str] | None = None,
        after_auth: Iterable[str] | None = None,
        script: Mapping[str, Iterable[Step]] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,
        tokens: Iterable[str] = (),
    ) -> None:
        self.ehlo = tuple(ehlo)
        self.after_tls = self.ehlo if after_tls is None else tuple(after_tls)
        self.after_auth = after_auth if after_auth is None else tuple(after_auth)
        self.script = {verb: list(steps) for verb, steps in (script or {}).items()}
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.users = dict(users or {})
        self.tokens = set(tokens)
        self.wire: list[tuple[int, str]] = []
        self.messages: list[bytes] = []
        self.connections = 0
        self.open_now = 0
        self.open_at_most = 0
        self.sessions: set[asyncio.Task[None]] = set()
        self.writers: list[asyncio.StreamWriter] = []
        self.readers: list[asyncio.StreamReader] = []

    @property
    def lines(self) -> list[str]:
        """Every command of every connection, in order."""
        return [line for _, line in self.wire]

    def said(self, verb: str) -> list[str]:
        """The commands that begin with *verb*."""
        return [line for line in self.lines if line.upper().startswith(verb)]

    async def __aenter__(self) -> Self:
        context = self.tls if self.implicit_tls else None
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=2**20)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()
        self.hang_up()
        for session in list(self.sessions):
            session.cancel()
        await asyncio.gather(*self.sessions, return_exceptions=True)
        await self.server.wait_closed()

    def hang_up(self) -> None:
        """Close every connection from the server's side."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def say_unasked(self, text: str) -> None:
        """Write *text* on every open connection without being asked."""
        for writer in self.writers:
            writer.write(f"{text}\r\n".encode())

    def unread(self) -> list[bytes]:
        """What has arrived on each open connection and isn't read yet."""
        return [bytes(reader._buffer) for reader in self.readers]  # type: ignore[attr-defined]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.sessions.add(task)
        self.writers.append(writer)
        self.readers.append(reader)
        self.connections += 1
        self.open_now += 1
        self.open_at_most = max(self.open_at_most, self.open_now)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await Session(self, self.connections, reader, writer).run()
        finally:
            self.open_now -= 1
            self.sessions.discard(task)
            writer.transport.abort()


class _End(Exception):
    """The session is over."""


class Session:
    """One connection of the fake."""

    def __init__(self, fake: FakeSMTP, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.fake, self.number, self.reader, self.writer = fake, number, reader, writer
        self.offered = fake.after_tls if fake.implicit_tls else fake.ehlo

    async def run(self) -> None:
        with contextlib.suppress(_End):
            await self.answer("CONNECT")
            while line := await self.reader.readline():
                await self.command(line.decode().rstrip("\r\n"))

    async def command(self, line: str) -> None:
        verb = line.split(" ", maxsplit=1)[0].upper()
        self.fake.wire.append((self.number, line))
        if verb == "EHLO":
            await self.answer("EHLO", self.greeting())
        elif verb == "AUTH":
            await self.authenticate(line)
        elif await self.answer(verb) and verb == "DATA":
            await self.content()
        elif verb == "STARTTLS" and self.fake.tls:
            await self.writer.start_tls(self.fake.tls)
            self.offered = self.fake.after_tls
        elif verb == "QUIT":
            raise _End

    def greeting(self) -> str:
        lines = ["fake.test greets you", *self.offered]
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])

    async def content(self) -> None:
        content = bytearray()
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                self.fake.wire.append((self.number, "(end without dot)"))
                raise _End
            content += line[1:] if line.startswith(b".") else line
        self.fake.messages.append(bytes(content))
        self.fake.wire.append((self.number, "."))
        await self.answer(".")

    async def authenticate(self, line: str) -> None:
        _, mechanism, *initial = line.split(" ")
        if mechanism == "PLAIN":
            _, user, password = base64.b64decode(initial[0]).decode().split("\0")
            good = self.fake.users.get(user) == password
        elif mechanism == "LOGIN":
            user = base64.b64decode(initial[0]).decode()
            await self.say("334 UGFzc3dvcmQ6")
            good = self.fake.users.get(user) == base64.b64decode(await self.reader.readline()).decode()
        elif mechanism == "XOAUTH2":
            token = base64.b64decode(initial[0]).decode().split("auth=Bearer ")[1].rstrip("\x01")
            good = token in self.fake.tokens
            if not good:
                await self.say("334 eyJzdGF0dXMiOiI0MDEifQ==")
                await self.reader.readline()
        else:
            raise AssertionError(line)
        await self.answer("AUTH", "235 2.7.0 Authentication successful" if good else "535 5.7.8 Wrong password")
        if good and self.fake.after_auth is not None:
            self.offered = self.fake.after_auth

    async def answer(self, verb: str, default: str | None = None) -> bool:
        """Reply as scripted; return whether that is the usual reply."""
        steps = self.fake.script.get(verb)
        step = steps.pop(0) if steps else None
        usual = default or DEFAULTS.get(verb, "500 5.5.2 Error: command not recognized")
        if isinstance(step, Hang):
            await asyncio.Event().wait()
        if isinstance(step, Drop):
            if step.words:
                await self.say(step.words)
            self.writer.close()
            raise _End
        if isinstance(step, Later):
            await asyncio.sleep(step.seconds)
            step = step.reply
        if isinstance(step, When):
            await step.told.wait()
            step = step.reply
        reply = usual if step is None or isinstance(step, Hang | Later | When) else step
        await self.say(reply)
        return reply[:3] == usual[:3]

    async def say(self, text: str) -> None:
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()
