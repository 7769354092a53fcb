"""The note of the last attempt, kept outside the database's folder: a copy of the database knows nothing of it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiptd.errors import CantCreate
from receiptd.store.faults import DatabaseFault

_LENGTH = 512
"""Octets of a note: always the same ones are written over, so that a full disk has room for them."""
_AT_ONCE = 1.0
"""Seconds within which a file's own time and the time in it are the same write's."""


@dataclass(frozen=True, slots=True)
class Note:
    """What was noted last: the attempt, in which run of the machine, and when receiptd stopped (None: it didn't).

    *is_copy*: the file isn't the one that was written, but a copy of it.
    """

    attempt: str | None
    boot: str | None
    stopped_at: float | None
    is_copy: bool = False


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where notes lie: a cache, which backups leave out and which outlives a restart of the machine."""
    if ours := environ.get("CACHE_DIRECTORY", "").split(":")[0]:
        return Path(ours)
    if cache := environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "receiptd"
    try:
        return Path.home() / ".cache" / "receiptd"
    except RuntimeError:  # a user without a home, as in a container
        return Path("/var/cache/receiptd")


def boot_id(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return a name of this run of the machine, or of its container; None where the system tells none.

    Under the unit /proc has only processes, so systemd gives the name in the environment.
    """
    if given := environ.get("BOOT_ID"):
        return given
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # A container that was put back runs under the same kernel, but its first process is another.
        first = Path("/proc/1/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot}/{first[19]}"


def is_known(place: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether an attempt of a database at *place* was noted, under whatever name."""
    kept = (_kept(path) for path in folder(environ).glob("*.note"))
    return any(one.get("place") == _short(place) and one.get("attempt") for one in kept)


def _kept(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes()[:_LENGTH])
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _short(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest()[:32]


class Ledger:
    """The note of the database at *place*: read at the start, written before each DATA and at a clean stop."""

    def __init__(
        self, name: str, *, place: str = "", boot: str | None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.path = folder(environ) / f"{name}.note"
        self._place = _short(place)
        self.trouble: str | None = None
        """Why the note can't be written, so that nothing is sent."""
        self._boot = boot
        self._file: int | None = None
        self._turn = self._noted = 0
        self._attempt: str | None = None

    def read(self) -> Note | None:
        """Return what was noted last; None where there is no note, or none that can be read."""
        kept = _kept(self.path)
        if not kept:
            return None
        found = self.path.stat()
        # A write sets both times of a file at once; a copy can set the first alone, or neither to what was noted.
        is_copy = found.st_ctime_ns != found.st_mtime_ns or abs(found.st_mtime - kept.get("at", 0)) > _AT_ONCE
        return Note(kept.get("attempt"), kept.get("boot"), kept.get("stopped_at"), is_copy)

    def open(self, attempt: str | None) -> None:
        """Make this process the one that writes the note, beginning with *attempt*; raise CantCreate where it can't."""
        self._attempt = attempt
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_new = not self.path.exists()
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._write(None)
            # On disk before anything is sent, or a power cut would leave an earlier stop in good order there.
            os.fdatasync(self._file)
            if is_new:
                _keep_name(self.path.parent)
        except OSError as error:
            raise CantCreate(
                f"can't write to {self.path.parent} ({error.strerror}), where the last attempt is noted, to know a "
                "restored database by: make room, let the service's user write there, or set CACHE_DIRECTORY to a "
                "folder outside the database's"
            ) from error

    def turn(self) -> int:
        """Return the place of an attempt in the order of commits; to be asked for in its transaction."""
        self._turn += 1
        return self._turn

    def note(self, turn: int, attempt: str) -> None:
        """Note *attempt*, or leave a later one there; raise DatabaseFault where that can't be done.

        To be called once it is committed and before DATA: what the note knows and a database doesn't was sent after
        that database was copied. It need not be on disk, for what a power cut leaves is doubted by itself.
        """
        if turn <= self._noted:
            return
        self._attempt = attempt
        try:
            self._write(None)
        except OSError as error:
            self.trouble = f"{self.path} can't be written: {error.strerror or error}"
            raise DatabaseFault(self.trouble) from error
        self._noted, self.trouble = turn, None

    def stopped(self, at: float) -> None:
        """Note that receiptd stopped by itself, with nothing left to note."""
        if self._file is not None:
            with suppress(OSError):  # then it looks like a power cut, and what is queued is held
                self._write(at)
                os.fdatasync(self._file)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, stopped_at: float | None) -> None:
        if self._file is None:
            raise OSError(0, "it isn't open")
        kept = {
            "attempt": self._attempt,
            "boot": self._boot,
            "stopped_at": stopped_at,
            "place": self._place,
            "at": time.time(),
        }
        os.pwrite(self._file, json.dumps(kept).encode().ljust(_LENGTH - 1) + b"\n", 0)


def _keep_name(directory: Path) -> None:
    """Let the name of a new file outlive a power cut."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
