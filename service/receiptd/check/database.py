"""Is the database there, writable and of this version, and does it hold alerts that nobody took?"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from receiptd import store
from receiptd.check.finding import Finding, fail, good
from receiptd.errors import ReceiptdError
from receiptd.settings import Settings
from receiptd.store import Store, dispatches

WHAT = "database"


def tables(settings: Settings) -> Finding:
    """Look without making anything: a file made by root would be in the way of the service's own user."""
    path = _file(settings)
    if path is not None:
        if not path.parent.is_dir():
            return fail(WHAT, f"there is no folder {path.parent}: make it, or let systemd's StateDirectory= do so")
        for needed in (path.parent, path) if path.exists() else (path.parent,):
            if not os.access(needed, os.W_OK):
                return fail(WHAT, f"{needed} is not writable for this user: check as the user that runs receiptd")
        if not path.exists():
            return good(WHAT, f"{path} is not there yet and will be made at the first start")
    try:
        store.ensure(settings.service.database)
    except ReceiptdError as error:
        return fail(WHAT, str(error))
    return good(WHAT, f"{path or 'PostgreSQL'} has the tables of this version")


async def undelivered(settings: Settings) -> AsyncIterator[Finding]:
    """Yield a failure where alerts wait that no endpoint took, and for each endpoint that is off after 410."""
    path = _file(settings)
    if (path is not None and not path.exists()) or tables(settings).is_failure:
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
        yield fail("alerts", f"{alerts} reached no webhook; mend the endpoints (`receiptd alerts` shows every attempt)")
    for name in off:
        yield fail(
            "alerts",
            f"the webhook {name} answered 410 Gone and gets nothing any more: take it out of the settings, or mend its "
            "endpoint and send one of its alerts again (`receiptd alerts replay ALERT`)",
        )


def _file(settings: Settings) -> Path | None:
    """Return the file of a SQLite database, or None."""
    database = settings.service.database
    return Path(database.removeprefix("sqlite:///")) if database.startswith("sqlite:///") else None
