"""The files of a SQLite database, as we opened them: whether they are still where they were, and ours alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT = 1000 * 4096
"""Octets of the log from which SQLite moves what is in it into the database, at a commit of ours (1000 pages)."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a path showed: which file (device and inode), and what shows that its content is another."""

    file: tuple[int, int]
    content: tuple[int, int]


def _look(path: Path) -> _Seen | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Seen((found.st_dev, found.st_ino), (found.st_mtime_ns, found.st_size))


class Files:
    """The database and its write-ahead log, looked at after each commit of ours.

    Whoever replaces or removes them leaves us with files that no path names: all we commit goes there, and is gone
    when we end. SQLite doesn't tell.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wal = Path(f"{path}-wal")
        self.fault: str | None = None
        """What somebody did to them; from then on nothing written here counts."""
        self._is_spoilt = False
        self._database: _Seen | None = None
        self._log: _Seen | None = None

    def look_after_commit(self) -> str | None:
        """Return what was done to the files meanwhile, else take them as they are now for ours."""
        log = _look(self.wal)
        is_moved = log is not None and log != self._log and log.content[1] >= _CHECKPOINT
        if (self.look() if is_moved else self.look_inside()) is None:
            self._database, self._log = _look(self.path), log
        return self.fault

    def reopened(self) -> None:
        """Expect other content, and another log: a connection of ours was closed, or is about to be.

        If none other was open, SQLite has moved the log's content into the database and removed the log by itself.
        """
        self._log = None
        if self._database is not None:
            self._database = _Seen(self._database.file, (0, 0))

    def look(self) -> str | None:
        """Return what was done to the files, as far as their names show."""
        if self.fault is None and self._database is not None:
            found = _look(self.path)
            if found is None or found.file != self._database.file:
                self._is_spoilt = True
                self.fault = f"{self.path} was {'replaced' if found else 'removed'}"
        if self.fault is None and self._log is not None:
            found = _look(self.wal)
            if found is None or found.file != self._log.file:
                self.fault = f"{self.wal} was {'replaced' if found else 'removed'}"
        return self.fault

    def look_inside(self) -> str | None:
        """Return what was done to the files; only while no transaction of ours may be writing to them."""
        if self.look() is None and self._database is not None and self._database.content != (0, 0):
            found = _look(self.path)
            if found is not None and found.content != self._database.content:
                self._is_spoilt = True
                self.fault = f"another program wrote to {self.path}"
        return self.fault

    @property
    def are_to_be_left(self) -> bool:
        """Whether another file stands in the database's place: closing would write our log into that."""
        return self._is_spoilt

    def put_log_aside(self) -> Path | None:
        """Keep our log under another name, for it would spoil what stands in the database's place; return that."""
        if self._log is None or _look(self.wal) != self._log:
            return None  # it isn't ours any more
        aside = Path(f"{self.wal}.{int(time.time())}")
        return self.wal.rename(aside)
