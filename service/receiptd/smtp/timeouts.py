"""How long to wait for each reply."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a reply (RFC 5321 §4.5.3.2 gives these as minima)."""

    final: float
    envelope: float = 300
    data: float = 120
