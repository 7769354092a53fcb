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
from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.faults.workshop import workshop
from tests.nursery import Nursery
from tests.office import Json, Office, await_that, cache, event, kinds

LETTERS = 5


class Copies:
    """What a backup took of an office, and how it comes back."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.folder = Path(tempfile.mkdtemp(prefix="rcpt-copy-"))

    def cp(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)

    def take_folder(self) -> None:
        """As docs/deploy.md tells it, though the service may run."""
        self.cp(self.office.folder, self.folder / "folder")

    def put_back_folder(self) -> None:
        shutil.rmtree(self.office.folder)
        self.cp(self.folder / "folder", self.office.folder)

    def take_machine(self) -> None:
        """Take the note outside the folder along."""
        self.take_folder()
        note = note_of(self.office)
        subprocess.run(["cp", "-a", str(note), str(self.folder / note.name)], check=True)

    def put_back_machine(self) -> None:
        self.put_back_folder()
        for note in self.folder.glob("*.note"):
            (cache() / note.name).unlink(missing_ok=True)
            subprocess.run(["cp", "-a", str(note), str(cache())], check=True)

    def take_backup(self) -> None:
        """`.backup`, under the running daemon."""
        with sqlite3.connect(database(self.office)) as source, sqlite3.connect(self.folder / "backup.db") as target:
            source.backup(target)
        source.close()
        target.close()

    def put_back_backup(self) -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{database(self.office)}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.folder / "backup.db", database(self.office))


def database(office: Office) -> Path:
    return office.folder / "receiptd.db"


def note_of(office: Office) -> Path:
    with sqlite3.connect(database(office)) as opened:
        ((name,),) = opened.execute("SELECT holder FROM lease WHERE name = 'sender'").fetchall()
    opened.close()
    return cache() / f"{name}.note"


@pytest.fixture
def office(nursery: Nursery, peers: Peers) -> Iterator[Office]:
    with office_with(nursery, peers) as office:
        yield office


@pytest.fixture
def copies(office: Office) -> Iterator[Copies]:
    copies = Copies(office)
    yield copies
    shutil.rmtree(copies.folder)


@pytest.fixture
def queued(office: Office, peers: Peers) -> list[str]:
    """Letters that wait for a relay that is down, after one that went out."""
    first = office.post("alice@b.test", within="1h")
    office.wait(first, is_accepted)
    peers.stop_relay()
    return [office.post(f"bob{number}@b.test", within="1h") for number in range(LETTERS)]


def is_accepted(recipient: Json) -> bool:
    return bool(recipient["delivery"] == "accepted")


def send(office: Office, peers: Peers, letters: list[str]) -> None:
    """Let all that waits go out."""
    peers.start_relay()
    for letter in letters:
        office.run("retry", letter)
    for letter in letters:
        office.wait(letter, is_accepted)


def all_are_held(office: Office, peers: Peers, letters: list[str]) -> None:
    for letter in letters:
        shown = office.wait(letter, lambda recipient: recipient["delivery"] == "uncertain")
        assert event(shown, "uncertain")["source"] == "clock"
        assert "backup" in event(shown, "uncertain")["detail"]["reason"]
    assert office.log.count("`receiptd retry --held` sends it all") == 1
    later = office.post("carol@b.test")
    office.wait(later, is_accepted)
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
    office: Office, peers: Peers, queued: list[str], copies: Copies, way: str, kill: bool
) -> None:
    """Killed at once after the last final dot: no note may be late."""
    take, put_back = WAYS[way]
    take(copies)
    send(office, peers, queued)
    office.stop(kill=kill)
    put_back(copies)
    (office.folder / "daemon.log").unlink()
    office.start()
    all_are_held(office, peers, queued)


def test_what_was_queued_in_a_copy_of_a_stopped_service_is_held(
    office: Office, peers: Peers, queued: list[str], copies: Copies
) -> None:
    office.stop()
    copies.take_folder()
    office.start()
    send(office, peers, queued)
    office.stop()
    copies.put_back_folder()
    (office.folder / "daemon.log").unlink()
    office.start()
    all_are_held(office, peers, queued)


def test_a_copy_that_is_put_back_a_second_time_is_held_again(
    office: Office, peers: Peers, queued: list[str], copies: Copies
) -> None:
    copies.take_folder()
    send(office, peers, queued)
    for _ in range(2):
        office.stop(kill=True)
        copies.put_back_folder()
        office.start()
        office.run("retry", queued[0])
        office.wait(queued[0], is_accepted)
        assert office.message(queued[1])["recipients"][0]["delivery"] == "uncertain"


def test_a_copy_from_before_there_were_notes_is_held_and_an_upgrade_is_not(
    office: Office, peers: Peers, queued: list[str], copies: Copies
) -> None:
    office.stop()
    note_of(office).unlink()
    with sqlite3.connect(database(office)) as opened:
        opened.execute("DELETE FROM lease")
    opened.close()
    copies.take_folder()
    office.start()
    assert "retry --held" not in office.log
    send(office, peers, queued)
    office.stop()
    copies.put_back_folder()
    (office.folder / "daemon.log").unlink()
    office.start()
    all_are_held(office, peers, queued)


def test_a_folder_on_another_machine_is_held(office: Office, peers: Peers, queued: list[str]) -> None:
    note_of(office).unlink()
    office.stop(kill=True)
    peers.start_relay()
    office.start()
    all_are_held(office, peers, queued)


def test_a_machine_that_ended_without_stopping_the_service_is_held_for_a_snapshot_looks_the_same(
    office: Office, peers: Peers, queued: list[str]
) -> None:
    office.stop(kill=True)
    peers.start_relay()
    office.environ["BOOT_ID"] = "another run"
    office.start()
    all_are_held(office, peers, queued)


def test_one_command_sends_all_that_is_held(office: Office, peers: Peers, queued: list[str]) -> None:
    office.stop(kill=True)
    note_of(office).unlink()
    office.start()
    all_of_them = [office.message(letter)["recipients"][0]["delivery"] for letter in queued]
    assert all_of_them == ["uncertain"] * LETTERS
    office.stop()
    office.start()
    assert [kinds(office.message(letter)).count("uncertain") for letter in queued] == [1] * LETTERS
    peers.start_relay()
    ended = office.run("retry", "--held")
    assert (ended.status, ended.said) == (0, f"receiptd: what was held for {LETTERS} recipients is sent now\n")
    for letter in queued:
        office.wait(letter, is_accepted)
    assert office.run("retry", "--held").status == 65, "nothing is held any more"


@pytest.mark.parametrize(("kill", "boot"), [(False, ""), (True, ""), (False, "another run")])
def test_a_restart_of_the_daemon_or_of_a_machine_that_stopped_it_holds_nothing(
    office: Office, peers: Peers, queued: list[str], kill: bool, boot: str
) -> None:
    office.stop(kill=kill)
    peers.start_relay()
    office.environ["BOOT_ID"] = boot
    office.start()
    for letter in queued:
        shown = office.wait(letter, is_accepted)
        assert "uncertain" not in kinds(shown)
    assert "retry --held" not in office.log


def test_whenever_a_daemon_is_killed_nothing_is_held(nursery: Nursery, peers: Peers) -> None:
    """From the first moment of its first start on."""
    with office_with(nursery, peers, start=False) as office:
        peers.stop_relay()
        for attempt in range(12):
            office.launch()
            await_that(lambda: note_exists(office))
            time.sleep(attempt * 0.01)
            office.stop(kill=True)
        office.start()
        letter = office.post("bob@b.test")
        peers.start_relay()
        office.stop(kill=True)
        office.start()
        assert "uncertain" not in kinds(office.wait(letter, is_accepted))
        assert "retry --held" not in office.log


ROUNDS = 6


def test_at_whatever_instant_it_was_killed_a_copy_sends_nothing_twice(
    office: Office, peers: Peers, copies: Copies
) -> None:
    """Between the relay's answers to RCPT, DATA and the final dot, and their commits."""
    for number in range(ROUNDS):
        peers.stop_relay()
        addresses = [f"round{number}.{letter}@b.test" for letter in range(3)]
        letters = [office.post(address, within="1h") for address in addresses]
        copies.take_backup()
        peers.start_relay()
        office.run("retry", letters[0])
        await_that(lambda: any(address.startswith(f"round{number}.") for address in peers.recipients))  # noqa: B023
        time.sleep(random.random() * 0.05)
        office.stop(kill=True)
        sent = [transmitted(peers, address) for address in addresses]
        copies.put_back_backup()
        office.start()
        later = office.post(f"later{number}@b.test")
        office.wait(later, is_accepted)
        again = [transmitted(peers, address) for address in addresses]
        assert all(now == before for now, before in zip(again, sent, strict=True) if before), (sent, again)


