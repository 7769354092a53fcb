"""A failure put into the mailbox until its webhook comes, IDLE on: by itself, and while 20,000 are queued."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from pathlib import Path

from tests.bench.bench import Bench, await_that, counter
from tests.bench.daemon import Daemon, Peers
from tests.bench.figures import Figure, percentile, spread
from tests.bench.planting import Database, clones
from tests.bench.reports import report

_SAMPLES, _BACKLOG = 25, 20_000
_LONGEST = 90.0


def told(bench: Bench) -> list[Figure]:
    """By itself, beside a client that does nothing but IDLE on the same mailbox."""
    daemon, peers, _ = _start(bench, relay=bench.sink.port)
    idler = Idler(bench.dovecot.imaps, peers.address, bench.dovecot.ca_file)
    time.sleep(2)
    sent = _put(bench, peers, _SAMPLES, pause=0.8)
    latencies = _came(bench, sent)
    if bench.options.profile:
        bench.profile("told", daemon, lambda: _came(bench, _put(bench, peers, _SAMPLES, pause=0.2, first=_SAMPLES)))
    daemon.stop(kill=True)
    idler.close()
    bare = [at - put for put, at in zip(sent.values(), idler.noticed[:_SAMPLES], strict=False)]
    own = percentile(latencies, 50) - percentile(bare, 50)
    return [
        Figure(
            "failure in the mailbox → its webhook, IDLE on",
            spread(latencies),
            f"Dovecot's own IDLE: {spread(bare)}",
            None,
            "p50 ≤ 150 ms",
            None,
            {"p50": percentile(latencies, 50), "p99": percentile(latencies, 99), "beyond_idle_p50": own},
        )
    ]


def behind(bench: Bench) -> list[Figure]:
    """The same while a queue of 20,000 goes out."""
    daemon, peers, database = _start(bench, relay=bench.sink.port, queued=_BACKLOG)
    left = counter(database, "SELECT count(*) FROM recipient WHERE delivery = 'queued'")
    await_that(lambda: left() < _BACKLOG)
    sent: dict[str, float] = {}
    give_up = time.monotonic() + 20
    while len(sent) < _SAMPLES and time.monotonic() < give_up and left() > _BACKLOG // 20:
        sent |= _put(bench, peers, 1, pause=0.25, first=len(sent))
    latencies = _came(bench, sent)
    daemon.stop(kill=True)
    missed = len(sent) - len(latencies)
    return [
        Figure(
            f"the same behind a backlog of {_BACKLOG:,} queued",
            spread(latencies) + (f"; {missed} of {len(sent)} not within {_LONGEST:.0f} s" if missed else ""),
            "",
            None,
            "≤ 2 s",
            None,
            {"p50": percentile(latencies, 50), "p99": percentile(latencies, 99), "samples": len(sent)},
        )
    ]


def _start(bench: Bench, *, relay: int, queued: int = 0) -> tuple[Daemon, Peers, Database]:
    """Start a daemon that waits for reports about 50 recipients, and may have *queued* more."""
    database = bench.planted(bench.accepted, 50)
    if queued:
        bench.plant_queued(database, range(1000, 1000 + queued))
    peers = bench.peers(relay=relay)
    bench.dovecot.put(peers.address, [])
    daemon = bench.daemon(database, peers)
    daemon.start()
    read = counter(database, "SELECT count(*) FROM folder WHERE read_at IS NOT NULL")
    await_that(lambda: read() > 0)
    return daemon, peers, database


def _put(bench: Bench, peers: Peers, number: int, *, pause: float, first: int = 0) -> dict[str, float]:
    """Put a failure of each next recipient into the mailbox; return when, by its address."""
    sent = {}
    for clone in clones(range(first, first + number)):
        sent[clone.address] = time.monotonic()
        bench.webhook.came.pop(clone.address, None)
        bench.dovecot.put(peers.address, [report(clone, "failed", peers.address)])
        time.sleep(pause)
    return sent


def _came(bench: Bench, sent: dict[str, float]) -> list[float]:
    """Return how long each webhook took that comes in the end."""
    give_up = time.monotonic() + _LONGEST
    while not sent.keys() <= bench.webhook.came.keys() and time.monotonic() < give_up:
        time.sleep(0.05)
    came = bench.webhook.came
    return [came[address] - at for address, at in sent.items() if address in came]


class Idler:
    """An IMAP client that does nothing but IDLE, and notes when it hears of a new message."""

    def __init__(self, port: int, user: str, ca_file: Path) -> None:
        self.noticed: list[float] = []
        context = ssl.create_default_context(cafile=str(ca_file))
        link = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket = context.wrap_socket(link, server_hostname="127.0.0.1")
        for tag, command in (("a", f"LOGIN {user} correct-horse"), ("b", "SELECT INBOX")):
            self._socket.sendall(f"{tag} {command}\r\n".encode())
            while f"{tag} OK".encode() not in self._socket.recv(65536):
                pass
        self._socket.sendall(b"c IDLE\r\n")
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while data := self._socket.recv(65536):
                self.noticed += [time.monotonic()] * len(re.findall(rb"\* \d+ EXISTS", data))
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()
