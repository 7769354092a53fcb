"""`receiptd interpret`: files -> what the parser makes of them, one object or a few lines each."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from receiptd import errors
from receiptd.facts import Report, ReportKind
from receiptd.interpret import interpret, json_output, mime
from receiptd.mail.timestamps import rfc3339

_HIDDEN = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200B,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xD800, 0xE000),
}
_ESCAPES = {point: f"\\u{point:04x}" for point in _HIDDEN}
_CHUNK = 16
_LONGEST_FILE = 64 * 1024 * 1024


_AFTER_FIRST = re.compile(rb"\n\r?\n(?=From \S{1,320}[ \t]+(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[ \t][^\n]{10,60}\n)")
"""Where the second message of an mbox begins (RFC 4155)."""
_HEADER_FIELD = re.compile(
    rb"^(?:From|To|Subject|Date|Received|Message-ID|Return-Path|MIME-Version|Content-Type)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_HEAD = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one file says, what a person must know of the file itself, and the exit status that follows from that."""

    text: str = ""
    notice: str | None = None
    status: int = os.EX_OK


def main(files: list[str], *, jobs: int, as_json: bool) -> int:
    """Print what each of *files* says (`-` is standard input) and return the exit status.

    A file that can't be read is one sentence on stderr and exit 66, one without a message another and exit 65 (with
    JSON it is an `ordinary` one, and no fault of who reads a whole folder); the others are read nevertheless.
    """
    status = os.EX_OK
    for answer in _answers(files, jobs=jobs, as_json=as_json):
        if answer.notice:
            print(f"receiptd: {answer.notice}", file=sys.stderr)
        if answer.text:
            print(answer.text)
        status = max(status, answer.status)
    sys.stdout.flush()
    return status


def _answers(files: list[str], *, jobs: int, as_json: bool) -> Iterator[_Answer]:
    work = partial(_answer, as_json=as_json)
    if jobs <= 1 or len(files) <= 1:
        yield from map(work, files)
        return
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(min(jobs, len(files))) as pool:
        yield from pool.imap(work, files, chunksize=_CHUNK)


def _answer(file: str, *, as_json: bool) -> _Answer:
    try:
        raw = _read(file)
    except errors.NoInput as fault:
        return _Answer(notice=str(fault), status=fault.exit_status)
    name = "standard input" if file == "-" else _shown(file)
    first = _first_of_mbox(raw)
    report = interpret(first)
    text = (
        json.dumps(json_output.as_json(report, file), ensure_ascii=True) if as_json else "\n".join(_lines(report, file))
    )
    if _is_no_message(report, first):
        notice = f"{name} holds no message: one begins with header fields, such as From: and Subject:."
        return _Answer(text, notice) if as_json else _Answer("", notice, errors.BadData.exit_status)
    more = f"{name} holds more than one message: the first was read, put the others into files of their own."
    return _Answer(text, more if len(first) < len(raw) else None)


def _first_of_mbox(raw: bytes) -> bytes:
    """Return the first message of an mbox, and anything else as it is."""
    second = _AFTER_FIRST.search(raw) if raw.startswith(b"From ") else None
    return raw[: second.start() + 1] if second else raw


def _is_no_message(report: Report, raw: bytes) -> bool:
    """Whether *raw* begins with no header field, nor holds one below a few words."""
    if report.kind is not ReportKind.ORDINARY or report.from_address or mime.read(raw).header:
        return False
    return not _HEADER_FIELD.search(raw[:_HEAD])


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read(_LONGEST_FILE).removeprefix(_BYTE_ORDER_MARK)
        with Path(file).open("rb") as stream:
            return stream.read(_LONGEST_FILE).removeprefix(_BYTE_ORDER_MARK)  # editors of Windows write one
    except OSError as fault:
        raise errors.NoInput(f"{file} can't be read ({fault.strerror}): name a file that holds one message.") from fault


def _lines(report: Report, file: str) -> Iterable[str]:
    """Yield the report for a person, control and bidi characters in untrusted text escaped."""
    yield f"{_shown(file)}: {report.kind.value}"
    for one in report.recipients:
        words = [
            one.action.value if one.action else "unknown action",
            one.status or "",
            f"({one.cause.value})" if one.cause else "",
        ]
        name = one.final_recipient or one.original_recipient or "unnamed recipient"
        yield f"  {_shown(name)}: {' '.join(filter(None, words))}"
        details = {
            "stated action": one.stated_action if one.stated_action != one.action else None,
            "original recipient": one.original_recipient if one.original_recipient != one.final_recipient else None,
            "diagnostic": one.diagnostic_code,
            "remote server": one.remote_mta,
            "occurred": rfc3339(one.occurred_at),
        }
        yield from (f"    {label}: {_shown(value)}" for label, value in details.items() if value)
    facts = {
        "reporting server": report.reporting_mta,
        "reporting program": report.reporting_ua,
        "envelope id": report.envelope_id,
        "original message id": report.original_message_id,
        "tokens": ", ".join(report.tokens),
        "disposition mode": report.disposition_mode,
        "disposition modifiers": ", ".join(report.disposition_modifiers),
    }
    if report.kind in (ReportKind.AUTO_REPLY, ReportKind.REPLY):
        facts |= {
            "from": report.from_address,
            "in reply to": ", ".join(report.in_reply_to),
            "back, or away until": report.returns_at.date().isoformat() if report.returns_at else None,
        }
    yield from (f"  {name}: {_shown(value)}" for name, value in facts.items() if value)


def _shown(text: str) -> str:
    return text.translate(_ESCAPES)
