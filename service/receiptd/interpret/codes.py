"""Status codes (RFC 3463) and SMTP reply codes (RFC 5321 §4.2) out of fields and prose."""

from __future__ import annotations

import re

from receiptd.interpret import fields

_STATUS = re.compile(
    r"([245])\.(?:(?<![\w.\-/@]..)|(?<=[245]\d\d-..))(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?!\w|\.\d|-[a-z\d])"
)
_STATUS_FIELD = re.compile(
    r"\s*(?:smtp\s*;\s*)?[\"'(#\[]{0,2}([245])\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?!\d|\.\d)", re.IGNORECASE
)
_CODE = re.compile(
    r"[245](?:(?<=2)5[0-2]|(?<=4)[2-7]\d|(?<=5)[0-7]\d)(?<![\w.\-/@+]...)(?![\w./@]|-\d(?!\.\d)|:[\da-f]{0,4}:)"
)
_BEFORE = tuple("([<\"':;=,#>\n‘’“”„«：；，（「")
_BEFORE_WORDS = (
    "said", "response", "responded", "responded with", "respond", "error", "error_code", "code", "status", "reply",
    "returned", "reason", "message", "with", "smtp", "was", "server", "replied", "answered", "fehler", "erreur",
)  # fmt: skip
_AFTER = re.compile(
    r":[ \t]|[ \t\-:](?!\d{1,3}[ .:]\d|(?:bytes|octets|[kKmM]i?B|tries|times|attempts|seconds|messages)\b)[^\s\d]"
    r"|[ \t:-]{1,3}#?[245]\.\d{1,3}\.\d"
    r"|[ \t](?:[45]\d\d[ \t-]|[^\w\s])|:?[ \t]*+(?:\n|$)|>[ \t]|\)[ \t:](?!\d{3}[ .-]\d)"
)
_SIGHT = 24
_VAGUE = (554, 503)
"""Codes of a transaction that failed because something else had: another one in the same place tells more."""


def status_of_field(value: str | None) -> str | None:
    """Return the code of a Status field; what follows is a comment, what isn't a code is unknown (RFC 3464 §2.3.4)."""
    if not value:
        return None
    found = _STATUS_FIELD.match(value) or _STATUS_FIELD.match(fields.without_comments(value))
    return ".".join(found.groups()) if found else None


def statuses(text: str) -> list[str]:
    """Return the enhanced status codes that *text* names, in order."""
    return [".".join(found) for found in _STATUS.findall(text)]


def reply_codes(text: str) -> list[int]:
    """Return the SMTP reply codes that *text* names: marked ones first, vague ones last."""
    marked, likely = [], []
    for found in _CODE.finditer(text):
        code, before = int(found[0]), text[max(0, found.start() - _SIGHT) : found.start()]
        if _is_marked(before):
            marked.append(code)
        elif (not before or before[-1] in " \t\n" or before.endswith(_BEFORE)) and _AFTER.match(text, found.end()):
            likely.append(code)
    return sorted((*marked, *likely), key=_VAGUE.__contains__)


def _is_marked(before: str) -> bool:
    """Whether the words before a number say that it is a code."""
    bare = before.rstrip(" \t\"'[(:;‘’“”„«：（「").lower()
    return bare.endswith(_BEFORE_WORDS) or bare.endswith(("<<<", ">>>"))
