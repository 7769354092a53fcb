"""A rolling upgrade on PostgreSQL: the version before works on beside the new one, on the new one's tables."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

import pytest
from pymap.mailbox import MailboxSnapshot

from receiptd import sandbox
from receiptd.sandbox.letters import LETTERS
from receiptd.sandbox.mailworld import World
from receiptd.sandbox.play import Course, _watch
from receiptd.sandbox.processes import running, wait_until_ready
from receiptd.sandbox.story import Story
from receiptd.store import upgrade
from tests import history
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sources of the last revision that doesn't know the newest migration."""
    revision = history.revision_before()
    assert revision is not None, "without history this module isn't collected"
    return history.unpack_service(revision, tmp_path_factory.mktemp("before"))


@pytest.fixture
async def mailworld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Return the demo's, for it has a fate for each letter; before 0006 PostgreSQL held no UIDVALIDITY above 2**31."""
    monkeypatch.setattr(MailboxSnapshot, "new_uid_validity", lambda: 7)
    async with sandbox.world(tmp_path, pace=1) as world:
        yield world


@pytest.mark.timeout(180)
async def test_the_version_before_works_on_beside_the_new_one(
    version_before: Path, mailworld: World, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.empty_database()
    database = url.rpartition("/")[2].partition("?")[0]
    settings = {}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        settings[name] = mailworld.write_settings(tmp_path / name, database=url)
    told = io.StringIO()
    story, courses = Story(told), []
    async with AsyncExitStack() as stack:
        monkeypatch.setenv("PYTHONPATH", str(version_before))
        old = await stack.enter_async_context(running(settings["old"]))
        monkeypatch.delenv("PYTHONPATH")
        await wait_until_ready(old)
        before = postgres.execute("SELECT version_num FROM alembic_version", database)
        courses += [Course(letter, await old.send(letter)) for letter in LETTERS[:3]]
        was, now = await asyncio.to_thread(upgrade, url)
        assert [(was,)] == before
        assert was != now
        new = await stack.enter_async_context(running(settings["new"]))
        await wait_until_ready(new)
        turns = cycle((old, new))
        courses += [Course(letter, await next(turns).send(letter)) for letter in LETTERS[3:]]
        try:
            await _watch(mailworld, turns, story, courses)
        finally:
            print(told.getvalue(), old.last_words(), new.last_words(), sep="\n\n")  # noqa: T201  # shown if it fails
        assert [course.letter.name for course in courses if not course.ok] == []
        assert len(mailworld.submitted) == len(LETTERS)
        assert not old.was_killed
    faults = [line for line in old.log.read_text().splitlines() if "Traceback" in line]
    # Before 0006 statements were prepared, and each failed once where a table had changed.
    assert [line for line in faults if "cached plan must not change result type" not in line] == []
    assert "deadlock" not in old.log.read_text()
    assert "Traceback" not in new.log.read_text()
    assert not new.was_killed
    postgres.drop(url)
