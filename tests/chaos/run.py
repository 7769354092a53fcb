"""One run: peers, daemons and clients under a storm, then calm, then the oracle's judgement."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import state
from tests.chaos.clients import Clients
from tests.chaos.daemons import Node
from tests.chaos.database import Database, PostgreSQL, SQLite
from tests.chaos.journal import Journal, Weather
from tests.chaos.mailbox import Mailbox, Proxy
from tests.chaos.oracle import Oracle, Violation
from tests.chaos.relay import Relay
from tests.chaos.storm import Storm
from tests.chaos.webhooks import Receiver
from tests.daemon_process import environment
from tests.fork_server import ForkServer

Say = Callable[[str], None]

_MOST_READ = 400
"""How many messages that aren't at their end yet are read again at once."""
_HURRY = "tests.chaos.hurry:hurry"


@dataclass(frozen=True)
class Plan:
    """What a run is told: all else follows from its seed."""

    seed: int = 1
    messages: int = 300
    kills: int = 15
    seconds: float = 20.0
    engine: str = "sqlite"
    daemons: int = 1
    within: int = 15
    after: str | None = None
    """What becomes of matched reports in the mailbox; by default the seed says."""
    calm: float = 90.0
    """Seconds that daemons are given after the storm to bring everything to its end."""
    longest: float = 1500.0
    """Seconds after which the storm is over, however many kills and letters are left."""
    bug: str | None = None
    """A function of tests.chaos.seeded_bugs that spoils each daemon."""
    storm: float = 1.0
    full_disk: int = 0
    """1: SQLite's file lies in memory, on a file system that is full at times."""

    @property
    def after_matched(self) -> str:
        return self.after or self.rng("after").choice(("keep", "seen", "move:Done", "delete"))

    def rng(self, stream: str) -> random.Random:
        return random.Random(f"{self.seed}/{stream}")


@dataclass
class Outcome:
    """What a run found."""

    plan: Plan
    violations: list[Violation]
    journal: Journal
    folder: Path
    kills: int
    stormy: float
    calm: float

    @property
    def kinds(self) -> Counter[str]:
        return Counter(violation.kind for violation in self.violations)


async def run(plan: Plan, *, say: Say = print, stop_at_first: bool = False) -> Outcome:
    """Run *plan*, say how it goes, and return what the oracle found; evidence of violations stays on disk."""
    folder = Path(tempfile.mkdtemp(prefix="receiptd-chaos-", dir="/var/tmp"))
    folder.chmod(0o755)
    world = _World(plan, folder, say)
    with world.running():
        return await world.play()


