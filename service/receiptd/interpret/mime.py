"""Our own bounded reader: offsets, depth 8, 64 parts, nothing behind 2 MiB; stdlib email for header decoding only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache

from receiptd.interpret import charset, fields
from receiptd.interpret.fields import Fields

HORIZON = 2 * 1024 * 1024
DEEPEST = 8
MOST_PARTS = 64
LONGEST_HEADER = 256 * 1024
LONGEST_TEXT = 128 * 1024
_SHORT_HEADER = 300

_BEFORE_MESSAGE = re.compile(rb"(?:[ \t]*+\r?\n|>?From [^\r\n]*+\r?\n)*+")
_BEFORE_PART = re.compile(rb"(?:[ \t]*+\r?\n)++(?=content-[a-z-]{1,30}[ \t]*:)", re.IGNORECASE)
_FIELD = re.compile(rb"[!-9;-~]{1,76}[ \t]*:")
_BLANK_LINE = re.compile(rb"[ \t]*\r?\n")
_END_OF_HEADER = re.compile(rb"\n\r?\n")
_PARAMETER = re.compile(r";\s*([\w-]{1,30})(?:\*0?\*?)?\s*=\s*(?:\"([^\"]{0,500})\"|([^;\s\"]{1,500}))")
_TYPE = re.compile(r"\s*([\w.+-]{1,60}/[\w.+-]{1,80})")
_DELIMITER_LINE = re.compile(
    rb"(?:^|\n)--([^\s\"]{1,98}+)[ \t]*+\r?\n(?:\r?\n)?content-[a-z-]{1,30}+[ \t]*+:", re.IGNORECASE
)
_AFTER_BOUNDARY = re.compile(rb"[ \t\r]{0,80}+(--)?[ \t\r]{0,80}+(?:\n|\Z)")
_LF, _CR = b"\n\r"
_MOST_TRIES = 10_000
_LONGEST_PREAMBLE = 1024
_EMBEDS = ("message/rfc822", "message/global", "message/news", "message/partial")


class Part:
    """One entity of a message: a view by offsets on the raw bytes, its children read once."""

    __slots__ = ("_embedded", "below", "body", "children", "end", "header", "parameters", "raw", "type", "types")

    def __init__(self, raw: bytes, start: int, end: int) -> None:
        self.raw, self.end = raw, end
        header_end, self.body = _extent_of_header(raw, start, end)
        entity = _entity if header_end - start <= _SHORT_HEADER else _entity.__wrapped__
        self.header, self.type, self.parameters = entity(raw[start:header_end])
        self._embedded: Fields | None = None
        self.children: list[Part] = []
        self.below: list[Part] = []
        """Where this is the message's root, all parts below it in order, embedded messages unopened."""
        self.types: AbstractSet[str] = frozenset()
        """Where this is the message's root, the types of all its parts."""

    @property
    def parts(self) -> list[Part]:
        """This part and all below it; not kept, for a part that holds itself would wait for the garbage collector."""
        return [self, *self.below]

    def first(self, types: AbstractSet[str]) -> Part | None:
        """Return the first part of one of *types* in this message."""
        return None if types.isdisjoint(self.types) else next(part for part in self.parts if part.type in types)

    @property
    def is_multipart(self) -> bool:
        return self.type.startswith("multipart/")

    @property
    def embeds_message(self) -> bool:
        return self.type in _EMBEDS

    def content(self, limit: int = LONGEST_TEXT) -> bytes:
        """Return the body's first *limit* bytes, its transfer encoding undone."""
        encoding = (self.header.first("content-transfer-encoding") or "").strip().lower()
        return charset.decode_transfer(self.raw[self.body : min(self.end, self.body + limit)], encoding)

    def text(self, limit: int = LONGEST_TEXT) -> str:
        """Return the body's beginning as text with plain line ends; HTML without its tags."""
        text = charset.decode(self.content(limit), self.parameters.get("charset"))
        text = charset.plain_ends(text)
        return charset.strip_html(text) if self.type == "text/html" else text

    def embedded_header(self) -> Fields:
        """Return the header of the message this part carries."""
        if self._embedded is None:
            raw, start, end = self.raw, self.body, self.end
            if self._is_encoded:
                raw = self.content(HORIZON)
                start, end = 0, len(raw)
            start = _start_of_message(raw, start, end)
            self._embedded = _fields(raw[start : _extent_of_header(raw, start, end)[0]])
        return self._embedded

    def embedded_message(self) -> Part:
        """Return the message this part carries, opened."""
        return read(self.content(HORIZON))

    @property
    def _is_encoded(self) -> bool:
        return (self.header.first("content-transfer-encoding") or "").strip().lower() in ("base64", "quoted-printable")


