"""What one command may name or return: sets of UIDs, and groups of messages by size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from itertools import islice

from receiptd.mailbox import response_parser
from receiptd.mailbox.values import Summary

UIDS_AT_ONCE = 50
"""aioimaplib's time for a FETCH, STORE or MOVE grows with the square of their number."""
BYTES_AT_ONCE = 8 << 20


def imap_date(day: date) -> str:
    """Return *day* as RFC 9051 writes it, in English whatever the locale."""
    return f"{day.day}-{response_parser.MONTHS[day.month - 1].title()}-{day.year}"


def uid_set(uids: Iterable[int]) -> str:
    """Return *uids* as a command names them."""
    return ",".join(map(str, uids))


def batches(uids: Iterable[int]) -> Iterator[list[int]]:
    """Cut *uids*, in order and each once, into what one command may name."""
    rest = iter(sorted(set(uids)))
    while batch := list(islice(rest, UIDS_AT_ONCE)):
        yield batch


def groups(summaries: Iterable[Summary], max_report: int) -> Iterator[list[Summary]]:
    """Group what one FETCH may return: at most 8 MiB; a message larger than *max_report* is a group of its own."""
    group: list[Summary] = []
    room = BYTES_AT_ONCE
    for one in summaries:
        if group and (one.size > room or one.size > max_report or group[0].size > max_report):
            yield group
            group, room = [], BYTES_AT_ONCE
        group.append(one)
        room -= one.size
    if group:
        yield group
