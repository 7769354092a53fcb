"""`receiptd demo` shows the main job: the real daemon as a process, seven letters, each with its fate."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from receiptd import sandbox, settings
from receiptd.sandbox.letters import FATES, LETTERS, Outcome
from receiptd.sandbox.play import Course, Result
from receiptd.sandbox.story import Story
from tests.servers.postgres import Postgres

DEMO = (sys.executable, "-m", "receiptd", "demo")


@pytest.fixture(scope="module")
def shown() -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DEMO, "--json"], capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.timeout(120)
def test_every_letter_meets_its_fate(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stderr
    result = json.loads(shown.stdout)
    assert [letter["name"] for letter in result["letters"]] == [letter.name for letter in LETTERS]
    assert all(letter["ok"] and letter["got"] == letter["expected"] for letter in result["letters"])
    assert 0 < result["seconds"] < 90


@pytest.mark.timeout(120)
def test_the_story_goes_to_stderr_without_colour_where_stdout_is_data(shown: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in shown.stderr
    assert f"{len(LETTERS)} of {len(LETTERS)} letters met their fate" in shown.stderr
    assert "receipt.overdue, level 2" in shown.stderr


@pytest.mark.timeout(150)
def test_three_nodes_on_postgresql_share_the_work_and_every_letter_meets_its_fate(postgres: Postgres) -> None:
    url = postgres.empty_database()
    command = [*DEMO, "--json", "--nodes", "3", "--database", url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
    assert shown.returncode == 0, shown.stderr
    assert all(letter["ok"] for letter in json.loads(shown.stdout)["letters"]), shown.stderr
    assert [line.split()[-1] for line in shown.stderr.splitlines() if " ready " in line] == [
        "node-1",
        "node-2",
        "node-3",
    ]
    again = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert again.returncode == 64
    assert "needs an empty database" in again.stderr


def test_several_nodes_on_sqlite_are_refused_with_a_sentence() -> None:
    shown = subprocess.run([*DEMO, "--nodes", "3"], capture_output=True, text=True, timeout=30, check=False)
    assert shown.returncode == 64
    assert "Several nodes need PostgreSQL" in shown.stderr
    assert "make demo ARGS='--nodes 3'" in shown.stderr


@pytest.mark.timeout(60)
def test_the_daemon_dies_with_a_killed_demo(tmp_path: Path) -> None:
    with _ready_demo(tmp_path / "told") as (demo, daemon):
        demo.kill()
        demo.wait()
        _wait(lambda: not Path(f"/proc/{daemon}").exists())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "told"
    with _ready_demo(told) as (demo, daemon):
        demo.send_signal(number)
        assert demo.wait(40) == 130
        assert not Path(f"/proc/{daemon}").exists()
        assert not _directory(told).exists()
    assert "Traceback" not in told.read_text()


@contextmanager
def _ready_demo(told: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the demo and yield it and its daemon's pid as soon as that is ready."""
    with told.open("w") as out, subprocess.Popen(DEMO, stdout=out, stderr=out) as demo:
        try:
            _wait(lambda: "ready" in told.read_text())
            yield demo, _daemon_of(demo.pid)
        finally:
            demo.kill()
            shutil.rmtree(_directory(told), ignore_errors=True)  # a killed demo can't


def _directory(told: Path) -> Path:
    return Path(next(line.split()[-1] for line in told.read_text().splitlines() if "settings" in line)).parent


def _daemon_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (daemon,) = [int(child) for child in children if b"\0run\0" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return daemon


def _wait(happened: Callable[[], bool], seconds: float = 40) -> None:
    patience = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < patience, "waited too long"
        time.sleep(0.1)


async def test_the_settings_it_writes_are_good(tmp_path: Path) -> None:
    async with sandbox.world(tmp_path) as world:
        loaded = settings.load(world.write_settings(tmp_path), {})
    assert {webhook.name for webhook in loaded.webhook} == {"ops", "boss"}
    assert loaded.receipts.address == world.receipts_address
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600


def test_every_letter_goes_to_a_destination_with_a_fate_and_each_fate_has_its_letter() -> None:
    assert {letter.address.partition("@")[2] for letter in LETTERS} == set(FATES)


def test_an_unexpected_alert_is_a_failure_and_is_shown() -> None:
    met = Course(LETTERS[0], "1", got=LETTERS[0].expected)
    assert met.ok
    disturbed = Course(LETTERS[0], "1", got=replace(LETTERS[0].expected, alerts=LETTERS[2].expected.alerts))
    assert not disturbed.ok
    out, data = io.StringIO(), io.StringIO()
    result = Result((met, disturbed), (), 1.0)
    Story(out, data=data).closes(result)
    assert not result.ok
    assert "1 of 2 letters met their fate" in out.getvalue()
    assert [letter["ok"] for letter in json.loads(data.getvalue())["letters"]] == [True, False]


def test_an_alert_that_belongs_to_no_letter_is_a_failure() -> None:
    assert not Result((), ("an alert that no letter explains",), 1.0).ok


def test_the_story_shows_no_control_characters_of_strangers() -> None:
    out = io.StringIO()
    event = {"id": "1", "kind": "failed", "source": "dsn", "detail": {"diagnostic_code": "smtp; \x1b[2J\n550 \u202eno"}}
    Story(out).events(Course(LETTERS[2], "1", got=Outcome("", "", "")), {"events": [event]})
    assert "\x1b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    assert "smtp; \\x1b[2J 550 \\u202eno" in out.getvalue()
