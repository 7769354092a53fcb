"""One block and its recipient -> the fact to append."""

from __future__ import annotations

from typing import Any

from receiptd.facts import Action, EventKind, Fact, MatchedBy, Report, ReportedRecipient, ReportKind, Source
from receiptd.mail import address
from receiptd.mail.timestamps import rfc3339
from receiptd.match.candidates import Candidate
from receiptd.match.targets import ReportTarget

LONGEST_DIAGNOSTIC = 1024
"""Bytes of a Diagnostic-Code that an event keeps; the report itself is evidence for the rest."""
LONGEST_TEXT = 500
_LONGEST_ADDRESS = 320

_DELIVERIES = {
    Action.FAILED: EventKind.FAILED,
    Action.DELAYED: EventKind.DELAYED,
    Action.DELIVERED: EventKind.DELIVERED,
    Action.RELAYED: EventKind.RELAYED,
    Action.EXPANDED: EventKind.EXPANDED,
}
_DISPOSITIONS = {
    Action.DISPLAYED: EventKind.DISPLAYED,
    Action.DELETED: EventKind.DELETED,
    Action.DISPATCHED: EventKind.DISPATCHED,
    Action.PROCESSED: EventKind.PROCESSED,
    Action.DENIED: EventKind.DENIED,
    Action.ERROR: EventKind.ERROR,
    Action.FAILED: EventKind.ERROR,
}
SOURCES = {ReportKind.DSN: Source.DSN, ReportKind.BOUNCE: Source.BOUNCE, ReportKind.MDN: Source.MDN}


def fact(report: Report, target: ReportTarget, by: MatchedBy) -> Fact:
    """Return what *report* says of the recipient that *target* names.

    A report whose action nobody knows proves that the message was accepted, and no more (RFC 3464 §2.3.3).
    """
    kind, source, block = _kind(report, target), SOURCES[report.kind], target.block
    told = (source, block.status, report.reporting_mta, report.disposition_mode, report.reporting_ua, target.onward)
    return Fact(
        recipient_id=target.at.recipient_id,
        kind=kind,
        source=source,
        trust=target.trust,
        matched_by=by,
        final_recipient=final_recipient(block.final_recipient or block.original_recipient, target.at),
        occurred_at=block.occurred_at or report.date,
        detail=_detail(report, target),
        variant=variant(*told, *sorted(report.disposition_modifiers)),
    )


def _kind(report: Report, target: ReportTarget) -> EventKind:
    action = target.block.action
    if report.kind is not ReportKind.MDN:
        unknown = EventKind.FAILED if report.kind is ReportKind.BOUNCE else EventKind.ACCEPTED
        return _DELIVERIES.get(action, unknown) if action else unknown
    if report.is_refusal and action is Action.DELETED:
        return EventKind.REFUSED
    if "error" in {word.lower() for word in report.disposition_modifiers}:
        return EventKind.ERROR
    return _DISPOSITIONS.get(action, EventKind.ACCEPTED) if action else EventKind.ACCEPTED


def _detail(report: Report, target: ReportTarget) -> dict[str, Any]:
    block = target.block
    detail: dict[str, Any] = {
        "reporting_mta": text(report.reporting_mta),
        "status": text(block.status),
        "reply_code": block.reply_code,
        "diagnostic_code": text(block.diagnostic_code, LONGEST_DIAGNOSTIC),
        "remote_mta": text(block.remote_mta),
        "cause": block.cause.value if block.cause else None,
        "original_recipient": text(block.original_recipient, _LONGEST_ADDRESS),
        "stated_action": text(block.stated_action),
        "will_retry_until": rfc3339(block.will_retry_until),
        "arrival_date": rfc3339(report.arrival_date),
        "envelope_id": text(report.envelope_id),
        "excerpt": text(report.excerpt),
        "status_disagrees": _disagrees(block),
        "onward": target.onward,
    }
    if report.kind is ReportKind.MDN:
        detail |= {
            "disposition_mode": text(report.disposition_mode),
            "modifiers": [text(word) for word in report.disposition_modifiers[:10]],
            "automatic": (report.disposition_mode or "").lower().startswith("automatic-action"),
            "refusal": report.is_refusal,
            "reporting_ua": text(report.reporting_ua),
        }
    return kept(detail)


def _disagrees(block: ReportedRecipient) -> bool:
    """Whether the class of Status says otherwise than Action, which decides (RFC 3464 §2.3.3): shown, never judged."""
    is_failed = block.action is Action.FAILED
    return (block.status or "").startswith("2" if is_failed else "5") and block.action is not None


def kept(detail: dict[str, Any]) -> dict[str, Any]:
    """Return *detail* without what is unknown, empty or not so."""
    return {name: value for name, value in detail.items() if value not in (None, "", [], False)}


def final_recipient(stated: str | None, at: Candidate) -> str | None:
    """Return the branch that *stated* names, as the key of its address; None is the address we sent to."""
    if not stated or address.same(stated, at.address):
        return None
    return text(address.key(stated), _LONGEST_ADDRESS)


def variant(*told: object) -> str:
    """Return what tells otherwise equal facts apart; letter case doesn't."""
    return "|".join("" if one is None else text(str(one).lower(), LONGEST_TEXT) or "" for one in told)


def text(foreign: str | None, longest: int = LONGEST_TEXT) -> str | None:
    """Return foreign text that any database can store: without NUL and half surrogate pairs, in *longest* bytes."""
    if not foreign:
        return None
    clean = foreign[:longest].replace("\0", "").encode("utf-8", "replace")[:longest]
    return clean.decode("utf-8", "ignore")
