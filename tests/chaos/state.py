"""The end state, read through the API alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.chaos.http import NotSent, Unanswered, ask

Json = dict[str, Any]


def instant(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def deadline_of(row: Mapping[str, Any]) -> float | None:
    """Return the deadline of a recipient, to the second; None where nothing was submitted."""
    return instant(row["deadline"])


def events_of(events: Iterable[Mapping[str, Any]], recipient: str, kind: str) -> list[Mapping[str, Any]]:
    return [event for event in events if event["recipient"] == recipient and event["kind"] == kind]


async def read(socket: Path, target: str) -> Any:
    """Return what GET *target* shows; try until somebody answers, for a minute."""
    for _ in range(120):
        try:
            status, shown = await ask(socket, "GET", target)
        except (NotSent, Unanswered):
            status, shown = 0, None
        if status == 200:
            return shown
        if status == 404:
            return None
        await asyncio.sleep(0.5)
    raise TimeoutError(f"nobody answers GET {target} on {socket}")


async def messages(socket: Path) -> dict[str, Json]:
    """Return all messages by id, without their events."""
    found: dict[str, Json] = {}
    after = ""
    while True:
        page = await read(socket, f"/v1/messages?limit=200{after}")
        found |= {message["id"]: message for message in page["items"]}
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


async def details(socket: Path, keys: Sequence[str]) -> dict[str, Json]:
    """Return messages with their events, a few at a time."""
    found: dict[str, Json] = {}
    for start in range(0, len(keys), 8):
        some = keys[start : start + 8]
        shown = await asyncio.gather(*(read(socket, f"/v1/messages/{key}") for key in some))
        found |= {message["id"]: message for message in shown if message}
    return found
