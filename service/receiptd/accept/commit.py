"""Submissions -> rows: what gathers while the commit before is under way, in one transaction (docs/design.md §8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from receiptd import compose, correlation_token, errors
from receiptd.accept.terms import RecipientTerms, SubmitOptions, a_few
from receiptd.facts import Delivery, Disposition, Level, Receipt
from receiptd.identifiers import new_id
from receiptd.mail import address
from receiptd.settings import Settings
from receiptd.standing import RecipientRecord
from receiptd.store import Store, evidence, new_messages
from receiptd.store.group_commit import GroupCommit, shared
from receiptd.store.messages import IDEMPOTENCY
from receiptd.store.new_messages import StoredMessage
from receiptd.store.notices import tell

_MOST_TOGETHER = 500


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """A letter on its terms, with *warnings* known before, and *remarks* to tell behind all others."""

    letter: compose.Letter
    options: SubmitOptions
    terms: Sequence[RecipientTerms]
    warnings: Sequence[str] = ()
    remarks: Sequence[str] = ()
    resent_from: str | None = None

    @property
    def key(self) -> new_messages.Key | None:
        """Whose idempotency key it has, and which."""
        return (self.options.owner, key) if (key := self.options.idempotency_key) else None


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """What was committed; *is_new* is False where the idempotency key had brought it before."""

    message: StoredMessage
    recipients: tuple[RecipientRecord, ...]
    is_new: bool = True


class KeyReused(errors.BadData):
    """The idempotency key stands for another message."""


async def commit(store: Store, submission: Submission) -> AcceptedMessage:
    """Return what became of *submission* when it is on disk, or raise why it can't be taken."""

    def take(session: Session, some: Sequence[Submission]) -> list[AcceptedMessage | KeyReused]:
        return _take(session, store, some)

    group: GroupCommit[Submission, AcceptedMessage | KeyReused] = shared(store, "accept", take, most=_MOST_TOGETHER)
    taken = await group.promptly(submission)
    if isinstance(taken, KeyReused):
        raise taken
    return taken


def _take(session: Session, store: Store, some: Sequence[Submission]) -> list[AcceptedMessage | KeyReused]:
    """Write what is new of *some*; return for each what was taken under its key, now or before."""
    known = _known(session, store.now(), {one.key for one in some if one.key})
    firsts = {one.key: one for one in reversed(some) if one.key and one.key not in known}
    new = [one for one in some if one.key is None or firsts.get(one.key) is one]
    taken = dict(zip(new, put(session, store, new), strict=True))
    known |= {key: taken[one] for key, one in firsts.items()}
    return [taken[one] if one in taken or one.key is None else _again(one, known[one.key]) for one in some]


def _known(session: Session, now: datetime, keys: set[new_messages.Key]) -> dict[new_messages.Key, AcceptedMessage]:
    """Return what was taken under *keys* in the last seven days; older ones are free again."""
    found = new_messages.of_keys(session, keys)
    old = [key for key, (message, _) in found.items() if now - message.created_at > IDEMPOTENCY]
    new_messages.free_keys(session, [found.pop(key)[0].id for key in old])
    return {key: AcceptedMessage(message, recipients, is_new=False) for key, (message, recipients) in found.items()}


def _again(one: Submission, taken: AcceptedMessage) -> AcceptedMessage | KeyReused:
    """Return what was *taken* under the key of *one*, or that it was for another message."""
    message = taken.message
    if message.idempotency_hash != (one.options.fingerprint or None):
        return KeyReused(
            f"the idempotency key {one.options.idempotency_key!r} was used for another message ({message.id}): take a "
            "new key for a new message"
        )
    return AcceptedMessage(message, taken.recipients, is_new=False)


