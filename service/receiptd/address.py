"""What two spellings of one mail address have in common."""

from __future__ import annotations

import re
from functools import lru_cache

import idna

_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_LONGEST = 1000
"""Characters: RFC 5321 §4.5.3.1 allows 320; what is longer is a stranger's trick and is compared as it stands."""


@lru_cache(maxsize=4096)
def key(address: str) -> str:
    """Return what to compare *address* by: the local part letter for letter, the domain as lower-case A-label.

    The three forms of RFC 6533 §3 (`\\x{FC}`, UTF-8, and A-label or U-label) give one key. What is no address is its
    own key.
    """
    address = address.strip().removeprefix("<").removesuffix(">")
    if "\\x{" in address:
        address = _ESCAPED.sub(_unescape, address)
    local, at, domain = address.rpartition("@")
    return f"{local}@{domain_key(domain)}" if at else address


def domain_key(domain: str) -> str:
    """Return *domain* in lower case, as A-label where it is a valid international name."""
    domain = domain.strip().rstrip(".").lower()
    if domain.isascii() or len(domain) > _LONGEST:
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain


def same(one: str, other: str) -> bool:
    """Whether two addresses name one mailbox in practice: relays change the case of local parts too."""
    return key(one) == key(other) or key(one).casefold() == key(other).casefold()


def _unescape(found: re.Match[str]) -> str:
    point = int(found[1], 16)
    return chr(point) if 0x20 <= point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF else found[0]
