"""The mailbox: a real Dovecot, filled by rename into new/, behind a proxy for each daemon that faults."""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import time
from dataclasses import dataclass
from itertools import count

from tests.chaos import reports
from tests.chaos.fates import fate_of
from tests.chaos.journal import Journal, Report, Transaction, Weather
from tests.servers.packages import unpack
from tests.servers.ports import Ports
from tests.servers.programs import DOVECOT, VMAIL
from tests.servers.run_folder import RunFolder
from tests.servers.server import Server

PASSWORD = "correct-horse"
ADDRESS = "receipts@a.test"


class Mailbox:
    """Dovecot with one user; `post` schedules what a relay's taking a copy brings back."""

    def __init__(self, journal: Journal, rng: random.Random, late_after: float) -> None:
        self.journal, self.rng, self.late_after = journal, rng, late_after
        self._folder = RunFolder()
        self.root = self._folder.path
        self._ports = Ports(("imap",))
        self.port = self._ports["imap"]
        values = {"password": PASSWORD, "port_imap": self.port}
        package = unpack(*DOVECOT.packages)
        self.server = Server("receipts", DOVECOT, package, self.root, (self.port,), values)
        self._numbers, self._due = count(1), list[tuple[float, int, Report, bytes]]()
        self._maildir = self.root / "mail" / "Maildir"
        self._junk = self._maildir / ".Junk"

    def start(self) -> None:
        for folder in (self._maildir, self._junk):
            for name in ("tmp", "new", "cur"):
                (folder / name).mkdir(parents=True)
        for path in (self.root / "mail", *(self.root / "mail").rglob("*")):
            os.chown(path, VMAIL, VMAIL)
        self.server.start()

    def close(self) -> None:
        self.server.stop()
        self._ports.release()
        self._folder.close()

    def schedule(self, taken: Transaction) -> None:
        """Have the reports come back that the fate of a copy holds."""
        number = len(self.journal.transactions)
        for after, action in fate_of(taken.address).reports:
            kind = action.removeprefix("late:")
            wait = after * self.rng.uniform(0.5, 1.5) + (self.late_after if kind != action else 0)
            content = reports.write(
                kind,
                return_path=taken.return_path,
                address=taken.address,
                envelope_id=taken.envelope_id,
                message_id=taken.message_id or "",
            )
            report = Report(0.0, taken.return_path, taken.address, kind, number)
            heapq.heappush(self._due, (time.time() + wait, next(self._numbers), report, content))

    @property
    def pending(self) -> int:
        """How many reports are still to come."""
        return len(self._due)

    async def run(self) -> None:
        """Deliver what is due until cancelled."""
        while True:
            while self._due and self._due[0][0] <= time.time():
                _, number, report, content = heapq.heappop(self._due)
                self._deliver(number, report, content)
            await asyncio.sleep(0.02)

    def _deliver(self, number: int, report: Report, content: bytes) -> None:
        folder = self._junk if self.rng.random() < 0.1 else self._maildir
        unfinished = folder / "tmp" / f"{time.time():.6f}.{number}.chaos"
        unfinished.write_bytes(content)
        os.chown(unfinished, VMAIL, VMAIL)
        # In the journal first: from the rename on a daemon may have it.
        report.at = unfinished.stat().st_mtime
        self.journal.reports.append(report)
        unfinished.rename(folder / "new" / unfinished.name)


class Proxy:
    """Between one daemon and Dovecot: refuses logins, answers NO, cuts amid a FETCH, is slow, or lets nobody in."""

    def __init__(self, journal: Journal, weather: Weather, node: int, upstream: int) -> None:
        self.journal, self.weather, self.node, self.upstream = journal, weather, node, upstream
        self.port = 0
        self.refuse_until = 0.0
        self.no_login_until = 0.0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server:
            self._server.close()

    def strikes(self, probability: float, what: str) -> bool:
        if self.weather.strikes(probability):
            self.journal.strike(f"imap: {what}", node=self.node)
            return True
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if time.time() >= self.refuse_until:
                below, above = await asyncio.open_connection("127.0.0.1", self.upstream, limit=2**20)
                await _Link(self, reader, writer, below, above).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one end is gone, or the run is over
        finally:
            writer.transport.abort()


@dataclass
class _Link:
    """One connection through the proxy; *budget* is what still passes down before it is cut, None: everything."""

    proxy: Proxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    below: asyncio.StreamReader
    above: asyncio.StreamWriter
    budget: int | None = None

    async def run(self) -> None:
        ways = [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.above.transport.abort()

    async def _up(self) -> None:
        while line := await self.reader.readline():
            tag, _, command = line.decode("latin-1").partition(" ")
            if refusal := self._refusal(command.upper()):
                self.writer.write(f"{tag} NO {refusal}\r\n".encode())
                continue
            if self.proxy.strikes(0.003, "slow"):
                await asyncio.sleep(2)
            self.above.write(line)
            await self.above.drain()

    def _refusal(self, command: str) -> str | None:
        """Return what is answered instead of passing the command on; perhaps cut the connection in its answer."""
        strikes = self.proxy.strikes
        if command.startswith(("LOGIN", "AUTHENTICATE")) and time.time() < self.proxy.no_login_until:
            return "[AUTHENTICATIONFAILED] not now"
        if command.startswith("UID SEARCH") and strikes(0.02, "NO to SEARCH"):
            return "[UNAVAILABLE] not now"
        if command.startswith("UID FETCH") and strikes(0.03, "cut amid FETCH"):
            self.budget = self.proxy.weather.rng.randrange(4000)
        elif command.startswith(("UID STORE", "UID MOVE", "UID EXPUNGE")) and strikes(0.02, "cut after a change"):
            self.budget = 0
        return None

    async def _down(self) -> None:
        while data := await self.below.read(2**16):
            if self.budget is not None:
                data, self.budget = data[: self.budget], self.budget - len(data)
            self.writer.write(data)
            await self.writer.drain()
            if self.budget is not None and self.budget <= 0:
                return
