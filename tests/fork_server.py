"""Processes of receiptd without the second that its imports take: forked from one that has them already.

The tests start about a hundred daemons, and a test of kills dozens. Run as a module this is that one process:
it reads requests as JSON lines and answers each with a line. Its children are whole daemons and commands, with
their own exit status, and die with it; it dies with the test run.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ForkServer:
    """The process that forks."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
        )
        self._ask()

    def start(
        self,
        words: list[str],
        output: Path,
        environ: Mapping[str, str] | None = None,
        *,
        program: str = "receiptd.cli",
        prepare: Sequence[str] = (),
    ) -> Child:
        """Start *program*, a module with a `main`, with *words*; all it says goes to *output*.

        *environ* comes beside ours, and *prepare* names functions (`module:function`) to be called first.
        """
        request = {"words": words, "output": str(output), "environ": dict(environ or {})}
        request |= {"program": program, "prepare": list(prepare)}
        return Child(self, int(self._ask(request)))

    def status(self, pid: int) -> int | None:
        """Return the exit status of a child that ended (negative: the signal), or None while it runs."""
        status: int | None = self._ask({"pid": pid})
        return status

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any] | None = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request is not None:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Child:
    """One process of receiptd, with what a test needs of subprocess.Popen."""

    def __init__(self, fork_server: ForkServer, pid: int) -> None:
        self._fork_server = fork_server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._fork_server.status(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        give_up = time.monotonic() + timeout
        while (status := self.poll()) is None:
            assert time.monotonic() < give_up, f"process {self.pid} still runs after {timeout} s"
            time.sleep(0.005)
        return status

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # The fork server reaps only when asked, so until then the number is nobody else's.
        if self.poll() is None:
            os.kill(self.pid, number)


def _serve() -> None:
    _die_with_parent()
    for room in ("cli", "daemon", "send.command"):
        importlib.import_module(f"receiptd.{room}")

    say = sys.stdout
    print("null", file=say, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _fork(**request) if "words" in request else _status(**request)
        print(json.dumps(answer), file=say, flush=True)
    os._exit(os.EX_OK)  # without the second that freeing all that was imported takes


def _fork(words: list[str], output: str, environ: dict[str, str], program: str, prepare: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        os.environ.update(environ)
        _become(words, output, program, prepare)
    return pid


def _become(words: list[str], output: str, program: str, prepare: list[str]) -> None:
    _die_with_parent()
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in enumerate((nothing, out, out)):
        os.dup2(source, target)
    status = os.EX_SOFTWARE
    try:
        for named in prepare:
            module, _, function = named.partition(":")
            getattr(importlib.import_module(module), function)()
        status = importlib.import_module(program).main(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _status(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    _serve()
