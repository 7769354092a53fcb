"""Three daemons on one PostgreSQL on this machine, beside one on SQLite: recipients a second in all, and no doubles."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.bench import Bench, Window, await_that, counter
from tests.bench.figures import Figure
from tests.bench.planting import Database, plant

_QUEUED = 10_000
_NODES = 3
_ACCEPTED = "SELECT count(*) FROM recipient WHERE delivery = 'accepted'"


def nodes(bench: Bench) -> list[Figure]:
    """Into smtp-sink, until nothing is queued any more or the time is over."""
    alone = _run(bench, bench.planted(bench.queued, _QUEUED), 1)
    database, message = bench.postgresql()
    plant(database, message, range(_QUEUED))
    before = bench.sink.taken
    three = _run(bench, database, _NODES)
    accepted = counter(database, _ACCEPTED)
    await_that(lambda: bench.sink.taken - before >= accepted())
    doubles = bench.sink.taken - before - accepted()
    single, message = bench.postgresql()
    plant(single, message, range(_QUEUED))
    one = _run(bench, single, 1)
    needed = "≥ 0.7, no doubles"
    return [
        Figure(
            "three daemons on PostgreSQL",
            f"{three.rate:,.0f} recipients/s; {doubles} more transmissions than accepted",
            f"one on SQLite: {alone.rate:,.0f}/s",
            three.rate / alone.rate,
            needed,
            three.cpu_ms,
            {"doubles": doubles, "accepted": accepted()},
        ),
        Figure(
            "one daemon on PostgreSQL",
            f"{one.rate:,.0f} recipients/s",
            f"one on SQLite: {alone.rate:,.0f}/s",
            one.rate / alone.rate,
            "",
            one.cpu_ms,
        ),
    ]


def _run(bench: Bench, database: Database, number: int) -> Window:
    """Start *number* daemons on the same queue; their CPU time together."""
    peers = bench.peers(relay=bench.sink.port)
    daemons = [bench.daemon(database, replace(peers), name=f"node{n}") for n in range(number)]
    for daemon in daemons:
        daemon.start()
    window = bench.watch(daemons, counter(database, _ACCEPTED), _QUEUED + 1)
    for daemon in daemons:
        daemon.stop()
    return window
