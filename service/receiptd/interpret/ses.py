"""Amazon SES's notifications in JSON, mailed by SNS -> what they say of each recipient."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from receiptd.facts import Action, ReportedRecipient, ReportKind
from receiptd.interpret import causes, charset, codes

_MARK = '"notificationType"'
_MOST_RECIPIENTS = 200
_BROKEN_LINE = "!\n "
"""Sendmail's mark where it broke a line over 998 characters."""


def read(text: str) -> tuple[ReportKind, tuple[ReportedRecipient, ...]] | None:
    """Return what a notification says, or None where *text* holds none."""
    if not text.startswith("{") or _MARK not in text:
        return None
    try:
        told, _ = json.JSONDecoder(strict=False).raw_decode(text.replace(_BROKEN_LINE, ""))
    except (ValueError, RecursionError):
        return None
    told = _table(told)
    if bounce := _table(told.get("bounce")):
        is_permanent = bounce.get("bounceType") != "Transient"
        listed = [_bounced(one, bounce, is_permanent=is_permanent) for one in _rows(bounce.get("bouncedRecipients"))]
        return ReportKind.BOUNCE, tuple(listed)
    if complaint := _table(told.get("complaint")):
        complained = [_text(one.get("emailAddress")) for one in _rows(complaint.get("complainedRecipients"))]
        return ReportKind.FEEDBACK, tuple(
            ReportedRecipient(final_recipient=address) for address in complained if address
        )
    if delivery := _table(told.get("delivery")):
        return ReportKind.BOUNCE, tuple(_taken(address, delivery) for address in _words(delivery.get("recipients")))
    return None


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
