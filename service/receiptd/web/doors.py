"""Who asks: the sockets we listen on, and what each lets its callers do."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import hmac
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiptd import systemd
from receiptd.errors import BadSettings, CantCreate
from receiptd.settings import Listen, Settings, read_secret
from receiptd.web.problems import Forbidden, Unauthorized

OVERFLOW_UID = 65534
"""What every foreign uid reads as in a user namespace: nobody in particular, so it owns nothing."""

_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by the name under which messages are kept, and what that one may do."""

    owner: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the caller has *scope*; operating includes all, reading is reading everybody's."""
        return scope in self.scopes or "operate" in self.scopes

    @property
    def is_anybody(self) -> bool:
        """Whether the socket can't tell this caller from others."""
        return self.owner == f"uid:{OVERFLOW_UID}"

    @property
    def sees(self) -> str | None:
        """Whose messages the caller sees: None means everybody's."""
        if self.may("read"):
            return None
        if self.is_anybody:
            raise Forbidden("this socket can't tell who you are, so it can't tell which messages are yours")
        return self.owner


class PeerProtocol(H11Protocol):
    """HTTP/1.1 whose `client` on a Unix socket is the peer's uid and pid (SO_PEERCRED), not nothing."""

    def connection_made(self, transport) -> None:  # type: ignore[no-untyped-def]
        """Note who is at the other end before the first byte is read."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, _ = struct.unpack("3i", packed)
            self.client = (f"uid:{uid}", pid)
            self.server = (sock.getsockname(), None)


def caller_of(request: Request, settings: Settings) -> Caller:
    """Return who makes *request*; raise Unauthorized where a token is missing or wrong."""
    path, port = request.scope["server"]
    if port is None:
        listen = next(one for one in settings.service.listen if one.unix is not None and str(one.unix) == path)
        return Caller(request.scope["client"][0], frozenset({listen.scope}))
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        for token in settings.service.token:
            if hmac.compare_digest(read_secret(token.secret_file).encode(), given.strip().encode()):
                return Caller(f"token:{token.name}", frozenset(token.scopes))
    raise Unauthorized(
        "over TCP every request needs Authorization: Bearer and a token of the settings ([[service.token]])"
    )


def open_doors(settings: Settings) -> list[socket.socket]:
    """Bind every socket of the settings that systemd did not pass; raise CantCreate for one that can't be bound."""
    passed = {_name(door): door for door in systemd.passed_sockets().values()}
    with contextlib.ExitStack() as opened:
        doors = [
            opened.enter_context(passed.pop(_address(one)) if _address(one) in passed else _open(one))
            for one in settings.service.listen
        ]
        opened.pop_all()
    for left in passed.values():
        left.close()
    return doors


def _address(listen: Listen) -> str:
    return str(listen.unix or listen.tcp)


def _name(door: socket.socket) -> str:
    """Return the address of a socket as `listen` writes it."""
    name = door.getsockname()
    return name if isinstance(name, str) else f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _open(listen: Listen) -> socket.socket:
    return _unix(listen) if listen.unix is not None else _tcp(listen.tcp or "")


class _Ours(socket.socket):
    """A Unix socket that we made and therefore remove; what systemd passes is systemd's to remove."""


def _unix(listen: Listen) -> socket.socket:
    path = listen.unix or Path()
    door = _Ours(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(path)
        # Nobody gets in between bind and chmod.
        before = os.umask(0o177)
        try:
            door.bind(str(path))
        finally:
            os.umask(before)
        if listen.group is not None:
            os.chown(path, -1, grp.getgrnam(listen.group).gr_gid)
        path.chmod(int(listen.mode, 8))
    except KeyError as error:
        door.close()
        raise BadSettings(f"there is no group {listen.group!r} for {path}: create it, or name another") from error
    except OSError as error:
        door.close()
        raise CantCreate(f"the socket {path} can't be made: {error.strerror or error}") from error
    door.listen(_BACKLOG)
    return door


def _remove_left_over(path: Path) -> None:
    """Remove the socket of a daemon that is gone; refuse to take one over that answers."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(0, "a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(0, "another daemon listens there")
    path.unlink()


def _tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host.strip("[]"), int(port)))
    except OSError as error:
        door.close()
        raise CantCreate(f"can't listen on {address}: {error.strerror or error}") from error
    door.listen(_BACKLOG)
    return door


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@contextlib.asynccontextmanager
async def serving(app: FastAPI, doors: list[socket.socket]) -> AsyncIterator[None]:
    """Serve *app* behind *doors* for as long as the context lasts; answers under way are finished, streams end."""
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    ours = [Path(door.getsockname()) for door in doors if isinstance(door, _Ours)]
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=doors))
    try:
        yield
    finally:
        app.state.house.closing.set()
        server.should_exit = True
        await task
        for path in ours:
            path.unlink(missing_ok=True)
