"""Folders: how far each was read, the raw reports that came out of it, and what is left to do to them there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from receiptd.identifiers import id_of
from receiptd.store import evidence, one_at_a_time
from receiptd.store.notices import tell
from receiptd.store.tables import ATTEMPT, FOLDER, MESSAGE, REPORT, columns

_BOOKKEEPING = re.compile(rb"^(?:X-IMAP(?:base)?|X-UID|X?-?Status|X-Keywords):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_OF_BEFORE = 0
"""No UIDVALIDITY is zero (RFC 9051 §9, nz-number): the UID means nothing any more."""
_RECENT = 20
"""How many of the last messages of a folder are looked at again, to see a server that uses UIDs twice."""
MOST_OCTETS = 64 << 20
"""How much is stored in one transaction, a first report of any size excepted."""


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


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a folder was read (a part of models.Folder); a folder that was never read has no *uidvalidity*."""

    uidvalidity: int | None = None
    uid: int = 0
    read_at: datetime | None = None
    recent: Mapping[str, Sequence[int]] | None = None


def cursor(session: Session, mailbox: str, folder: str) -> Cursor:
    """Return how far a folder was read."""
    row = session.connection().execute(select(*columns(FOLDER, Cursor)).where(*_is(mailbox, folder))).first()
    return Cursor(*row) if row else Cursor()


def _is(mailbox: str, folder: str) -> tuple[Any, Any]:
    return FOLDER.c.mailbox == mailbox, FOLDER.c.name == folder


def _locked(session: Session, mailbox: str, folder: str) -> Cursor:
    """Return how far a folder was read, and let nobody else move that; a row that isn't there yet is made.

    Two readers of a mailbox wait for each other here: one that lost its lease may not have ended yet.
    """
    one_at_a_time.hold(session.connection(), f"mailbox:{mailbox}")
    new = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(FOLDER)
    session.connection().execute(new.values(mailbox=mailbox, name=folder, uid=0).on_conflict_do_nothing())
    return cursor(session, mailbox, folder)


def _set(session: Session, mailbox: str, folder: str, **values: object) -> None:
    session.connection().execute(update(FOLDER).where(*_is(mailbox, folder)).values(**values))


