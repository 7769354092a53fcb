"""receiptd check: do settings, database, relay, mailboxes and webhooks work, and how to fix what doesn't."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from receiptd import settings, terminal
from receiptd.check import database, mailboxes, relay, roundtrip, sockets, webhooks
from receiptd.check.finding import Finding, fail, good, untried, warn
from receiptd.errors import BadData, BadSettings, UsageError
from receiptd.mail.address import parse_address
from receiptd.settings import Settings

__all__ = ["Finding", "run"]

_THERE_AND_BACK = (relay.findings, mailboxes.findings)
_ROOMS = (database.undelivered, sockets.findings, *_THERE_AND_BACK, webhooks.findings)


def run(config: Path | None, send: str | None = None) -> int:
    """Print one line a finding; return 0, or 1 if something doesn't work.

    With *send*, an address, a message goes there with a token of its own, and what comes back is told.
    """
    if send is not None:
        try:
            send = parse_address(send)
        except BadData as error:
            raise UsageError(f"--send: {error}") from error
    return asyncio.run(_run(config, send))


async def _run(config: Path | None, send: str | None) -> int:
    failed = False
    # A reader that has seen enough (| head) ends all of it at once, each room closing what it opened.
    async with aclosing(_findings(config, send)) as found:
        async for finding in found:
            sys.stdout.write(f"{finding.mark:<5} {finding.what:<10} {terminal.safe(finding.sentence)}\n")
            sys.stdout.flush()
            failed |= finding.is_failure
    return os.EX_OK if not failed else 1


async def _findings(config: Path | None, send: str | None) -> AsyncGenerator[Finding, None]:
    """Yield what is found, room by room; a round trip only where the way there and back is good."""
    try:
        path = settings.find(config)
        loaded = settings.load(path)
    except BadSettings as error:
        yield fail("settings", str(error))
        return
    yield good("settings", f"{path} is good")
    for finding in (*_bad_tokens(loaded), *_open_secrets(loaded), database.tables(loaded), *database.readable(loaded)):
        yield finding
    is_passable = True
    for room in _ROOMS:
        async with aclosing(room(loaded)) as found:
            async for finding in found:
                is_passable &= not (finding.is_failure and room in _THERE_AND_BACK)
                yield finding
    if send is None:
        yield untried("round trip", f"not tried; {roundtrip.invitation(loaded)}")
    elif not is_passable:
        yield fail("round trip", "not tried: first the relay and the mailbox have to work")
    else:
        async with aclosing(roundtrip.findings(loaded, send)) as found:
            async for finding in found:
                yield finding


def _bad_tokens(loaded: Settings) -> list[Finding]:
    """Return a failure for each API token with which the daemon doesn't start."""
    found = []
    for token in loaded.service.token:
        try:
            settings.read_token(token.secret_file)
        except BadSettings as error:
            found.append(fail("settings", str(error)))
    return found


def _open_secrets(loaded: Settings) -> list[Finding]:
    """Return a warning for each secret that every user of this machine can read."""
    accounts = [loaded.submission, *loaded.mailbox]
    files = [account.password_file for account in accounts] + [webhook.secret_file for webhook in loaded.webhook]
    files += [token.secret_file for token in loaded.service.token]
    return [
        warn("settings", f"every user of this machine can read {path}: chmod 600 {path}")
        for path in dict.fromkeys(file for file in files if file is not None)
        if path.exists() and path.stat().st_mode & 0o004
    ]
