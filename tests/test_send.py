"""What send-with-receipt must do, as a real process against a real HTTP server."""

from __future__ import annotations

import base64
import json
import os
import pty
import resource
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.send.sendmail import MAILNAME, domain_of_this_machine, qualify
from tests.fake_api import FakeAPI, problem, serve

MESSAGE = b"From: me@a.org\r\nTo: bob@b.org\r\nCc: carol@c.org\r\nBcc: eve@e.org\r\nSubject: x\r\n\r\nH\xe4llo\r\n"
MET = {"receipt": "met", "delivery": "relayed"}
Done = subprocess.CompletedProcess[bytes]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAPI]:
    settings = tmp_path / "receiptd.toml"
    settings.write_text(f'[service]\nlisten = [{{unix = "{tmp_path}/send.sock", scope = "send"}}]\n')
    monkeypatch.setenv("RECEIPTD_CONFIG", str(settings))
    monkeypatch.chdir(tmp_path)
    with serve(tmp_path / "send.sock") as served:
        yield served


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "receiptd.send", *options]


def send(*options: str, stdin: bytes = b"Hello\n") -> Done:
    return subprocess.run(command(*options), input=stdin, capture_output=True, timeout=30, check=False)


def composed(api: FakeAPI) -> dict[str, object]:
    body = api.last.json
    assert isinstance(body, dict)
    return body


# Handing over


def test_a_message_from_options_and_standard_input(api: FakeAPI, tmp_path: Path) -> None:
    Path("Übersicht.pdf").write_bytes(b"%PDF\x00")
    Path("page.html").write_text("<p>ü</p>")
    done = send(
        *("-f", "me@a.org", "-s", "Verträge", "--attach", "Übersicht.pdf", "--html", "page.html", "--text", "-"),
        *("bob@b.org", "--cc", "carol@c.org", "--bcc", "eve@e.org", "--header", "X-Ref: 47:11", "dave@d.org"),
        *("--require", "displayed", "--within", "PT72H", "--policy", "slow", "--label", "order=4711=a"),
        *("--no-mdn", "--require-all"),
        stdin="Grüße\n".encode(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"m1\n", b"")
    assert composed(api) == {
        "from": "me@a.org",
        "to": ["bob@b.org", "dave@d.org"],
        "cc": ["carol@c.org"],
        "bcc": ["eve@e.org"],
        "subject": "Verträge",
        "text": "Grüße\n",
        "html": "<p>ü</p>",
        "attachments": [
            {
                "filename": "Übersicht.pdf",
                "content_type": "application/pdf",
                "content": base64.b64encode(b"%PDF\x00").decode(),
            }
        ],
        "headers": {"X-Ref": "47:11"},
        "policy": "slow",
        "require": "displayed",
        "within": "3d",
        "labels": {"order": "4711=a"},
        "mdn": "never",
        "require_all": True,
    }
    assert "Idempotency-Key" not in api.last.headers


def test_only_what_was_said_is_asked_for(api: FakeAPI) -> None:
    assert send("-f", "me@a.org", "bob@b.org", "--mdn").returncode == 0
    assert composed(api) == {"from": "me@a.org", "to": ["bob@b.org"], "text": "Hello\n", "mdn": "always"}


def test_html_alone_reads_no_text(api: FakeAPI) -> None:
    Path("page.html").write_text("<p>")
    assert send("-f", "me@a.org", "bob@b.org", "--html", "page.html").returncode == 0
    assert composed(api) == {"from": "me@a.org", "to": ["bob@b.org"], "html": "<p>"}


def test_json_says_who_the_recipients_are(api: FakeAPI) -> None:
    api.warnings = ["b.org never answered\x1b[2J"]
    done = send("-f", "me@a.org", "bob@b.org", "--json", "--idempotency-key", "order 4711")
    assert json.loads(done.stdout) == {
        "id": "m1",
        "message_id": api.letters[0].message_id,
        "recipients": [{"id": "r1", "address": "bob@b.org"}],
        "warnings": ["b.org never answered\x1b[2J"],
    }
    assert done.stderr == b"send-with-receipt: warning: b.org never answered\\x1b[2J\n"
    assert api.last.headers["Idempotency-Key"] == "order 4711"


def test_a_complete_message_goes_as_it_is_to_whom_it_names(api: FakeAPI) -> None:
    done = send(
        "-t", "--require", "delivered", "--within", "90s", "--label", "a=b&c", "--mdn", "--require-all", stdin=MESSAGE
    )
    assert done.returncode == 0
    assert api.last.body == MESSAGE
    assert api.last.headers["Content-Type"] == "message/rfc822"
    assert sorted(api.last.query) == [
        ("label", "a=b&c"),
        ("mdn", "always"),
        ("require", "delivered"),
        ("require_all", "1"),
        ("within", "90s"),
    ]
    assert [it.address for it in api.letters[0].recipients] == ["bob@b.org", "carol@c.org", "eve@e.org"]


def test_arguments_beside_t_are_recipients_too(api: FakeAPI) -> None:
    assert send("-t", "dave@d.org", stdin=MESSAGE).returncode == 0
    assert [(it.address, it.role.value) for it in api.letters[0].recipients] == [
        ("bob@b.org", "to"),
        ("carol@c.org", "cc"),
        ("eve@e.org", "bcc"),
        ("dave@d.org", "to"),
    ]


def test_without_t_the_arguments_alone_are_recipients(api: FakeAPI) -> None:
    assert send("-i", "dave@d.org", stdin=MESSAGE).returncode == 0
    assert [it.address for it in api.letters[0].recipients] == ["dave@d.org"]
    assert b"eve@e.org" not in api.letters[0].content


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b"To: bob@b.org\n\nFrom: x\n", b"From: me@a.org\nTo: bob@b.org\n\nFrom: x\n"),
        (b"From bob Tue Nov 24\nTo: bob@b.org\n\n", b"From bob Tue Nov 24\nFrom: me@a.org\nTo: bob@b.org\n\n"),
        (b"FROM : you@a.org\nTo: bob@b.org\n\n", b"FROM : you@a.org\nTo: bob@b.org\n\n"),
    ],
)
def test_f_names_the_sender_of_a_message_that_names_none(api: FakeAPI, raw: bytes, sent: bytes) -> None:
    assert send("-t", "-f", "me@a.org", stdin=raw).returncode == 0
    assert api.last.body == sent


