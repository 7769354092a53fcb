"""Exchange's winmail.dat -> which kind of message it carries ([MS-OXTNEF])."""

from __future__ import annotations

import struct

from receiptd.facts import Action
from receiptd.interpret.mime import Part

_TYPES = frozenset(("application/ms-tnef", "application/vnd.ms-tnef"))
_CARRIERS = _TYPES | {"application/octet-stream"}
_SIGNATURE = b"\x78\x9f\x3e\x22"
_HEADER = struct.Struct("<BII")
_CHECKSUM = 2
_CLASS_ATTRIBUTE = 0x00078008
_MOST_ATTRIBUTES = 50
_SIGHT = 8 * 1024
_LONGEST_CLASS = 100
_FILE = "winmail.dat"
_READ = "ipm.microsoft mail.read receipt"
_DISPOSITIONS = {"ipnrn": Action.DISPLAYED, "ipnnrn": Action.DELETED}
_DELIVERIES = {
    "ndr": Action.FAILED, "delayed.dr": Action.DELAYED, "relayed.dr": Action.RELAYED, "expanded.dr": Action.EXPANDED,
    "dr": Action.DELIVERED,
}  # fmt: skip


def disposition(root: Part) -> Action | None:
    """Return what a read receipt that Exchange sends in its own format says: read, or deleted unread."""
    stated = _class(root)
    return Action.DISPLAYED if stated == _READ else _DISPOSITIONS.get(_report(stated).rpartition(".")[2])


def delivery(root: Part) -> Action | None:
    """Return what a delivery report in that format says."""
    words = _report(_class(root)).split(".")
    return _DELIVERIES.get(".".join(words[-2:])) or _DELIVERIES.get(words[-1])


def _report(message_class: str) -> str:
    """Return the class of a report without `REPORT.`: what it reports on may be any form, signed, or a meeting."""
    kind, _, rest = message_class.partition(".")
    return rest if kind == "report" else ""


def _class(root: Part) -> str:
    if root.types.isdisjoint(_CARRIERS):
        return ""
    part = root.first(_TYPES) or next((one for one in root.below if _is_named_so(one)), None)
    return message_class(part.content(_SIGHT)).lower() if part else ""


def _is_named_so(part: Part) -> bool:
    if part.type != "application/octet-stream":
        return False
    return _FILE in f"{part.parameters.get('name')} {part.header.first('content-disposition')}".lower()


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
