"""Evidence: raw bytes under their SHA-256, whole; of what speaks of nobody the first 64 kB, and no more than so many.

Anybody can mail the receipts mailbox, and whoever has a copy of a message knows its token, so what either can make us
keep has an end (docs/design.md §5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import cast

from pydantic import TypeAdapter
from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from receiptd import telemetry
from receiptd.facts import Report, Verdict
from receiptd.models import EventCopy, EventRow, Evidence, Message, ReportRow
from receiptd.standing import MOST_COPIES
from receiptd.store import one_at_a_time
from receiptd.store.after_commit import once_committed
from receiptd.store.engine import Store

KEPT = 64 << 10
"""Bytes that are kept of what speaks of nobody: in nearly every report all that its own server wrote."""
MOST = 10_000
"""Reports of each such verdict that are kept: a flood of one drives out none of another."""
SPEAKS_OF_NOBODY = (Verdict.UNMATCHED, Verdict.SUSPICIOUS, Verdict.NOISE)
"""What moves no state. What is matched proves something and stays whole; what is set aside, a person has to look at."""
_FULL = 1 << 62
_AT_ONCE, _IN_A_SWEEP = 100, 5000
_REPORT = TypeAdapter(Report)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 under which *content* is kept, in hex."""
    return hashlib.sha256(content).hexdigest()


async def put(session: AsyncSession, content: bytes, now: datetime) -> str:
    """Keep *content* as `put_all` does; return the digest in hex."""
    (digest,) = await session.run_sync(lambda inner: put_all(cast(Session, inner), [content], now))
    return digest


def put_all(session: Session, contents: Sequence[bytes], now: datetime) -> list[str]:
    """Keep each of *contents* whole under its SHA-256, once; return the digests in hex.

    On PostgreSQL what is there already is locked as well, in the order of digests: nobody cuts or drops it before the
    caller's row names it.
    """
    digests = list(map(digest_of, contents))
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    new = insert(Evidence)
    whole = {"truncated": False, "said": None, "content": new.excluded.content}
    is_cut = col(Evidence.truncated).is_(True)
    rows = [
        {"sha256": digest, "size": len(content), "stored_at": now, "truncated": False, "said": None, "content": content}
        for digest, content in sorted(dict(zip(digests, contents, strict=True)).items())
    ]
    keep = new.on_conflict_do_update(index_elements=["sha256"], set_=whole, where=is_cut)
    session.connection().execute(keep, rows)
    return digests


def cut(session: Session, sha256: str, said: Report) -> None:
    """Keep of a settled report that speaks of nobody its first part, and *said*, which was read of the whole.

    The same bytes may have come twice, or be a message of ours: what anything else needs whole stays whole.
    """
    if _whole_size(session, sha256) > KEPT and not _is_needed(session, sha256, SPEAKS_OF_NOBODY):
        _shorten(session, sha256, KEPT, words_of(said))


def cut_repeated(
    session: Session, report: str, sha256: str, kept: Mapping[str, Rests], said: Report, most: int
) -> bool:
    """Keep of a matched *report* what its events need; return False where it adds nothing and nothing of it is kept.

    *kept* says of each recipient that it told something of what its events rest on.

    The first event of a kind keeps its evidence whole. What else there is about a recipient may take *most* bytes:
    further events of a kind whole, what only repeats an event with its first 64 kB. Of what is only counted, and of
    what is beyond *most*, nothing is kept.
    """
    if any(sha256 in firsts for firsts, _ in kept.values()):
        return True
    size = _whole_size(session, sha256)
    if not size or _is_needed(session, sha256, (*SPEAKS_OF_NOBODY, Verdict.MATCHED), beside=report):
        return True
    is_event = any(sha256 in others for _, others in kept.values())
    room = 0
    if _is_copy(session, report):
        used = [_used(session, recipient, {*firsts, sha256}) for recipient, (firsts, _) in kept.items()]
        room = most - max(used)
    keep = size if is_event and size <= room else min(size, KEPT)
    if keep > room:
        _shorten(session, sha256, 0, None)
        return is_event
    if keep < size:
        _shorten(session, sha256, keep, words_of(said) if 2 * keep <= room else None)
    return True


Rests = tuple[set[str], set[str]]
"""On which bytes the first events of each kind and trust of a recipient rest, and on which the others."""


def rests(session: Session, recipients: Collection[str]) -> dict[str, Rests]:
    """Return on what the events of each of *recipients* rest, by one query.

    Trust counts because whoever fills the room first is likely to be trusted less than the server that comes later.
    """
    if not recipients:
        return {}
    query = (
        select(EventRow.recipient, EventRow.kind, EventRow.trust, EventRow.evidence)
        .where(col(EventRow.recipient).in_(sorted(recipients)), col(EventRow.evidence).is_not(None))
        .order_by(col(EventRow.serial), col(EventRow.id))
    )
    firsts: dict[str, dict[tuple[str, str], str]] = {recipient: {} for recipient in recipients}
    digests: dict[str, set[str]] = {recipient: set() for recipient in recipients}
    for recipient, kind, trust, evidence in session.exec(query).all():
        digest = str(evidence).removeprefix("sha256:")
        digests[recipient].add(digest)
        firsts[recipient].setdefault((kind, trust), digest)
    return {one: (set(firsts[one].values()), digests[one].difference(firsts[one].values())) for one in recipients}


