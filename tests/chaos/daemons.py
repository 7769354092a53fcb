"""Daemons: whole processes that are killed, stopped, continued, ended and started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from string import Template

from tests.chaos.journal import Journal
from tests.chaos.mailbox import ADDRESS, PASSWORD
from tests.chaos.webhooks import SECRET, Receiver
from tests.fork_server import Child, ForkServer

_SETTINGS = Template("""
[service]
database = "$database"
listen = [
  {unix = "$folder/send.sock", mode = "0666", scope = "send"},
  {unix = "$folder/api.sock", mode = "0660", scope = "operate"},
]
messages_per_hour = 10000000
bytes_per_hour = "2000G"

[submission]
url = "smtp://127.0.0.1:$relay"
uncertain_wait = "5s"

[receipts]
address = "$address"

[[mailbox]]
name = "receipts"
url = "imap://receipts@127.0.0.1:$imap"
password_file = "password"
poll = "1s"
after = "$after"

[policy.default]
within = "${within}s"
levels = [{after = "0s", to = ["ops"]}, {after = "5s", to = ["boss"]}]

[[webhook]]
name = "ops"
url = "$ops"
secret_file = "webhook"

[[webhook]]
name = "boss"
url = "$boss"
secret_file = "webhook"

[[webhook]]
name = "audit"
url = "$audit"
secret_file = "webhook"
events = ["receipt.met"]
""")

_LONGEST_END = 40.0
"""Seconds within which SIGTERM must have ended a daemon: its drain of 20 s and a margin for a loaded machine."""
_DATABASE_DOWN = (os.EX_TEMPFAIL, os.EX_UNAVAILABLE, os.EX_CANTCREAT)


class Node:
    """One daemon with settings, sockets and peers of its own; `keep` starts it again whenever it has ended."""

    def __init__(
        self, number: int, folder: Path, fork_server: ForkServer, journal: Journal, prepare: Sequence[str]
    ) -> None:
        self.number, self.folder, self.journal = number, folder, journal
        self._fork_server, self._prepare = fork_server, prepare
        self.child: Child | None = None
        self.paused_until = 0.0
        self._ending_since: float | None = None
        self.starts = 0
        folder.mkdir()
        (folder / "cache").mkdir()

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def config(self) -> Path:
        return self.folder / "receiptd.toml"

    def furnish(self, *, database: str, relay: int, imap: int, receiver: Receiver, within: int, after: str) -> None:
        """Write the settings and their secrets."""
        values = {name: receiver.url(name) for name in ("ops", "boss", "audit")}
        values |= {"folder": str(self.folder), "database": database, "address": ADDRESS, "after": after}
        self.config.write_text(_SETTINGS.substitute(values, relay=relay, imap=imap, within=within))
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "webhook").write_text(SECRET)

    def start(self) -> None:
        environ = {"CACHE_DIRECTORY": str(self.folder / "cache")}
        words = ["run", "--config", str(self.config)]
        self.child = self._fork_server.start(words, self.log, environ, prepare=self._prepare)
        self.starts += 1

    async def keep(self, rng: random.Random) -> None:
        """Keep a daemon running until cancelled."""
        while True:
            if self.child is None or self._has_ended():
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                self.start()
            await asyncio.sleep(0.05)

    def _has_ended(self) -> bool:
        assert self.child is not None
        status = self.child.poll()
        if status is None:
            if self._ending_since is not None and time.time() - self._ending_since > _LONGEST_END:
                self.journal.oddities.append(f"daemon {self.number} still runs {_LONGEST_END:.0f} s after SIGTERM")
                self.kill()
            return False
        expected = {-signal.SIGKILL, *_DATABASE_DOWN} | ({0, -signal.SIGTERM} if self._ending_since else set())
        if status not in expected:
            self.journal.oddities.append(f"daemon {self.number} ended with {status}, unasked: {self._last_words()}")
        self._ending_since = None
        return True

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        if self._signal(signal.SIGTERM):
            self._ending_since = time.time()

    async def pause(self, length: float) -> None:
        """Stop it for a while: it keeps its connections and knows nothing of it."""
        child = self.child
        if child is not None and self._signal(signal.SIGSTOP, length):
            try:
                await asyncio.sleep(length)
            finally:
                if child.poll() is None:
                    os.kill(child.pid, signal.SIGCONT)

    def _signal(self, number: signal.Signals, length: float = 0.0) -> bool:
        if self.child is None or self.child.poll() is not None:
            return False
        # In the journal first: from the signal on its effects may be seen.
        self.journal.strike(number.name, length, self.number)
        os.kill(self.child.pid, number)
        return True

    @property
    def is_running(self) -> bool:
        return self.child is not None and self.child.poll() is None
