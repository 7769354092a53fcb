"""A folder that the settings name and the server hasn't is blindness: told once, and nothing is judged."""

from __future__ import annotations

from tests.faults.offices import office_with
from tests.faults.peers import Peers
from tests.nursery import Nursery
from tests.office import Json, Office, await_that

_BOTH = '* LIST () "/" INBOX\r\n* LIST () "/" Bounces\r\n'


def _is_overdue(recipient: Json) -> bool:
    return bool(recipient["receipt"] == "overdue")


def _name(office: Office, folders: str) -> None:
    text = office.config.read_text()
    assert 'folders = ["INBOX"]' in text
    office.config.write_text(text.replace('folders = ["INBOX"]', f"folders = {folders}"))


def test_with_a_mistyped_folder_nothing_is_judged_and_somebody_is_told(nursery: Nursery, peers: Peers) -> None:
    with office_with(nursery, peers, start=False) as office:
        _name(office, '["INBOX", "Inboxx"]')
        checked = office.run("check")
        assert checked.status == 1
        assert "there is no folder Inboxx" in checked.said

        office.start()
        silent = office.post("anybody@silent.test", within="1s")
        letter = office.post("alice@b.test")
        blind = office.receiver.wait_for("monitor.blind")
        assert (blind.data["what"], blind.data["name"]) == ("mailbox", "receipts")
        assert "Inboxx" in blind.data["reason"]
        ready = office.ready()["mailbox:receipts"]
        assert (ready["ok"], "Inboxx" in ready["reason"]) == (False, True)
        assert office.look("/readyz")[0] == 503
        office.await_figure("receiptd_overdue_held", 1)
        assert office.message(silent)["recipients"][0]["receipt"] == "open"

        peers.wait_for_dots(2)
        peers.report("alice@b.test")
        office.wait(letter, lambda recipient: bool(recipient["delivery"] == "delivered"))
        assert not office.receiver.about("anybody@silent.test")


def test_a_folder_that_a_list_forgets_for_a_while_raises_no_false_alarm(nursery: Nursery, peers: Peers) -> None:
    peers.imap.listed = _BOTH
    with office_with(nursery, peers, start=False) as office:
        _name(office, '["INBOX", "Bounces"]')
        office.start(ready="/readyz")
        peers.imap.listed = '* LIST () "/" INBOX\r\n'
        await_that(lambda: not office.ready()["mailbox:receipts"]["ok"])
        silent = office.post("anybody@silent.test", within="1s")
        office.await_figure("receiptd_overdue_held", 1)
        assert not office.receiver.about("anybody@silent.test")
        peers.imap.listed = _BOTH
        office.wait(silent, _is_overdue)
        assert office.ready()["mailbox:receipts"]["ok"]
