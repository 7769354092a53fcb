"""What comes back without being a delivery report: answers of people and automata, complaints, our own copies."""

from __future__ import annotations

from collections.abc import Sequence

from receiptd import address
from receiptd.facts import EventKind, Fact, MatchedBy, Report, ReportedRecipient, ReportKind, Source, Trust
from receiptd.match import aims, telling, vouching
from receiptd.match.candidates import Candidate, Directory
from receiptd.match.grounds import Ground

_UNREPORTED = (ReportKind.ORDINARY, ReportKind.REPLY, ReportKind.AUTO_REPLY)


def is_own(report: Report, candidates: Sequence[Candidate]) -> bool:
    """Whether this is our own: a copy of the message that came back, or its sender writing on in the thread."""
    if report.kind not in _UNREPORTED or not report.from_address:
        return False
    ids = [one for one in (report.message_id, *report.in_reply_to, *report.references) if one]
    return any(
        address.same(report.from_address, one.from_address) and any(one.is_known_as(message_id) for message_id in ids)
        for one in candidates
    )


def is_automatons(report: Report, ground: Ground) -> bool:
    """Whether nobody wrote this: it says so, or it came to a return path, which only servers know."""
    to_return_path = ground.owner is not None and ground.by is MatchedBy.RETURN_PATH
    return report.kind is ReportKind.AUTO_REPLY or report.is_automatic or to_return_path


def by_automaton(report: Report, ground: Ground) -> list[Fact]:
    """Return the event of an automatic answer or a challenge; it moves no track."""
    at = _answering(report, ground)
    kind = EventKind.HELD if report.is_challenge else EventKind.AUTO_REPLIED
    return [_answer(report, ground, at, kind, ground.trust)] if at else []


def by_person(report: Report, ground: Ground, authserv_id: str | None) -> list[Fact]:
    """Return that a person has replied: plausible, and keyed where our own server vouches for the From.

    From must be one of the recipients, or the message must have had only one: then somebody behind that
    address answers, and the answer is a branch's.
    """
    at = _answering(report, ground)
    if at is None:
        return []
    trust = ground.trust
    if trust is Trust.PLAUSIBLE and vouching.is_vouched(report, at.address, authserv_id):
        trust = Trust.KEYED
    return [_answer(report, ground, at, EventKind.REPLIED, trust)]


def by_complainer(report: Report, ground: Ground) -> list[Fact]:
    """Return that somebody complained (RFC 5965)."""
    if ground.only and ground.by is not MatchedBy.PERSON:
        return [_complaint(report, ground, ground.only)]
    return [_complaint(report, ground, aim.at) for aim in aims.find(report, ground)]


def _answering(report: Report, ground: Ground) -> Candidate | None:
    return ground.owner or Directory(ground.recipients).find(report.from_address) or ground.only


def _answer(report: Report, ground: Ground, at: Candidate, kind: EventKind, trust: Trust) -> Fact:
    detail = {
        "from": telling.text(report.from_address),
        "subject": telling.text(report.subject),
        "excerpt": telling.text(report.excerpt),
        "returns_at": telling.instant(report.returns_at),
    }
    return Fact(
        recipient_id=at.recipient_id,
        kind=kind,
        source=Source.REPLY,
        trust=trust,
        matched_by=ground.by,
        final_recipient=telling.final_recipient(report.from_address, at) if kind is EventKind.REPLIED else None,
        occurred_at=report.date,
        detail=telling.kept(detail),
        variant=telling.variant(report.message_id or telling.instant(report.date)),
    )


def _complaint(report: Report, ground: Ground, at: Candidate) -> Fact:
    said = report.recipients[0] if report.recipients else ReportedRecipient()
    detail = {"from": telling.text(report.from_address), "excerpt": telling.text(report.excerpt)}
    return Fact(
        recipient_id=at.recipient_id,
        kind=EventKind.COMPLAINED,
        source=Source.FEEDBACK,
        trust=ground.trust,
        matched_by=ground.by,
        occurred_at=said.occurred_at or report.date,
        detail=telling.kept(detail),
        variant=telling.variant(report.message_id or telling.instant(report.date)),
    )
