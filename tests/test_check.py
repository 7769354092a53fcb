"""receiptd check says what works, what doesn't and how to mend it, in one line each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from receiptd import check, sandbox, settings, store
from receiptd.check import roundtrip
from receiptd.errors import UsageError
from receiptd.models import Alert, Dispatch
from receiptd.sandbox.mailworld import World

Lines = list[tuple[str, str, str]]
Check = Callable[..., Awaitable[tuple[int, Lines]]]


@pytest.fixture
async def embedded() -> AsyncIterator[World]:
    async with sandbox.world() as opened:
        yield opened


@pytest.fixture
def checked(embedded: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Return a function that checks the world, its settings changed by (before, after), and gives status and lines."""

    async def run(*changes: tuple[str, str], send: str | None = None) -> tuple[int, Lines]:
        path = embedded.write_settings(tmp_path)
        text = path.read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        status = await check._run(path, send)
        return status, re.findall(r"^(\w+) +(\S+(?: trip)?) +(.*)$", capsys.readouterr().out, re.MULTILINE)

    return run


def said(lines: Lines, mark: str) -> list[str]:
    return [sentence for each, _, sentence in lines if each == mark]


async def test_where_all_works_nothing_fails(checked: Check) -> None:
    status, lines = await checked(("[service]", '[service]\nmax_message = "1M"'))
    assert status == 0
    assert {mark for mark, _, _ in lines} == {"OK"}
    assert [what for _, what, _ in lines] == [
        *("settings", "database", "relay", "relay", "mailbox", "mailbox", "mailbox", "webhook", "webhook", "round trip")
    ]


async def test_a_round_trip_tells_what_came_back(checked: Check) -> None:
    status, lines = await checked(send="ann@delivers.example")
    assert status == 0
    assert lines[-1][0] == "OK"
    assert lines[-1][2].startswith("delivered: ")


async def test_a_domain_that_only_relays_is_told_what_to_require(checked: Check) -> None:
    _, lines = await checked(send="fay@relays.example")
    assert 'more than `require = "relayed"` can\'t be met there' in lines[-1][2]


async def test_an_unknown_user_shows_that_failures_come_back(checked: Check) -> None:
    status, lines = await checked(send="nobody@unknown.example")
    assert status == 0
    assert lines[-1][0] == "WARN"
    assert "5.1.1" in lines[-1][2]


async def test_silence_is_a_failure_that_says_what_to_try(checked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roundtrip, "PATIENCE", 1)
    status, lines = await checked(send="eve@silent.example")
    assert status == 1
    assert "receipts+TOKEN@office.example" in lines[-1][2]
    assert "choose another subaddress" in lines[-1][2]


async def test_a_wrong_password_fails_relay_and_mailbox_and_sends_nothing(checked: Check, embedded: World) -> None:
    embedded.password = "wrong"
    status, lines = await checked(send="ann@delivers.example")
    assert status == 1
    failed = [what for mark, what, _ in lines if mark == "FAIL"]
    assert failed == ["relay", "mailbox", "round trip"]
    assert embedded.submitted == []


async def test_a_missing_secret_is_named(checked: Check) -> None:
    _, lines = await checked(('password_file = "password"', 'password_file = "nowhere"'))
    assert all("nowhere" in sentence for sentence in said(lines, "FAIL"))
    assert len(said(lines, "FAIL")) == 2


async def test_a_missing_folder_is_a_warning_and_the_others_are_read(checked: Check) -> None:
    status, lines = await checked(('"Junk"]', '"Spam"]'))
    assert status == 0
    assert any("there is no folder Spam" in sentence for sentence in said(lines, "WARN"))


