"""The sockets that the API listens on, and the server behind them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from receiptd import systemd
from receiptd.errors import BadSettings, CantCreate
from receiptd.settings import Listen, Settings
from receiptd.web.protocol import HEADER_KIB, PeerProtocol

_BACKLOG = 128


def bind_sockets(settings: Settings) -> list[socket.socket]:
    """Bind every socket of the settings that systemd did not pass; raise CantCreate for one that can't be bound."""
    passed = {_name(sock): sock for sock in systemd.passed_sockets().values()}
    with contextlib.ExitStack() as opened:
        sockets = [
            opened.enter_context(passed.pop(_address(one)) if _address(one) in passed else _bind(one))
            for one in settings.service.listen
        ]
        opened.pop_all()
    for left in passed.values():
        left.close()
    return sockets


def _address(listen: Listen) -> str:
    return str(listen.unix or listen.tcp)


def _name(sock: socket.socket) -> str:
    """Return the address of a socket as `listen` writes it."""
    name = sock.getsockname()
    return name if isinstance(name, str) else f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _bind(listen: Listen) -> socket.socket:
    return _bind_unix(listen) if listen.unix is not None else bind_tcp(listen.tcp or "")


class _OwnSocket(socket.socket):
    """A Unix socket that we made and therefore remove; systemd removes those that it passes."""


def _bind_unix(listen: Listen) -> socket.socket:
    path = listen.unix or Path()
    sock = _OwnSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_over(path)
        # Nobody can connect between bind and chmod.
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        mode = int(listen.mode, 8)
        if listen.group is None or grp.getgrnam(listen.group).gr_gid == os.getegid():
            path.chmod(mode)
        else:
            _grant_group(path, grp.getgrnam(listen.group).gr_gid, mode)
    except KeyError as error:
        sock.close()
        raise BadSettings(f"there is no group {listen.group!r} for {path}: create it, or name another") from error
    except OSError as error:
        sock.close()
        raise CantCreate(f"the socket {path} can't be made: {_why(error, path)}") from error
    sock.listen(_BACKLOG)
    return sock


def _grant_group(path: Path, gid: int, mode: int) -> None:
    """Give *path* the *mode*, with what it says for the group said for *gid*, by an access control list (acl(5)).

    Only root may chown to a group that it isn't in, and the unit's SystemCallFilter lets nobody; this an owner may.
    """
    owner, group, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    entries = [(0x01, owner, -1), (0x04, 0, -1), (0x08, group, gid), (0x10, group, -1), (0x20, others, -1)]
    packed = b"".join(struct.pack("<HHI", tag, may, number & 0xFFFFFFFF) for tag, may, number in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


def _why(error: OSError, path: Path) -> str:
    if error.errno == errno.ENOTSUP:
        return "its file system keeps no access control lists, so it can't have a `group`: put it below /run"
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path.parent}; make it, or correct [service] listen"
    return error.strerror or str(error)


def _remove_left_over(path: Path) -> None:
    """Remove the socket of a daemon that is gone; refuse to take one over that answers."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(0, "a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(0, "another daemon listens there")
    path.unlink(missing_ok=True)


def bind_tcp(address: str) -> socket.socket:
    """Listen on *address*, HOST:PORT; raise CantCreate where that can't be."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    # Named as TCP, for asyncio then sends each answer at once; else its end waits 40 ms for the peer's ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), int(port)))
    except OSError as error:
        sock.close()
        raise CantCreate(f"can't listen on {address}: {error.strerror or error}") from error
    sock.listen(_BACKLOG)
    return sock


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, as the daemon decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with a longer queue of connections than uvicorn accepts at a time."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_BACKLOG)


@contextlib.asynccontextmanager
async def serving(app: FastAPI, sockets: list[socket.socket]) -> AsyncIterator[None]:
    """Serve *app* behind *sockets* for as long as the context lasts; answers under way are finished, streams end."""
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # asyncio takes as many connections in a row as the backlog has, and where no descriptor is free it fails,
        # logs and comes back that often: one at a time makes that one a second.
        backlog=1,
        h11_max_incomplete_event_size=HEADER_KIB * 1024,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    ours = [Path(sock.getsockname()) for sock in sockets if isinstance(sock, _OwnSocket)]
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=sockets))
    try:
        yield
    finally:
        app.state.context.closing.set()
        server.should_exit = True
        await task
        for path in ours:
            path.unlink(missing_ok=True)
