"""Settlement: which raw reports are read next, the try that is counted before that, and what they turned out to be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlmodel import Session

from receiptd.facts import Verdict
from receiptd.store.engine import Store
from receiptd.store.tables import EVIDENCE, REPORT, columns

MOST_TRIES = 3
"""A report that couldn't be read so often is set aside, and that is an alert of its own."""
MOST_READINGS = 4
"""So often its reading may begin and never end. The first one may have been in a set with the report that ended the
process; from then on it is read alone, so an innocent one would have to be killed three times in its own moment."""
RETRY = timedelta(seconds=30)
_SPOILT_RETRY = timedelta(seconds=5)
"""How long a report waits for which the database had no room: deadlines are held meanwhile."""
MOST_OCTETS = 64 << 20
"""How much is read into memory at once, a first report of any size excepted."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A report to read (a part of models.ReportRow); *tries* counts the one that begins now."""

    id: str
    mailbox: str
    received_at: datetime
    evidence: str
    size: int
    tries: int


@dataclass(frozen=True, slots=True)
class Raw:
    """A report to read, and its bytes: none where the mailbox has the message but doesn't hand it over."""

    report: Unsettled
    content: bytes


@dataclass(frozen=True, slots=True)
class Settled:
    """What a report turned out to be."""

    id: str
    verdict: Verdict
    kind: str
    subject: str | None
    from_address: str | None
    reason: str | None
    clear: bool


async def begin_reading(store: Store, limit: int) -> list[Raw]:
    """Take up to *limit* unsettled reports and count the try, before anyone reads them."""
    taken = await store.transact(partial(_take, store.now(), limit, dict(store.spoilt)))
    store.spoilt.clear()
    return taken


def _take(now: datetime, limit: int, spoilt: Mapping[str, datetime], session: Session) -> list[Raw]:
    _give_back(session, spoilt)
    run = session.connection().execute
    rows = _due(session, now, limit)
    # One whose reading never ended may have ended its reader: it is read alone, lest others share its tries.
    rows = _within_octets(rows[:1] if rows and rows[0].tries else [row for row in rows if not row.tries])
    if not rows:
        return []
    counted = [{"report": row.id, "tries": row.tries + 1, "due_at": now + RETRY * (row.tries + 1)} for row in rows]
    tried = update(REPORT).where(REPORT.c.id == bindparam("report"))
    run(tried.values(tries=bindparam("tries"), due_at=bindparam("due_at")), counted)
    wanted = sorted({row.evidence for row in rows})
    contents = {
        row.sha256: row.content
        for row in run(select(EVIDENCE.c.sha256, EVIDENCE.c.content).where(EVIDENCE.c.sha256.in_(wanted)))
    }
    return [Raw(_tried(row), contents[row.evidence]) for row in rows]


def _due(session: Session, now: datetime, limit: int) -> list[Unsettled]:
    """Return the oldest that are due; of a backlog half of them the newest, so that news just fetched isn't late.

    The horizon up to which deadlines are judged is the oldest unsettled report, and half of each set moves it.
    """
    due = select(*columns(REPORT, Unsettled)).where(REPORT.c.due_at <= now).with_for_update(skip_locked=True)
    rows = [Unsettled(*row) for row in session.connection().execute(due.order_by(REPORT.c.due_at).limit(limit))]
    half = limit // 2
    if len(rows) < limit or rows[0].tries or not half:
        return rows
    newest = due.where(REPORT.c.tries == 0).order_by(REPORT.c.due_at.desc()).limit(half)
    last = [Unsettled(*row) for row in session.connection().execute(newest)][::-1]
    others = {row.id for row in last}
    return [*[row for row in rows if row.id not in others][: limit - len(last)], *last]


def _within_octets(rows: Sequence[Unsettled]) -> list[Unsettled]:
    taken: list[Unsettled] = []
    octets = 0
    for row in rows:
        octets += row.size
        if taken and octets > MOST_OCTETS:
            break
        taken.append(row)
    return taken


def _tried(row: Unsettled) -> Unsettled:
    return Unsettled(row.id, row.mailbox, row.received_at, row.evidence, row.size, row.tries + 1)


def spoil(store: Store, failed: str, others: Iterable[str]) -> None:
    """Note that the database failed when *failed* was to be settled: that is no try of it, nor of *others* behind it.

    The database may not even take this note, so it is kept here and written with the next count of a try, in one
    transaction. Those behind need not wait: it may be this report alone that finds no room.
    """
    now = store.now()
    store.spoilt |= dict.fromkeys(others, now) | {failed: now + _SPOILT_RETRY}


def _give_back(session: Session, spoilt: Mapping[str, datetime]) -> None:
    if spoilt:
        given_back = (
            update(REPORT)
            .where(REPORT.c.id == bindparam("report"), REPORT.c.due_at.is_not(None), REPORT.c.tries > 0)
            .values(tries=REPORT.c.tries - 1, due_at=bindparam("again_at"))
        )
        rows = [{"report": report, "again_at": due_at} for report, due_at in spoilt.items()]
        session.connection().execute(given_back, rows)


async def recover(store: Store) -> int:
    """At the start, make due at once what another process had begun to read; return how many reports that is.

    On SQLite the lock says that every other process is dead. Elsewhere their readers may live, and a report
    waits until its time is over. The try stays counted, for the report may have ended its reader; who was cut off a
    second time waits: a daemon that dies at every start, whatever of, would set all it holds aside within seconds.
    """
    return await store.transact(partial(_recover, store.now())) if store.is_sqlite else 0


def _recover(now: datetime, session: Session) -> int:
    taken = update(REPORT).where(REPORT.c.due_at > now, REPORT.c.tries == 1).values(due_at=now)
    return session.connection().execute(taken).rowcount


def close(session: Session, settled: Collection[Settled]) -> None:
    """Write what reports turned out to be; they are settled."""
    if not settled:
        return
    names = ("verdict", "kind", "subject", "from_address", "reason", "clear")
    rows: list[dict[str, Any]] = [{"report": one.id, **{name: getattr(one, name) for name in names}} for one in settled]
    statement = update(REPORT).where(REPORT.c.id == bindparam("report"))
    session.connection().execute(statement.values(due_at=None, **{name: bindparam(name) for name in names}), rows)
