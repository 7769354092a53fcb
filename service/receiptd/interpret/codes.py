"""Status codes (RFC 3463) and SMTP reply codes (RFC 5321 §4.2) out of fields and prose."""

from __future__ import annotations

import re

_STATUS = re.compile(r"(?<![\w.\-/:@])(?:#)?([245])\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?![\w]|\.\d|-[a-z\d])")
_STATUS_FIELD = re.compile(r"\s*\"?([245])\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?![\d.])")
_REPLY = re.compile(
    r"(?:(?<=^)|(?<=[\s(\[<\"':;=,#>]))([245][0-5]\d)(?=[ \t\-](?!\d{1,3}[ .:]\d)[^\s\d]|[ \t-]#?[245]\.\d{1,3}\.\d|[ \t]\d+[ \t]|:?$)",
    re.MULTILINE,
)
_MARKED_REPLY = re.compile(
    r"(?:said:?|respon[ds]e?d?(?: with)?(?: was)?:?|error(?: code)?(?: was)?:?|status(?: code)?:?|reply:?|returned|code:?|reason:?|message:?|with:?|<<<|>>>|^)"
    r"[ \t\"'\[(]*([245][0-5]\d)(?![\d.:/@]|-\d{3})\b",
    re.IGNORECASE | re.MULTILINE,
)


def status_of_field(value: str | None) -> str | None:
    """Return the code of a Status field; what follows it is a comment, what isn't a code is unknown (RFC 3464 §2.3.4)."""
    found = _STATUS_FIELD.match(value) if value else None
    return ".".join(found.groups()) if found else None


def statuses(text: str) -> list[str]:
    """Return the enhanced status codes that *text* names, in order."""
    return [".".join(found) for found in _STATUS.findall(text)]


def reply_codes(text: str) -> list[int]:
    """Return the SMTP reply codes that *text* names, the ones that are marked as such first."""
    return [int(code) for code in (*_MARKED_REPLY.findall(text), *_REPLY.findall(text))]
