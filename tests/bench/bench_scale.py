"""What claiming, matching, judging and listing cost among many open recipients, beside few (PostgreSQL)."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.bench import Bench, await_that, counter
from tests.bench.daemon import Daemon, Peers
from tests.bench.figures import Figure
from tests.bench.planting import Database, clones, plant
from tests.bench.reports import report

_FEW, _MOVED, _PER_MESSAGE = 10_000, 1000, 10
_MATCHED = range(500)
_DUE = range(1000, 1000 + _MOVED)


@dataclass(frozen=True)
class Costs:
    """Seconds for each kind of work, with so many rows in the table."""

    rows: int
    claim: float
    match: float
    due: float
    newest: float
    still_open: float


def scale(bench: Bench) -> list[Figure]:
    """`--rows` open recipients beside 10,000."""
    few, many = _measure(bench, _FEW), _measure(bench, bench.options.rows)
    work = (
        ("1,000 queued → accepted", few.claim, many.claim),
        ("500 reports → settled", few.match, many.match),
        ("1,000 due → overdue", few.due, many.due),
        ("GET the newest 50", few.newest, many.newest),
        ("GET 50 that are open", few.still_open, many.still_open),
    )
    return [
        Figure(
            f"{name}, among {many.rows:,} open (PostgreSQL)",
            f"{1000 * there:,.0f} ms",
            f"among {few.rows:,}: {1000 * here:,.0f} ms",
            there / here,
            "≤ 1.5",
        )
        for name, here, there in work
    ]


def _measure(bench: Bench, rows: int) -> Costs:
    database, message = bench.postgresql(relay=bench.sink.port)
    began = time.monotonic()
    plant(database, message, range(5000), per_message=_PER_MESSAGE)
    plant(database, message, range(5000, rows), per_message=_PER_MESSAGE, events=False)
    bench.plant_queued(database, range(rows, rows + _MOVED))
    database.run("VACUUM ANALYZE")
    print(f"  {rows:,} rows planted in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    peers = bench.peers(relay=bench.sink.port)
    daemon = bench.daemon(database, peers)
    daemon.start()
    left = counter(database, "SELECT count(*) FROM recipient WHERE delivery = 'queued'")
    claim = _seconds(lambda: await_that(lambda: left() == 0, within=120, pause=0.02))
    newest, still_open = (_get(daemon, f"/v1/messages?limit=50{only}") for only in ("", "&receipt=open"))
    match, due = _settle(bench, database, peers), _judge(database)
    daemon.stop(kill=True)
    return Costs(rows, claim, match, due, newest, still_open)


def _settle(bench: Bench, database: Database, peers: Peers) -> float:
    raws = [report(clone, receipts=peers.address) for clone in clones(_MATCHED, _PER_MESSAGE)]
    settled = counter(database, "SELECT count(*) FROM report WHERE verdict = 'matched'")
    bench.dovecot.put(peers.address, raws[:1])
    await_that(lambda: settled() == 1)  # so that a read doesn't begin with half of them
    bench.dovecot.put(peers.address, raws[1:])
    return _seconds(lambda: await_that(lambda: settled() == len(raws), within=120, pause=0.02))


def _judge(database: Database) -> float:
    """Let 1,000 deadlines pass now; a read of the mailbox comes before they are judged."""
    first, last = (f"'1{number:031x}'" for number in (_DUE.start, _DUE.stop - 1))
    past = "now() - interval '1 second'"
    database.run(f"UPDATE recipient SET judge_at = {past}, deadline_at = {past} WHERE id BETWEEN {first} AND {last}")
    overdue = counter(database, "SELECT count(*) FROM recipient WHERE receipt = 'overdue'")
    return _seconds(lambda: await_that(lambda: overdue() == _MOVED, within=120, pause=0.02))


def _get(daemon: Daemon, path: str) -> float:
    """Return the median time of an answer."""
    with daemon.client() as client:
        times = [_seconds(lambda: client.request("GET", path)) for _ in range(15)]
    return statistics.median(times)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
