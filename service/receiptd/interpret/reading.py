"""One message -> one Report: which reader takes it, and what its own header adds."""

from __future__ import annotations

from dataclasses import replace

from receiptd.facts import FoundToken, MatchedBy, Report, ReportKind
from receiptd.interpret import addresses, bounce, dsn, envelope, feedback, fields, mdn, mime, notice, reply, returned
from receiptd.interpret.mime import Part
from receiptd.interpret.notice import Notice
from receiptd.interpret.returned import Returned

_LONGEST_EXCERPT = 500


def interpret(raw: bytes) -> Report:
    """Return what *raw* says; never raises, and is bounded in time, depth and size for any input."""
    root = mime.read(raw)
    said = notice.of(root)
    for reader in (_feedback, _disposition, _delivery_status, _bounce):
        if report := reader(root, said):
            return _with_header(report, root, said)
    return _with_header(_answer(root, said), root, said)


def _feedback(root: Part, _said: Notice) -> Report | None:
    part = feedback.find(root)
    if not part and not feedback.is_report(root):
        return None
    original = returned.find(root, part)
    return _with_original(Report(ReportKind.FEEDBACK, recipients=feedback.recipients(part, original)), original)


def _disposition(root: Part, _said: Notice) -> Report | None:
    part = mdn.find(root)
    told = mdn.read(part, root.header) if part else None
    if not told:
        return None
    report = Report(
        ReportKind.MDN,
        recipients=(told.recipient,),
        reporting_ua=told.reporting_ua,
        original_message_id=told.original_message_id,
        disposition_mode=told.mode,
        disposition_modifiers=told.modifiers,
        is_refusal=told.is_refusal,
        from_delivery_agent=told.from_delivery_agent,
    )
    return _with_original(report, returned.find(root, part))


def _delivery_status(root: Part, said: Notice) -> Report | None:
    part = dsn.find(root)
    status = dsn.read(part) if part else None
    if not status or not dsn.is_usable(status):
        return None
    if not status.recipients and dsn.says_failed(said):
        return None
    return _of_status(status, said, returned.find(root, part))


def _of_status(status: dsn.Status, said: Notice, original: Returned) -> Report:
    envelope_id = status.message.only("original-envelope-id")
    report = Report(
        ReportKind.DSN,
        recipients=dsn.recipients(status, said),
        reporting_mta=dsn.host(status.message.first("reporting-mta")),
        envelope_id=envelope_id or None,
        arrival_date=fields.instant(status.message.first("arrival-date")),
        found_tokens=_tokens_of_envelope_id(envelope_id),
    )
    return _with_original(report, original)


def _tokens_of_envelope_id(envelope_id: str | None) -> tuple[FoundToken, ...]:
    """Exim leaves the id in xtext; a plain token looks the same either way."""
    if not envelope_id:
        return ()
    spellings = (envelope_id, addresses.from_xtext(envelope_id))
    return tuple(dict.fromkeys(found for text in spellings for found in envelope.of_place(text, MatchedBy.ENVELOPE_ID)))


def _bounce(root: Part, said: Notice) -> Report | None:
    if not bounce.is_bounce(root.header, said):
        return None
    original = returned.find(root, None)
    if not original.header:
        original = returned.in_text(said.copy or said.text)
    status = dsn.read_text(f"\n{said.text}\n{said.copy}")
    if status.recipients:
        return _of_status(status, said, original)
    told = bounce.recipients(root.header, said, original)
    if not told and reply.is_auto_reply(root.header):
        return None
    return _with_original(Report(ReportKind.BOUNCE, recipients=told), original)


def _answer(root: Part, said: Notice) -> Report:
    kind = reply.kind(root.header, said.text)
    if kind is not ReportKind.AUTO_REPLY:
        return Report(kind)
    return Report(kind, is_challenge=reply.is_challenge(root.header, said.text), returns_at=reply.returns_at(said.text))


def _with_original(report: Report, original: Returned) -> Report:
    return replace(
        report,
        original_message_id=report.original_message_id or original.message_id,
        alias_message_ids=original.alias_message_ids,
        returned_from=original.sender,
        found_tokens=(*report.found_tokens, *original.tokens()),
    )


def _with_header(report: Report, root: Part, said: Notice) -> Report:
    header = root.header
    date = fields.instant(header.first("date"))
    return replace(
        report,
        found_tokens=tuple(dict.fromkeys((*envelope.tokens(header), *report.found_tokens))),
        message_id=envelope.message_id(header.first("message-id")),
        date=date,
        subject=envelope.subject(header),
        from_address=addresses.first(header.first("from")),
        to_addresses=envelope.recipients(header),
        return_path=envelope.return_path(header),
        in_reply_to=envelope.message_ids(header, "in-reply-to"),
        references=envelope.message_ids(header, "references"),
        authentication_results=tuple(header.all("authentication-results")[:10]),
        is_automatic=envelope.is_automatic(header),
        excerpt=said.text.strip()[:_LONGEST_EXCERPT],
    )
