"""What comes back without being a delivery report: answers of people and automata, complaints, our own copies."""

from __future__ import annotations

from collections.abc import Sequence

from receiptd.facts import EventKind, Fact, MatchedBy, Report, ReportedRecipient, ReportKind, Source, Trust
from receiptd.mail import address
from receiptd.mail.timestamps import rfc3339
from receiptd.match import authentication_results, fact_builder, targets
from receiptd.match.candidates import Candidate, Directory
from receiptd.match.match_keys import MatchKey

_UNREPORTED = (ReportKind.ORDINARY, ReportKind.REPLY, ReportKind.AUTO_REPLY)


def is_own(report: Report, candidates: Sequence[Candidate]) -> bool:
    """Whether this is a copy of our own message that came back, or its sender writing on in the thread.

    Somebody else who sends through us may answer, with a message of ours: what it answers decides.
    """
    if report.kind not in _UNREPORTED or not report.from_address:
        return False
    answered = _answered(report, candidates)
    if any(address.same(report.from_address, one.address) for one in answered):
        return False
    own_id = [report.message_id] if report.message_id else []
    return any(
        address.same(report.from_address, one.from_address)
        for one in answered or [one for one in candidates if any(map(one.is_known_as, own_id))]
    )


def _answered(report: Report, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the recipients of the message of ours that *report* answers: the last one it names."""
    for message_id in report.in_reply_to or reversed(report.references):
        if found := [one for one in candidates if one.is_known_as(message_id)]:
            return found
    return []


def is_automatons(report: Report, key: MatchKey) -> bool:
    """Whether nobody wrote this: it says so, or it came to a return path, which only servers know."""
    to_return_path = key.owner is not None and key.by is MatchedBy.RETURN_PATH
    return report.kind is ReportKind.AUTO_REPLY or report.is_automatic or to_return_path


def by_automaton(report: Report, key: MatchKey) -> list[Fact]:
    """Return the event of an automatic answer or a challenge; it moves no track."""
    at = _answering(report, key)
    kind = EventKind.HELD if report.is_challenge else EventKind.AUTO_REPLIED
    return [_answer(report, key, at, kind, key.trust)] if at else []


def by_person(report: Report, key: MatchKey, authserv_id: str | None) -> list[Fact]:
    """Return that a person has replied: plausible, and keyed where our own server vouches for the recipient's From.

    Anybody may answer. What another address than the recipient's says is its own (`onward`): whether it is known
    behind the recipient's, the fold decides, for a report may tell that later. So it keeps that our server vouches.
    """
    at = _answering(report, key)
    if at is None:
        return []
    trust, vouched = key.trust, authentication_results.is_vouched(report, authserv_id)
    is_recipients = address.same(report.from_address or "", at.address)
    if key.by is not MatchedBy.PERSON and authentication_results.is_refuted(report, authserv_id):
        trust, vouched = Trust.WEAK, False
    elif trust is Trust.PLAUSIBLE and vouched and is_recipients:
        trust = Trust.KEYED
    about = {"onward": not is_recipients, "vouched": vouched and not is_recipients}
    return [_answer(report, key, at, EventKind.REPLIED, trust, **about)]


def by_complainer(report: Report, key: MatchKey) -> list[Fact]:
    """Return that somebody complained (RFC 5965)."""
    if key.only and key.by is not MatchedBy.PERSON:
        return [_complaint(report, key, key.only)]
    return [_complaint(report, key, target.at) for target in targets.find(report, key)]


def _answering(report: Report, key: MatchKey) -> Candidate | None:
    return key.owner or Directory(key.recipients).find(report.from_address) or _behind(report, key)


def _behind(report: Report, key: MatchKey) -> Candidate | None:
    """Return behind whose address From is known, or the only recipient."""
    known = (
        one for one in key.recipients if any(address.same(branch, report.from_address or "") for branch in one.branches)
    )
    return next(known, key.only)


def _answer(report: Report, key: MatchKey, at: Candidate, kind: EventKind, trust: Trust, **about: bool) -> Fact:
    detail = about | {
        "from": fact_builder.text(report.from_address),
        "subject": fact_builder.text(report.subject),
        "excerpt": fact_builder.text(report.excerpt),
        "returns_at": rfc3339(report.returns_at),
    }
    return Fact(
        recipient_id=at.recipient_id,
        kind=kind,
        source=Source.REPLY,
        trust=trust,
        matched_by=key.by,
        final_recipient=fact_builder.final_recipient(report.from_address, at) if kind is EventKind.REPLIED else None,
        occurred_at=report.date,
        detail=fact_builder.kept(detail),
        variant=fact_builder.variant(report.message_id or rfc3339(report.date)),
    )


def _complaint(report: Report, key: MatchKey, at: Candidate) -> Fact:
    said = report.recipients[0] if report.recipients else ReportedRecipient()
    detail = {"from": fact_builder.text(report.from_address), "excerpt": fact_builder.text(report.excerpt)}
    return Fact(
        recipient_id=at.recipient_id,
        kind=EventKind.COMPLAINED,
        source=Source.FEEDBACK,
        trust=key.trust,
        matched_by=key.by,
        occurred_at=said.occurred_at or report.date,
        detail=fact_builder.kept(detail),
        variant=fact_builder.variant(report.message_id or rfc3339(report.date)),
    )
