"""Programs that know only sendmail hand their mail over: Debian's mutt and s-nail, and cron's call."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from receiptd.send.sendmail import domain_of_this_machine
from tests.daemon_process import DaemonProcess, Json, environment
from tests.servers.packages import unpack
from tests.servers.world import World

pytestmark = pytest.mark.servers


def _run(package: str, home: Path, *words: str, stdin: bytes = b"Good day.\n") -> None:
    """Run the program of a Debian package that is unpacked, not installed; it must succeed and say nothing wrong."""
    unpacked = unpack(package)
    env = environment() | {"HOME": str(home), "LC_ALL": "C.UTF-8"}
    env["LD_LIBRARY_PATH"] = ":".join(map(str, (unpacked / "usr" / "lib").glob("*-linux-*")))
    command = [str(unpacked / "usr" / "bin" / package), *words]
    done = subprocess.run(command, input=stdin, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b""), (done.stdout, done.stderr)


def _taken(daemon: DaemonProcess, subject: str) -> Json:
    (found,) = daemon.api.get("/v1/messages", [("q", subject)])["items"]
    return daemon.message(found["id"])


def _mutt(daemon: DaemonProcess, tmp_path: Path, subject: str, *settings: str, to: tuple[str, ...]) -> None:
    options = [word for one in ("copy=no", *settings) for word in ("-e", f"set {one}")]
    _run("mutt", tmp_path, "-n", "-F", "/dev/null", *options, "-s", subject, *to)


def test_mutt_hands_its_mail_over_as_to_sendmail(daemon: DaemonProcess, world: World, tmp_path: Path) -> None:
    sendmail = f'sendmail="{daemon.sendmail()} -oem -oi"'
    _mutt(
        *(daemon, tmp_path, "from mutt", sendmail, 'from="office@a.test"', "use_envelope_from=yes"),
        to=("-b", "carol@box.test", "--", "bob@box.test"),
    )
    taken = _taken(daemon, "from mutt")
    assert [row["address"] for row in taken["recipients"]] == ["bob@box.test", "carol@box.test"]
    assert (taken["from"], taken["sender"]) == ("office@a.test", None)
    daemon.wait(taken["id"], lambda row: row["receipt"] == "met")
    arrived = world.await_message("bob@box.test", lambda message: b"from mutt" in message)
    assert arrived.replace(b"\r\n", b"\n").endswith(b"\n\nGood day.\n")


def test_mutts_envelope_belongs_to_whom_it_names_though_from_is_another(daemon: DaemonProcess, tmp_path: Path) -> None:
    sendmail = f'sendmail="{daemon.sendmail()} -oem -oi"'
    sender = 'envelope_from_address="boss@a.test"'
    _mutt(
        *(daemon, tmp_path, "for the boss", sendmail, 'from="office@a.test"', "use_envelope_from=yes", sender),
        to=("bob@box.test",),
    )
    taken = _taken(daemon, "for the boss")
    assert (taken["from"], taken["sender"]) == ("office@a.test", "boss@a.test")


def test_mutts_dsn_settings_are_taken(daemon: DaemonProcess, tmp_path: Path) -> None:
    dsn = ('dsn_notify="failure,success"', 'dsn_return="hdrs"')
    _mutt(
        daemon,
        tmp_path,
        "with DSN",
        f'sendmail="{daemon.sendmail()}"',
        'from="office@a.test"',
        *dsn,
        to=("bob@box.test",),
    )
    assert _taken(daemon, "with DSN")["recipients"][0]["address"] == "bob@box.test"


@pytest.mark.parametrize("options", [["-S", "from=office@a.test"], ["-r", "office@a.test"]])
def test_s_nail_hands_its_mail_over_as_to_sendmail(daemon: DaemonProcess, tmp_path: Path, options: list[str]) -> None:
    subject = f"from s-nail {options[0][1]}"
    mta = ["-:/", "-S", "v15-compat", "-S", f"mta={daemon.sendmail()}", *options]
    _run("s-nail", tmp_path, *mta, "-s", subject, "-c", "carol@box.test", "bob@box.test")
    taken = _taken(daemon, subject)
    assert [(row["address"], row["role"]) for row in taken["recipients"]] == [
        ("bob@box.test", "to"),
        ("carol@box.test", "cc"),
    ]
    daemon.wait(taken["id"], lambda row: row["receipt"] == "met")


HERE = domain_of_this_machine("receipts@a.test")
CRON = b"""From: root (Cron Daemon)
To: %b
Subject: Cron <root@host> backup %b
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
X-Cron-Env: <SHELL=/bin/sh>

backup: Pl\xc3\xa4tze voll
"""


@pytest.mark.parametrize(("mailto", "address"), [("bob@box.test", "bob@box.test"), ("root", f"root@{HERE}")])
def test_crons_call_is_understood(daemon: DaemonProcess, mailto: str, address: str) -> None:
    """cron writes names without a domain, and calls sendmail as its binary says."""
    (call,) = re.findall(rb"%s (-FCronDaemon [^\0]*?) +%s", (unpack("cron") / "usr/sbin/cron").read_bytes())
    line = f"{daemon.sendmail()} {call.decode()} {mailto}"
    stdin = CRON % (mailto.encode(), mailto.encode())
    done = subprocess.run(["/bin/sh", "-c", line], input=stdin, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    taken = daemon.message(done.stdout.decode().strip())
    assert taken["from"] == f"root@{HERE}"
    assert [row["address"] for row in taken["recipients"]] == [address]
    _, raw = daemon.look(f"/v1/messages/{taken['id']}/raw")
    assert f"From: root@{HERE} (Cron Daemon)\r\n" in raw
    assert raw.endswith("\r\n\r\nbackup: Plätze voll\r\n")
