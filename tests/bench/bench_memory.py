"""Memory of the daemon: idle, and with a long queue and a full mailbox, sampled over the run."""

from __future__ import annotations

import statistics
import time

from tests.bench.bench import Bench, await_that, counter
from tests.bench.figures import Figure
from tests.bench.planting import clones
from tests.bench.process import Memory, memory
from tests.bench.reports import report


def memory_idle(bench: Bench) -> list[Figure]:
    """Ten seconds after the start, with nothing to do."""
    daemon = bench.daemon(bench.planted(bench.accepted, 0), bench.peers(relay=bench.sink.port))
    daemon.start()
    time.sleep(10)
    found = memory(daemon.pid)
    daemon.stop()
    return [Figure("memory, idle", _text(found), needed="≤ 90 MB", detail=vars(found))]


def memory_full(bench: Bench) -> list[Figure]:
    """A tenth as many reports wait as recipients are queued (--rows)."""
    queued, waiting = bench.options.rows, bench.options.rows // 10
    database = bench.planted(bench.accepted, waiting)
    bench.plant_queued(database, range(waiting, waiting + queued))
    peers = bench.peers(relay=bench.sink.port)
    bench.dovecot.put(peers.address, (report(clone, receipts=peers.address) for clone in clones(range(waiting))))
    daemon = bench.daemon(database, peers)
    daemon.launch()
    await_that(lambda: memory(daemon.pid).resident > 20)
    began, samples = time.monotonic(), list[Memory]()
    while time.monotonic() - began < 4 * bench.options.within:
        time.sleep(0.5)
        samples.append(memory(daemon.pid))
    settled = counter(database, "SELECT count(*) FROM report WHERE due_at IS NULL")()
    sent = counter(database, "SELECT count(*) FROM attempt WHERE outcome = 'accepted'")() - waiting - 1
    daemon.stop(kill=True)
    third = len(samples) // 3
    middle, last = (
        statistics.median(one.resident for one in part) for part in (samples[third:-third], samples[-third:])
    )
    most = max(samples, key=lambda one: one.resident)
    return [
        Figure(
            f"memory with {queued:,} queued and {waiting:,} reports waiting, over {4 * bench.options.within:.0f} s",
            f"at most {_text(most)}; {sent:,} sent, {settled:,} settled",
            f"grew by {last - middle:+.1f} MB from the middle third to the last",
            None,
            "≤ 180 MB, flat",
            None,
            {"resident": [round(one.resident, 1) for one in samples], "sent": sent, "settled": settled},
        )
    ]


def _text(found: Memory) -> str:
    return f"{found.resident:.0f} MB resident ({found.proportional:.0f} MB proportional)"
