"""A message from a user -> committed rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from urllib.parse import unquote

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import address, compose, errors, policy, token
from receiptd.facts import Level
from receiptd.models import Message, Recipient, new_id
from receiptd.settings import Receipts, Settings
from receiptd.store import Store, messages, reports

MOST_RECIPIENTS = 1000


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants beside the message itself; None means what the policy says.

    *owner* is who asks (`uid:1000`, `token:erp`). *fingerprint* is a hash of the whole request: the
    same idempotency key with another one is a mistake.
    """

    owner: str
    policy: str = "default"
    require: Level | None = None
    within: timedelta | None = None
    require_all: bool = False
    mdn: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was committed; *is_new* is False where the idempotency key had brought it before."""

    message: Message
    recipients: tuple[Recipient, ...]
    is_new: bool = True


class KeyReused(errors.BadData):
    """The idempotency key stands for another message."""


class TooBig(errors.BadData):
    """The message is larger than [service] max_message."""


async def accept(store: Store, letter: compose.Letter, wish: Wish) -> Taken:
    """Commit *letter* for every recipient; return when it is on disk.

    Raises BadData with a sentence for what can't be taken; nothing is stored then.
    """
    check(store.settings, letter, wish)
    try:
        return await store.together(lambda session: _put(session, store, letter, wish))
    except IntegrityError:
        # Two requests with one idempotency key at the same moment: the other one won.
        return await store.together(lambda session: _put(session, store, letter, wish))


def check(settings: Settings, letter: compose.Letter, wish: Wish) -> None:
    """Refuse what could not be sent or judged, before anything is stored."""
    if not letter.recipients:
        raise errors.BadData("the message has no recipient: name one in To, Cc, Bcc or on the command line")
    if len(letter.recipients) > MOST_RECIPIENTS:
        raise errors.BadData(f"{len(letter.recipients)} recipients are too many for one message: {MOST_RECIPIENTS} go")
    if len(letter.content) > settings.service.max_message:
        limit = settings.service.max_message >> 20
        raise TooBig(f"the message is larger than {limit} MiB ([service] max_message)")
    if wish.policy not in settings.policy:
        known = ", ".join(sorted(settings.policy))
        raise errors.BadData(f"there is no policy {wish.policy!r}; the settings have {known}")
    if _requires_reply(settings, wish) and not _sees_answers(settings, letter):
        raise errors.BadData(
            f'a reply can\'t be required: no [[mailbox]] with role = "replies" is that of '
            f"{' or '.join(letter.reply_to or (letter.from_address,))}, where the answers go"
        )


def _requires_reply(settings: Settings, wish: Wish) -> bool:
    terms = settings.policy[wish.policy]
    return Level.REPLIED in (
        wish.require,
        *([] if wish.require else [terms.require, *(d.require for d in terms.domain)]),
    )


def _sees_answers(settings: Settings, letter: compose.Letter) -> bool:
    """Whether a mailbox we watch receives what is sent to the letter's Reply-To or From."""
    watched = [unquote(box.user or "") for box in settings.mailbox if box.role == "replies"]
    return any(
        address.same(user, answered) for user in watched for answered in letter.reply_to or (letter.from_address,)
    )


async def _put(session: AsyncSession, store: Store, letter: compose.Letter, wish: Wish) -> Taken:
    now = store.now()
    if wish.idempotency_key and (known := await _known(session, wish, now)):
        return known
    message = Message(
        id=new_id(now),
        created_at=now,
        owner=wish.owner,
        from_address=letter.from_address,
        subject=letter.subject,
        message_id=letter.message_id,
        policy=wish.policy,
        labels=dict(wish.labels),
        evidence=await reports.store_evidence(session, letter.content, now),
        may_request=letter.may_request,
        may_request_mdn=letter.may_request_mdn,
        needs_8bitmime=letter.needs_8bitmime,
        needs_smtputf8=letter.needs_smtputf8,
        longest_line=letter.longest_line,
        idempotency_key=wish.idempotency_key,
        idempotency_hash=wish.fingerprint or None,
    )
    recipients = [
        _recipient(store.settings, message, position, addressee, wish)
        for position, addressee in enumerate(letter.recipients)
    ]
    message.warnings = await _warnings(session, recipients)
    if not letter.may_request:
        message.warnings.append("this is a report or an automatic answer: no receipt is asked for it")
    await messages.insert(session, message, recipients)
    return Taken(message, tuple(recipients))


async def _known(session: AsyncSession, wish: Wish, now: datetime) -> Taken | None:
    key = wish.idempotency_key or ""
    message = await messages.by_idempotency_key(session, wish.owner, key)
    if message is None:
        return None
    if now - message.created_at > messages.IDEMPOTENCY:
        await messages.free_key(session, message)
        return None
    if message.idempotency_hash != (wish.fingerprint or None):
        raise KeyReused(
            f"the idempotency key {key!r} was used for another message ({message.id}): take a new key for a new message"
        )
    whole = await messages.whole(session, message.id)
    return Taken(message, whole.recipients if whole else (), is_new=False)


def _recipient(
    settings: Settings, message: Message, position: int, addressee: compose.Addressee, wish: Wish
) -> Recipient:
    terms = policy.effective(
        settings,
        message.policy,
        addressee.address,
        require=wish.require,
        within=wish.within,
        role=addressee.role,
        require_all=wish.require_all,
    )
    require = terms.require if message.may_request or wish.require else Level.ACCEPTED
    submit_by = message.created_at + settings.submission.submit_within
    return Recipient(
        id=new_id(message.created_at),
        message=message.id,
        position=position,
        address=addressee.address,
        domain=compose.domain_of(addressee.address),
        role=addressee.role,
        token=token.make(),
        require=require,
        within=int(terms.within.total_seconds()),
        minimum_trust=terms.minimum_trust,
        onward=terms.onward,
        mdn_requested=_asks_for_mdn(settings.receipts, message, addressee, require, wish.mdn),
        give_up_at=message.created_at + settings.submission.give_up,
        submit_by=submit_by,
        next_attempt_at=message.created_at,
        judge_at=submit_by,
    )


def _asks_for_mdn(
    receipts: Receipts, message: Message, addressee: compose.Addressee, require: Level, wished: bool | None
) -> bool:
    """Whether this copy asks its reader for a read receipt (RFC 8098 §2.1)."""
    if not message.may_request_mdn:
        return False
    if wished is not None:
        return wished
    if receipts.mdn == "never" or _matches_any(addressee.address, receipts.mdn_never):
        return False
    return receipts.mdn == "always" or require.at_least(Level.DISPLAYED)


def _matches_any(recipient: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern of `mdn_never` takes the address: `@own.org` is a domain, all else a shell pattern."""
    text = recipient.lower()
    return any(fnmatchcase(text, f"*{p.lower()}" if p.startswith("@") else p.lower()) for p in patterns)


async def _warnings(session: AsyncSession, recipients: list[Recipient]) -> list[str]:
    """Say where experience speaks against the requirement; the message goes out all the same."""
    warnings = []
    for domain, require in sorted({(row.domain, row.require) for row in recipients}):
        higher = [level for level in Level if level.at_least(require)]
        asked, met = await messages.has_met(session, domain, higher)
        if asked >= 10 and met == 0:
            warnings.append(f"{domain} has met {require} in none of the last {asked} requests")
    return warnings
