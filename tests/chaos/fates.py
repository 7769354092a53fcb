"""What becomes of a recipient's copy after the relay has seen it, told by the address."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fate:
    """A fate: its share among recipients, the relay's refusal if any, and the reports that come back.

    *reports* are (seconds after the relay took the copy, action); an action `late:` waits beyond the deadline.
    """

    share: int
    reports: tuple[tuple[float, str], ...] = ()
    refused_at: str | None = None


FATES = {
    "delivered": Fate(30, ((0.1, "delivered"),)),
    "relayed": Fate(25, ((0.3, "relayed"),)),
    "twice": Fate(5, ((0.1, "delivered"), (0.6, "delivered"))),
    "read": Fate(8, ((0.2, "delivered"), (1.0, "displayed"))),
    "slow": Fate(4, ((0.3, "delayed"), (2.0, "delivered"))),
    "bounced": Fate(8, ((0.5, "failed"),)),
    "contradicted": Fate(3, ((0.1, "delivered"), (1.5, "failed"))),
    "recovered": Fate(3, ((0.1, "failed"), (2.0, "displayed"))),
    "silent": Fate(4),
    "late": Fate(3, ((0.0, "late:delivered"),)),
    "refused": Fate(4, refused_at="RCPT"),
    "rejected": Fate(3, refused_at="."),
}


def draw(rng: random.Random, number: int) -> str:
    """Return an address with a fate; each has a domain of its own, so that no alert waits for others of its domain."""
    name = rng.choices(list(FATES), [fate.share for fate in FATES.values()])[0]
    return f"{name}.{number}@d{number}.test"


def fate_of(address: str) -> Fate:
    return FATES[address.partition(".")[0]]