def test_over_tcp_the_token_comes_from_a_file(api: FakeAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret")
    monkeypatch.setenv("RECEIPTD_TOKEN_FILE", str(tmp_path / "token"))
    with serve(token="s3cret") as far:
        assert send("-f", "me@a.org", "bob@b.org", "--server", far.url).returncode == 0
        assert len(far.letters) == 1
    assert not api.requests


def test_what_follows_two_dashes_is_a_recipient_whatever_it_begins_with(api: FakeAPI) -> None:
    assert send("-f", "me@a.org", "bob@b.org", "--", "-bob@b.org", "--", "carol@c.org").returncode == 65
    assert api.last.json["to"] == ["bob@b.org", "-bob@b.org", "--", "carol@c.org"]
    assert send("-f", "me@a.org", "--wait", "0s", "--", "-bob@b.org").returncode == 4
    assert [it.address for it in api.letters[-1].recipients] == ["-bob@b.org"]


def test_the_version_is_told(api: FakeAPI) -> None:
    done = send("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"send-with-receipt {version('receiptd')}\n")


def test_help_says_which_options_may_be_given_again(api: FakeAPI) -> None:
    lines = send("--help").stdout.decode()
    assert lines.count("(repeatable)") == 5


# As sendmail


USUAL = (
    "-oi",
    "-oem",
    "-odb",
    "-r",
    "boss@a.org",
    "-F",
    "The Boss",
    "-B8BITMIME",
    "-N",
    "success,failure",
    "-R",
    "hdrs",
)


def test_all_of_sendmails_usual_options_are_taken(api: FakeAPI) -> None:
    assert send(*USUAL, "-V", "x17", "-i", "-bm", "--", "bob@b.org", stdin=MESSAGE).returncode == 0
    assert api.last.body == MESSAGE
    assert sorted(api.last.query) == [("label", "envid=x17"), ("sender", "boss@a.org"), ("to", "bob@b.org")]
    assert send(*USUAL, "-t", stdin=MESSAGE).returncode == 0
    assert [it.address for it in api.letters[-1].recipients] == ["bob@b.org", "carol@c.org", "eve@e.org"]


@pytest.mark.parametrize(
    "option", ["-oi", "-oem", "-odb", "-oeq", "-bm", "-B7BIT", "-B 8bitmime", "-FMe", "-N failure", "-Rhdrs", "-V x"]
)
def test_an_option_that_only_sendmail_has_means_a_complete_message(api: FakeAPI, option: str) -> None:
    done = send(*option.split(), "bob@b.org", stdin=MESSAGE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [it.address for it in api.letters[0].recipients] == ["bob@b.org"]
    assert api.last.headers["Content-Type"] == "message/rfc822"


def test_by_the_name_of_sendmail_every_message_is_complete(api: FakeAPI, tmp_path: Path) -> None:
    link = tmp_path / "sendmail"
    link.symlink_to(Path(sys.executable).parent / "send-with-receipt")
    done = subprocess.run([link, "bob@b.org"], input=MESSAGE, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr, api.last.body) == (0, b"", MESSAGE)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("-oX", "-oX means nothing here"),
        ("-bp", "receiptd list"),
        ("-bs", "SMTP"),
        ("-bi", "hands no message over"),
        ("-BBINARY", "7BIT or 8BITMIME"),
        ("-N never", "without delivery reports there is no receipt"),
        ("-N delay,failure", "[receipts] notify"),
        ("-N sometimes", "success and failure"),
        ("-R full", "[receipts] ret"),
        ("-R half", "hdrs"),
    ],
)
def test_what_sendmail_means_and_is_not_done_here_is_one_sentence(api: FakeAPI, option: str, words: str) -> None:
    done = send(*option.split(), "bob@b.org", stdin=MESSAGE)
    assert (done.returncode, len(done.stderr.splitlines()), api.requests) == (64, 1, [])
    assert words in done.stderr.decode()


@pytest.mark.parametrize(("option", "words"), [("-bp", "receiptd list"), ("-bs", "SMTP")])
def test_what_sendmail_means_is_said_though_nobody_is_named(api: FakeAPI, option: str, words: str) -> None:
    """Nobody names a recipient to list the queue."""
    done = send(option, stdin=b"")
    assert (done.returncode, api.requests) == (64, [])
    assert words in done.stderr.decode()


@pytest.mark.parametrize("options", [["-i", "-f", "boss@a.org"], ["-oi", "-fboss@a.org"], ["-i", "-r", "boss@a.org"]])
def test_f_owns_the_envelope_even_where_from_differs(api: FakeAPI, options: list[str]) -> None:
    assert send(*options, "bob@b.org", stdin=MESSAGE).returncode == 0
    assert api.last.body == MESSAGE
    assert ("sender", "boss@a.org") in api.last.query


def test_the_null_sender_owns_nothing(api: FakeAPI) -> None:
    for null in ("<>", ""):
        assert send("-i", "-f", null, "bob@b.org", stdin=MESSAGE).returncode == 0
        assert api.last.query == [("to", "bob@b.org")]


@pytest.mark.parametrize(
    ("name", "line"),
    [("Cron Daemon", b"From: Cron Daemon <me@a.org>\n"), ('A "B", C', b'From: "A \\"B\\", C" <me@a.org>\n')],
)
def test_the_full_name_stands_in_a_from_that_was_missing(api: FakeAPI, name: str, line: bytes) -> None:
    assert send("-t", "-F", name, "-f", "me@a.org", stdin=b"To: bob@b.org\n\nx").returncode == 0
    assert api.last.body == line + b"To: bob@b.org\n\nx"


def test_a_name_alone_gets_the_domain_of_this_machine(api: FakeAPI, tmp_path: Path) -> None:
    settings = tmp_path / "receiptd.toml"
    settings.write_text(settings.read_text() + '[receipts]\naddress = "receipts@a.test"\n')
    raw = (
        b"From: root (Cron Daemon)\nTo: Bob <bob>,\n ann@b.org, root\nSubject: root\nCc: root <root>\n\nFrom: x\nroot\n"
    )
    assert send("-t", "-f", "root", stdin=raw).returncode == 0
    here = domain_of_this_machine("receipts@a.test").encode()
    assert api.last.body == (
        b"From: root@%b (Cron Daemon)\nTo: Bob <bob@%b>,\n ann@b.org, root@%b\nSubject: root\nCc: root <root@%b>\n"
        b"\nFrom: x\nroot\n" % (here, here, here, here)
    )
    assert ("sender", f"root@{here.decode()}") in api.last.query
    assert send("-i", "bob", stdin=MESSAGE).returncode == 0
    assert ("to", f"bob@{here.decode()}") in api.last.query


@pytest.mark.skipif(MAILNAME.exists(), reason="this machine says what its domain is")
def test_a_name_alone_where_no_domain_is_known_is_refused(api: FakeAPI) -> None:
    done = send("-i", "root", stdin=MESSAGE)
    assert (done.returncode, api.requests) == (65, [])
    assert b"/etc/mailname" in done.stderr


LISTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["a@b.org", "Bob <bob@b.org>", '"Doe, John" <j@b.org>', "root (root)", "root <root>", "x:y;", ""]
        ),
        st.text('ab@<>,;:()" \t\\', max_size=12),
    )
).map(", ".join)


