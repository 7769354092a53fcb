"""Readiness, watchdog and passed sockets: what systemd gives and wants, in the standard library.

Everything is a variable of the environment (sd_notify(3), sd_listen_fds(3)); without
them each function does nothing and says so, so that the daemon runs the same under no systemd at all.
"""

from __future__ import annotations

import atexit
import functools
import os
import socket
from collections.abc import Mapping
from datetime import timedelta

_FIRST_FD = 3


def notify(*states: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd *states* ("READY=1", "STATUS=…", "WATCHDOG=1", "STOPPING=1"); False if nobody listens."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    try:
        _sender().sendto("\n".join(states).encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:
        return False  # the manager is gone: no reason to stop sending mail (sd_notify(3) says so as well)
    return True


@functools.cache
def _sender() -> socket.socket:
    """Return the socket that tells systemd: kept, so that the watchdog is fed though no descriptor is free."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    atexit.register(sender.close)
    return sender


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> timedelta | None:
    """Return how often to send WATCHDOG=1 (half the time systemd waits), or None where it doesn't wait for us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or "WATCHDOG_USEC" not in environ:
        return None
    return timedelta(microseconds=int(environ["WATCHDOG_USEC"])) / 2


def passed_sockets(environ: Mapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Return the listening sockets a .socket unit handed over, by FileDescriptorName= (else by number)."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, socket.socket] = {}
    for index in range(count):
        os.set_inheritable(_FIRST_FD + index, False)
        name = names[index] if index < len(names) and names[index] else str(index)
        sockets[name if name not in sockets else f"{name}.{index}"] = socket.socket(fileno=_FIRST_FD + index)
    return sockets
