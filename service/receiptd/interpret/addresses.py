"""Addresses out of fields and prose: without type, brackets and display name, domain in lower case."""

from __future__ import annotations

import re
from itertools import islice

from receiptd.interpret import fields
from receiptd.mail import xtext

_MOST = 500
_QUOTES = "«»„“”‚‘’「」『』（）【】，。；：،、\u200b\u200e\u200f\u2060\ufeff"
# A run of characters is tried once, at its beginning (look-behind, possessive): linear on any text.
ADDRESS = re.compile(
    rf"(?:(?<![^\s<>()\[\],;:\"`@\\|{{}}{_QUOTES}])([^\s<>()\[\],;:\"`@\\|{{}}{_QUOTES}]{{1,128}}+)"
    rf"|(\"[^\"\s@]{{1,64}}+(?: [^\"\s@]{{1,64}}+){{0,3}}+\"))"
    rf"@(\[[\d.]{{7,15}}\]|[^\s<>()\[\],;:\"'`@\\|{{}}=/!?*&%$#~^+{_QUOTES}]{{1,255}}+)"
)
_SIMPLE = re.compile(r"(?:[^<>@]{0,200}+<)?([A-Za-z0-9_][\w+.-]{0,63}+)@([A-Za-z0-9.-]{0,250}[A-Za-z0-9])>?", re.ASCII)
"""The only address of a text, at its end, with the display name before it."""
_USUAL = re.compile(r"rfc822; ?<?([^\s<>()\"|/@][^\s<>()\"@;]{0,127}+)@([A-Za-z0-9.-]{1,253})>?", re.IGNORECASE)
_QUOTED = re.compile(r"<?(\"(?:[^\"\\]|\\.){1,128}+\")@([^\s<>]{1,255}+)")
_WORD = re.compile(r"<?([^\s<>()]{1,320}+)>?")
_DOT_ATOM = re.compile(r"\"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\"", re.ASCII)
_STUCK = re.compile(
    r"([a-z\d-]{1,63}+(?:\.[a-z\d-]{1,63}+){1,10}+)[\u0600-\u06ff\u3040-\u9fff\uac00-\ud7af]", re.IGNORECASE
)
"""A domain, and the word of a language without spaces that follows it."""
_LOCAL_NAME = re.compile(r"<?([\w.+~&%$#*=-]{1,128})>?")


def find(text: str) -> list[str]:
    """Return the addresses of *text*, in order, each once, at most 500."""
    if alone := _SIMPLE.fullmatch(text):
        return [f"{alone[1]}@{alone[2].lower()}"]
    return list(dict.fromkeys(_joined(*found.groups("")) for found in islice(ADDRESS.finditer(text), _MOST)))


def find_lower(text: str) -> set[str]:
    """Return the addresses of *text*, which is in lower case."""
    return set(find(text))


def first(text: str | None) -> str | None:
    """Return the first address of *text*."""
    if text and (alone := _SIMPLE.fullmatch(text)):
        return f"{alone[1]}@{alone[2].lower()}"
    found = ADDRESS.search(text) if text else None
    return _joined(*found.groups("")) if found else None


def of_field(value: str | None) -> str | None:
    """Return the address of a typed field (`rfc822; <x@b.org>`), as it is meant, or None.

    A bare local name is kept; a command behind an alias (`|/usr/bin/vacation`) and a file aren't addresses.
    """
    if not value:
        return None
    if usual := _USUAL.fullmatch(value):
        return f"{usual[1]}@{usual[2].rstrip('.').lower()}"
    kind, rest = fields.untyped(value)
    if kind == "utf-8":
        rest = xtext.decode_utf8(rest)
    if rest[:7].lower() == "rfc822;":
        rest = rest[7:].strip()  # some gateways put the type before the type
    if rest.endswith((";", ",")) or rest[:1] == rest[-1:] == "'":
        rest = rest.rstrip(";,").strip("'")
    if rest.startswith(("|", '"|', "/")):
        return None
    if quoted := _QUOTED.match(rest):
        local = quoted[1][1:-1] if _DOT_ATOM.fullmatch(quoted[1]) else quoted[1]
        return f"{local}@{quoted[2].rstrip('.').lower()}"
    if (word := _WORD.fullmatch(rest)) and "@" in word[1]:
        local, _, domain = word[1].rpartition("@")
        return f"{local}@{domain.rstrip('.').lower()}" if local and domain else None
    if address := first(rest):
        return address
    name = _LOCAL_NAME.fullmatch(fields.without_comments(rest))
    return name[1] if name else None


def _joined(plain: str, quoted: str, domain: str) -> str:
    if plain[:5].lower() == "smtp=":  # Exchange's X.400 spelling
        plain = plain[5:]
    local = plain.lstrip(".'*=/!") or plain or quoted
    if not domain.isascii() and (stuck := _STUCK.match(domain)):
        domain = stuck[1]
    return f"{local}@{domain.rstrip('.-').lower()}"
