"""What only one transaction of all daemons may do at a time, where there is no row yet that it could lock."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlmodel.ext.asyncio.session import AsyncSession


def hold(connection: Connection, name: str) -> None:
    """Wait until no other transaction holds *name*, and hold it to the end of this one; on SQLite none is beside it."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def wait(session: AsyncSession, name: str) -> None:
    """Do as `hold` in the transaction of *session*."""
    await (await session.connection()).run_sync(hold, name)
