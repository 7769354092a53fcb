"""Who asks: the sockets we listen on, and what each lets its callers do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import hmac
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiptd import systemd
from receiptd.errors import BadSettings, CantCreate
from receiptd.settings import ApiToken, Listen, Settings, read_token
from receiptd.web.problems import Forbidden, Unauthorized, problem

_log = structlog.get_logger(__name__)

OVERFLOW_UID = 65534
"""What every foreign uid reads as in a user namespace: nobody in particular, so it owns nothing."""

_BACKLOG = 128
_MOST_CONNECTIONS, _CONNECTIONS_OF_ONE = 256, 128
"""Through one listener, so that TCP never shuts people's sockets; and of one uid or one IP address there."""
_HEADER_KIB = 16
_HEADER_SECONDS = 15.0
"""How long a whole header may take."""
_BODY_SECONDS, _SLOWEST = 30.0, 4096
"""How long a body may take, and for how many octets it gets a second more."""
_READING_SECONDS = 30.0
"""How often it is seen whether a peer reads its answer as fast as that."""


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
    def is_metered(self) -> bool:
        """Whether the hour's quota holds: any user of the machine may open send.sock."""
        return self.owner.startswith("uid:") and not self.may("operate")

    @property
    def sees(self) -> str | None:
        """Whose messages the caller sees: None means everybody's."""
        if self.may("read"):
            return None
        self.refuse_anybody()
        return self.owner

    def refuse_anybody(self) -> None:
        """Raise Forbidden for whom the socket can't tell from others, unless that one may see all messages."""
        if self.is_anybody and not self.may("read"):
            raise Forbidden(
                f"this socket can't tell who you are (it sees uid {OVERFLOW_UID}, as of everybody in another user "
                "namespace), so it can't tell which messages are yours: come as a user of this machine, or over TCP "
                "with a token"
            )


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that knows who is at the other end, and has patience with him for a while only.

    On a Unix socket `client` is the peer's uid and pid (SO_PEERCRED), not nothing. A peer that sends a header or
    body at a crawl, or reads no answer, is cut off: it would hold a connection, and memory, for as long as it likes.
    """

    _patience: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _waits_for_header = False
    _body_began: float | None = None
    _body_octets = 0

    def connection_made(self, transport: Any) -> None:
        """Note who is at the other end before the first byte is read."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, _ = struct.unpack("3i", packed)
            self.client = (f"uid:{uid}", pid)
            self.server = (sock.getsockname(), None)
        if limit := self._exceeded():
            self._say(problem(429, f"too many connections: {limit} at a time; try again soon", os.EX_TEMPFAIL))
        else:
            self._wait_for_header()

    def _exceeded(self) -> str | None:
        """Return the limit that this connection exceeds, as words."""
        beside = [one for one in self.connections if isinstance(one, PeerProtocol) and one.door == self.door]
        if sum(one.peer == self.peer for one in beside) > _CONNECTIONS_OF_ONE:
            return f"{self.peer} may have {_CONNECTIONS_OF_ONE}"
        if len(beside) > _MOST_CONNECTIONS:
            return f"all callers of {self.door} may have {_MOST_CONNECTIONS}"
        return None

    @property
    def peer(self) -> str:
        """Who is at the other end, without the port or process that is another's each time."""
        return self.client[0] if self.client else ""

    @property
    def door(self) -> str:
        """The listener it came through: a path, or a port (where we listen on all addresses, each is another)."""
        if self.server is None:
            return ""
        path, port = self.server
        return path if port is None else f"TCP port {port}"

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait(None)
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; wait for the rest of it as long as it comes fast enough."""
        super().data_received(data)
        self._look_at_the_peer(len(data))

    def on_response_complete(self) -> None:
        """Turn to what the peer has sent meanwhile."""
        super().on_response_complete()
        self._look_at_the_peer(0)

    def _look_at_the_peer(self, octets: int) -> None:
        if self.transport.is_closing():
            return
        state = self.conn.their_state
        if state is not h11.SEND_BODY:
            self._body_began = None
        if state is h11.SEND_BODY:
            self._wait_for_body(octets)
        elif state is not h11.IDLE or self.timeout_keep_alive_task is not None:
            self._wait(None)
        elif not self._waits_for_header:
            self._wait_for_header()

    def _wait_for_header(self) -> None:
        self._wait(self.loop.time() + _HEADER_SECONDS)
        self._waits_for_header = True

    def _wait_for_body(self, octets: int) -> None:
        if self._body_began is None:
            self._body_began, self._body_octets = self.loop.time(), 0
        self._body_octets += octets
        self._wait(self._body_began + _BODY_SECONDS + self._body_octets / _SLOWEST)

    def _wait(self, until: float | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None if until is None else self.loop.call_at(until, self.transport.abort)
        self._waits_for_header = False

    def pause_writing(self) -> None:
        """See whether the peer reads on."""
        super().pause_writing()
        self._see_it_reading(self.transport.get_write_buffer_size())

    def _see_it_reading(self, unread: int) -> None:
        self._reading = self.loop.call_later(_READING_SECONDS, self._look_at_its_reading, unread)

    def _look_at_its_reading(self, unread: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > unread - _READING_SECONDS * _SLOWEST:
            self.transport.abort()
        else:
            self._see_it_reading(left)

    def resume_writing(self) -> None:
        """Be content: the peer has read on."""
        if self._reading is not None:
            self._reading.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as all else is answered."""
        self._say(problem(400, f"this is no HTTP request, or its header has more than {_HEADER_KIB} KiB", os.EX_USAGE))

    def _say(self, answer: Response) -> None:
        """Say the last on this connection."""
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (h11.Response(status_code=answer.status_code, headers=headers), h11.Data(data=bytes(answer.body))):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()


