"""Cyrus, Courier and GNU imap4d do the main job: a report is collected and settled once, never lost, never twice."""

from __future__ import annotations

import asyncio
import imaplib
import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, func, select

from receiptd.check import mailboxes
from receiptd.collect import Progress, collect, watch
from receiptd.facts import EventKind
from receiptd.mailbox import Mailbox, MailboxDown, open_mailbox
from receiptd.models import EventRow, Recipient
from receiptd.settings import MailboxSettings
from receiptd.settle import settle
from receiptd.store.monitors import Health
from tests.acceptance.daemons import daemon_in
from tests.acceptance.readers import is_met
from tests.fork_server import ForkServer
from tests.servers.imap_programs import USERS, home
from tests.servers.programs import VMAIL
from tests.servers.world import HOST, World
from tests.steps_fixture import StepsFixture, dsn, open_steps

NAMES = ("cyrus", "courier", "imap4d")
AFTER = ("keep", "seen", "move:Processed", "delete")

_users = iter(USERS)


@dataclass
class Foreign:
    """A mailbox at a server that isn't Dovecot, which no other test uses."""

    name: str
    here: Path
    port: int
    password: str
    user: str = field(default_factory=lambda: next(_users))
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"imap://{self.user}@{HOST}:{self.port}"

    def deliver(self, raw: bytes, *, at: int | None = None) -> None:
        """Put a message in, as the server's own delivery agent does; *at*: its place in a Maildir's order."""
        if self.name == "cyrus":
            with self.client() as other:
                assert other.append("INBOX", "", "", raw)[0] == "OK"
        elif self.name == "courier":
            new = home(self.here, self.user) / "Maildir" / "new" / f"{at or next(self._numbers) + 1000:010}.M1.a.test"
            _give(new, raw.replace(b"\r\n", b"\n"))
        else:
            mbox = self.here / "mail" / self.user
            before = mbox.read_bytes() if mbox.exists() else b""
            head = f"From MAILER-DAEMON {time.asctime(time.gmtime())}\n".encode()
            _give(mbox, before + head + raw.replace(b"\r\n", b"\n") + b"\n")

    def client(self) -> imaplib.IMAP4:
        """Return another program that is logged in."""
        other = imaplib.IMAP4(HOST, self.port, timeout=20)
        other.login(self.user, self.password)
        return other

    def flags(self, folder: str = "INBOX") -> list[bytes]:
        """Return the flags of every message in *folder*."""
        with self.client() as other:
            if other.select(folder, readonly=True)[0] != "OK":
                return []
            return [line for line in other.fetch("1:*", "(FLAGS)")[1] if isinstance(line, bytes)]


