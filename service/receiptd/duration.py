"""Durations as people write them: `90s`, `30m`, `4h`, `3d`, or ISO 8601 (`PT4H`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta  # importing it takes a tenth of what send-with-receipt takes

_SHORT = re.compile(r"(\d+)\s*(s|m|h|d|w)", re.IGNORECASE)
_ISO = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?",
    re.IGNORECASE,
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOST_DAYS = 3650


def parse(text: str) -> timedelta:
    """Return the duration that *text* states; raise ValueError with a sentence if it states none."""
    from datetime import timedelta

    text = text.strip()
    if short := _SHORT.fullmatch(text):
        fields = {_UNITS[short[2].lower()]: short[1]}
    elif (iso := _ISO.fullmatch(text)) and any(iso.groups()):
        fields = {unit: amount for unit, amount in iso.groupdict().items() if amount}
    else:
        raise ValueError(f"{text!r} is no duration: write 90s, 30m, 4h, 3d or PT4H")
    if any(len(amount) > 9 for amount in fields.values()):
        raise ValueError(f"{text!r} is longer than ten years")
    length = timedelta(**{unit: int(amount) for unit, amount in fields.items()})
    if length > timedelta(days=_MOST_DAYS):
        raise ValueError(f"{text!r} is longer than ten years")
    return length


def show(length: timedelta) -> str:
    """Return *length* in the largest unit that divides it: the shortest text that `parse` reads back."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
