"""A folder that the settings name and the server hasn't is blindness: told once, and nothing is judged."""

from __future__ import annotations

from tests.daemon_process import DaemonProcess, Json, await_that
from tests.faults.daemons import daemon_with
from tests.faults.peers import Peers
from tests.fork_server import ForkServer

_BOTH = '* LIST () "/" INBOX\r\n* LIST () "/" Bounces\r\n'


def _is_overdue(recipient: Json) -> bool:
    return bool(recipient["receipt"] == "overdue")


def _name(daemon: DaemonProcess, folders: str) -> None:
    text = daemon.config.read_text()
    assert 'folders = ["INBOX"]' in text
    daemon.config.write_text(text.replace('folders = ["INBOX"]', f"folders = {folders}"))


def test_with_a_mistyped_folder_nothing_is_judged_and_somebody_is_told(fork_server: ForkServer, peers: Peers) -> None:
    with daemon_with(fork_server, peers, start=False) as daemon:
        _name(daemon, '["INBOX", "Inboxx"]')
        checked = daemon.run("check")
        assert checked.status == 1
        assert "there is no folder Inboxx" in checked.said

        daemon.start()
        silent = daemon.post("anybody@silent.test", within="1s")
        letter = daemon.post("alice@b.test")
        blind = daemon.receiver.wait_for("monitor.blind")
        assert (blind.data["what"], blind.data["name"]) == ("mailbox", "receipts")
        assert "Inboxx" in blind.data["reason"]
        ready = daemon.ready()["mailbox:receipts"]
        assert (ready["ok"], "Inboxx" in ready["reason"]) == (False, True)
        assert daemon.look("/readyz")[0] == 503
        daemon.await_figure("receiptd_overdue_held", 1)
        assert daemon.message(silent)["recipients"][0]["receipt"] == "open"

        peers.wait_for_dots(2)
        peers.report("alice@b.test")
        daemon.wait(letter, lambda recipient: bool(recipient["delivery"] == "delivered"))
        assert not daemon.receiver.about("anybody@silent.test")


def test_a_folder_that_a_list_forgets_for_a_while_raises_no_false_alarm(fork_server: ForkServer, peers: Peers) -> None:
    peers.imap.listed = _BOTH
    with daemon_with(fork_server, peers, start=False) as daemon:
        _name(daemon, '["INBOX", "Bounces"]')
        daemon.start(ready="/readyz")
        peers.imap.listed = '* LIST () "/" INBOX\r\n'
        await_that(lambda: not daemon.ready()["mailbox:receipts"]["ok"])
        silent = daemon.post("anybody@silent.test", within="1s")
        daemon.await_figure("receiptd_overdue_held", 1)
        assert not daemon.receiver.about("anybody@silent.test")
        peers.imap.listed = _BOTH
        daemon.wait(silent, _is_overdue)
        assert daemon.ready()["mailbox:receipts"]["ok"]
