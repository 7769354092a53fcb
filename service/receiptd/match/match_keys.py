"""By which key a report finds its message, and how sure that is (docs/design.md §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from receiptd.facts import Action, MatchedBy, Report, ReportedRecipient, ReportKind, Trust
from receiptd.mail import address
from receiptd.mail.return_path import ReturnPaths
from receiptd.match.candidates import MOST_TOKENS, Candidate, of_message

_BY_MTA = (ReportKind.DSN, ReportKind.BOUNCE)
SUCCESS = (Action.DELIVERED, Action.RELAYED, Action.EXPANDED)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MatchKey:
    """The key that fits: *owner* is the token's recipient, or None where only a Message-ID led here.

    *recipients* are those of the message.
    *is_suspicious*: the report's keys speak against each other. *branches* are the final recipients that are known
    behind the owner's address; they are asked for where a person says whose the report is.
    """

    recipients: tuple[Candidate, ...]
    by: MatchedBy
    trust: Trust
    owner: Candidate | None = None
    is_suspicious: bool = False
    branches: tuple[str, ...] = ()

    @property
    def only(self) -> Candidate | None:
        """The one recipient that can be meant, if only one can."""
        return self.owner or (self.recipients[0] if len(self.recipients) == 1 else None)


def needs_no_others(report: Report, owners: Sequence[Candidate]) -> bool:
    """Whether *owners*, whose keys *report* names, are all the candidates that the match can look at.

    So it is with one owner, where the report is about a copy (no answer, whose author may be anybody), and names no
    address and no Message-ID but the owner's, letter for letter: another spelling may be another recipient's.
    """
    if report.kind not in (*_BY_MTA, ReportKind.MDN) or len(report.found_tokens) > MOST_TOKENS:
        return False
    if len(owners) != 1 or not owners_of(report, owners):
        return False
    (owner,) = owners
    named = {text for block in report.recipients for text in _addresses(block)}
    if report.kind is ReportKind.MDN and report.from_address:
        named.add(report.from_address)
    stated = (one for one in (report.original_message_id, *report.alias_message_ids) if one)
    own = address.key(owner.address)
    return all(address.key(text) == own for text in named) and all(map(owner.is_known_as, stated))


def find(report: Report, candidates: Sequence[Candidate], paths: ReturnPaths) -> MatchKey | None:
    """Return the key by which *report* finds its message, a token or envelope id before a Message-ID, or None."""
    return _by_key(report, candidates) or _by_message_id(report, candidates, paths)


def owners_of(report: Report, candidates: Sequence[Candidate]) -> dict[str, tuple[Candidate, MatchedBy]]:
    """Return whose token or envelope id *report* names, by recipient, and where; other words don't count."""
    owners: dict[str, tuple[Candidate, MatchedBy]] = {}
    for found in report.found_tokens:
        for one in candidates:
            is_envelope_id = found.place is MatchedBy.ENVELOPE_ID and one.has_envelope_id(found.token)
            if is_envelope_id or found.token.lower() == one.token.lower():
                owners.setdefault(one.recipient_id, (one, found.place))
    return owners


def _by_key(report: Report, candidates: Sequence[Candidate]) -> MatchKey | None:
    """Find the owner of a token or envelope id that we gave out."""
    owners = owners_of(report, candidates)
    if not owners:
        return None
    owner, place = next(iter(owners.values()))
    siblings = tuple(of_message(candidates, owner))
    trust, is_suspicious = _sureness(report, owner, candidates)
    if len(owners) > 1:
        trust, is_suspicious = Trust.WEAK, True
    return MatchKey(siblings, place, trust, owner, is_suspicious)


def _sureness(report: Report, owner: Candidate, candidates: Sequence[Candidate]) -> tuple[Trust, bool]:
    """Return how sure a report with one known key is, and whether it contradicts itself."""
    stated = [one for one in (report.original_message_id, *report.alias_message_ids) if one]
    knowing = [one for one in candidates if any(one.is_known_as(message_id) for message_id in stated)]
    is_unknown = bool(stated) and not any(one.message_id == owner.message_id for one in knowing)
    has_secret = _has_secret(report, owner)
    if (is_unknown and knowing) or _has_wrong_envelope_id(report, owner):
        return Trust.WEAK, True
    is_from_another = bool(report.returned_from) and not address.same(report.returned_from or "", owner.from_address)
    if is_unknown and is_from_another and not _gives_back(report, owner):
        # A gateway may give a message another id or author. Spam in the name of our return path has both, and no ENVID.
        return Trust.WEAK, True
    # A true delivery report comes from the null path (RFC 3461 §6.1).
    is_odd = is_unknown or (not stated and is_from_another) or (report.kind in _BY_MTA and bool(report.return_path))
    if has_secret:
        return Trust.KEYED if is_odd else Trust.SEALED, False
    return Trust.PLAUSIBLE if is_odd else Trust.KEYED, False


