"""A complaint in ARF, or a reader's opt-out -> whom it speaks of (RFC 5965)."""

from __future__ import annotations

from receiptd.facts import ReportedRecipient
from receiptd.interpret import addresses, fields
from receiptd.interpret.mime import Part
from receiptd.interpret.returned import Returned

_TYPES = frozenset(("message/feedback-report",))


def find(root: Part) -> Part | None:
    """Return the feedback-report part."""
    return root.first(_TYPES)


def is_report(root: Part) -> bool:
    """Whether the message is a complaint, even where its machine part is lost or it never had one.

    Apple Mail writes `X-Apple-Unsubscribe` when a reader wants no more of this: an opt-out, and no automaton's answer.
    """
    if (root.header.first("x-apple-unsubscribe") or "").lower() == "true":
        return True
    return root.type == "multipart/report" and root.parameters.get("report-type", "").lower() == "feedback-report"


def recipients(part: Part | None, original: Returned) -> tuple[ReportedRecipient, ...]:
    """Return the recipients whose complaint this is."""
    said = fields.blocks(part.text()) if part else []
    named = [address for block in said for value in block.all("original-rcpt-to") for address in addresses.find(value)]
    return tuple(ReportedRecipient(final_recipient=address) for address in dict.fromkeys(named or original.recipients))