@pytest.mark.parametrize(
    ("value", "qualified"),
    [
        ("root", "root@h.test"),
        ("root <root>", "root <root@h.test>"),
        ("root, root <root>", "root@h.test, root <root@h.test>"),
        ('root (root, (root)), "root, <root>" <a@b.org>', 'root@h.test (root, (root)), "root, <root>" <a@b.org>'),
        ("ops: root, a@b.org;", "ops: root@h.test, a@b.org;"),
        ("undisclosed-recipients:;", "undisclosed-recipients:;"),
        ("Bob Doe", "Bob Doe"),
        ("root <", "root <"),
    ],
)
def test_a_name_alone_is_found_wherever_it_stands(value: str, qualified: str) -> None:
    assert qualify(f"To: {value}\n".encode(), lambda: "h.test") == f"To: {qualified}\n".encode()


@given(value=LISTS, subject=st.text("ab@<,>: ", max_size=20))
def test_only_names_alone_are_touched(value: str, subject: str) -> None:
    header = f"To: {value}\nSubject: {subject}".encode()
    qualified = qualify(header, lambda: "here.test")
    assert qualified.replace(b"@here.test", b"") == header
    assert qualified.partition(b"\n")[2] == f"Subject: {subject}".encode()


@pytest.mark.parametrize(
    ("text", "is_warned"),
    [
        (b"From: me@a.org\nTo: bob@b.org\nSubject: x\n\nHello\n", True),
        (b"Subject: x\r\n\r\nHello\r\n", True),
        (b"From bob Tue Nov 24\nReceived: by x\n\tfor y\n\nHello\n", True),
        (b"X-Mailer: x\nTo: bob@b.org", True),
        (b"Note: buy milk\n\nHello\n", False),
        (b"To: do list\nbuy milk\n\nHello\n", False),
        (b"Hello\n\nFrom: me@a.org\n\n", False),
        (b"", False),
    ],
)
def test_a_header_where_a_text_was_expected_is_told(api: FakeAPI, text: bytes, is_warned: bool) -> None:
    done = send("-f", "me@a.org", "bob@b.org", stdin=text)
    assert done.returncode == 0
    assert (b"-t" in done.stderr and b"header fields" in done.stderr) is is_warned
    assert composed(api)["text"] == text.decode()


