"""Evidence: raw bytes under their SHA-256, whole; of what speaks of nobody the first 64 kB, and no more than so many.

Anybody can mail the receipts mailbox, so what a stranger can make us keep has an end (docs/design.md §5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from receiptd import telemetry
from receiptd.facts import Report, Verdict
from receiptd.models import Evidence, Message, ReportRow
from receiptd.store.aftermath import once_committed
from receiptd.store.engine import Store

KEPT = 64 << 10
"""Bytes that are kept of what speaks of nobody: in nearly every report all that its own server wrote."""
MOST = 10_000
"""Reports of each such verdict that are kept: a flood of one drives out none of another."""
SPEAKS_OF_NOBODY = (Verdict.UNMATCHED, Verdict.SUSPICIOUS, Verdict.NOISE)
"""What moves no state. What is matched proves something and stays whole; what is set aside, a person has to look at."""
_AT_ONCE, _IN_A_SWEEP = 100, 5000
_REPORT = TypeAdapter(Report)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 under which *content* is kept, in hex."""
    return hashlib.sha256(content).hexdigest()


async def put(session: AsyncSession, content: bytes, now: datetime) -> str:
    """Keep *content* whole under its SHA-256, once; return the digest in hex.

    On PostgreSQL what is there already is locked as well: nobody cuts or drops it before the caller's row names it.
    """
    digest = digest_of(content)
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    new = insert(Evidence).values(
        sha256=digest, size=len(content), stored_at=now, truncated=False, said=None, content=content
    )
    whole = {"truncated": False, "said": None, "content": new.excluded.content}
    is_cut = col(Evidence.truncated).is_(True)
    await session.exec(new.on_conflict_do_update(index_elements=["sha256"], set_=whole, where=is_cut))
    return digest


async def cut(session: AsyncSession, sha256: str, said: Report) -> None:
    """Keep of a settled report that speaks of nobody its first part, and *said*, which was read of the whole.

    The same bytes may have come twice, or be a message of ours: what anything else needs whole stays whole.
    """
    size = select(Evidence.size).where(Evidence.sha256 == sha256, ~col(Evidence.truncated)).with_for_update()
    if ((await session.exec(size)).first() or 0) <= KEPT or await _is_needed(session, sha256):
        return
    await session.exec(
        update(Evidence)
        .where(col(Evidence.sha256) == sha256)
        .values(content=func.substr(Evidence.content, 1, KEPT), said=words_of(said), truncated=True)
        .execution_options(synchronize_session=False)
    )


async def _is_needed(session: AsyncSession, sha256: str) -> bool:
    needs_it = or_(col(ReportRow.verdict).is_(None), col(ReportRow.verdict).not_in(SPEAKS_OF_NOBODY))
    reports = select(ReportRow.id).where(ReportRow.evidence == sha256, needs_it).limit(1)
    messages = select(Message.id).where(Message.evidence == sha256).limit(1)
    return any([(await session.exec(users)).first() is not None for users in (reports, messages)])


def words_of(said: Report) -> bytes | None:
    """Return *said* as it is kept; None where that would be longer than what is kept of the report."""
    words = _REPORT.dump_json(said, exclude_defaults=True)
    return words if len(words) <= KEPT else None


def recall(kept: Evidence) -> Report | None:
    """Return what the whole said of which only the first part is kept; None where that part is all there is to read."""
    return None if kept.said is None else _REPORT.validate_json(kept.said)


async def truncated(session: AsyncSession, digests: Collection[str] | SelectOfScalar[str]) -> Mapping[str, bool]:
    """Return of each of *digests* that is kept whether only its first part is."""
    query = select(Evidence.sha256, Evidence.truncated).where(col(Evidence.sha256).in_(digests))
    return dict((await session.exec(query)).all())


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
