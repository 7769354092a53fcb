"""Tell the demo: one line for each event as it happens, a table at the end; colour only on a terminal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from receiptd.sandbox.letters import LETTERS, Letter
from receiptd.terminal import safe

if TYPE_CHECKING:
    from receiptd.sandbox.mailworld import World
    from receiptd.sandbox.play import Course, Result
    from receiptd.sandbox.processes import Daemon
    from receiptd.sandbox.receiver import Alert

_NAME = max(len(letter.name) for letter in LETTERS)
_GOOD = {"relayed", "expanded", "delivered", "displayed", "replied", "met"}
_BAD = {"failed", "refused", "overdue", "denied", "error", "uncertain"}
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}


class Story:
    """Talks to *stream*; the result as JSON goes to *data*, if there is one."""

    def __init__(self, stream: TextIO, *, data: TextIO | None = None) -> None:
        self._stream = stream
        self._data = data
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self._began = time.monotonic()

    def opens(self, world: World, settings: Sequence[Path]) -> None:
        """Say where the world stands."""
        self._say(self._paint("bold", "receiptd demo: a mail world on loopback, and the real daemon in it"))
        self._say(f"  submission server with DSN  127.0.0.1:{world.smtp.port} (STARTTLS, AUTH)")
        self._say(f"  receipts mailbox            127.0.0.1:{world.imap.port} (IMAP over TLS; INBOX and Junk)")
        self._say(f"  webhook receiver            {world.webhooks.url('ops')} and /boss")
        for path in settings:
            self._say(f"  settings                    {path}")

    def is_ready(self, node: Daemon | None = None) -> None:
        """Say that the daemon is, or *node*, one of several."""
        self._line("daemon", "ready", node.name if node else "")

    def sent(self, letter: Letter) -> None:
        """Say that send-with-receipt returned."""
        self._line(letter.name, "sent", f"to {letter.address}: {letter.shows}")

    def events(self, course: Course, message: Mapping[str, Any]) -> None:
        """Tell the events of *message* that were not told yet."""
        for event in message["events"]:
            if event["id"] in course.told:
                continue
            course.told.add(event["id"])
            if event["kind"] != "queued":  # "sent" said so
                self._line(course.letter.name, event["kind"], _because(event))

    def alerts(self, alerts: Sequence[Alert], told: int, courses: Sequence[Course]) -> int:
        """Tell the alerts behind the first *told*; return how many have been told now."""
        for alert in alerts[told:]:
            name = next((c.letter.name for c in courses if alert.concerns(c.letter.address)), "?")
            level = f", level {alert.escalation}" if alert.type != "receipt.resolved" else ""
            late = ", late" if alert.late else ""
            what = f"{alert.type}{level}{late}: {_plain(alert.data.get('reason'))}"
            self._line(name, f"→ {alert.webhook}", what)
        return len(alerts)

    def closes(self, result: Result) -> None:
        """Show the table and the sum."""
        self._say("")
        self._say(
            self._paint("bold", f"    {'letter':<{_NAME}}  what it shows: delivery / disposition / receipt, alerts")
        )
        for course in result.courses:
            self._row(course)
        for fault in result.faults:
            self.complains(fault)
        met = sum(course.ok for course in result.courses)
        summary = f"{met} of {len(result.courses)} letters met their fate in {result.seconds} s"
        self._say("")
        self._say(self._paint("green" if result.ok else "red", summary))
        if self._data:
            letters = [course.verdict for course in result.courses]
            print(json.dumps({"letters": letters, "seconds": result.seconds}), file=self._data, flush=True)

    def complains(self, fault: str) -> None:
        """Say what went wrong beside the letters."""
        self._say(self._paint("red", _plain(fault)))

    def shows_logs(self, daemons: Sequence[Daemon]) -> None:
        """Show the end of each daemon's log."""
        for daemon in daemons:
            self._say(self._paint("bold", f"the end of {daemon.log}:"))
            self._say(daemon.last_words())

    def stays(self, daemon: Daemon, courses: Sequence[Course]) -> None:
        """Say what can be tried in the finished world."""
        config = f"--config {daemon.settings}"
        self._say("")
        self._say(self._paint("bold", "World and daemon stay until Ctrl-C. Try:"))
        self._say(f"  receiptd list {config}")
        self._say(f"  receiptd show {config} {courses[-1].id}")
        self._say(
            f"  echo Hello | send-with-receipt {config} -f sales@office.example -s Hello --wait ann@delivers.example"
        )
        self._say(f"  tail -f {daemon.log}")

    def _line(self, name: str, kind: str, what: str) -> None:
        seconds = time.monotonic() - self._began
        colour = "green" if kind in _GOOD else "red" if kind in _BAD else "cyan" if kind.startswith("→") else "dim"
        self._say(f"{seconds:5.1f} s  {name:<{_NAME}}  {self._paint(colour, f'{kind:<9}')}  {what}".rstrip())

    def _row(self, course: Course) -> None:
        colour, mark = ("green", "ok") if course.ok else ("red", "NO")
        self._say(f"{self._paint(colour, mark)}  {course.letter.name:<{_NAME}}  {course.letter.shows}")
        for word, outcome in (("expected", course.letter.expected), ("got", course.got)):
            self._say(f"    {'':<{_NAME}}  {word:<8}  {outcome}")

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._coloured else text

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def _because(event: Mapping[str, Any]) -> str:
    """Return who says so, and what he says."""
    detail = event.get("detail") or {}
    said = [
        detail.get("reporting_mta") or detail.get("reporting_ua"),
        detail.get("status"),
        detail.get("diagnostic_code"),
    ]
    return ", ".join([f"{event['source']}", *(_plain(word) for word in said if word)])


def _plain(text: object) -> str:
    """Return foreign text on one line, its control characters escaped."""
    return safe(" ".join(str(text).split()))
