"""The way into a mailbox: connect, TLS, log in, and out again."""

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
from receiptd.mailbox.faults import MailboxDown, printable
from receiptd.mailbox.inside import Mailbox
from receiptd.mailbox.place import Place, parse_url
from receiptd.mailbox.wire import Wire
from receiptd.settings import MailboxSettings

PATIENCE = 60.0
"""Seconds that a command may take, beyond what a large fetch needs. A refused login takes some at Dovecot."""
_FAREWELL = 5.0
_ENDED_HANDSHAKE = "it ended the connection while TLS was being set up"


@asynccontextmanager
async def open_mailbox(
    settings: MailboxSettings,
    *,
    password: str | None = None,
    access_token: Callable[[], Awaitable[str]] | None = None,
    patience: float = PATIENCE,
) -> AsyncIterator[Mailbox]:
    """Log in to the mailbox and yield it; log out at the end.

    One task at a time may use it. Raises MailboxDown with a sentence that tells the person what is wrong, also
    later from any call; the mailbox is then of no more use and is to be opened anew.
    """
    place = parse_url(settings.url)
    context = None if place.scheme == "imap" else _trust(settings.ca_file)
    wire = Wire(str(place), patience)
    try:
        await _connect(wire, place, context)
        capabilities = await login.enter(wire, place, password=password, access_token=access_token)
        yield Mailbox(wire, capabilities, may_idle=settings.idle)
        await _say_goodbye(wire)
    finally:
        await _hang_up(wire)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return what certificates are checked against: *ca_file* alone if there is one, else the system's."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadSettings(f"[[mailbox]] ca_file {ca_file} can't be read as PEM certificates: {error}") from error


async def _connect(wire: Wire, place: Place, context: ssl.SSLContext | None) -> None:
    try:
        async with asyncio.timeout(wire.patience):
            await asyncio.get_running_loop().create_connection(
                lambda: wire,
                place.host,
                place.port,
                ssl=context if place.scheme == "imaps" else None,
                server_hostname=place.host if place.scheme == "imaps" else None,
            )
            await wire.greeted.wait()
            _check_greeting(wire)
            if place.scheme == "imap+starttls" and context is not None:
                await _start_tls(wire, place, context)
    except TimeoutError as error:
        raise MailboxDown(
            f"The mailbox server {place} does not answer: check host and port in [[mailbox]] url, and the firewall."
        ) from error
    except OSError as error:
        raise _unreachable(place, error) from error


async def _start_tls(wire: Wire, place: Place, context: ssl.SSLContext) -> None:
    """Go on under TLS; what the server offered before is forgotten then, for anybody may have said it."""
    if "STARTTLS" not in await login.ask_capabilities(wire):
        raise MailboxDown(
            f"The mailbox server {place} offers no STARTTLS, and without it nothing protects the password: "
            "use imaps:// with its TLS port (usually 993), or ask its administrator.",
            permanent=True,
        )
    await wire.start_tls(context, place.host)


def _check_greeting(wire: Wire) -> None:
    """Raise MailboxDown unless the server greets as one that wants a login.

    PREAUTH is refused: whoever sits on the line can send it to keep us from STARTTLS, or from our own mailbox.
    """
    greeting = (wire.greeting or b"").upper()
    if greeting.startswith(b"* OK"):
        return
    if wire.greeting is None:
        raise wire.down()
    said = printable(wire.greeting)
    if greeting.startswith(b"* BYE"):
        raise MailboxDown(f"The mailbox server {wire.server} sends us away: {said[5:].strip()}.")
    if greeting.startswith(b"* PREAUTH"):
        raise MailboxDown(
            f"The mailbox server {wire.server} claims that we are logged in already (PREAUTH): refused, "
            "for then nothing protects the connection; ask its administrator.",
            permanent=True,
        )
    raise MailboxDown(
        f"What answers at {wire.server} is no IMAP server ({said[:60]!r}): check host and port in [[mailbox]] url.",
        permanent=True,
    )


def _unreachable(place: Place, error: OSError) -> MailboxDown:
    """Return the sentence for a connection, name look-up or TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return MailboxDown(
            f"The certificate of the mailbox server {place} is not to be trusted ({error.verify_message}): "
            "use the host name it is made for in [[mailbox]] url, or name its certificate authority as ca_file.",
            permanent=True,
        )
    if isinstance(error, ssl.SSLError):
        return MailboxDown(
            f"No TLS with the mailbox server {place} ({printable(error.reason or str(error))}): "
            "imaps:// is for port 993, imap+starttls:// for port 143.",
            permanent=error.reason == "WRONG_VERSION_NUMBER",
        )
    if isinstance(error, socket.gaierror):
        return MailboxDown(
            f"The mailbox server {place.host} is not found ({printable(error.strerror or str(error))}): "
            "check the host in [[mailbox]] url, and this machine's DNS.",
            permanent=error.errno == socket.EAI_NONAME,
        )
    why = os.strerror(error.errno) if error.errno else printable(str(error)) or _ENDED_HANDSHAKE
    return MailboxDown(
        f"The mailbox server {place} can't be reached ({why}): "
        "check host and port in [[mailbox]] url, and whether the server runs."
    )


async def _say_goodbye(wire: Wire) -> None:
    """Log out; whatever happens now, the work is done, and nobody needs to hear of it."""
    if wire.lost is not None:
        return
    wire.patience = min(wire.patience, _FAREWELL)
    try:
        await wire.ask("LOGOUT")
    except MailboxDown:
        return


async def _hang_up(wire: Wire) -> None:
    """Close the connection and wait until it is closed."""
    if wire.transport is None:
        return
    wire.drop("we hung up")
    try:
        async with asyncio.timeout(_FAREWELL):
            await wire.closed.wait()
    except TimeoutError:
        return