def put(session: Session, store: Store, some: Sequence[Submission]) -> list[AcceptedMessage]:
    """Write *some* in the caller's transaction: the number of statements doesn't grow with them."""
    if not some:
        return []
    now = store.now()
    seen = new_messages.known_ids(session, {one.letter.message_id for one in some})
    digests = evidence.put_all(session, [one.letter.content for one in some], now)
    drawn = [(one, _recipients(store.settings, new_id(now), one.terms, now)) for one in some]
    poor = new_messages.never_met(session, {(row.domain, row.require) for _, rows in drawn for row in rows})
    taken = []
    for (one, rows), digest in zip(drawn, digests, strict=True):
        repeated = [_repeated(one.letter)] if one.letter.message_id in seen else []
        seen.add(one.letter.message_id)
        warnings = [*one.warnings, *repeated, *_inexperience(rows, poor), *_unasked(one.letter, rows), *one.remarks]
        taken.append(AcceptedMessage(_message(one, rows[0].message, digest, warnings, now), rows))
    new_messages.insert_all(session, [(one.message, one.recipients) for one in taken])
    tell(session, "submit")
    return taken


def _message(one: Submission, message: str, digest: str, warnings: list[str], now: datetime) -> StoredMessage:
    letter, options = one.letter, one.options
    sender = options.sender
    return StoredMessage(
        id=message,
        created_at=now,
        owner=options.owner,
        from_address=letter.from_address,
        sender=None if sender is None or address.same(sender, letter.from_address) else sender,
        subject=letter.subject,
        message_id=letter.message_id,
        policy=options.policy,
        labels=dict(options.labels),
        evidence=digest,
        may_request=letter.may_request,
        may_request_mdn=letter.may_request_mdn,
        needs_8bitmime=letter.needs_8bitmime,
        needs_smtputf8=letter.needs_smtputf8,
        longest_line=letter.longest_line,
        idempotency_key=options.idempotency_key,
        idempotency_hash=options.fingerprint or None,
        warnings=warnings,
        resent_from=one.resent_from,
    )


def _recipients(
    settings: Settings, message: str, terms: Sequence[RecipientTerms], now: datetime
) -> tuple[RecipientRecord, ...]:
    submit_by, give_up_at = now + settings.submission.submit_within, now + settings.submission.give_up
    return tuple(
        RecipientRecord(
            id=new_id(now),
            message=message,
            position=position,
            address=one.addressee.address,
            domain=address.domain_of(one.addressee.address),
            role=one.addressee.role,
            token=correlation_token.make(),
            envelope_id=correlation_token.make(),
            require=one.require,
            within=int(one.within.total_seconds()),
            minimum_trust=one.minimum_trust,
            onward=one.onward,
            mdn_requested=one.mdn,
            dsn_requested=None,
            delivery=Delivery.QUEUED,
            disposition=Disposition.NONE,
            receipt=Receipt.OPEN,
            level=None,
            trust=None,
            branches=[],
            reason=None,
            version=0,
            event_count=0,
            next_attempt_at=now,
            attempts=0,
            give_up_at=give_up_at,
            claimed_by=None,
            claimed_until=None,
            submit_by=submit_by,
            submitted_at=None,
            deadline_at=None,
            judge_at=submit_by,
            incident=0,
            incident_opened_at=None,
            escalation=0,
            acknowledged_until=None,
        )
        for position, one in enumerate(terms)
    )


def _repeated(letter: compose.Letter) -> str:
    """Warn of a Message-ID that another message had: who handed that one over is nobody else's business."""
    return (
        f"a message with the Message-ID {letter.message_id} was handed over before: duplicate filters may drop this "
        "one without a word, and a report that names nothing else could be about either"
    )


def _inexperience(rows: Iterable[RecipientRecord], poor: Mapping[tuple[str, Level], int]) -> list[str]:
    """Say where experience speaks against the requirement; the message goes out all the same."""
    return [
        f"{domain} has met {require} in none of the last {poor[domain, require]} requests"
        for domain, require in sorted({(row.domain, row.require) for row in rows})
        if (domain, require) in poor
    ]


def _unasked(letter: compose.Letter, rows: Sequence[RecipientRecord]) -> list[str]:
    """Say where nothing asks for the receipt that is required."""
    if not letter.may_request:
        return ["this is a report or an automatic answer: no receipt is asked for it"]
    unasked = [row.address for row in rows if row.require is Level.DISPLAYED and not row.mdn_requested]
    if not unasked:
        return []
    names = a_few(unasked)
    return [f"displayed is required but no read receipt asked for: {names} can meet it by an answer alone"]
