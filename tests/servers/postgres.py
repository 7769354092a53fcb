"""A PostgreSQL server of the tests' own, with a database for each test that asks for one."""

from __future__ import annotations

import functools
import itertools
import os
import time
from pathlib import Path

import psycopg

from receiptd.store import upgrade
from tests.servers.packages import Unobtainable, unpack
from tests.servers.ports import Ports
from tests.servers.run_folder import RunFolder
from tests.servers.server import Program, Server, ServerDied, can_enter

HOST = "127.0.0.1"
_USER = "receiptd"
_TEMPLATE = "migrated"
_NOBODY = 65534

# initdb and postgres refuse to run as root. Dynamic shared memory lies with the data, as /dev/shm is the machine's.
_COMMAND = """
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
run() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }
data=/var/lib/postgresql/data
if ! [ -d "$data" ]; then
    run "$bin/initdb" --no-sync --auth=trust --username=receiptd --encoding=UTF8 --locale=C.UTF-8 "$data"
fi
. /etc/postgresql.conf
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$bin/postgres" -D "$data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$HERE/socket" -c max_connections=300 \
    -c dynamic_shared_memory_type=mmap -c timezone=UTC -c log_timezone=UTC -c log_line_prefix='%m %d ' \
    -c log_lock_waits=on -c deadlock_timeout=200ms $durability
"""


def _prepare(here: Path) -> None:
    for folder in (here / "lib" / "postgresql", here / "socket"):
        folder.mkdir()
        os.chown(folder, _NOBODY, _NOBODY)


POSTGRESQL = Program(("postgresql",), ("sh", "-ec", _COMMAND), _prepare)

_IN_A_HURRY = "-c fsync=off -c full_page_writes=off"


@functools.cache
def why_no_postgres() -> str | None:
    """Return in one sentence why PostgreSQL can't run here, or None when it is unpacked and can.

    The first call on a machine downloads it.
    """
    if os.geteuid() != 0:
        return "only root may make the mount and PID namespaces it runs in"
    if not Path("/etc/debian_version").exists():
        return "it comes as a Debian package, and this is no Debian"
    if (refused := can_enter()) is not None:
        return refused
    try:
        unpack(*POSTGRESQL.packages)
    except Unobtainable as missing:
        return f"its Debian package can't be downloaded ({missing})"
    return None


class Postgres:
    """One server, from `start` to `close`, on a port and in a folder of its own.

    Without *durable* nothing is flushed to the disk: what survives the machine's crash doesn't matter here,
    and a crash of the server alone loses nothing all the same.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._folder, self._ports = RunFolder(), Ports(["postgres"])
        self._numbers = itertools.count(1)
        self.port = self._ports["postgres"]
        values = {"port": self.port, "durability": "" if durable else _IN_A_HURRY}
        package = unpack(*POSTGRESQL.packages)
        self.server = Server("postgres", POSTGRESQL, package, self._folder.path, (self.port,), values)

    def start(self) -> None:
        """Start it, or start it again after `server.stop`, and return when it takes statements."""
        self.server.start()
        self.await_up()

    def await_up(self, within: float = 60) -> None:
        """Return when it takes statements: while it recovers from a crash it only takes connections."""
        give_up = time.monotonic() + within
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > give_up or not self.server.is_running:
                    raise ServerDied(f"{error}\n{self.server.log()[-2000:]}") from error
                time.sleep(0.02)
            else:
                return

    def close(self) -> None:
        self.server.stop()
        self._ports.release()
        self._folder.close()

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}@{HOST}:{self.port}/{database}?sslmode=disable"

    def new_database(self) -> str:
        """Return the URL of a new database with the tables of this version."""
        if not self._has(_TEMPLATE):
            self.execute(f"CREATE DATABASE {_TEMPLATE}")
            upgrade(self.url(_TEMPLATE))
        return self._create(f"TEMPLATE {_TEMPLATE}")

    def empty_database(self) -> str:
        """Return the URL of a new database without tables."""
        return self._create("TEMPLATE template0")

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        name = url.rpartition("/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside any transaction; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _create(self, source: str) -> str:
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {source}")
        return self.url(name)

    def _has(self, name: str) -> bool:
        return bool(self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))
