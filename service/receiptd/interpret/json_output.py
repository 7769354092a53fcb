"""A Report as the one JSON object that `receiptd interpret --json` prints (docs/contract.md §2)."""

from __future__ import annotations

from typing import Any

from receiptd.facts import Report, ReportedRecipient
from receiptd.mail.timestamps import rfc3339


def as_json(report: Report, file: str) -> dict[str, Any]:
    """Return the fixed shape; unknown is None, times are RFC 3339 in UTC."""
    return {
        "file": file,
        "kind": report.kind.value,
        "recipients": [_recipient(one) for one in report.recipients],
        "reporting_mta": report.reporting_mta,
        "reporting_ua": report.reporting_ua,
        "envelope_id": report.envelope_id,
        "original_message_id": report.original_message_id,
        "tokens": list(report.tokens),
        "disposition_mode": report.disposition_mode,
        "disposition_modifiers": list(report.disposition_modifiers),
    }


def _recipient(one: ReportedRecipient) -> dict[str, Any]:
    return {
        "action": one.action.value if one.action else None,
        "stated_action": one.stated_action,
        "status": one.status,
        "reply_code": one.reply_code,
        "final_recipient": one.final_recipient,
        "original_recipient": one.original_recipient,
        "diagnostic_code": one.diagnostic_code,
        "remote_mta": one.remote_mta,
        "cause": one.cause.value if one.cause else None,
        "occurred_at": rfc3339(one.occurred_at),
    }
