"""An office that sends mail that matters: real daemon, real send-with-receipt, a real webhook receiver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from receiptd import client
from receiptd.errors import ReceiptdError
from tests.receiver import SECRET, Receiver

# The daemon dies with the test run, should that be killed.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
Json = dict[str, Any]


class Office:
    """One sender: a settings file, a daemon on it, and where its alerts arrive."""

    def __init__(self, settings: str, secrets: dict[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rcpt-"))
        self.receiver = Receiver()
        self.config = self.folder / "receiptd.toml"
        for name, content in {"webhook": SECRET, **secrets}.items():
            (self.folder / name).write_text(content)
        urls = {"ops_url": self.receiver.url("ops"), "boss_url": self.receiver.url("boss")}
        self.config.write_text(settings.format(folder=self.folder, **urls))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text() if path.exists() else ""

    @property
    def daemon(self) -> client.Daemon:
        return client.find(self.config, environ={})

    def start(self, *, ready: str = "/healthz", within: float = 20) -> None:
        """Start the daemon and return when *ready* answers."""
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _DIE_WITH_PARENT, "-m", "receiptd", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
            )
        give_up = time.monotonic() + within
        while not self._answers(ready):
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < give_up, f"the daemon isn't ready within {within} s:\n{self.log}"
            time.sleep(0.05)

    def _answers(self, path: str) -> bool:
        try:
            self.daemon.get(path)
        except ReceiptdError:
            return False
        return True

    def stop(self, *, kill: bool = False) -> int:
        """End the daemon, by SIGTERM or at once; return its exit status."""
        assert self.process is not None
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        status = self.process.wait(30)
        self.process = None
        return status

    def close(self) -> None:
        if self.process is not None:
            self.stop(kill=True)
        self.receiver.close()
        shutil.rmtree(self.folder)

    def command(
        self, *words: str, stdin: bytes = b"", program: str = "receiptd", timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command of ours on this office's settings."""
        module = {"receiptd": "receiptd", "send-with-receipt": "receiptd.send"}[program]
        return subprocess.run(
            [sys.executable, "-m", module, *words, "--config", str(self.config)],
            input=stdin,
            capture_output=True,
            env=environment(),
            timeout=timeout,
            check=False,
        )

    def send(self, *recipients: str, text: str = "Good day.\n", options: tuple[str, ...] = ()) -> str:
        """Hand a letter over with send-with-receipt; return the message's id."""
        words = ("-f", "office@a.test", "-s", "An invoice", *options, *recipients)
        done = self.command(*words, stdin=text.encode(), program="send-with-receipt")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def message(self, message: str) -> Json:
        shown: Json = self.daemon.get(client.path("messages", message))
        return shown

    def wait(self, message: str, until: Callable[[Json], bool], *, within: float = 20) -> Json:
        """Return the message as soon as its first recipient is as *until* wants it."""
        give_up = time.monotonic() + within
        while True:
            shown = self.message(message)
            if until(shown["recipients"][0]):
                return shown
            assert time.monotonic() < give_up, f"not within {within} s: {json.dumps(shown, indent=1)}\n{self.log}"
            time.sleep(0.05)


def environment() -> dict[str, str]:
    """Return ours without what would speak to another daemon or supervisor."""
    strange = ("RECEIPTD_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)}


def kinds(shown: Json) -> list[str]:
    """Return the kinds of all events of a message, in order."""
    return [event["kind"] for event in shown["events"]]


@contextmanager
def opened(settings: str, secrets: dict[str, str], *, start: bool = True) -> Iterator[Office]:
    """Open an office, and close it whatever happens."""
    office = Office(settings, secrets)
    try:
        if start:
            office.start()
        yield office
    finally:
        office.close()