def caller_of(request: Request, settings: Settings) -> Caller:
    """Return who makes *request*; raise Unauthorized where a token is missing or wrong."""
    path, port = request.scope["server"]
    if port is None:
        listen = next(one for one in settings.service.listen if one.unix is not None and str(one.unix) == path)
        return Caller(request.scope["client"][0], frozenset({listen.scope}))
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        for token in settings.service.token:
            if _is(token, given.strip()):
                return Caller(f"token:{token.name}", frozenset(token.scopes))
    raise Unauthorized(
        "over TCP every request needs Authorization: Bearer and a token of the settings ([[service.token]])"
    )


def _is(token: ApiToken, given: str) -> bool:
    try:
        secret = read_token(token.secret_file)
    except BadSettings as fault:
        # What is wrong with one token shuts nobody else out, and is no matter of whoever knocks.
        _log.error("an API token lets nobody in", token=token.name, reason=str(fault))
        return False
    return hmac.compare_digest(secret.encode(), given.encode())


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
    return _unix(listen) if listen.unix is not None else open_tcp(listen.tcp or "")


class _Ours(socket.socket):
    """A Unix socket that we made and therefore remove; what systemd passes is systemd's to remove."""


def _unix(listen: Listen) -> socket.socket:
    path = listen.unix or Path()
    door = _Ours(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_over(path)
        # Nobody gets in between bind and chmod.
        before = os.umask(0o177)
        try:
            door.bind(str(path))
        finally:
            os.umask(before)
        mode = int(listen.mode, 8)
        if listen.group is None or grp.getgrnam(listen.group).gr_gid == os.getegid():
            path.chmod(mode)
        else:
            _open_to_group(path, grp.getgrnam(listen.group).gr_gid, mode)
    except KeyError as error:
        door.close()
        raise BadSettings(f"there is no group {listen.group!r} for {path}: create it, or name another") from error
    except OSError as error:
        door.close()
        raise CantCreate(f"the socket {path} can't be made: {_why(error, path)}") from error
    door.listen(_BACKLOG)
    return door


def _open_to_group(path: Path, gid: int, mode: int) -> None:
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


def open_tcp(address: str) -> socket.socket:
    """Listen on *address*, HOST:PORT; raise CantCreate where that can't be."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    # Named as TCP, for asyncio then sends each answer at once; else its end waits 40 ms for the peer's ACK.
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with room for more who wait than are taken at a time."""
        await super().startup(sockets)
        for door in sockets or ():
            door.listen(_BACKLOG)


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
        # asyncio takes as many connections in a row as the backlog has, and where no descriptor is free it fails,
        # logs and comes back that often: one at a time makes that one a second.
        backlog=1,
        h11_max_incomplete_event_size=_HEADER_KIB * 1024,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    ours = [Path(door.getsockname()) for door in doors if isinstance(door, _Ours)]
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=doors))
    try:
        yield
    finally:
        app.state.context.closing.set()
        server.should_exit = True
        await task
        for path in ours:
            path.unlink(missing_ok=True)
