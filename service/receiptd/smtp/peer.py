"""The server at the other end of a connection, and what it offers there."""

from __future__ import annotations

from dataclasses import dataclass

from receiptd.smtp.reply import Capabilities
from receiptd.smtp.server import Server


@dataclass(frozen=True, slots=True)
class Peer:
    """What holds for every transaction of a connection."""

    server: Server
    capabilities: Capabilities
    opening: str
    """How the dialogue began: banner, TLS, AUTH, capabilities."""
