"""Ids and serial numbers: made by whoever writes a row, so that the same fact can't be stored twice."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from datetime import datetime

NAMESPACE = uuid.UUID("6f1d1a3e-3b1c-5a55-9c39-3c1b7a7f0c55")
"""For ids that a fact itself decides, so that the database refuses the second of the same fact."""


def new_id(now: datetime) -> str:
    """Return a new opaque id that sorts by time: 48 bits of milliseconds, 80 of chance, in hex."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


class Serials:
    """Numbers that only grow: microseconds since 1970, or one more than the last where the clock stood or went back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return a number above all before it."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    def go_on_from(self, last: int) -> None:
        """Stay above what an earlier process gave, though the clock was set back since."""
        self._last = max(self._last, last)


serials = Serials()


def id_of(*parts: object) -> str:
    """Return the one id of the fact that *parts* name: the hex digits of a UUID of version 5 (RFC 9562 §5.5)."""
    digest = bytearray(hashlib.sha1(NAMESPACE.bytes + "\x1f".join(map(str, parts)).encode()).digest()[:16])  # noqa: S324
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return digest.hex()
