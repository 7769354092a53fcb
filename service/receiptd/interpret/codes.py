"""Status codes (RFC 3463) and SMTP reply codes (RFC 5321 §4.2) out of fields and prose."""

from __future__ import annotations

import re

_STATUS = re.compile(r"(?<![\w.\-/@])#?([245])\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?!\w|\.\d|-[a-z\d])")
_STATUS_FIELD = re.compile(r"\s*\"?([245])\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?![\d.])")
_CODE = r"((?:25[0-2]|4[2-7]\d|5[0-7]\d))"
_REPLY = re.compile(
    rf"(?:^|(?<=[\s(\[<\"':;=,#>])){_CODE}"
    r"(?=[ \t\-](?!\d{1,3}[ .:]\d)[^\s\d]|[ \t-]#?[245]\.\d{1,3}\.\d|[ \t](?:[45]\d\d[ \t-]|[^\w\s])|:[ \t]|$)",
    re.MULTILINE,
)
_MARKED = re.compile(
    r"(?:said|respon[ds]e?d?(?: with)?|error(?:[_ ]code)?|status(?: code)?|reply|returned|code|reason|message|with|smtp"
    r"|<<<|was|server)[ \t]{0,2}[:;]?[ \t\"'\[(]{0,3}(?:smtp;[ \t]{0,2})?" + _CODE + r"(?![\d.:/@]*\d|-\d{3}\b|\w)",
    re.IGNORECASE,
)
_VAGUE = (554, 503)
"""Codes of a transaction that failed because something else had: another one in the same place tells more."""


def status_of_field(value: str | None) -> str | None:
    """Return the code of a Status field; what follows is a comment, what isn't a code is unknown (RFC 3464 §2.3.4)."""
    found = _STATUS_FIELD.match(value) if value else None
    return ".".join(found.groups()) if found else None


def statuses(text: str) -> list[str]:
    """Return the enhanced status codes that *text* names, in order."""
    return [".".join(found) for found in _STATUS.findall(text)]


def reply_codes(text: str) -> list[int]:
    """Return the SMTP reply codes that *text* names: marked ones first, vague ones last."""
    found = [int(code) for code in (*_MARKED.findall(text), *_REPLY.findall(text))]
    return sorted(found, key=_VAGUE.__contains__)
