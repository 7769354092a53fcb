"""Connect, TLS, AUTH, and what the relay then offers: the only module that knows aiosmtplib."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import aiosmtplib

from receiptd import token
from receiptd.errors import ReceiptdError
from receiptd.smtp.outcome import Place, RelayDown
from receiptd.smtp.reply import Capabilities, Reply, printable, read_capabilities
from receiptd.smtp.server import Server
from receiptd.smtp.wire import Wire

_PATIENCE = 300
"""Seconds for the greeting and for each command before the first MAIL (RFC 5321 §4.5.3.2.1)."""


class TokenSource(Protocol):
    """Where an OAuth access token comes from; *rejected* is one that the relay has just refused."""

    def __call__(self, rejected: str | None = None, /) -> Awaitable[str]: ...


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are; a file is read at every login, so that a new password needs no restart."""

    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    access_token: TokenSource | None = None

    @property
    def is_given(self) -> bool:
        return self != Login()


@dataclass(frozen=True, slots=True)
class Tls:
    """Whose certificates are trusted: *ca_file*'s alone, else the system's; without *verify* anybody's."""

    ca_file: Path | None
    verify: bool

    async def context(self) -> ssl.SSLContext:
        """Return a context with the certificates as they are now; loading the system's takes a while."""
        return await asyncio.to_thread(self._load)

    def _load(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            sentence = f"the certificates in [submission] ca_file {self.ca_file} can't be used: {_reason(error)}"
            raise RelayDown("starttls", sentence, permanent=True) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(slots=True)
class Connection:
    """An open connection, after TLS and AUTH; one task at a time may use it."""

    server: Server
    wire: Wire
    capabilities: Capabilities
    opening: str
    """How the dialogue began: banner, TLS, AUTH, capabilities."""
    needs_reset: bool = False
    """A transaction was left half done; RSET goes before the next."""
    idle_since: float = 0.0

    def close(self) -> None:
        self.wire.close()


async def connect(server: Server, login: Login, ca_file: Path | None) -> Connection:
    """Open a connection ready for MAIL; raise RelayDown, whose place tells how far it came."""
    tls = Tls(ca_file, verify=_must_verify(server, login, ca_file))
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.scheme == "submissions",
        start_tls=False,
        tls_context=await tls.context() if server.scheme == "submissions" else None,
        local_hostname=await asyncio.to_thread(_own_name),
        timeout=_PATIENCE,
    )
    try:
        return await _prepare(client, server, login, tls)
    except BaseException:
        client.close()
        raise


async def _prepare(client: aiosmtplib.SMTP, server: Server, login: Login, tls: Tls) -> Connection:
    with _blaming("connect", server):
        banner = printable((await client.connect()).message)
    opening = [f"S: 220 {banner}"]
    capabilities = await _greet(client, server, banner)
    if server.scheme != "submissions" and await _secure(client, server, tls):
        opening += ["C: STARTTLS", "S: 220"]
        # RFC 3207 §4.2: what was offered in the clear may be a stranger's word.
        capabilities = await _greet(client, server, banner)
    if login.is_given:
        opening += ["C: AUTH (elided)", f"S: {await _authenticate(client, server, login)}"]
        # RFC 4954 §4: a server may offer more to whom it knows.
        capabilities = await _greet(client, server, banner)
    opening += [f"({capabilities.tls or 'no TLS'})", "C: EHLO", *(f"S: 250 {line}" for line in capabilities.lines)]
    with _blaming("ehlo", server):
        if client.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("the server closed the connection")
        wire = Wire(cast(asyncio.Transport, client.transport))
    return Connection(server, wire, capabilities, "\n".join(opening))


async def _greet(client: aiosmtplib.SMTP, server: Server, banner: str) -> Capabilities:
    with _blaming("ehlo", server):
        reply = await client.ehlo()
        protocol = client.get_transport_info("ssl_object")
        tls = protocol.version() if protocol is not None else None
    return read_capabilities(reply.message, banner=banner, tls=tls)


async def _secure(client: aiosmtplib.SMTP, server: Server, tls: Tls) -> bool:
    """Turn TLS on where it is required or offered, and return whether it was."""
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
    with _blaming("starttls", server):
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
    with _blaming("auth", server):
        if login.access_token is not None:
            reply = await _authenticate_by_token(client, server.user, login.access_token)
        else:
            reply = await client.login(server.user, await asyncio.to_thread(_password, login))
    return Reply(reply.code, printable(reply.message))