# What can't be sent


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["bob@b.org"], 64, "-f ADDRESS"),
        (["-f", "me@a.org"], 64, "name a recipient"),
        (["-i"], 64, "-t"),
        (["-t", "-s", "x"], 64, "complete"),
        (["-t", "-f", "me@a.org\nBcc: eve@e.org"], 64, "one line"),
        (["-f", "me@a.org", "bob@b.org", "--require", "read"], 64, "invalid choice"),
        (["-f", "me@a.org", "bob@b.org", "--within", "soon"], 64, "no duration"),
        (["-f", "me@a.org", "bob@b.org", "--within", "0s"], 64, "no time"),
        (["-t", "--within", "PT0S"], 64, "no time"),
        (["-t", "--label", "a=\udcfc"], 65, "UTF-8"),
        (["-f", "me@a.org", "bob@b.org", "--wait", "soon"], 64, "no duration"),
        (["-f", "me@a.org", "bob@b.org", "--label", "x"], 64, "KEY=VALUE"),
        (["-f", "me@a.org", "bob@b.org", "--header", "x"], 64, "Name: value"),
        (["-f", "me@a.org", "bob@b.org", "--idempotency-key", "a\nb"], 64, "printable"),
        (["-f", "me@a.org", "bob@b.org", "--nonsense"], 64, "--nonsense"),
        (["-f", "me@a.org", "bob@b.org", "-a", "gone.pdf"], 66, "gone.pdf"),
        (["-f", "me@a.org", "bob@b.org", "-a", ""], 64, "name of a file"),
        (["-f", "me@a.org", "bob@b.org", "--text", ""], 64, "name of a file"),
        (["-f", "me@a.org", "bob@b.org", "--html", ""], 64, "name of a file"),
        (["-f", "me@a.org", "bob@b.org", "-a", "."], 66, "directory"),
        (["-f", "me@a.org", "bob@b.org", "--mdn", "--no-mdn"], 64, "not allowed with"),
        (["-f", "me@a.org", "bob@b.org\r\nRCPT TO:<x@y.org>"], 65, "line break"),
        (["-f", "me@a.org", "bob"], 65, "isn't a mail address"),
        (["-f", "me@a.org", "bob@b.org", "-s", "x\nBcc: eve@e.org"], 65, "line break"),
        (["-f", "me@a.org", "bob@b.org", "--config", "gone.toml"], 78, "gone.toml"),
        (["-f", "me@a.org", "bob@b.org", "--server", "localhost"], 64, "names no server"),
    ],
)
def test_bad_options_are_one_sentence_and_nothing_is_sent(
    api: FakeAPI, options: list[str], status: int, words: str
) -> None:
    done = send(*options, stdin=b"To: bob@b.org\n\nx")
    assert done.returncode == status
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert not api.letters


