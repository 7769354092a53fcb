"""Daemons whose relay and mailbox are the real servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.daemon_process import DaemonProcess, Tables, open_daemon
from tests.fork_server import ForkServer
from tests.servers.world import World


@contextmanager
def daemon_in(
    fork_server: ForkServer,
    world: World,
    *,
    address: str | None = None,
    relay: str | None = None,
    relay_login: str = 'password_file = "relay-password"',
    submission: str = "",
    receipts: str = "",
    mailbox: str | None = None,
    box_login: str = 'password_file = "password"',
    box: str = "",
    boss: str = "",
    secrets: Mapping[str, str] | None = None,
    start: bool = True,
) -> Iterator[DaemonProcess]:
    """Open a daemon with a receipts mailbox of its own.

    *relay* and *mailbox* are URLs (default: STARTTLS and TLS, by password); *submission*, *receipts*, *box* and *boss*
    are further lines of its settings, and *secrets* files that they name or other passwords.
    """
    address = address or world.new_receipts_address()
    tables = Tables(
        submission=_lines(f'url = "{relay or world.relay.url(address)}"', relay_login, _trust(world), submission),
        receipts=_lines(f'address = "{address}"', receipts),
        mailbox=_lines(f'url = "{mailbox or world.imap.url(address)}"', box_login, _trust(world), box),
        last=boss,
    )
    passwords = {"password": world.password, "relay-password": world.password}
    with open_daemon(fork_server, tables, passwords | dict(secrets or {}), start=start) as daemon:
        yield daemon


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _trust(world: World) -> str:
    return f'ca_file = "{world.ca_file}"'
