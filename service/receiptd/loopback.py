"""Whether a host is this machine, so that what is told to it can be read by nobody on the way."""

from __future__ import annotations

import re

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether what is told to *host* never leaves this machine."""
    return _LOOPBACK.fullmatch(host) is not None
