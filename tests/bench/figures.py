"""What a benchmark found, as a table for people and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, what stood beside it in the same run, and what is needed."""

    name: str
    found: str
    beside: str = ""
    ratio: float | None = None
    needed: str = ""
    cpu_ms: float | None = None
    """CPU time of the daemon for one unit, in milliseconds."""
    detail: dict[str, Any] = field(default_factory=dict)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that *percent* of all don't exceed; NaN where there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float]) -> str:
    """Return median, 99th percentile and maximum of durations in seconds, as milliseconds."""
    if not values:
        return "none came"
    figures = (statistics.median(values), percentile(values, 99), max(values))
    return "p50 {:,.0f} ms, p99 {:,.0f} ms, max {:,.0f} ms".format(*(1000 * value for value in figures))


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    total = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{os.cpu_count()} × {names[0] if names else platform.machine()}",
        "memory_gb": round(int(total) / 2**20),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "command": "python -m tests.bench " + " ".join(sys.argv[1:]),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def table(figures: Sequence[Figure]) -> str:
    """Return *figures* as a Markdown table."""
    lines = [
        "| measured | receiptd | beside it | ratio | needed | CPU each |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in figures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}" if one.ratio < 10 else f"{one.ratio:.1f}"
        cpu = "" if one.cpu_ms is None else f"{one.cpu_ms:.2f} ms"
        lines.append(f"| {one.name} | {one.found} | {one.beside} | {ratio} | {one.needed} | {cpu} |")
    return "\n".join(lines)


def write(path: Path, figures: Sequence[Figure], about: dict[str, Any]) -> None:
    """Write all as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
