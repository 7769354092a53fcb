"""Mail addresses: checked, normalised, compared, and read out of header lines (RFC 5321 §4.1.2, 5322 §3.4, 6531)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import idna

from receiptd.errors import BadData

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DOT_STRING = re.compile(r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]|[^\x00-\x7f])+")
_QUOTED_LOCAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[(?:IPv6:[0-9A-Fa-f:.]+|[0-9.]+)\]", re.IGNORECASE)
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]]*\]|\s+|[,;:<>"\[]|[^\s",;:<>\[]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with the name that stands before it, both as written."""

    name: str
    address: str


def parse_address(text: str) -> str:
    """Return the address that *text* is, its domain as lower-case A-label; raise BadData with a sentence if it is none.

    The local part stays letter for letter, for only its own server may say which letters are the same (RFC 5321 §2.4).
    Dots are tolerated where Postfix tolerates them.
    """
    if _CONTROL.search(text):
        raise BadData(f"the address {_shown(text)} holds a line break or control character: write one address a line")
    local, at, domain = _without_brackets(text.strip()).rpartition("@")
    if not at or not local or not domain:
        raise BadData(f"{_shown(text)} is no mail address: write it as name@example.org")
    if not (_DOT_STRING.fullmatch(local) or _QUOTED_LOCAL.fullmatch(local)):
        raise BadData(f"the part before the @ in {_shown(text)} can't stand in a mail address: check its spelling")
    if not _is_encodable(local):
        raise BadData(f"the address {_shown(text)} isn't valid Unicode: write it in UTF-8")
    if len(local.encode()) > 64:
        raise BadData(f"the part before the @ in {_shown(text)} is longer than 64 octets (RFC 5321 §4.5.3.1)")
    return f"{local}@{_ascii_domain(domain, text)}"


def domain_of(address: str) -> str:
    """Return the domain of a checked address."""
    return address.rpartition("@")[2]


def parse_mailboxes(text: str) -> list[Mailbox]:
    """Return the mailboxes that an address list names, groups opened, comments and routes left out (RFC 5322 §3.4).

    Raises BadData where the list can't be read without a guess, for a guess loses a recipient.
    """
    found: list[Mailbox] = []
    entry = _Entry(text)
    for piece in _pieces(text):
        if piece in ",;" and not entry.in_angle:
            found.extend(entry.close())
            entry = _Entry(text)
        else:
            entry.take(piece)
    found.extend(entry.close())
    return found


class _Entry:
    """One element of an address list while it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.phrase: list[str] = []
        self.angle: list[str] | None = None
        self.in_angle = False

    def take(self, piece: str) -> None:
        if piece == '"' or (piece == "<" and self.angle is not None) or (piece == ">" and not self.in_angle):
            raise self.unreadable()
        if piece == "<":
            self.angle, self.in_angle = [], True
        elif piece == ">":
            self.in_angle = False
        elif piece == ":":  # a group's name, or a route (RFC 5322 §4.4), stands before it
            (self.angle if self.in_angle and self.angle is not None else self.phrase).clear()
        elif self.in_angle and self.angle is not None:
            self.angle.append(piece)
        elif self.angle is None:
            self.phrase.append(piece)
        elif not piece.isspace():
            raise self.unreadable()

    def close(self) -> Iterator[Mailbox]:
        if self.in_angle:
            raise self.unreadable()
        phrase = "".join(self.phrase).strip()
        if self.angle is not None:
            yield Mailbox(_unquoted(phrase), _close_up("".join(self.angle)))
        elif phrase:
            yield Mailbox("", _close_up(phrase))

    def unreadable(self) -> BadData:
        return BadData(f"the address list {_shown(self.text)} can't be read: put a comma between addresses")


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(_without_comments(text))


def _without_comments(text: str) -> str:
    """Return *text* with each comment, nested ones included, replaced by a space (RFC 5322 §3.2.2)."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = 0
    for piece in re.findall(r'\\.|"(?:[^"\\]|\\.)*"|[()]|[^\\"()]+|.', text, re.DOTALL):
        if piece == "(":
            depth += 1
            kept.append(" ")
        elif piece == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(piece)
    if depth:
        raise BadData(f"the address list {_shown(text)} has a comment that doesn't end: close the bracket")
    return "".join(kept)


def _close_up(spec: str) -> str:
    """Return *spec* without the white space that old mail has around dots and @ (RFC 5322 §4.4)."""
    return spec.strip() if '"' in spec else re.sub(r"\s*([.@])\s*", r"\1", spec.strip())


def _unquoted(phrase: str) -> str:
    return re.sub(r'"((?:[^"\\]|\\.)*)"', lambda found: re.sub(r"\\(.)", r"\1", found[1]), phrase)


def _shown(text: str) -> str:
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
            raise BadData(f"the domain of {_shown(text)} is no valid international domain name ({error})") from error
    if not _DOMAIN.fullmatch(domain) or len(domain) > 255:
        raise BadData(f"the domain of {_shown(text)} is no domain name: check its spelling")
    return domain.lower()
