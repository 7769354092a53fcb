"""The mail world: submission server, destinations, mailbox and webhook receiver on loopback, as one thing to hold."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import trustme

from receiptd import duration
from receiptd.sandbox import letters, receiver
from receiptd.sandbox.envelope import Envelope
from receiptd.sandbox.imap_server import ImapServer
from receiptd.sandbox.receiver import Alert, Receiver
from receiptd.sandbox.smtp_server import SubmissionServer

_LOOPBACK = "127.0.0.1"


@dataclass
class World:
    """What stands while `world()` is open; every server can be stopped and started on its own port."""

    smtp: SubmissionServer
    imap: ImapServer
    webhooks: Receiver
    user: str
    password: str
    ca_file: Path
    pace: float
    fates: dict[str, letters.Fate]
    """What becomes of mail, by address or domain; anything else is delivered."""
    submitted: list[Envelope] = field(default_factory=list)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)
    _fates_underway: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def smtp_url(self) -> str:
        return f"submission://{quote(self.user, safe='')}@{_LOOPBACK}:{self.smtp.port}"

    @property
    def imap_url(self) -> str:
        return f"imaps://{quote(self.user, safe='')}@{_LOOPBACK}:{self.imap.port}"

    @property
    def receipts_address(self) -> str:
        return letters.RECEIPTS

    @property
    def alerts(self) -> list[Alert]:
        """Every alert that arrived, once per endpoint, with a good signature."""
        return self.webhooks.alerts

    def hold(self, address: str) -> None:
        """Let no further report about *address* out until `release`."""
        self._gate(address).clear()

    def release(self, address: str) -> None:
        """Go on with the fate of *address*."""
        self._gate(address).set()

    async def deliver(self, raw: bytes, folder: str = "INBOX", received_at: datetime | None = None) -> None:
        """Put any message into the mailbox."""
        await self.imap.deliver(raw, received_at or datetime.now(UTC), folder)

    async def wait_for(self, happened: Callable[[], bool], *, seconds: float = 10) -> None:
        """Return when *happened()* is true; raise TimeoutError after *seconds*."""
        async with asyncio.timeout(seconds):
            while not happened():  # noqa: ASYNC110  # what happens, happens in another process
                await asyncio.sleep(0.02)

    def take(self, envelope: Envelope) -> None:
        """Accept responsibility for *envelope*, as a relay does with its 250."""
        self.submitted.append(envelope)
        task = asyncio.create_task(self._fulfil(envelope))
        self._fates_underway.add(task)

    async def close(self) -> None:
        """Stop everything; raise what went wrong in a fate."""
        for task in self._fates_underway:
            task.cancel()
        results = await asyncio.gather(*self._fates_underway, return_exceptions=True)
        await self.smtp.stop()
        await self.imap.stop()
        await asyncio.to_thread(self.webhooks.stop)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def write_settings(
        self,
        directory: Path,
        *,
        within: timedelta = letters.WITHIN,
        next_level: timedelta = letters.NEXT_LEVEL,
        poll: timedelta = timedelta(seconds=1),
        database: str | None = None,
    ) -> Path:
        """Write receiptd.toml, password and webhook secrets into *directory*; return the settings file.

        Without *database*, a URL, it is a SQLite file there.
        """
        _write_secret(directory / "password", self.password)
        for name, secret in self.webhooks.secrets.items():
            _write_secret(directory / f"{name}.secret", secret)
        text = _SETTINGS.format(
            database=_toml(database or f"sqlite:///{directory / 'receiptd.db'}"),
            send=_toml(str(directory / "send.sock")),
            api=_toml(str(directory / "api.sock")),
            smtp_url=_toml(self.smtp_url),
            imap_url=_toml(self.imap_url),
            ca_file=_toml(str(self.ca_file)),
            address=_toml(self.receipts_address),
            poll=_toml(duration.show(poll)),
            within=_toml(duration.show(within)),
            next_level=_toml(duration.show(next_level)),
        )
        for name in self.webhooks.secrets:
            text += _WEBHOOK.format(
                name=_toml(name), url=_toml(self.webhooks.url(name)), secret_file=_toml(f"{name}.secret")
            )
        path = directory / "receiptd.toml"
        path.write_text(text)
        return path

    def _gate(self, address: str) -> asyncio.Event:
        if address not in self._gates:
            self._gates[address] = asyncio.Event()
            self._gates[address].set()
        return self._gates[address]

    async def _fulfil(self, envelope: Envelope) -> None:
        fate = self.fates.get(envelope.recipient, self.fates.get(envelope.domain, letters.DELIVERED))
        for step in fate:
            if isinstance(step, letters.Hold):
                self.hold(envelope.recipient)
                await self._gate(envelope.recipient).wait()
                continue
            await asyncio.sleep(step.seconds * self.pace)
            await self._gate(envelope.recipient).wait()
            now = datetime.now(UTC)
            if report := step.report(envelope, now):
                await self.imap.deliver(report, now, step.folder)


@asynccontextmanager
async def world(directory: Path | None = None, *, pace: float = 0.05, offers_dsn: bool = True) -> AsyncIterator[World]:
    """Stand up the mail world on free loopback ports.

    *pace* stretches the fates' delays: 1 to watch, a small fraction for tests. *directory* gets the
    certificate authority's file; without it a temporary one is made.
    """
    with tempfile.TemporaryDirectory(prefix="receiptd-world-") as temporary:
        ca_file = (directory or Path(temporary)) / "ca.pem"
        tls = _make_tls(ca_file)
        user, password = letters.RECEIPTS, secrets.token_urlsafe(12)
        built: World | None = None

        def take(envelope: Envelope) -> None:
            if built is not None:
                built.take(envelope)

        smtp = SubmissionServer(user, password, tls, take, offers_dsn=offers_dsn)
        imap = ImapServer(user, password, tls)
        webhooks = Receiver({"ops": receiver.new_secret(), "boss": receiver.new_secret()})
        built = World(smtp, imap, webhooks, user, password, ca_file, pace, dict(letters.FATES))
        try:
            await imap.start()
            await smtp.start()
            webhooks.start()
            yield built
        finally:
            await built.close()


def _make_tls(ca_file: Path) -> ssl.SSLContext:
    """Return a server context whose certificate *ca_file* vouches for."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", _LOOPBACK).configure_cert(context)
    return context


def _write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(secret + "\n")


def _toml(text: str) -> str:
    """Return *text* as a TOML basic string, whose escapes are JSON's."""
    return json.dumps(text)


_SETTINGS = """\
# Written by `receiptd demo`: the embedded mail world, deadlines in seconds.
[service]
database = {database}
listen = [
    {{unix = {send}, mode = "0600", scope = "send"}},
    {{unix = {api}, mode = "0600", scope = "operate"}},
]

[submission]
url = {smtp_url}
password_file = "password"
ca_file = {ca_file}
connections = 3

[receipts]
address = {address}
notify = ["success", "failure", "delay"]

[[mailbox]]
name = "receipts"
url = {imap_url}
password_file = "password"
ca_file = {ca_file}
folders = ["INBOX", "Junk"]
poll = {poll}

[policy.default]
require = "relayed"
within = {within}
levels = [{{after = "0s", to = ["ops"]}}, {{after = {next_level}, to = ["ops", "boss"]}}]
"""

_WEBHOOK = """
[[webhook]]
name = {name}
url = {url}
secret_file = {secret_file}
"""
