"""Does the relay let us in, and what can it do?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from receiptd.check.account import access_token
from receiptd.check.finding import Finding, fail, good, warn
from receiptd.errors import ReceiptdError
from receiptd.settings import Settings
from receiptd.smtp import Capabilities, Relay, Server, parse_url, replaces_return_path

WHAT = "relay"
_SUBMISSION_PORTS = (465, 587)
TIMEOUT = 30
"""Seconds; a submission server that takes longer to greet and to log in would hold up every message."""

_OTHER_RETURN_PATH = (
    "it puts a return path of its own in place of ours: delivery reports go to it and not to us, and mail programs "
    "ask their readers before they confirm; require no more than accepted, or use another relay"
)


def open_relay(settings: Settings) -> Relay:
    """Return the relay of *settings* with its login."""
    return Relay(settings.submission, access_token=access_token(settings.submission))


async def findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Connect, log in, and yield what that shows."""
    relay = open_relay(settings)
    for finding in _risks(relay.server):
        yield finding
    try:
        async with asyncio.timeout(TIMEOUT):
            offered = await relay.probe()
    except TimeoutError:
        yield fail(WHAT, f"{relay.server} didn't answer within {TIMEOUT} s: check the address, and firewalls between")
        return
    except ReceiptdError as error:
        yield fail(WHAT, str(error))
        return
    finally:
        await relay.close()
    protection = f"with {offered.tls}" if offered.tls else "in the clear"
    login = f" and lets {relay.server.user} in" if relay.server.user else ", without a login"
    yield good(WHAT, f"{relay.server} answers {protection}{login}")
    for finding in _abilities(settings, offered):
        yield finding


def _risks(server: Server) -> list[Finding]:
    """Return what the URL alone shows."""
    found = []
    if server.scheme == "smtp" and not server.is_here:
        found.append(
            warn(
                WHAT,
                f"smtp:// takes TLS only where it is offered, and from anybody: mail to another machine ({server}) can "
                "be read on the way; use submission:// or submissions://",
            )
        )
    if server.user is None and (server.scheme != "smtp" or server.port in _SUBMISSION_PORTS):
        found.append(
            warn(
                WHAT,
                f"{server} is a submission server, and the URL names no user to log in as: most of them take no mail "
                "without a login (RFC 6409 §4.3); write USER@ before the host, and name a password_file",
            )
        )
    return found


def _abilities(settings: Settings, offered: Capabilities) -> list[Finding]:
    found = [_dsn(settings, offered)]
    if replaces_return_path(parse_url(settings.submission.url).host):
        found.append(warn(WHAT, _OTHER_RETURN_PATH))
    limit, wanted = offered.size, settings.service.max_message
    if limit and limit < wanted:
        found.append(
            warn(
                WHAT,
                f"it takes {limit} bytes ({_mebibytes(limit)}) at most; larger messages are refused "
                f"(max_message is {_mebibytes(wanted)})",
            )
        )
    if not offered.smtputf8:
        found.append(
            good(WHAT, "it offers no SMTPUTF8: addresses like jörg@example.org are refused, others are not touched")
        )
    return found


def _mebibytes(size: int) -> str:
    """Return *size* in MiB, rounded down: what is said to fit does."""
    return f"{size * 10 // (1 << 20) / 10:g} MiB"


def _dsn(settings: Settings, offered: Capabilities) -> Finding:
    if offered.dsn:
        return good(WHAT, "it offers DSN: it will report delivery, or hand the request on")
    if settings.submission.without_dsn == "refuse":
        return fail(WHAT, 'it offers no DSN and without_dsn = "refuse": every message would fail; use another relay')
    return warn(
        WHAT,
        "it offers no DSN: failures come back, but nobody reports success; require no more than accepted "
        "(or displayed, where readers confirm), or use another relay",
    )
