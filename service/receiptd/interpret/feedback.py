"""A complaint in ARF, or a reader's opt-out -> whom it is about (RFC 5965)."""

from __future__ import annotations

from receiptd.facts import ReportedRecipient
from receiptd.interpret import addresses, fields
from receiptd.interpret.fields import Fields
from receiptd.interpret.mime import Part
from receiptd.interpret.returned import Returned

_TYPES = frozenset(("message/feedback-report",))
_DEGRADED = ("text/plain", "application/octet-stream")
_LONGEST = 16 * 1024
_SUBJECT = "complaint about message from "
_RECIPIENT = "x-hmxmroriginalrecipient"
_FORMATS = frozenset((_RECIPIENT, "x-xarf", "x-arf", "x-spamcop-sourceip"))
_HOTMAIL = b"X-HmXmrOriginalRecipient:"
_HOTMAIL_WRITES = "staff@"


def find(root: Part) -> Part | None:
    """Return the feedback-report part, or the one that a gateway took the type of."""
    if not root.types.isdisjoint(_TYPES):
        return root.first(_TYPES)
    if not root.below or "message/delivery-status" in root.types:
        return None
    if root.raw.find(b"Feedback-Type:", root.body, root.end) < 0:
        return None
    return next((part for part in root.below if part.type in _DEGRADED and _is_read_as_report(part)), None)


def _is_read_as_report(part: Part) -> bool:
    block = next(iter(fields.blocks(part.text(_LONGEST))), None)
    return block is not None and "feedback-type" in block and ("user-agent" in block or "version" in block)


def is_report(root: Part) -> bool:
    """Whether the message is a complaint, even where its machine part is lost or it never had one.

    Apple Mail writes `X-Apple-Unsubscribe` when a reader wants no more of this: an opt-out, and no automaton's answer.
    Hotmail's Junk Mail Reporting Program attaches the message with the reader's address atop its header.
    """
    header = root.header
    if header.has_any(_FORMATS) or (header.first("x-apple-unsubscribe") or "").lower() == "true":
        return True
    if root.parameters.get("report-type", "").lower() == "feedback-report" and root.type == "multipart/report":
        return True
    if _HOTMAIL_WRITES in (header.first("from") or "") and (header.first("subject") or "").startswith(_SUBJECT):
        return True
    if "message/rfc822" not in root.types or root.raw.find(_HOTMAIL, root.body, root.end) < 0:
        return False
    return any(_RECIPIENT in part.embedded_header() for part in root.parts if part.embeds_message)


def recipients(header: Fields, part: Part | None, original: Returned) -> tuple[ReportedRecipient, ...]:
    """Return the recipients whose complaint this is."""
    said = [header, *(fields.blocks(part.text()) if part else ())]
    named = [
        address
        for block in said
        for name in ("original-rcpt-to", _RECIPIENT)
        for value in block.all(name)
        for address in addresses.find(value)
    ]
    return tuple(ReportedRecipient(final_recipient=address) for address in dict.fromkeys(named or original.recipients))