def read(raw: bytes) -> Part:
    """Read a message; never raises, whatever the bytes."""
    head = raw[:_LONGEST_PREAMBLE]
    if b"\r" in head and (b"\r\r\n" in head or b"\n" not in head):
        raw = _plain_ends(raw[:HORIZON])
    end = min(len(raw), HORIZON)
    root = Part(raw, _start_of_message(raw, 0, end), end)
    if "content-type" not in root.header and _begins_with_part(root):
        root.type = "multipart/mixed"  # some gateways drop the type line and keep the parts
    _split(root, root.below, depth=1)
    root.types = {part.type for part in root.parts}
    return root


def _plain_ends(raw: bytes) -> bytes:
    """Return *raw* with the ends of lines that a converter doubled, or halved, made plain."""
    return raw.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _begins_with_part(root: Part) -> bool:
    """Whether nothing but a MIME preamble stands before a delimiter line; copies of originals stand deeper."""
    start, end = max(root.body - 1, 0), min(root.end, root.body + _LONGEST_PREAMBLE)
    found = _DELIMITER_LINE.search(root.raw, start, end) if root.raw.find(b"--", start, end) >= 0 else None
    before = root.raw[root.body : found.start()].strip() if found else b"?"
    return not before or (b"MIME" in before and b"\n\n" not in before.replace(b"\r", b""))


@lru_cache(maxsize=256)
def _entity(header: bytes) -> tuple[Fields, str, Mapping[str, str]]:
    """Return fields, type and parameters of a header: those of inner parts are the same few in every message."""
    found = _fields(header)
    return found, *content_type(found.first("content-type"))


def _fields(header: bytes) -> Fields:
    return fields.parse(charset.plain_ends(charset.decode(header)))


def content_type(value: str | None) -> tuple[str, dict[str, str]]:
    """Return the lower-case media type and the parameters of a Content-Type; no or broken type is text/plain."""
    if not value:
        return "text/plain", {}
    found = _TYPE.match(value)
    parameters: dict[str, str] = {}
    if ";" in value:
        for name, quoted, bare in _PARAMETER.findall(value[:4000]):
            parameters.setdefault(name.lower(), quoted or bare)
    return (found[1].lower() if found else "text/plain"), parameters


def _start_of_message(raw: bytes, start: int, end: int) -> int:
    """Return where the header begins: blank lines and an mbox `From ` line may stand before it."""
    found = _BEFORE_MESSAGE.match(raw, start, end)
    return found.end() if found else start


def _extent_of_header(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where a header ends and where its body begins; text that begins with no field has no header."""
    if not _FIELD.match(raw, start, end):
        if misplaced := _BEFORE_PART.match(raw, start, end):
            start = misplaced.end()
        else:
            blank = _BLANK_LINE.match(raw, start, end)
            return start, blank.end() if blank else start
    horizon = min(end, start + LONGEST_HEADER)
    found = _END_OF_HEADER.search(raw, start, horizon)
    return found.span() if found else (horizon, horizon)


def _split(part: Part, below: list[Part], *, depth: int) -> None:
    if not part.is_multipart or depth > DEEPEST:
        return
    for start, end in _between_delimiters(part):
        if len(below) >= MOST_PARTS:
            return
        child = Part(part.raw, start, end)
        part.children.append(child)
        below.append(child)
        _split(child, below, depth=depth + 1)


def _between_delimiters(part: Part) -> list[tuple[int, int]]:
    """Return the extents of a multipart's parts; where the declared boundary begins none, by the one in use."""
    boundary = part.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
    return _extents(part, boundary) or _extents(part, _likely_boundary(part))


def _likely_boundary(part: Part) -> bytes:
    """Return the boundary that the body seems to use."""
    found = _DELIMITER_LINE.search(part.raw, max(part.body - 1, 0), min(part.end, part.body + LONGEST_TEXT))
    return found[1] if found else b""


def _extents(part: Part, boundary: bytes) -> list[tuple[int, int]]:
    """Return where the parts between the lines of *boundary* begin and end; a closing one may be missing."""
    found: list[tuple[int, int]] = []
    if not boundary:
        return found
    raw, needle, floor, end = part.raw, b"--" + boundary, part.body, part.end
    begun, after = -1, floor
    for _ in range(_MOST_TRIES):
        at = raw.find(needle, after, end)
        if at < 0 or len(found) > MOST_PARTS:
            break
        after = at + len(needle)
        tail = _AFTER_BOUNDARY.match(raw, after, end)
        if not tail or (at > floor and raw[at - 1] not in b"\r\n"):
            continue
        if begun >= 0:
            found.append((begun, _before_line_break(raw, at, floor)))
        begun = tail.end()
        if tail[1]:
            begun = -1  # a rewriter may have closed it before the last part
    if begun >= 0:
        found.append((begun, end))
    return found


def _before_line_break(raw: bytes, at: int, floor: int) -> int:
    """Return *at* less the line break before it, which belongs to the delimiter (RFC 2046 §5.1.1)."""
    if at > floor and raw[at - 1] == _LF:
        at -= 1
        if at > floor and raw[at - 1] == _CR:
            at -= 1
    return at
