"""New messages: what must be known before some are taken, and their rows, each table in one statement."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy import literal_column as literally
from sqlmodel import Session

from receiptd import telemetry
from receiptd.facts import EventKind, Level, Receipt, Source, Trust
from receiptd.identifiers import id_of, serials
from receiptd.standing import RecipientRecord
from receiptd.store.after_commit import once_committed
from receiptd.store.tables import EVENT, MESSAGE, RECIPIENT, columns

Key = tuple[str, str]
"""Whose idempotency key, and which."""
_LAST = 10
"""Requests of a domain by which its experience is judged."""
_ENDED: ColumnElement[bool] = literally("recipient.receipt NOT IN ('open', 'waived')")
"""Literally as in the index that serves it. What a person waived or cancelled never came to its end."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A row of models.Message."""

    id: str
    created_at: datetime
    owner: str
    from_address: str
    sender: str | None
    subject: str
    message_id: str
    policy: str
    labels: Mapping[str, str]
    evidence: str
    may_request: bool
    may_request_mdn: bool
    needs_8bitmime: bool
    needs_smtputf8: bool
    longest_line: int
    idempotency_key: str | None
    idempotency_hash: str | None
    warnings: Sequence[str]
    resent_from: str | None


Stored = tuple[StoredMessage, tuple[RecipientRecord, ...]]


def of_keys(session: Session, keys: Collection[Key]) -> dict[Key, Stored]:
    """Return the messages that were taken under *keys* and their recipients."""
    if not keys:
        return {}
    where = tuple_(MESSAGE.c.owner, MESSAGE.c.idempotency_key).in_(sorted(keys))
    found = session.connection().execute(select(*columns(MESSAGE, StoredMessage)).where(where)).all()
    messages = [StoredMessage(*row) for row in found]
    if not messages:
        return {}
    query = select(*columns(RECIPIENT, RecipientRecord)).where(RECIPIENT.c.message.in_([one.id for one in messages]))
    recipients: dict[str, list[RecipientRecord]] = {}
    for row in session.connection().execute(query.order_by(RECIPIENT.c.position)):
        recipients.setdefault(row.message, []).append(RecipientRecord(*row))
    return {(one.owner, one.idempotency_key or ""): (one, tuple(recipients.get(one.id, ()))) for one in messages}


def free_keys(session: Session, messages: Collection[str]) -> None:
    """Let go of idempotency keys that have served their time."""
    if messages:
        free = update(MESSAGE).where(MESSAGE.c.id.in_(sorted(messages))).values(idempotency_key=None)
        session.connection().execute(free)


def known_ids(session: Session, message_ids: Collection[str]) -> set[str]:
    """Return those of *message_ids* that a message handed over before has, whoever's."""
    return _found(session, _known_ids, message_ids)


def _known_ids(listed: FromClause) -> Select[Any]:
    is_there = select(MESSAGE.c.id).where(MESSAGE.c.message_id == listed.c.value).exists()
    return select(listed.c.value).where(is_there)


def never_met(session: Session, requests: Collection[tuple[str, Level]]) -> dict[tuple[str, Level], int]:
    """Return the *requests* (a domain and what is required) that none of the domain's last ten of the kind met.

    Those that required more are of the kind too; who proved as much has met it, whatever was required.
    """
    asked = {f"{level.rank}{domain}": (domain, level) for domain, level in requests}
    return dict.fromkeys((asked[one] for one in _found(session, _never_met, asked)), _LAST)


def _never_met(listed: FromClause) -> Select[Any]:
    least, domain = func.substr(listed.c.value, 1, 1), func.substr(listed.c.value, 2)
    ranks = {level: str(level.rank) for level in Level}
    required, shown = (
        case(ranks, value=cast(column, Text), else_="") for column in (RECIPIENT.c.require, RECIPIENT.c.level)
    )
    is_met = RECIPIENT.c.receipt.in_([one for one in Receipt if one.is_met]) | (shown >= least)
    last = (
        select(case((is_met, 1), else_=0).label("met"))
        .where(and_(RECIPIENT.c.domain == domain, required >= least, _ENDED))
        .order_by(RECIPIENT.c.id.desc())
        .limit(_LAST)
        .correlate(listed)
        .subquery("last")
    )
    has_never = select(and_(func.count() >= _LAST, func.sum(last.c.met) == 0)).select_from(last).scalar_subquery()
    return select(listed.c.value).where(has_never)


def _found(session: Session, query: Callable[[FromClause], Select[Any]], texts: Collection[str]) -> set[str]:
    """Return those of *texts* that *query* finds: they are one parameter, however many there are."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    values = sorted(texts)
    given = {"texts": json.dumps(values) if is_sqlite else values}
    return set(session.connection().execute(_over_texts(query, is_sqlite=is_sqlite), given).scalars())


@cache
def _over_texts(query: Callable[[FromClause], Select[Any]], *, is_sqlite: bool) -> Select[Any]:
    """Return *query* over the given texts as a table with the one column `value`; made once, for it takes a while."""
    if is_sqlite:
        return query(func.json_each(bindparam("texts", type_=Text)).table_valued("value", name="listed"))
    texts = bindparam("texts", type_=ARRAY(Text))
    return query(func.unnest(texts).table_valued("value", name="listed").render_derived())


def insert_all(session: Session, new: Sequence[Stored]) -> None:
    """Write messages, their recipients and the `queued` events of these.

    Messages go in the order of their keys: two daemons that take the same keys wait for each other and never deadlock.
    """
    connection = session.connection()
    messages = sorted((one for one, _ in new), key=lambda one: (one.owner, one.idempotency_key or ""))
    recipients = [row for _, rows in new for row in rows]
    connection.execute(insert(MESSAGE), list(map(_values, messages)))
    connection.execute(insert(RECIPIENT), list(map(_values, recipients)))
    connection.execute(insert(EVENT), [_queued(row) for row in recipients])
    for policy, count in Counter(one.policy for one in messages).items():
        once_committed(session, partial(telemetry.MESSAGES.labels(policy).inc, count))
    queued = telemetry.EVENTS.labels(EventKind.QUEUED, Source.PERSON)
    once_committed(session, partial(queued.inc, len(recipients)))


def _values(record: Any) -> dict[str, Any]:
    return {one.name: getattr(record, one.name) for one in fields(record)}


def _queued(row: RecipientRecord) -> dict[str, Any]:
    return {
        "id": id_of("event", row.id, EventKind.QUEUED, "", ""),
        "serial": serials.next(),
        "recipient": row.id,
        "kind": EventKind.QUEUED,
        "observed_at": row.next_attempt_at,
        "occurred_at": None,
        "source": Source.PERSON,
        "trust": Trust.KEYED,
        "matched_by": None,
        "final_recipient": None,
        "count": 1,
        "evidence": None,
        "detail": {},
    }
