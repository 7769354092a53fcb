"""What is to be submitted: which recipients are taken next, and the attempt that is committed before DATA."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session, col, func
from sqlmodel import select as select_models
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.facts import Delivery
from receiptd.identifiers import new_id
from receiptd.models import Attempt, Recipient
from receiptd.store.tables import ATTEMPT, EVIDENCE, MESSAGE, RECIPIENT, columns

LEASE = timedelta(minutes=15)
"""How long what was taken is left alone: longer than every time-out before DATA together (RFC 5321 §4.5.3.2)."""
IN_DATA = timedelta(minutes=12)
"""How long an attempt in DATA is left alone at least: the 10 minutes of RFC 5321 §4.5.3.2.6 and a margin."""
MOST_OCTETS = 64 << 20
"""How much content is taken at once, a first message of any size excepted."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What submission needs of a recipient (a part of models.Recipient)."""

    id: str
    message: str
    address: str
    token: str
    envelope_id: str | None
    mdn_requested: bool
    delivery: Delivery
    submitted_at: datetime | None
    within: int
    attempts: int
    give_up_at: datetime


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What submission needs of a message (a part of models.Message)."""

    id: str
    may_request: bool
    needs_8bitmime: bool
    needs_smtputf8: bool
    longest_line: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Work:
    """One recipient to submit now: the *attempt* is committed, so it may go to DATA at any moment."""

    attempt: str
    started_at: datetime
    recipient: Outgoing
    message: OutgoingMessage


@dataclass(frozen=True, slots=True)
class Due:
    """A recipient that is due, whose message it is of, who sent that, and how large it is."""

    recipient: str
    message: str
    owner: str
    size: int


def take(session: Session, *, node: str, now: datetime, hold: timedelta, limit: int, turn: int = 0) -> list[Work]:
    """Take up to *limit* due recipients and commit an attempt of each: from here on its outcome is unknown.

    Until it is known, or *hold* is over, nobody else takes them. One that has an attempt in DATA is left alone as
    long. *turn* counts the sets: see fair_share.
    """
    due = _look(session, now, limit)
    chosen = [one.recipient for one in fair_share(*due, limit=limit, turn=turn)]
    if not chosen:
        return []
    until = now + max(hold, IN_DATA)
    busy = set(
        session.connection()
        .execute(select(ATTEMPT.c.recipient).where(ATTEMPT.c.recipient.in_(chosen), ATTEMPT.c.finished_at.is_(None)))
        .scalars()
    )
    session.connection().execute(
        update(RECIPIENT)
        .where(RECIPIENT.c.id.in_(sorted(chosen)))
        .values(next_attempt_at=until, claimed_by=node, claimed_until=until)
    )
    works = _load(session, [one for one in chosen if one not in busy], now)
    _begin(session, works, node)
    return works


def _look(session: Session, now: datetime, limit: int) -> tuple[list[Due], list[Due]]:
    """Return what has been due longest, and what became due last; the first alone where that is all."""
    oldest = _due(session, now, limit, RECIPIENT.c.next_attempt_at.asc())
    newest = _due(session, now, limit, RECIPIENT.c.next_attempt_at.desc()) if len(oldest) == 2 * limit else []
    return oldest, newest


def _due(session: Session, now: datetime, limit: int, order: Any) -> list[Due]:
    query = (
        select(RECIPIENT.c.id, RECIPIENT.c.message, MESSAGE.c.owner, EVIDENCE.c.size)
        .join(MESSAGE, MESSAGE.c.id == RECIPIENT.c.message)
        .join(EVIDENCE, EVIDENCE.c.sha256 == MESSAGE.c.evidence)
        .where(RECIPIENT.c.next_attempt_at <= now)
        .order_by(order)
        .limit(2 * limit)
        .with_for_update(of=RECIPIENT, skip_locked=True, key_share=True)
    )
    return [Due(*row) for row in session.connection().execute(query)]


def fair_share(oldest: Sequence[Due], newest: Sequence[Due], *, limit: int, turn: int = 0) -> list[Due]:
    """Return which of those that are due are taken: half of them oldest first, half by turns.

    Turns go round the senders, and of each round its messages, from what became due last: so a letter that is
    handed in behind a run of 100,000 leaves with the next set, and the run still goes on in its order. With a
    *limit* of one, every second *turn* is the oldest's.
    """
    chosen: dict[str, Due] = {}
    by_turns = (limit + turn % 2) // 2 if newest or len(oldest) > limit else 0
    for one in oldest[: limit - by_turns]:
        chosen[one.recipient] = one
    for one in (*_by_turns(newest), *oldest):
        if len(chosen) >= limit:
            break
        chosen.setdefault(one.recipient, one)
    return _within_octets(chosen.values())


def _by_turns(due: Iterable[Due]) -> list[Due]:
    """Return them in rounds: in each, one recipient of every sender; and of a sender's messages one after another."""
    senders: dict[str, dict[str, list[Due]]] = {}
    for one in due:
        senders.setdefault(one.owner, {}).setdefault(one.message, []).append(one)
    return _rounds([_rounds(list(messages.values())) for messages in senders.values()])


