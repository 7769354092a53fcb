"""Queued recipients into smtp-sink and into a real Postfix, beside smtp-source into the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from tests.bench.bench import Bench, Window, counter
from tests.bench.figures import Figure

_QUEUED = 20_000
_SENT = 5000
"""Each is a connection of its own, and its port is in use for a minute: there are 28,000."""
_ACCEPTED = "SELECT count(*) FROM recipient WHERE delivery = 'accepted'"


def sink(bench: Bench) -> list[Figure]:
    """Into smtp-sink over ten connections."""
    beside = [bench.tools.source(bench.sink.port, _SENT)]
    rounds: list[Window] = []
    for _ in range(bench.options.rounds):
        rounds.append(_round(bench, bench.sink.port))
        beside.append(bench.tools.source(bench.sink.port, _SENT))
    _profile(bench, "sink", bench.sink.port)
    return [_figure("queued → accepted, into smtp-sink", rounds, beside, "≥ 0.20")]


def postfix(bench: Bench) -> list[Figure]:
    """Into a Postfix with its queue on disk, which delivers to nobody; as smtp-source does, it asks for no reports."""
    relay = bench.postfix
    beside = [_source(bench)]
    rounds: list[Window] = []
    for _ in range(bench.options.rounds):
        rounds.append(_round(bench, relay.port, after=relay.await_empty))
        beside.append(_source(bench))
    _profile(bench, "postfix", relay.port)
    return [_figure("queued → accepted, into Postfix", rounds, beside, "≥ 0.95")]


def _source(bench: Bench) -> float:
    rate = bench.tools.source(bench.postfix.port, _SENT)
    bench.postfix.await_empty()
    return rate


def _round(bench: Bench, relay: int, after: Callable[[], None] = lambda: None) -> Window:
    """Start a daemon on a full queue and watch it go."""
    database = bench.planted(bench.queued, _QUEUED)
    daemon = bench.daemon(database, bench.peers(relay=relay, notify='"failure"'))
    daemon.start()
    window = bench.watch([daemon], counter(database, _ACCEPTED), _QUEUED + 1)
    daemon.stop()
    after()
    return window


def _profile(bench: Bench, name: str, relay: int) -> None:
    if bench.options.profile:
        database = bench.planted(bench.queued, _QUEUED)
        daemon = bench.daemon(database, bench.peers(relay=relay, notify='"failure"'))
        daemon.start()
        count = counter(database, _ACCEPTED)
        bench.profile(name, daemon, lambda: bench.watch([daemon], count, _QUEUED + 1))
        daemon.stop()


def _figure(name: str, rounds: list[Window], beside: list[float], needed: str) -> Figure:
    """Compare each round with what ran before and after it."""
    ratios = [2 * one.rate / (beside[at] + beside[at + 1]) for at, one in enumerate(rounds)]
    rates = [one.rate for one in rounds]
    return Figure(
        name,
        f"{statistics.median(rates):,.0f} recipients/s",
        f"smtp-source -s 10: {statistics.median(beside):,.0f}/s",
        statistics.median(ratios),
        needed,
        statistics.median(one.cpu_ms for one in rounds),
        {"rates": rates, "beside": beside, "cores": [one.cpu / one.seconds for one in rounds]},
    )
