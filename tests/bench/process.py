"""What a process costs, read from /proc: CPU time, memory, and where its time goes (py-spy)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^:]+?)(?::\d+)?\)$")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its threads have used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in MB; *proportional* counts a shared page only in part."""

    resident: float
    proportional: float


def memory(pid: int) -> Memory:
    """Return what a process has in memory now."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return Memory(kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024)


@dataclass
class Profile:
    """Samples of a process that held the interpreter lock.

    *own* counts them by the package (or part of receiptd) that was running, *leaves* by function; *within* counts a
    sample for every function of receiptd that is on the stack, once.
    """

    samples: int = 0
    loop: float = 0.0
    """The share of the event loop's thread in the CPU time of all threads."""
    own: Counter[str] = field(default_factory=Counter)
    leaves: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)

    def add(self, frames: list[str], count: int) -> None:
        """Count one stack, outermost frame first."""
        known = [(match["function"], match["file"]) for frame in frames if (match := _FRAME.match(frame))]
        if not known:
            return
        self.samples += count
        function, file = known[-1]
        self.own[_package(file)] += count
        self.leaves[f"{_module(file)}.{function}"] += count
        ours = {f"{_module(file)}.{function}" for function, file in known if _is_ours(file)}
        self.within.update(dict.fromkeys(ours, count))

    def text(self, most: int = 25) -> str:
        """Return what dominates, as percentages of all samples."""
        parts = (("by package", self.own), ("by function", self.leaves), ("within receiptd's functions", self.within))
        lines = [
            f"  {100 * self.loop:.0f} % of the CPU time is the event loop's thread; samples hold the interpreter lock"
        ]
        for title, counter in parts:
            lines.append(f"  {title}:")
            lines += [f"    {100 * n / max(self.samples, 1):5.1f} %  {name}" for name, n in counter.most_common(most)]
        return "\n".join(lines)


def threads(pid: int) -> dict[int, float]:
    """Return the CPU time of each thread; the event loop's has the number of the process."""
    spent = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            spent[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / _TICK
    return spent


def _is_ours(file: str) -> bool:
    """Whether it is a function of receiptd that does something, and no frame around all others."""
    return "receiptd/" in file and Path(file).stem not in ("cli", "terminal", "__main__")


def _package(file: str) -> str:
    parts = Path(file.removeprefix("<frozen ").removesuffix(">")).parts
    if "receiptd" in parts:
        below = parts[len(parts) - parts[::-1].index("receiptd") :]
        return "receiptd." + ".".join(below[:-1] or (Path(below[-1]).stem,))
    return parts[0] if len(parts) > 1 else Path(file).stem


def _module(file: str) -> str:
    parts = Path(file).with_suffix("").parts
    return ".".join(parts[-2:]) if len(parts) > 1 else parts[0]


class Profiler:
    """py-spy on a process, from now until `stop`."""

    def __init__(self, pid: int, output: Path) -> None:
        program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
        command = [program, "record", "--pid", str(pid), "--rate", "250", "--format", "raw", "--output", str(output)]
        self._output, self._pid = output, pid
        self._threads = threads(pid)
        self._process = subprocess.Popen(
            [*command, "--gil", "--duration", "unlimited"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> Profile:
        """End it and return what it saw."""
        spent = {thread: used - self._threads.get(thread, 0) for thread, used in threads(self._pid).items()}
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        total = max(sum(spent.values()), 0.01)
        profile = Profile(loop=spent.get(self._pid, 0) / total)
        for line in self._output.read_text(encoding="utf-8").splitlines():
            stack, _, count = line.rpartition(" ")
            profile.add(stack.split(";"), int(count))
        return profile
