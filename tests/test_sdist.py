"""Whoever has only the sdist has all that `make venv demo test` needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
_OFFLINE = re.compile("NewConnectionError|error sending request|name resolution|dns error", re.IGNORECASE)
NOT_OURS = {"PKG-INFO"}
"""What the build writes itself."""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(HOUSE, sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder))
    (made,) = folder.glob("receiptd-*.tar.gz")
    return made


def run(folder: Path, *words: str) -> str:
    """Run *words* in *folder* as whoever unpacked it would; what it says is shown where it fails."""
    outside = ("MAKE", "MFLAGS", "ARGS", "VIRTUAL_ENV", "PYTHONPATH", "RECEIPTD_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    done = subprocess.run(
        words, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-3000:]}"
    return done.stdout


def files() -> set[str]:
    """Return what belongs to the project: what git has, or in an unpacked sdist what lies there."""
    if (HOUSE / ".git").exists():
        listed = run(HOUSE, "git", "ls-files", "--cached", "--others", "--exclude-standard")
        return {name for name in listed.splitlines() if (HOUSE / name).exists()}
    ignored = [line.strip("/") for line in (HOUSE / ".gitignore").read_text().split()]
    paths = (path.relative_to(HOUSE) for path in HOUSE.rglob("*") if path.is_file())
    return {str(path) for path in paths if not any(Path(part).match(name) for part in path.parts for name in ignored)}


def test_the_sdist_holds_every_file_of_the_project(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held - NOT_OURS == files() - NOT_OURS


@pytest.mark.timeout(900)
def test_from_the_unpacked_sdist_venv_demo_and_tests_work(sdist: Path, tmp_path: Path) -> None:
    run(tmp_path, "tar", "-xzf", str(sdist))
    (unpacked,) = tmp_path.iterdir()
    try:
        run(unpacked, "make", f"PYTHON={sys.executable}", "venv")
    except AssertionError as fault:
        if _OFFLINE.search(str(fault)) and os.environ.get("RECEIPTD_REQUIRE_ALL") != "1":
            pytest.skip("no package is to be had without a network")
        raise
    assert "letters met their fate" in run(unpacked, "make", "demo")
    run(unpacked, ".venv/bin/ruff", "check", ".")
    run(unpacked, ".venv/bin/lint-imports", "--no-logo")
    run(unpacked, ".venv/bin/pytest", "-q", "--collect-only")
    run(unpacked, ".venv/bin/pytest", "-q", "tests/test_make.py")
