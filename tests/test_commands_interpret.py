"""`receiptd interpret`: one object a line, every file answered, nothing of a stranger's that moves the terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from receiptd.commands import interpret as command

REPORTS = sorted((Path(__file__).parent / "fixtures" / "reports").glob("*.eml"))


def test_each_file_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in REPORTS[:5]]
    assert command.main(files, jobs=1, as_json=True) == 0
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == files


def test_many_jobs_answer_in_the_same_order(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in REPORTS[:20]]
    command.main(files, jobs=1, as_json=True)
    alone = capsys.readouterr().out
    assert command.main(files, jobs=2, as_json=True) == 0
    assert capsys.readouterr().out == alone


def test_a_missing_file_is_a_sentence_and_66_and_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["nowhere.eml", str(REPORTS[0])], jobs=1, as_json=True) == 66
    shown = capsys.readouterr()
    assert shown.err.startswith("receiptd: nowhere.eml can't be read")
    assert len(shown.out.splitlines()) == 1


def test_a_folder_is_no_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main([str(tmp_path)], jobs=1, as_json=True) == 66
    assert "can't be read" in capsys.readouterr().err


def test_a_dash_is_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(REPORTS[0].read_bytes())))
    assert command.main(["-"], jobs=1, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "-"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x89PNG\r\n\x1a\n\0\0", b"hello\n"])
@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_no_message_is_a_sentence_and_65_or_an_ordinary_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, as_json: bool
) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(content)
    assert command.main([str(path), str(REPORTS[0])], jobs=1, as_json=as_json) == (0 if as_json else 65)
    shown = capsys.readouterr()
    assert shown.err.startswith(f"receiptd: {path} holds no message")
    if as_json:
        assert [json.loads(line)["file"] for line in shown.out.splitlines()] == [str(path), str(REPORTS[0])]
    else:
        assert shown.out.startswith(str(REPORTS[0]))


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"Mail content:\n"])
def test_a_message_that_an_editor_put_something_before_is_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, before: bytes
) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(before + b"Subject: Lunch\nTo: me@a.org\n\nhello\n")
    assert command.main([str(path)], jobs=1, as_json=False) == 0
    assert capsys.readouterr().err == ""


def test_an_empty_standard_input_holds_no_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert command.main(["-"], jobs=1, as_json=False) == 65
    assert capsys.readouterr().err.startswith("receiptd: standard input holds no message")


LETTER = b"From bob@b.org Tue Nov 24 09:30:00 2026\nFrom: bob@b.org\nSubject: Lunch\n\nFrom one to two?\n\n"


def test_of_an_mbox_the_first_message_is_read_and_the_others_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(LETTER + b"From MAILER-DAEMON Tue Nov 24 09:31:00 2026\n" + REPORTS[0].read_bytes())
    assert command.main([str(path)], jobs=1, as_json=True) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith(f"receiptd: {path} holds more than one message")
    assert json.loads(shown.out)["kind"] == "ordinary"
    path.write_bytes(LETTER)
    assert command.main([str(path)], jobs=1, as_json=True) == 0
    assert capsys.readouterr().err == ""


def test_people_see_who_answers_what_and_when_they_are_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(
        b"From: bob@b.org\nSubject: Automatic reply: Contract\nIn-Reply-To: <1@a.org>\n\nBack on 7 December 2026.\n"
    )
    assert command.main([str(path)], jobs=1, as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: auto_reply", "  from: bob@b.org", "  in reply to: <1@a.org>", "  back, or away until: 2026-12-07",
    ]  # fmt: skip


def test_people_read_words_without_control_or_bidi_characters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(
        "From: MAILER-DAEMON\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n"
        "Final-Recipient: rfc822; bob@b.org\nAction: failed\nDiagnostic-Code: smtp; 550 \x1b[2J\u202egpj\n".encode()
    )
    assert command.main([str(path)], jobs=1, as_json=False) == 0
    out = capsys.readouterr().out
    assert "bob@b.org: failed" in out
    assert "\\u001b[2J\\u202egpj" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_reading_a_report_loads_no_framework() -> None:
    heavy = {"pydantic", "sqlalchemy", "sqlmodel", "fastapi", "asyncio", "aiosmtplib", "aioimaplib", "multiprocessing"}
    code = f"import sys, receiptd.commands.interpret; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
