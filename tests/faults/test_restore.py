"""A database that is put back from a backup sends nothing that may have been sent since."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.facts import Delivery
from receiptd.recipients import restore
from receiptd.store.ledger import Ledger, Note
from tests.daemon_process import DaemonProcess, Json, await_that, cache, event, kinds
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.faults.steps_with_peers import steps_with_peers
from tests.fork_server import ForkServer

LETTERS = 5


class Copies:
    """What a backup took of a daemon's data, and how it comes back."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.folder = Path(tempfile.mkdtemp(prefix="rcpt-copy-"))

    def cp(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)

    def take_folder(self) -> None:
        """As docs/deploy.md tells it, though the service may run."""
        self.cp(self.daemon.folder, self.folder / "folder")

    def put_back_folder(self) -> None:
        shutil.rmtree(self.daemon.folder)
        self.cp(self.folder / "folder", self.daemon.folder)

    def take_machine(self) -> None:
        """Take the note outside the folder along."""
        self.take_folder()
        note = note_of(self.daemon)
        subprocess.run(["cp", "-a", str(note), str(self.folder / note.name)], check=True)

    def put_back_machine(self) -> None:
        self.put_back_folder()
        for note in self.folder.glob("*.note"):
            (cache() / note.name).unlink(missing_ok=True)
            subprocess.run(["cp", "-a", str(note), str(cache())], check=True)

    def take_backup(self) -> None:
        """`.backup`, under the running daemon."""
        with sqlite3.connect(database(self.daemon)) as source, sqlite3.connect(self.folder / "backup.db") as target:
            source.backup(target)
        source.close()
        target.close()

    def put_back_backup(self) -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{database(self.daemon)}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.folder / "backup.db", database(self.daemon))


def database(daemon: DaemonProcess) -> Path:
    return daemon.folder / "receiptd.db"


def note_of(daemon: DaemonProcess) -> Path:
    with sqlite3.connect(database(daemon)) as opened:
        ((name,),) = opened.execute("SELECT holder FROM lease WHERE name = 'sender'").fetchall()
    opened.close()
    return cache() / f"{name}.note"


@pytest.fixture
def daemon(fork_server: ForkServer, peers: Peers) -> Iterator[DaemonProcess]:
    with daemon_with(fork_server, peers) as daemon:
        yield daemon


@pytest.fixture
def copies(daemon: DaemonProcess) -> Iterator[Copies]:
    copies = Copies(daemon)
    yield copies
    shutil.rmtree(copies.folder)


@pytest.fixture
def queued(daemon: DaemonProcess, peers: Peers) -> list[str]:
    """Letters that wait for a relay that is down, after one that went out."""
    first = daemon.post("alice@b.test", within="1h")
    daemon.wait(first, is_accepted)
    peers.stop_relay()
    return [daemon.post(f"bob{number}@b.test", within="1h") for number in range(LETTERS)]


def is_accepted(recipient: Json) -> bool:
    return bool(recipient["delivery"] == "accepted")


def send(daemon: DaemonProcess, peers: Peers, letters: list[str]) -> None:
    """Let all that waits go out."""
    peers.start_relay()
    for letter in letters:
        daemon.run("retry", letter)
    for letter in letters:
        daemon.wait(letter, is_accepted)


def all_are_held(daemon: DaemonProcess, peers: Peers, letters: list[str]) -> None:
    for letter in letters:
        shown = daemon.wait(letter, lambda recipient: recipient["delivery"] == "uncertain")
        assert event(shown, "uncertain")["source"] == "clock"
        assert "backup" in event(shown, "uncertain")["detail"]["reason"]
    assert daemon.log.count("`receiptd retry --held` sends it all") == 1
    later = daemon.post("carol@b.test")
    daemon.wait(later, is_accepted)
    sent = [address for address in peers.recipients if address.startswith("bob")]
    assert len(sent) == len(set(sent)), "none went out twice"


Took = Callable[[Copies], None]

WAYS: dict[str, tuple[Took, Took]] = {
    "folder": (Copies.take_folder, Copies.put_back_folder),
    "backup": (Copies.take_backup, Copies.put_back_backup),
    "machine": (Copies.take_machine, Copies.put_back_machine),
}


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_queued_in_a_copy_is_held_however_it_was_taken_and_put_back(
    daemon: DaemonProcess, peers: Peers, queued: list[str], copies: Copies, way: str, kill: bool
) -> None:
    """Killed at once after the last final dot: no note may be late."""
    take, put_back = WAYS[way]
    take(copies)
    send(daemon, peers, queued)
    daemon.stop(kill=kill)
    put_back(copies)
    (daemon.folder / "daemon.log").unlink()
    daemon.start()
    all_are_held(daemon, peers, queued)


def test_what_was_queued_in_a_copy_of_a_stopped_service_is_held(
    daemon: DaemonProcess, peers: Peers, queued: list[str], copies: Copies
) -> None:
    daemon.stop()
    copies.take_folder()
    daemon.start()
    send(daemon, peers, queued)
    daemon.stop()
    copies.put_back_folder()
    (daemon.folder / "daemon.log").unlink()
    daemon.start()
    all_are_held(daemon, peers, queued)


