"""One receiptd as its users have it: a real daemon, the real send-with-receipt, a real webhook receiver."""

from __future__ import annotations

import atexit
import functools
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from receiptd import client
from receiptd.errors import ReceiptdError
from tests.databases import database_in, drop_database
from tests.fork_server import Child, ForkServer
from tests.receiver import SECRET, Receiver

Json = dict[str, Any]

PATIENCE = 60.0
"""Seconds that a test waits at most for what must happen: a loaded machine or a slow disk fails none."""

_SETTINGS = Template("""
[service]
database = "$database"
listen = [
  {unix = "$folder/send.sock", mode = "0666", scope = "send"},
  {unix = "$folder/api.sock", mode = "0660", scope = "operate"},
]
$service

[submission]
$submission

[receipts]
$receipts

[[mailbox]]
name = "receipts"
poll = "1s"
$mailbox

[policy.default]
within = "1m"
levels = [{after = "0s", to = ["ops"]}, {after = "3s", to = ["boss"]}]

[[webhook]]
name = "ops"
url = "$ops"
secret_file = "webhook"

[[webhook]]
name = "boss"
url = "$boss"
secret_file = "webhook"
$last
""")


@dataclass(frozen=True)
class Tables:
    """What the settings of one daemon hold beside what all have: the lines of a table, or its further ones."""

    submission: str
    receipts: str
    mailbox: str
    service: str = ""
    last: str = ""

    def furnish(self, folder: Path, receiver: Receiver, secrets: Mapping[str, str]) -> Path:
        """Write settings and secrets into *folder*; return the path of the settings."""
        for name, content in {"webhook": SECRET, **secrets}.items():
            (folder / name).write_text(content)
        config = folder / "receiptd.toml"
        urls = {"ops": receiver.url("ops"), "boss": receiver.url("boss")}
        config.write_text(_SETTINGS.substitute(vars(self), folder=folder, database=database_in(folder), **urls))
        return config


@dataclass(frozen=True)
class Ended:
    """A command that is over: its exit status and all it said."""

    status: int
    said: str


