"""`receiptd interpret`: files -> what the parser makes of them, one object or a few lines each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from receiptd import errors
from receiptd.facts import Report
from receiptd.interpret import shape
from receiptd.interpret.reading import interpret

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


def main(files: list[str], *, jobs: int, as_json: bool) -> int:
    """Print what each of *files* says (`-` is standard input) and return the exit status.

    A file that can't be read is one sentence on stderr and exit 66; the others are read all the same.
    """
    status = os.EX_OK
    for text, fault in _answers(files, jobs=jobs, as_json=as_json):
        if fault:
            print(f"receiptd: {fault}", file=sys.stderr)  # noqa: T201
            status = errors.NoInput.exit_status
        else:
            print(text)  # noqa: T201
    sys.stdout.flush()
    return status


def _answers(files: list[str], *, jobs: int, as_json: bool) -> Iterator[tuple[str, str | None]]:
    work = partial(_answer, as_json=as_json)
    if jobs <= 1 or len(files) <= 1:
        yield from map(work, files)
        return
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(min(jobs, len(files))) as pool:
        yield from pool.imap(work, files, chunksize=_CHUNK)


def _answer(file: str, *, as_json: bool) -> tuple[str, str | None]:
    try:
        raw = _read(file)
    except errors.NoInput as fault:
        return "", str(fault)
    report = interpret(raw)
    return (
        json.dumps(shape.as_json(report, file), ensure_ascii=True) if as_json else "\n".join(_lines(report, file))
    ), None


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read(_LONGEST_FILE)
        with Path(file).open("rb") as stream:
            return stream.read(_LONGEST_FILE)
    except OSError as fault:
        raise errors.NoInput(f"{file} can't be read ({fault.strerror}): name a file that holds one message.") from fault


def _lines(report: Report, file: str) -> Iterable[str]:
    """Yield the report for a person, a stranger's text escaped of control and bidi characters."""
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
            "occurred": shape.instant(one.occurred_at),
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
    yield from (f"  {name}: {_shown(value)}" for name, value in facts.items() if value)


def _shown(text: str) -> str:
    return text.translate(_ESCAPES)
