"""The programs: Postfix, Dovecot, Exim and OpenSMTPD, and what each expects to find made."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.server import TEMPLATES, Program

# The users of etc/common/passwd. None exists on the machine.
_POSTFIX, _POSTDROP, _DEBIAN_EXIM, _OPENSMTPD, _OPENSMTPQ = 64101, 64102, 64106, 64107, 64108
VMAIL = 64105


def _folder(path: Path, uid: int, gid: int, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(mode)


def _prepare_postfix(here: Path) -> None:
    """Make the queue folders as `postfix set-permissions` does, which takes a second where this takes none."""
    master = here / "etc" / "postfix" / "master.cf"
    services = (TEMPLATES / "postfix-services.cf").read_text(encoding="utf-8")
    master.write_text(master.read_text(encoding="utf-8") + services, encoding="utf-8")
    queue = here / "spool" / "postfix"
    _folder(queue, 0, 0, 0o755)
    _folder(queue / "pid", 0, 0, 0o755)
    for name in (
        "active",
        "bounce",
        "corrupt",
        "defer",
        "deferred",
        "flush",
        "hold",
        "incoming",
        "private",
        "saved",
        "trace",
    ):
        _folder(queue / name, _POSTFIX, 0, 0o700)
    _folder(queue / "maildrop", _POSTFIX, _POSTDROP, 0o730)
    _folder(queue / "public", _POSTFIX, _POSTDROP, 0o710)
    _folder(here / "lib" / "postfix", _POSTFIX, _POSTFIX, 0o700)


def _prepare_dovecot(here: Path) -> None:
    """Let Sieve read its scripts; Dovecot makes the rest itself."""
    _folder(here / "lib" / "dovecot", 0, 0, 0o755)


def _prepare_exim(here: Path) -> None:
    _folder(here / "spool" / "exim4", _DEBIAN_EXIM, _DEBIAN_EXIM, 0o750)
    for log in ("exim-mainlog", "exim-paniclog", "exim-rejectlog"):
        (here / log).touch()
        os.chown(here / log, _DEBIAN_EXIM, _DEBIAN_EXIM)


def _prepare_opensmtpd(here: Path) -> None:
    _folder(here / "lib" / "opensmtpd" / "empty", 0, 0, 0o755)
    spool = here / "spool" / "smtpd"
    _folder(spool, 0, 0, 0o711)
    _folder(spool / "offline", 0, _OPENSMTPQ, 0o770)
    for name in ("corrupt", "incoming", "purge", "queue", "temporary"):
        _folder(spool / name, _OPENSMTPQ, 0, 0o700)


# -d: in the foreground. `postfix start` does the same after two seconds of checks.
POSTFIX = Program(("postfix",), ("/usr/lib/postfix/sbin/master", "-d"), _prepare_postfix)
DOVECOT = Program(
    ("dovecot-core", "dovecot-imapd", "dovecot-lmtpd", "dovecot-sieve"), ("dovecot", "-F"), _prepare_dovecot
)
EXIM = Program(("exim4-daemon-light",), ("exim4", "-bdf", "-q1s"), _prepare_exim)
OPENSMTPD = Program(("opensmtpd",), ("smtpd", "-d", "-v"), _prepare_opensmtpd)

PROGRAMS = (POSTFIX, DOVECOT, EXIM, OPENSMTPD)