class DaemonProcess:
    """One sender: a settings file, a daemon on it, and where its alerts arrive."""

    def __init__(self, fork_server: ForkServer, tables: Tables, secrets: Mapping[str, str]) -> None:
        self._fork_server = fork_server
        self.folder = Path(tempfile.mkdtemp(prefix="rcpt-"))
        self.receiver = Receiver()
        self.config = tables.furnish(self.folder, self.receiver, secrets)
        self.child: Child | None = None
        self.environ: dict[str, str] = {}
        """What the daemon's environment has beside ours."""

    # --- the daemon

    @property
    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text() if path.exists() else ""

    def start(self, *, ready: str = "/healthz") -> None:
        """Start the daemon and return when *ready* answers."""
        self.launch()
        self.await_up(ready=ready)

    def launch(self) -> Child:
        """Start the daemon without waiting."""
        self.child = self._fork_server.start(
            ["run", "--config", str(self.config)], self.folder / "daemon.log", self.environ
        )
        return self.child

    def await_up(self, *, ready: str = "/healthz") -> None:
        """Return when the daemon answers at *ready*."""
        assert self.child is not None
        give_up = time.monotonic() + PATIENCE
        while not self._answers(ready):
            assert self.child.poll() is None, f"the daemon ended with {self.child.returncode}:\n{self.log}"
            assert time.monotonic() < give_up, f"the daemon isn't ready within {PATIENCE} s:\n{self.log}"
            time.sleep(0.02)

    def _answers(self, path: str) -> bool:
        try:
            self.api.get(path)
        except ReceiptdError:
            return False
        return True

    def stop(self, *, kill: bool = False) -> int:
        """End the daemon, by SIGTERM or at once; return its exit status."""
        assert self.child is not None
        if kill:
            self.child.kill()
        else:
            self.child.terminate()
        status = self.child.wait(PATIENCE)
        self.child = None
        return status

    def close(self) -> None:
        if self.child is not None:
            self.stop(kill=True)
        self.receiver.close()
        drop_database(self.folder)
        shutil.rmtree(self.folder)

    # --- who sends, and who runs it

    def send_with_receipt(self, *words: str, stdin: bytes = b"Good day.\n") -> subprocess.CompletedProcess[bytes]:
        """Run send-with-receipt on this daemon's settings, as a user does."""
        return subprocess.run(
            self.sending(*words), input=stdin, capture_output=True, env=environment(), timeout=PATIENCE, check=False
        )

    def sending(self, *words: str) -> list[str]:
        """Return the command line of send-with-receipt with such words."""
        return [sys.executable, "-m", "receiptd.send", *words, "--config", str(self.config)]

    def send(self, *recipients: str, text: str = "Good day.\n", options: tuple[str, ...] = ()) -> str:
        """Hand a letter over with send-with-receipt; return the message's id."""
        words = ("-f", "office@a.test", "-s", "An invoice", *options, *recipients)
        done = self.send_with_receipt(*words, stdin=text.encode())
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def post(self, *recipients: str, key: str | None = None, **more: Any) -> str:
        """Hand a letter over as send-with-receipt does; return its id."""
        body = {"from": "office@a.test", "to": recipients, "subject": "An invoice", "text": "Good day.\n", **more}
        headers = {"Idempotency-Key": key} if key else None
        answer: Json = self.api.post(client.path("messages"), body, headers=headers)
        return str(answer["id"])

    def run(self, *words: str, config: Path | None = None) -> Ended:
        """Run a command of receiptd to its end."""
        output = self.folder / "output"
        output.unlink(missing_ok=True)
        child = self._fork_server.start([*words, "--config", str(config or self.config)], output)
        return Ended(child.wait(PATIENCE), output.read_text())

    def sendmail(self) -> Path:
        """Return the path of this daemon's sendmail: send-with-receipt, as an administrator wraps it."""
        path = self.folder / "sendmail"
        words = shlex.join([sys.executable, "-m", "receiptd.send", "--config", str(self.config)])
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)
        return path

    # --- what became of it

    @property
    def api(self) -> client.Client:
        return client.find(self.config, environ={})

    @property
    def receipts_address(self) -> str:
        address: str = tomllib.loads(self.config.read_text())["receipts"]["address"]
        return address

    def message(self, message: str) -> Json:
        shown: Json = self.api.get(client.path("messages", message))
        return shown

    def wait(self, message: str, until: Callable[[Json], bool], *, within: float = PATIENCE) -> Json:
        """Return the message as soon as its first recipient is as *until* wants it."""
        give_up = time.monotonic() + within
        while True:
            shown = self.message(message)
            if until(shown["recipients"][0]):
                return shown
            assert time.monotonic() < give_up, f"not within {within} s: {json.dumps(shown, indent=1)}\n{self.log}"
            time.sleep(0.05)

    def reports(self, verdict: str | None = None) -> list[Json]:
        """Return the reports that came, or those of a verdict, newest first."""
        asked = [("limit", "200"), *([("verdict", verdict)] if verdict else [])]
        items: list[Json] = self.api.get(client.path("reports"), asked)["items"]
        return items

    def look(self, path: str) -> tuple[int, str]:
        """Return status and text of an answer of api.sock, as a supervisor or Prometheus gets it."""
        link = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        link.sock = socket.socket(socket.AF_UNIX)
        try:
            link.sock.connect(str(self.folder / "api.sock"))
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read().decode()
        finally:
            link.close()

    def ready(self) -> dict[str, Json]:
        """Return what /readyz says, by the name of the check."""
        shown = json.loads(self.look("/readyz")[1])
        return {check["name"]: check for check in shown["checks"]}

    def figure(self, name: str) -> float:
        """Return what /metrics says of a figure, by its name with its labels; 0 where it says nothing."""
        lines = (line.split() for line in self.look("/metrics")[1].splitlines())
        return next((float(words[1]) for words in lines if words and words[0] == name), 0.0)

    def await_figure(self, name: str, least: float) -> None:
        """Return when a figure of /metrics is at least so much."""
        await_that(lambda: self.figure(name) >= least, lambda: f"{name} is {self.figure(name)}:\n{self.log}")


def await_that(met: Callable[[], object], found: Callable[[], object] = lambda: "") -> None:
    """Return as soon as something is *met*; fail with what is *found* instead if it never is."""
    give_up = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < give_up, f"not within {PATIENCE} s: {found()}"
        time.sleep(0.02)


def environment() -> dict[str, str]:
    """Return ours without what would speak to another daemon or supervisor."""
    strange = ("RECEIPTD_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY", "BOOT_ID")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return ours | {"CACHE_DIRECTORY": str(cache())}


@functools.cache
def cache() -> Path:
    """Return where daemons note their last attempts, outside the folder of each."""
    made = Path(tempfile.mkdtemp(prefix="rcpt-cache-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def kinds(shown: Json) -> list[str]:
    """Return the kinds of all events of a message, in order."""
    return [event["kind"] for event in shown["events"]]


def event(shown: Json, kind: str) -> Json:
    """Return a message's first event of a kind."""
    found: Json = next(event for event in shown["events"] if event["kind"] == kind)
    return found


@contextmanager
def open_daemon(
    fork_server: ForkServer, tables: Tables, secrets: Mapping[str, str], *, start: bool = True
) -> Iterator[DaemonProcess]:
    """Open a daemon, and close it whatever happens."""
    daemon = DaemonProcess(fork_server, tables, secrets)
    try:
        if start:
            daemon.start()
        yield daemon
    finally:
        daemon.close()
