"""Is the database there, writable and of this version, and does it hold alerts that nobody took?"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from receiptd import store
from receiptd.check.finding import Finding, fail, good, warn
from receiptd.errors import ReceiptdError
from receiptd.settings import Settings
from receiptd.store import Store, dispatches

WHAT = "database"
_STATE = Path("/var/lib")


def tables(settings: Settings) -> Finding:
    """Look without making anything: a file made by root would be in the way of the service's own user."""
    path = _file(settings)
    try:
        found = _file_alone(path) if path is not None else None
    except PermissionError:
        found = fail(WHAT, f"this user may not look at {path}: check as root, or as the user that runs receiptd")
    if found is not None:
        return found
    try:
        store.ensure(settings.service.database)
    except ReceiptdError as error:
        return fail(WHAT, str(error))
    return good(WHAT, f"{path or 'PostgreSQL'} has the tables of this version")


def _file_alone(path: Path) -> Finding | None:
    """Return what can be said of *path* without opening it, if that is all there is to say."""
    if not path.parent.is_dir():
        return _no_folder(path.parent)
    for needed in (path.parent, path) if path.exists() else (path.parent,):
        if not os.access(needed, os.W_OK):
            return fail(WHAT, f"{needed} is not writable for this user: check as the user that runs receiptd")
    return None if path.exists() else good(WHAT, f"{path} is not there yet and will be made at the first start")


def _no_folder(folder: Path) -> Finding:
    if folder.parent == _STATE:
        return warn(
            WHAT,
            f"there is no folder {folder} yet: systemd makes it at the first start (StateDirectory=); "
            "without systemd, make it yourself",
        )
    return fail(WHAT, f"there is no folder {folder}: make it, or name another database under [service]")


def readable(settings: Settings) -> Iterator[Finding]:
    """Yield a warning where every user of this machine can read the database, which holds whole messages."""
    path = _file(settings)
    if path is None or tables(settings).is_failure or not path.exists():
        return
    files = [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]
    open_ones = [str(file) for file in files if file.exists() and file.stat().st_mode & 0o004]
    if open_ones and all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents):
        yield warn(WHAT, f"every user of this machine can read the messages in it: chmod 600 {' '.join(open_ones)}")


async def undelivered(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Yield a failure where alerts wait that no endpoint took, and for each endpoint that is off after 410."""
    path = _file(settings)
    if tables(settings).is_failure or (path is not None and not path.exists()):
        return
    opened = Store(settings)
    try:
        async with opened.read() as session:
            count = await dispatches.undelivered(session)
            off = await dispatches.gone(session, [webhook.name for webhook in settings.webhook])
    finally:
        await opened.close()
    if count:
        alerts = "one alert" if count == 1 else f"{count} alerts"
        yield fail("alerts", f"{alerts} reached no webhook; fix the endpoints (`receiptd alerts` shows every attempt)")
    for name in off:
        yield fail(
            "alerts",
            f"the webhook {name} answered 410 Gone and gets nothing any more: take it out of the settings, or fix its "
            "endpoint and send one of its alerts again (`receiptd alerts replay ALERT`)",
        )


def _file(settings: Settings) -> Path | None:
    """Return the file of a SQLite database, or None."""
    database = settings.service.database
    return Path(database.removeprefix("sqlite:///")) if database.startswith("sqlite:///") else None
