"""By which key a report finds its message, and how sure that is (docs/design.md §5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from receiptd import address
from receiptd.facts import MatchedBy, Report, ReportKind, Trust
from receiptd.match.candidates import Candidate, of_message

_BY_MTA = (ReportKind.DSN, ReportKind.BOUNCE)


@dataclass(frozen=True, slots=True)
class Ground:
    """The key that fits: *owner* is the token's recipient, or None where only a Message-ID led here.

    *recipients* are those of the message (of several messages, where one Message-ID was used twice).
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


@dataclass(frozen=True, slots=True)
class ReturnPaths:
    """How our return paths look (settings `[receipts]`)."""

    address: str
    subaddress: str

    def of(self, token: str) -> str | None:
        """Return the return path with *token*, or None where the provider allows no sub-address."""
        local, _, domain = self.address.rpartition("@")
        if self.subaddress == "@":
            return f"{token}@{local}.{domain}"
        return f"{local}{self.subaddress}{token}@{domain}" if self.subaddress else None


def find(report: Report, candidates: Sequence[Candidate], paths: ReturnPaths) -> Ground | None:
    """Return the ground on which *report* stands, the token's before a Message-ID's, or None."""
    return _by_token(report, candidates) or _by_message_id(report, candidates, paths)


def _by_token(report: Report, candidates: Sequence[Candidate]) -> Ground | None:
    """Find the owner of a token that we gave out; a stranger's words of the same shape are ignored."""
    owners = {one.token.lower(): one for one in candidates}
    found = [one for one in report.found_tokens if one.token.lower() in owners]
    if not found:
        return None
    owner = owners[found[0].token.lower()]
    siblings = tuple(of_message(candidates, owner))
    trust, is_suspicious = _sureness(report, owner, candidates)
    if len({one.token.lower() for one in found}) > 1:
        trust, is_suspicious = Trust.WEAK, True
    return Ground(siblings, found[0].place, trust, owner, is_suspicious)


def _sureness(report: Report, owner: Candidate, candidates: Sequence[Candidate]) -> tuple[Trust, bool]:
    """Return how sure a report with one known token is, and whether it speaks against itself."""
    stated = [one for one in (report.original_message_id, *report.alias_message_ids) if one]
    knowing = [one for one in candidates if any(one.is_known_as(message_id) for message_id in stated)]
    is_from_another = bool(report.returned_from) and not address.same(report.returned_from or "", owner.from_address)
    if stated and not any(one.message_id == owner.message_id for one in knowing):
        # A gateway may give a message another id or author. Spam in the name of our return path has both, and no ENVID.
        is_misused = is_from_another and not _has_envelope_id(report)
        return (Trust.WEAK, True) if knowing or is_misused else (Trust.PLAUSIBLE, False)
    if not stated and is_from_another:
        return Trust.PLAUSIBLE, False
    if report.kind in _BY_MTA and report.return_path:
        return Trust.PLAUSIBLE, False  # a true one comes from the null path (RFC 3461 §6.1)
    return Trust.KEYED, False


def _by_message_id(report: Report, candidates: Sequence[Candidate], paths: ReturnPaths) -> Ground | None:
    for message_id, by in _message_ids(report):
        hit = {one.message_id for one in candidates if one.is_known_as(message_id)}
        if hit:
            recipients = tuple(one for one in candidates if one.message_id in hit)
            is_alias = by is MatchedBy.MESSAGE_ID and any(one.is_alias(message_id) for one in recipients)
            is_forged = _has_strange_token(report, paths)
            is_sure = len(hit) == 1 and not is_forged
            return Ground(
                recipients,
                MatchedBy.ALIAS if is_alias else by,
                Trust.PLAUSIBLE if is_sure else Trust.WEAK,
                is_suspicious=is_forged,
            )
    return None


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
    return any(address.same(path, to) for path in map(paths.of, tokens) if path for to in report.to_addresses)


def _message_ids(report: Report) -> Iterator[tuple[str, MatchedBy]]:
    if report.original_message_id:
        yield report.original_message_id, MatchedBy.MESSAGE_ID
    for message_id in report.alias_message_ids:
        yield message_id, MatchedBy.ALIAS
    for message_id in report.in_reply_to or reversed(report.references):
        yield message_id, MatchedBy.REFERENCES
