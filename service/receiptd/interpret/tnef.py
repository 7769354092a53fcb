"""Exchange's winmail.dat -> which kind of message it carries ([MS-OXTNEF])."""

from __future__ import annotations

import struct

from receiptd.facts import Action
from receiptd.interpret.mime import Part

_TYPES = frozenset(("application/ms-tnef", "application/vnd.ms-tnef"))
_SIGNATURE = b"\x78\x9f\x3e\x22"
_HEADER = struct.Struct("<BII")
_CHECKSUM = 2
_CLASS_ATTRIBUTE = 0x00078008
_MOST_ATTRIBUTES = 50
_SIGHT = 8 * 1024
_LONGEST_CLASS = 100
_DISPOSITIONS = {
    "ipm.microsoft mail.read receipt": Action.DISPLAYED,
    "report.ipm.note.ipnrn": Action.DISPLAYED,
    "report.ipm.note.ipnnrn": Action.DELETED,
}


def disposition(root: Part) -> Action | None:
    """Return what a read receipt that Exchange sends in its own format says: read, or deleted unread."""
    part = root.first(_TYPES)
    return _DISPOSITIONS.get(message_class(part.content(_SIGHT)).lower()) if part else None


def message_class(content: bytes) -> str:
    """Return the message class of a TNEF stream ([MS-OXTNEF] §2.1.3.1), "" where it states none."""
    if not content.startswith(_SIGNATURE):
        return ""
    at = len(_SIGNATURE) + 2  # a key that means nothing
    for _ in range(_MOST_ATTRIBUTES):
        if at + _HEADER.size > len(content):
            break
        _, attribute, length = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        if attribute == _CLASS_ATTRIBUTE:
            stated = content[at : at + min(length, _LONGEST_CLASS)]
            return stated.partition(b"\0")[0].decode("ascii", "replace")
        at += length + _CHECKSUM
    return ""
