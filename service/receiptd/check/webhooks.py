"""Has every webhook a secret, is its endpoint there, and does its way hide what is told?"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import httpx2

from receiptd.check.finding import Finding, fail, good, warn
from receiptd.deliver import secret_of
from receiptd.errors import BadSettings
from receiptd.mail.loopback import is_loopback
from receiptd.settings import Settings, WebhookSettings
from receiptd.transport import abort

WHAT = "webhook"
TIMEOUT = 5.0
"""Seconds for the connection and the TLS handshake."""
_PORTS = {"http": 80, "https": 443}


async def findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Connect to each endpoint and yield what that shows; nothing is posted: it would be taken for an alert."""
    for webhook in settings.webhook:
        yield await _finding(webhook)
        parts = urlsplit(webhook.url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield warn(WHAT, f"alerts to {webhook.name} can be read on the way: use https, or omit subject and address")


async def _finding(webhook: WebhookSettings) -> Finding:
    parts = urlsplit(webhook.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        secret_of(webhook)
    except BadSettings as error:
        return fail(WHAT, str(error))
    try:
        tls = await _connect(host, port, is_tls=parts.scheme == "https")
    except (OSError, UnicodeError) as error:
        return fail(WHAT, f"{webhook.name} can't be told anything: {_why(error, host, port)}")
    protection = f" with {tls}" if tls else ""
    return good(
        WHAT,
        f"{webhook.name} has a good secret and takes {', '.join(webhook.events)}; "
        f"{host}:{port} answers{protection} (nothing was posted)",
    )


async def _connect(host: str, port: int, *, is_tls: bool) -> str | None:
    """Connect as the daemon would, certificate and all; return the version of TLS; raise OSError."""
    context = httpx2.create_ssl_context(trust_env=False) if is_tls else None
    async with asyncio.timeout(TIMEOUT):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        session = writer.get_extra_info("ssl_object")
        return session.version() if session is not None else None
    finally:
        abort(writer.transport)


def _why(error: OSError | UnicodeError, host: str, port: int) -> str:
    match error:
        case socket.gaierror():
            return f"the name {host} is not found ({error.strerror}); correct the url, or fix this machine's DNS"
        case TimeoutError():
            return f"{host}:{port} doesn't answer within {TIMEOUT:g} s; look for firewalls between"
        case ConnectionRefusedError():
            return f"nobody listens on {host}:{port}; correct the url, or start the endpoint"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {host}:{port} is not good ({error.verify_message})"
        case ssl.SSLError():
            return f"{host}:{port} speaks no TLS that we understand ({error.reason or error})"
        case _:
            return f"{host}:{port} can't be reached ({error})"
