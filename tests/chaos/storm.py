"""The storm: seeded faults at seeded instants, until so many daemons were killed and all letters are handed over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence

from tests.chaos.daemons import Node
from tests.chaos.database import Database
from tests.chaos.journal import Journal
from tests.chaos.mailbox import Proxy
from tests.chaos.relay import Relay

_OTHERS = {"SIGSTOP": 4, "SIGTERM": 4, "relay": 2, "imap": 2, "login": 1, "database": 4}
"""How often each fault comes, beside ten SIGKILLs."""
_OUTLAST = 10
"""A pause in ten lasts as many times as long: beyond every lease and hold of tests/chaos/hurry.py."""
_PATIENT = 0.99
"""How often, each tenth of a second, a kill goes on waiting for letters."""
_PER_KILL = sum(_OTHERS.values()) / 10


class Storm:
    """All that is done to the peers at instants of its own choice; what strikes within a dialogue is the weather's."""

    def __init__(
        self,
        nodes: Sequence[Node],
        relay: Relay,
        proxies: Sequence[Proxy],
        database: Database,
        journal: Journal,
        rng: random.Random,
        progress: Callable[[], float],
    ) -> None:
        self.nodes, self.relay, self.proxies, self.database = nodes, relay, proxies, database
        self.journal, self.rng, self.progress = journal, rng, progress
        self.kills = 0
        self._pauses: set[asyncio.Task[None]] = set()

    async def run(self, kills: int, seconds: float) -> None:
        """Kill *kills* daemons over *seconds*, with the other faults among them.

        On a slow machine it takes longer: most kills wait until as large a part of the letters is handed over, or the
        last daemons to be killed would only ever be starting.
        """
        others = asyncio.create_task(self._others())
        begun = time.monotonic()
        try:
            while self.kills < kills:
                due = begun + seconds * (self.kills + self.rng.random()) / kills
                await asyncio.sleep(max(self.rng.uniform(0.0, 1.0), due - time.monotonic()))
                while self.progress() < 0.95 * self.kills / kills and self.rng.random() < _PATIENT:
                    await asyncio.sleep(0.1)
                node = self.rng.choice(self.nodes)
                if node.is_running:
                    node.kill()
                    self.kills += 1
        finally:
            others.cancel()
            await asyncio.gather(others, *self._pauses, return_exceptions=True)

    async def _others(self) -> None:
        """Let the other faults keep pace with the kills."""
        struck = 0
        while True:
            await asyncio.sleep(self.rng.uniform(0.0, 1.0))
            if struck > (self.kills + 1) * _PER_KILL:
                continue
            struck += 1
            what = self.rng.choices(list(_OTHERS), list(_OTHERS.values()))[0]
            length = self.rng.uniform(0.3, 2.5)
            node, proxy = self.rng.choice(self.nodes), self.rng.choice(self.proxies)
            match what:
                case "SIGSTOP":
                    self._aside(node.pause(length * (_OUTLAST if self.rng.random() < 0.1 else 1)))
                case "SIGTERM":
                    node.end()
                case "relay":
                    self.journal.strike("relay: refuses connections", length)
                    self.relay.refuse_until = time.time() + length
                case "imap":
                    self.journal.strike("imap: refuses connections", length, proxy.node)
                    proxy.refuse_until = time.time() + length
                case "login":
                    self.journal.strike("imap: refuses logins", length, proxy.node)
                    proxy.no_login_until = time.time() + length
                case "database":
                    self._aside(self.database.strike())

    def _aside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._pauses.add(task)
        task.add_done_callback(self._pauses.discard)
