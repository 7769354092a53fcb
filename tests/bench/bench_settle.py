"""Reports that wait in Dovecot until they are settled, beside interpret alone on the same; and by size of message."""

from __future__ import annotations

import statistics
import time

from receiptd.interpret import interpret
from tests.bench.bench import Bench, Window, counter
from tests.bench.figures import Figure
from tests.bench.planting import clones
from tests.bench.reports import report

_REPORTS, _FEWER = 2000, 400
_SETTLED = "SELECT count(*) FROM report WHERE due_at IS NULL"
_SIZES = (1, 100, 500, 1000)


def settle(bench: Bench) -> list[Figure]:
    """Success reports about as many messages."""
    raws = [report(clone) for clone in clones(range(_REPORTS))]
    beside = [_interpreted(raws)]
    rounds: list[Window] = []
    for _ in range(bench.options.rounds):
        rounds.append(_round(bench, _REPORTS, 1))
        beside.append(_interpreted(raws))
    if bench.options.profile:
        _round(bench, _REPORTS, 1, profile="settle")
    ratios = [2 * one.rate / (beside[at] + beside[at + 1]) for at, one in enumerate(rounds)]
    rates = [one.rate for one in rounds]
    return [
        Figure(
            "success reports waiting in Dovecot → settled",
            f"{statistics.median(rates):,.0f} reports/s",
            f"interpret alone: {statistics.median(beside):,.0f}/s",
            statistics.median(ratios),
            "≥ 0.15",
            statistics.median(one.cpu_ms for one in rounds),
            {"rates": rates, "beside": beside, "cores": [one.cpu / one.seconds for one in rounds]},
        )
    ]


def growth(bench: Bench) -> list[Figure]:
    """The same where a message has more recipients: the cost of a report must not grow."""
    windows = {size: _round(bench, _FEWER, size) for size in _SIZES}
    if bench.options.profile:
        _round(bench, _FEWER, _SIZES[-1], profile="growth")
    return [
        Figure(
            f"the same, messages of {size:,} recipients",
            f"{window.rate:,.0f} reports/s",
            "messages of 1",
            None if size == 1 else window.cpu_ms / windows[1].cpu_ms,
            "" if size == 1 else "≤ 1.2 (CPU)",
            window.cpu_ms,
        )
        for size, window in windows.items()
    ]


def _round(bench: Bench, number: int, per_message: int, *, profile: str | None = None) -> Window:
    """Start a daemon whose mailbox is full of reports."""
    database = bench.planted(bench.accepted, max(number, per_message), per_message=per_message)
    peers = bench.peers(relay=bench.sink.port)
    about = clones(range(number), per_message)
    bench.dovecot.put(peers.address, (report(clone, receipts=peers.address) for clone in about))
    daemon = bench.daemon(database, peers)
    daemon.start()
    if profile:
        bench.profile(profile, daemon, lambda: bench.until(daemon, counter(database, _SETTLED), number))
        window = Window(0, 0, 0)
    else:
        window = bench.until(daemon, counter(database, _SETTLED), number)
        assert database.rows(f"{_SETTLED} AND verdict != 'matched'") == [(0,)], "a report was not matched"
    daemon.stop(kill=True)
    return window


def _interpreted(raws: list[bytes]) -> float:
    """Return how many messages a second interpret reads by itself."""
    began = time.perf_counter()
    for raw in raws:
        interpret(raw)
    return len(raws) / (time.perf_counter() - began)
