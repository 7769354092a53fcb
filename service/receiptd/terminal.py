"""What a person sees at the terminal: sentences, tables, a live table, and the exit status of a command."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, NoReturn, TextIO, cast

from receiptd.errors import CantWrite, ReceiptdError

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control, bidi and invisible characters: a stranger's text must not move the cursor or turn words around."""

Message = Mapping[str, Any]
"""A message as the HTTP API gives it."""


class Parser(argparse.ArgumentParser):
    """An argument parser that fails as sysexits.h prescribes."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


class Version(argparse.Action):
    """The option that prints which version this is; looking that up costs more than most commands."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        sys.stdout.write(f"{parser.prog} {version('receiptd')}\n")
        parser.exit()


def guard(name: str, command: Callable[[], int]) -> int:
    """Run *command* and return its exit status; a foreseeable fault becomes one sentence on stderr."""
    _open_what_is_closed()
    stream = sys.stdout
    try:
        with redirect_stdout(cast(TextIO, _Output(stream))):
            return _flushed(command)
    except CantWrite as error:
        tell(f"{name}: {error}")
        _swallow(stream)
        return error.exit_status
    except ReceiptdError as error:
        tell(f"{name}: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough
        _swallow(stream)
        return 128 + 13


class _Output:
    """Standard output that tells when it can't be written: an OSError doesn't say whose it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _telling_whose_fault():
            return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with _telling_whose_fault():
            self._stream.flush()


@contextmanager
def _telling_whose_fault() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CantWrite(f"standard output can't be written ({reason_of(error)}): send it elsewhere") from error


def _flushed(command: Callable[[], int]) -> int:
    """Run *command* and write out what it printed, also where argparse leaves after --help."""
    try:
        status = command()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _swallow(stream: TextIO) -> None:
    """Let nobody have what *stream* still holds: the interpreter must not complain at exit, and change the status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_what_is_closed() -> None:
    """Let a standard stream that is closed fail as one does that can't be used: Python has None in its place.

    No socket must get its number either: what is meant for a reader would go to the daemon.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_WRONLY), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def tell(sentence: str) -> None:
    """Say something to the person: on stderr, for stdout is for data."""
    with suppress(OSError):  # nobody listens, and what was done is done
        sys.stderr.write(safe(sentence) + "\n")


def reason_of(error: BaseException) -> str:
    """Return what the system says was wrong, in as few words as it has."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def safe(text: object) -> str:
    """Return *text* on one line with control, bidi and invisible characters escaped."""
    return _UNSAFE.sub(lambda found: _escape(ord(found.group())), str(text))


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
    """Yield one line a report, and one that says of whom it speaks: what `receiptd reports` shows."""
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
    yield "  ".join(
        safe(word) for word in (when(alert["created_at"]), alert["type"], about, state, alert["id"]) if word
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


def _escape(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
