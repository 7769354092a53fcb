"""The HTTP API on real sockets in front of a steps: a Unix socket for each scope, and TCP with tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

from receiptd.smtp import Capabilities
from receiptd.store.monitors import Health
from receiptd.web import AppContext, create_app, listeners
from tests.servers.ports import Ports
from tests.steps_fixture import StepsFixture, open_steps

Json = dict[str, Any]
TOKENS = {"erp": ("send",), "dashboard": ("read",), "boss": ("operate",)}
ALL = Capabilities(dsn=True, smtputf8=True, eightbitmime=True)


@dataclass
class ApiFixture:
    """A steps with its doors open: who knocks where, and how often the steps were woken."""

    steps: StepsFixture
    folder: Path
    relay: Health
    box: Health
    tcp: str = ""
    wakes: int = 0
    offered: Capabilities | None = ALL
    """What the relay said when it was last asked."""
    offers_now: Capabilities | None = None
    """What it would say now, where that is something else."""
    _clients: dict[str, httpx2.AsyncClient] = field(default_factory=dict)

    def wake(self) -> None:
        self.wakes += 1

    async def ask_relay(self) -> Capabilities | None:
        return self.offers_now or self.offered

    @property
    def api(self) -> httpx2.AsyncClient:
        """Who operates, on api.sock."""
        return self._client("api", uds=self.folder / "api.sock")

    @property
    def sender(self) -> httpx2.AsyncClient:
        """A user of this machine, on send.sock."""
        return self._client("send", uds=self.folder / "send.sock")

    def over_tcp(self, token: str | None = None) -> httpx2.AsyncClient:
        """A program on TCP with the token of that name (or one that nobody has), or with none."""
        headers = {} if token is None else {"authorization": f"Bearer {_secret(token)}"}
        return self._client(f"tcp {token}", headers=headers)

    def _client(
        self, name: str, *, uds: Path | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.AsyncClient:
        if name not in self._clients:
            transport = httpx2.AsyncHTTPTransport(uds=str(uds)) if uds else httpx2.AsyncHTTPTransport(trust_env=False)
            base = "http://localhost" if uds else f"http://{self.tcp}"
            self._clients[name] = httpx2.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=20)
        return self._clients[name]

    async def send(self, client: httpx2.AsyncClient | None = None, **message: Any) -> Json:
        """Post a letter and return what was answered to it."""
        answer = await (client or self.api).post("/v1/messages", json=letter(**message))
        assert answer.status_code == 202, answer.text
        taken: Json = answer.json()
        return taken

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def _secret(token: str) -> str:
    return f"secret-of-{token}-0123456789"


def letter(**changes: Any) -> Json:
    """Return the JSON of a letter."""
    return {"from": "office@a.test", "to": ["bob@b.test"], "subject": "An invoice", "text": "Good day."} | changes


@asynccontextmanager
async def open_api(folder: Path, **changes: Any) -> AsyncIterator[ApiFixture]:
    """Open the doors of a house in *folder*; *changes* are tables of its settings."""
    tokens, ports = [], Ports(["tcp"])
    for name, scopes in TOKENS.items():
        (folder / name).write_text(_secret(name))
        tokens.append({"name": name, "secret_file": str(folder / name), "scopes": list(scopes)})
    service = {
        "listen": [
            {"unix": str(folder / "send.sock"), "mode": "0666", "scope": "send"},
            {"unix": str(folder / "api.sock"), "mode": "0660", "scope": "operate"},
            {"tcp": f"127.0.0.1:{ports['tcp']}"},
        ],
        "max_message": "1M",
        "token": tokens,
    }
    async with AsyncExitStack() as stack:
        stack.callback(ports.release)
        steps = await stack.enter_async_context(open_steps(folder, **({"service": service} | changes)))
        server = ApiFixture(steps, folder, Health("relay:relay"), Health("mailbox:receipts"))
        sockets = listeners.bind_sockets(steps.store.settings)
        server.tcp = f"127.0.0.1:{ports['tcp']}"
        await stack.enter_async_context(listeners.serving(create_app(_context(server)), sockets))
        stack.push_async_callback(server.close)
        yield server


def _context(server: ApiFixture) -> AppContext:
    return AppContext(
        store=server.steps.store,
        relay=server.relay,
        mailboxes={"receipts": server.box},
        wake=server.wake,
        wake_submit=server.wake,
        relay_offers=lambda: server.offered,
        ask_relay=server.ask_relay,
        started_at=server.steps.instant,
    )


def instant(text: str) -> datetime:
    """Return the instant that a field of the API states: RFC 3339 in UTC, to the second."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)