def _give(path: Path, content: bytes) -> None:
    """Write a file whole and at once, for the user that the server becomes."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content)
    os.chown(unfinished, VMAIL, VMAIL)
    unfinished.chmod(0o600)
    unfinished.rename(path)


@pytest.fixture(params=NAMES)
def foreign(request: pytest.FixtureRequest, world: World) -> Foreign:
    return _foreign(world, request.param)


def _foreign(world: World, name: str) -> Foreign:
    server, port = world.imap_server(name)
    return Foreign(name, server.here, port, world.password)


@dataclass
class Post:
    """Steps whose mailbox is foreign."""

    steps: StepsFixture
    foreign: Foreign

    @property
    def box(self) -> MailboxSettings:
        return self.steps.store.settings.mailbox[0]

    def opened(self) -> AbstractAsyncContextManager[Mailbox]:
        return open_mailbox(self.box, password=self.foreign.password)

    async def collect(self) -> int:
        """Read the mailbox on a connection of its own, and settle what came."""
        async with self.opened() as mailbox:
            new = await collect(self.steps.store, self.box, mailbox, Progress())
        while await settle(self.steps.store):
            pass
        return new

    async def delivered(self) -> int:
        """Return how many recipients are known to have it, and see that each was told once."""
        async with self.steps.store.read() as session:
            events = select(func.count()).where(EventRow.kind == EventKind.DELIVERED)
            recipients = select(func.count()).where(col(Recipient.level) == "delivered")
            told = (await session.exec(events)).one()
            assert told == (await session.exec(recipients)).one()
            return int(told)

    async def report(self, **where: Any) -> None:
        """Submit a letter and let its report come."""
        taken = await self.steps.submitted()
        self.foreign.deliver(dsn(taken.recipients[0].token).replace(b"\n", b"\r\n"), **where)


@asynccontextmanager
async def posted(
    folder: Path, foreign: Foreign, *, box: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Post]:
    mailbox = {"url": foreign.url, "password_file": str(folder / "password"), "idle": False, **(box or {})}
    async with open_steps(folder, mailbox=[mailbox], **more) as steps:
        yield Post(steps, foreign)


@pytest.mark.parametrize("after", AFTER)
async def test_a_report_is_settled_once_and_what_after_says_is_done(
    foreign: Foreign, tmp_path: Path, after: str
) -> None:
    async with posted(tmp_path, foreign, box={"after": after}) as post:
        await post.report()
        await post.report()
        assert await post.collect() == 2
        foreign.deliver(b"Subject: nothing of ours\r\n\r\nx\r\n")
        await post.report()
        assert await post.collect() == 2
        for _ in range(2):
            assert await post.collect() == 0
        assert await post.delivered() == 3
    _see_what_after_left(foreign, after)


def _see_what_after_left(foreign: Foreign, after: str) -> None:
    flags = foreign.flags()
    if after == "keep":
        assert (len(flags), sum(rb"\Seen" in line for line in flags)) == (4, 0)
    elif after == "seen":
        assert (len(flags), sum(rb"\Seen" in line for line in flags)) == (4, 3)
    elif foreign.name == "imap4d":  # no UIDPLUS: they stay until somebody expunges
        assert (len(flags), sum(rb"\Deleted" in line for line in flags)) == (4, 3)
    else:
        assert len(flags) == 1
    if after.startswith("move:"):
        assert len(foreign.flags("Processed" if foreign.name == "imap4d" else "INBOX.Processed")) == 3


async def test_check_finds_nothing_wrong(foreign: Foreign, tmp_path: Path) -> None:
    async with posted(tmp_path, foreign, box={"after": "move:Processed"}) as post:
        foreign.deliver(b"Subject: x\r\n\r\nx\r\n")
        found = [one async for one in mailboxes.findings(post.steps.store.settings)]
        assert not [one for one in found if one.is_failure]
        prefix = "" if foreign.name == "imap4d" else "INBOX."
        assert any(f"go to {prefix}Processed, which is made" in one.sentence for one in found)


@pytest.mark.parametrize("subaddress", ["+", ""])
async def test_couriers_uids_are_never_taken_for_those_of_other_messages(
    world: World, tmp_path: Path, subaddress: str
) -> None:
    """What comes later may sort earlier, and has then the UID that EXAMINE gave to another one."""
    foreign = _foreign(world, "courier")
    receipts = {"address": "receipts@a.test", "subaddress": subaddress}
    async with posted(tmp_path, foreign, receipts=receipts) as post:
        for number in range(1, 9):
            await post.report(at=9000 - 100 * number)
            assert await post.collect() == 1, number
        assert await post.delivered() == 8
        assert await post.collect() == 0


@pytest.mark.parametrize("subaddress", ["+", ""])
async def test_a_uidvalidity_that_courier_makes_up_at_each_opening_is_no_hot_loop(
    world: World, tmp_path: Path, subaddress: str
) -> None:
    foreign = _foreign(world, "courier")
    receipts = {"address": "receipts@a.test", "subaddress": subaddress}
    async with posted(tmp_path, foreign, box={"idle": True}, receipts=receipts) as post:
        foreign.deliver(b"Subject: x\r\n\r\nx\r\n")
        reads: list[int] = []

        async def on_read(new: int) -> None:
            reads.append(new)

        stop, health = asyncio.Event(), Health("mailbox:receipts")
        task = asyncio.create_task(watch(post.steps.store, post.box, health, post.opened, stop=stop, on_read=on_read))
        await asyncio.sleep(4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert 1 <= len(reads) <= 2
        assert health.is_up, health.reason


async def test_imap4d_is_not_asked_for_the_starttls_that_it_does_not_offer(world: World) -> None:
    foreign = _foreign(world, "imap4d")
    url = foreign.url.replace("imap:", "imap+starttls:")
    settings = MailboxSettings(url=url, password_file=Path("/run/password"))
    with pytest.raises(MailboxDown, match="offers no STARTTLS"):
        async with open_mailbox(settings, password=world.password):
            pass


def test_the_daemon_reads_it(fork_server: ForkServer, world: World, foreign: Foreign) -> None:
    with daemon_in(fork_server, world, mailbox=foreign.url) as daemon:
        letter = daemon.send("alice@box.test", options=("--require", "delivered"))
        report = world.await_message(daemon.receipts_address, lambda raw: b"delivery-status" in raw)
        foreign.deliver(report.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        shown = daemon.wait(letter, is_met)
        assert shown["recipients"][0]["delivery"] == "delivered"
        assert len(daemon.reports()) == 1
        assert daemon.ready()["mailbox:receipts"]["ok"]
