"""Taking a password out of what a server says: some repeat the command that they refuse."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error

_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")


def mask(text: str, secret: str) -> str:
    """Return *text* with `…` for *secret*, as it stands, quoted for IMAP, or inside base64 (SASL)."""
    if not secret:
        return text
    text = _BASE64.sub(lambda word: "…" if secret.encode() in _decoded(word[0]) else word[0], text)
    quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
    return text.replace(quoted, "…").replace(secret, "…")


def _decoded(word: str) -> bytes:
    try:
        return b64decode(word + "=" * (-len(word) % 4))
    except Error:
        return b""
