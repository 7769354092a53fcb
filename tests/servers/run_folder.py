"""A folder below /var/tmp for the servers of one test run, and the end of those that killed runs left behind."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from tests.servers.server import remove

_PREFIX = "receiptd-tests-"


class RunFolder:
    """A folder that the servers' users may enter, unlike pytest's; it is ours until `close`, or until we die."""

    def __init__(self) -> None:
        for left in Path("/var/tmp").glob(f"{_PREFIX}*"):
            if (lock := _try_lock(left)) is not None:
                remove(left)
                os.close(lock)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/var/tmp"))
        lock = _try_lock(self.path)
        assert lock is not None
        self._lock = lock
        self.path.chmod(0o755)

    def close(self) -> None:
        remove(self.path)
        os.close(self._lock)


def _try_lock(folder: Path) -> int | None:
    """Return a lock on *folder* that ends with this process, or None if another has it, or has removed it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
