"""Amazon SES's notifications in JSON, mailed by SNS -> what they say of each recipient."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from receiptd.facts import Action, ReportedRecipient, ReportKind
from receiptd.interpret import causes, charset, codes
from receiptd.interpret.fields import Fields
from receiptd.interpret.mime import Part
from receiptd.interpret.returned import Returned

_MARKS = ("notificationType", "eventType")
_MOST_RECIPIENTS = 200
_SIGHT = 64
_BROKEN_LINE = "!\n "
"""Sendmail's mark where it broke a line over 998 characters."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a notification says, and the header of the message of which it says so."""

    kind: ReportKind
    recipients: tuple[ReportedRecipient, ...]
    original: Returned


def may_be_in(root: Part) -> bool:
    """Whether the first part begins like a notification; its text is decoded only if so."""
    first = next((part for part in root.below if not part.children), root)
    return first.content(_SIGHT).lstrip().startswith(b"{")


def read(text: str) -> Told | None:
    """Return what a notification says, or None where *text* holds none."""
    if not text.startswith("{") or not any(mark in text for mark in _MARKS):
        return None
    told = _table(_decoded(text))
    if "Message" in told:  # SNS mails its own envelope around it where it is asked for JSON
        told = _table(_decoded(_text(told["Message"]) or ""))
    said = _said(told)
    return Told(*said, _original(_table(told.get("mail")))) if said else None


def _decoded(text: str) -> object:
    try:
        return json.JSONDecoder(strict=False).raw_decode(text.replace(_BROKEN_LINE, ""))[0]
    except (ValueError, RecursionError):
        return None


def _said(told: dict[str, Any]) -> tuple[ReportKind, tuple[ReportedRecipient, ...]] | None:
    if bounce := _table(told.get("bounce")):
        is_permanent = bounce.get("bounceType") != "Transient"
        listed = [_bounced(one, bounce, is_permanent=is_permanent) for one in _rows(bounce.get("bouncedRecipients"))]
        return ReportKind.BOUNCE, tuple(listed)
    if delay := _table(told.get("deliveryDelay")):
        waiting = [{**one, "action": "delayed"} for one in _rows(delay.get("delayedRecipients"))]
        return ReportKind.BOUNCE, tuple(_bounced(one, delay, is_permanent=False) for one in waiting)
    if complaint := _table(told.get("complaint")):
        complained = [_text(one.get("emailAddress")) for one in _rows(complaint.get("complainedRecipients"))]
        return ReportKind.FEEDBACK, tuple(
            ReportedRecipient(final_recipient=address) for address in complained if address
        )
    if delivery := _table(told.get("delivery")):
        return ReportKind.BOUNCE, tuple(_taken(address, delivery) for address in _words(delivery.get("recipients")))
    if refusal := _table(told.get("reject")) or _table(told.get("failure")):
        refused = [{"emailAddress": address} for address in _words(_table(told.get("mail")).get("destination"))]
        why = {"diagnosticCode": _text(refusal.get("reason")) or _text(refusal.get("errorMessage"))}
        return ReportKind.BOUNCE, tuple(_bounced({**one, **why}, refusal, is_permanent=True) for one in refused)
    return None


def _original(mail: dict[str, Any]) -> Returned:
    """Return the header of the message, as far as the notification quotes it."""
    stated = [(_text(one.get("name")), _text(one.get("value"))) for one in _rows(mail.get("headers"))]
    header = [(name, value) for name, value in stated if name and value]
    common = _table(mail.get("commonHeaders"))
    writers = _words(common.get("from"))
    usual = (("Message-ID", common.get("messageId")), ("From", writers[0] if writers else mail.get("source")))
    quoted = {name.lower() for name, _ in header}
    header += [(name, text) for name, value in usual if name.lower() not in quoted and (text := _text(value))]
    return Returned(Fields(header), beside_report=True)


def _bounced(one: dict[str, Any], bounce: dict[str, Any], *, is_permanent: bool) -> ReportedRecipient:
    diagnostic = _text(one.get("diagnosticCode"))
    status = codes.status_of_field(_text(one.get("status"))) or ("5.0.0" if is_permanent else "4.0.0")
    reply_code = next(iter(codes.reply_codes(diagnostic or "")), None)
    return ReportedRecipient(
        action=Action.DELAYED if one.get("action") == "delayed" else Action.FAILED,
        stated_action=_text(one.get("action")),
        status=status,
        reply_code=reply_code,
        final_recipient=_text(one.get("emailAddress")),
        diagnostic_code=diagnostic,
        cause=causes.of(diagnostic or "", status, reply_code),
        occurred_at=_instant(bounce.get("timestamp")),
    )


def _taken(address: str, delivery: dict[str, Any]) -> ReportedRecipient:
    """SES calls it a delivery when the next server took the message: that is `relayed`."""
    response = _text(delivery.get("smtpResponse")) or ""
    return ReportedRecipient(
        action=Action.RELAYED,
        stated_action="Delivery",
        status=next(iter(codes.statuses(response)), None),
        reply_code=next(iter(codes.reply_codes(response)), None),
        final_recipient=address,
        diagnostic_code=response or None,
        occurred_at=_instant(delivery.get("timestamp")),
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: object) -> list[dict[str, Any]]:
    return [one for one in value[:_MOST_RECIPIENTS] if isinstance(one, dict)] if isinstance(value, list) else []


def _words(value: object) -> list[str]:
    return [text for one in value[:_MOST_RECIPIENTS] if (text := _text(one))] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return charset.storable(value) if isinstance(value, str) and value else None


def _instant(value: object) -> datetime | None:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
        return when.astimezone(UTC) if when and when.tzinfo else None
    except (ValueError, OverflowError):
        return None
