"""How fast reports are read, beside a bare read of the same files by the standard library.

`python -m tests.bench.bench_interpret [FOLDER]`; without a folder, the recorded reports. The two take turns,
message by message, and of each message each counts its fastest round: what the machine can, not what else it did.
"""

from __future__ import annotations

import email
import math
import sys
import time
from collections.abc import Callable
from email.message import Message
from pathlib import Path

from receiptd.facts import ReportKind
from receiptd.interpret import interpret

RECORDED = Path(__file__).parent.parent / "fixtures" / "reports"
ROUNDS = 15
NO_REPORTS = frozenset({ReportKind.ORDINARY, ReportKind.REPLY})


def bare(raw: bytes) -> list[tuple[str, str]]:
    """Read *raw* as a program without receiptd would: parse, walk, take the fields of the machine part."""
    fields: list[tuple[str, str]] = []
    for part in email.message_from_bytes(raw).walk():
        if part.get_content_type() == "message/delivery-status":
            blocks = part.get_payload()
            fields += [field for block in blocks if isinstance(block, Message) for field in block.items()]
    return fields


def seconds(read: Callable[[bytes], object], raw: bytes) -> float:
    """Return how long *read* takes for *raw*."""
    begun = time.perf_counter()
    read(raw)
    return time.perf_counter() - begun


def compare(name: str, raws: list[bytes]) -> None:
    """Print how many messages a second each reads, and the ratio."""
    fastest = [(math.inf, math.inf)] * len(raws)
    for _ in range(ROUNDS):
        for at, raw in enumerate(raws):
            mine, others = fastest[at]
            fastest[at] = min(mine, seconds(interpret, raw)), min(others, seconds(bare, raw))
    ours, theirs = (sum(times) for times in zip(*fastest, strict=True))
    print(f"{name}: {len(raws)} messages, {len(raws) / ours:,.0f}/s, standard library {len(raws) / theirs:,.0f}/s")
    print(f"  ratio {theirs / ours:.2f}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix not in (".jsonl", ".md", ".py", ".json")]
    raws = [path.read_bytes() for path in paths if path.is_file()]
    kinds = [interpret(raw).kind for raw in raws]
    machine = [raw for raw, kind in zip(raws, kinds, strict=True) if kind is ReportKind.DSN]
    compare("delivery reports with a machine part", machine)
    compare("all reports", [raw for raw, kind in zip(raws, kinds, strict=True) if kind not in NO_REPORTS])
    compare("all messages", raws)


if __name__ == "__main__":
    main()
