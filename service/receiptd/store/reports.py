"""Reports: raw rows with the cursor that passed them, the ones to settle, and whom their keys may mean."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import update
from sqlmodel import Session, and_, col, func, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import correlation_token
from receiptd.facts import Verdict
from receiptd.identifiers import id_of
from receiptd.models import Attempt, EventCopy, EventRow, Folder, Message, Recipient, ReportRow
from receiptd.store import evidence, one_at_a_time
from receiptd.store.notices import tell

_BOOKKEEPING = re.compile(rb"^(?:X-IMAP(?:base)?|X-UID|X?-?Status|X-Keywords):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_OF_BEFORE = 0
"""No UIDVALIDITY is zero (RFC 9051 §9, nz-number): the UID means nothing any more."""
_RECENT = 20
"""How many of the last messages of a folder are looked at again, to see a server that uses UIDs twice."""
MOST_WAITING, MOST_WAITING_OCTETS = 20_000, 256 << 20
"""Reports that may wait to be settled, and their octets: what is beyond stays in the mailbox until there is room."""
MOST_OCTETS = 64 << 20
"""How much is read into memory at once, a first report of any size excepted."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One message as the mailbox gave it."""

    uid: int
    received_at: datetime
    size: int
    content: bytes
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """How many reports are new; whether a known one has another UID now under the same UIDVALIDITY."""

    new: int
    was_elsewhere: bool


async def cursor(session: AsyncSession, mailbox: str, folder: str) -> Folder:
    """Return how far a folder was read; a row that isn't there yet is made."""
    return await session.run_sync(lambda inner: locked_cursor(cast(Session, inner), mailbox, folder))


async def restart(session: AsyncSession, mailbox: str, folder: str, uidvalidity: int) -> None:
    """Begin a folder anew: its UIDs mean other messages now (RFC 9051 §2.3.1.1); known reports stay known by hash.

    Nothing in the mailbox may be touched by a number of before, also where the server kept its UIDVALIDITY.
    """
    row = await cursor(session, mailbox, folder)
    row.uidvalidity, row.uid, row.recent = uidvalidity, 0, None
    await session.exec(
        update(ReportRow)
        .where(
            col(ReportRow.mailbox) == mailbox,
            col(ReportRow.folder) == folder,
            or_(col(ReportRow.clear), col(ReportRow.due_at).is_not(None)),
        )
        .values(uidvalidity=_OF_BEFORE)
        .execution_options(synchronize_session=False)
    )


def keep(
    session: Session,
    mailbox: str,
    folder: str,
    uidvalidity: int,
    raws: Sequence[Raw],
    *,
    upto: int,
    now: datetime,
    passed: Mapping[int, tuple[int, int]] | None = None,
) -> Kept:
    """Store *raws* and move the cursor to *upto* in the caller's transaction, with as many statements as for one.

    After a change of UIDVALIDITY the same message comes under another UID: its bytes and date
    decide that it is known. What is known is left as it is kept: it is settled, or still whole.
    *passed*: size and date (seconds) by UID of messages that the read has seen.
    """
    row = locked_cursor(session, mailbox, folder)  # first: two readers of a mailbox wait for each other here
    digests = [evidence.digest_of(raw.content) for raw in raws]
    keys = [_key(mailbox, folder, uidvalidity, raw, digest) for raw, digest in zip(raws, digests, strict=True)]
    known = {one.id: one for one in session.exec(select(ReportRow).where(col(ReportRow.id).in_(sorted(keys)))).all()}
    new: dict[str, ReportRow] = {}
    contents: list[bytes] = []
    was_elsewhere = False
    for key, raw, digest in zip(keys, raws, digests, strict=True):
        there = known.get(key) or new.get(key)
        if there is None:
            new[key] = _row(key, mailbox, folder, uidvalidity, raw, digest, now)
            contents.append(raw.content)
        elif there.folder == folder:
            was_elsewhere |= there.uidvalidity == uidvalidity and there.uid != raw.uid
            there.uidvalidity, there.uid = uidvalidity, raw.uid
    if new:
        evidence.put_all(session, contents, now)
        session.add_all(new.values())
        tell(session, "settle")
    row.uid = max(row.uid, upto)
    seen = {int(uid): values for uid, values in (row.recent or {}).items()}
    seen |= {uid: list(values) for uid, values in (passed or {}).items() if uid <= row.uid}
    row.recent = {str(uid): seen[uid] for uid in sorted(seen)[-_RECENT:]}
    session.flush()
    return Kept(len(new), was_elsewhere)


def locked_cursor(session: Session, mailbox: str, folder: str) -> Folder:
    """Return how far a folder was read, locked; a row that isn't there yet is made."""
    # A reader that lost its lease may not have ended yet.
    one_at_a_time.hold(session.connection(), f"mailbox:{mailbox}")
    row = session.get(Folder, (mailbox, folder), populate_existing=True)
    if row is None:
        row = Folder(mailbox=mailbox, name=folder)
        session.add(row)
        session.flush()
    return row


def _key(mailbox: str, folder: str, uidvalidity: int, raw: Raw, digest: str) -> str:
    """Return the id of the report that *raw* is: the same message is the same report, whatever its UID is now."""
    identity = _identity(raw.content) or digest if raw.content else f"{folder}:{uidvalidity}:{raw.uid}"
    return id_of("report", mailbox, identity, int(raw.received_at.timestamp()))


def _identity(content: bytes) -> str | None:
    """Return the hash of *content* without what servers keep in its header of their own; None: there is nothing.

    GNU imap4d shows these lines of an mbox and rewrites them: the same report would be another one at each read.
    """
    blank = _BLANK_LINE.search(content)
    end = blank.start() + 1 if blank else len(content)
    header = content[:end]
    stripped = _BOOKKEEPING.sub(b"", header)
    if len(stripped) == len(header):
        return None
    known = hashlib.sha256(stripped)
    known.update(memoryview(content)[end:])
    return known.hexdigest()


