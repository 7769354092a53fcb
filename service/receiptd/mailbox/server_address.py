"""A mailbox's server and user: the URL of [[mailbox]]."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from receiptd.errors import BadSettings
from receiptd.mail.loopback import is_loopback

_PORTS = {"imaps": 993, "imap+starttls": 143, "imap": 143}
_FORM = "write imaps://user%40example.org@mail.example.org"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server and a user: *scheme* is imaps (TLS), imap+starttls (STARTTLS required) or, on loopback, imap."""

    scheme: str
    host: str
    port: int
    user: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_url(url: str) -> ServerAddress:
    """Return what *url* names; raise BadSettings if it names no server and user."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadSettings(f"[[mailbox]] url isn't a valid URL ({error}): {_FORM}") from error
    if parts.scheme not in _PORTS or not parts.hostname or not parts.username:
        raise BadSettings(f"[[mailbox]] url must name a server and a user: {_FORM}")
    if parts.scheme == "imap" and not is_loopback(parts.hostname):
        raise BadSettings(f"[[mailbox]] url: imap:// is unencrypted and taken on this machine only: {_FORM}")
    return ServerAddress(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], unquote(parts.username))
