"""What is told of a transaction only once it is committed: figures count what is on disk, and each once."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

_KEY = "once committed"


def once_committed(session: AsyncSession | Session, tell: Callable[[], None]) -> None:
    """Call *tell* when the transaction of *session* is committed; never where it, or the savepoint, is undone."""
    session.info.setdefault(_KEY, []).append(tell)


def mark(session: AsyncSession | Session) -> int:
    """Return how much there is to tell by now."""
    return len(session.info.get(_KEY, ()))


def forget(session: AsyncSession | Session, since: int) -> None:
    """Tell nothing of what a savepoint undid: all that came since that *mark*."""
    del session.info.get(_KEY, [])[since:]


def tell(session: AsyncSession | Session) -> None:
    """Tell all: it is committed."""
    for one in session.info.pop(_KEY, ()):
        one()
