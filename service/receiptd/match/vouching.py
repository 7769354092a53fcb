"""Whether our own mail server vouches for the From of an answer (RFC 8601, RFC 7489 §3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile

from receiptd import address
from receiptd.facts import Report

_PIECE = re.compile(r'\\.|["()]|[^\\"()]+|.', re.DOTALL)
_PASS = re.compile(r"\s*(dmarc|dkim|spf)\s*=\s*pass(?![\w-])", re.IGNORECASE)
_DOMAIN_OF = {"dmarc": ("header.from",), "dkim": ("header.d", "header.i"), "spf": ("smtp.mailfrom",)}
_LONGEST = 4000


def is_vouched(report: Report, recipient: str, authserv_id: str | None) -> bool:
    """Whether From is *recipient* and a check of our server's passed for its domain.

    Only fields above the first one of another authserv-id count: what stands below may have come with
    the message, with our server's name in it.
    """
    if not authserv_id or not report.from_address or not address.same(report.from_address, recipient):
        return False
    domain = address.domain_key(recipient.rpartition("@")[2])
    ours = takewhile(
        lambda field: _authserv_id(field) == authserv_id.lower(), map(_plain, report.authentication_results)
    )
    return any(_is_aligned(passed, domain) for field in ours for passed in _passed(field))


def _plain(field: str) -> str:
    """Return *field* without comments and quoted strings: a stranger may have filled them."""
    kept: list[str] = []
    depth, is_quoted = 0, False
    for piece in _PIECE.findall(field[:_LONGEST]):
        if piece == '"' and not depth:
            is_quoted = not is_quoted
        elif piece in "()" and not is_quoted:
            depth = max(0, depth + (1 if piece == "(" else -1))
        elif not depth and not is_quoted:
            kept.append(piece)
    return "" if depth or is_quoted else "".join(kept)


def _authserv_id(field: str) -> str:
    words = field.split(";", 1)[0].split()
    return words[0].lower() if words else ""


def _passed(field: str) -> Iterator[str]:
    """Yield the domains for which a check passed."""
    for result in field.split(";")[1:]:
        found = _PASS.match(result)
        if found:
            for name in _DOMAIN_OF[found[1].lower()]:
                stated = re.search(rf"\s{re.escape(name)}\s*=\s*([^\s;]+)", result, re.IGNORECASE)
                if stated:
                    yield address.domain_key(stated[1].rpartition("@")[2])
                    break


def _is_aligned(passed: str, domain: str) -> bool:
    """Whether *passed* is the domain or stands above it; a lone label (a top-level domain) vouches for nobody."""
    return passed == domain or ("." in passed and domain.endswith(f".{passed}"))
