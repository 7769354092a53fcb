"""The daemon: its steps wake each other, systemd is told the truth, and it ends as it should."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlmodel import select
from structlog.testing import capture_logs

from receiptd import cli, errors, systemd, telemetry
from receiptd import daemon as daemons
from receiptd import step as steps
from receiptd.daemon import Daemon
from receiptd.facts import Delivery
from receiptd.models import Folder, Recipient, ReportRow
from receiptd.settle import settle
from receiptd.step import Step
from receiptd.store import Store, ensure, evidence, folders
from receiptd.watchdog import Watchdog
from tests.api_fixture import letter
from tests.fake_imap import FakeImap, Message
from tests.fake_smtp import FakeSMTP, Hang
from tests.receiver import Receiver
from tests.steps_fixture import dsn, settings_in

HOURLY = timedelta(hours=1)


class Supervisor:
    """What systemd would hear."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Return every state told so far."""
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard

    async def hear(self, state: str) -> None:
        while state not in self.listen():
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self._socket.close()


class Running:
    """A daemon in this process, whose steps no clock ticks: what happens, a wake has caused."""

    def __init__(self, daemon: Daemon, folder: Path, smtp: FakeSMTP, imap: FakeImap, receiver: Receiver) -> None:
        self.daemon, self.folder = daemon, folder
        self.smtp, self.imap, self.receiver = smtp, imap, receiver
        self.supervisor = Supervisor(folder / "notify")
        self.task: asyncio.Task[None] | None = None
        self.news = asyncio.Event()
        imap.on("IDLE", self._idle)

    async def _idle(self, conversation: Any, tag: str) -> None:
        await conversation.send("+ idling\r\n")
        await self.news.wait()
        self.news.clear()
        await conversation.send(f"* {len(self.imap.messages)} EXISTS\r\n")
        assert await conversation.read_line() == b"DONE"
        await conversation.send("TAG OK done\r\n", tag)

    async def start(self) -> None:
        self.task = asyncio.create_task(self.daemon.run())
        await self.supervisor.hear("READY=1")
        while not self.imap.commands("IDLE"):
            await asyncio.sleep(0.002)

    async def post(self) -> dict[str, Any]:
        transport = httpx2.AsyncHTTPTransport(uds=str(self.folder / "api.sock"))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/v1/messages", json=letter())
        assert answer.status_code == 202, answer.text
        taken: dict[str, Any] = answer.json()
        return taken

    async def row(self) -> Recipient:
        async with self.daemon.store.read() as session:
            return (await session.exec(select(Recipient))).one()

    async def reached_dot(self) -> None:
        while not self.smtp.messages:
            await asyncio.sleep(0.002)

    async def ended(self) -> None:
        assert self.task is not None
        async with asyncio.timeout(10):
            await self.task


def _settings(folder: Path, smtp: FakeSMTP, imap: FakeImap, receiver: Receiver) -> Any:
    (folder / "secret").touch()
    hook = {
        "name": "ops", "url": receiver.url("ops"), "secret_file": str(folder / "secret"),
        "events": ["receipt.*", "receipt.met"],
    }  # fmt: skip
    box = {
        "url": f"imap://receipts@127.0.0.1:{imap.port}", "password_file": str(folder / "password"),
        "folders": ["INBOX"], "poll": "1h",
    }  # fmt: skip
    return settings_in(
        folder, submission={"url": f"smtp://127.0.0.1:{smtp.port}"}, mailbox=[box], webhook=[hook], policy={}
    )


@asynccontextmanager
async def in_this_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, smtp: FakeSMTP | None = None
) -> AsyncIterator[Running]:
    receiver = Receiver()
    try:
        async with smtp or FakeSMTP() as relay, FakeImap() as imap:
            settings = _settings(folder, relay, imap, receiver)
            ensure(settings.service.database)
            monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
            daemon = Daemon(Store(settings))
            for step in daemon.steps:
                step.every = HOURLY
            running = Running(daemon, folder, relay, imap, receiver)
            try:
                yield running
            finally:
                running.supervisor.close()
                if running.task is not None and not running.task.done():
                    running.task.cancel()
                    await asyncio.gather(running.task, return_exceptions=True)
    finally:
        await asyncio.to_thread(receiver.close)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    async with in_this_process(tmp_path, monkeypatch) as running:
        await running.start()
        yield running


@asynccontextmanager
async def at_the_final_dot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A daemon whose relay has a message and doesn't answer yet."""
    async with in_this_process(folder, monkeypatch, smtp=FakeSMTP(script={".": [Hang()]})) as running:
        await running.start()
        await running.post()
        await running.reached_dot()
        yield running


# --- one step wakes the next --------------------------------------------------------------------------------------


