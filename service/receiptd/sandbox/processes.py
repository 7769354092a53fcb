"""The real daemon and the real send-with-receipt, as processes that die with the demo."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiptd import client
from receiptd.errors import ReceiptdError, Unavailable
from receiptd.sandbox.letters import SENDER, Letter

_READY_WITHIN = 30.0
_STOPS_WITHIN = 25.0
"""Seconds: the daemon drains for 20 (docs/design.md §4), then it is killed."""
_LOG_TAIL = 15

# PR_SET_PDEATHSIG survives exec: should the demo be killed, so is the daemon, and nothing runs on.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@dataclass(frozen=True, slots=True)
class Daemon:
    """`receiptd run` on *settings*, its log in a file, its API on a Unix socket."""

    settings: Path
    process: asyncio.subprocess.Process

    @property
    def name(self) -> str:
        return self.settings.parent.name

    @property
    def log(self) -> Path:
        return self.settings.parent / "daemon.log"

    @property
    def was_killed(self) -> bool:
        """Whether it didn't end when it was told to."""
        return self.process.returncode == -signal.SIGKILL

    async def get(self, path: str) -> Any:
        """Return what the API has at *path*; raise Unavailable if the daemon has ended."""
        try:
            return await asyncio.to_thread(client.find(self.settings, environ={}).get, path)
        except Unavailable as fault:
            if self.process.returncode is not None:
                raise Unavailable(
                    f"The daemon ended with status {self.process.returncode}: its log says why."
                ) from fault
            raise

    async def send(self, letter: Letter) -> str:
        """Hand *letter* over with send-with-receipt; return the message's id."""
        command = ("-m", "receiptd.send", "--config", str(self.settings), "--json")
        content = ("-f", SENDER, "-s", letter.subject, "--require", letter.require, letter.address)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *content,
            env=_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complaint = await process.communicate(letter.body.encode())
        if process.returncode:
            raise Unavailable(f"send-with-receipt ended with status {process.returncode}: {complaint.decode().strip()}")
        return str(json.loads(said)["id"])

    def last_words(self) -> str:
        """Return the end of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])


@asynccontextmanager
async def running(settings: Path) -> AsyncIterator[Daemon]:
    """Run the daemon; it is told to stop, or killed, before this returns."""
    with (settings.parent / "daemon.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _DIE_WITH_PARENT,
            "-m",
            "receiptd",
            "run",
            "--config",
            str(settings),
            env=_environment() | {"CACHE_DIRECTORY": str(settings.parent)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is the demo's to handle
        )
    try:
        yield Daemon(settings, process)
    finally:
        await _stop(process)


async def wait_until_ready(daemon: Daemon) -> None:
    """Return when /readyz says so; raise Unavailable if the daemon ends or takes too long."""
    patience = time.monotonic() + _READY_WITHIN
    while True:
        try:
            await daemon.get("/readyz")
        except ReceiptdError as reason:
            if daemon.process.returncode is not None:
                raise
            if time.monotonic() > patience:
                raise Unavailable(f"The daemon was not ready within {_READY_WITHIN:.0f} s: {reason}") from reason
            await asyncio.sleep(0.1)
        else:
            return


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOPS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """Return our environment without what would override the demo's settings or speak to our supervisor."""
    strange = ("RECEIPTD_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)}
