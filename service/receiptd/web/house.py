"""What the web rooms need of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from receiptd.store import Store
from receiptd.store.monitors import Health


@dataclass(frozen=True, slots=True)
class House:
    """The store, how the daemon's peers do, and a bell that wakes its steps.

    *relay_offers_dsn* tells what the relay's last EHLO said; None before the first one.
    """

    store: Store
    relay: Health
    mailboxes: Mapping[str, Health]
    ring: Callable[[], None]
    relay_offers_dsn: Callable[[], bool | None]
    started_at: datetime

    def warnings(self) -> list[str]:
        """Return what a sender should know now about every message."""
        if self.relay_offers_dsn() is False:
            return ["the relay offers no DSN: it will send no delivery report, only bounces"]
        return []
