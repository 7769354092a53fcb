"""What an endpoint is told of an alert: JSON of bounded length, without what it must not see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from receiptd.mail.timestamps import rfc3339

LONGEST = 20_000
"""Octets that a body stays below, as Standard Webhooks advises."""
_WORDS = ("reason", "excerpt")
_TELLING = 4
"""A subject of fewer characters stands in too many words to be struck out of them."""


def body_of(kind: str, created_at: datetime, data: dict[str, Any], omit: tuple[str, ...]) -> bytes:
    """Return the JSON body of an alert: what is too long is cut, however long senders and servers write."""
    shown = _without(data, omit)
    for longest in (500, 200, 100, 50):
        body = _encoded({"type": kind, "timestamp": rfc3339(created_at), "data": shown})
        if len(body) < LONGEST:
            return body
        shown = _cut(shown, longest)
    shown["message"] = {**shown.get("message", {}), "labels": {}}
    return _encoded({"type": kind, "timestamp": rfc3339(created_at), "data": shown})


def _encoded(body: dict[str, Any]) -> bytes:
    # Foreign text may hold half a surrogate pair, which has no UTF-8: that must not keep the alert from anybody.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _cut(value: Any, longest: int) -> Any:
    """Return *value* with its texts, and lists of them, no longer than *longest*."""
    if isinstance(value, str):
        return value if len(value) <= longest else f"{value[: longest - 1]}…"
    if isinstance(value, list):
        return [_cut(item, longest) for item in value[:longest]]
    if isinstance(value, dict):
        return {key: _cut(item, longest) for key, item in value.items()}
    return value


def _without(data: dict[str, Any], omit: tuple[str, ...]) -> dict[str, Any]:
    """Return *data* without the fields that are omitted, and without their text in what is said in words."""
    shown: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    hidden = []
    if "subject" in omit and "message" in shown:
        hidden.append(shown["message"].pop("subject", None))
    if "address" in omit:
        if "recipients" in shown:
            shown["recipients"] = [dict(one) for one in shown["recipients"]]
        hidden += [one.pop("address", None) for one in _people(shown)]
    for name in _WORDS:
        if shown.get(name):
            shown[name] = _strike(shown[name], [text for text in hidden if text and len(text) >= _TELLING])
    return shown


def _people(shown: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "recipient" in shown:
        yield shown["recipient"]
    yield from shown.get("recipients", ())


def _strike(words: str, hidden: list[str]) -> str:
    for text in hidden:
        words = re.sub(re.escape(text), "…", words, flags=re.IGNORECASE)
    return words