class _World:
    def __init__(self, plan: Plan, folder: Path, say: Say) -> None:
        self.plan, self.folder, self.say = plan, folder, say
        self.journal = Journal()
        self.weather = {name: Weather(plan.rng(name)) for name in ("relay", "imap", "webhook", "client")}
        self.mailbox = Mailbox(self.journal, plan.rng("mailbox"), plan.within + 5)
        self.relay = Relay(self.journal, self.weather["relay"], self.mailbox.schedule)
        self.receiver = Receiver(self.journal, self.weather["webhook"])
        self.database = _database(plan, folder, self.journal)
        self.database.start()
        self.fork_server = ForkServer(environment())
        prepare = [_HURRY, *([f"tests.chaos.seeded_bugs:{plan.bug}"] if plan.bug else [])]
        self.nodes = [
            Node(number, folder / f"node{number}", self.fork_server, self.journal, prepare)
            for number in range(plan.daemons)
        ]
        self.proxies = [
            Proxy(self.journal, self.weather["imap"], node.number, self.mailbox.port) for node in self.nodes
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self.mailbox.start()
            yield
        finally:
            for node in self.nodes:
                node.kill()
            self.fork_server.close()
            self.database.close()
            self.mailbox.close()

    async def play(self) -> Outcome:
        plan = self.plan
        await self._open()
        tasks = [asyncio.create_task(self.mailbox.run())]
        tasks += [asyncio.create_task(node.keep(plan.rng(f"node{node.number}"))) for node in self.nodes]
        tasks += [asyncio.create_task(self._tell())]
        rng = plan.rng("storm")
        storm = Storm(self.nodes, self.relay, self.proxies, self.database, self.journal, rng, self._handed_over)
        try:
            await state.read(self.nodes[0].folder / "api.sock", "/healthz")
            begun = time.monotonic()
            kills = await self._storm(storm)
            stormy = time.monotonic() - begun
            violations = await self._settle()
            calm = time.monotonic() - begun - stormy
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.relay.close()
            self.receiver.close()
            for proxy in self.proxies:
                proxy.close()
        outcome = Outcome(plan, violations, self.journal, self.folder, kills, stormy, calm)
        self._keep_evidence(outcome)
        return outcome

    async def _open(self) -> None:
        plan = self.plan
        await self.relay.start(plan.daemons)
        await self.receiver.start()
        for node, proxy, port in zip(self.nodes, self.proxies, self.relay.ports, strict=True):
            await proxy.start()
            url = self.database.url()
            node.furnish(
                database=url,
                relay=port,
                imap=proxy.port,
                receiver=self.receiver,
                within=plan.within,
                after=plan.after_matched,
            )
        (self.folder / "text").write_text("Good day.\n")

    async def _storm(self, storm: Storm) -> int:
        plan = self.plan
        for weather in self.weather.values():
            weather.level = plan.storm
        clients = Clients(self.nodes, self.journal, self.weather["client"], self.fork_server, self.folder)
        handing = asyncio.create_task(clients.run(plan.messages, plan.seconds))
        try:
            async with asyncio.timeout(plan.longest):
                await asyncio.gather(asyncio.shield(handing), storm.run(plan.kills, plan.seconds))
        except TimeoutError:
            self.say(f"  the storm is over after {plan.longest:.0f} s, whatever is left of it")
        finally:
            clients.is_over = True
            for weather in self.weather.values():
                weather.level = 0.0
        try:
            await asyncio.wait_for(handing, 60)
        except TimeoutError:
            self.journal.oddities.append("letters can't be handed over in a minute of calm")
        return storm.kills

    async def _settle(self) -> list[Violation]:
        """Judge until nothing is left that may heal, or the calm is over; the last time all is read anew."""
        socket = self.nodes[0].folder / "api.sock"
        give_up = time.monotonic() + self.plan.calm
        shown = await state.messages(socket)
        while True:
            violations = await self._judge(socket, shown)
            healing = {violation.message for violation in violations if violation.may_heal}
            self.say(
                f"  calm: {len(violations)} violations so far, {len(healing)} messages may heal; {self._progress()}"
            )
            if not (healing or self.mailbox.pending):
                break
            if time.monotonic() > give_up:
                self.say("  the calm is over; what may heal was perhaps only not finished (give it more by --calm)")
                break
            await asyncio.sleep(2.0)
            shown |= await state.details(socket, sorted(filter(None, healing))[:_MOST_READ])
        await asyncio.sleep(3.0)  # what comes late comes now
        return await self._judge(socket, await state.messages(socket))

    async def _judge(self, socket: Path, shown: dict[str, state.Json]) -> list[Violation]:
        shown |= await state.details(socket, Oracle(self.journal, shown, self.plan.within).needs_events())
        return list(Oracle(self.journal, shown, self.plan.within).judge())

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(10)
            self.say(f"  {self._progress()}")

    def _handed_over(self) -> float:
        """Return which part of the letters a daemon has taken."""
        return sum(bool(letter.answers) for letter in self.journal.letters) / self.plan.messages

    def _progress(self) -> str:
        journal = self.journal
        kills = sum(strike.what == "SIGKILL" for strike in journal.strikes)
        accepted = sum(bool(letter.answers) for letter in journal.letters)
        taken = sum(one.taken for one in journal.transactions)
        return (
            f"{kills} kills, {accepted} letters accepted, {taken} copies taken, "
            f"{len(journal.reports)} reports, {len(journal.posts)} posts"
        )

    def _keep_evidence(self, outcome: Outcome) -> None:
        """Keep the folder where something is wrong, with all that was seen; remove it else."""
        if not outcome.violations and not self.journal.oddities:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        self.journal.write(self.folder / "journal.jsonl")
        (self.folder / "violations.json").write_text(
            json.dumps([dataclasses.asdict(violation) for violation in outcome.violations], indent=1)
        )


def _database(plan: Plan, folder: Path, journal: Journal) -> Database:
    rng = plan.rng("database")
    if plan.engine == "postgresql":
        return PostgreSQL(journal, rng)
    return SQLite(folder, journal, rng, can_fill=bool(plan.full_disk))