def _rounds(lists: Sequence[Sequence[Due]]) -> list[Due]:
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]


def _within_octets(chosen: Iterable[Due]) -> list[Due]:
    """Return of *chosen* as many as can be held at once: each message's bytes are held once."""
    taken: list[Due] = []
    sizes: dict[str, int] = {}
    for one in chosen:
        sizes[one.message] = one.size
        if taken and sum(sizes.values()) > MOST_OCTETS:
            break
        taken.append(one)
    return taken


def _load(session: Session, recipients: Sequence[str], now: datetime) -> list[Work]:
    if not recipients:
        return []
    run = session.connection().execute
    query = select(*columns(RECIPIENT, Outgoing)).where(RECIPIENT.c.id.in_(sorted(recipients)))
    rows = {row.id: Outgoing(*row) for row in run(query)}
    named = sorted({row.message for row in rows.values()})
    found = run(select(*columns(MESSAGE, OutgoingMessage)).where(MESSAGE.c.id.in_(named)))
    messages = {row.id: OutgoingMessage(*row) for row in found}
    return [Work(new_id(now), now, rows[one], messages[rows[one].message]) for one in recipients]


def _begin(session: Session, works: Sequence[Work], node: str) -> None:
    if works:
        session.connection().execute(
            insert(ATTEMPT),
            [
                {"id": work.attempt, "recipient": work.recipient.id, "started_at": work.started_at, "node": node}
                for work in works
            ],
        )


def contents(session: Session, digests: Collection[str]) -> dict[str, bytes]:
    """Return the bytes of messages by their SHA-256."""
    if not digests:
        return {}
    query = select(EVIDENCE.c.sha256, EVIDENCE.c.content).where(EVIDENCE.c.sha256.in_(sorted(digests)))
    return {row.sha256: row.content for row in session.connection().execute(query)}


ATTEMPT_ENDS = ("finished_at", "outcome", "reply_code", "reply", "dialogue", "alias_message_id")
"""The columns of an attempt that its end writes."""


def finish(session: Session, ended: Sequence[Mapping[str, Any]]) -> None:
    """Write what came of attempts: of each its `id` and the columns ATTEMPT_ENDS."""
    if ended:
        rows = [{"ended": one["id"], **{name: one[name] for name in ATTEMPT_ENDS}} for one in ended]
        statement = update(ATTEMPT).where(ATTEMPT.c.id == bindparam("ended"))
        session.connection().execute(statement.values({name: bindparam(name) for name in ATTEMPT_ENDS}), rows)


def release(session: Session, recipients: Collection[str], at: datetime) -> None:
    """Give recipients that were taken back, to be taken up again at *at*; nothing was sent."""
    if recipients:
        session.connection().execute(
            update(RECIPIENT)
            .where(RECIPIENT.c.id.in_(sorted(recipients)), RECIPIENT.c.next_attempt_at.is_not(None))
            .values(next_attempt_at=at, claimed_by=None, claimed_until=None)
        )


async def follow_clock(session: AsyncSession, jump: timedelta) -> None:
    """The clock was set: what waits for its next attempt goes on to wait as long as it would have.

    What is claimed is left alone: it is on its way, and its lease names the claim.
    """
    waiting = select_models(Recipient.id, Recipient.next_attempt_at).where(
        col(Recipient.next_attempt_at).is_not(None), col(Recipient.claimed_by).is_(None)
    )
    rows = [{"id": name, "next_attempt_at": at + jump} for name, at in (await session.exec(waiting)).all() if at]
    if rows:
        await session.exec(update(Recipient), params=rows)


async def is_in_data(session: AsyncSession, recipient: str) -> bool:
    """Whether an attempt for this recipient is in DATA: its outcome is not ours to decide."""
    query = select_models(Attempt.id).where(Attempt.recipient == recipient, col(Attempt.finished_at).is_(None)).limit(1)
    return (await session.exec(query)).first() is not None


async def oldest(session: AsyncSession, submit_within: timedelta) -> datetime | None:
    """Return since when the oldest recipient waits to be accepted by the relay."""
    waiting = select_models(func.min(Recipient.submit_by)).where(col(Recipient.next_attempt_at).is_not(None))
    submit_by: datetime | None = (await session.exec(waiting)).one()
    return None if submit_by is None else submit_by - submit_within
