r"""Text in SMTP parameters: xtext (RFC 3461 §4), and the `\x{HEX}` of international addresses (RFC 6533 §3)."""

from __future__ import annotations

import re

_TO_ESCAPE = re.compile(rb"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_PRINTABLE_RUN = re.compile(r"(?:\+[2-9A-Fa-f][0-9A-Fa-f])+")
_UTF8_ESCAPE = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
_UNITEXT_ESCAPE = re.compile(r"[\x00-\x20+=\\\x7f]")
_EMBEDDED_CHARACTER = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


def encode(text: str) -> str:
    """Return *text* as xtext: octets outside 33-126, `+` and `=` become `+HH` (RFC 3461 §4)."""
    return _TO_ESCAPE.sub(lambda found: b"+%02X" % found.group()[0], text.encode()).decode("ascii")


def decode(text: str) -> str:
    """Return what *text* encodes; raise ValueError if it isn't xtext, or not of UTF-8 (RFC 3461 §4)."""
    if not _XTEXT.fullmatch(text):
        raise ValueError(f"{text!r} isn't xtext")
    return _octets(text).decode()


def decode_leniently(text: str) -> str:
    """Return *text* with what can only be xtext decoded, as reports have it where a server forgot to decode it.

    Lower-case hex is read too. What would become a control character, or isn't UTF-8, stays as it is.
    """
    return _PRINTABLE_RUN.sub(_printable, text)


def encode_utf8(address: str, *, smtputf8: bool) -> str:
    r"""Return an international *address* as ORCPT takes it, with `\x{HEX}` for what may not stand there (RFC 6533 §3).

    With *smtputf8* that is utf-8-addr-unitext, which keeps letters as they are, else utf-8-addr-xtext, which is ASCII.
    """
    escape = _UNITEXT_ESCAPE if smtputf8 else _UTF8_ESCAPE
    return escape.sub(lambda found: f"\\x{{{ord(found.group()):02X}}}", address)


def decode_utf8(address: str) -> str:
    r"""Return *address* with each `\x{HEX}` decoded; control characters and half surrogate pairs stay (RFC 6533 §3)."""
    return _EMBEDDED_CHARACTER.sub(_character, address) if "\\x{" in address else address


def _octets(text: str) -> bytes:
    return _HEXCHAR.sub(lambda found: bytes([int(found[1], 16)]), text.encode())


def _printable(found: re.Match[str]) -> str:
    try:
        decoded = _octets(found[0]).decode()
    except UnicodeDecodeError:
        return found[0]
    return decoded if decoded.isprintable() else found[0]


def _character(found: re.Match[str]) -> str:
    point = int(found[1], 16)
    return chr(point) if 0x20 <= point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF else found[0]
