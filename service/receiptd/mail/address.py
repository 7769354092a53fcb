"""One mail address: checked, normalised, and compared with other spellings of it (RFC 5321 §4.1.2, 6531, 6533 §3)."""

from __future__ import annotations

import re
from functools import lru_cache

import idna

from receiptd.errors import BadData
from receiptd.mail import xtext

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DOT_STRING = re.compile(r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]|[^\x00-\x7f])+")
_QUOTED_LOCAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[(?:IPv6:[0-9A-Fa-f:.]+|[0-9.]+)\]", re.IGNORECASE)
_LONGEST = 1000
"""Characters: RFC 5321 §4.5.3.1 allows 320; what is longer is hostile and is compared as it stands."""


def parse_address(text: str) -> str:
    """Return the address that *text* is, its domain as lower-case A-label; raise BadData with a sentence if it is none.

    The local part stays letter for letter, for only its own server may say which letters are the same (RFC 5321 §2.4).
    Dots are tolerated where Postfix tolerates them.
    """
    if _CONTROL.search(text):
        raise BadData(f"the address {shown(text)} holds a line break or control character: write one address a line")
    local, at, domain = _without_brackets(text.strip()).rpartition("@")
    if not at or not local or not domain:
        raise BadData(f"{shown(text)} isn't a mail address: write it as name@example.org")
    if not (_DOT_STRING.fullmatch(local) or _QUOTED_LOCAL.fullmatch(local)):
        raise BadData(f"the part before the @ in {shown(text)} can't stand in a mail address: check its spelling")
    if not _is_encodable(local):
        raise BadData(f"the address {shown(text)} isn't valid Unicode: write it in UTF-8")
    if len(local.encode()) > 64:
        raise BadData(f"the part before the @ in {shown(text)} is longer than 64 octets (RFC 5321 §4.5.3.1)")
    return f"{local}@{_ascii_domain(domain, text)}"


def domain_of(address: str) -> str:
    """Return the domain of a checked address."""
    return address.rpartition("@")[2]


@lru_cache(maxsize=4096)
def key(address: str) -> str:
    """Return what to compare *address* by: the local part letter for letter, the domain as lower-case A-label.

    The three forms of RFC 6533 §3 (`\\x{FC}`, UTF-8, and A-label or U-label) give one key. What isn't an address is its
    own key.
    """
    address = xtext.decode_utf8(address.strip().removeprefix("<").removesuffix(">"))
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


def shown(text: str) -> str:
    """Return *text* as a sentence quotes it."""
    text = text.strip()
    return repr(text if len(text) <= 100 else text[:99] + "…")


def _without_brackets(text: str) -> str:
    return text[1:-1].strip() if text.startswith("<") and text.endswith(">") else text


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _ascii_domain(domain: str, text: str) -> str:
    if _LITERAL.fullmatch(domain):
        return domain
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise BadData(f"the domain of {shown(text)} isn't a valid international domain name ({error})") from error
    if not _DOMAIN.fullmatch(domain) or len(domain) > 255:
        raise BadData(f"the domain of {shown(text)} isn't a domain name: check its spelling")
    return domain.lower()
