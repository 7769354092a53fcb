"""The embedded mail world of `receiptd demo`: SMTP with DSN, IMAP and a webhook receiver in one process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receiptd.sandbox.mailworld import World

__all__ = ["world"]


def world(
    directory: Path | None = None, *, pace: float = 0.05, offers_dsn: bool = True
) -> AbstractAsyncContextManager[World]:
    """Stand up the mail world on free loopback ports; see `receiptd.sandbox.mailworld`."""
    # aiosmtpd and pymap come with the extra `demo` and are slow to import.
    from receiptd.sandbox import mailworld

    return mailworld.world(directory, pace=pace, offers_dsn=offers_dsn)
