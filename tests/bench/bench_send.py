"""How long send-with-receipt takes, beside the bare interpreter.

The daemon runs on a relay that isn't there: handing a message over needs none.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence

from tests.bench.bench import Bench
from tests.bench.figures import Figure

_RUNS = 20


def send(bench: Bench) -> list[Figure]:
    """Run both in turn."""
    daemon = bench.daemon(bench.planted(bench.accepted, 0), bench.peers())
    daemon.start()
    words = ("-f", "me@a.test", "-s", "Contract", "--config", str(daemon.config), "bob@b.test")
    whole = daemon.python("-m", "receiptd.send", *words)
    bare = daemon.python("-c", "pass")
    _seconds(whole, daemon.environment())
    pairs = [(_seconds(whole, daemon.environment()), _seconds(bare, daemon.environment())) for _ in range(_RUNS)]
    daemon.stop()
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    found, beside = f"{ours * 1000:.0f} ms", f"python -c pass: {theirs * 1000:.0f} ms"
    return [Figure("send-with-receipt, whole", found, beside, ratio, "≤ 5")]


def _seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the wall-clock time of one run."""
    began = time.perf_counter()
    subprocess.run(command, input=b"Good day.\n", env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
