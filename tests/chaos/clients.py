"""Clients: who hands letters over by HTTP and by send-with-receipt, is cut off or killed, and tries again."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.chaos import fates
from tests.chaos.daemons import Node
from tests.chaos.http import NotSent, Unanswered, ask
from tests.chaos.journal import Journal, Letter, Weather
from tests.fork_server import ForkServer

_TRY_AGAIN = (429, 503, 507)
_TRY_AGAIN_STATUS = (os.EX_TEMPFAIL, os.EX_UNAVAILABLE)
_LONGEST_ANSWER = 30.0


class Clients:
    """So many letters over so many seconds; each is tried until it is accepted, but one without a key only once."""

    def __init__(
        self, nodes: Sequence[Node], journal: Journal, weather: Weather, fork_server: ForkServer, work: Path
    ) -> None:
        self.nodes, self.journal, self.weather = nodes, journal, weather
        self._rng, self._fork_server, self._work = weather.rng, fork_server, work
        self._people = 0
        self.is_over = False
        """Begin no further letter."""

    async def run(self, letters: int, seconds: float, *, workers: int = 8) -> None:
        """Hand all letters over."""
        begun = time.monotonic()
        numbers = iter(range(letters))
        await asyncio.gather(*(self._worker(numbers, letters, seconds, begun) for _ in range(workers)))

    async def _worker(self, numbers: Iterator[int], letters: int, seconds: float, begun: float) -> None:
        for number in numbers:
            due = begun + seconds * number / letters
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.is_over:
                return
            letter = self._letter(number)
            self.journal.letters.append(letter)
            letter.begun_at = time.time()
            while not letter.answers:
                letter.tries += 1
                await (self._by_command if letter.by_command else self._by_http)(letter)
                if letter.key is None and (letter.unknown or letter.answers):
                    break
                if not letter.answers:
                    await asyncio.sleep(self._rng.uniform(0.02, 0.3))
            if letter.key and not letter.by_command and self._rng.random() < 0.05:
                await self._by_http(letter)  # the same again: one message all the same

    def _letter(self, number: int) -> Letter:
        size = 1 if self._rng.random() < 0.8 else self._rng.randrange(2, 5)
        people = [fates.draw(self._rng, self._people + n) for n in range(size)]
        self._people += size
        by_command = self._rng.random() < 0.03
        has_key = by_command or self._rng.random() < 0.8
        return Letter(number, f"Letter {number}.", people, f"key-{number}" if has_key else None, by_command)

    async def _by_http(self, letter: Letter) -> None:
        node = self._rng.choice(self.nodes)
        body = {"from": "office@a.test", "to": letter.addresses, "subject": letter.subject, "text": "Good day.\n"}
        headers = {"idempotency-key": letter.key} if letter.key else {}
        patience = self._rng.uniform(0, 0.1) if self.weather.strikes(0.05) else _LONGEST_ANSWER
        try:
            async with asyncio.timeout(patience):
                status, answer = await ask(node.folder / "send.sock", "POST", "/v1/messages", body, headers)
        except NotSent:
            return
        except (Unanswered, TimeoutError):
            letter.unknown += 1
            if patience < 1:
                self.journal.strike("client cut off")
            return
        self._note(letter, status, answer)

    def _note(self, letter: Letter, status: int, answer: Any) -> None:
        if status == 202:
            letter.answers.append(answer)
        elif status not in _TRY_AGAIN:
            self.journal.oddities.append(f"{letter.subject} was answered {status}: {answer}")

    async def _by_command(self, letter: Letter) -> None:
        node = self._rng.choice(self.nodes)
        output = self._work / f"client-{letter.number}-{letter.tries}"
        text = self._work / "text"
        words = ["-f", "office@a.test", "-s", letter.subject, "--text", str(text), "--json"]
        words += ["--idempotency-key", letter.key or "", "--config", str(node.config), *letter.addresses]
        child = self._fork_server.start(words, output, program="receiptd.send.command")
        kill_at = time.monotonic() + (self._rng.uniform(0, 0.3) if self.weather.strikes(0.3) else _LONGEST_ANSWER)
        while (status := child.poll()) is None:
            if time.monotonic() > kill_at:
                self.journal.strike("client SIGKILL")
                child.kill()
            await asyncio.sleep(0.01)
        said = output.read_text() if output.exists() else ""  # killed before it opened its output
        output.unlink(missing_ok=True)
        if status == 0:
            line = next(line for line in said.splitlines() if line.startswith("{"))
            letter.answers.append(json.loads(line))
        elif status == -9:
            letter.unknown += 1
        elif status in _TRY_AGAIN_STATUS:
            letter.unknown += 1  # the daemon may have been killed between its commit and its answer
        else:
            self.journal.oddities.append(f"send-with-receipt ended with {status} for {letter.subject}: {said[-500:]}")
