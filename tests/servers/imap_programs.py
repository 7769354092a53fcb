"""The IMAP servers beside Dovecot: Cyrus, Courier and GNU mailutils imap4d, and what each expects to find made."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.programs import VMAIL
from tests.servers.server import Program

USERS = tuple(f"receipts{number}" for number in range(1, 31))
"""Every one of them has the password of the world and an empty mailbox at each server, for one test to use."""

_CYRUS, _MAIL = 64109, 8
# openssl passwd -6 correct-horse
_HASHED = "$6$NPD1BB0Xal0RfT.G$nQTYxly0/.LBYBpPGsG5m0psEhVl5TcWY5G5glw8WmDx5t23Dc4dAVlV8hFnXPmwOVHQ.2LCd0crV37Z5Ut.n/"


def home(here: Path, user: str) -> Path:
    """Return the home of *user* at the server whose folder is *here*."""
    return here / "home" / user


def _prepare_courier(here: Path) -> None:
    _make_users(here)
    (here / "lib" / "courier").mkdir()
    for user in USERS:
        for folder in ("", "cur", "new", "tmp", ".Junk", ".Junk/cur", ".Junk/new", ".Junk/tmp"):
            _make_private(home(here, user) / "Maildir" / folder)
        (home(here, user) / "Maildir" / ".Junk" / "maildirfolder").touch()


def _prepare_imap4d(here: Path) -> None:
    _make_users(here)
    spool = here / "mail"
    spool.mkdir()
    spool.chmod(0o1777)


def _prepare_cyrus(here: Path) -> None:
    for folder in (here / "lib" / "cyrus", here / "spool" / "cyrus"):
        folder.mkdir()
        os.chown(folder, _CYRUS, _MAIL)


def _make_users(here: Path) -> None:
    """Give the machine that the server sees our users, who all are one to its kernel."""
    passwd, shadow = here / "etc" / "passwd", here / "etc" / "shadow"
    lines = [f"{user}:x:{VMAIL}:{VMAIL}::{home(here, user)}:/bin/sh\n" for user in USERS]
    passwd.write_text(passwd.read_text(encoding="utf-8") + "".join(lines), encoding="utf-8")
    shadow.write_text("".join(f"{user}:{_HASHED}:19000:0:99999:7:::\n" for user in USERS), encoding="utf-8")
    (here / "home").mkdir()
    for user in USERS:
        _make_private(home(here, user))


def _make_private(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    os.chown(folder, VMAIL, VMAIL)
    folder.chmod(0o700)


# As /usr/lib/courier/imapd does, but on one port of the loopback, in the foreground and with what IMAP needs alone.
_COURIER = """
mkdir -p /run/courier/authdaemon
set -a; . /etc/courier/authdaemonrc; . /etc/courier/imapd; set +a
/usr/lib/courier/courier-authlib/authdaemond &
exec couriertcpd -address=127.0.0.1 -nodnslookup -noidentlookup "$(cat /etc/courier/port)" \
  /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir
"""

# Its master makes itself the user cyrus, and wants /dev/log no more than a terminal.
_CYRUS_MASTER = """
mkdir -p /run/cyrus/proc /run/cyrus/lock; chown -R cyrus:mail /run/cyrus
for user in {users}; do printf %s "{password}" | saslpasswd2 -p -c -f "$HERE/sasldb2" -u "$(hostname)" "$user"; done
chown cyrus "$HERE/sasldb2"
exec /usr/lib/cyrus/bin/master -D
"""

COURIER = Program(("courier-imap",), ("sh", "-ec", _COURIER), _prepare_courier)
CYRUS = Program(
    ("cyrus-imapd", "cyrus-common", "sasl2-bin"),
    ("sh", "-ec", _CYRUS_MASTER.format(users=" ".join(USERS), password="correct-horse")),
    _prepare_cyrus,
)
IMAP4D = Program(("mailutils-imap4d",), ("imap4d", "--no-config", "--config-file=/etc/imap4d.conf"), _prepare_imap4d)

IMAP_PROGRAMS = (CYRUS, COURIER, IMAP4D)
