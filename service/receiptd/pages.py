"""What the API gives -> lines that a person reads: tables, and a page about one message or alert."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from receiptd.terminal import safe

Message = Mapping[str, Any]
"""A message as the HTTP API gives it."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, its columns as wide as what they hold."""
    cells = [[*head], *([safe("-" if cell is None or cell == "" else cell) for cell in row] for row in rows)]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def message_table(messages: Iterable[Message]) -> list[str]:
    """Return one line a message: what `receiptd list` shows."""
    rows = [
        (
            message["id"],
            when(message.get("created_at")),
            _counted(recipient["receipt"] for recipient in message.get("recipients", ())),
            _named([recipient["address"] for recipient in message.get("recipients", ())]),
            message.get("subject"),
        )
        for message in messages
    ]
    return table(("ID", "CREATED", "RECEIPT", "RECIPIENTS", "SUBJECT"), rows)


def recipient_table(message: Message) -> list[str]:
    """Return one line a recipient: its three tracks and what is required."""
    rows = [
        (
            recipient["address"],
            recipient.get("delivery"),
            recipient.get("disposition"),
            recipient.get("receipt"),
            recipient.get("level"),
            recipient.get("require"),
            when(recipient.get("deadline")),
            recipient["id"],
        )
        for recipient in message["recipients"]
    ]
    head = ("ADDRESS", "DELIVERY", "DISPOSITION", "RECEIPT", "PROVEN", "REQUIRED", "DEADLINE", "RECIPIENT")
    return table(head, rows)


def message_page(message: Message) -> Iterator[str]:
    """Yield the lines that say all about one message: what `receiptd show` shows."""
    for name, value in (
        ("Message", message["id"]),
        ("Message-ID", message.get("message_id")),
        ("From", message.get("from")),
        ("Sender", message.get("sender")),
        ("Subject", message.get("subject")),
        ("Created", when(message.get("created_at"))),
        ("Policy", message.get("policy")),
        ("Labels", ", ".join(f"{key}={label}" for key, label in (message.get("labels") or {}).items())),
        ("Copy of", message.get("resent_from")),
    ):
        if value:
            yield f"{name + ':':<12}{safe(value)}"
    yield ""
    yield from recipient_table(message)
    for recipient in message["recipients"]:
        yield from _remarks(recipient)
    yield ""
    addresses = {recipient["id"]: recipient["address"] for recipient in message["recipients"]}
    for event in message.get("events") or ():
        yield from _event_lines(event, addresses)


def report_table(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each report, why it is taken for that, and whom it is about: what `receiptd reports` shows."""
    rows = [
        (
            report["id"],
            when(report.get("received_at")),
            report.get("verdict"),
            report.get("kind"),
            "part" if report.get("truncated") else "whole",
            report.get("from"),
            report.get("subject"),
        )
        for report in reports
    ]
    head, *lines = table(("ID", "RECEIVED", "VERDICT", "KIND", "KEPT", "FROM", "SUBJECT"), rows)
    yield head
    for report, line in zip(reports, lines, strict=True):
        yield line
        if report.get("reason"):
            yield f"    {safe(report['reason'])}"
        if report.get("message"):
            yield f"    message {safe(report['message'])}{_of_recipients(report.get('recipients') or ())}"


def _of_recipients(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
    word = "recipient" if len(ids) == 1 else "recipients"
    return f", {word} {safe(', '.join(ids[:_MOST_IDS]))}{more}" if ids else ""


_MOST_IDS = 3


def alert_page(alert: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about one alert: what it says, to whom it went, with every attempt."""
    data = alert.get("data") or {}
    about = (data.get("recipient") or {}).get("address") or data.get("name")
    state = "undelivered" if alert.get("undelivered") else "resolved" if alert.get("resolved_at") else ""
    doubt = "unproven" if data.get("unproven") else ""
    yield "  ".join(
        safe(word) for word in (when(alert["created_at"]), alert["type"], about, doubt, state, alert["id"]) if word
    )
    if data.get("reason"):
        yield f"    {safe(data['reason'])}"
    for dispatch in alert.get("dispatches") or ():
        yield f"    to {safe(dispatch['webhook'])}: {safe(dispatch.get('outcome') or 'waiting')}"
        for attempt in dispatch.get("attempts") or ():
            outcome = " ".join(str(attempt[name]) for name in ("status", "reason") if attempt.get(name) is not None)
            yield f"        {when(attempt['at'])}  {safe(outcome)}"


def alert_pages(alerts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines about these alerts: what `receiptd alerts` shows."""
    for alert in alerts:
        yield from alert_page(alert)


def recipient_line(recipient: Mapping[str, Any]) -> str:
    """Return the state of a recipient as one line, for a pipe."""
    parts = [str(recipient.get("delivery"))]
    if recipient.get("disposition") not in (None, "none"):
        parts.append(str(recipient["disposition"]))
    return safe(f"{recipient['address']}: {', '.join(parts)}, receipt {recipient.get('receipt')}")


def when(instant: object) -> str:
    """Return an RFC 3339 instant in UTC as people read it, to the second."""
    return safe(re.sub(r"T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)$", r" \1Z", str(instant))) if instant else ""


def _remarks(recipient: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the table has no room for."""
    address = safe(recipient["address"])
    if recipient.get("dsn_requested") is False:
        yield f"{address}: no delivery report was asked for"
    if recipient.get("reason"):
        yield f"{address}: {safe(recipient['reason'])}"
    branches = recipient.get("branches") or ()
    if [branch["final_recipient"] for branch in branches] not in ([], [recipient["address"]]):
        for branch in branches:
            yield f"{address} -> {safe(branch['final_recipient'])}: {branch['delivery']}, {branch['disposition']}"


def _event_lines(event: Mapping[str, Any], addresses: Mapping[str, str]) -> Iterator[str]:
    count = event.get("count") or 1
    yield "  ".join(
        safe(word)
        for word in (
            when(event["observed_at"]),
            addresses.get(event.get("recipient", ""), event.get("recipient")),
            event["kind"],
            f"×{count}" if count > 1 else "",
        )
        if word
    )
    told = [event.get("source")]
    if event.get("matched_by"):
        told += [event.get("trust"), f"by {event['matched_by']}"]
    idle = " (too little trust: moves no state)" if (event.get("detail") or {}).get("counts") is False else ""
    yield "    " + safe(", ".join(word for word in told if word) + idle)
    detail = {**(event.get("detail") or {}), "evidence": event.get("evidence")}
    for name in _SHOWN:
        if detail.get(name) not in (None, "", [], {}):
            yield f"    {name}: {safe(detail[name])}"


_SHOWN = (
    "reporting_mta",
    "reporting_ua",
    "remote_mta",
    "final_recipient",
    "status",
    "diagnostic_code",
    "cause",
    "disposition_mode",
    "modifiers",
    "will_retry_until",
    "returns_at",
    "reply",
    "by",
    "reason",
    "until",
    "evidence",
    "evidence_kept",
)
"""What of an event's detail a person is shown; dialogues and excerpts are in the JSON."""


def _counted(words: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(word if count == 1 else f"{count} {word}" for word, count in counts.items())


def _named(addresses: Sequence[str]) -> str:
    return addresses[0] + (f" and {len(addresses) - 1} more" if len(addresses) > 1 else "") if addresses else ""


def cut(line: str, columns: int) -> str:
    """Return as much of *line* as *columns* have room for."""
    while line and width_of(line) > columns:
        line = line[:-1]
    return line


def width_of(text: str) -> int:
    """Return how many columns *text* takes; East Asian characters take two, accents none."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)
