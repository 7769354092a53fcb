"""What every test shares: Hypothesis profiles, loopback only, databases, the real servers, and what is left out."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.daemon_process import environment
from tests.databases import ENGINES, databases_on, engines_of
from tests.fork_server import ForkServer
from tests.history import revision_before
from tests.servers.availability import why_not
from tests.servers.postgres import Postgres, why_no_postgres
from tests.servers.world import World
from tests.unit import TAKE_LONG, is_left_out

settings.register_profile("fast", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("fast"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

REQUIRE_ALL = os.environ.get("RECEIPTD_REQUIRE_ALL") == "1"

collect_ignore = [] if revision_before() else ["test_rolling_upgrade.py"]
"""An sdist or a shallow clone has no version before the newest migration to run."""

_marks = pytest.StashKey[dict[str, int]]()


# --- no network beyond loopback -------------------------------------------------------------------------------------


class BeyondLoopback(AssertionError):
    """A test reached for the network; tests talk to loopback only."""


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if not (host.startswith("127.") or host in ("::1", "localhost", "0.0.0.0")):
                raise BeyondLoopback(f"a test tried to connect to {host}")
        return connect(self, address)

    return guarded


# --- our own processes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Return where daemons and commands are forked."""
    with closing(ForkServer(environment())) as fork_server:
        yield fork_server


# --- the database ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a PostgreSQL server, started once for the whole run."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module", autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the engine of the tests' databases (tests/databases.py says which tests run on both)."""
    name: str = getattr(request, "param", ENGINES[0])
    with databases_on(request.getfixturevalue("postgres") if name == "postgresql" else None):
        yield name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    engines = engines_of(str(metafunc.definition.path.relative_to(Path(__file__).parent)), metafunc.definition)
    if engines:
        metafunc.parametrize("engine", engines, indirect=True, scope="module")


def _needs_postgres(item: pytest.Item) -> bool:
    chosen = getattr(item, "callspec", None)
    return "postgres" in getattr(item, "fixturenames", ()) or (
        chosen is not None and chosen.params.get("engine") == "postgresql"
    )


# --- the real mail servers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Return the mail world, started once for the whole run (tests/servers/world.py says what is in it)."""
    world = World()
    try:
        world.start()
        yield world
    finally:
        world.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.unit:
        left = {item for item in items if _needs_postgres(item) or getattr(item, "originalname", "") in TAKE_LONG}
        config.hook.pytest_deselected(items=[*left])
        items[:] = [item for item in items if item not in left]
    for item in items:
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker("servers")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the servers before the first test, for that may take longer than any test is given."""
    if session.config.option.collectonly:
        return
    if any(item.get_closest_marker("servers") for item in session.items):
        why_not()
    if any(_needs_postgres(item) for item in session.items):
        why_no_postgres()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out where its servers can't run: here and nowhere else."""
    if item.get_closest_marker("servers") and (reason := why_not()) is not None:
        pytest.skip(f"no real mail servers: {reason}")
    if _needs_postgres(item) and (reason := why_no_postgres()) is not None:
        pytest.skip(f"no PostgreSQL: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what the mail servers wrote into their logs meanwhile."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if world is not None and call.when == "setup":
        item.stash[_marks] = {name: len(log) for name, log in world.logs().items()}
    elif world is not None and call.when == "call" and report.failed:
        for name, log in world.logs().items():
            if since := log[item.stash[_marks].get(name, 0) :].strip():
                report.sections.append((f"log of {name}", since[-20_000:]))
    return report


# --- make unit ------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--unit", action="store_true", help="only tests that need no process (tests/unit.py)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't even read what `make unit` leaves out."""
    return True if config.option.unit and is_left_out(collection_path) else None


# --- what was left out ----------------------------------------------------------------------------------------------


def _left_out(terminal: pytest.TerminalReporter) -> dict[str, list[str]]:
    """Return the tests that were skipped, by reason."""
    reasons: dict[str, list[str]] = {}
    for report in terminal.stats.get("skipped", []):
        if isinstance(report, pytest.TestReport) and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            reasons.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    return reasons


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, tests in _left_out(terminalreporter).items():
        files = sorted({test.partition("::")[0] for test in tests})
        terminalreporter.section("left out", sep="-")
        terminalreporter.line(f"{len(tests)} tests of {', '.join(files)}: {reason}")
        if REQUIRE_ALL:
            terminalreporter.line("RECEIPTD_REQUIRE_ALL=1: that is a failure.", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if REQUIRE_ALL and isinstance(terminal, pytest.TerminalReporter) and _left_out(terminal):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
