"""Instants as our output has them (RFC 3339)."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(instant: datetime | None) -> str | None:
    """Return *instant* in UTC to the second, with `Z` for the zone; None stays None."""
    return None if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
