"""A webhook receiver over real HTTP that believes only what the standardwebhooks package verifies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Alert:
    """One webhook that was verified: at which endpoint, under which id, and what it says."""

    endpoint: str
    id: str
    type: str
    data: dict[str, Any]

    @property
    def address(self) -> str | None:
        recipient = self.data.get("recipient") or {}
        address: str | None = recipient.get("address")
        return address


@dataclass
class Receiver:
    """Listens on a free port; `answers` decides the status for an endpoint, by default 204."""

    alerts: list[Alert] = field(default_factory=list)
    posts: list[tuple[str, str]] = field(default_factory=list)
    """Every POST, taken or not, as (endpoint, webhook-id)."""
    answers: Callable[[str], int] = lambda _: 204
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every answer."""
    secret: str = SECRET

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert len(body) < 20_000
                payload = Webhook(receiver.secret).verify(body, dict(self.headers.items()))
                endpoint, webhook_id = self.path.strip("/"), self.headers["webhook-id"]
                receiver.posts.append((endpoint, webhook_id))
                status = receiver.answers(endpoint)
                if status < 300:
                    receiver.alerts.append(Alert(endpoint, webhook_id, payload["type"], payload["data"]))
                self.send_response(status)
                for name, value in {"content-length": "0", **receiver.headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def url(self, endpoint: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{endpoint}"

    def about(self, address: str) -> list[Alert]:
        return [alert for alert in self.alerts if alert.address == address]

    def wait_for(self, kind: str, *, address: str | None = None, within: float = 60) -> Alert:
        """Return the first alert of a type (about *address*); fail if none comes within so many seconds."""
        give_up = time.monotonic() + within
        while True:
            for alert in list(self.alerts):
                if alert.type == kind and address in (None, alert.address):
                    return alert
            came = json.dumps([(alert.type, alert.address) for alert in self.alerts])
            assert time.monotonic() < give_up, f"no {kind} about {address} within {within} s; there came {came}"
            time.sleep(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
