"""How long send-with-receipt takes, beside the bare interpreter: python -m tests.bench.bench_send [RUNS]

The daemon runs on a relay that isn't there: handing a message over needs none.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from tests.daemon_process import Tables, environment, open_daemon
from tests.fork_server import ForkServer

NOBODY = Tables(
    submission='url = "smtp://127.0.0.1:1"',
    receipts='address = "receipts@a.test"',
    mailbox='url = "imap://receipts%40a.test@127.0.0.1:1"\npassword_file = "password"',
)


def seconds(command: Sequence[str]) -> float:
    """Return the wall-clock time of one run."""
    began = time.perf_counter()
    subprocess.run(command, input=b"Good day.\n", env=environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(runs: int) -> None:
    """Run both in turn, and print medians and their ratio."""
    with (
        closing(ForkServer(environment())) as fork_server,
        open_daemon(fork_server, NOBODY, {"password": "secret"}) as daemon,
    ):
        words = ("-f", "me@a.test", "-s", "Contract", "--config", str(daemon.config), "bob@b.test")
        send = (sys.executable, "-m", "receiptd.send", *words)
        bare = (sys.executable, "-c", "pass")
        seconds(send)
        pairs = [(seconds(send), seconds(bare)) for _ in range(runs)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"send-with-receipt {ours * 1000:.0f} ms, python -c pass {theirs * 1000:.0f} ms, ratio {ratio:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
