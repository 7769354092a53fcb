"""How a command prints and exits at the terminal: one sentence, safe text, the exit status."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, NoReturn, TextIO, cast

from receiptd.errors import CantWrite, ReceiptdError

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control, bidi and invisible characters: untrusted text must not move the cursor or reverse words."""


class _Formatter(argparse.HelpFormatter):
    """The usual help, as wide as the terminal: argparse asks shutil, which brings three compression libraries.

    It makes one of these for each option that is added, long before anybody asks for help.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """Return the width of the terminal, as shutil.get_terminal_size does."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


class Parser(argparse.ArgumentParser):
    """An argument parser that fails as sysexits.h prescribes."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter} | words)

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
        _discard(stream)
        return error.exit_status
    except ReceiptdError as error:
        tell(f"{name}: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough
        _discard(stream)
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


def _discard(stream: TextIO) -> None:
    """Discard what *stream* still holds: the interpreter must not complain at exit, and change the status."""
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
    with suppress(OSError):  # stderr is closed, and the work is done
        sys.stderr.write(safe(sentence) + "\n")


def reason_of(error: BaseException) -> str:
    """Return what the system says was wrong, in as few words as it has."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def safe(text: object) -> str:
    """Return *text* on one line with control, bidi and invisible characters escaped."""
    return _UNSAFE.sub(lambda found: _escape(ord(found.group())), str(text))


def _escape(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
