"""A database that is put back from a backup sends nothing that may have been sent since."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import Office, await_that, event, kinds


def _database(office: Office) -> Path:
    return office.folder / "receiptd.db"


def _back_up(office: Office) -> bytes:
    """Copy the database under the running daemon, as docs/deploy.md says."""
    copy = office.folder / "backup.db"
    with sqlite3.connect(_database(office)) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy.read_bytes()


def _put_back(office: Office, content: bytes) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{_database(office)}{suffix}").unlink(missing_ok=True)
    _database(office).write_bytes(content)


def _noted(office: Office) -> str:
    """What stands beside the database: how far it is."""
    return Path(f"{_database(office)}.lock").read_text(encoding="ascii")


@pytest.mark.parametrize("kill", [False, True])
def test_what_was_queued_in_a_backup_is_held_until_a_person_says_retry(
    nursery: Nursery, peers: Peers, kill: bool
) -> None:
    with office_with(nursery, peers) as office:
        peers.stop_relay()
        letter = office.post("bob@b.test", within="1h")
        backup = _back_up(office)
        peers.start_relay()
        office.run("retry", letter)
        office.wait(letter, lambda recipient: recipient["delivery"] == "accepted")
        if kill:
            noted = _noted(office)
            await_that(lambda: _noted(office) > noted)
        office.stop(kill=kill)
        _put_back(office, backup)
        office.start()
        shown = office.wait(letter, lambda recipient: recipient["delivery"] == "uncertain")
        assert event(shown, "uncertain")["source"] == "clock"
        assert "backup" in event(shown, "uncertain")["detail"]["reason"]
        office.stop()
        office.start()
        assert kinds(office.message(letter)).count("uncertain") == 1
        assert len(peers.smtp.messages) == 1
        office.run("retry", letter)
        office.wait(letter, lambda recipient: recipient["delivery"] == "accepted")
        assert len(peers.smtp.messages) == 2
        assert len({_message_id(raw) for raw in peers.smtp.messages}) == 1


def test_a_daemon_that_only_stopped_holds_nothing(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers) as office:
        peers.stop_relay()
        letter = office.post("bob@b.test", within="1h")
        office.stop(kill=True)
        peers.start_relay()
        office.start()
        office.wait(letter, lambda recipient: recipient["delivery"] == "accepted")


def _message_id(raw: bytes) -> bytes:
    return next(line for line in raw.splitlines() if line.lower().startswith(b"message-id:"))
