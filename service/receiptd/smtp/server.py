"""The relay's address: the parsed submission URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from receiptd.mail.loopback import is_loopback

_PORTS = {"smtp": 25, "submission": 587, "submissions": 465}


@dataclass(frozen=True, slots=True)
class Server:
    """The relay: *scheme* is submission (STARTTLS required), submissions (TLS) or smtp (as offered)."""

    scheme: str
    host: str
    port: int
    user: str | None

    @property
    def is_here(self) -> bool:
        """Whether what we send it never leaves this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(url: str) -> Server:
    """Return the relay that a checked [submission] url names; the user in it is percent-encoded."""
    parts = urlsplit(url)
    user = unquote(parts.username) if parts.username else None
    return Server(parts.scheme, parts.hostname or "localhost", parts.port or _PORTS[parts.scheme], user)
