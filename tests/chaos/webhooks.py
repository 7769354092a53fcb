"""The webhook receiver: it checks form and signature with code of its own, and faults as receivers do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time

from tests.chaos.journal import Journal, Post, Weather

KEY = b"a key of thirty-two octets or so"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """Listens on one port; the path names the endpoint."""

    def __init__(self, journal: Journal, weather: Weather) -> None:
        self.journal, self.weather = journal, weather
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server:
            self._server.close()

    def url(self, endpoint: str) -> str:
        return f"http://127.0.0.1:{self.port}/{endpoint}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._post(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one POST; False where the connection ends."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        made = _read(head[0].split(" ")[1].strip("/"), headers, body)
        self.journal.posts.append(made)
        status = self._fault()
        if status is None:
            return False
        if status == 0:
            await asyncio.sleep(4)
            return False
        made.answered = status
        extra = "retry-after: 1\r\n" if status == 429 else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{extra}content-length: 0\r\n\r\n".encode())
        await writer.drain()
        return True

    def _fault(self) -> int | None:
        """Return the status to answer: 204 unless a fault strikes, None to drop, 0 to hang."""
        faults = ((0.03, "500", 500), (0.02, "429", 429), (0.02, "drop after receipt", None), (0.002, "time-out", 0))
        for probability, what, status in faults:
            if self.weather.strikes(probability):
                self.journal.strike(f"webhook: {what}")
                return status
        return 204


def _read(endpoint: str, headers: dict[str, str], body: bytes) -> Post:
    problem, payload = None, {}
    try:
        payload = json.loads(body)
        signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
        wanted = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        if headers["webhook-signature"] != wanted:
            problem = "the signature is wrong"
        elif abs(time.time() - int(headers["webhook-timestamp"])) > 60:
            problem = "the timestamp is off"
        elif len(body) > 20_000 or set(payload) != {"type", "timestamp", "data"}:
            problem = "the body is too long or has other members"
    except (KeyError, ValueError) as fault:
        problem = f"not a webhook: {fault!r}"
    return Post(
        time.time(), endpoint, headers.get("webhook-id", ""), payload.get("type", ""), payload.get("data", {}), problem
    )
