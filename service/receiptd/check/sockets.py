"""Can every socket of the settings be opened, and does its traffic stay private?"""

from __future__ import annotations

import asyncio
import grp
import os
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from urllib.parse import urlsplit

from receiptd.check.finding import Finding, fail, good, warn
from receiptd.errors import CantCreate
from receiptd.mail.loopback import is_loopback
from receiptd.settings import Listen, Settings
from receiptd.transport import abort
from receiptd.web import listeners

WHAT = "listen"
TIMEOUT = 2.0
_LONGEST_PATH = 107
"""Octets; sockaddr_un has 108, and the last one is zero."""
_RUN = Path("/run")
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ANSWER = b'"alive"'


async def findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Yield what is found at each address, without leaving anything there."""
    for listen in settings.service.listen:
        if listen.unix is not None:
            yield await _unix(listen, listen.unix)
        elif listen.tcp is not None:
            yield await _tcp(listen.tcp)
            if not is_loopback(_host_and_port(listen.tcp)[0]):
                yield warn(
                    WHAT,
                    f"what goes through {listen.tcp}, tokens too, can be read on the way: listen on 127.0.0.1 "
                    "and put a proxy with TLS before it",
                )


async def _unix(listen: Listen, path: Path) -> Finding:
    try:
        obstacle = _obstacle(listen, path)
    except PermissionError:
        obstacle = fail(WHAT, f"this user may not look into {path.parent}: check as the user that runs receiptd")
    if obstacle is not None:
        return obstacle
    answer = await _probe(asyncio.open_unix_connection(path))
    if answer is not None:
        return _listening(str(path), answer)
    if not os.access(path.parent, os.W_OK):
        return fail(WHAT, f"{path.parent} is not writable for this user: check as the user that runs receiptd")
    return good(WHAT, f"{path} can be made")


def _obstacle(listen: Listen, path: Path) -> Finding | None:
    """Return what is in the way of a socket at *path*, whoever makes it."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return fail(WHAT, f"the path {path} is longer than {_LONGEST_PATH} octets, too long for a socket: shorten it")
    if listen.group is not None and not _is_group(listen.group):
        return fail(WHAT, f"there is no group {listen.group!r} for {path}: create it, or name another")
    if not path.parent.is_dir():
        return _no_folder(path)
    if path.exists() and not path.is_socket():
        return fail(WHAT, f"{path} is a file and no socket: take it away, or name another path")
    return None


def _no_folder(path: Path) -> Finding:
    if path.parent.parent == _RUN:
        return warn(
            WHAT,
            f"there is no folder {path.parent} for {path.name} yet: systemd makes it at the start "
            "(RuntimeDirectory=); without systemd, make it yourself",
        )
    return fail(WHAT, f"there is no folder {path.parent} for {path.name}: make it, or correct the path")


async def _tcp(address: str) -> Finding:
    try:
        listeners.bind_tcp(address).close()
    except CantCreate as error:
        answer = await _probe(asyncio.open_connection(*_host_and_port(address)))
        return fail(WHAT, str(error)) if answer is None else _listening(address, answer)
    return good(WHAT, f"{address} is free")


def _listening(address: str, answer: bytes) -> Finding:
    if _ANSWER in answer:
        return good(WHAT, f"a receiptd listens on {address} already")
    return fail(WHAT, f"another program listens on {address}: stop it, or name another address")


async def _probe(opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> bytes | None:
    """Return what is answered there, b"" if nothing in time; None where nobody listens."""
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await opening
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(TIMEOUT):
            writer.write(_REQUEST)
            return await reader.read()
    except (OSError, TimeoutError):
        return b""
    finally:
        abort(writer.transport)


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(f"tcp://{address}")
    return parts.hostname or "", parts.port or 0
