"""The harness itself: its servers end with the run, its ports are its own, its cache is never half full."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import packages
from tests.servers.packages import Unobtainable, unpack
from tests.servers.ports import Ports
from tests.servers.server import ServerDied
from tests.servers.world import HOST, World

REPOSITORY = Path(__file__).parents[1]

# --- processes ------------------------------------------------------------------------------------------------------

ANOTHER_RUN = """
import time
from tests.servers.world import World
world = World()
world.start()
print(world.root, world.relay.smtp, world.imap.imaps, *world.port_of.values(), flush=True)
time.sleep(60)
"""


def test_servers_end_with_a_run_that_is_killed_and_its_folder_with_the_next_run(world: World) -> None:
    other = subprocess.Popen([sys.executable, "-c", ANOTHER_RUN], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        folder, *ports = other.stdout.readline().split()
        assert ports
        assert all(_is_open(int(port)) for port in ports)
        assert world["relay"].is_running  # two runs at once
        other.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 5
    while any(_is_open(int(port)) for port in ports):
        assert time.monotonic() < give_up, "a server outlived its run"
        time.sleep(0.02)
    assert Path(folder).is_dir()
    next_run = World()
    next_run.remove()
    assert not Path(folder).exists()
    assert world.root.is_dir()


def test_a_server_sees_the_machine_read_only(world: World) -> None:
    for server in world.servers.values():
        first = server.first_process()
        inside = Path(f"/proc/{first}/root{server.here}/machine")
        for place in ("usr", "etc", "var", "root"):
            with pytest.raises(OSError, match="Read-only file system"):
                (inside / place / "touched").touch()


def test_a_stopped_server_is_gone_when_stop_returns(world: World) -> None:
    osmtpd = world["osmtpd"]
    osmtpd.stop()
    assert not osmtpd.is_running
    assert not _is_open(world.port_of["osmtpd"])
    osmtpd.start()
    assert _is_open(world.port_of["osmtpd"])


def test_a_server_that_does_not_come_up_says_why(world: World) -> None:
    osmtpd = world["osmtpd"]
    configuration = osmtpd.here / "etc" / "smtpd.conf"
    good = configuration.read_text(encoding="utf-8")
    osmtpd.stop()
    try:
        configuration.write_text("nonsense\n", encoding="utf-8")
        with pytest.raises(ServerDied, match="syntax error"):
            osmtpd.start()
    finally:
        configuration.write_text(good, encoding="utf-8")
        osmtpd.restart()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


# --- ports ----------------------------------------------------------------------------------------------------------


def test_a_port_is_claimed_until_it_is_released() -> None:
    ports = Ports(["only"])
    rival = Ports([])
    assert not rival._claim(ports["only"])
    ports.release()
    assert rival._claim(ports["only"])
    rival.release()


def test_a_port_somebody_listens_on_is_never_taken() -> None:
    with socket.create_server((HOST, 0)) as stranger:
        assert not Ports([])._claim(stranger.getsockname()[1])


# --- packages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package of our own, which stands for what apt would download into an empty cache."""
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: lamp\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@a.test>\nDescription: a lamp\n"
    )
    (tree / "lib").mkdir()
    (tree / "lib" / "lamp").write_text("light")
    deb = tmp_path / "lamp.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(deb)], check=True, capture_output=True)
    monkeypatch.setattr(packages, "_download", lambda names: [deb])
    return deb


@pytest.mark.servers
def test_a_damaged_download_leaves_nothing_behind(archive: Path) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-100])
    with pytest.raises(Unobtainable, match="dpkg-deb"):
        unpack("lamp")
    archive.write_bytes(whole)
    assert (unpack("lamp") / "usr" / "lib" / "lamp").read_text() == "light"


@pytest.mark.servers
def test_without_network_an_earlier_folder_will_do(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = unpack("lamp")
    archive.unlink()
    assert unpack("lamp") == earlier
    monkeypatch.setattr(packages, "_fingerprint", lambda names: "f" * 16)  # a library was installed meanwhile
    assert unpack("lamp") == earlier


# --- what is left out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("require_all", "status"), [("", 0), ("1", 1)])
def test_where_servers_cannot_run_the_summary_says_so_once(require_all: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/acceptance/test_servers.py", "-k", "relay"],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": "/nonexistent", "RECEIPTD_REQUIRE_ALL": require_all},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "of tests/acceptance/test_servers.py: no real mail servers: " in done.stdout
    assert done.returncode == status
