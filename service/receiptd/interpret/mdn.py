"""A message disposition notification -> what became of the message behind the mailbox (RFC 8098, RFC 6533 §5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from receiptd.facts import Action, ReportedRecipient
from receiptd.interpret import addresses, charset, codes, fields, report_header, tnef
from receiptd.interpret.fields import Fields
from receiptd.interpret.mime import Part

_TYPES = frozenset(("message/disposition-notification", "message/global-disposition-notification"))
_DEGRADED = ("text/plain", "application/octet-stream", "message/x-disposition-notification")
_MODE = b"MDN-sent-"
_FIELD = re.compile(r"[!-9;-~]{1,76}[ \t]*:")
_LONGEST = 4 * 1024
_DISPOSITIONS = {
    "displayed": Action.DISPLAYED, "read": Action.DISPLAYED, "deleted": Action.DELETED, "dispatched": Action.DISPATCHED,
    "processed": Action.PROCESSED, "denied": Action.DENIED, "failed": Action.FAILED, "error": Action.ERROR,
}  # fmt: skip
_DISPOSITION = re.compile(r"(?:([\w-]{1,40}/[\w-]{1,40})\s*;?\s*)?([A-Za-z-]{2,30})?\s*(?:/\s*(.{0,200}))?$", re.DOTALL)
_SPACES = re.compile(r"(?:(?<!\s)\s+)?([/;,])\s*")
_DELIVERY_AGENT = re.compile(
    r"mail delivery agent|\bsieve\b|\bLDA\b|\bLMTP\b|delivery system|mail delivery subsystem", re.IGNORECASE
)
_DAEMON = re.compile(r"postmaster|mailer-daemon", re.IGNORECASE)
_REJECTED = re.compile(r"\breject", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Disposition:
    """What one MDN says."""

    recipient: ReportedRecipient
    reporting_ua: str | None
    original_message_id: str | None
    mode: str | None
    modifiers: tuple[str, ...]
    is_refusal: bool


def find(root: Part) -> Part | None:
    """Return the outermost disposition-notification part, or the one that a gateway took the type of."""
    if not root.types.isdisjoint(_TYPES):
        return root.first(_TYPES)
    if len(root.below) < 2 or "message/delivery-status" in root.types:
        return None
    behind = [part for part in root.below if not part.children][1:]
    return next((part for part in behind if part.type in _DEGRADED and _is_read_as_mdn(part)), None)


def _is_read_as_mdn(part: Part) -> bool:
    size, is_coded = part.end - part.body, "content-transfer-encoding" in part.header
    if size > _LONGEST or not (is_coded or part.raw.find(_MODE, part.body, part.end) >= 0):
        return False
    content = part.content()
    if _MODE not in content:
        return False
    text = charset.plain_ends(charset.decode(content)).lstrip()
    block = fields.blocks(text)[0] if _FIELD.match(text) else Fields([])
    mode, action, _ = disposition(block.first("disposition"))
    return bool(mode and action) and ("final-recipient" in block or "original-message-id" in block)


def read(part: Part, header: Fields) -> Disposition | None:
    """Read an MDN's fields; None where the part holds none of them."""
    body = [item for block in fields.blocks(part.text()) for item in block]
    stray = [item for item in part.header if not item[0].startswith("content-")]
    said = Fields([*body, *stray])
    if not any(
        name in said for name in ("disposition", "final-recipient", "original-recipient", "original-message-id")
    ):
        return None
    mode, action, modifiers = disposition(said.first("disposition"))
    return Disposition(
        recipient=_recipient(said, action),
        reporting_ua=said.first("reporting-ua") or None,
        original_message_id=report_header.message_id(said.first("original-message-id")) or answered(header),
        mode=mode,
        modifiers=modifiers,
        is_refusal=action is Action.DELETED and _is_delivery_agent(said, header),
    )


def read_exchange(root: Part) -> Disposition | None:
    """Read a receipt that Exchange sends in its own format: to rich-text domains it writes no RFC 8098."""
    action = tnef.disposition(root)
    if action is None:
        return None
    reader = addresses.first(root.header.first("from"))
    return Disposition(
        recipient=ReportedRecipient(action=action, final_recipient=reader),
        reporting_ua=None,
        original_message_id=answered(root.header),
        mode=None,
        modifiers=(),
        is_refusal=False,
    )


def disposition(value: str | None) -> tuple[str | None, Action | None, tuple[str, ...]]:
    """Split `manual-action/MDN-sent-manually; displayed/error` into mode, type and modifiers; any may be missing."""
    if not value:
        return None, None, ()
    found = _DISPOSITION.match(_SPACES.sub(r"\1", fields.without_comments(value[:1000])).strip("; "))
    if not found:
        return None, None, ()
    mode, kind, modifiers = found[1], found[2], found[3] or ""
    if mode and not kind and mode.partition("/")[0].lower() in _DISPOSITIONS:
        (kind, _, modifiers), mode = mode.partition("/"), None
    listed = tuple(word.strip().lower() for word in modifiers.split(",") if word.strip())
    return (mode.lower() if mode else None), _DISPOSITIONS.get((kind or "").lower()), listed


def _recipient(said: Fields, action: Action | None) -> ReportedRecipient:
    stated = said.first("original-recipient")
    original = addresses.of_field(stated)
    if stated and len(addresses.find(stated)) > 1:
        original = None  # Roundcube copies the whole To
    diagnostic = said.first("failure") or said.first("error") or said.first("warning")
    return ReportedRecipient(
        action=action,
        stated_action=said.first("disposition"),
        final_recipient=addresses.of_field(charset.decode_words(said.first("final-recipient") or "")),
        original_recipient=original,
        diagnostic_code=diagnostic or None,
        reply_code=next(iter(codes.reply_codes(diagnostic)), None) if diagnostic else None,
    )


def _is_delivery_agent(said: Fields, header: Fields) -> bool:
    """Whether the server wrote this on behalf of the reader, as Sieve's `reject` does (RFC 5429 §2.2)."""
    if _REJECTED.search(header.first("auto-submitted") or ""):
        return True
    return bool(
        _DELIVERY_AGENT.search(said.first("reporting-ua") or "")
        or _DAEMON.search(addresses.first(header.first("from")) or "")
    )


def answered(header: Fields) -> str | None:
    """Return what a report answers: old versions of Exchange leave Original-Message-ID out and write In-Reply-To."""
    ids = report_header.message_ids(header, "in-reply-to") or report_header.message_ids(header, "references")
    return ids[-1] if ids else None
