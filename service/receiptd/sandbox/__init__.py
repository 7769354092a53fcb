"""The embedded mail world of `receiptd demo`: SMTP with DSN, IMAP and a webhook receiver in one process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receiptd.sandbox.mailworld import World

__all__ = ["demo", "world"]

_INTERRUPTED = 130


def world(
    directory: Path | None = None, *, pace: float = 0.05, offers_dsn: bool = True
) -> AbstractAsyncContextManager[World]:
    """Stand up the mail world on free loopback ports; see `receiptd.sandbox.mailworld`."""
    # aiosmtpd and pymap come with the extra `demo` and are slow to import.
    from receiptd.sandbox import mailworld

    return mailworld.world(directory, pace=pace, offers_dsn=offers_dsn)


def demo(json: bool = False, keep: bool = False, nodes: int = 1, database: str | None = None) -> int:
    """Show the main job on the embedded mail world; return 0 only if each letter met its fate.

    With *json*, stdout gets the result as data and the story goes to stderr. With *keep*, world and
    daemon stay until Ctrl-C. *nodes* daemons share the work on *database*, which must be empty: a URL of
    PostgreSQL where there is more than one. Raises Unavailable where the extra `demo` isn't installed or a
    daemon doesn't start.
    """
    import asyncio
    import sys

    _check_installed()
    if database is not None or nodes > 1:
        _check_database(database, nodes)
    from receiptd.sandbox.play import play
    from receiptd.sandbox.story import Story

    story = Story(sys.stderr, data=sys.stdout) if json else Story(sys.stdout)
    try:
        result = asyncio.run(play(story, keep=keep, nodes=nodes, database=database))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    return 0 if result.ok else 1


def _check_installed() -> None:
    import importlib.util

    from receiptd.errors import Unavailable

    for name in ("aiosmtpd", "pymap", "trustme"):
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"The demo needs {name}: install receiptd with its extra, pip install 'receiptd[demo]'.")


def _check_database(database: str | None, nodes: int) -> None:
    """Raise UsageError unless *nodes* daemons can share *database*, and nothing is in it: the demo would send it."""
    from receiptd.errors import UsageError
    from receiptd.store import ensure, is_new
    from receiptd.store.engine import database_url

    if nodes > 1 and (database is None or database_url(database).get_backend_name() != "postgresql"):
        raise UsageError(
            "Several nodes need PostgreSQL: name an empty database with --database postgresql://…, "
            f"or run `make demo ARGS='--nodes {nodes}'` in the sources, which starts a server of its own."
        )
    assert database is not None
    if not is_new(database):
        raise UsageError("The demo needs an empty database of its own: what waits in another would be sent to it.")
    ensure(database)
