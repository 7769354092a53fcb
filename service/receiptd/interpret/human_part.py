"""The human-readable text of a report, cut before the returned original, and what it says of one address."""

from __future__ import annotations

import re
from collections.abc import Iterable

from receiptd.interpret import absence_phrases, addresses, mta_phrases, phrases
from receiptd.interpret.lazy import lazy
from receiptd.interpret.mime import LONGEST_TEXT, Part

_PREAMBLE = re.compile(r"\s*+(?:This is a (?:multi-?part message|MIME)[^\n]*\n\s*+){1,3}", re.IGNORECASE)
_NO_NOTICE = ("text/rfc822-headers", "text/rfc822-header", "text/calendar", "text/x-vcard", "text/csv")
_ORNAMENT = "-*=_>#~+|<[( \t.:"
_FIELD = re.compile(r"[> \t]{0,4}[!-9;-~]{1,76}[ \t]?:|[ \t]+\S")
_BEGINNINGS = frozenset(
    said[:3] for said in (*mta_phrases.COPY_FIELDS, *mta_phrases.COPY_STARTS, *mta_phrases.COPY_LINES)
)
_QUOTED = re.compile(
    r"^(?:>|-{3,} ?\w|_{8,}"
    r"|(?:\*)?(?:von|from|de|da|van|från|fra|od|от|від|发件人|寄件者|差出人|보낸 ?사람) ?[:：]\*? ?\S"
    r"|[^\n]{10,200}(?:wrote|schrieb|a écrit|escribió|escreveu|ha scritto|schreef|skrev|kirjoitti|napisał|написал"
    r"|pisze) ?:)",
    re.IGNORECASE | re.MULTILINE,
)
"""Where an answer begins to quote."""

_LONGEST_NOTICE = 32 * 1024
_BEGINNING = 8 * 1024
_MOST_LINES = 60
_MOST_SAID = 500_000
"""Characters said of all names together: lines that name several count for each of them."""
_LONGEST_LINE = 1000
_MOST_ODD_NAMES = 10


class HumanPart:
    """The text a person would read: what the server says, and what it copied below; read only as far as asked."""

    def __init__(self, root: Part) -> None:
        self._root = root

    @lazy
    def beginning(self) -> str:
        """The first lines, where no more is needed."""
        read = self.__dict__.get("_whole")
        return _without_preamble(_first_text(self._root, _BEGINNING) if read is None else read[:_BEGINNING])

    @lazy
    def _whole(self) -> str:
        return _first_text(self._root, LONGEST_TEXT)

    @lazy
    def _copy_at(self) -> int:
        return _copy_begins(self._whole)

    @lazy
    def text(self) -> str:
        """What the server says."""
        return _without_preamble(self._whole[: min(self._copy_at, _LONGEST_NOTICE)])

    @property
    def copy(self) -> str:
        """The copy of the original below, if there is one."""
        return self._whole[self._copy_at :]

    @property
    def returns_message(self) -> bool:
        """Whether a message is attached, or the header of one."""
        attached = (part for part in self._root.parts if part is not self._root)
        return any(part.embeds_message or part.type.startswith("text/rfc822-header") for part in attached)

    @lazy
    def lines(self) -> tuple[str, ...]:
        """The lines of what the server says."""
        return tuple(self.text.split("\n"))

    @lazy
    def plain(self) -> str:
        """What the server says, as phrases are compared."""
        return phrases.plain(self.text)

    @lazy
    def is_personal(self) -> bool:
        """Whether its writer writes about themselves, or about someone who has left or moved."""
        return absence_phrases.is_personal(self.plain)


def _without_preamble(text: str) -> str:
    found = _PREAMBLE.match(text)
    return text[found.end() :] if found else text


def _first_text(root: Part, limit: int) -> str:
    for part in _from_report(root):
        if not part.type.startswith("text/") or part.type in _NO_NOTICE:
            continue
        same = (_plain_beside(root, part), part) if part.type == "text/html" else (part,)
        for version in filter(None, same):
            if (text := version.text(limit)).strip():
                return text
    if root.children:
        return ""
    return root.text(limit) if root.is_multipart or root.type.startswith("message/") else ""


def _from_report(root: Part) -> list[Part]:
    """Return the parts from the report on: gateways put a warning of their own before it."""
    parts = root.parts
    if root.type == "multipart/mixed":
        at = next((at for at, part in enumerate(parts) if part.type == "multipart/report"), 0)
        return parts[at:]
    return parts


def _plain_beside(root: Part, markup: Part) -> Part | None:
    """Return the plain text that says the same as *markup*; elsewhere it is a list's footer or an attachment."""
    for container in root.parts:
        if markup in container.children and container.type == "multipart/alternative":
            return next((part for part in container.children if part.type == "text/plain"), None)
    return None


def _copy_begins(text: str) -> int:
    """Return where the copy of the original begins, else the length of *text*."""
    at = 0
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if (
            line
            and line.lstrip(_ORNAMENT)[:3].lower() in _BEGINNINGS
            and _is_copy_line(line, lines[number + 1] if number + 1 < len(lines) else "")
        ):
            return at
        if line == "-- " and text[:at].strip():
            return at  # a signature, where scanners and companies say more than the server
        at += len(line) + 1
    return len(text)


def _is_copy_line(line: str, following: str) -> bool:
    bare = line.lstrip(_ORNAMENT).lower()
    if bare.startswith(mta_phrases.COPY_FIELDS):
        return bool(_FIELD.match(following))
    return bare.startswith(mta_phrases.COPY_STARTS) or bare.rstrip("-*=_>#~+|])< \t.:") in mta_phrases.COPY_LINES


def about(said: HumanPart, names: Iterable[str]) -> dict[str, str]:
    """Return, for each of *names* in lower case, the lines about it: from where it is named to the next one.

    The only name has the rest of the text; of several each has at most 60 lines.
    """
    spoken: dict[str, list[str]] = {name.lower(): [] for name in names}
    if len(spoken) == 1:
        return {name: _from_mention(said.text, name) for name in spoken}
    speaking: set[str] = set()
    odd = [name for name in spoken if addresses.first(name) is None][:_MOST_ODD_NAMES]
    for line in said.lines if spoken else ():
        lowered = line.lower()
        mentioned = spoken.keys() & addresses.find_lower(lowered) if "@" in lowered else set()
        mentioned.update(name for name in odd if name in lowered)
        speaking = {name for name in mentioned or speaking if len(spoken[name]) < _MOST_LINES}
        beginning = line[:_LONGEST_LINE]
        for name in speaking:
            spoken[name].append(beginning)
    return {name: "\n".join(lines)[: _MOST_SAID // len(spoken)] for name, lines in spoken.items()}


def _from_mention(text: str, mine: str) -> str:
    """Return *text* from the line that first names *mine*."""
    at = text.lower().find(mine)
    return text[text.rfind("\n", 0, at) + 1 :] if at >= 0 else ""


def own_words(text: str) -> str:
    """Return *text* up to what a person quotes."""
    quoted = _QUOTED.search(text)
    return text[: quoted.start()] if quoted else text


def unfolded(text: str) -> str:
    """Return *text* on one line, as the servers that broke it meant it."""
    return " ".join(text.split())
