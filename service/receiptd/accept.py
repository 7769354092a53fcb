"""A message from a user -> committed rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from urllib.parse import unquote

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import compose, correlation_token, errors, policy
from receiptd.facts import Level, Role, Trust
from receiptd.identifiers import new_id
from receiptd.mail import address
from receiptd.models import Message, Recipient
from receiptd.settings import Receipts, Settings, show_size
from receiptd.store import Store, evidence, messages

MOST_RECIPIENTS = 1000
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What a user wants beside the message itself; None means what the policy says.

    *owner* is who asks (`uid:1000`, `token:erp`). *fingerprint* is a hash of the whole request: the
    same idempotency key with another one is a mistake. *sender* owns the envelope; None: the author does.
    """

    owner: str
    policy: str = "default"
    require: Level | None = None
    within: timedelta | None = None
    require_all: bool = False
    mdn: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    sender: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """What was committed; *is_new* is False where the idempotency key had brought it before."""

    message: Message
    recipients: tuple[Recipient, ...]
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class RecipientTerms:
    """What is asked of one recipient: how much, within which time of the first final dot, and of its reader."""

    addressee: compose.Addressee
    require: Level
    within: timedelta
    minimum_trust: Trust
    onward: bool
    mdn: bool


class KeyReused(errors.BadData):
    """The idempotency key stands for another message."""


class TooBig(errors.BadData):
    """What was handed over is larger than is taken."""


def too_big(most: int) -> TooBig:
    """Return the refusal of a message larger than the settings allow, in their words."""
    return TooBig(
        f"the message is larger than {show_size(most)} ([service] max_message); "
        "an attachment counts a third more than its file has"
    )


async def accept(
    store: Store, letter: compose.Letter, options: SubmitOptions, warnings: Sequence[str] = ()
) -> AcceptedMessage:
    """Commit *letter* for every recipient, with *warnings* that are known already; return when it is on disk.

    Raises BadData with a sentence for what can't be taken; nothing is stored then.
    """
    _check(store.settings, letter, options)
    terms = [_terms(store.settings, letter, addressee, options) for addressee in letter.recipients]
    check_answers(store.settings, letter, terms)
    try:
        return await store.promptly(lambda session: _take(session, store, letter, options, terms, warnings))
    except IntegrityError:
        # Two requests with one idempotency key at the same moment: the other one won.
        return await store.promptly(lambda session: _take(session, store, letter, options, terms, warnings))


def _check(settings: Settings, letter: compose.Letter, options: SubmitOptions) -> None:
    """Refuse what could not be sent, before anything is stored."""
    if not letter.recipients:
        raise errors.BadData("the message has no recipient: name one in To, Cc, Bcc or on the command line")
    if len(letter.recipients) > MOST_RECIPIENTS:
        raise errors.BadData(f"{len(letter.recipients)} recipients are too many for one message: {MOST_RECIPIENTS} go")
    if len(letter.content) > settings.service.max_message:
        raise too_big(settings.service.max_message)
    compose.check_fitness(letter)
    if options.policy not in settings.policy:
        known = ", ".join(sorted(settings.policy))
        raise errors.BadData(f"there is no policy {options.policy!r}; the settings have {known}")


def check_answers(settings: Settings, letter: compose.Letter, terms: Sequence[RecipientTerms]) -> None:
    """Refuse to wait for an answer that would go where nobody looks (docs/design.md §6)."""
    if _sees_answers(settings, letter):
        return
    unseen = (
        f'no [[mailbox]] with role = "replies" is that of '
        f"{' or '.join(letter.reply_to or (letter.from_address,))}, where the answers go"
    )
    if any(one.require is Level.REPLIED for one in terms):
        raise errors.BadData(f"a reply can't be required: {unseen}")
    unasked = [one.addressee.address for one in terms if one.require is Level.DISPLAYED and not one.mdn]
    if unasked:
        remedy = "ask for one (--mdn), or require less" if letter.may_request_mdn else "require less"
        raise errors.BadData(
            f"displayed can't be required of {a_few(unasked)}: no read receipt is asked for, and {unseen}; {remedy}"
        )


def _sees_answers(settings: Settings, letter: compose.Letter) -> bool:
    """Whether a mailbox we watch receives what is sent to the letter's Reply-To or From."""
    watched = [unquote(box.user or "") for box in settings.mailbox if box.role == "replies"]
    return any(
        address.same(user, answered) for user in watched for answered in letter.reply_to or (letter.from_address,)
    )


def _terms(
    settings: Settings, letter: compose.Letter, addressee: compose.Addressee, options: SubmitOptions
) -> RecipientTerms:
    agreed = policy.effective(
        settings,
        options.policy,
        addressee.address,
        require=options.require,
        within=options.within,
        role=addressee.role,
        require_all=options.require_all,
    )
    is_chosen = options.require is not None and (addressee.role is Role.TO or options.require_all)
    require = agreed.require if letter.may_request or is_chosen else Level.ACCEPTED
    return RecipientTerms(
        addressee=addressee,
        require=require,
        within=agreed.within,
        minimum_trust=agreed.minimum_trust,
        onward=agreed.onward,
        mdn=letter.may_request_mdn and _asks_for_mdn(settings.receipts, addressee, require, options.mdn),
    )


def _asks_for_mdn(receipts: Receipts, addressee: compose.Addressee, require: Level, chosen: bool | None) -> bool:
    """Whether this copy asks its reader for a read receipt (RFC 8098 §2.1)."""
    if chosen is not None:
        return chosen
    if receipts.mdn == "never" or _matches_any(addressee.address, receipts.mdn_never):
        return False
    return receipts.mdn == "always" or require.at_least(Level.DISPLAYED)


