"""HTTP over a daemon's Unix socket, as curl speaks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class NotSent(Exception):
    """Nobody took the connection: the request never reached a daemon."""


class Unanswered(Exception):
    """The request was sent and no whole answer came: what became of it isn't known."""


async def ask(
    path: Path, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Return status and JSON of the answer."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=2**24)
    except OSError as fault:
        raise NotSent from fault
    try:
        content = b"" if body is None else json.dumps(body).encode()
        fields = {"host": "localhost", "connection": "close", "content-length": str(len(content)), **(headers or {})}
        if content:
            fields["content-type"] = "application/json"
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content)
        await writer.drain()
        answer, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        lines = answer.decode("latin-1").split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")), -1)
        if length < 0 or len(rest) < length:
            raise Unanswered
        return int(lines[0].split(" ")[1]), json.loads(rest or b"null")
    except (OSError, ValueError, IndexError) as fault:
        raise Unanswered from fault
    finally:
        writer.transport.abort()
