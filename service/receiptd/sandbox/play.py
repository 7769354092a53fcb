"""Play the letters through: send them, watch what comes of them, judge it against what must."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from receiptd.errors import ReceiptdError
from receiptd.sandbox import mailworld
from receiptd.sandbox.letters import LETTERS, UNKNOWN, Letter, Outcome, Told
from receiptd.sandbox.mailworld import World
from receiptd.sandbox.processes import Daemon, running, wait_until_ready
from receiptd.sandbox.receiver import Alert
from receiptd.sandbox.story import Story

_TIMEOUT = 60.0
"""Seconds after the last letter by which every fate must be met."""
_QUIET = 2.0
"""Seconds after the last fate in which no further alert may come."""


@dataclass
class Course:
    """A letter under way: what has been seen of it."""

    letter: Letter
    id: str
    got: Outcome = UNKNOWN
    told: set[str] = field(default_factory=set)

    @property
    def ok(self) -> bool:
        return self.got == self.letter.expected

    @property
    def verdict(self) -> dict[str, Any]:
        """The letter's line of `demo --json`."""
        return {
            "name": self.letter.name,
            "expected": _as_json(self.letter.expected),
            "got": _as_json(self.got),
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What the play came to; *faults* are what belongs to no letter."""

    courses: tuple[Course, ...]
    faults: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.faults and all(course.ok for course in self.courses)


async def play(story: Story, *, keep: bool, nodes: int = 1, database: str | None = None) -> Result:
    """Run the demo with *nodes* daemons; with *keep*, stay in the finished world until somebody ends it."""
    began = time.monotonic()
    _end_on_sigterm()
    # /tmp, whatever TMPDIR says: the path of a Unix socket has room for 107 characters.
    with tempfile.TemporaryDirectory(prefix="receiptd-", dir="/tmp") as name:
        directory = Path(name)
        async with mailworld.world(directory, pace=1) as world:
            settings = [world.write_settings(folder, database=database) for folder in _folders(directory, nodes)]
            story.opens(world, settings)
            async with AsyncExitStack() as stack:
                daemons = [await stack.enter_async_context(running(one)) for one in settings]
                try:
                    courses = await _perform(world, daemons, story)
                except ReceiptdError:
                    story.shows_logs(daemons)
                    raise
                result = Result(tuple(courses), tuple(_faults(world)), round(time.monotonic() - began, 1))
                story.closes(result)
                if not result.ok:
                    story.shows_logs(daemons)
                if keep:
                    await _stay(story, daemons, courses)
            if any(daemon.was_killed for daemon in daemons):
                story.complains("a daemon did not end on SIGTERM and had to be killed")
                result = replace(result, faults=(*result.faults, "killed"))
        return result


def _folders(directory: Path, nodes: int) -> list[Path]:
    """Return a folder for each node's settings, sockets and log."""
    if nodes == 1:
        return [directory]
    folders = [directory / f"node-{number}" for number in range(1, nodes + 1)]
    for folder in folders:
        folder.mkdir()
    return folders


def _end_on_sigterm() -> None:
    """Let SIGTERM do what Ctrl-C does: cancel, so that everything is taken down."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _perform(world: World, daemons: Sequence[Daemon], story: Story) -> list[Course]:
    for daemon in daemons:
        await wait_until_ready(daemon)
        story.is_ready(daemon if len(daemons) > 1 else None)
    turns = cycle(daemons)
    courses = []
    for letter in LETTERS:
        courses.append(Course(letter, await next(turns).send(letter)))
        story.sent(letter)
    await _watch(world, turns, story, courses)
    return courses


async def _watch(world: World, turns: Iterator[Daemon], story: Story, courses: list[Course]) -> None:
    """Tell what happens until every letter has met its fate and nothing more comes, or patience ends."""
    patience = time.monotonic() + _TIMEOUT
    quiet_since: float | None = None
    alerts_told = 0
    while time.monotonic() < patience:
        for course in courses:
            message = await next(turns).get(f"/v1/messages/{course.id}")
            story.events(course, message)
            course.got = _outcome(course.letter, message, world.alerts)
            if course.letter.released_by in course.got.alerts:
                world.release(course.letter.address)
        alerts_told = story.alerts(world.alerts, alerts_told, courses)
        if not all(course.ok for course in courses):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > _QUIET:
            return
        await asyncio.sleep(0.25)


async def _stay(story: Story, daemons: Sequence[Daemon], courses: list[Course]) -> None:
    """Wait for Ctrl-C, a termination, or the first daemon's end."""
    story.stays(daemons[0], courses)
    with suppress(asyncio.CancelledError):  # this is how it ends: the result stands
        await daemons[0].process.wait()


def _outcome(letter: Letter, message: Mapping[str, Any], alerts: list[Alert]) -> Outcome:
    (recipient,) = message["recipients"]
    told = sorted(_told(alert) for alert in alerts if alert.concerns(letter.address))
    return Outcome(recipient["delivery"], recipient["disposition"], recipient["receipt"], tuple(told))


def _told(alert: Alert) -> Told:
    level = 0 if alert.type == "receipt.resolved" else alert.escalation
    return Told(alert.webhook, alert.type, level, alert.late)


def _faults(world: World) -> Iterator[str]:
    for alert in world.alerts:
        if not any(alert.concerns(letter.address) for letter in LETTERS):
            yield f"an alert that no letter explains: {alert.webhook}: {alert.type} ({alert.data.get('reason')})"
    for why in world.webhooks.forged:
        yield f"a webhook that can't be believed: {why}"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "delivery": outcome.delivery,
        "disposition": outcome.disposition,
        "receipt": outcome.receipt,
        "alerts": [str(told) for told in outcome.alerts],
    }
