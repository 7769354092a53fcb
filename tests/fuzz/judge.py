"""What must hold of the interpreter, whatever the bytes: it returns, soon, in little memory, what can be stored."""

from __future__ import annotations

import re
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from traceback import extract_tb

from receiptd.facts import Report

Interpreter = Callable[[bytes], Report]

_SECONDS_AT_LEAST = 0.5
_SECONDS_A_MEGABYTE = 0.5
_SECONDS_TO_CALIBRATE = 0.03
_TIMES_THE_SIZE = 4
_MEGABYTE = 1_000_000
_A_FEW_MEGABYTES = 8 * _MEGABYTE


class Endless(BaseException):
    """It goes on and on; no `except Exception` of the interpreter stops this."""


def any_fault(raw: bytes, interpret: Interpreter) -> str | None:
    """Return in one line what is wrong with how *interpret* takes *raw*, memory included, or None."""
    return fault(raw, interpret) or hunger(raw, interpret)


def fault(raw: bytes, interpret: Interpreter) -> str | None:
    """Return in one line what is wrong with how *interpret* takes *raw*, or None."""
    limit, took = seconds_for(raw), 0.0
    for _ in range(3):  # the machine has other things to do, but not thrice
        begun = time.process_time()
        try:
            wrong = _bounded(lambda: unsound(interpret(raw), raw), 4 * limit)
        except Endless:
            return f"slow: more than {4 * limit:.2f} s for {len(raw)} bytes"
        except Exception as raised:
            return described(raised)
        took = time.process_time() - begun
        if wrong or took <= limit:
            return wrong
    return f"slow: {took:.2f} s for {len(raw)} bytes, {limit:.2f} s allowed"


def hunger(raw: bytes, interpret: Interpreter) -> str | None:
    """Return in one line that *interpret* takes too much memory for *raw*, or None."""
    tracemalloc.start()
    try:
        interpret(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return f"hungry: {peak} bytes for {len(raw)}" if peak > _TIMES_THE_SIZE * len(raw) + _A_FEW_MEGABYTES else None


def unsound(report: Report, raw: bytes) -> str | None:
    """Return in one line what of *report* can't be stored, or None."""
    if not is_sound(report):
        return "unsound: a text that no database takes"
    if len(report.recipients) > 500:
        return f"unsound: {len(report.recipients)} recipients"
    told = letters(report)
    return f"unsound: {told} characters out of {len(raw)} bytes" if told > 4 * len(raw) + _MEGABYTE / 4 else None


def letters(report: Report) -> int:
    """Return how many characters *report* holds."""
    return sum(map(len, _texts(report)))


def is_sound(report: Report) -> bool:
    """Whether every text can be stored: lone surrogates no database takes, null characters not every one."""
    texts = list(_texts(report))
    return all(text.encode("utf-8", "replace").decode() == text and "\0" not in text for text in texts if text) and all(
        len(token) == 24 for token in report.tokens
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)
    elif is_dataclass(value):
        for each in fields(value):
            yield from _texts(getattr(value, each.name))


def described(raised: BaseException) -> str:
    """Return an exception in one line: what, and in which line of which file."""
    where = extract_tb(raised.__traceback__)[-1]
    return f"{type(raised).__name__}: {str(raised)[:100]!r} in {where.filename.rpartition('/')[2]}:{where.lineno}"


def seconds_for(raw: bytes) -> float:
    """Return how many seconds of the processor *raw* may take: one for a megabyte, more where the machine is slow."""
    return (_SECONDS_AT_LEAST + _SECONDS_A_MEGABYTE * len(raw) / _MEGABYTE) * _slowness()


@cache
def _slowness() -> float:
    """Return how many times slower than a usual one this machine is, at least 1."""
    return max(1.0, min(_seconds_of_work() for _ in range(5)) / _SECONDS_TO_CALIBRATE)


def _seconds_of_work() -> float:
    begun = time.process_time()
    words = re.findall(r"[a-z]{1,9}\b(?! x)", "some words to look at " * 8000)
    " ".join(sorted({f"{word}{at}": word for at, word in enumerate(words)}))
    return time.process_time() - begun


def _bounded(call: Callable[[], str | None], seconds: float) -> str | None:
    """Return what *call* returns, or raise Endless in the midst of it."""

    def stop(*_: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return call()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
