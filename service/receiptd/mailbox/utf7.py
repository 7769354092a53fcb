"""Folder names in commands and responses: quoted, in modified UTF-7 (RFC 3501 §5.1.3)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

_FOREIGN = re.compile(r"[^\x20-\x7e]+")
_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> str:
    """Return *name* in modified UTF-7: printable ASCII, so no CR or LF can break out of a command."""
    return _FOREIGN.sub(lambda run: _shift(run[0]), name.replace("&", "&-"))


def decode(raw: bytes) -> str:
    """Return the name that *raw* stands for, or *raw* as it is where it isn't valid modified UTF-7."""
    text = raw.decode("utf-8", "replace")
    try:
        return _SHIFTED.sub(lambda run: _unshift(run[1]), text)
    except ValueError:
        return text


def quote(text: str) -> str:
    """Return *text* as an IMAP quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quoted(name: str) -> str:
    """Return the folder *name* as a command names it."""
    return quote(encode(name))


def is_inbox(name: str) -> bool:
    """Whether *name* is the INBOX, whose case doesn't matter (RFC 9051 §5.1)."""
    return name.upper() == "INBOX"


def _shift(run: str) -> str:
    coded = b64encode(run.encode("utf-16-be", "surrogatepass")).decode("ascii")
    return "&" + coded.rstrip("=").replace("/", ",") + "-"


def _unshift(coded: str) -> str:
    if not coded:
        return "&"
    padded = coded.replace(",", "/") + "=" * (-len(coded) % 4)
    return b64decode(padded, validate=True).decode("utf-16-be")
