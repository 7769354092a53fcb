"""What a bounce without machine part says of one address -> the server's own words."""

from __future__ import annotations

import re

from receiptd.facts import Cause
from receiptd.interpret import addresses, causes, codes

LONGEST = 500
_MOST_PARAGRAPHS, _MOST_LINES, _LONGEST_LINE = 12, 30, 1000
_ORNAMENT = re.compile(r"\s*(?:(?:[<>]{2,4}|[|*•·#-])[ \t]+){0,2}")
_CODE = re.compile(r"[45](?<!\w.)(?:\d\d|\.\d{1,3}\.\d{1,3})\b")
_FEW_WORDS = 3
_LONG_PREAMBLE = 100


def words(near: str, address: str | None, cause: Cause) -> str | None:
    """Return the reply that a server gave, on one line; without one, the paragraph from which *cause* was read.

    Where the words tell no cause it is what stands beside the address, if anything does.
    """
    paragraphs = _paragraphs(near)
    lines = _from_code(paragraphs) or _from_cause(paragraphs, cause) or _beside(paragraphs, address, cause)
    text = _without_name(_short(" ".join(" ".join(lines).split())), address or "")
    return text[:LONGEST].rstrip() if any(map(str.isalpha, text)) else None


def _paragraphs(text: str) -> list[list[str]]:
    """Return the lines of the first paragraphs without ornament."""
    found: list[list[str]] = [[]]
    for line in text.split("\n", _MOST_PARAGRAPHS * _MOST_LINES):
        ornament = _ORNAMENT.match(line)
        bare = line[ornament.end() if ornament else 0 : _LONGEST_LINE]
        if not any(map(str.isalnum, bare)):
            found += [[]] if found[-1] else []
        elif len(found[-1]) < _MOST_LINES:
            found[-1].append(bare)
        if len(found) > _MOST_PARAGRAPHS:
            break
    return [lines for lines in found if lines]


def _from_code(paragraphs: list[list[str]]) -> list[str]:
    """Return the paragraph from the line on that holds the first code of a failure."""
    for lines in paragraphs:
        for at, line in enumerate(lines):
            if _CODE.search(line) and _tells_code(line):
                return lines[at:]
    return []


def _tells_code(line: str) -> bool:
    return any(code // 100 in (4, 5) for code in codes.reply_codes(line)) or any(
        code[0] in "45" for code in codes.statuses(line)
    )


def _from_cause(paragraphs: list[list[str]], cause: Cause) -> list[str]:
    """Return the first paragraph that tells *cause*, from the line on that does so alone."""
    if cause is Cause.OTHER:
        return []
    for lines in paragraphs:
        if causes.of(" ".join(lines), None, None) is cause:
            alone = (at for at, line in enumerate(lines) if causes.of(line, None, None) is cause)
            return lines[next(alone, 0) :]
    return []


def _beside(paragraphs: list[list[str]], address: str | None, cause: Cause) -> list[str]:
    """Return the paragraph that begins with the line of *address*, if it says more than the name."""
    if cause is not Cause.OTHER or not address or not paragraphs or address.lower() not in paragraphs[0][0].lower():
        return []
    said = addresses.ADDRESS.sub("", " ".join(paragraphs[0]))
    return paragraphs[0] if len(re.findall(r"[^\W\d_]+", said)) > _FEW_WORDS else []


def _short(text: str) -> str:
    """Return *text* from the sentence on that holds the code, where much is said before."""
    code = _CODE.search(text)
    if not code or code.start() < _LONG_PREAMBLE:
        return text
    sentence = text.rfind(". ", 0, code.start())
    return text[sentence + 2 :] if sentence >= 0 else text


def _without_name(text: str, address: str) -> str:
    """Return *text* without the address that it begins with, and what sets it apart."""
    bare = text.lstrip("<\"'([")
    if not address or not bare.lower().startswith(address.lower()):
        return text
    return bare[len(address) :].lstrip(">\"')] :,-")
