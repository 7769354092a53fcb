"""What is asked of each recipient of a message, and what can't be taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from urllib.parse import unquote

from receiptd import compose, errors, policy
from receiptd.facts import Level, Role, Trust
from receiptd.mail import address
from receiptd.settings import Receipts, Settings, show_size

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
class RecipientTerms:
    """What is asked of one recipient: how much, within which time of the first final dot, and of its reader."""

    addressee: compose.Addressee
    require: Level
    within: timedelta
    minimum_trust: Trust
    onward: bool
    mdn: bool


class TooBig(errors.BadData):
    """What was handed over is larger than is taken."""


def too_big(most: int) -> TooBig:
    """Return the refusal of a message larger than the settings allow, in their words."""
    return TooBig(
        f"the message is larger than {show_size(most)} ([service] max_message); "
        "an attachment counts a third more than its file has"
    )


def agree(settings: Settings, letter: compose.Letter, options: SubmitOptions) -> list[RecipientTerms]:
    """Return what is asked of each recipient of *letter*; raise BadData with a sentence for what can't be taken."""
    _check(settings, letter, options)
    terms = [_terms(settings, letter, addressee, options) for addressee in letter.recipients]
    check_answers(settings, letter, terms)
    return terms


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


def a_few(addresses: Sequence[str]) -> str:
    """Return a few of the addresses, and how many more there are: a sentence has room for no thousand."""
    shown = ", ".join(addresses[:_MOST_NAMED])
    return f"{shown} and {len(addresses) - _MOST_NAMED} more" if len(addresses) > _MOST_NAMED else shown