def transmitted(peers: Peers, address: str) -> int:
    """Return how often a letter to *address* went to its final dot."""
    return sum(address.encode() in raw for raw in peers.smtp.messages)


def note_exists(office: Office) -> bool:
    try:
        return note_of(office).exists()
    except (sqlite3.Error, ValueError):
        return False


def test_a_report_about_what_was_never_sent_shows_an_older_machine(
    office: Office, peers: Peers, queued: list[str], copies: Copies
) -> None:
    """A machine that was switched off in good order, and put back as it was then: the note is as old as all else.

    The disks' own times can't be put back here, so the note is written as it was.
    """
    office.stop()
    copies.take_folder()
    note = note_of(office)
    kept = json.loads(note.read_bytes())
    office.start()
    send(office, peers, queued)
    peers.report("bob0@b.test")
    office.stop()
    copies.put_back_folder()
    note.write_text(json.dumps(kept | {"at": time.time()}).ljust(512))
    (office.folder / "daemon.log").unlink()
    office.environ["BOOT_ID"] = "another run"
    office.start()
    office.wait(queued[0], lambda recipient: recipient["delivery"] == "delivered")
    all_are_held(office, peers, queued[1:])


async def test_what_can_not_be_noted_before_data_is_not_sent_and_goes_out_when_it_can(tmp_path: Path) -> None:
    async with workshop() as shop:
        ledger = shop.store.ledger = Ledger("name", boot="boot", environ={"CACHE_DIRECTORY": str(tmp_path)})
        ledger.open(None)
        good, ledger._file = ledger._file, os.open(ledger.path, os.O_RDONLY)
        bob = await shop.send("bob@b.test")
        assert await shop.submit() == 0
        assert (await shop.recipient(bob)).delivery is Delivery.QUEUED
        assert not shop.smtp.said("DATA")
        assert "can't be written" in ((await shop.readyz())["database"] or "")
        os.close(ledger._file)
        ledger._file = good
        shop.clock.turn(seconds=10)
        assert await shop.submit() == 1
        assert (await shop.recipient(bob)).delivery is Delivery.ACCEPTED
        assert len(shop.smtp.messages) == 1
        assert "database" not in await shop.readyz()


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