def restart(session: Session, mailbox: str, folder: str, uidvalidity: int) -> None:
    """Begin a folder anew: its UIDs mean other messages now (RFC 9051 §2.3.1.1); known reports stay known by hash.

    Nothing in the mailbox may be touched by a number of before, also where the server kept its UIDVALIDITY.
    """
    _locked(session, mailbox, folder)
    _set(session, mailbox, folder, uidvalidity=uidvalidity, uid=0, recent=None)
    session.connection().execute(
        update(REPORT)
        .where(REPORT.c.mailbox == mailbox, REPORT.c.folder == folder)
        .where(or_(REPORT.c.clear, REPORT.c.due_at.is_not(None)))
        .values(uidvalidity=_OF_BEFORE)
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
    """Store *raws* and move the cursor to *upto* in the caller's transaction, by a constant number of statements.

    After a change of UIDVALIDITY the same message comes under another UID: its bytes and date
    decide that it is known. What is known is left as it is kept: it is settled, or still whole.
    *passed*: size and date (seconds) by UID of messages that the read has seen.
    """
    row = _locked(session, mailbox, folder)
    chunk = _Chunk(folder, uidvalidity, now)
    if raws:
        keys = [_key(mailbox, folder, uidvalidity, raw) for raw in raws]
        chunk.known = _places(session, keys)
        for key, raw in zip(keys, raws, strict=True):
            chunk.add(key, mailbox, raw)
        chunk.write(session)
    uid = max(row.uid, upto)
    seen = {int(uid): list(values) for uid, values in (row.recent or {}).items()}
    seen |= {one: list(values) for one, values in (passed or {}).items() if one <= uid}
    _set(session, mailbox, folder, uid=uid, recent={str(one): seen[one] for one in sorted(seen)[-_RECENT:]})
    return Kept(len(chunk.new), chunk.was_elsewhere)


@dataclass(slots=True)
class _Place:
    """Where a known report lies."""

    folder: str
    uidvalidity: int
    uid: int


@dataclass(slots=True)
class _Chunk:
    """Reports that are stored together: what is new of them, and what is known and lies elsewhere now."""

    folder: str
    uidvalidity: int
    now: datetime
    known: dict[str, _Place] = field(default_factory=dict)
    new: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    was_elsewhere: bool = False

    def add(self, key: str, mailbox: str, raw: Raw) -> None:
        place = self.known.get(key)
        if place is None:
            self.known[key] = _Place(self.folder, self.uidvalidity, raw.uid)
            self.new[key] = _row(key, mailbox, self.folder, self.uidvalidity, raw, self.now), raw.content
        elif place.folder == self.folder:
            self.was_elsewhere |= place.uidvalidity == self.uidvalidity and place.uid != raw.uid
            place.uidvalidity, place.uid = self.uidvalidity, raw.uid
            self.moved[key] = raw.uid

    def write(self, session: Session) -> None:
        run = session.connection().execute
        if self.new:
            evidence.put_all(session, [content for _, content in self.new.values()], self.now)
            run(insert(REPORT), [row for row, _ in self.new.values()])
            tell(session, "settle")
        if self.moved:
            where = update(REPORT).where(REPORT.c.id == bindparam("report"))
            rows = [{"report": key, "at": uid} for key, uid in sorted(self.moved.items())]
            run(where.values(uidvalidity=self.uidvalidity, uid=bindparam("at")), rows)


def _key(mailbox: str, folder: str, uidvalidity: int, raw: Raw) -> str:
    """Return the id of a report: of its bytes and date; of its place where the server doesn't hand it over."""
    identity = f"{folder}:{uidvalidity}:{raw.uid}"
    if raw.content:
        identity = _identity(raw.content) or evidence.digest_of(raw.content)
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


def _places(session: Session, keys: Collection[str]) -> dict[str, _Place]:
    """Return where those of the reports *keys* lie that are known."""
    query = select(REPORT.c.id, REPORT.c.folder, REPORT.c.uidvalidity, REPORT.c.uid).where(REPORT.c.id.in_(keys))
    return {key: _Place(*place) for key, *place in session.connection().execute(query)}


def _row(key: str, mailbox: str, folder: str, uidvalidity: int, raw: Raw, now: datetime) -> dict[str, Any]:
    return {
        "id": key,
        "mailbox": mailbox,
        "folder": folder,
        "uidvalidity": uidvalidity,
        "uid": raw.uid,
        "received_at": min(raw.received_at, now),
        "fetched_at": now,
        "evidence": evidence.digest_of(raw.content),
        "size": raw.size,
        "truncated": raw.truncated,
        "due_at": now,
        "tries": 0,
        "clear": False,
    }


def complete(session: Session, mailbox: str, folder: str, started_at: datetime) -> None:
    """Note that all a folder held when the read started is stored."""
    _locked(session, mailbox, folder)
    _set(session, mailbox, folder, read_at=started_at)


def distrust(session: Session) -> None:
    """The clock jumped: no read counts as complete until the next one, so that no deadline is judged before it."""
    session.connection().execute(update(FOLDER).values(read_at=None))


def last_read(session: Session, names: Sequence[tuple[str, str]]) -> datetime | None:
    """Return when the last complete read of all folders began; None where one was never read.

    *names* are (mailbox, folder) pairs.
    """
    mailboxes = sorted({mailbox for mailbox, _ in names})
    query = select(FOLDER.c.mailbox, FOLDER.c.name, FOLDER.c.read_at).where(FOLDER.c.mailbox.in_(mailboxes))
    read_at = {(mailbox, name): at for mailbox, name, at in session.connection().execute(query)}
    instants = [read_at.get(name) for name in names]
    return None if None in instants else min((at for at in instants if at is not None), default=None)


def oldest_unsettled(session: Session) -> datetime | None:
    """Return when our server had the oldest report that is not settled (nor set aside).

    Not when it was fetched: a report that came in time is often fetched after the deadline it meets.
    """
    query = select(func.min(REPORT.c.received_at)).where(REPORT.c.due_at.is_not(None))
    oldest: datetime | None = session.connection().scalar(query)
    return oldest


@dataclass(frozen=True, slots=True)
class ToClear:
    """A matched report that is still to be marked, moved or deleted in the mailbox."""

    id: str
    uid: int


def to_clear(session: Session, mailbox: str, folder: str, uidvalidity: int, limit: int) -> list[ToClear]:
    """Return matched reports that are still to be marked, moved or deleted in the mailbox."""
    place = (REPORT.c.mailbox == mailbox, REPORT.c.folder == folder, REPORT.c.uidvalidity == uidvalidity)
    query = select(*columns(REPORT, ToClear)).where(REPORT.c.clear, *place).limit(limit)
    return [ToClear(*row) for row in session.connection().execute(query)]


def cleared(session: Session, reports: Collection[str]) -> None:
    """Note that nothing is left to do to these in the mailbox."""
    session.connection().execute(update(REPORT).where(REPORT.c.id.in_(sorted(reports))).values(clear=False))


def are_ours(session: Session, message_ids: Sequence[str]) -> bool:
    """Whether one of *message_ids* is of a message of ours, as we sent it or as a relay renamed it."""
    ours = select(MESSAGE.c.id).where(MESSAGE.c.message_id.in_(message_ids)).limit(1)
    renamed = select(ATTEMPT.c.id).where(ATTEMPT.c.alias_message_id.in_(message_ids)).limit(1)
    return any(session.connection().execute(look_up).first() is not None for look_up in (ours, renamed))
