"""Bytes and header words in whatever charset an untrusted sender claims -> text, in linear time."""

from __future__ import annotations

import base64
import binascii
import html
import quopri
import re

_TEXTUAL = re.compile(
    r"(?:us-?)?ascii|utf-?(?:7|8|16|32)(?:-?[bl]e)?|iso[-_]?8859[-_]?\d{1,2}(?:-[ie])?|latin-?\d|(?:windows|cp|ibm)-?\d{3,4}"
    r"|koi8-[rtu]|gb(?:2312|k|18030)|big5(?:-?hkscs)?|euc-?(?:jp|kr|tw|cn)|shift_?jis|sjis|iso-2022-(?:jp|kr)(?:-\d)?|tis-620|mac-?\w{1,12}",
    re.IGNORECASE,
)
"""Python would also decode `unicode_escape`, `punycode` (slow) or `zip` if a message asked for it."""
_BROADER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-8859-1": "cp1252",
    "shift_jis": "cp932",
    "iso-2022-jp": "iso2022_jp_ext",
}
_WORD = re.compile(r"=\?([\w.:-]{1,40})(?:\*[\w-]{0,20})?\?([bBqQ])\?([^?\s]{0,2000})\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)[ \t\r\n]{1,20}(?==\?)")
_BREAK = re.compile(
    r"<(?:/(?:div|tr|li)>\s{0,80}<(?:div|tr|li)\b|(?:br|/p|/div|/tr|/li|/h\d|/title|p|div|tr|hr|pre|/pre)\b)[^<>]*+>"
    r"(?:[ \t]{0,80}\n)?",
    re.IGNORECASE,
)
_UNESCAPED_ADDRESS = re.compile(r"[^\s@=\"]{1,128}+@[^\s@]{1,255}+")
"""What looks like a tag, where a writer forgot to escape the brackets around an address."""
_MOST_TAGS = 10_000
"""A text with more isn't a server's notice, and is left as it is."""
_EMPTY_LINES = re.compile(r"\n(?:[ \t]*+\n){2,}+")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_BASE64_NOISE = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


def decode(content: bytes, charset: str | None = None) -> str:
    """Return *content* as text: by the declared charset, else UTF-8, else what the bytes look like.

    What no database takes becomes U+FFFD: null characters, and the halves of surrogate pairs that UTF-7 can spell.
    """
    text = _decode(content, (charset or "").strip("\"' ").lower())
    text = text.removeprefix("\ufeff")
    return storable(text) if "\0" in text else text


def _decode(content: bytes, name: str) -> str:
    if name and name not in ("us-ascii", "ascii", "utf-8") and _TEXTUAL.fullmatch(name):
        try:
            text = content.decode(_BROADER.get(name, name), "replace")
        except LookupError:
            pass  # a well-formed name that Python doesn't know
        else:
            return storable(text) if name.endswith("7") else text
    if b"\x1b$" in content:
        return content.decode("iso2022_jp_ext", "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as wrong:
        cut_at_the_end = wrong.start >= len(content) - 4
        return content.decode("utf-8" if cut_at_the_end or name == "utf-8" else "cp1252", "replace")


def storable(text: str) -> str:
    """Return *text* with U+FFFD for what no database takes."""
    return _UNSTORABLE.sub("\ufffd", text)


def plain_ends(text: str) -> str:
    """Return *text* with `\\n` alone at the end of lines."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decode_base64(content: bytes) -> bytes:
    """Return what *content* encodes, as far as it goes: line breaks, padding and cut ends don't matter."""
    clean = content.translate(None, _BASE64_NOISE)
    clean = clean[: len(clean) - (len(clean) % 4 == 1)]
    return base64.b64decode(clean + b"=" * (-len(clean) % 4))


def decode_transfer(content: bytes, encoding: str) -> bytes:
    """Undo a Content-Transfer-Encoding; unknown ones leave the bytes as they are."""
    if encoding == "base64":
        return decode_base64(content)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(content)
    return content


def decode_words(value: str) -> str:
    """Return a header value with its RFC 2047 words decoded."""
    if "=?" not in value:
        return value
    return _WORD.sub(_decode_word, _BETWEEN_WORDS.sub("", value))


def _decode_word(found: re.Match[str]) -> str:
    charset, encoding, body = found.groups()
    octets = body.encode("utf-8", "replace")
    content = decode_base64(octets) if encoding in "bB" else quopri.decodestring(octets, header=True)
    return decode(content, charset)


def strip_html(markup: str) -> str:
    """Return the text of an HTML page, one line for each block, and no more than one empty line between two."""
    markup = _without_elements(markup, ("style", "script", "head"))
    text = html.unescape(_without_tags(_BREAK.sub("\n", markup))).replace("\xa0", " ")
    return _EMPTY_LINES.sub("\n\n", text)


def _without_elements(markup: str, names: tuple[str, ...]) -> str:
    lowered = markup.lower()
    if len(lowered) != len(markup):  # some letters grow when lowered
        return markup
    for name in names:
        at, kept = 0, []
        while (start := lowered.find(f"<{name}", at)) >= 0 and (end := lowered.find(f"</{name}", start)) >= 0:
            kept.append((at, start))
            at = end
        if kept:
            kept.append((at, len(markup)))
            markup = "".join([markup[start:end] for start, end in kept])
            lowered = "".join([lowered[start:end] for start, end in kept])
    return markup


def _without_tags(markup: str) -> str:
    before, *pieces = markup.split("<", _MOST_TAGS)
    kept = [before]
    for piece in pieces:
        inside, closes, after = piece.partition(">")
        is_tag = closes and not ("@" in inside and _UNESCAPED_ADDRESS.fullmatch(inside))
        kept.append(after if is_tag else f"<{piece}")
    return "".join(kept)
