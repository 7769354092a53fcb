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
    """Return that a person has replied: plausible, and keyed where our own server vouches for the recipient's From.

    Anybody may answer. What another address than the recipient's says is its own (`onward`): whether it is known
    behind the recipient's, the fold decides, for a report may tell that later. So it keeps that our server vouches.
    """
    at = _answering(report, ground)
    if at is None:
        return []
    trust, vouched = ground.trust, vouching.is_vouched(report, authserv_id)
    is_recipients = address.same(report.from_address or "", at.address)
    if ground.by is not MatchedBy.PERSON and vouching.is_refuted(report, authserv_id):
        trust, vouched = Trust.WEAK, False
    elif trust is Trust.PLAUSIBLE and vouched and is_recipients:
        trust = Trust.KEYED
    about = {"onward": not is_recipients, "vouched": vouched and not is_recipients}
    return [_answer(report, ground, at, EventKind.REPLIED, trust, **about)]


def by_complainer(report: Report, ground: Ground) -> list[Fact]:
    """Return that somebody complained (RFC 5965)."""
    if ground.only and ground.by is not MatchedBy.PERSON:
        return [_complaint(report, ground, ground.only)]
    return [_complaint(report, ground, aim.at) for aim in aims.find(report, ground)]


def _answering(report: Report, ground: Ground) -> Candidate | None:
    return ground.owner or Directory(ground.recipients).find(report.from_address) or _behind(report, ground)


def _behind(report: Report, ground: Ground) -> Candidate | None:
    """Return behind whose address From is known, or the only recipient."""
    known = (
        one
        for one in ground.recipients
        if any(address.same(branch, report.from_address or "") for branch in one.branches)
    )
    return next(known, ground.only)


def _answer(report: Report, ground: Ground, at: Candidate, kind: EventKind, trust: Trust, **about: bool) -> Fact:
    detail = about | {
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
