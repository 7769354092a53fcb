"""POST /v1/messages by ten clients at a time, beside smtp-source with ten sessions into a Postfix's queue."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from dataclasses import dataclass, field

from tests.bench.bench import Bench, await_that, counter
from tests.bench.daemon import Daemon, message
from tests.bench.figures import Figure, percentile, spread
from tests.bench.process import cpu_seconds

_CLIENTS = 10


@dataclass
class Posts:
    """What some clients together handed over, and how long each answer took."""

    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu / max(len(self.latencies), 1)


def accept(bench: Bench) -> list[Figure]:
    """Each on a connection of its own, as smtp-source does: with no relay there, then while they are sent on."""
    beside = [_source(bench)]
    alone: list[Posts] = []
    for _ in range(bench.options.rounds):
        alone.append(_round(bench, 1))
        beside.append(_source(bench))
    sending = _round(bench, bench.sink.port)
    kept = _round(bench, 1, keep=True)
    if bench.options.profile:
        _round(bench, 1, profile="accept")
    ratios = [2 * one.rate / (beside[at] + beside[at + 1]) for at, one in enumerate(alone)]
    other = statistics.median(beside)
    return [
        _figure("POST by 10 clients", alone, other, statistics.median(ratios), "≥ 0.8; p50 ≤ 20 ms"),
        _figure("the same while they go out (into smtp-sink)", [sending], other, sending.rate / other, ""),
        _figure("the same on connections that are kept", [kept], other, kept.rate / other, ""),
    ]


def _figure(name: str, rounds: list[Posts], beside: float, ratio: float, needed: str) -> Figure:
    latencies = [latency for one in rounds for latency in one.latencies]
    rate, cpu = (statistics.median(values) for values in zip(*((one.rate, one.cpu_ms) for one in rounds), strict=True))
    p50 = percentile(latencies, 50)
    return Figure(
        name,
        f"{rate:,.0f}/s; {spread(latencies)}",
        f"smtp-source -s 10 into Postfix: {beside:,.0f}/s",
        ratio,
        needed,
        cpu,
        {"rates": [one.rate for one in rounds], "p50": p50, "p99": percentile(latencies, 99)},
    )


def _source(bench: Bench) -> float:
    rate = bench.tools.source(bench.postfix.port, 5000)
    bench.postfix.await_empty()
    return rate


def _round(bench: Bench, relay: int, *, keep: bool = False, profile: str | None = None) -> Posts:
    database = bench.planted(bench.accepted, 0)
    daemon = bench.daemon(database, bench.peers(relay=relay))
    daemon.start()
    within = min(bench.options.within, 10)
    _post(daemon, 1, keep=keep)  # what the first one alone pays
    if profile:
        bench.profile(profile, daemon, lambda: _post(daemon, within, keep=keep))
        posts = Posts()
    else:
        posts = _post(daemon, within, keep=keep)
        stored = counter(database, "SELECT count(*) FROM message")
        await_that(lambda: stored() > len(posts.latencies), within=5)
    daemon.stop(kill=True)
    return posts


def _post(daemon: Daemon, within: float, *, keep: bool) -> Posts:
    """Let ten clients post for so many seconds."""
    posts, faults = Posts(), list[str]()
    numbers = itertools.count()
    until = time.perf_counter() + within

    def client() -> None:
        with daemon.client(keep=keep) as link:
            while (began := time.perf_counter()) < until:
                number = next(numbers)
                status, answer = link.request("POST", "/v1/messages", message([f"p{number}@d{number % 50}.test"]))
                posts.latencies.append(time.perf_counter() - began)
                if status != 202:
                    faults.append(answer.decode())
                    return

    threads = [threading.Thread(target=client) for _ in range(_CLIENTS)]
    began, cpu = time.perf_counter(), cpu_seconds(daemon.pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    posts.seconds, posts.cpu = time.perf_counter() - began, cpu_seconds(daemon.pid) - cpu
    assert not faults, faults[0]
    return posts
