"""The IMAP server: pymap in this process, over real TLS sockets, with INBOX and Junk."""

from __future__ import annotations

import asyncio
import ssl
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.concurrent import Subsystem
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

from receiptd.sandbox.reports import HOME
from receiptd.transport import abort

FOLDERS = ("INBOX", "Junk")


# TLS from the first byte, so STARTTLS isn't offered inside it.
_ARGUMENTS = Namespace(host=None, port=0, debug=False, cert=None, key=None, tls=False)
_ARGUMENTS.passlib_cfg = _ARGUMENTS.proxy_protocol = None


class _Config(Config):
    @classmethod
    def parse_args(cls, args: Namespace) -> Mapping[str, Any]:
        """Take nothing of the demo account from a command line."""
        return {}

    @property
    def greeting(self) -> bytes:
        """Say hello without asking DNS for our name."""
        return f"{HOME} ready".encode()


@dataclass
class ImapServer:
    """One account on a free loopback port. Each start gives new UIDVALIDITY, as pymap does; the mail stays."""

    user: str
    password: str
    tls: ssl.SSLContext
    port: int = 0
    kept: list[tuple[str, bytes, datetime]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _folders: MailboxSet | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen; after a stop, on the same port, with the same mail under new UIDs."""
        config = _Config.from_args(
            _ARGUMENTS,
            demo_data=False,
            demo_user=self.user,
            demo_password=self.password,
            hash_context=Cleartext(),
            cpu_subsystem=Subsystem.for_asyncio(),
            reject_dnsbl=False,
        )
        login = Login(config)
        login.users_dict[self.user] = UserMetadata(config, self.user, password=self.password)
        self._folders = MailboxSet()
        for name in FOLDERS[1:]:
            await self._folders.add_mailbox(name)
        config.set_cache[self.user] = (self._folders, FilterSet())
        for folder, raw, received_at in self.kept:
            await self._append(folder, raw, received_at)
        serve = IMAPServer(login, config)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._converse(serve, reader, writer)

        self._server = await asyncio.start_server(connected, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def deliver(self, raw: bytes, received_at: datetime, folder: str = "INBOX") -> None:
        """Put a message into *folder*, INTERNALDATE *received_at*; whoever IDLEs there hears of it."""
        self.kept.append((folder, raw, received_at))
        if self._server is not None:
            await self._append(folder, raw, received_at)

    async def _append(self, folder: str, raw: bytes, received_at: datetime) -> None:
        if self._folders is None:
            raise RuntimeError("the IMAP server was never started")
        mailbox = await self._folders.get_mailbox(folder)
        await mailbox.append(AppendMessage(raw, received_at), recent=True)

    async def _converse(self, serve: IMAPServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await serve(reader, writer, SocketInfoLocal(writer))
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            abort(writer.transport)
        finally:
            self._connections.discard(task)
