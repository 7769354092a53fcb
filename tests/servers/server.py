"""One mail server: its /etc, its namespaces, its processes and its log."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TEMPLATES = Path(__file__).parent / "etc"

# What a server sees: the machine, read-only, with the unpacked package over /usr, its own /etc, /var/spool and
# /var/lib, an empty /run and /tmp; only the world's folder can be written. The shell stays as process 1 of the PID
# namespace: the kernel ends all others with it, and a server that changes its user loses the parent-death signal.
_ENTER = """
sees="$HERE/machine"
mount --rbind / "$sees"
mount --bind "$ROOT" "$sees$ROOT"
mount --bind "$PACKAGE" "$HERE/package"
mount -t overlay overlay -o "lowerdir=$HERE/package/usr:/usr" "$sees/usr"
mount -t overlay overlay -o "lowerdir=$HERE/etc:$HERE/package/etc:/etc" "$sees/etc"
mount --bind "$HERE/spool" "$sees/var/spool"
mount --bind "$HERE/lib" "$sees/var/lib"
mount -t tmpfs -o mode=755 tmpfs "$sees/run"
mount -t tmpfs -o mode=1777 tmpfs "$sees/tmp"
mount -o remount,bind,ro "$sees"
chroot "$sees" "$@" &
wait $!
"""


class ServerDied(Exception):
    """A server ended or did not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class Program:
    """A mail server's program: its packages, how it is run, and what it expects to find made."""

    packages: tuple[str, ...]
    command: tuple[str, ...]
    prepare: Callable[[Path], None]


@dataclass
class Server:
    """A running instance of *program* with the templates of etc/*name* as its /etc.

    *listens* are the addresses that answer once it is up: a port, or the path of a Unix socket.
    """

    name: str
    program: Program
    package: Path
    root: Path
    listens: tuple[int | Path, ...]
    values: Mapping[str, object]
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def here(self) -> Path:
        return self.root / self.name

    def launch(self) -> None:
        """Start it without waiting; `await_up` does that."""
        if not self.here.exists():
            self._furnish()
        for leftover in self.listens:
            if isinstance(leftover, Path):
                leftover.unlink(missing_ok=True)
        command = [*_DYING_WITH_US, "sh", "-ec", _ENTER, self.name, *self.program.command]
        places = {"ROOT": str(self.root), "HERE": str(self.here), "PACKAGE": str(self.package)}
        with (self.here / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **places},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def await_up(self, within: float = 60) -> None:
        """Return when every address in *listens* takes connections.

        :raises ServerDied: if it ends before, or takes longer than *within* seconds
        """
        give_up = time.monotonic() + within
        for address in self.listens:
            while not _answers(address):
                if self._process is None or self._process.poll() is not None:
                    raise ServerDied(f"{self.name} ended at once\n{self.log()[-2000:]}")
                if time.monotonic() > give_up:
                    raise ServerDied(f"{self.name} does not answer at {address}\n{self.log()[-2000:]}")
                time.sleep(0.01)

    def start(self) -> None:
        self.launch()
        self.await_up()

    def stop(self) -> None:
        """Kill it and all its processes, as a crash or a power cut does; return when none is left."""
        self.kill()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kill it without waiting; `stop` does that."""
        if self._process is not None:
            # The kernel lets the first process of the namespace go only after all others, and unshare waits for it.
            if (first := self.first_process()) is None:
                self._process.kill()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def pause(self) -> None:
        """Stop every process of it: connections stay open and nobody answers."""
        while running := [pid for pid, state in self._processes() if state not in "TZX"]:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            time.sleep(0.005)

    def resume(self) -> None:
        for pid, _ in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def log(self) -> str:
        """What it wrote into its logs and to its output, since it was first started."""
        files = [*sorted(self.here.glob("*log")), self.here / "output"]
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    def _furnish(self) -> None:
        for folder in ("etc", "spool", "lib", "package", "machine"):
            (self.here / folder).mkdir(parents=True)
        for tree in ("common", self.name):
            _render(TEMPLATES / tree, self.here / "etc", {**self.values, "root": self.root, "dir": self.here})
        self.program.prepare(self.here)

    def first_process(self) -> int | None:
        """Process 1 of its PID namespace, as this side numbers it."""
        if self._process is None or self._process.poll() is not None:
            return None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0]) if children.strip() else None

    def _processes(self) -> Iterator[tuple[int, str]]:
        """The processes in its PID namespace, with the state of each, as this side numbers them."""
        first = self.first_process()
        assert first is not None, f"{self.name} is not running"
        namespace = Path(f"/proc/{first}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "ns" / "pid").readlink() == namespace:
                        stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                        yield int(entry.name), stat.rpartition(")")[2].split()[0]
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue  # it ended while we looked, or is none of ours


# setpriv: the kernel kills unshare when we die, even by SIGKILL; --kill-child: and then process 1 of the namespace.
_DYING_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--"),
)


_LONG_AGO = 1_000_000_000


def can_enter() -> str | None:
    """Return why this process may not make the namespaces a server needs, or None if it may."""
    attempt = "mkdir /tmp/lower && mount -t overlay overlay -o lowerdir=/tmp/lower:/usr /usr"
    try:
        done = subprocess.run(
            [*_DYING_WITH_US, "sh", "-ec", f"mount -t tmpfs tmpfs /tmp; {attempt}"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as missing:
        return f"{missing.filename} is missing (util-linux)"
    if done.returncode == 0:
        return None
    if "root filesystem propagation" in done.stderr:
        return "the root directory is no mount point: before chroot, bind-mount it over itself"
    return f"no mount and PID namespaces here ({done.stderr.strip() or 'unshare failed'})"


def _render(templates: Path, target: Path, values: Mapping[str, object]) -> None:
    """Copy a tree of configuration files, with every {{name}} replaced by its value."""
    for template in sorted(templates.rglob("*")):
        if template.is_file():
            file = target / template.relative_to(templates)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(render(template, values), encoding="utf-8")
            # Postfix waits until a configuration file is older than a second, lest it read one half written.
            os.utime(file, (_LONG_AGO, _LONG_AGO))


def render(template: Path, values: Mapping[str, object]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: str(values[name[1]]), template.read_text(encoding="utf-8"))


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _answers(address: int | Path) -> bool:
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    target = ("127.0.0.1", address) if isinstance(address, int) else str(address)
    with socket.socket(family) as probe:
        return probe.connect_ex(target) == 0