def test_text_that_is_not_utf_8_is_refused_and_says_what_to_do(api: FakeAPI) -> None:
    done = send("-f", "me@a.org", "bob@b.org", stdin="Grüße".encode("latin-1"))
    assert done.returncode == 65
    assert b"standard input is not UTF-8 (octet 0xfc at 2)" in done.stderr
    assert b"iconv" in done.stderr
    assert not api.requests
    assert send("-t", stdin=b"From: me@a.org\nTo: bob@b.org\n\nGr\xfc\xdfe").returncode == 0


def test_an_option_that_is_not_utf_8_is_refused(api: FakeAPI) -> None:
    done = subprocess.run(
        [*map(os.fsencode, command("-f", "me@a.org", "bob@b.org", "-s")), b"Gr\xfc\xdfe"],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, api.requests) == (65, [])
    assert b"UTF-8" in done.stderr


@pytest.mark.parametrize("options", [["-f", "me@a.org", "bob@b.org"], ["-t"]])
def test_a_closed_standard_input_is_no_empty_message(api: FakeAPI, options: list[str]) -> None:
    done = closed("<&-", *options)
    assert (done.returncode, done.stdout, api.requests) == (66, b"", [])
    assert done.stderr == b"send-with-receipt: standard input can't be read (Bad file descriptor): redirect it\n"


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--wait"], ["--wait", "--json"]])
def test_who_is_not_told_the_id_on_standard_output_is_told_that_the_message_was_taken(
    api: FakeAPI, redirection: str, options: list[str]
) -> None:
    api.states = [{"bob@b.org": MET}]
    done = closed(f"< /dev/null {redirection}", "-f", "me@a.org", "bob@b.org", *options)
    assert (done.returncode, len(api.letters)) == (74, 1)
    assert done.stderr.startswith(b"send-with-receipt: the message was taken as m1 and must not be handed over again")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_who_has_left_does_not_make_a_taken_message_look_refused(api: FakeAPI) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command("-f", "me@a.org", "bob@b.org"),
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 74
    assert b"taken as m1" in done.stderr


def test_a_closed_standard_error_is_nothing_to_stumble_over(api: FakeAPI) -> None:
    api.warnings = ["b.org never answered"]
    done = closed("< /dev/null 2>&-", "-f", "me@a.org", "bob@b.org")
    assert (done.returncode, done.stdout) == (0, b"m1\n")


