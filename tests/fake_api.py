"""A small real HTTP server that speaks API v1 over a Unix socket or TCP, for tests of the commands."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from receiptd.compose import Attachment, Draft, Letter, adopt, compose
from receiptd.errors import BadData

Answer = tuple[int, Any]


@dataclass
class Request:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeAPI:
    """What was asked, what was taken, and what shall be answered."""

    requests: list[Request] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    states: list[dict[str, dict[str, str]]] = field(default_factory=list)
    """The states of each recipient by address, one entry a look at the message; the last one stays."""
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """What (method, path) is answered with, instead of the usual."""
    warnings: list[str] = field(default_factory=list)
    token: str | None = None
    url: str = ""
    socket: Path | None = None

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return problem(401, "the token is not known", 77)
        if given := self.answers.get((request.method, request.path)):
            return given
        try:
            return self._usual(request)
        except BadData as error:
            return problem(422, str(error), 65)

    def _usual(self, request: Request) -> Answer:
        match request.method, request.path.removeprefix("/v1/").split("/"):
            case "POST", ["messages"]:
                return self._take(request)
            case "GET", ["messages", "m1"]:
                return 200, self._message()
            case _:
                return problem(404, f"there is no {request.path}", 65)

    def _take(self, request: Request) -> Answer:
        now = datetime.now(UTC)
        if request.headers["Content-Type"] == "message/rfc822":
            letter = adopt(request.body, now=now, to=[value for name, value in request.query if name == "to"])
        else:
            letter = compose(drafted(request.json), now=now)
        self.letters.append(letter)
        recipients = [{"id": f"r{n}", "address": it.address} for n, it in enumerate(letter.recipients, 1)]
        taken = {"id": "m1", "message_id": letter.message_id, "recipients": recipients, "warnings": self.warnings}
        return 202, taken

    def _message(self) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0] if self.states else {}
        letter = self.letters[-1]
        recipients = [
            recipient(f"r{n}", it.address, **state.get(it.address, {})) for n, it in enumerate(letter.recipients, 1)
        ]
        return message(recipients, subject=letter.subject, events=self.events)


def recipient(name: str, address: str, **state: Any) -> dict[str, Any]:
    return {
        "id": name,
        "address": address,
        "role": "to",
        "require": "relayed",
        "deadline": "2026-11-24T13:30:00Z",
        "delivery": "queued",
        "disposition": "none",
        "receipt": "open",
        "level": None,
        "dsn_requested": True,
        "mdn_requested": True,
        "trust": None,
        "branches": [],
        **state,
    }


def message(recipients: list[dict[str, Any]], name: str = "m1", **values: Any) -> dict[str, Any]:
    return {
        "id": name,
        "message_id": "<1@a.org>",
        "from": "me@a.org",
        "subject": "Contract",
        "created_at": "2026-11-24T09:30:00Z",
        "policy": "default",
        "labels": {},
        "recipients": recipients,
        "events": [],
        **values,
    }


def problem(status: int, detail: str, exit_status: int) -> Answer:
    return status, {
        "type": "about:blank",
        "title": "No",
        "status": status,
        "detail": detail,
        "exit_status": exit_status,
    }


def drafted(body: dict[str, Any]) -> Draft:
    """Return the draft that a JSON body means."""
    known = {"from", "to", "cc", "bcc", "subject", "text", "html", "attachments", "headers"}
    assert body.keys() <= known | {"policy", "require", "within", "labels", "mdn", "require_all"}
    return Draft(
        from_=body["from"],
        to=tuple(body.get("to", ())),
        cc=tuple(body.get("cc", ())),
        bcc=tuple(body.get("bcc", ())),
        subject=body.get("subject", ""),
        text=body.get("text"),
        html=body.get("html"),
        attachments=tuple(
            Attachment(it["filename"], it["content_type"], base64.b64decode(it["content"]))
            for it in body.get("attachments", ())
        ),
        headers=tuple(body.get("headers", {}).items()),
    )


@contextmanager
def serve(path: Path | None = None, token: str | None = None) -> Iterator[FakeAPI]:
    """Serve on the Unix socket at *path*, or on a free TCP port of the loopback."""
    api = FakeAPI(token=token, socket=path)
    handler = type("Handler", (_Handler,), {"api": api})
    server = _Server(str(path), handler) if path else ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = "" if path else f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def __init__(self, path: str, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(path, handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("unix", 0)


class _Handler(BaseHTTPRequestHandler):
    api: FakeAPI
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, unquote(url.path), parse_qsl(url.query), dict(self.headers), body)
        status, value = self.api.answer(request)
        answer = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing: the tests look at `requests`."""
