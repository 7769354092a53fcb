"""Every benchmark, or those that are named: python -m tests.bench [NAME…]

Each compares receiptd with something beside it in the same run, for the machine may be busy: the ratio counts.
Needs root and Debian, as the tests with real servers do. Talks to loopback only and ends by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).parents[2]


def main() -> int:
    """Run what is asked for, print the table, and write the JSON."""
    arguments = _parser().parse_args()
    _on_revision(arguments.checkout)
    from tests.bench.bench import Bench, Options
    from tests.bench.figures import Figure, machine, table, write
    from tests.servers.availability import why_not

    if reason := why_not():
        print(f"no benchmarks: {reason}", file=sys.stderr)
        return 69
    options = Options(
        arguments.rounds, arguments.rows, arguments.within, arguments.checkout, arguments.profile, arguments.json.parent
    )
    known = benches()
    about, figures, failed = machine(), list[Figure](), False
    bench = Bench(options)
    try:
        for name in arguments.names or known:
            began = time.monotonic()
            try:
                found = known[name](bench)
            except AssertionError as fault:
                failed = True
                found = [Figure(name, f"failed: {str(fault).partition(chr(10))[0]}")]
                print(fault, file=sys.stderr)
            figures += found
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for one in found:
                print(f"  {one.name}: {one.found}; {one.beside}; {one.ratio}; CPU {one.cpu_ms} ms", file=sys.stderr)
            if name in bench.profiles:
                print(bench.profiles[name].text(), file=sys.stderr, flush=True)
            write(arguments.json, figures, about)
    finally:
        bench.close()
    print(f"{about['cpu']}, {about['memory_gb']} GB, load {about['load'][0]}; `{about['command']}`, {about['at']}\n")
    print(table(figures))
    return 1 if failed else 0


def benches() -> dict[str, Callable[..., list]]:  # type: ignore[type-arg]
    """Return every benchmark by its name, in the order they run."""
    from tests.bench import (
        bench_accept,
        bench_answers,
        bench_memory,
        bench_nodes,
        bench_scale,
        bench_send,
        bench_settle,
        bench_submit,
        bench_told,
        bench_wire,
    )

    return {
        "sink": bench_submit.sink,
        "postfix": bench_submit.postfix,
        "wire": bench_wire.wire,
        "settle": bench_settle.settle,
        "growth": bench_settle.growth,
        "accept": bench_accept.accept,
        "told": bench_told.told,
        "behind": bench_told.behind,
        "answers": bench_answers.answers,
        "idle": bench_memory.memory_idle,
        "memory": bench_memory.memory_full,
        "scale": bench_scale.scale,
        "nodes": bench_nodes.nodes,
        "send": bench_send.send,
    }


def _on_revision(checkout: Path | None) -> None:
    """Begin again with the other revision's package, where one is asked for and isn't ours already."""
    if checkout is None or os.environ.get("PYTHONPATH", "").startswith(str(checkout / "service")):
        return
    environment = {**os.environ, "PYTHONPATH": f"{checkout / 'service'}:{_HERE}"}
    os.execve(sys.executable, [sys.executable, "-m", "tests.bench", *sys.argv[1:]], environment)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks; without a name all")
    parser.add_argument(
        "--checkout", type=lambda text: Path(text).absolute(), help="measure the revision checked out here"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of what is compared side by side")
    parser.add_argument("--within", type=float, default=15, help="seconds that one round measures at most")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the benchmarks of size")
    parser.add_argument("--profile", action="store_true", help="one more round each under py-spy: what dominates")
    parser.add_argument("--json", type=Path, default=_HERE / "build" / "bench.json", help="where the figures go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