def closed(redirection: str, *options: str) -> Done:
    """Run the command by a shell, which alone can start it with a closed standard stream."""
    line = f"{shlex.join(command(*options))} {redirection}"
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=30, check=False)


def test_the_daemons_refusal_is_its_sentence_and_its_exit_status(api: FakeAPI) -> None:
    api.answers["POST", "/v1/messages"] = problem(422, "no policy \u202enamed slow", 65)
    done = send("-f", "me@a.org", "bob@b.org")
    assert (done.returncode, done.stdout) == (65, b"")
    assert done.stderr == b"send-with-receipt: no policy \\u202enamed slow\n"


def test_no_daemon_is_69(api: FakeAPI, tmp_path: Path) -> None:
    done = send("-f", "me@a.org", "bob@b.org", "--server", "http://127.0.0.1:1")
    assert done.returncode == 69
    assert b"receiptd run" in done.stderr


# Waiting


@pytest.mark.parametrize(
    ("bob", "carol", "status"),
    [
        (MET, {"receipt": "met_late"}, 0),
        (MET, {"receipt": "waived"}, 0),
        (MET, {"receipt": "failed"}, 1),
        ({"receipt": "overdue"}, {"receipt": "failed"}, 1),
        (MET, {"receipt": "open", "delivery": "cancelled"}, 1),
        (MET, {"receipt": "overdue"}, 3),
        ({"receipt": "open"}, MET, 4),
        ({"receipt": "open"}, {"receipt": "failed"}, 1),
    ],
)
def test_the_exit_status_tells_what_became_of_it(
    api: FakeAPI, bob: dict[str, str], carol: dict[str, str], status: int
) -> None:
    api.states = [{"bob@b.org": bob, "carol@c.org": carol}]
    assert send("-f", "me@a.org", "bob@b.org", "carol@c.org", "--wait", "0s").returncode == status


def test_a_pipe_gets_a_line_a_change(api: FakeAPI) -> None:
    queued = {"bob@b.org": {"delivery": "queued"}}
    displayed = {"bob@b.org": {"delivery": "delivered", "disposition": "displayed", "receipt": "met"}}
    api.states = [queued, queued, {"bob@b.org": {"delivery": "accepted"}}, displayed]
    done = send("-f", "me@a.org", "--wait", "bob@b.org")
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        "m1",
        "bob@b.org: queued, receipt open",
        "bob@b.org: accepted, receipt open",
        "bob@b.org: delivered, displayed, receipt met",
    ]


def test_waiting_ends_when_the_time_is_over(api: FakeAPI) -> None:
    began = time.monotonic()
    assert send("-f", "me@a.org", "bob@b.org", "--wait", "1s").returncode == 4
    assert 1 <= time.monotonic() - began < 3


def test_json_with_wait_is_one_object_that_tells_the_end(api: FakeAPI) -> None:
    api.states = [{}, {"bob@b.org": {"receipt": "overdue"}}]
    done = send("-f", "me@a.org", "bob@b.org", "--wait", "--json")
    assert done.returncode == 3
    [told] = json.loads(done.stdout)["recipients"]
    assert (told["id"], told["address"], told["receipt"]) == ("r1", "bob@b.org", "overdue")


