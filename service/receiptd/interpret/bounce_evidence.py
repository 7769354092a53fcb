"""What a server's own notice shows and the word of a person or a shop doesn't: its replies, and what it returns.

A parcel that "could not be delivered", a colleague who asks about a "failure notice": subject and sentences alone are
no bounce where an automaton that delivers mail didn't sign.
"""

from __future__ import annotations

import re
from itertools import islice

from receiptd.interpret import absence_phrases, addresses, codes, human_part, mta_phrases, phrases, report_header
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart

_REPLY = re.compile(
    r"(?<![\w.])(?:[45]\d\d[ -]{1,3}#?|#)[45]\.\d{1,3}\.\d{1,3}(?![\w.])|Error: No valid recipients for this MM\b"
)
_REPLY_BEGINS = re.compile(r"[ \t]{0,8}[45]\d\d(?: ?[-–—] ?|[ -]#?[45]\.\d)")
_RETURNED = re.compile(r"^[ \t]{0,8}message-id[ \t]?:", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"[ \t]{0,8}\d{1,3}[.)][ \t]{1,4}")
_LABEL = re.compile(rf"[ \t]{{0,8}}(?:{mta_phrases.LABEL})[ \t]{{0,8}}[:：]", re.IGNORECASE)
_BEFORE_NAME = " \t*•·-–<\"'(["
_AFTER_NAME = " \t>\"')]:;,."
_LAST_SENTENCE = re.compile(r"^.*(?:[.!?] |[。！？])(?=.)", re.DOTALL)
_SIGHT = 100
_MOST_REPLIES = 100
_NEAR = 3
"""Lines from a name in which the reply stands that names it."""


def gives_reply(said: HumanPart) -> bool:
    """Return whether the reply of an SMTP server stands there, status code and all: nobody else writes like that."""
    text = said.text
    places = (found.start() for found in islice(_REPLY.finditer(text), _MOST_REPLIES))
    return any(not _is_quoted(text[text.rfind("\n", 0, at) + 1 : at]) for at in places)


def is_returned(said: HumanPart) -> bool:
    """Return whether the notice returns the original or its header."""
    return said.returns_message or bool(_RETURNED.search(said.copy))


def is_shown(header: Fields, said: HumanPart) -> bool:
    """Return whether the notice returns the original, or lists who failed as servers do."""
    return is_returned(said) or lists_failed(header, said)


def lists_failed(header: Fields, said: HumanPart, *, among_quoted: bool = True) -> bool:
    """Return whether a reply begins a line, or an address below a sentence of failure or with its reply beside it."""
    lines = said.lines if among_quoted else tuple(human_part.own_words(said.text).split("\n"))
    writer = addresses.first(header.first("from")) or ""
    readers = {address.lower() for address in (writer, *report_header.recipients(header))}
    is_null = report_header.return_path(header) == ""
    above = ""
    for number, line in enumerate(lines):
        if _REPLY_BEGINS.match(line):
            return True
        name = _listed(line)
        if name and name[0].lower() not in readers:
            if gives_code("\n".join(lines[number : number + _NEAR])):
                return True
            is_foreign = name[0].rpartition("@")[2].lower() != writer.rpartition("@")[2]
            if (is_foreign or is_null) and not name[1] and _announces(above):
                return True
        above = line if line.strip() else above
    return False


def _listed(line: str) -> tuple[str, str] | None:
    """Return the address that begins *line* and what follows it; a person's quotation lists nobody."""
    bare = (
        _LABEL.sub("", _NUMBER.sub("", line, count=1), count=1).lstrip(_BEFORE_NAME)
        if "@" in line and not _is_quoted(line)
        else ""
    )
    found = addresses.ADDRESS.match(bare)
    return (found[0], bare[found.end() :].strip(_AFTER_NAME)) if found else None


def gives_code(text: str) -> bool:
    """Return whether *text* names a code of failure or delay."""
    return any(status[0] in "45" for status in codes.statuses(text)) or any(
        code >= 400 for code in codes.reply_codes(text)
    )


def _announces(line: str) -> bool:
    if mta_phrases.NOT_A_RECIPIENT.search(line[-_SIGHT:]):
        return False  # `If it was not delivered, write to:`
    plain = phrases.plain(line)
    if absence_phrases.CONTACT.are_in(_LAST_SENTENCE.sub("", plain)):
        return False  # `Your mail could not be read. In urgent cases write to:`
    return mta_phrases.HEADING.are_in(plain) or mta_phrases.SENTENCE.are_in(plain)


def _is_quoted(line: str) -> bool:
    return line.lstrip(" \t").startswith(">")