async def _authenticate_by_token(client: aiosmtplib.SMTP, user: str, source: TokenSource) -> aiosmtplib.SMTPResponse:
    """Log in by XOAUTH2; a token that is refused was perhaps revoked early, so fetch another, once."""
    if "xoauth2" not in client.server_auth_methods:
        raise aiosmtplib.SMTPNotSupported("it doesn't offer XOAUTH2")
    access_token = await source()
    try:
        return await client.auth_xoauth2(user, access_token)
    except aiosmtplib.SMTPAuthenticationError as refused:
        if refused.code != 535:
            raise
    return await client.auth_xoauth2(user, await source(access_token))


def _password(login: Login) -> str:
    if login.password is not None:
        return login.password
    if login.password_file is None:
        return ""
    try:
        return login.password_file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RelayDown(
            "auth", f"the password in {login.password_file} can't be read: {reason}", permanent=True
        ) from error


def _must_verify(server: Server, login: Login, ca_file: Path | None) -> bool:
    """Whether the certificate must be the server's.

    smtp:// takes what is offered, plain included; a certificate nobody vouches for is no worse, unless
    a password goes over it to another machine.
    """
    return server.scheme != "smtp" or ca_file is not None or (login.is_given and not server.is_here)


@cache
def _own_name() -> str:
    return socket.getfqdn()


@contextmanager
def _blaming(place: Place, server: Server) -> Iterator[None]:
    """Turn every fault inside into RelayDown at *place*, with a sentence for the person."""
    try:
        yield
    except RelayDown:
        raise
    except aiosmtplib.SMTPResponseException as error:
        raise refusal(place, server, Reply(error.code, printable(error.message))) from error
    except ReceiptdError as error:
        raise RelayDown(place, str(error), permanent=error.permanent) from error
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        raise _fault(place, server, error) from error


_DOING: dict[Place, str] = {
    "connect": "doesn't let us in",
    "ehlo": "refuses EHLO",
    "starttls": "refuses STARTTLS",
    "auth": "refuses our user and password; check the user in [submission] url and password_file or oauth",
    "mail": "refuses our return path; check [receipts] address and what the relay lets this user send",
    "rcpt": "wants something of us before it takes a recipient",
    "data": "doesn't take the content now",
}


def refusal(place: Place, server: Server, reply: Reply) -> RelayDown:
    """Return the fault that *reply* at *place* means; the text is the relay's, so tokens are masked."""
    said = token.mask(str(reply))[:200] if reply.code > 0 else token.mask(reply.text.replace("\n", " "))[:200]
    return RelayDown(place, f"{server} {_DOING[place]} ({said})", permanent=reply.is_permanent, reply=reply)


def _fault(place: Place, server: Server, error: Exception) -> RelayDown:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(server, cause)
        if isinstance(cause, ssl.SSLError):
            return RelayDown("starttls", f"TLS with {server} fails ({cause.reason or cause}); check url and port")
        if isinstance(cause, socket.gaierror):
            unknown = cause.errno == socket.EAI_NONAME
            return RelayDown(
                "connect", f"the name {server.host} isn't found in DNS; check [submission] url", permanent=unknown
            )
    if place == "connect":
        return RelayDown(
            place, f"{server} can't be reached ({_reason(error)}); check [submission] url and the firewall"
        )
    if place == "auth":
        return RelayDown(place, f"login to {server} fails ({_reason(error)})", permanent=_is_for_good(error))
    return RelayDown(place, f"{server} breaks off at {place.upper()} ({_reason(error)})")


def _untrusted(server: Server, error: ssl.SSLCertVerificationError) -> RelayDown:
    return RelayDown(
        "starttls",
        f"the certificate of {server} isn't trusted ({error.verify_message}); "
        "name its authority's certificate in [submission] ca_file, and use the host name it was made for",
        permanent=True,
    )


def _is_for_good(error: Exception) -> bool:
    """Whether the server lacks what we need, rather than fails for now."""
    return type(error) in (aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported) or isinstance(error, ValueError)


def _reason(error: Exception) -> str:
    """Return the innermost cause in words, without the library's preamble."""
    *_, last = _causes(error)
    if isinstance(last, OSError) and last.errno and not isinstance(last, ssl.SSLError):
        return os.strerror(last.errno)
    return token.mask(printable(str(last) or type(last).__name__).replace("\n", " "))[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
