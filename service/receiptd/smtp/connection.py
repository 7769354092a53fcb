"""Connect, TLS, AUTH (by aiosmtplib), and the capabilities after that."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import aiosmtplib

from receiptd import masking
from receiptd.smtp.fault import OAUTH_REFUSED, reason, translate_errors
from receiptd.smtp.outcome import RelayDown
from receiptd.smtp.peer import Peer
from receiptd.smtp.reply import Capabilities, Reply, printable, read_capabilities
from receiptd.smtp.server import Server
from receiptd.smtp.wire import Wire

_TIMEOUT = 300
"""Seconds for the greeting and for each command before the first MAIL (RFC 5321 §4.5.3.2.1)."""


class TokenSource(Protocol):
    """The source of OAuth access tokens; *rejected* is one that the relay has just refused."""

    def __call__(self, rejected: str | None = None, /) -> Awaitable[str]: ...


@dataclass(frozen=True, slots=True)
class Login:
    """Our credentials; a file is read at every login, so that a new password needs no restart."""

    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    access_token: TokenSource | None = None

    @property
    def is_given(self) -> bool:
        return self != Login()


@dataclass(frozen=True, slots=True)
class Tls:
    """Which certificates are trusted: *ca_file*'s alone, else the system's; without *verify* any."""

    ca_file: Path | None
    verify: bool

    async def context(self) -> ssl.SSLContext:
        """Return a context with the certificates as they are now; loading the system's takes a while."""
        return await asyncio.to_thread(self._load)

    def _load(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            sentence = f"the certificates in [submission] ca_file {self.ca_file} can't be used: {reason(error)}"
            raise RelayDown("starttls", sentence, permanent=True) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(slots=True)
class Connection:
    """An open connection, after TLS and AUTH; one task at a time may use it."""

    peer: Peer
    wire: Wire
    needs_reset: bool = False
    """A transaction was left unfinished; RSET goes before the next."""
    idle_since: float = 0.0

    @property
    def pipelines(self) -> bool:
        """Whether commands may be sent before the replies to those before them (RFC 2920)."""
        return self.peer.capabilities.pipelining

    def close(self) -> None:
        self.wire.close()


async def connect(server: Server, login: Login, ca_file: Path | None) -> Connection:
    """Open a connection ready for MAIL; raise RelayDown, whose stage says how far it came."""
    tls = Tls(ca_file, verify=_must_verify(server, login, ca_file))
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.scheme == "submissions",
        start_tls=False,
        tls_context=await tls.context() if server.scheme == "submissions" else None,
        local_hostname=await asyncio.to_thread(_own_name),
        timeout=_TIMEOUT,
    )
    try:
        return await _prepare(client, server, login, tls)
    except BaseException:
        client.close()
        raise


async def _prepare(client: aiosmtplib.SMTP, server: Server, login: Login, tls: Tls) -> Connection:
    with translate_errors("connect", server):
        banner = printable((await client.connect()).message)
    opening = [f"S: 220 {banner}"]
    capabilities = await _greet(client, server, banner)
    if server.scheme != "submissions" and await _secure(client, server, tls):
        opening += ["C: STARTTLS", "S: 220"]
        # RFC 3207 §4.2: what was offered in the clear may be forged.
        capabilities = await _greet(client, server, banner)
    if login.is_given:
        opening += ["C: AUTH (elided)", f"S: {await _authenticate(client, server, login)}"]
        # RFC 4954 §4: a server may offer more after AUTH.
        capabilities = await _greet(client, server, banner)
    opening += [f"({capabilities.tls or 'no TLS'})", "C: EHLO", *(f"S: 250 {line}" for line in capabilities.lines)]
    with translate_errors("ehlo", server):
        if client.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("the server closed the connection")
        wire = Wire(cast(asyncio.Transport, client.transport))
    return Connection(Peer(server, capabilities, "\n".join(opening)), wire)


async def _greet(client: aiosmtplib.SMTP, server: Server, banner: str) -> Capabilities:
    with translate_errors("ehlo", server):
        reply = await client.ehlo()
        protocol = client.get_transport_info("ssl_object")
        tls = protocol.version() if protocol is not None else None
    return read_capabilities(reply.message, banner=banner, tls=tls)


async def _secure(client: aiosmtplib.SMTP, server: Server, tls: Tls) -> bool:
    """Start TLS where it is required or offered, and return whether it did."""
    if not client.supports_extension("starttls"):
        if server.scheme == "smtp":
            return False
        raise RelayDown(
            "starttls",
            f"{server} offers no STARTTLS, which submission:// requires; "
            "use submissions:// on port 465, or ask its administrator",
            permanent=True,
        )
    context = await tls.context()
    with translate_errors("starttls", server):
        await client.starttls(tls_context=context)
    return True


async def _authenticate(client: aiosmtplib.SMTP, server: Server, login: Login) -> Reply:
    if server.user is None:
        raise RelayDown("auth", "[submission] url names no user to log in as", permanent=True)
    if client.get_transport_info("sslcontext") is None and not server.is_here:
        raise RelayDown(
            "auth",
            f"{server} offers no TLS, so the password would cross the network in the clear; use submission://",
            permanent=True,
        )
    with translate_errors("auth", server, refused=OAUTH_REFUSED if login.access_token else None):
        if login.access_token is not None:
            reply = await _authenticate_by_token(client, server.user, login.access_token)
        else:
            password = await asyncio.to_thread(_password, login)
            with _hiding(password):
                reply = await client.login(server.user, password)
    return Reply(reply.code, printable(reply.message))


@contextmanager
def _hiding(secret: str) -> Iterator[None]:
    """Mask *secret* in the relay's refusal."""
    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        error.message = masking.mask(error.message, secret)
        raise


async def _authenticate_by_token(client: aiosmtplib.SMTP, user: str, source: TokenSource) -> aiosmtplib.SMTPResponse:
    """Log in by XOAUTH2; a refused token may have been revoked early, so fetch another, once."""
    if "xoauth2" not in client.server_auth_methods:
        raise aiosmtplib.SMTPNotSupported("it doesn't offer XOAUTH2")
    access_token = await source()
    try:
        with _hiding(access_token):
            return await client.auth_xoauth2(user, access_token)
    except aiosmtplib.SMTPAuthenticationError as refused:
        if refused.code != 535:
            raise
    access_token = await source(access_token)
    with _hiding(access_token):
        return await client.auth_xoauth2(user, access_token)


def _password(login: Login) -> str:
    if login.password is not None:
        return login.password
    if login.password_file is None:
        return ""
    try:
        return login.password_file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it isn't UTF-8"  # and none of its bytes
        sentence = f"the password in {login.password_file} can't be read: {why}"
        raise RelayDown("auth", sentence, permanent=True) from error


def _must_verify(server: Server, login: Login, ca_file: Path | None) -> bool:
    """Whether the server's certificate must be verified.

    smtp:// takes what is offered, even plain text, and an unverified certificate is no worse than that,
    unless a password goes over it to another machine.
    """
    return server.scheme != "smtp" or ca_file is not None or (login.is_given and not server.is_here)


@cache
def _own_name() -> str:
    return socket.getfqdn()