def _matches_any(recipient: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern of `mdn_never` takes the address: `@own.org` is a domain, all else a shell pattern."""
    text = recipient.lower()
    return any(fnmatchcase(text, f"*{p.lower()}" if p.startswith("@") else p.lower()) for p in patterns)


async def _take(
    session: AsyncSession,
    store: Store,
    letter: compose.Letter,
    options: SubmitOptions,
    terms: Sequence[RecipientTerms],
    warnings: Sequence[str],
) -> AcceptedMessage:
    if options.idempotency_key and (known := await _known(session, options, store.now())):
        return known
    warnings = [*warnings, *await _repeated_id(session, letter.message_id)]
    return await put(session, store, letter, options, terms, warnings=warnings)


async def _repeated_id(session: AsyncSession, message_id: str) -> list[str]:
    """Warn of a Message-ID that another message had: who handed that one over is nobody else's business."""
    if not await messages.is_known_id(session, message_id):
        return []
    return [
        f"a message with the Message-ID {message_id} was handed over before: duplicate filters may drop this one "
        "without a word, and a report that names nothing else could be about either"
    ]


async def _known(session: AsyncSession, options: SubmitOptions, now: datetime) -> AcceptedMessage | None:
    key = options.idempotency_key or ""
    message = await messages.by_idempotency_key(session, options.owner, key)
    if message is None:
        return None
    if now - message.created_at > messages.IDEMPOTENCY:
        await messages.free_key(session, message)
        return None
    if message.idempotency_hash != (options.fingerprint or None):
        raise KeyReused(
            f"the idempotency key {key!r} was used for another message ({message.id}): take a new key for a new message"
        )
    whole = await messages.whole(session, message.id)
    return AcceptedMessage(message, whole.recipients if whole else (), is_new=False)


async def put(
    session: AsyncSession,
    store: Store,
    letter: compose.Letter,
    options: SubmitOptions,
    terms: Sequence[RecipientTerms],
    *,
    resent_from: str | None = None,
    warnings: Sequence[str] = (),
) -> AcceptedMessage:
    """Write *letter* for those whom *terms* name, in the caller's transaction."""
    now = store.now()
    message = Message(
        id=new_id(now),
        created_at=now,
        owner=options.owner,
        from_address=letter.from_address,
        sender=None if options.sender is None or address.same(options.sender, letter.from_address) else options.sender,
        subject=letter.subject,
        message_id=letter.message_id,
        policy=options.policy,
        labels=dict(options.labels),
        evidence=await evidence.put(session, letter.content, now),
        may_request=letter.may_request,
        may_request_mdn=letter.may_request_mdn,
        needs_8bitmime=letter.needs_8bitmime,
        needs_smtputf8=letter.needs_smtputf8,
        longest_line=letter.longest_line,
        idempotency_key=options.idempotency_key,
        idempotency_hash=options.fingerprint or None,
        resent_from=resent_from,
    )
    recipients = [_recipient(store.settings, message, position, one) for position, one in enumerate(terms)]
    message.warnings = [*warnings, *await _warnings(session, recipients), *_unasked(message, recipients)]
    await messages.insert(session, message, recipients)
    return AcceptedMessage(message, tuple(recipients))


def _recipient(settings: Settings, message: Message, position: int, terms: RecipientTerms) -> Recipient:
    addressee = terms.addressee
    submit_by = message.created_at + settings.submission.submit_within
    return Recipient(
        id=new_id(message.created_at),
        message=message.id,
        position=position,
        address=addressee.address,
        domain=address.domain_of(addressee.address),
        role=addressee.role,
        token=correlation_token.make(),
        envelope_id=correlation_token.make(),
        require=terms.require,
        within=int(terms.within.total_seconds()),
        minimum_trust=terms.minimum_trust,
        onward=terms.onward,
        mdn_requested=terms.mdn,
        give_up_at=message.created_at + settings.submission.give_up,
        submit_by=submit_by,
        next_attempt_at=message.created_at,
        judge_at=submit_by,
    )


async def _warnings(session: AsyncSession, recipients: Sequence[Recipient]) -> list[str]:
    """Say where experience speaks against the requirement; the message goes out all the same."""
    warnings = []
    for domain, require in sorted({(row.domain, row.require) for row in recipients}):
        enough = [level for level in Level if level.at_least(require)]
        requested, met = await messages.has_met(session, domain, enough)
        if requested >= 10 and met == 0:
            warnings.append(f"{domain} has met {require} in none of the last {requested} requests")
    return warnings


def _unasked(message: Message, recipients: Sequence[Recipient]) -> list[str]:
    """Say where nothing asks for the receipt that is required."""
    if not message.may_request:
        return ["this is a report or an automatic answer: no receipt is asked for it"]
    unasked = [row.address for row in recipients if row.require is Level.DISPLAYED and not row.mdn_requested]
    if not unasked:
        return []
    names = a_few(unasked)
    return [f"displayed is required but no read receipt asked for: {names} can meet it by an answer alone"]


def a_few(addresses: Sequence[str]) -> str:
    """Return a few of the addresses, and how many more there are: a sentence has room for no thousand."""
    shown = ", ".join(addresses[:_MOST_NAMED])
    return f"{shown} and {len(addresses) - _MOST_NAMED} more" if len(addresses) > _MOST_NAMED else shown
