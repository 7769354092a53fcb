"""How quickly the API answers while 20,000 go out, and how soon a new message leaves meanwhile."""

from __future__ import annotations

import json
import threading
import time

from tests.bench.bench import Bench, await_that, counter
from tests.bench.daemon import Daemon, message
from tests.bench.figures import Figure, percentile, spread
from tests.bench.planting import Database

_QUEUED = 20_000


def answers(bench: Bench) -> list[Figure]:
    """One client posts, one lists, one looks at a message, each ten times a second."""
    database = bench.planted(bench.queued, _QUEUED)
    daemon = bench.daemon(database, bench.peers(relay=bench.sink.port))
    daemon.start()
    accepted = counter(database, "SELECT count(*) FROM recipient WHERE delivery = 'accepted'")
    await_that(lambda: accepted() > 0)
    posted: dict[str, float] = {}
    posts: list[float] = []
    lists: list[float] = []
    shows: list[float] = []
    stop = threading.Event()
    clients = [
        threading.Thread(target=_post, args=(daemon, stop, posts, posted)),
        threading.Thread(target=_get, args=(daemon, stop, "/v1/messages?limit=50", lists)),
        threading.Thread(target=_get, args=(daemon, stop, f"/v1/messages/{bench.queued[1]}", shows)),
    ]
    began = time.monotonic()
    for client in clients:
        client.start()
    while time.monotonic() - began < bench.options.within and accepted() < _QUEUED * 0.95:
        time.sleep(0.2)
    stop.set()
    for client in clients:
        client.join()
    went, waited = _departures(database, posted)
    daemon.stop(kill=True)
    return [
        _figure("POST while 20,000 go out", posts, "p99 ≤ 150 ms"),
        _figure("GET of the newest 50 messages meanwhile", lists, "p99 ≤ 150 ms"),
        _figure("GET of one message meanwhile", shows, "p99 ≤ 150 ms"),
        Figure(
            "POST → accepted by the relay meanwhile",
            f"{len(went)} of {len(posted)} gone, {spread(went)}" + (f"; others wait {waited:.0f} s" if waited else ""),
            needed="≤ 2 s",
            detail={"gone": len(went), "posted": len(posted), "p50": percentile(went, 50), "p99": percentile(went, 99)},
        ),
    ]


def _figure(name: str, latencies: list[float], needed: str) -> Figure:
    detail = {"p50": percentile(latencies, 50), "p99": percentile(latencies, 99), "samples": len(latencies)}
    return Figure(name, spread(latencies), needed=needed, detail=detail)


def _post(daemon: Daemon, stop: threading.Event, latencies: list[float], posted: dict[str, float]) -> None:
    with daemon.client() as client:
        while not stop.wait(0.1):
            began = time.perf_counter()
            at = time.time()
            status, answer = client.request("POST", "/v1/messages", message([f"n{len(posted)}@new.test"]))
            latencies.append(time.perf_counter() - began)
            assert status == 202, answer
            posted[str(json.loads(answer)["id"])] = at


def _get(daemon: Daemon, stop: threading.Event, path: str, latencies: list[float]) -> None:
    with daemon.client() as client:
        while not stop.wait(0.1):
            began = time.perf_counter()
            status, answer = client.request("GET", path)
            latencies.append(time.perf_counter() - began)
            assert status == 200, answer


def _departures(database: Database, posted: dict[str, float]) -> tuple[list[float], float]:
    """Return how long each took from its POST to the final dot, and how long the oldest that is left has waited.

    What was posted within the last two seconds may still be on its way.
    """
    time.sleep(2)
    rows = database.rows(
        "SELECT m.id, r.submitted_at FROM message m JOIN recipient r ON r.message = m.id WHERE r.domain = 'new.test'"
    )
    gone = {message: instant(at) for message, at in rows if at is not None}
    left = [at for message, at in posted.items() if message not in gone]
    went = [max(gone[message] - at, 0.0) for message, at in posted.items() if message in gone]
    return went, time.time() - min(left) if left else 0.0


def instant(stored: object) -> float:
    """Return a column's instant as seconds since 1970."""
    from datetime import UTC, datetime

    at = stored if isinstance(stored, datetime) else datetime.fromisoformat(str(stored))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
