"""The random, unguessable names of one recipient: its token and its envelope id."""

from __future__ import annotations

import base64
import re
import secrets

LENGTH = 24
"""Base32 characters: 120 bits, and short enough that ENVID stays under 38 (RFC 3461 §5.4)."""

WORD = re.compile(r"[A-Za-z2-7]{24}(?<![A-Za-z2-7].{24})(?![A-Za-z2-7])", re.DOTALL)
"""A token standing alone; the case is a relay's to change, so compare in lower case."""


_ESCAPED = re.compile(r"(?<=[%+=][2-7][0-9A-Fa-f])[A-Za-z2-7]{24}(?![A-Za-z2-7])")
"""A token behind an escaped character: refusals for SPF name our return path in a URL, with %2B for +."""


def make() -> str:
    """Return a new name: 24 lower-case base32 characters from the system's random source."""
    return base64.b32encode(secrets.token_bytes(15)).decode("ascii").lower()


_OF_A_CHECK = "receiptdcheck"


def make_for_check() -> str:
    """Return a new token for a message of `receiptd check`, which no daemon knows: what comes back is ignored."""
    return _OF_A_CHECK + make()[len(_OF_A_CHECK) :]


def is_of_check(token: str) -> bool:
    """Whether *token* is `make_for_check`'s, and so nobody's in any database."""
    return token.startswith(_OF_A_CHECK)


def find(text: str) -> tuple[str, ...]:
    """Return every token-shaped word of *text*, lower-cased, each once, in order."""
    found = WORD.findall(text)
    return tuple(dict.fromkeys(word.lower() for word in found)) if found else ()


def mask(text: str) -> str:
    """Return *text* with every token cut to its first four characters, for alerts, logs and metrics."""
    return _ESCAPED.sub(_cut, WORD.sub(_cut, text))


def _cut(found: re.Match[str]) -> str:
    return found.group()[:4] + "…"
