"""What the benchmarks share: a folder, peers that are started when first asked for, databases to begin with."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tests.bench.daemon import PATIENCE, Daemon, Peers
from tests.bench.peers import Dovecot, Postfix, PostfixTools, Sink, WebhookReceiver
from tests.bench.planting import Database, Postgresql, Sqlite, plant
from tests.bench.process import Profile, Profiler, cpu_seconds
from tests.servers.ports import Ports
from tests.servers.postgres import Postgres

D = TypeVar("D", bound=Database)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    rounds: int = 3
    rows: int = 200_000
    within: float = 15.0
    """Seconds that one round measures at most."""
    checkout: Path | None = None
    profile: bool = False
    output: Path = Path("build")
    """Where profiles go, as collapsed stacks (for flamegraph.pl or speedscope)."""


@dataclass(frozen=True)
class Window:
    """What was done in a stretch of time, and the CPU time of the daemon in it."""

    units: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.units / self.seconds if self.seconds else 0.0

    @property
    def cpu_ms(self) -> float:
        """CPU time of one unit, in milliseconds."""
        return 1000 * self.cpu / self.units if self.units else float("nan")


@dataclass
class Bench:
    """One run; `close` ends all that it started."""

    options: Options
    profiles: dict[str, Profile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="receiptd-bench-", dir="/var/tmp"))
        self.root.chmod(0o755)
        self._ports = Ports(("sink", "postfix", "imap", "imaps"))
        self._closing = ExitStack()
        self._folders = 0

    def close(self) -> None:
        self._closing.close()
        self._ports.release()
        shutil.rmtree(self.root, ignore_errors=True)

    # --- the peers

    @cached_property
    def tools(self) -> PostfixTools:
        return PostfixTools()

    @cached_property
    def sink(self) -> Sink:
        sink = self.tools.sink(self._ports["sink"], self.root / "sink.log")
        self._closing.callback(sink.close)
        return sink

    @cached_property
    def postfix(self) -> Postfix:
        postfix = Postfix(self.root, self._ports["postfix"])
        self._closing.callback(postfix.close)
        return postfix

    @cached_property
    def dovecot(self) -> Dovecot:
        dovecot = Dovecot(self.root, self._ports["imap"], self._ports["imaps"])
        self._closing.callback(dovecot.close)
        return dovecot

    @cached_property
    def postgres(self) -> Postgres:
        """A PostgreSQL that flushes to the disk as one in service does."""
        postgres = Postgres(durable=True)
        self._closing.callback(postgres.close)
        postgres.start()
        return postgres

    @cached_property
    def webhook(self) -> WebhookReceiver:
        webhook = WebhookReceiver()
        self._closing.callback(webhook.close)
        return webhook

    def peers(self, *, relay: int = 1, notify: str = '"success", "failure"') -> Peers:
        """Return peers with a mailbox of their own, which is empty."""
        address = self.dovecot.new_address()
        return Peers(relay, self.dovecot.url(address), self.webhook.url, address, self.dovecot.ca_file, notify)

    # --- daemons and databases

    def folder(self) -> Path:
        """Return a new empty folder."""
        self._folders += 1
        made = self.root / f"daemon{self._folders}"
        made.mkdir()
        return made

    def daemon(self, database: Database, peers: Peers, name: str = "a") -> Daemon:
        """Return a daemon that isn't started; it is ended with the run at the latest."""
        daemon = Daemon(self.folder(), database.url, peers, checkout=self.options.checkout, name=name)
        self._closing.callback(daemon.stop, kill=True)
        return daemon

    @cached_property
    def queued(self) -> tuple[Sqlite, str]:
        """A database with one message that waits to be sent, and the message's id."""
        return self.template(Sqlite(self.folder() / "queued.db"), relay=1)

    @cached_property
    def accepted(self) -> tuple[Sqlite, str]:
        """A database with one message that the relay has accepted, and the message's id."""
        return self.template(Sqlite(self.folder() / "accepted.db"), relay=self.sink.port)

    def template(self, database: D, *, relay: int) -> tuple[D, str]:
        """Let a daemon write one message into an empty *database*."""
        daemon = self.daemon(database, self.peers(relay=relay))
        daemon.start()
        shown = daemon.post(["template@b.test"])
        state = "queued" if relay == 1 else "accepted"
        await_that(lambda: database.rows("SELECT delivery FROM recipient") == [(state,)])
        daemon.stop()
        return database, str(shown["id"])

    def postgresql(self, *, relay: int = 1) -> tuple[Postgresql, str]:
        """Return an empty database of PostgreSQL with a template in it: queued without a relay, accepted by one."""
        return self.template(Postgresql(self.postgres.empty_database()), relay=relay)

    def planted(self, template: tuple[Sqlite, str], recipients: int, *, per_message: int = 1) -> Sqlite:
        """Return a database that holds so many clones of the template beside it."""
        source, message = template
        database = source.copy_to(self.folder() / "receiptd.db")
        database.run("DELETE FROM lease")  # else it is a copy, as a backup that was put back, and its queue is held
        if recipients:
            plant(database, message, range(recipients), per_message=per_message)
        return database

    def plant_queued(self, database: Database, numbers: range) -> None:
        """Give a database in which nothing is queued a queue: a daemon without a relay takes a message to be cloned."""
        daemon = self.daemon(database, self.peers())
        daemon.start()
        message = daemon.post(["queued@b.test"])["id"]
        daemon.stop()
        plant(database, str(message), numbers)
        database.run("DELETE FROM lease")

    # --- measuring

    def watch(self, daemons: Sequence[Daemon], count: Callable[[], int], target: int) -> Window:
        """Measure from the first unit until *target* units are done, or for as long as a round may take."""
        before = count()
        await_that(lambda: count() > before, pause=0.02)
        units, began, cpu = count(), time.perf_counter(), _cpu(daemons)
        give_up = began + self.options.within
        now = units
        while now < target and time.perf_counter() < give_up:
            time.sleep(0.1)
            now = count()
        return Window(now - units, time.perf_counter() - began, _cpu(daemons) - cpu)

    def until(self, daemon: Daemon, count: Callable[[], int], target: int) -> Window:
        """Measure from now until *target* units are done: what has several stages has no rate before its end."""
        began, cpu = time.perf_counter(), cpu_seconds(daemon.pid)
        await_that(lambda: count() >= target, within=20 * self.options.within, pause=0.1)
        return Window(target, time.perf_counter() - began, cpu_seconds(daemon.pid) - cpu)

    def profile(self, name: str, daemon: Daemon, work: Callable[[], object]) -> None:
        """Do *work* with a profiler on the daemon, where one is asked for; else leave it."""
        if not self.options.profile:
            return
        self.options.output.mkdir(parents=True, exist_ok=True)
        profiler = Profiler(daemon.pid, self.options.output / f"{name}.stacks")
        time.sleep(0.5)
        work()
        self.profiles[name] = profiler.stop()


def _cpu(daemons: Sequence[Daemon]) -> float:
    return sum(cpu_seconds(daemon.pid) for daemon in daemons)


def await_that(met: Callable[[], bool], *, within: float = PATIENCE, pause: float = 0.05) -> None:
    """Return as soon as something is met; AssertionError if it never is."""
    give_up = time.monotonic() + within
    while not met():
        assert time.monotonic() < give_up, f"not within {within} s"
        time.sleep(pause)


def counter(database: Database, query: str) -> Callable[[], int]:
    """Return a function that gives the number that *query* selects."""
    return lambda: int(database.rows(query)[0][0])
