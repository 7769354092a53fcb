"""Candidates: the recipients that the keys of reports may mean, looked up for a set of reports at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlmodel import Session

from receiptd import match
from receiptd.facts import Report
from receiptd.store.tables import ATTEMPT, MESSAGE, RECIPIENT

MOST_CANDIDATES = 1000
"""Every recipient of a hit message must be among them, so no fewer than a message may have."""
MOST_AT_ONCE = 20
"""Reports of a set whose messages' recipients are all loaded: more wait for the next set."""
_COLUMNS = (
    RECIPIENT.c.id,
    MESSAGE.c.id.label("message"),
    MESSAGE.c.message_id,
    RECIPIENT.c.token,
    RECIPIENT.c.address,
    MESSAGE.c.from_address,
    RECIPIENT.c.envelope_id,
    RECIPIENT.c.branches,
    MESSAGE.c.created_at,
)


@dataclass(frozen=True, slots=True)
class _Found:
    """A recipient that a look-up found, before what relays called its message is known."""

    id: str
    message: str
    message_id: str
    token: str
    address: str
    from_address: str
    envelope_id: str | None
    branches: Sequence[Mapping[str, str]]
    handed_over_at: datetime

    def candidate(self, aliases: Mapping[str, Sequence[str]]) -> match.Candidate:
        return match.Candidate(
            recipient_id=self.id,
            message_id=self.message,
            rfc_message_id=self.message_id,
            alias_message_ids=tuple(aliases.get(self.id, ())),
            token=self.token,
            address=self.address,
            from_address=self.from_address,
            envelope_id=self.envelope_id,
            branches=tuple(branch["final_recipient"] for branch in self.branches),
            handed_over_at=self.handed_over_at,
        )


def of_reports(session: Session, reports: Sequence[Report]) -> list[list[match.Candidate] | None]:
    """Return the candidates of each report; None for those beyond MOST_AT_ONCE that need all of a message's.

    Most reports name a key and no more than its own recipient: then the key's recipients are enough, and the cost
    doesn't grow with the recipients of the message. The number of statements doesn't grow with *reports*.
    """
    keys = [match.keys(report) for report in reports]
    owners = _by_words(session, {found.token for key in keys for found in key.tokens})
    found: list[list[match.Candidate] | None] = []
    wide: list[int] = []
    for number, (report, key) in enumerate(zip(reports, keys, strict=True)):
        own = _named(owners, key)
        if match.needs_no_others(report, own):
            found.append(own)
        else:
            wide.append(number)
            found.append(None)
    for number, one in zip(wide, of_keys(session, [keys[number] for number in wide[:MOST_AT_ONCE]]), strict=False):
        found[number] = one
    return found


def _by_words(session: Session, words: Collection[str]) -> list[match.Candidate]:
    """Return the recipients whose token or envelope id is one of *words*."""
    if not words:
        return []
    # One look-up a key: joined by OR they would read the whole table.
    rows = {
        row.id: _Found(*row)
        for column in (RECIPIENT.c.token, RECIPIENT.c.envelope_id)
        for row in _run(session, _candidates().where(column.in_(sorted(words))))
    }
    aliases = _aliases(session, rows)
    return [row.candidate(aliases) for row in rows.values()]


def _named(owners: Iterable[match.Candidate], key: match.Keys) -> list[match.Candidate]:
    words = {found.token for found in key.tokens}
    named = [one for one in owners if one.token in words or one.envelope_id in words]
    return sorted(named, key=lambda one: one.recipient_id)


def of_keys(session: Session, keys: Sequence[match.Keys]) -> list[list[match.Candidate]]:
    """Return for each of *keys* all recipients of the messages that it hits, those that it names first.

    It hits by token, envelope id, Message-ID, or the Message-ID that a relay gave.
    """
    if not keys:
        return []
    hits = _hits(session, keys)
    everyone = {message for hit in hits for message in hit}
    query = _candidates().where(RECIPIENT.c.message.in_(sorted(everyone)))
    words = {found.token for key in keys for found in key.tokens}
    query = query.order_by(_is_named(words).desc(), RECIPIENT.c.id).limit(len(keys) * MOST_CANDIDATES)
    rows = [_Found(*row) for row in _run(session, query)] if everyone else []
    aliases = _aliases(session, [row.id for row in rows])
    of_message: dict[str, list[match.Candidate]] = {}
    for row in rows:
        of_message.setdefault(row.message, []).append(row.candidate(aliases))
    return [
        _first(key, [one for message in hit for one in of_message.get(message, ())])
        for key, hit in zip(keys, hits, strict=True)
    ]


def _first(key: match.Keys, found: Sequence[match.Candidate]) -> list[match.Candidate]:
    words = {one.token for one in key.tokens}
    is_other = {one.recipient_id: one.token not in words and one.envelope_id not in words for one in found}
    return sorted(found, key=lambda one: (is_other[one.recipient_id], one.recipient_id))[:MOST_CANDIDATES]


def _hits(session: Session, keys: Sequence[match.Keys]) -> list[list[str]]:
    """Return the messages that each of *keys* hits."""
    words = sorted({found.token for key in keys for found in key.tokens})
    ids = sorted({one for key in keys for one in key.message_ids})
    most = len(keys) * MOST_CANDIDATES
    by_word: dict[str, set[str]] = {}
    for column in (RECIPIENT.c.token, RECIPIENT.c.envelope_id):
        for word, message in _run(session, select(column, RECIPIENT.c.message).where(column.in_(words)).limit(most)):
            by_word.setdefault(word, set()).add(message)
    by_id: dict[str, set[str]] = {}
    named = select(MESSAGE.c.message_id, MESSAGE.c.id).where(MESSAGE.c.message_id.in_(ids)).limit(most)
    renamed = (
        select(ATTEMPT.c.alias_message_id, RECIPIENT.c.message)
        .join(RECIPIENT, RECIPIENT.c.id == ATTEMPT.c.recipient)
        .where(ATTEMPT.c.alias_message_id.in_(ids))
        .limit(most)
    )
    for query in (named, renamed):
        for name, message in _run(session, query):
            by_id.setdefault(name, set()).add(message)
    return [
        sorted(
            {
                *(message for found in key.tokens for message in by_word.get(found.token, ())),
                *(message for one in key.message_ids for message in by_id.get(one, ())),
            }
        )
        for key in keys
    ]


def _candidates() -> Select[Any]:
    return select(*_COLUMNS).join(MESSAGE, MESSAGE.c.id == RECIPIENT.c.message)


def _is_named(words: Collection[str]) -> ColumnElement[bool]:
    """Whether one of *words* is a key of the recipient; without an envelope id that is never unknown."""
    wanted = sorted(words)
    return or_(RECIPIENT.c.token.in_(wanted), func.coalesce(RECIPIENT.c.envelope_id, "").in_(wanted))


def _aliases(session: Session, recipients: Collection[str]) -> dict[str, list[str]]:
    """Return what relays called the messages of *recipients*."""
    if not recipients:
        return {}
    query = select(ATTEMPT.c.recipient, ATTEMPT.c.alias_message_id).where(
        ATTEMPT.c.recipient.in_(sorted(recipients)), ATTEMPT.c.alias_message_id.is_not(None)
    )
    found: dict[str, list[str]] = {}
    for recipient, alias in _run(session, query):
        found.setdefault(recipient, []).append(alias)
    return found


def _run(session: Session, query: Select[Any]) -> Sequence[Any]:
    return session.connection().execute(query).all()