def test_an_interrupted_wait_has_told_the_id(api: FakeAPI) -> None:
    process = subprocess.Popen(
        command("-f", "me@a.org", "bob@b.org", "--wait", "--json"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    while not any(request.method == "GET" for request in api.requests):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=10)
    assert (process.returncode, json.loads(told)["id"]) == (130, "m1")


def test_a_restart_of_the_daemon_is_waited_out(api: FakeAPI, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("-f", "me@a.org", "bob@b.org", "--wait"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    while not any(request.method == "GET" for request in api.requests):
        time.sleep(0.01)
    (tmp_path / "send.sock").unlink()
    time.sleep(0.6)
    with serve(tmp_path / "send.sock") as again:
        again.letters, again.states = api.letters, [{"bob@b.org": MET}]
        told, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert told.splitlines()[-1] == b"bob@b.org: relayed, receipt met"


FAILED = {
    "delivery": "failed",
    "receipt": "failed",
    "reason": "A report says that delivery failed: there is no such user (5.1.1).",
}


def bounce(recipient: str) -> dict[str, Any]:
    words = "SMTP; 550 5.1.1 <nobody@b.org>: Recipient address rejected:\x1b[2J User unknown"
    return {"recipient": recipient, "kind": "failed", "detail": {"diagnostic_code": words}}


def test_a_pipe_is_told_why_a_recipient_failed_on_the_same_line(api: FakeAPI) -> None:
    api.states, api.events = [{"bob@b.org": MET, "nobody@b.org": FAILED}], [bounce("r2")]
    done = send("-f", "me@a.org", "bob@b.org", "nobody@b.org", "--wait")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[1:] == [
        "bob@b.org: relayed, receipt met",
        "nobody@b.org: failed, receipt failed: A report says that delivery failed: there is no such user (5.1.1). "
        "The server said: 550 5.1.1 <nobody@b.org>: Recipient address rejected:\\x1b[2J User unknown",
    ]


def on_a_terminal(*args: str, rows: int = 24) -> tuple[int, str]:
    """Run the command on a terminal of 80 columns, and return its exit status and what it wrote."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (rows, 80))
    os.set_inheritable(follower, True)
    process = subprocess.run(command(*args), input=b"", stdout=follower, timeout=30, check=False)
    os.close(follower)
    shown = b""
    while True:
        try:
            octets = os.read(leader, 65536)
        except OSError:  # the end, as a terminal tells it
            break
        shown += octets
    os.close(leader)
    return process.returncode, shown.decode()


def test_a_terminal_gets_one_table_drawn_over_itself(api: FakeAPI) -> None:
    api.states = [{}, {"bob@b.org": MET}]
    status, text = on_a_terminal("-f", "me@a.org", "bob@b.org", "--wait")
    assert status == 0
    assert text.count("ADDRESS") == 2
    assert text.count("\x1b[2A") == 1
    assert "met" in text.rpartition("\x1b[2A")[2]


def test_the_table_fits_a_terminal_and_says_below_each_recipient_why(api: FakeAPI) -> None:
    long = "accounts.payable.department+invoices@subsidiary.example.org"
    api.states = [{long: {**MET, "disposition": "displayed"}, "nobody@b.org": FAILED}]
    api.events = [bounce("r2")]
    status, text = on_a_terminal("-f", "me@a.org", long, "nobody@b.org", "--wait")
    assert status == 1
    lines = [line.removesuffix("\x1b[K") for line in text.split("\r\n")[1:-1]]
    assert all(len(line) < 80 for line in lines), lines
    assert lines[:4] == [
        "ADDRESS                    DELIVERY  DISPOSITION  RECEIPT  DEADLINE",
        "accounts.pa...example.org  relayed   displayed    met      2026-11-24 13:30:00Z",
        "nobody@b.org               failed    none         failed   2026-11-24 13:30:00Z",
        "    A report says that delivery failed: there is no such user (5.1.1). The",
    ]
    assert "User unknown" in lines[-1]


def test_a_table_higher_than_the_terminal_is_drawn_whole_at_the_end(api: FakeAPI) -> None:
    everybody = [f"user{number}@b.org" for number in range(20)]
    api.states = [{}, dict.fromkeys(everybody, MET)]
    status, text = on_a_terminal("-f", "me@a.org", *everybody, "--wait", rows=10)
    assert status == 0
    first, *_, last = text.split("\x1b[9A")
    assert "... and 13 lines more" in first
    assert all(address in last for address in everybody)


# Cost


def test_it_costs_less_than_200_milliseconds(api: FakeAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time, for the clock on the wall measures who else is busy; compiled, as an installation is."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert send("-f", "me@a.org", "bob@b.org").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) < 0.2


def test_nothing_heavy_is_imported(api: FakeAPI) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command("-f", "me@a.org", "bob@b.org", "-a", "receiptd.toml")[1:]],
        input=b"",
        capture_output=True,
        check=True,
    )
    heavy = (
        b"pydantic",
        b"sqlmodel",
        b"sqlalchemy",
        b"asyncio",
        b"fastapi",
        b"idna",
        b"receiptd.compose",
        b"dataclasses",
    )
    assert not [name for name in heavy if b" " + name + b"\n" in done.stderr]
