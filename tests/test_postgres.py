"""PostgreSQL as daemons meet it: its server ends in the middle, and comes back with all that was committed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from receiptd.facts import EventKind
from receiptd.store import is_down
from tests.servers.postgres import Postgres
from tests.steps_fixture import StepsFixture, open_steps

pytestmark = pytest.mark.postgresql


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def test_a_server_that_was_killed_has_all_that_was_committed_and_the_store_goes_on(
    steps: StepsFixture, postgres: Postgres
) -> None:
    taken = await steps.submitted()
    postgres.server.stop()
    with pytest.raises(OperationalError) as refused:
        await steps.take("carol@c.test")
    assert is_down(refused.value)
    assert steps.store.trouble is not None
    postgres.start()
    await steps.tell(taken.recipients[0].id, EventKind.DELIVERED)
    assert (await steps.recipient(taken)).receipt.is_met
    assert steps.store.trouble is None


async def test_a_connection_that_the_server_cut_off_is_replaced(steps: StepsFixture, postgres: Postgres) -> None:
    """A failover or an administrator ends connections that lie idle in the pool."""
    taken = await steps.take()
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert (await steps.whole(taken)).message.id == taken.message.id
