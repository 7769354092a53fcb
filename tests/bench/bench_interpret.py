"""How fast reports are read, beside a bare parse by the standard library.

`python -m tests.bench.bench_interpret [FOLDER]`; without a folder, the recorded reports.
"""

from __future__ import annotations

import email
import sys
import time
from collections.abc import Callable
from pathlib import Path

from receiptd.interpret import interpret

RECORDED = Path(__file__).parent.parent / "fixtures" / "reports"
ROUNDS = 7


def best(read: Callable[[bytes], object], raws: list[bytes]) -> float:
    """Return the seconds of the fastest of several rounds: what the machine can, not what else it did."""
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for raw in raws:
            read(raw)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    raws = [
        path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix not in (".jsonl", ".md") and path.is_file()
    ]
    ours, theirs = best(interpret, raws), best(email.message_from_bytes, raws)
    print(f"{len(raws)} messages: {len(raws) / ours:,.0f}/s, email.message_from_bytes {len(raws) / theirs:,.0f}/s")
    print(f"ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
