"""Connect to a mailbox server: TLS, login, logout."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from receiptd.errors import BadSettings
from receiptd.mailbox import login
from receiptd.mailbox.connection import Connection
from receiptd.mailbox.faults import MailboxDown, printable
from receiptd.mailbox.server_address import ServerAddress, parse_url
from receiptd.mailbox.session import Mailbox
from receiptd.settings import MailboxSettings

TIME_LIMIT = 60.0
"""Seconds that a command may take, beyond what a large fetch needs. Dovecot delays the response to a failed login."""
_CLOSE_WITHIN = 5.0
_ENDED_HANDSHAKE = "it ended the connection while TLS was being set up"


@asynccontextmanager
async def open_mailbox(
    settings: MailboxSettings,
    *,
    password: str | None = None,
    access_token: Callable[[], Awaitable[str]] | None = None,
    time_limit: float = TIME_LIMIT,
) -> AsyncIterator[Mailbox]:
    """Log in to the mailbox and yield it; log out at the end.

    One task at a time may use it. Raises MailboxDown with a sentence that says what is wrong, also later from any
    call; the mailbox can't be used after that and must be opened again.
    """
    address = parse_url(settings.url)
    context = None if address.scheme == "imap" else _trust(settings.ca_file)
    connection = Connection(str(address), time_limit)
    try:
        await _connect(connection, address, context)
        capabilities = await login.enter(connection, address, password=password, access_token=access_token)
        yield Mailbox(connection, capabilities, may_idle=settings.idle)
        await _log_out(connection)
    finally:
        await _close(connection)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return the context that checks certificates: against *ca_file* alone if there is one, else the system's."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadSettings(f"[[mailbox]] ca_file {ca_file} can't be read as PEM certificates: {error}") from error


async def _connect(connection: Connection, address: ServerAddress, context: ssl.SSLContext | None) -> None:
    try:
        async with asyncio.timeout(connection.time_limit):
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                address.host,
                address.port,
                ssl=context if address.scheme == "imaps" else None,
                server_hostname=address.host if address.scheme == "imaps" else None,
            )
            await connection.greeted.wait()
            _check_greeting(connection)
            if address.scheme == "imap+starttls" and context is not None:
                await _start_tls(connection, address, context)
    except TimeoutError as error:
        raise MailboxDown(
            f"The mailbox server {address} doesn't answer: check host and port in [[mailbox]] url, and the firewall."
        ) from error
    except OSError as error:
        raise _unreachable(address, error) from error


async def _start_tls(connection: Connection, address: ServerAddress, context: ssl.SSLContext) -> None:
    """Switch to TLS; what was offered in the clear is discarded, since anyone on the network may have sent it."""
    if "STARTTLS" not in await login.ask_capabilities(connection):
        raise MailboxDown(
            f"The mailbox server {address} offers no STARTTLS, and without it nothing protects the password: "
            "use imaps:// with its TLS port (usually 993), or ask its administrator.",
            permanent=True,
        )
    await connection.start_tls(context, address.host)


def _check_greeting(connection: Connection) -> None:
    """Raise MailboxDown unless the greeting asks for a login.

    PREAUTH is refused: an attacker on the network can send it to prevent STARTTLS, or to show us another mailbox.
    """
    greeting = (connection.greeting or b"").upper()
    if greeting.startswith(b"* OK"):
        return
    if connection.greeting is None:
        raise connection.down()
    said = printable(connection.greeting)
    if greeting.startswith(b"* BYE"):
        raise MailboxDown(f"The mailbox server {connection.server} refuses connections: {said[5:].strip()}.")
    if greeting.startswith(b"* PREAUTH"):
        raise MailboxDown(
            f"The mailbox server {connection.server} claims that we are logged in already (PREAUTH); this is refused, "
            "since nothing would protect the connection: ask its administrator.",
            permanent=True,
        )
    raise MailboxDown(
        f"The server at {connection.server} isn't an IMAP server ({said[:60]!r}): "
        "check host and port in [[mailbox]] url.",
        permanent=True,
    )


def _unreachable(address: ServerAddress, error: OSError) -> MailboxDown:
    """Return the sentence for a connection, name look-up or TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return MailboxDown(
            f"The certificate of the mailbox server {address} isn't trusted ({error.verify_message}): "
            "use the host name it is made for in [[mailbox]] url, or name its certificate authority as ca_file.",
            permanent=True,
        )
    if isinstance(error, ssl.SSLError):
        return MailboxDown(
            f"No TLS with the mailbox server {address} ({printable(error.reason or str(error))}): "
            "imaps:// is for port 993, imap+starttls:// for port 143.",
            permanent=error.reason == "WRONG_VERSION_NUMBER",
        )
    if isinstance(error, socket.gaierror):
        return MailboxDown(
            f"The mailbox server {address.host} isn't found ({printable(error.strerror or str(error))}): "
            "check the host in [[mailbox]] url, and this machine's DNS.",
            permanent=error.errno == socket.EAI_NONAME,
        )
    why = os.strerror(error.errno) if error.errno else printable(str(error)) or _ENDED_HANDSHAKE
    return MailboxDown(
        f"The mailbox server {address} can't be reached ({why}): "
        "check host and port in [[mailbox]] url, and whether the server runs."
    )


async def _log_out(connection: Connection) -> None:
    """Log out; the work is done, so a failure here doesn't matter."""
    if connection.lost is not None:
        return
    connection.time_limit = min(connection.time_limit, _CLOSE_WITHIN)
    try:
        await connection.ask("LOGOUT")
    except MailboxDown:
        return


async def _close(connection: Connection) -> None:
    """Close the connection and wait until it is closed."""
    if connection.transport is None:
        return
    connection.drop("we hung up")
    try:
        async with asyncio.timeout(_CLOSE_WITHIN):
            await connection.closed.wait()
    except TimeoutError:
        return
