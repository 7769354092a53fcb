"""Debian packages, downloaded and unpacked into .cache/ without installing any."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "debian"


class Unobtainable(Exception):
    """A Debian package is neither unpacked already nor to be had now."""


def unpack(*names: str) -> Path:
    """Return the folder that holds packages *names* and the libraries this machine lacks for them, unpacked.

    A folder is complete or not there at all: it is filled under another name and moved into place.
    Another set of installed packages needs other libraries, hence another folder; where that cannot be
    fetched (no network), one made for an earlier set will do.
    """
    shelf = CACHE / f"{_release()}-{names[0]}"
    folder = shelf / _fingerprint(names)
    with _locked():
        if not folder.is_dir():
            try:
                _fill(folder, names)
            except Unobtainable:
                earlier = sorted(shelf.glob("????????????????"), key=lambda path: path.stat().st_mtime)
                if not earlier:
                    raise
                return earlier[-1]
    return folder


def _release() -> str:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return "-".join(fields.get(key, "").strip('"') for key in ("ID", "VERSION_ID")) + f"-{os.uname().machine}"


def _fingerprint(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([*names, _installed()]).encode()).hexdigest()[:16]


@functools.cache
def _installed() -> str:
    return _run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\n")


@contextmanager
def _locked() -> Iterator[None]:
    """Let one test run at a time fill the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# What `dpkg-deb --extract` does, but for one thing: that would put a folder in place of a link.
_EXTRACT = 'dpkg-deb --fsys-tarfile "$0" > "$1.tar"; tar -xf "$1.tar" -C "$1" --keep-directory-symlink; rm "$1.tar"'


def _fill(folder: Path, names: Sequence[str]) -> None:
    archives = _download(names)
    folder.parent.mkdir(exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        # A package from before the /usr merge has its library in /lib: let that be /usr/lib, as on the machine.
        for merged in ("bin", "sbin", "lib"):
            (unfinished / "usr" / merged).mkdir(parents=True)
            (unfinished / merged).symlink_to(f"usr/{merged}")
        (unfinished / "etc").mkdir()
        for archive in archives:
            _run("sh", "-ec", _EXTRACT, str(archive), str(unfinished))
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.with_suffix(".tar").unlink(missing_ok=True)
        shutil.rmtree(CACHE / "archives", ignore_errors=True)


def _download(names: Sequence[str]) -> list[Path]:
    """Fetch *names* and what they need beyond this machine's packages; apt checks every signature and hash.

    Lists and archives are our own, so that nothing of the machine's apt is touched or waited for.
    """
    archives = CACHE / "archives"
    for needed in (archives / "partial", CACHE / "lists" / "partial"):
        needed.mkdir(parents=True, exist_ok=True)
    apt = [
        "apt-get",
        "--quiet=2",
        f"--option=Dir::State::lists={CACHE / 'lists'}",
        f"--option=Dir::Cache={CACHE}",
        f"--option=Dir::Cache::archives={archives}",
        "--option=Dir::Cache::pkgcache=",
        "--option=Dir::Cache::srcpkgcache=",
        "--option=APT::Sandbox::User=root",
        "--option=Debug::NoLocking=true",
        "--option=Acquire::Retries=2",
        "--option=Acquire::http::Timeout=20",
    ]
    install = [*apt, "install", "--download-only", "--reinstall", "--yes", "--no-install-recommends"]
    install += ["--allow-change-held-packages", *names]
    try:
        _run(*install)
    except Unobtainable:
        # No lists yet, or lists older than the archive, which keeps only the newest versions.
        _run(*apt, "update", "--option=APT::Update::Error-Mode=any")
        _run(*install)
    return sorted(archives.glob("*.deb"))


def _run(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=600
        )
    except FileNotFoundError as missing:
        raise Unobtainable(f"{command[0]} is missing: this is no Debian") from missing
    except subprocess.TimeoutExpired as slow:
        raise Unobtainable(f"{command[0]} took longer than {slow.timeout:.0f} s") from slow
    except subprocess.CalledProcessError as failed:
        said = (failed.stderr or failed.stdout).strip().splitlines() or ["no reason given"]
        raise Unobtainable(f"{command[0]}: {said[-1]}") from failed
    return done.stdout