def _is_copy(session: Session, report: str) -> bool:
    return (session.exec(select(EventCopy.id).where(EventCopy.told_by == report).limit(1))).first() is not None


def _used(session: Session, recipient: str, but: Collection[str]) -> int:
    """Return how many bytes are kept of what told of *recipient*, without those in *but*; so many rows are enough."""
    length = func.length(Evidence.content) + func.coalesce(func.length(Evidence.said), 0)
    query = (
        select(Evidence.sha256, length)
        .join(ReportRow, col(ReportRow.evidence) == col(Evidence.sha256))
        .join(EventCopy, col(EventCopy.told_by) == col(ReportRow.id))
        .join(EventRow, col(EventRow.id) == col(EventCopy.event))
        .where(EventRow.recipient == recipient, col(Evidence.sha256).not_in(but))
        .distinct()
        .limit(MOST_COPIES)
    )
    kept = session.exec(query).all()
    return sum(octets for _, octets in kept) if len(kept) < MOST_COPIES else _FULL


def _whole_size(session: Session, sha256: str) -> int:
    """Return the size of what is kept whole, and lock it; 0 where it is cut already."""
    size = select(Evidence.size).where(Evidence.sha256 == sha256, ~col(Evidence.truncated)).with_for_update()
    return session.exec(size).first() or 0


def _shorten(session: Session, sha256: str, keep: int, said: bytes | None) -> None:
    session.exec(
        update(Evidence)
        .where(col(Evidence.sha256) == sha256)
        .values(content=func.substr(Evidence.content, 1, keep), said=said, truncated=True)
        .execution_options(synchronize_session=False)
    )


def _is_needed(session: Session, sha256: str, spare: Collection[Verdict], *, beside: str | None = None) -> bool:
    """Whether a message rests on these bytes, or a report (but for *beside*) whose verdict isn't one of *spare*."""
    needs_it = or_(col(ReportRow.verdict).is_(None), col(ReportRow.verdict).not_in(spare))
    reports = select(ReportRow.id).where(ReportRow.evidence == sha256, needs_it, ReportRow.id != beside).limit(1)
    messages = select(Message.id).where(Message.evidence == sha256).limit(1)
    return any(session.exec(users).first() is not None for users in (reports, messages))


def words_of(said: Report) -> bytes | None:
    """Return *said* as it is kept; None where that would be longer than what is kept of the report."""
    words = _REPORT.dump_json(said, exclude_defaults=True)
    return words if len(words) <= KEPT else None


def recall(kept: Evidence) -> Report | None:
    """Return what the whole said of which only the first part is kept; None where that part is all there is to read."""
    return None if kept.said is None else _REPORT.validate_json(kept.said)


def truncated(session: Session, digests: Collection[str] | SelectOfScalar[str]) -> Mapping[str, bool]:
    """Return of each of *digests* that is kept whether only its first part is."""
    query = select(Evidence.sha256, Evidence.truncated).where(col(Evidence.sha256).in_(digests))
    return dict(session.exec(query).all())


async def drop_oldest(store: Store) -> Mapping[str, int]:
    """Remove reports that speak of nobody beyond MOST of a verdict, oldest first; return how many of each.

    However young they are: nothing but a person's word can claim them any more, for the row of a recipient, with its
    token, is there before the message leaves; and a flood that is spared for a day has a day to fill the disk. A
    folder that the server renumbers brings some back, and they are settled as they were. A backlog takes more sweeps.
    """
    dropped: dict[str, int] = {}
    for verdict in SPEAKS_OF_NOBODY:
        count = 0
        while count < _IN_A_SWEEP and (some := await _drop(store, verdict)):
            count += some
        if count:
            dropped[verdict] = count
    return dropped


async def _drop(store: Store, verdict: Verdict) -> int:
    async with store.read() as session:
        excess = await _excess(session, verdict)
    if not excess:
        return 0
    async with store.write() as session:
        await one_at_a_time.wait(session, "sweep")  # each would drop its own excess, of what the other leaves
        oldest = (
            select(ReportRow.id, ReportRow.evidence)
            .where(ReportRow.verdict == verdict)
            .order_by(col(ReportRow.fetched_at))
            .limit(await _excess(session, verdict))
            .with_for_update(skip_locked=True)
        )
        found = (await session.exec(oldest)).all()
        await session.exec(delete(ReportRow).where(col(ReportRow.id).in_([report for report, _ in found])))
        await _release(session, {sha256 for _, sha256 in found})
        once_committed(session, lambda: telemetry.REPORTS_DROPPED.labels(verdict).inc(len(found)))
        return len(found)


async def _excess(session: AsyncSession, verdict: Verdict) -> int:
    """Return how many reports are beyond the limit, as far as one transaction may take them."""
    kept = select(ReportRow.fetched_at).where(ReportRow.verdict == verdict).limit(MOST + _AT_ONCE).subquery()
    return max(0, (await session.exec(select(func.count()).select_from(kept))).one() - MOST)


async def _release(session: AsyncSession, digests: Collection[str]) -> None:
    """Remove of *digests* what nothing rests on any more."""
    lock = select(Evidence.sha256).where(col(Evidence.sha256).in_(digests)).with_for_update()
    left = set((await session.exec(lock)).all())
    for users in (ReportRow, Message):
        used = select(users.evidence).where(col(users.evidence).in_(digests))
        left.difference_update((await session.exec(used)).all())
    await session.exec(delete(Evidence).where(col(Evidence.sha256).in_(left)))
