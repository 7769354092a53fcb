"""Whether our own mail server vouches for the From of an answer (RFC 8601, RFC 7489 §3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile

from receiptd.facts import Report
from receiptd.mail import address

_PIECE = re.compile(r'\\.|["()]|[^\\"()]+|.', re.DOTALL)
_PASS = re.compile(r"\s*(dmarc|dkim|spf)\s*=\s*pass(?![\w-])", re.IGNORECASE)
_REFUTED = re.compile(r"\s*dmarc\s*=\s*fail(?![\w-])", re.IGNORECASE)
_DOMAIN_OF = {"dmarc": ("header.from",), "dkim": ("header.d", "header.i"), "spf": ("smtp.mailfrom",)}
_LONGEST = 4000


def is_vouched(report: Report, authserv_id: str | None) -> bool:
    """Whether a check of our server's passed for the domain of From."""
    if not authserv_id or not report.from_address:
        return False
    domain = address.domain_key(report.from_address.rpartition("@")[2])
    return any(_is_aligned(passed, domain) for field in _ours(report, authserv_id) for passed in _passed(field))


def is_refuted(report: Report, authserv_id: str | None) -> bool:
    """Whether our server found that From isn't who wrote this (DMARC failed).

    Where the settings don't say how our server calls itself, the topmost field is its own: nobody who wants to be
    believed writes that he failed.
    """
    ours = _ours(report, authserv_id) if authserv_id else map(_plain, report.authentication_results[:1])
    return any(_REFUTED.match(result) for field in ours for result in field.split(";")[1:])


def _ours(report: Report, authserv_id: str) -> Iterator[str]:
    """Yield our server's fields, plain.

    Only those above the first one of another authserv-id count: what stands below may have come with the message,
    with our server's name in it.
    """
    plain = map(_plain, report.authentication_results)
    return takewhile(lambda field: _authserv_id(field) == authserv_id.lower(), plain)


def _plain(field: str) -> str:
    """Return *field* without comments and quoted strings: an untrusted sender may have filled them."""
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
