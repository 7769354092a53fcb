"""The webhook receiver: real HTTP, believes nothing without a valid Standard Webhooks signature."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import socketserver
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TOLERANCE = 5 * 60
"""Seconds a timestamp may be off: what the Standard Webhooks libraries allow against replays."""
_MAX_BODY = 20_000


class Forged(Exception):
    """A post whose signature, timestamp or form doesn't hold."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One webhook that arrived: at which endpoint, under which id, and what it says."""

    webhook: str
    id: str
    type: str
    data: Mapping[str, Any]
    received_at: float
    """Monotonic seconds."""

    @property
    def escalation(self) -> int:
        """The level told, from 1; 0 where the alert names none."""
        value = self.data.get("escalation")
        return value if isinstance(value, int) else 0

    @property
    def late(self) -> bool:
        return self.data.get("late") is True

    def concerns(self, address: str) -> bool:
        """Return whether *address* is the recipient, or one of a group."""
        people = [self.data.get("recipient"), *(self.data.get("recipients") or [])]
        return any(isinstance(person, dict) and person.get("address") == address for person in people)


def new_secret() -> str:
    """Return a signing secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Raise Forged unless *body* carries a signature made with *secret*, not older or newer than five minutes."""
    webhook_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    if not webhook_id or not timestamp or not timestamp.isdecimal():
        raise Forged("webhook-id or webhook-timestamp is missing")
    if abs(now - int(timestamp)) > _TOLERANCE:
        raise Forged("webhook-timestamp is more than five minutes off")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    for given in (headers.get("webhook-signature") or "").split():
        version, _, signature = given.partition(",")
        if version == "v1" and hmac.compare_digest(_decoded(signature), expected):
            return
    raise Forged("no webhook-signature fits")


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Bind without asking DNS for our name, as http.server would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]


@dataclass
class Receiver:
    """Endpoints /NAME on a free loopback port, one secret each; *status* is what it answers to a good post."""

    secrets: Mapping[str, str]
    status: int = 204
    port: int = 0
    alerts: list[Alert] = field(default_factory=list)
    """Every alert once per endpoint, in order of arrival; a repetition of the same webhook-id is no second one."""
    forged: list[str] = field(default_factory=list)
    posts: int = 0
    _server: _Server | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Listen in a thread; after a stop, on the same port again."""
        receiver = self

        class Handler(_Handler):
            def do_POST(self) -> None:
                self.answer(receiver)

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = None

    def take(self, name: str, headers: Mapping[str, str], body: bytes) -> int:
        """Judge one post and return the status to answer with."""
        with self._lock:
            self.posts += 1
            if name not in self.secrets:
                return 404
            try:
                verify(self.secrets[name], headers, body, now=time.time())
                alert = _read(name, headers["webhook-id"], body)
            except Forged as why:
                self.forged.append(str(why))
                return 401
            seen = any(known.id == alert.id and known.webhook == name for known in self.alerts)
            if 200 <= self.status < 300 and not seen:
                self.alerts.append(alert)
            return self.status


class _Handler(BaseHTTPRequestHandler):
    timeout = 15

    def answer(self, receiver: Receiver) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self.send_response(413 if length.isdecimal() else 411)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.take(self.path.strip("/"), headers, self.rfile.read(int(length))))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Say nothing: the story tells what arrives."""


def _read(name: str, webhook_id: str, body: bytes) -> Alert:
    try:
        content = json.loads(body)
        return Alert(name, webhook_id, str(content["type"]), dict(content["data"]), time.monotonic())
    except (ValueError, KeyError, TypeError) as wrong:
        raise Forged("the body is no alert") from wrong


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except binascii.Error:
        return b""
