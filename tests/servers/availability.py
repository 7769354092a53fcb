"""Whether real mail servers can run here, and why not."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from tests.servers.imap_programs import IMAP_PROGRAMS
from tests.servers.packages import Unobtainable, unpack
from tests.servers.programs import PROGRAMS
from tests.servers.server import can_enter

MAIL_PROGRAMS = (("mutt",), ("s-nail",), ("cron",))
"""Packages of programs that hand mail to sendmail; they need no namespace."""


@functools.cache
def why_not() -> str | None:
    """Return in one sentence why the mail servers can't run here, or None when they are unpacked and can.

    The first call on a machine downloads them.
    """
    if os.geteuid() != 0:
        return "only root may make the mount and PID namespaces they run in"
    if not Path("/etc/debian_version").exists():
        return "they come as Debian packages, and this is no Debian"
    if (refused := can_enter()) is not None:
        return refused
    try:
        servers = (program.packages for program in (*PROGRAMS, *IMAP_PROGRAMS))
        for packages in (*servers, *MAIL_PROGRAMS):
            unpack(*packages)
    except Unobtainable as missing:
        return f"the Debian packages are not to be had ({missing})"
    return None
