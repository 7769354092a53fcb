"""How long folding a recipient's 200 events takes, beside folding ten: python -m tests.bench.bench_fold"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from timeit import repeat

from receiptd.facts import Demand, Event, EventKind, Source
from receiptd.lifecycle import fold

START = datetime(2026, 11, 24, tzinfo=UTC)
KINDS = list(EventKind)


def event(n: int) -> Event:
    """Return the *n*-th event, each of the next kind and about another branch."""
    kind, at = KINDS[n % len(KINDS)], START + timedelta(seconds=n)
    return Event(str(n), "r", kind, at, Source.DSN, final_recipient=f"m{n}@c.org")


def seconds(count: int) -> float:
    """Return the best time of one fold of so many events."""
    events, demand = [event(n) for n in range(count)], Demand("bob@b.org")
    return min(repeat(partial(fold, events, demand), number=20)) / 20


def main() -> None:
    """Print both times and their ratio; 20 means that the time grows with the events."""
    many, few = seconds(200), seconds(10)
    print(f"200 events {many * 1000:.2f} ms, 10 events {few * 1000:.3f} ms, ratio {many / few:.0f}")


if __name__ == "__main__":
    main()