async def test_a_relay_without_dsn_is_a_warning_unless_the_settings_refuse_it(tmp_path: Path) -> None:
    async with sandbox.world(offers_dsn=False) as silent:
        path = silent.write_settings(tmp_path)
        loaded = settings.load(path)
        marks = {finding.sentence: finding.mark async for finding in check.relay.findings(loaded)}
        assert [mark for sentence, mark in marks.items() if "no DSN" in sentence] == ["WARN"]
        strict = settings.load(path, {"RECEIPTD_SUBMISSION__WITHOUT_DSN": "refuse"})
        failed = [finding async for finding in check.relay.findings(strict) if finding.is_failure]
        assert "every message would fail" in failed[0].sentence


async def test_a_secret_that_everybody_can_read_is_a_warning(checked: Check, tmp_path: Path) -> None:
    await checked()
    (tmp_path / "ops.secret").chmod(0o644)
    loaded = settings.load(tmp_path / "receiptd.toml")
    assert [finding.sentence for finding in check._open_secrets(loaded)] == [
        f"every user of this machine can read {tmp_path}/ops.secret: chmod 600 {tmp_path}/ops.secret"
    ]


async def test_a_bad_webhook_secret_fails_and_a_way_in_the_clear_warns(checked: Check, tmp_path: Path) -> None:
    await checked()
    (tmp_path / "boss.secret").write_text("too short")
    _, lines = await checked(('url = "http://127.0.0.1', 'url = "http://alerts.example'))
    assert any("can be read on the way" in sentence for sentence in said(lines, "WARN"))
    (tmp_path / "boss.secret").write_text("too short")
    found = list(check.webhooks.findings(settings.load(tmp_path / "receiptd.toml")))
    assert any("whsec_" in finding.sentence for finding in found if finding.is_failure)


async def test_alerts_that_nobody_took_are_a_failure(checked: Check, tmp_path: Path) -> None:
    await checked()
    loaded = settings.load(tmp_path / "receiptd.toml")
    store.ensure(loaded.service.database)
    opened = store.Store(loaded)
    async with opened.write() as session:
        alert = Alert(id="a", type="receipt.failed", created_at=store.utcnow(), kind="failed", undelivered=True)
        session.add(alert)
    await opened.close()
    status, lines = await checked()
    assert status == 1
    assert said(lines, "FAIL") == [
        "one alert reached no webhook; mend the endpoints (`receiptd alerts` shows every attempt)"
    ]


async def test_a_webhook_that_is_off_is_a_failure_that_says_how_to_put_it_on(checked: Check, tmp_path: Path) -> None:
    await checked()
    loaded = settings.load(tmp_path / "receiptd.toml")
    store.ensure(loaded.service.database)
    opened = store.Store(loaded)
    async with opened.write() as session:
        session.add(Alert(id="a", type="receipt.failed", created_at=store.utcnow(), kind="failed"))
        await session.flush()
        session.add(Dispatch(id="d", alert="a", webhook="ops", outcome="gone", finished_at=store.utcnow()))
    await opened.close()
    status, lines = await checked()
    assert status == 1
    (sentence,) = said(lines, "FAIL")
    assert sentence.startswith("the webhook ops answered 410 Gone")
    assert "receiptd alerts replay" in sentence


async def test_a_check_makes_no_database(checked: Check, tmp_path: Path) -> None:
    _, lines = await checked()
    assert "will be made at the first start" in lines[1][2]
    assert not (tmp_path / "receiptd.db").exists()


async def test_a_database_that_is_none_fails(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "receiptd.db").write_text("this is no database, only text that is long enough to be looked at")
    status, lines = await checked()
    assert status == 1
    assert [what for mark, what, _ in lines if mark == "FAIL"] == ["database"]


def test_bad_settings_are_one_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "receiptd.toml").write_text("[submission]\nuri = 1\n")
    assert check.run(tmp_path / "receiptd.toml") == 1
    assert "submission.uri is no setting; did you mean submission.url?" in capsys.readouterr().out


def test_what_is_sent_to_must_be_an_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--send"):
        check.run(tmp_path / "receiptd.toml", "nobody")