def _gives_back(report: Report, owner: Candidate) -> bool:
    """Whether *report* states the envelope id that went out to *owner*."""
    stated = (found.token for found in report.found_tokens if found.place is MatchedBy.ENVELOPE_ID)
    return any(map(owner.has_envelope_id, stated))


def _has_secret(report: Report, owner: Candidate) -> bool:
    """Whether *report* gives back what only servers on the way have seen; a token that served as ENVID isn't secret."""
    return report.kind in _BY_MTA and owner.envelope_id is not None and _gives_back(report, owner)


def _has_wrong_envelope_id(report: Report, owner: Candidate) -> bool:
    """Whether *report* states an envelope id that isn't *owner*'s: someone who has only a copy has to guess it.

    A server that the id didn't reach, behind one without DSN, makes up one of its own shape (Oracle's and Apple's do),
    and reports failures alone: nobody has asked it for success.
    """
    if not report.envelope_id or _gives_back(report, owner):
        return False
    tells_success = any(block.action in SUCCESS for block in report.recipients)
    return tells_success or _has_envelope_id(report)


def _by_message_id(report: Report, candidates: Sequence[Candidate], paths: ReturnPaths) -> MatchKey | None:
    for message_id, by in _message_ids(report):
        hit = [one for one in candidates if one.is_known_as(message_id)]
        if hit:
            recipients = _first_handed_over(report, hit)
            is_alias = by is MatchedBy.MESSAGE_ID and any(one.is_alias(message_id) for one in recipients)
            is_forged = _has_strange_token(report, paths)
            return MatchKey(
                recipients,
                MatchedBy.ALIAS if is_alias else by,
                Trust.WEAK if is_forged else Trust.PLAUSIBLE,
                is_suspicious=is_forged,
            )
    return None


def _first_handed_over(report: Report, hit: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the recipients of the one message that *report* means where several have its Message-ID.

    A local user may give a message the Message-ID of another's: that must neither take its reports nor make them
    doubtful. What the returned header and the blocks name decides, then who was first.
    """
    kept = _where(
        hit, lambda one: bool(report.returned_from) and address.same(report.returned_from or "", one.from_address)
    )
    named = {address.key(text).casefold() for block in report.recipients for text in _addresses(block)}
    kept = _where(kept, lambda one: address.key(one.address).casefold() in named)
    first = min(kept, key=lambda one: (one.handed_over_at is None, one.handed_over_at or _NEVER, one.message_id))
    return tuple(of_message(hit, first))


def _where(hit: Sequence[Candidate], fits: Callable[[Candidate], bool]) -> list[Candidate]:
    """Return the recipients of the messages of which one fits, or all where none does."""
    messages = {one.message_id for one in hit if fits(one)}
    return [one for one in hit if one.message_id in messages] or list(hit)


def _addresses(block: ReportedRecipient) -> Iterator[str]:
    return (text for text in (block.original_recipient, block.final_recipient, *block.aliases) if text)


def _has_strange_token(report: Report, paths: ReturnPaths) -> bool:
    """Whether the report came to a return path, or names an envelope, that we never gave out.

    A true report about a message of ours has our token there. Elsewhere a word may look like a token by chance.
    """
    return _has_envelope_id(report) or is_to_return_path(report, paths)


def _has_envelope_id(report: Report) -> bool:
    return any(found.place is MatchedBy.ENVELOPE_ID for found in report.found_tokens)


def is_to_return_path(report: Report, paths: ReturnPaths) -> bool:
    """Whether *report* came to an address of the form of our return paths, known or not."""
    tokens = (found.token for found in report.found_tokens if found.place is MatchedBy.RETURN_PATH)
    return paths.carry_token and any(
        address.same(path, to) for path in map(paths.of, tokens) for to in report.to_addresses
    )


def _message_ids(report: Report) -> Iterator[tuple[str, MatchedBy]]:
    if report.original_message_id:
        yield report.original_message_id, MatchedBy.MESSAGE_ID
    for message_id in report.alias_message_ids:
        yield message_id, MatchedBy.ALIAS
    for message_id in report.in_reply_to or reversed(report.references):
        yield message_id, MatchedBy.REFERENCES