async def test_a_message_leaves_and_its_report_is_told_without_waiting_for_any_clock(running: Running) -> None:
    await asyncio.sleep(0.1)  # the first tick of each step is over
    began = time.monotonic()
    await running.post()
    await running.reached_dot()
    assert time.monotonic() - began < 1
    while (await running.row()).delivery is not Delivery.ACCEPTED:
        await asyncio.sleep(0.002)
    token = (await running.row()).token
    running.imap.messages[1] = Message(
        dsn(token).replace(b"\n", b"\r\n"), date=time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime())
    )
    began = time.monotonic()
    running.news.set()
    while not running.receiver.alerts:
        await asyncio.sleep(0.002)
    assert time.monotonic() - began < 2
    assert [alert.type for alert in running.receiver.alerts] == ["receipt.met"]


async def test_a_step_goes_on_while_it_moves_rows_and_hears_what_rings_meanwhile() -> None:
    moved, stop = [3, 2, 0, 1, 0], asyncio.Event()
    done: list[int] = []

    async def work() -> int:
        done.append(moved.pop(0))
        if len(done) == 3:
            step.wake.set()  # while it works
        if not moved:
            stop.set()
            step.wake.set()
        return done[-1]

    step = Step("settle", work, every=HOURLY, timeout=HOURLY)
    await step.tick()
    async with asyncio.timeout(5):
        await step.run(Watchdog(), stop)
    assert done == [3, 2, 0, 1, 0]


async def test_a_step_that_fails_is_told_and_works_again_at_the_next_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_AFTER_A_FAULT", 0)
    told: list[str] = []
    monkeypatch.setattr(steps._log, "exception", lambda text, **words: told.append(words["step"]))
    stop, calls = asyncio.Event(), 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        step.wake.set()
        if calls == 3:
            stop.set()
        raise ZeroDivisionError

    step = Step("settle", work, every=HOURLY, timeout=HOURLY)
    await step.tick()
    watchdog = Watchdog()
    async with asyncio.timeout(5):
        await step.run(watchdog, stop)
    assert told == ["settle"] * 3
    assert watchdog.stuck() == []


async def test_what_nobody_foresaw_ends_the_daemon_and_is_not_swallowed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(running.daemon.watchdog, "stuck", fail)
    monkeypatch.setenv("WATCHDOG_USEC", "10000")
    feeder = asyncio.create_task(running.daemon._feed_watchdog())
    with pytest.raises(ZeroDivisionError):
        await daemons._first_fault(running.daemon.stop, [feeder])


# --- what systemd is told -----------------------------------------------------------------------------------------


async def test_it_is_ready_when_its_sockets_answer_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: dict[str, int] = {}
    true = systemd.notify

    def notify(*states: str) -> bool:
        with socket.socket(socket.AF_UNIX) as knock:
            answered.setdefault(states[0], knock.connect_ex(str(tmp_path / "api.sock")))
        return true(*states)

    monkeypatch.setattr(systemd, "notify", notify)
    async with in_this_process(tmp_path, monkeypatch) as running:
        await running.start()
        assert answered == {"READY=1": 0}


async def test_a_daemon_that_cannot_open_its_sockets_never_says_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_this_process(tmp_path, monkeypatch) as running:
        (tmp_path / "api.sock").write_text("in the way")
        with pytest.raises(errors.CantCreate):
            await running.daemon.run()
        assert running.supervisor.listen() == []
        await running.daemon.store.close()
        await running.daemon.http.aclose()


async def test_the_watchdog_is_fed_until_a_step_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    seconds = 0.0
    async with in_this_process(tmp_path, monkeypatch) as running:
        watchdog = running.daemon.watchdog = Watchdog(lambda: seconds)
        await running.start()
        await running.supervisor.hear("WATCHDOG=1")
        with watchdog.track("settle", timedelta(minutes=1)):
            seconds = 1000.0
            await asyncio.sleep(0.05)
            running.supervisor.listen()
            running.supervisor.heard.clear()
            await asyncio.sleep(0.15)
            assert "WATCHDOG=1" not in running.supervisor.listen(), "systemd is left to end this process"
        await running.supervisor.hear("WATCHDOG=1")


# --- the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_end_it_lets_the_transaction_under_way_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with at_the_final_dot(tmp_path, monkeypatch) as running:
        os.kill(os.getpid(), number)
        await running.supervisor.hear("STOPPING=1")
        await asyncio.sleep(0.05)
        assert running.task is not None
        assert not running.task.done()
        running.smtp.say_unasked("250 2.0.0 Ok: queued as last")
        await running.ended()
        assert (await _rows_of(tmp_path)) == [Delivery.ACCEPTED]
        assert not (tmp_path / "api.sock").exists()