def _row(key: str, mailbox: str, folder: str, uidvalidity: int, raw: Raw, digest: str, now: datetime) -> ReportRow:
    return ReportRow(
        id=key,
        mailbox=mailbox,
        folder=folder,
        uidvalidity=uidvalidity,
        uid=raw.uid,
        received_at=min(raw.received_at, now),
        fetched_at=now,
        evidence=digest,
        size=raw.size,
        truncated=raw.truncated,
        due_at=now,
    )


async def complete(session: AsyncSession, mailbox: str, folder: str, started_at: datetime) -> None:
    """Note that all a folder held when the read started is stored."""
    row = await cursor(session, mailbox, folder)
    row.read_at = started_at


async def distrust(session: AsyncSession) -> None:
    """The clock jumped: no read counts as complete until the next one, so that no deadline is judged before it."""
    await session.exec(update(Folder).values(read_at=None).execution_options(synchronize_session=False))


async def set_aside(session: AsyncSession, report: str, reason: str) -> None:
    """Stop trying to read a report; it stays visible."""
    await _close(session, report, verdict=Verdict.SET_ASIDE, reason=shown(reason))


async def _close(session: AsyncSession, report: str, **values: object) -> None:
    await session.exec(
        update(ReportRow)
        .where(col(ReportRow.id) == report)
        .values(due_at=None, **values)
        .execution_options(synchronize_session=False)
    )


async def oldest_unsettled(session: AsyncSession) -> datetime | None:
    """Return when our server had the oldest report that is not settled (nor set aside).

    Not when it was fetched: a report that came in time is often fetched after the deadline it meets.
    """
    query = select(func.min(ReportRow.received_at)).where(col(ReportRow.due_at).is_not(None))
    return (await session.exec(query)).one()


def backlog(session: Session) -> tuple[int, int]:
    """Return how many reports wait to be settled and how many octets they are; counted no further than the limit."""
    waiting = select(ReportRow.size).where(col(ReportRow.due_at).is_not(None)).limit(MOST_WAITING).subquery()
    count, octets = session.exec(select(func.count(), func.sum(waiting.c.size)).select_from(waiting)).one()
    return count, octets or 0


def has_room(session: Session) -> bool:
    """Whether more may be fetched: what waits to be settled is bounded on disk, so fetching waits for settling."""
    count, octets = backlog(session)
    return count < MOST_WAITING and octets < MOST_WAITING_OCTETS


async def to_clear(session: AsyncSession, mailbox: str, folder: str, uidvalidity: int, limit: int) -> list[ReportRow]:
    """Return matched reports that are still to be marked, moved or deleted in the mailbox."""
    query = select(ReportRow).where(
        col(ReportRow.clear),
        ReportRow.mailbox == mailbox,
        ReportRow.folder == folder,
        ReportRow.uidvalidity == uidvalidity,
    )
    return list((await session.exec(query.limit(limit))).all())


async def cleared(session: AsyncSession, reports: Sequence[str]) -> None:
    """Note that nothing is left to do to these in the mailbox."""
    await session.exec(
        update(ReportRow)
        .where(col(ReportRow.id).in_(reports))
        .values(clear=False)
        .execution_options(synchronize_session=False)
    )


async def are_ours(session: AsyncSession, message_ids: Sequence[str]) -> bool:
    """Whether one of *message_ids* is of a message of ours, as we sent it or as a relay renamed it."""
    ours = select(Message.id).where(col(Message.message_id).in_(message_ids)).limit(1)
    renamed = select(Attempt.id).where(col(Attempt.alias_message_id).in_(message_ids)).limit(1)
    return any([(await session.exec(look_up)).first() is not None for look_up in (ours, renamed)])


def shown(text: str | None) -> str | None:
    """Return foreign text as it may be stored and listed: cut, tokens masked."""
    return None if text is None else correlation_token.mask(text)[:500]


async def newest(
    session: AsyncSession, *, limit: int, after: str | None = None, verdicts: Sequence[Verdict] = ()
) -> list[ReportRow]:
    """Return reports of any of the *verdicts* (none given: all), last fetched first, from behind the id *after*."""
    query = select(ReportRow).order_by(col(ReportRow.fetched_at).desc(), col(ReportRow.id).desc()).limit(limit)
    if verdicts:
        query = query.where(col(ReportRow.verdict).in_(verdicts))
    if after is not None and (last := await session.get(ReportRow, after)) is not None:
        same_time = and_(col(ReportRow.fetched_at) == last.fetched_at, col(ReportRow.id) < last.id)
        query = query.where(or_(col(ReportRow.fetched_at) < last.fetched_at, same_time))
    return list((await session.exec(query)).all())


async def get(session: AsyncSession, report: str) -> ReportRow | None:
    """Return one report."""
    return await session.get(ReportRow, report)


async def spoken_of(session: AsyncSession, reports: Sequence[str]) -> dict[str, list[Recipient]]:
    """Return of which recipients each report told something, in the order of their messages; one query for all."""
    query = (
        select(EventCopy.told_by, Recipient)
        .join(EventRow, col(EventRow.id) == col(EventCopy.event))
        .join(Recipient, col(Recipient.id) == col(EventRow.recipient))
        .where(col(EventCopy.told_by).in_(reports))
        .order_by(col(Recipient.message), col(Recipient.position))
    )
    found: dict[str, dict[str, Recipient]] = {}
    for report, row in (await session.exec(query)).all():
        found.setdefault(report, {})[row.id] = row
    return {report: list(rows.values()) for report, rows in found.items()}
