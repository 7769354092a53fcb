"""One message -> one Report: which reader takes it, and what its own header adds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from receiptd import correlation_token
from receiptd.facts import Action, FoundToken, MatchedBy, Report, ReportedRecipient, ReportKind
from receiptd.interpret import (
    addresses,
    bounce,
    bounce_detection,
    dsn,
    feedback,
    fields,
    mdn,
    mime,
    mms,
    mta_phrases,
    pec,
    reply,
    report_header,
    returned,
    ses,
    tnef,
    wrapped_report,
)
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.mime import Part
from receiptd.interpret.returned import Returned
from receiptd.mail import xtext

_LONGEST_EXCERPT = 500
_REPORTS_IN_HEADER = pec.FIELDS | {mms.FIELD}
_OF_STATUS = frozenset(("message/delivery-status",))
_OF_MACHINES = _OF_STATUS | {"message/feedback-report", "message/disposition-notification"}
_QUOTE = re.compile(r"^(?:> ?){1,3}", re.MULTILINE)


@dataclass(slots=True)
class _Told:
    """What a reader found in the body of a message; the header adds the rest."""

    kind: ReportKind
    recipients: tuple[ReportedRecipient, ...] = ()
    original: Returned = Returned()  # noqa: RUF009  frozen
    reporting_mta: str | None = None
    reporting_ua: str | None = None
    envelope_id: str | None = None
    original_message_id: str | None = None
    disposition_mode: str | None = None
    disposition_modifiers: tuple[str, ...] = ()
    arrival_date: datetime | None = None
    is_refusal: bool = False
    is_challenge: bool = False
    returns_at: datetime | None = None


def interpret(raw: bytes) -> Report:
    """Return what *raw* says; never raises, and is bounded in time, depth and size for any input."""
    root = mime.read(raw)
    said = HumanPart(root)
    if carried := wrapped_report.report_in(root, said):
        inside = HumanPart(carried)
        if told := _told(carried, inside):
            return _report(told, root, inside)
    return _report(_told(root, said) or _answer(root, said), root, said)


def _told(root: Part, said: HumanPart) -> _Told | None:
    if root.types & _OF_MACHINES == _OF_STATUS and (told := _delivery_status(root, said)):
        return told  # the usual report, at once
    for reader in _READERS:
        if told := reader(root, said):
            return told
    return None


def _feedback(root: Part, said: HumanPart) -> _Told | None:
    part = feedback.find(root)
    if not part and not feedback.is_report(root):
        return None
    original = returned.find(root, part)
    if not original.header:
        original = returned.in_text(f"{said.text}{said.copy}")
    return _Told(ReportKind.FEEDBACK, feedback.recipients(root.header, part, original), original)


def _fielded(root: Part, said: HumanPart) -> _Told | None:
    """A report whose own header says all."""
    if not root.header.has_any(_REPORTS_IN_HEADER):
        return None
    return _certified(root, said) if pec.is_receipt(root.header) else _mobile(root)


def _certified(root: Part, said: HumanPart) -> _Told | None:
    message_id = report_header.message_id(pec.original_message_id(root.header))
    if pec.is_acceptance(root):
        return _Told(ReportKind.AUTO_REPLY, original_message_id=message_id)
    told = pec.recipients(root, said)
    return _Told(ReportKind.BOUNCE, told, original_message_id=message_id) if told else None


def _mobile(root: Part) -> _Told | None:
    told = mms.recipients(root.header)
    return _Told(ReportKind.BOUNCE, told) if told else None


def _disposition(root: Part, _said: HumanPart) -> _Told | None:
    part = mdn.find(root)
    told = mdn.read(part, root.header) if part else mdn.read_exchange(root)
    if not told or bounce.is_carried_by_person(root):
        return None
    return _Told(
        ReportKind.MDN,
        (told.recipient,),
        returned.find(root, part),
        reporting_ua=told.reporting_ua,
        original_message_id=told.original_message_id,
        disposition_mode=told.mode,
        disposition_modifiers=told.modifiers,
        is_refusal=told.is_refusal,
    )


def _delivery_status(root: Part, said: HumanPart) -> _Told | None:
    part = dsn.find(root)
    status = dsn.read_all(root, part) if part else None
    if not status or not dsn.is_usable(status) or bounce.is_carried_by_person(root):
        return None
    if not status.recipients and mta_phrases.SENTENCE.are_in(said.plain):
        return None  # it tells of a failure, but not in fields
    original = returned.find(root, part)
    return _of_status(status, said, original if original.header else returned.in_text(said.copy))


def _of_status(status: dsn.Status, said: HumanPart, original: Returned) -> _Told:
    return _Told(
        ReportKind.DSN,
        dsn.recipients(status, said),
        original,
        reporting_mta=dsn.host(status.message.first("reporting-mta")),
        envelope_id=status.message.only("original-envelope-id") or None,
        arrival_date=fields.instant(status.message.first("arrival-date")),
    )


def _tokens_of_envelope_id(envelope_id: str | None) -> tuple[FoundToken, ...]:
    """Exim leaves the id in xtext; a plain token looks the same either way."""
    if not envelope_id or len(envelope_id) < correlation_token.LENGTH:
        return ()
    spellings = (envelope_id, xtext.decode_leniently(envelope_id))
    return tuple(
        dict.fromkeys(found for text in spellings for found in report_header.of_place(text, MatchedBy.ENVELOPE_ID))
    )


def _bounce(root: Part, said: HumanPart) -> _Told | None:
    if bounce.is_forwarded_by_person(root.header) or not bounce_detection.is_bounce(root.header, said):
        return None
    original = returned.find(root, None)
    if not original.header:
        original = returned.in_text(said.copy or said.text)
    status = dsn.read_text(f"\n{said.text}\n{said.copy}")
    if not status.recipients and bounce.is_from_daemon(root.header):
        status = dsn.read_attached(root)
    if status.recipients:
        return _of_status(status, said, original)
    told = bounce.recipients(root.header, said, original)
    if not told and not bounce_detection.is_believed_without_names(root.header, said):
        return None
    return _Told(ReportKind.BOUNCE, told, original)


def _exchange(root: Part, said: HumanPart) -> _Told | None:
    """A delivery report that Exchange sends in its own format; its text, if it has one, tells more."""
    action = tnef.delivery(root)
    if not action:
        return None
    original = returned.find(root, None)
    named = bounce.recipients(root.header, said, original) if action is Action.FAILED else ()
    told = tuple(replace(one, action=action) for one in named) or (_unnamed(action),)
    return _Told(ReportKind.BOUNCE, told, original, original_message_id=mdn.answered(root.header))


def _unnamed(action: Action) -> ReportedRecipient:
    return ReportedRecipient(action=action, status={Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}.get(action))


def _forwarded(root: Part, said: HumanPart) -> _Told | None:
    """A person forwards a bounce: what it says counts as a bounce without tokens, whatever it holds."""
    if not bounce.is_forwarded(root.header):
        return None
    status = dsn.read_text(_QUOTE.sub("", f"\n{said.text}\n{said.copy}"))
    return _Told(ReportKind.BOUNCE, dsn.recipients(status, said)) if status.recipients else None


def _notification(root: Part, said: HumanPart) -> _Told | None:
    told = ses.read(said.text.strip()) if ses.may_be_in(root) else None
    return _Told(told.kind, told.recipients, told.original) if told else None


_READERS = (
    _fielded,
    _feedback,
    _disposition,
    _delivery_status,
    _exchange,
    _bounce,
    _forwarded,
    _notification,
)


def _answer(root: Part, said: HumanPart) -> _Told:
    kind = reply.kind(root.header, said.beginning)
    if kind is not ReportKind.AUTO_REPLY:
        return _Told(kind)
    is_challenge = reply.is_challenge(root.header, said.beginning)
    return _Told(kind, is_challenge=is_challenge, returns_at=reply.returns_at(said.beginning))


def _without_return_path(
    recipients: tuple[ReportedRecipient, ...], tokens: tuple[FoundToken, ...]
) -> tuple[ReportedRecipient, ...]:
    """Return *recipients* without our own return path: what failed on its way to us failed nobody we wrote to."""
    if not tokens:
        return recipients
    own = {found.token for found in tokens}
    kept = []
    for one in recipients:
        if not _names(one.final_recipient, own):
            kept.append(one)
        elif one.original_recipient and not _names(one.original_recipient, own):
            kept.append(replace(one, final_recipient=one.original_recipient))
    return tuple(kept)


def _names(address: str | None, tokens: set[str]) -> bool:
    return (
        address is not None
        and len(address) > correlation_token.LENGTH
        and not tokens.isdisjoint(correlation_token.find(address))
    )


def _report(told: _Told, root: Part, said: HumanPart) -> Report:
    """Put together what the body and the message's own header say."""
    header = root.header
    tokens = (*report_header.tokens(header), *_tokens_of_envelope_id(told.envelope_id), *told.original.tokens())
    return Report(
        kind=told.kind,
        recipients=_without_return_path(told.recipients, tokens),
        reporting_mta=told.reporting_mta,
        reporting_ua=told.reporting_ua,
        envelope_id=told.envelope_id,
        original_message_id=told.original_message_id or told.original.message_id,
        found_tokens=tuple(dict.fromkeys(tokens)),
        disposition_mode=told.disposition_mode,
        disposition_modifiers=told.disposition_modifiers,
        arrival_date=told.arrival_date,
        message_id=report_header.message_id(header.first("message-id")),
        date=fields.instant(header.first("date")),
        subject=report_header.subject(header),
        from_address=addresses.first(header.first("from")),
        to_addresses=report_header.recipients(header),
        return_path=report_header.return_path(header),
        in_reply_to=report_header.message_ids(header, "in-reply-to"),
        references=report_header.message_ids(header, "references"),
        alias_message_ids=told.original.alias_message_ids,
        returned_from=told.original.sender,
        authentication_results=tuple(header.all("authentication-results")[:10]),
        is_automatic=report_header.is_automatic(header),
        is_refusal=told.is_refusal,
        is_challenge=told.is_challenge,
        excerpt=said.beginning.strip()[:_LONGEST_EXCERPT],
        returns_at=told.returns_at,
    )
