"""The version before the newest migration, from the history of a git checkout; an sdist or a shallow clone has none."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

HERE = Path(__file__).parents[1]
VERSIONS = HERE / "service" / "receiptd" / "migrations" / "versions"


def _git(*words: str) -> bytes:
    return subprocess.run(("git", "-C", str(HERE), *words), capture_output=True, check=True).stdout


@cache
def revision_before() -> str | None:
    """Return the last revision that doesn't know the newest migration; None where there is no history."""
    if not (HERE / ".git").exists():
        return None
    newest = max(VERSIONS.glob("[0-9]*.py"))
    try:
        added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest)).decode().strip()
        return _git("rev-parse", "--quiet", "--verify", f"{added}^").decode().strip() if added else None
    except (OSError, subprocess.CalledProcessError):
        return None


def unpack_service(revision: str, folder: Path) -> Path:
    """Put the sources of *revision* into *folder*; return the folder to import them from."""
    packed = folder / "service.tar"
    packed.write_bytes(_git("archive", revision, "service"))
    subprocess.run(("tar", "-xf", str(packed), "-C", str(folder)), check=True)
    return folder / "service"
