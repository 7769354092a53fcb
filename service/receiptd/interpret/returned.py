"""The original that a report returns: its Message-ID, its sender, and the headers in which a token counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from receiptd.facts import FoundToken, MatchedBy
from receiptd.interpret import addresses, fields, report_header
from receiptd.interpret.fields import Fields
from receiptd.interpret.mime import Part

_HEADER_TYPES = ("text/rfc822-headers", "message/global-headers", "text/rfc822-header", "message/rfc822-headers")
_TOKEN_FIELDS = dict.fromkeys(("disposition-notification-to", "return-path", "receipt-token")).keys()
_ALIASES = dict.fromkeys(("x-microsoft-original-message-id", "x-google-original-message-id")).keys()
_HEADER_LINE = re.compile(
    r"^[> \t]{0,4}(?:Return-Path|Received|Message-ID|DKIM-Signature|X-[\w-]{1,40}|From|Delivered-To|Date|To|Subject"
    r"|MIME-Version)[ \t]?:",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTE = re.compile(r"^[> \t]{1,4}(?=[!-9;-~]{1,76}[ \t]?:)", re.MULTILINE)
_QUOTES = (">", " ", "\t")
_ENVELOPE_FOR = re.compile(r"\bfor\s+<?([^\s<>;]{1,320}@[^\s<>;]{1,255})>?")
_LONGEST_HEADER = 64 * 1024
_MOST_BLOCKS = 20
_MOST_TEXTS = 3
NOTHING = Fields([])


@dataclass(frozen=True, slots=True)
class Returned:
    """The header of the returned original, and whether a report part vouches for it."""

    header: Fields = NOTHING
    beside_report: bool = False

    @property
    def message_id(self) -> str | None:
        return report_header.message_id(self.header.first("message-id"))

    @property
    def alias_message_ids(self) -> tuple[str, ...]:
        if not self.header.has_any(_ALIASES):
            return ()
        return tuple(
            found for name in _ALIASES for value in self.header.all(name) if (found := report_header.message_id(value))
        )

    @property
    def sender(self) -> str | None:
        return addresses.first(self.header.first("from"))

    @property
    def recipients(self) -> list[str]:
        """The envelope recipients its header tells, else those of To."""
        for name in ("x-hmxmroriginalrecipient", "x-envelope-to", "x-original-to", "envelope-to", "delivered-to"):
            if found := [address for value in self.header.all(name) for address in addresses.find(value)]:
                return found
        named = [match[1] for value in self.header.all("received") if (match := _ENVELOPE_FOR.search(value[:2000]))]
        listed = [address for value in self.header.all("to") for address in addresses.find(value)]
        return listed if len(listed) == 1 or not named else addresses.find(named[-1])

    def tokens(self) -> Iterator[FoundToken]:
        """Yield the tokens of the headers that the report returns, and of no other place."""
        if self.beside_report and self.header.has_any(_TOKEN_FIELDS):
            for name in _TOKEN_FIELDS:
                for value in self.header.all(name):
                    yield from report_header.of_place(value, MatchedBy.RETURNED_HEADER)


def find(root: Part, report: Part | None) -> Returned:
    """Return the original that stands in the same multipart as *report*, else the first one anywhere."""
    beside = _siblings(root, report) if report else []
    for part in beside:
        if header := _header_of(part):
            return Returned(header, beside_report=True)
    for part in root.parts:
        if (part is not root or root.embeds_message) and (header := _header_of(part)):
            return Returned(header)
    return _in_last_text(root, report)


def _in_last_text(root: Part, report: Part | None) -> Returned:
    """Return the header that stands as text in one of the last parts; the first part is what the server says."""
    texts = [part for part in root.below if not part.children and part.type.startswith(("text/", "message/"))]
    found = Returned()
    for part in texts[:0:-1][:_MOST_TEXTS]:
        if part is not report:
            found = in_text(part.text(_LONGEST_HEADER))
            if found.message_id:
                break
    return found


def in_text(text: str) -> Returned:
    """Return the header of an original that is copied into the text of a bounce."""
    best, at = NOTHING, 0
    for _ in range(_MOST_BLOCKS):
        found = _HEADER_LINE.search(text, at)
        if not found:
            break
        end = text.find("\n\n", found.start())
        at = min(end if end >= 0 else len(text), found.start() + _LONGEST_HEADER)
        lines = text[found.start() : at]
        block = fields.parse(_QUOTE.sub("", lines) if lines.startswith(_QUOTES) else lines)
        if "message-id" in block:
            return Returned(block)
        if len(block) > len(best):
            best = block
    return Returned(best)


def _siblings(root: Part, report: Part) -> list[Part]:
    for part in root.parts:
        if report in part.children:
            at = part.children.index(report)
            return part.children[at + 1 :] + part.children[:at]
    return []


def _header_of(part: Part) -> Fields:
    if part.embeds_message:
        return part.embedded_header()
    if "message-id" in part.header and "received" in part.header:
        return part.header  # a part that is the original itself, its type line left out
    if part.type in _HEADER_TYPES:
        return fields.parse(part.text(_LONGEST_HEADER).lstrip("\n").split("\n\n", 1)[0])
    return NOTHING
