"""One request to the daemon and its answer: over its Unix socket, or over TCP.

Most requests go over the Unix socket, and http.client takes longer to import than all else that send-with-receipt does:
so only TCP gets it, and whoever needs no more than the socket finds one request and one answer written here.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

_SOME = 1 << 16


class Answer(NamedTuple):
    """An answer as it came: *body* is read to its end."""

    status: int
    reason: str
    body: bytes


class Ended(Exception):
    """The connection ended before the answer did, or what came is no HTTP."""


class Connection(Protocol):
    """A connection for one request."""

    @property
    def name(self) -> str:
        """Where it leads, in words."""

    def connect(self, seconds: float) -> None:
        """Connect within so many seconds; OSError where nobody answers."""

    def ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> Answer:
        """Return the answer; Ended or OSError where there is none. Nothing may be silent for longer than *seconds*."""

    def close(self) -> None: ...


class UnixConnection:
    """HTTP/1.0 over the Unix socket at *path*: the server ends the connection with the answer (RFC 1945 §7.2.2)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None

    @property
    def name(self) -> str:
        """The path of the socket."""
        return str(self.path)

    def connect(self, seconds: float) -> None:
        """Connect to the socket."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect(str(self.path))
        except OSError:
            made.close()
            raise
        self._socket = made

    def ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> Answer:
        """Send the request whole, then read to the end."""
        if self._socket is None:
            raise Ended("it is not connected")
        self._socket.settimeout(seconds)
        lengths = {"Content-Length": str(len(body))} if body is not None else {}
        fields = {"Host": "localhost", **lengths, **headers}
        head = "".join(f"{name}: {_line(value)}\r\n" for name, value in fields.items())
        with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it read all, as 413 does
            self._socket.sendall(f"{method} {_line(target)} HTTP/1.0\r\n{head}\r\n".encode("ascii") + (body or b""))
        received = bytearray()
        try:
            while some := self._socket.recv(_SOME):
                received += some
        except ConnectionResetError:  # what it never read of the request resets the connection behind the answer
            if not received:
                raise
        return _parse(bytes(received))

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _line(text: str) -> str:
    """Return *text* if it may stand in a line of a request; a line break in it would begin another one."""
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r} can't stand in a request")
    return text


def _parse(received: bytes) -> Answer:
    head, end, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    if not end or not version.startswith("HTTP/1.") or not code.isdecimal():
        raise Ended("the answer is no HTTP" if received else "it ended without an answer")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = fields.get("content-length", "")
    if length.isdecimal() and len(body) < int(length):
        raise Ended(f"{len(body)} of {length} octets came")
    return Answer(int(code), reason, body)


class TcpConnection:
    """HTTP/1.1 over TCP, with TLS if *https*."""

    def __init__(self, host: str, port: int | None, *, https: bool) -> None:
        from http import client as http

        try:
            self._connection = (http.HTTPSConnection if https else http.HTTPConnection)(host, port)
        except http.InvalidURL as fault:
            raise ValueError(str(fault)) from fault
        self._fault = http.HTTPException

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self._connection.host}:{self._connection.port}"

    def connect(self, seconds: float) -> None:
        """Connect, and with TLS agree on a key."""
        self._connection.timeout = seconds
        self._connection.connect()

    def ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> Answer:
        """Send the request, then read the answer."""
        self._connection.sock.settimeout(seconds)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(method, target, body, dict(headers))
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.reason, answer.read())
        except self._fault as fault:
            raise Ended(str(fault) or type(fault).__name__) from fault

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
