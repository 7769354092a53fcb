"""The human-readable text of a report, cut before the returned original, and what it says of one address."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from receiptd.interpret import addresses, dialects
from receiptd.interpret.mime import Part

_PREAMBLE = re.compile(r"\s*(?:This is a (?:multi-?part message|MIME)[^\n]*\n\s*)+", re.IGNORECASE)
_NO_NOTICE = ("text/rfc822-headers", "text/rfc822-header", "text/calendar", "text/x-vcard", "text/csv")
_LONGEST_NOTICE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Notice:
    """The text a person would read: what the server says, and what it copied below."""

    text: str = ""
    copy: str = ""
    lines: tuple[str, ...] = field(default=(), repr=False)


def of(root: Part) -> Notice:
    """Return the notice of *root*: its first text, plain before HTML."""
    whole = _first_text(root)
    end = min(
        (found.start() for pattern in dialects.COPY_BEGINS if (found := pattern.search(whole))), default=len(whole)
    )
    text = _PREAMBLE.sub("", whole[: min(end, _LONGEST_NOTICE)], count=1)
    return Notice(text, whole[end:], tuple(text.split("\n")))


def _first_text(root: Part) -> str:
    markup = ""
    for part in root.walk():
        if not part.type.startswith("text/") or part.type in _NO_NOTICE:
            continue
        text = part.text()
        if not text.strip():
            continue
        if part.type != "text/html":
            return text
        markup = markup or text
    if markup or root.children:
        return markup
    return root.text() if root.is_multipart or root.type.startswith(("message/", "text/")) else ""


def about(notice: Notice, address: str, others: tuple[str, ...]) -> str:
    """Return the lines that speak of *address*: from where it is named to where the next one is."""
    mine, foreign = address.lower(), tuple(other.lower() for other in others if other.lower() != address.lower())
    kept: list[str] = []
    speaking = False
    for line in notice.lines:
        lowered = line.lower()
        if mine in lowered:
            speaking = True
        elif "@" in lowered and any(other in lowered for other in foreign):
            speaking = False
        if speaking:
            kept.append(line)
    return "\n".join(kept)


def unfolded(text: str) -> str:
    """Return *text* on one line, as the servers that broke it meant it."""
    return " ".join(text.split())


def addresses_in(notice: Notice) -> list[str]:
    """Return every address the notice names."""
    return addresses.find(notice.text)