def test_a_copy_that_is_put_back_a_second_time_is_held_again(
    daemon: DaemonProcess, peers: Peers, queued: list[str], copies: Copies
) -> None:
    copies.take_folder()
    send(daemon, peers, queued)
    for _ in range(2):
        daemon.stop(kill=True)
        copies.put_back_folder()
        daemon.start()
        daemon.run("retry", queued[0])
        daemon.wait(queued[0], is_accepted)
        assert daemon.message(queued[1])["recipients"][0]["delivery"] == "uncertain"


def test_a_copy_from_before_there_were_notes_is_held_and_an_upgrade_is_not(
    daemon: DaemonProcess, peers: Peers, queued: list[str], copies: Copies
) -> None:
    daemon.stop()
    note_of(daemon).unlink()
    with sqlite3.connect(database(daemon)) as opened:
        opened.execute("DELETE FROM lease")
    opened.close()
    copies.take_folder()
    daemon.start()
    assert "retry --held" not in daemon.log
    send(daemon, peers, queued)
    daemon.stop()
    copies.put_back_folder()
    (daemon.folder / "daemon.log").unlink()
    daemon.start()
    all_are_held(daemon, peers, queued)


def test_a_folder_on_another_machine_is_held(daemon: DaemonProcess, peers: Peers, queued: list[str]) -> None:
    note_of(daemon).unlink()
    daemon.stop(kill=True)
    peers.start_relay()
    daemon.start()
    all_are_held(daemon, peers, queued)


def test_a_machine_that_ended_without_stopping_the_service_is_held_for_a_snapshot_looks_the_same(
    daemon: DaemonProcess, peers: Peers, queued: list[str]
) -> None:
    daemon.stop(kill=True)
    peers.start_relay()
    daemon.environ["BOOT_ID"] = "another run"
    daemon.start()
    all_are_held(daemon, peers, queued)


def test_one_command_sends_all_that_is_held(daemon: DaemonProcess, peers: Peers, queued: list[str]) -> None:
    daemon.stop(kill=True)
    note_of(daemon).unlink()
    daemon.start()
    all_of_them = [daemon.message(letter)["recipients"][0]["delivery"] for letter in queued]
    assert all_of_them == ["uncertain"] * LETTERS
    daemon.stop()
    daemon.start()
    assert [kinds(daemon.message(letter)).count("uncertain") for letter in queued] == [1] * LETTERS
    peers.start_relay()
    ended = daemon.run("retry", "--held")
    assert (ended.status, ended.said) == (0, f"receiptd: what was held for {LETTERS} recipients is sent now\n")
    for letter in queued:
        daemon.wait(letter, is_accepted)
    assert daemon.run("retry", "--held").status == 65, "nothing is held any more"


@pytest.mark.parametrize(("kill", "boot"), [(False, ""), (True, ""), (False, "another run")])
def test_a_restart_of_the_daemon_or_of_a_machine_that_stopped_it_holds_nothing(
    daemon: DaemonProcess, peers: Peers, queued: list[str], kill: bool, boot: str
) -> None:
    daemon.stop(kill=kill)
    peers.start_relay()
    daemon.environ["BOOT_ID"] = boot
    daemon.start()
    for letter in queued:
        shown = daemon.wait(letter, is_accepted)
        assert "uncertain" not in kinds(shown)
    assert "retry --held" not in daemon.log


def test_whenever_a_daemon_is_killed_nothing_is_held(fork_server: ForkServer, peers: Peers) -> None:
    """From the first moment of its first start on."""
    with daemon_with(fork_server, peers, start=False) as daemon:
        peers.stop_relay()
        for attempt in range(12):
            daemon.launch()
            await_that(lambda: note_exists(daemon))
            time.sleep(attempt * 0.01)
            daemon.stop(kill=True)
        daemon.start()
        letter = daemon.post("bob@b.test")
        peers.start_relay()
        daemon.stop(kill=True)
        daemon.start()
        assert "uncertain" not in kinds(daemon.wait(letter, is_accepted))
        assert "retry --held" not in daemon.log


ROUNDS = 6


def test_at_whatever_instant_it_was_killed_a_copy_sends_nothing_twice(
    daemon: DaemonProcess, peers: Peers, copies: Copies
) -> None:
    """Between the relay's answers to RCPT, DATA and the final dot, and their commits."""
    for number in range(ROUNDS):
        peers.stop_relay()
        addresses = [f"round{number}.{letter}@b.test" for letter in range(3)]
        letters = [daemon.post(address, within="1h") for address in addresses]
        copies.take_backup()
        peers.start_relay()
        daemon.run("retry", letters[0])
        await_that(lambda: any(address.startswith(f"round{number}.") for address in peers.recipients))  # noqa: B023
        time.sleep(random.random() * 0.05)
        daemon.stop(kill=True)
        sent = [transmitted(peers, address) for address in addresses]
        copies.put_back_backup()
        daemon.start()
        later = daemon.post(f"later{number}@b.test")
        daemon.wait(later, is_accepted)
        again = [transmitted(peers, address) for address in addresses]
        assert all(now == before for now, before in zip(again, sent, strict=True) if before), (sent, again)