async def test_the_journal_tells_when_it_begins_to_end_and_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_the_final_dot(tmp_path, monkeypatch) as running:
        with capture_logs() as logs:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            await running.supervisor.hear("STOPPING=1")
            assert [line["event"].partition(";")[0] for line in logs] == ["receiptd is stopping"]
            assert logs[0]["signal"] == "SIGTERM"
            running.smtp.say_unasked("250 2.0.0 Ok: queued as last")
            await running.ended()
        assert logs[-1]["event"] == "receiptd has stopped"


async def test_the_journal_tells_once_of_all_that_a_sweep_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MOST", 1)
    monkeypatch.setattr(evidence, "_AT_ONCE", 2)
    async with in_this_process(tmp_path, monkeypatch) as running:
        store = running.daemon.store
        came = [folders.Raw(uid, store.now(), 20, f"Subject: {uid}\n\nBuy!".encode()) for uid in range(1, 7)]
        await store.transact(
            lambda session: folders.keep(session, "elsewhere", "INBOX", 1, came, upto=6, now=store.now())
        )
        await settle(store)
        with capture_logs() as logs:
            await running.start()
            while await _count(store) > 1:
                await asyncio.sleep(0.002)
            os.kill(os.getpid(), signal.SIGTERM)
            await running.ended()
    assert [line["noise"] for line in logs if "removed" in line["event"]] == [5]


async def _count(store: Store) -> int:
    async with store.read() as session:
        return len((await session.exec(select(ReportRow.id))).all())


async def test_what_does_not_end_in_time_is_cut_off_and_uncertain_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "DRAIN", timedelta(seconds=0.1))
    async with at_the_final_dot(tmp_path, monkeypatch) as running:
        os.kill(os.getpid(), signal.SIGTERM)
        await running.ended()
        assert await _rows_of(tmp_path) == [Delivery.QUEUED]
        running.daemon = Daemon(Store(running.daemon.store.settings))
        running.imap.got.clear()
        running.supervisor.heard.clear()
        await running.start()
        assert await _rows_of(tmp_path) == [Delivery.UNCERTAIN]
        assert len(running.smtp.messages) == 1


async def _rows_of(folder: Path) -> list[Delivery]:
    store = Store(settings_in(folder))
    async with store.read() as session:
        rows = (await session.exec(select(Recipient))).all()
    await store.close()
    return [row.delivery for row in rows]


# --- the clock ----------------------------------------------------------------------------------------------------


async def test_when_the_clock_jumps_no_read_of_before_counts(running: Running) -> None:
    async with running.daemon.store.read() as session:
        assert (await session.exec(select(Folder.read_at))).all() != [None]
    running.daemon.clock_offset -= 59
    await running.daemon._monitor()
    assert running.daemon.clock_health.is_up, "less than a minute is drift"
    running.daemon.clock_offset -= 10
    await running.daemon._monitor()
    assert not running.daemon.clock_health.is_up
    async with running.daemon.store.read() as session:
        assert (await session.exec(select(Folder.read_at))).all() == [None]


# --- the start ----------------------------------------------------------------------------------------------------

CONFIG = """
[service]
database = "sqlite:///{folder}/receiptd.db"
listen = [{{unix = "{folder}/api.sock"}}]
[submission]
url = "smtp://127.0.0.1:25"
[receipts]
address = "receipts@a.test"
[[mailbox]]
url = "imaps://receipts%40a.test@127.0.0.1"
password_file = "password"
[[webhook]]
name = "ops"
url = "http://127.0.0.1:1/"
secret_file = "secret"
"""

MISTAKES: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.partition("[[webhook]]")[0], "nobody would be told"),
    (lambda text: text.replace("listen", "lissen"), "listen"),
    (lambda text: text.replace("sqlite", "mysql"), "service.database"),
    (lambda text: text.replace('"secret"', '"none"'), "none"),
    (lambda text: text + "[", "TOML"),
    (
        lambda text: re.sub("sqlite:.*db", "postgresql://me:s3cret@db:port/x", text),
        "port in the database's URL must be",
    ),
    (lambda text: text + '[[service.token]]\nname = "erp"\nsecret_file = "password"\n', "fewer than 24 characters"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_in_the_settings_is_78_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(telemetry, "configure_logging", lambda: None)
    mistake, word = MISTAKES[number]
    (tmp_path / "password").write_text("x")
    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    config = tmp_path / "receiptd.toml"
    config.write_text(mistake(CONFIG.format(folder=tmp_path)))
    assert cli.main(["run", "--config", str(config)]) == os.EX_CONFIG
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1
    assert not (tmp_path / "receiptd.db").exists()
