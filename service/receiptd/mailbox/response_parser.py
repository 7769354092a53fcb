"""Parse the server's responses: lists, strings, literals, response codes, dates (RFC 9051 §7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeAlias

from receiptd.mailbox import utf7
from receiptd.mailbox.values import FolderInfo, Summary

Pieces: TypeAlias = Sequence[bytes | bytearray]
"""One response: text lines (bytes) with the literals (bytearray) that stood between them."""

Value: TypeAlias = "bytes | list[Value] | None"

_TOKEN = re.compile(
    rb'\s*(?:(?P<open>\()|(?P<close>\))|"(?P<quoted>[^"\\]*(?:\\.[^"\\]*)*)"'
    rb"|(?P<literal>~?\{\d+\+?\})$|(?P<atom>[^\s()\"\[]*(?:\[[^\]]*\](?:<\d+>)?)?[^\s()\"]*))"
)
_DATE = re.compile(r"\s*(\d{1,2})-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CODE = re.compile(rb"\s*\[([A-Za-z-]+)[ \]]")
_TEMPORARY = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "OVERQUOTA", "THROTTLED", "ALERT"}
"""Codes of a temporary problem (RFC 5530, and Gmail's own): they say nothing about password or message."""


def values(pieces: Pieces) -> list[Value]:
    """Return the words, strings and nested lists of one response; NIL is None.

    Raises ValueError where the parentheses or quotes don't close.
    """
    top: list[Value] = []
    stack = [top]
    for piece in pieces:
        if isinstance(piece, bytearray):
            stack[-1].append(bytes(piece))
        else:
            _read_line(piece, stack)
    if len(stack) != 1:
        raise ValueError("a list that is never closed")
    return top


def _read_line(line: bytes, stack: list[list[Value]]) -> None:
    at = 0
    while at < len(line.rstrip()):
        token = _TOKEN.match(line, at)
        if token is None or token.end() == at:
            raise ValueError("a string that is never closed")
        at = token.end()
        if token.lastgroup == "open":
            inner: list[Value] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif token.lastgroup == "close":
            _close(stack)
        elif token.lastgroup == "quoted":
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", token["quoted"]))
        elif token.lastgroup == "atom":
            stack[-1].append(None if token["atom"].upper() == b"NIL" else token["atom"])


def _close(stack: list[list[Value]]) -> None:
    if len(stack) == 1:
        raise ValueError("a closing parenthesis without a list")
    stack.pop()


def fetched(responses: Iterable[Pieces]) -> dict[int, dict[str, Value]]:
    """Return by UID what FETCH responses say; those without a UID are unsolicited and ignored."""
    by_uid: dict[int, dict[str, Value]] = {}
    for pieces in responses:
        if re.match(rb"\d+ FETCH \(", pieces[0], re.IGNORECASE):
            items = _items(values(pieces)[-1])
            uid = items.get("UID")
            if isinstance(uid, bytes) and uid.isdigit():
                by_uid.setdefault(int(uid), {}).update(items)
    return by_uid


def _items(listed: Value) -> dict[str, Value]:
    words = listed if isinstance(listed, list) else []
    pairs = zip(words[::2], words[1::2], strict=True)
    return {key.decode("ascii", "replace").upper(): value for key, value in pairs if isinstance(key, bytes)}


def summary(uid: int, items: dict[str, Value]) -> Summary | None:
    """Return the summary that *items* hold, or None if they are an unsolicited change of flags."""
    size, date, flags = items.get("RFC822.SIZE"), items.get("INTERNALDATE"), items.get("FLAGS")
    if not isinstance(size, bytes) or not isinstance(date, bytes):
        return None
    words = [flag for flag in flags if isinstance(flag, bytes)] if isinstance(flags, list) else []
    flagged = frozenset(flag.decode("utf-8", "replace") for flag in words)
    return Summary(uid, int(size), instant(date), flagged, is_dated=_parsed(date) is not None)


def body(items: dict[str, Value]) -> bytes | None:
    """Return the content that *items* hold, whichever section was asked for; None if there is none."""
    for key, value in items.items():
        if key.startswith("BODY[") and isinstance(value, bytes):
            return value
    return None


def instant(text: bytes) -> datetime:
    """Return an INTERNALDATE in UTC; an invalid one counts as now, when we saw the message."""
    return _parsed(text) or datetime.now(UTC)


def _parsed(text: bytes) -> datetime | None:
    found = _DATE.fullmatch(text.decode("ascii", "replace").strip())
    if not found or found[2].lower() not in MONTHS:
        return None
    offset = timedelta(hours=int(found[8]), minutes=int(found[9])) * (1 if found[7] == "+" else -1)
    try:
        local = datetime(
            int(found[3]), MONTHS.index(found[2].lower()) + 1, int(found[1]),
            int(found[4]), int(found[5]), min(int(found[6]), 59), tzinfo=timezone(offset),
        )  # fmt: skip
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def found_uids(responses: Iterable[Pieces]) -> set[int]:
    """Return the UIDs of SEARCH responses."""
    uids: set[int] = set()
    for pieces in responses:
        if re.match(rb"SEARCH\b", pieces[0], re.IGNORECASE):
            uids.update(int(word) for word in pieces[0].split()[1:] if word.isdigit())
    return uids


def capabilities(responses: Iterable[Pieces]) -> frozenset[str]:
    """Return what CAPABILITY responses list, in upper case."""
    words: set[str] = set()
    for pieces in responses:
        if re.match(rb"CAPABILITY\b", pieces[0], re.IGNORECASE):
            words.update(pieces[0].decode("ascii", "replace").upper().split()[1:])
    return frozenset(words)


def code(text: bytes) -> str:
    """Return the response code that a status line begins with (RFC 5530), or ""."""
    found = _CODE.match(text)
    return found[1].decode("ascii").upper() if found else ""


def is_temporary(text: bytes) -> bool:
    """Whether a NO with *text* may become an OK later."""
    return code(text) in _TEMPORARY


def selected(responses: Iterable[Pieces], closing: bytes) -> tuple[int | None, int | None, int, bool]:
    """Return UIDVALIDITY, UIDNEXT, the number of messages, and whether the folder is read-only."""
    text = b"\n".join(pieces[0] for pieces in responses)
    exists = re.findall(rb"^(\d+) EXISTS", text, re.IGNORECASE | re.MULTILINE)
    return (
        _number(text, rb"UIDVALIDITY"),
        _number(text, rb"UIDNEXT"),
        int(exists[-1]) if exists else 0,
        (code(closing) == "READ-ONLY"),
    )


def _number(text: bytes, name: bytes) -> int | None:
    found = re.search(rb"^OK \[" + name + rb" (\d+)\]", text, re.IGNORECASE | re.MULTILINE)
    return int(found[1]) if found else None


def folders(responses: Iterable[Pieces]) -> tuple[tuple[FolderInfo, str], ...]:
    """Return every folder of LIST responses that can be selected, with the server's hierarchy delimiter."""
    found = {}
    for pieces in responses:
        if not re.match(rb"X?LIST \(", pieces[0], re.IGNORECASE):
            continue
        match values(pieces)[1:4]:
            case [list(attributes), bytes() | None as delimiter, bytes(raw)]:
                info = _folder(attributes, raw)
                if info:
                    found[info.name] = (info, (delimiter or b"").decode("ascii", "replace"))
    return tuple(found.values())


def personal_prefix(responses: Iterable[Pieces]) -> str:
    """Return the prefix of the user's own folders (RFC 2342), "" where the server says nothing."""
    for pieces in responses:
        if re.match(rb"NAMESPACE ", pieces[0], re.IGNORECASE):
            match values(pieces)[1:2]:
                case [[[bytes(prefix), *_], *_]]:
                    return utf7.decode(prefix)
    return ""


_SPECIAL = {r"\all", r"\archive", r"\drafts", r"\flagged", r"\junk", r"\sent", r"\trash", r"\important"}


def _folder(attributes: list[Value], raw: bytes) -> FolderInfo | None:
    words = {word.decode("ascii", "replace").lower() for word in attributes if isinstance(word, bytes)}
    if words & {r"\noselect", r"\nonexistent"}:
        return None
    if r"\spam" in words:  # Gmail's name for it, older than RFC 6154
        words.add(r"\junk")
    name = utf7.decode(raw)
    special = r"\junk" if r"\junk" in words else min(words & _SPECIAL, default=None)
    return FolderInfo("INBOX" if utf7.is_inbox(name) else name, special)