def transmitted(peers: Peers, address: str) -> int:
    """Return how often a letter to *address* went to its final dot."""
    return sum(address.encode() in raw for raw in peers.smtp.messages)


def note_exists(daemon: DaemonProcess) -> bool:
    try:
        return note_of(daemon).exists()
    except (sqlite3.Error, ValueError):
        return False


def test_a_report_about_what_was_never_sent_shows_an_older_machine(
    daemon: DaemonProcess, peers: Peers, queued: list[str], copies: Copies
) -> None:
    """A machine that was switched off in good order, and put back as it was then: the note is as old as all else.

    The disks' own times can't be put back here, so the note is written as it was.
    """
    daemon.stop()
    copies.take_folder()
    note = note_of(daemon)
    kept = json.loads(note.read_bytes())
    daemon.start()
    send(daemon, peers, queued)
    peers.report("bob0@b.test")
    daemon.stop()
    copies.put_back_folder()
    note.write_text(json.dumps(kept | {"at": time.time()}).ljust(512))
    (daemon.folder / "daemon.log").unlink()
    daemon.environ["BOOT_ID"] = "another run"
    daemon.start()
    daemon.wait(queued[0], lambda recipient: recipient["delivery"] == "delivered")
    all_are_held(daemon, peers, queued[1:])


async def test_what_can_not_be_noted_before_data_is_not_sent_and_goes_out_when_it_can(tmp_path: Path) -> None:
    async with steps_with_peers() as steps:
        ledger = steps.store.ledger = Ledger("name", boot="boot", environ={"CACHE_DIRECTORY": str(tmp_path)})
        ledger.open(None)
        good, ledger._file = ledger._file, os.open(ledger.path, os.O_RDONLY)
        bob = await steps.send("bob@b.test")
        assert await steps.submit() == 0
        assert (await steps.recipient(bob)).delivery is Delivery.QUEUED
        assert not steps.smtp.said("DATA")
        assert "can't be written" in ((await steps.readyz())["database"] or "")
        os.close(ledger._file)
        ledger._file = good
        steps.clock.turn(seconds=10)
        assert await steps.submit() == 1
        assert (await steps.recipient(bob)).delivery is Delivery.ACCEPTED
        assert len(steps.smtp.messages) == 1
        assert "database" not in await steps.readyz()


# --- the judgement by itself


NOW = datetime(2026, 11, 24, tzinfo=UTC)
GOOD = Note("attempt", "boot", NOW.timestamp() - 60)
notes = st.builds(
    Note,
    attempt=st.sampled_from([None, "attempt"]),
    boot=st.sampled_from([None, "boot", "other"]),
    stopped_at=st.one_of(st.none(), st.floats(0, NOW.timestamp() + 1e6)),
    is_copy=st.booleans(),
)


def test_a_short_restart_is_not_doubted() -> None:
    assert restore.doubt(GOOD, knows_attempt=True, boot="next", now=NOW) is None


@given(note=st.one_of(st.none(), notes), boot=st.sampled_from([None, "boot", "other"]))
def test_a_database_that_lacks_what_was_noted_is_always_doubted(note: Note | None, boot: str | None) -> None:
    assert restore.doubt(note, knows_attempt=False, boot=boot, now=NOW) is not None


@given(note=notes, knows=st.booleans())
def test_a_note_that_was_put_back_is_always_doubted(note: Note, knows: bool) -> None:
    assert restore.doubt(replace(note, is_copy=True), knows_attempt=knows, boot=note.boot, now=NOW) is not None


@given(note=notes)
def test_another_run_of_the_machine_is_only_trusted_shortly_after_a_stop_in_good_order(note: Note) -> None:
    why = restore.doubt(replace(note, is_copy=False), knows_attempt=True, boot="new", now=NOW)
    if why is None:
        assert note.stopped_at is not None
        assert abs(NOW - datetime.fromtimestamp(note.stopped_at, UTC)) <= timedelta(minutes=30)


@pytest.mark.parametrize("how", ["cp", "cp -p", "cp -a", "cat"])
def test_a_copied_note_is_told_from_the_one_that_was_written(tmp_path: Path, how: str) -> None:
    ledger = Ledger("name", boot="boot", environ={"CACHE_DIRECTORY": str(tmp_path)})
    ledger.open("attempt")
    assert ledger.read() == Note("attempt", "boot", None)
    subprocess.run(["cp", "-a", str(ledger.path), str(tmp_path / "backup")], check=True)
    ledger.stopped(1.0)
    assert ledger.read() == Note("attempt", "boot", 1.0)
    subprocess.run(["sleep", "1.2"], check=True)
    if how == "cat":
        ledger.path.write_bytes((tmp_path / "backup").read_bytes())
    else:
        ledger.path.unlink()
        subprocess.run([*how.split(), str(tmp_path / "backup"), str(ledger.path)], check=True)
    note = ledger.read()
    assert note is not None
    assert note.is_copy
    ledger.close()
