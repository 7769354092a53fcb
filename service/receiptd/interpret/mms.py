"""The reports of multimedia message centres that reach us as mail (3GPP TS 23.140, interface MM4)."""

from __future__ import annotations

from receiptd.facts import Action, ReportedRecipient
from receiptd.interpret import addresses, causes
from receiptd.interpret.fields import Fields

FIELD = "x-mms-message-type"
_STATES = {
    "expired": Action.FAILED, "rejected": Action.FAILED, "unrecognised": Action.FAILED, "unrecognized": Action.FAILED,
    "unreachable": Action.FAILED, "deferred": Action.DELAYED, "forwarded": Action.RELAYED,
    "retrieved": Action.DELIVERED,
}  # fmt: skip
_CLASSES = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}


def recipients(header: Fields) -> tuple[ReportedRecipient, ...]:
    """Return what a delivery report in X-Mms- fields says of its writer, the recipient; nothing where it is none."""
    kind = (header.first(FIELD) or "").lower()
    if not kind.startswith(("mm4_delivery_report", "m-delivery-ind")):
        return ()
    stated = header.first("x-mms-mm-status-code") or header.first("x-mms-status") or ""
    action = _STATES.get(stated.strip().lower())
    status = _CLASSES.get(action) if action else None
    why = header.first("x-mms-status-text") or stated
    return (
        ReportedRecipient(
            action=action,
            stated_action=stated or None,
            status=status,
            final_recipient=addresses.first(header.first("from")),
            cause=causes.of(why.lower(), status, None) if status else None,
        ),
    )
