"""One message -> one Report: which reader takes it, and what its own header adds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from receiptd import token
from receiptd.facts import FoundToken, MatchedBy, Report, ReportedRecipient, ReportKind
from receiptd.interpret import (
    addresses,
    bounce,
    dialects,
    dsn,
    envelope,
    feedback,
    fields,
    mdn,
    mime,
    reply,
    returned,
    ses,
)
from receiptd.interpret.mime import Part
from receiptd.interpret.notice import Notice
from receiptd.interpret.returned import Returned

_LONGEST_EXCERPT = 500
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
    from_delivery_agent: bool = False
    returns_at: datetime | None = None


def interpret(raw: bytes) -> Report:
    """Return what *raw* says; never raises, and is bounded in time, depth and size for any input."""
    root = mime.read(raw)
    said = Notice(root)
    for reader in (_feedback, _disposition, _delivery_status, _bounce, _forwarded, _notification):
        if told := reader(root, said):
            return _report(told, root, said)
    return _report(_answer(root, said), root, said)


def _feedback(root: Part, _said: Notice) -> _Told | None:
    part = feedback.find(root)
    if not part and not feedback.is_report(root):
        return None
    original = returned.find(root, part)
    return _Told(ReportKind.FEEDBACK, feedback.recipients(part, original), original)


def _disposition(root: Part, _said: Notice) -> _Told | None:
    part = mdn.find(root)
    told = mdn.read(part, root.header) if part else mdn.read_exchange(root)
    if not told:
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
        from_delivery_agent=told.from_delivery_agent,
    )


def _delivery_status(root: Part, said: Notice) -> _Told | None:
    part = dsn.find(root)
    status = dsn.read(part) if part else None
    if not status or not dsn.is_usable(status):
        return None
    if not status.recipients and dialects.SENTENCE.are_in(said.plain):
        return None  # it tells of a failure, but not in fields
    original = returned.find(root, part)
    return _of_status(status, said, original if original.header else returned.in_text(said.copy))


def _of_status(status: dsn.Status, said: Notice, original: Returned) -> _Told:
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
    if not envelope_id or len(envelope_id) < token.LENGTH:
        return ()
    spellings = (envelope_id, addresses.from_xtext(envelope_id))
    return tuple(dict.fromkeys(found for text in spellings for found in envelope.of_place(text, MatchedBy.ENVELOPE_ID)))


def _bounce(root: Part, said: Notice) -> _Told | None:
    if not bounce.is_bounce(root.header, said):
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
    if not told and not bounce.is_called_so(root.header) and reply.is_auto_reply(root.header):
        return None
    return _Told(ReportKind.BOUNCE, told, original)


def _forwarded(root: Part, said: Notice) -> _Told | None:
    """A person forwards a bounce: what it says counts as a bounce without tokens, whatever it holds."""
    if not bounce.is_forwarded(root.header):
        return None
    status = dsn.read_text(_QUOTE.sub("", f"\n{said.text}\n{said.copy}"))
    return _Told(ReportKind.BOUNCE, dsn.recipients(status, said)) if status.recipients else None


def _notification(_root: Part, said: Notice) -> _Told | None:
    told = ses.read(said.text.strip()) if said.glance.lstrip().startswith("{") else None
    return _Told(told[0], told[1]) if told else None


def _answer(root: Part, said: Notice) -> _Told:
    kind = reply.kind(root.header, said.glance)
    if kind is not ReportKind.AUTO_REPLY:
        return _Told(kind)
    is_challenge = reply.is_challenge(root.header, said.glance)
    return _Told(kind, is_challenge=is_challenge, returns_at=reply.returns_at(said.glance))


def _report(told: _Told, root: Part, said: Notice) -> Report:
    """Put together what the body and the message's own header say."""
    header = root.header
    tokens = (*envelope.tokens(header), *_tokens_of_envelope_id(told.envelope_id), *told.original.tokens())
    return Report(
        kind=told.kind,
        recipients=told.recipients,
        reporting_mta=told.reporting_mta,
        reporting_ua=told.reporting_ua,
        envelope_id=told.envelope_id,
        original_message_id=told.original_message_id or told.original.message_id,
        found_tokens=tuple(dict.fromkeys(tokens)),
        disposition_mode=told.disposition_mode,
        disposition_modifiers=told.disposition_modifiers,
        arrival_date=told.arrival_date,
        message_id=envelope.message_id(header.first("message-id")),
        date=fields.instant(header.first("date")),
        subject=envelope.subject(header),
        from_address=addresses.first(header.first("from")),
        to_addresses=envelope.recipients(header),
        return_path=envelope.return_path(header),
        in_reply_to=envelope.message_ids(header, "in-reply-to"),
        references=envelope.message_ids(header, "references"),
        alias_message_ids=told.original.alias_message_ids,
        returned_from=told.original.sender,
        authentication_results=tuple(header.all("authentication-results")[:10]),
        is_automatic=envelope.is_automatic(header),
        is_refusal=told.is_refusal,
        is_challenge=told.is_challenge,
        from_delivery_agent=told.from_delivery_agent,
        excerpt=said.glance.strip()[:_LONGEST_EXCERPT],
        returns_at=told.returns_at,
    )
