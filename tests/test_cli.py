"""What the commands of receiptd must do; those that ask the daemon ask a real HTTP server."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from receiptd import cli
from tests.fake_api import FakeAPI, message, problem, recipient, serve

OWN = ("run", "demo", "check", "interpret", "config", "db")
ASKING = (
    "list", "show", "reports", "alerts", "acknowledge", "waive", "confirm", "assign", "cancel", "retry", "resend",
)  # fmt: skip


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAPI]:
    settings = tmp_path / "receiptd.toml"
    settings.write_text(f'[service]\nlisten = [{{unix = "{tmp_path}/api.sock"}}]\n')
    monkeypatch.setenv("RECEIPTD_CONFIG", str(settings))
    with serve(tmp_path / "api.sock") as served:
        yield served


class Ran:
    """What a command printed and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *argv: str) -> None:
        try:
            self.status = cli.main(argv)
        except SystemExit as left:  # argparse's own way, for --help and usage errors
            self.status = int(left.code or 0)
        self.out, self.err = capsys.readouterr()


def test_messages_are_listed_page_by_page(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    bob, carol = recipient("r1", "bob@b.org", receipt="met"), recipient("r2", "carol@c.org", receipt="met")
    first = message([bob, carol, recipient("r3", "d@d.org")], "m2", subject="a\x1b[31m\u202eb")
    pages: list[dict[str, Any]] = [{"items": [first], "next": "c&1"}, {"items": [message([bob])], "next": None}]
    api.answers = Pages("/v1/messages", pages)
    wanted = ("--receipt", "met", "--receipt", "open", "--label", "a=b=c", "--label", "d=e")
    ran = Ran(capsys, "list", *wanted, "-q", "ü&x", "--limit", "120")
    assert (ran.status, ran.err) == (0, "")
    asked = [("receipt", "met"), ("receipt", "open"), ("q", "ü&x"), ("label", "a=b=c"), ("label", "d=e")]
    assert [request.query for request in api.requests] == [
        [*asked, ("limit", "100")],
        [*asked, ("limit", "100"), ("after", "c&1")],
    ]
    lines = [line.split("  ") for line in ran.out.splitlines()]
    assert len(lines) == 3
    assert lines[1] == ["m2", "2026-11-24 09:30:00Z", "2 met, open", "bob@b.org and 2 more", "a\\x1b[31m\\u202eb"]


class Pages(dict[tuple[str, str], tuple[int, Any]]):
    """Answers that come one after the other."""

    def __init__(self, path: str, pages: list[dict[str, Any]]) -> None:
        super().__init__()
        self.path, self.pages = path, pages

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        return (200, self.pages.pop(0)) if key == ("GET", self.path) else default


def test_list_json_is_one_object_a_line(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    items = [message([], "m1"), message([], "m2", subject="ü\n")]
    api.answers["GET", "/v1/messages"] = (200, {"items": items, "next": None})
    assert [json.loads(line) for line in Ran(capsys, "list", "--json").out.splitlines()] == items


@pytest.mark.parametrize("what", ["messages", "alerts", "reports"])
def test_fifty_are_listed_for_a_person_and_the_rest_is_told_of(
    api: FakeAPI, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    one = {**message([]), "type": "receipt.failed", "received_at": "2026-11-24T09:30:00Z"}
    verb = "list" if what == "messages" else what
    for count, hint in ((50, ""), (51, "receiptd: there are older ones: --limit N shows more\n")):
        api.answers["GET", f"/v1/{what}"] = (200, {"items": [one] * count, "next": None})
        ran = Ran(capsys, verb)
        assert api.last.query == [("limit", "51")]
        assert (ran.out.count("m1"), ran.err) == (50, hint)
        assert len(Ran(capsys, verb, "--json").out.splitlines()) == count
    api.answers["GET", f"/v1/{what}"] = (200, {"items": [one] * 3, "next": "c"})
    ran = Ran(capsys, verb, "--json", "--limit", "3")
    assert (len(ran.out.splitlines()), api.last.query, ran.err) == (3, [("limit", "3")], "")
    ran = Ran(capsys, verb, "--limit", "2")
    assert (ran.out.count("m1"), ran.err) == (2, "")


def test_what_is_not_receiptd_is_no_traceback(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    for path, argv in (("messages", ["list"]), ("messages/m1", ["show", "m1"])):
        api.answers["GET", f"/v1/{path}"] = (200, {"recipients": "none"})
        ran = Ran(capsys, *argv)
        assert ran.status == 69
        assert "is not receiptd" in ran.err


def test_an_id_that_is_empty_is_a_usage_error(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["show", ""], ["waive", "", "--reason", "x"]):
        assert Ran(capsys, *argv).status == 64
    assert not api.requests


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "--version")
    assert (ran.status, ran.out) == (0, f"receiptd {version('receiptd')}\n")


def test_an_upgrade_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = own_settings(tmp_path)
    first = Ran(capsys, "db", "upgrade", "--config", str(settings))
    assert (first.status, first.out) == (0, "")
    assert first.err.startswith("receiptd: the database was empty and has the tables ")
    again = Ran(capsys, "db", "upgrade", "--config", str(settings))
    assert again.err.startswith("receiptd: the database has the newest tables already (")


def own_settings(folder: Path) -> Path:
    """Write complete settings to work with in *folder*."""
    (folder / "secret").write_text("whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\n")
    path = folder / "own.toml"
    path.write_text(
        f'[service]\ndatabase = "sqlite:///{folder}/r.db"\n[submission]\nurl = "smtp://localhost:25"\n'
        '[receipts]\naddress = "receipts@a.org"\n'
        '[[mailbox]]\nname = "in"\nurl = "imap://me@localhost"\npassword_file = "secret"\n'
        '[[webhook]]\nname = "ops"\nurl = "https://a.org"\nsecret_file = "secret"\n'
    )
    return path


def test_show_tells_tracks_events_and_evidence(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    bob = recipient(
        "r1",
        "bob@b.org",
        delivery="contradicted",
        receipt="failed",
        dsn_requested=False,
        branches=[{"final_recipient": "bobby@c.org", "delivery": "failed", "disposition": "none"}],
    )
    event = {
        "id": "e1",
        "recipient": "r1",
        "kind": "failed",
        "observed_at": "2026-11-24T09:31:00.5Z",
        "occurred_at": None,
        "source": "dsn",
        "trust": "keyed",
        "matched_by": "return_path",
        "count": 3,
        "evidence": "sha256:ab",
        "detail": {
            "status": "5.1.1",
            "diagnostic_code": "smtp; 550 \u202eno",
            "dialogue": "C: DATA\nS: 354 ok",
            "evidence_kept": "part",
        },
    }
    unproven = event | {"count": 1, "trust": "plausible", "evidence": None, "detail": {"counts": False}}
    whole = message([bob], labels={"order": "4711"}, resent_from="m0", events=[event, unproven])
    api.answers["GET", "/v1/messages/m1"] = (200, whole)
    shown = Ran(capsys, "show", "m1").out.splitlines()
    assert "Labels:     order=4711" in shown
    assert "Copy of:    m0" in shown
    assert "bob@b.org: no delivery report was asked for" in shown
    assert "bob@b.org -> bobby@c.org: failed, none" in shown
    assert shown[-8:] == [
        "2026-11-24 09:31:00Z  bob@b.org  failed  ×3",
        "    dsn, keyed, by return_path",
        "    status: 5.1.1",
        "    diagnostic_code: smtp; 550 \\u202eno",
        "    evidence: sha256:ab",
        "    evidence_kept: part",
        "2026-11-24 09:31:00Z  bob@b.org  failed",
        "    dsn, plausible, by return_path (too little trust: moves no state)",
    ]
    assert json.loads(Ran(capsys, "show", "m1", "--json").out) == whole


@pytest.mark.parametrize(
    ("argv", "path", "body"),
    [
        (["acknowledge", "r/1", "--for", "P2D"], "/v1/recipients/r/1/acknowledge", {"for": "2d"}),
        (["acknowledge", "r1"], "/v1/recipients/r1/acknowledge", {}),
        (["waive", "r1"], "/v1/recipients/r1/waive", {}),
        (["confirm", "r1"], "/v1/recipients/r1/confirm", {}),
        (["assign", "p/1", "r1"], "/v1/reports/p/1/assign", {"recipient": "r1"}),
    ],
)
def test_a_decision_goes_out_with_its_reason(
    api: FakeAPI, capsys: pytest.CaptureFixture[str], argv: list[str], path: str, body: dict[str, str]
) -> None:
    api.answers["POST", path] = (200, recipient("r1", "bob@b.org", delivery="accepted", receipt="waived"))
    ran = Ran(capsys, *argv, "--reason", "I phoned")
    assert (ran.status, ran.out) == (0, "bob@b.org: accepted, receipt waived\n")
    assert api.last.json == {"reason": "I phoned", **body}


@pytest.mark.parametrize(
    "argv",
    [
        *(["waive", "r1"], ["waive", "r1", "--reason", " "], ["acknowledge", "r1", "--for", "x"]),
        ["acknowledge", "r1", "--reason", "x", "--for", "0s"],
    ],
)
def test_a_decision_without_a_reason_is_a_usage_error(
    api: FakeAPI, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert Ran(capsys, *argv).status == 64
    assert not api.requests


@pytest.mark.parametrize("verb", ["cancel", "retry", "resend"])
def test_a_message_is_cancelled_retried_or_sent_anew(
    api: FakeAPI, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    api.answers["POST", f"/v1/messages/m1/{verb}"] = (200, message([recipient("r9", "bob@b.org")], "m9"))
    assert Ran(capsys, verb, "m1").out == "m9\nbob@b.org: queued, receipt open\n"


def test_an_acknowledgement_says_until_when_it_holds(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    answer = recipient("r1", "bob@b.org", receipt="overdue") | {"acknowledged_until": "2026-11-25T09:30:00Z"}
    api.answers["POST", "/v1/recipients/r1/acknowledge"] = (200, answer)
    ran = Ran(capsys, "acknowledge", "r1", "--reason", "x")
    assert (ran.out, ran.err) == (
        "bob@b.org: queued, receipt overdue\n",
        "receiptd: acknowledged until 2026-11-25 09:30:00Z: no further level is told till then\n",
    )


def test_a_retry_says_why_the_message_waits(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = recipient("r1", "bob@b.org", reason="It waits for the relay: a.org:25 can\u2019t\x1b be reached.")
    api.answers["POST", "/v1/messages/m1/retry"] = (200, message([waiting]))
    said = "bob@b.org: queued, receipt open: It waits for the relay: a.org:25 can\u2019t\\x1b be reached."
    assert Ran(capsys, "retry", "m1").out.splitlines() == ["m1", said]


def test_reports_are_listed_by_what_became_of_them(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "id": "p1",
        "mailbox": "receipts",
        "folder": "INBOX",
        "received_at": "2026-11-24T09:31:00Z",
        "size": 1043,
        "kind": "dsn",
        "verdict": "unmatched",
        "from": "MAILER-DAEMON@b.org",
        "subject": "Un\u202edelivered",
        "reason": "No message of ours has the token or Message-ID that it names.",
        "evidence": "sha256:ab",
        "truncated": True,
    }
    api.answers["GET", "/v1/reports"] = (200, {"items": [report], "next": None})
    head, line, why = Ran(capsys, "reports", "--verdict", "unmatched").out.splitlines()
    assert head.split() == ["ID", "RECEIVED", "VERDICT", "KIND", "KEPT", "FROM", "SUBJECT"]
    assert line == "p1  2026-11-24 09:31:00Z  unmatched  dsn   part  MAILER-DAEMON@b.org  Un\\u202edelivered"
    assert why == f"    {report['reason']}"
    assert api.last.query == [("verdict", "unmatched"), ("limit", "51")]
    assert json.loads(Ran(capsys, "reports", "--json").out) == report


def test_a_matched_report_says_of_which_message_and_recipients_it_speaks(
    api: FakeAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"id": "p1", "received_at": "2026-11-24T09:31:00Z", "verdict": "matched", "kind": "dsn"}
    reports = [
        report | {"message": "m1", "recipients": ["r1"]},
        report | {"message": "m1", "recipients": [f"r{number}" for number in range(9)]},
        report | {"verdict": "noise", "message": None, "recipients": []},
    ]
    api.answers["GET", "/v1/reports"] = (200, {"items": reports, "next": None})
    _, *lines = Ran(capsys, "reports").out.splitlines()
    assert [line.split()[0] for line in lines] == ["p1", "message", "p1", "message", "p1"]
    assert lines[1] == "    message m1, recipient r1"
    assert lines[3] == "    message m1, recipients r0, r1, r2 and 6 more"


def test_alerts_are_listed_with_every_attempt_and_replayed(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    attempts = [
        {"at": "2026-11-24T09:31:01Z", "status": 503, "milliseconds": 9, "reason": None},
        {"at": "2026-11-24T09:31:06Z", "status": None, "milliseconds": 15000, "reason": "timed out"},
    ]
    alert = {
        "id": "a1",
        "type": "receipt.failed",
        "created_at": "2026-11-24T09:31:00Z",
        "resolved_at": None,
        "undelivered": True,
        "data": {"recipient": {"address": "bob@b.org"}, "reason": "no such user"},
        "dispatches": [{"webhook": "ops", "outcome": None, "next_attempt_at": None, "attempts": attempts}],
    }
    api.answers["GET", "/v1/alerts"] = (200, {"items": [alert], "next": None})
    assert Ran(capsys, "alerts").out.splitlines() == [
        "2026-11-24 09:31:00Z  receipt.failed  bob@b.org  undelivered  a1",
        "    no such user",
        "    to ops: waiting",
        "        2026-11-24 09:31:01Z  503",
        "        2026-11-24 09:31:06Z  timed out",
    ]
    assert json.loads(Ran(capsys, "alerts", "--json").out) == alert
    api.answers["POST", "/v1/alerts/a1/replay"] = (202, {})
    assert Ran(capsys, "alerts", "replay", "a1").status == 0
    assert (api.last.method, api.last.path) == ("POST", "/v1/alerts/a1/replay")


def test_a_fault_is_one_sentence_and_an_exit_status(api: FakeAPI, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers["GET", "/v1/messages/m7"] = problem(404, "there is no message m7", 66)
    ran = Ran(capsys, "show", "m7")
    assert (ran.status, ran.out, ran.err) == (66, "", "receiptd: there is no message m7\n")


@pytest.mark.parametrize(
    "argv", [["list"], ["show", "m1"], ["waive", "r1", "--reason", "x"], ["alerts"], ["cancel", "m1"]]
)
def test_no_daemon_is_69(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    settings = tmp_path / "receiptd.toml"
    settings.write_text(f'[service]\nlisten = [{{unix = "{tmp_path}/api.sock"}}]\n')
    ran = Ran(capsys, "--config", str(settings), *argv)
    assert ran.status == 69
    assert "receiptd run" in ran.err
    assert "--config" in ran.err
    assert "--server" in ran.err
    assert Ran(capsys, *argv, "--config", str(settings)).status == 69


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["list"], "there are no messages"),
        (["list", "-q", "nothing"], "there are no messages like that"),
        (["reports", "--verdict", "unmatched"], "there are no reports like that"),
        (["alerts"], "there are no alerts"),
    ],
)
def test_a_list_without_entries_says_so_to_a_person_alone(
    api: FakeAPI, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    what = "messages" if argv[0] == "list" else argv[0]
    api.answers["GET", f"/v1/{what}"] = (200, {"items": [], "next": None})
    ran = Ran(capsys, *argv)
    assert (ran.status, ran.out, ran.err) == (0, "", f"receiptd: {sentence}\n")
    ran = Ran(capsys, *argv, "--json")
    assert (ran.status, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["waive", "r1", "r2", "--reason", "x"], "waive"),
        (["show", "m1", "--wide"], "show"),
        (["alerts", "replay", "a1", "a2"], "alerts replay"),
    ],
)
def test_an_argument_too_many_is_64_with_the_usage_of_the_command(
    capsys: pytest.CaptureFixture[str], argv: list[str], name: str
) -> None:
    ran = Ran(capsys, *argv)
    assert (ran.status, ran.out) == (64, "")
    assert ran.err.startswith(f"usage: receiptd {name} ")


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["show"], ["list", "--receipt", "lost"], ["interpret"], ["config"], ["db"]]
)
def test_a_wrong_call_is_64(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    ran = Ran(capsys, *argv)
    assert (ran.status, ran.out) == (64, "")
    assert ran.err.startswith("usage: receiptd")


def test_every_command_has_help_and_a_settings_file(capsys: pytest.CaptureFixture[str]) -> None:
    overview = Ran(capsys, "--help").out
    for name in (*OWN, *ASKING):
        assert f"\n    {name} " in overview
        parts = {"config": ["config", "show"], "db": ["db", "upgrade"]}.get(name, [name])
        ran = Ran(capsys, *parts, "--help")
        assert ran.status == 0
        assert "--config FILE" in ran.out


def test_settings_that_are_missing_are_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["config", "show"], ["db", "upgrade"]):
        ran = Ran(capsys, *argv, "--config", str(tmp_path / "gone.toml"))
        assert ran.status == 78
        assert "gone.toml" in ran.err


def test_interpret_needs_no_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    letter = tmp_path / "a.eml"
    letter.write_bytes(b"From: me@a.org\n\nhello\n")
    ran = Ran(capsys, "interpret", "--json", str(letter))
    assert (ran.status, json.loads(ran.out)["kind"]) == (0, "ordinary")
    assert Ran(capsys, "interpret", str(tmp_path / "gone.eml")).status == 66


@pytest.mark.parametrize("count", [1, 2000])
def test_a_reader_who_has_seen_enough_is_no_fault(api: FakeAPI, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    items = [message([recipient("r1", "bob@b.org")], f"m{n}") for n in range(count)]
    api.answers["GET", "/v1/messages"] = (200, {"items": items, "next": None})
    process = subprocess.Popen(
        [sys.executable, "-m", "receiptd.cli", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if count > 1:
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=10) == 141


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
@pytest.mark.parametrize(
    "argv", [["list"], ["list", "--json"], ["show", "m1"], ["interpret", "a.eml"], ["config", "show"], ["--help"]]
)
def test_output_that_can_not_be_written_is_74(
    api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], redirection: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.eml").write_bytes(b"From: me@a.org\n\nhello\n")
    if argv == ["config", "show"]:
        monkeypatch.setenv("RECEIPTD_CONFIG", str(own_settings(tmp_path)))
    bob = message([recipient("r1", "bob@b.org")])
    api.answers["GET", "/v1/messages"] = (200, {"items": [bob], "next": None})
    api.answers["GET", "/v1/messages/m1"] = (200, bob)
    line = f"{shlex.join([sys.executable, '-m', 'receiptd.cli', *argv])} {redirection}"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=30, check=False)
    [sentence] = done.stderr.decode().splitlines()
    assert sentence.startswith("receiptd: standard output can't be written (")
    assert done.returncode == 74
