"""receiptd check says what works, what doesn't and how to fix it, in one line each."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from receiptd import check, sandbox, settings, store
from receiptd.check import Finding, mailboxes, roundtrip
from receiptd.errors import UsageError
from receiptd.models import Alert, Dispatch
from receiptd.sandbox.mailworld import World
from receiptd.smtp import Capabilities, parse_url
from tests.api_fixture import open_api
from tests.fake_imap import CAPABILITY, FakeImap, Message
from tests.receiver import Receiver
from tests.steps_fixture import settings_in

Lines = list[tuple[str, str, str]]
NOBODY = 65534
Check = Callable[..., Awaitable[tuple[int, Lines]]]


@pytest.fixture
async def embedded() -> AsyncIterator[World]:
    async with sandbox.world() as open_api:
        yield open_api


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
        return status, re.findall(r"^(\w+|-) +(\S+(?: trip)?) +(.*)$", capsys.readouterr().out, re.MULTILINE)

    return run


def said(lines: Lines, mark: str) -> list[str]:
    return [sentence for each, _, sentence in lines if each == mark]


async def test_where_all_works_nothing_fails(checked: Check) -> None:
    status, lines = await checked(("[service]", '[service]\nmax_message = "1M"'))
    assert status == 0
    assert {mark for mark, _, _ in lines[:-1]} == {"OK"}
    assert lines[-1][0] == "-", "what was not tried is no OK"
    assert [what for _, what, _ in lines] == [
        *("settings", "database", "listen", "listen", "relay", "relay", "mailbox", "mailbox", "mailbox"),
        *("webhook", "webhook", "round trip"),
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
    monkeypatch.setattr(roundtrip, "TIMEOUT", 1)
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


async def test_a_folder_that_the_settings_name_and_the_server_hasnt_is_a_failure(checked: Check) -> None:
    status, lines = await checked(('"Junk"]', '"Inboxx"]'))
    assert status == 1
    assert any("there is no folder Inboxx" in sentence for sentence in said(lines, "FAIL"))
    assert any("INBOX can be read" in sentence for sentence in said(lines, "OK"))


async def _of_mailbox(server: FakeImap, folder: Path, **box: Any) -> list[tuple[str, str]]:
    """Return what check says of a mailbox on *server* beside that it lets us in."""
    (folder / "password").write_text("sesame")
    table = {"url": f"imap://me@127.0.0.1:{server.port}", "password_file": str(folder / "password"), **box}
    found = [one async for one in mailboxes.findings(settings_in(folder, mailbox=[table]))]
    return [(one.mark, one.sentence) for one in found[1:]]


async def test_the_defaults_junk_may_be_missing(tmp_path: Path) -> None:
    async with FakeImap() as server:
        lines = await _of_mailbox(server, tmp_path)
    assert ("OK", "there is no folder Junk, so only the others are searched") in lines
    assert {mark for mark, _ in lines} == {"OK"}


async def test_a_folder_that_cant_be_opened_or_searched_is_a_failure(tmp_path: Path) -> None:
    async with FakeImap(messages={1: Message(b"Subject: x\r\n\r\n")}) as server:
        server.on("UID SEARCH", "* SEARCH\r\nTAG OK done\r\n")
        assert any(mark == "FAIL" and "finds none" in said for mark, said in await _of_mailbox(server, tmp_path))
        server.on("SELECT|EXAMINE", "TAG NO [NOPERM] not yours\r\n")
        assert any(mark == "FAIL" and "not yours" in said for mark, said in await _of_mailbox(server, tmp_path))


@pytest.mark.parametrize(
    ("after", "listed", "mark", "words"),
    [
        ("move:Processed", "", "OK", "go to INBOX.Processed, which is made"),
        ("move:Processed", '* LIST () "." INBOX.Processed\r\n', "OK", "settled reports go to INBOX.Processed"),
        ("move:inbox", "", "FAIL", "name another one"),
    ],
)
async def test_the_folder_that_settled_reports_go_to_is_looked_at(
    tmp_path: Path, after: str, listed: str, mark: str, words: str
) -> None:
    async with FakeImap(capability=CAPABILITY + " NAMESPACE") as server:
        server.listed = '* LIST () "." INBOX\r\n' + listed
        server.on("NAMESPACE", '* NAMESPACE (("INBOX." ".")) NIL NIL\r\nTAG OK done\r\n')
        lines = await _of_mailbox(server, tmp_path, after=after)
        assert any(each == mark and words in said for each, said in lines), lines
        assert not server.commands("CREATE")


async def test_a_relay_without_dsn_is_a_warning_unless_the_settings_refuse_it(tmp_path: Path) -> None:
    async with sandbox.world(offers_dsn=False) as silent:
        path = silent.write_settings(tmp_path)
        loaded = settings.load(path)
        marks = {finding.sentence: finding.mark async for finding in check.relay.findings(loaded)}
        assert [mark for sentence, mark in marks.items() if "no DSN" in sentence] == ["WARN"]
        strict = settings.load(path, {"RECEIPTD_SUBMISSION__WITHOUT_DSN": "refuse"})
        failed = [finding async for finding in check.relay.findings(strict) if finding.is_failure]
        assert "every message would fail" in failed[0].sentence


async def test_an_api_token_with_which_the_daemon_does_not_start_fails(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "erp").write_text("too-short")
    token = f'[{{name = "erp", secret_file = "{tmp_path}/erp"}}]'
    await checked()
    loaded = settings.load(tmp_path / "receiptd.toml", {"RECEIPTD_SERVICE__TOKEN": token})
    (finding,) = check._bad_tokens(loaded)
    assert finding.is_failure
    assert "fewer than 24 characters" in finding.sentence


async def test_a_secret_that_everybody_can_read_is_a_warning(checked: Check, tmp_path: Path) -> None:
    await checked()
    (tmp_path / "ops.secret").chmod(0o644)
    loaded = settings.load(tmp_path / "receiptd.toml")
    assert [finding.sentence for finding in check._open_secrets(loaded)] == [
        f"every user of this machine can read {tmp_path}/ops.secret: chmod 600 {tmp_path}/ops.secret"
    ]


async def test_a_bad_webhook_secret_is_a_failure(checked: Check, tmp_path: Path) -> None:
    await checked()
    (tmp_path / "boss.secret").write_text("too short")
    found = [it async for it in check.webhooks.findings(settings.load(tmp_path / "receiptd.toml"))]
    assert any("whsec_" in finding.sentence for finding in found if finding.is_failure)


# The endpoints of webhooks


async def told_of(url: str, folder: Path) -> list[Finding]:
    webhook = {"name": "ops", "url": url, "secret_file": str(folder / "secret")}
    return [finding async for finding in check.webhooks.findings(settings_in(folder, webhook=[webhook], policy={}))]


async def test_an_endpoint_that_is_there_is_not_posted_to(tmp_path: Path) -> None:
    with closing(Receiver()) as receiver:
        (found,) = await told_of(receiver.url("ops"), tmp_path)
    assert (found.mark, receiver.posts) == ("OK", [])
    assert "answers (nothing was posted)" in found.sentence


async def test_an_endpoint_that_nobody_serves_is_a_failure(tmp_path: Path) -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        (found,) = await told_of(f"http://127.0.0.1:{port}/ops", tmp_path)
    assert found.is_failure
    assert f"nobody listens on 127.0.0.1:{port}" in found.sentence


async def test_a_host_that_no_name_server_knows_is_a_failure_and_a_way_in_the_clear_a_warning(tmp_path: Path) -> None:
    unknown, in_the_clear = await told_of("http://alerts.invalid/ops", tmp_path)
    assert unknown.is_failure
    assert "the name alerts.invalid is not found" in unknown.sentence
    assert in_the_clear.mark == "WARN"
    assert "can be read on the way" in in_the_clear.sentence


async def test_a_certificate_that_the_daemon_would_refuse_is_a_failure(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    (found,) = await told_of(f"https://127.0.0.1:{port}/ops", tmp_path)
    server.close()
    assert found.is_failure
    assert f"the certificate of 127.0.0.1:{port} is not good" in found.sentence


async def test_https_to_a_server_without_tls_is_a_failure(tmp_path: Path) -> None:
    with closing(Receiver()) as receiver:
        (found,) = await told_of(receiver.url("ops").replace("http://", "https://"), tmp_path)
    assert found.is_failure
    assert "speaks no TLS" in found.sentence


async def test_an_endpoint_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.webhooks, "TIMEOUT", 0.2)
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        (found,) = await told_of(f"https://127.0.0.1:{silent.getsockname()[1]}/", tmp_path)
    assert found.is_failure
    assert "doesn't answer within 0.2 s" in found.sentence


# The sockets


async def heard(folder: Path, *listen: dict[str, Any]) -> list[Finding]:
    service = {"database": f"sqlite:///{folder}/receiptd.db", "listen": list(listen)}
    return [finding async for finding in check.sockets.findings(settings_in(folder, service=service))]


async def test_sockets_that_can_be_made_are_not_made(tmp_path: Path) -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        tcp = f"127.0.0.1:{reserved.getsockname()[1]}"
    found = await heard(tmp_path, {"unix": str(tmp_path / "api.sock")}, {"tcp": tcp})
    assert [finding.sentence for finding in found] == [f"{tmp_path}/api.sock can be made", f"{tcp} is free"]
    assert not (tmp_path / "api.sock").exists()


@pytest.mark.parametrize(
    ("listen", "sentence"),
    [
        ({"unix": "{folder}/none/api.sock"}, "there is no folder {folder}/none for api.sock: make it, or correct"),
        ({"unix": "{folder}/api.sock", "group": "nobodies"}, "there is no group 'nobodies'"),
        ({"unix": "{folder}/file"}, "{folder}/file is a file and no socket"),
        ({"unix": "{folder}/" + "x" * 107}, "too long for a socket"),
    ],
)
async def test_what_keeps_a_socket_from_being_made_is_a_failure(
    tmp_path: Path, listen: dict[str, str], sentence: str
) -> None:
    (tmp_path / "file").write_text("precious")
    found, *_ = await heard(tmp_path, {key: value.replace("{folder}", str(tmp_path)) for key, value in listen.items()})
    assert found.is_failure
    assert sentence.replace("{folder}", str(tmp_path)) in found.sentence


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may not write everywhere, where we are root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)


async def test_a_folder_that_is_not_ours_is_a_failure() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # nobody may look into pytest's own folders
        folder = Path(name)
        loaded = settings_in(folder, service={"listen": [{"unix": str(folder / "api.sock")}]})
        folder.chmod(0o555)
        with as_nobody():
            (found,) = [finding async for finding in check.sockets.findings(loaded)]
    assert found.is_failure
    assert "is not writable for this user" in found.sentence


async def test_what_systemd_makes_at_the_start_is_a_warning_before(tmp_path: Path) -> None:
    service = {
        "database": "sqlite:////var/lib/receiptd-not-yet/receiptd.db",
        "listen": [{"unix": "/run/receiptd-not-yet/api.sock"}],
    }
    loaded = settings_in(tmp_path, service=service)
    found = [check.database.tables(loaded), *[it async for it in check.sockets.findings(loaded)]]
    assert [finding.mark for finding in found] == ["WARN", "WARN"]
    assert "StateDirectory=" in found[0].sentence
    assert "RuntimeDirectory=" in found[1].sentence


async def test_a_daemon_that_runs_is_known_at_its_sockets(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        found = [finding async for finding in check.sockets.findings(server.steps.store.settings)]
    assert {finding.mark for finding in found} == {"OK"}
    assert all("a receiptd listens on" in finding.sentence for finding in found)


async def test_another_program_on_our_sockets_is_a_failure(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    path = tmp_path / "api.sock"
    async with (
        await asyncio.start_unix_server(greet, path),
        await asyncio.start_server(greet, "127.0.0.1", 0) as server,
    ):
        tcp = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await heard(tmp_path, {"unix": str(path)}, {"tcp": tcp})
    assert [finding.sentence.partition(":")[0] for finding in found] == [
        f"another program listens on {path}",
        f"another program listens on {tcp.partition(':')[0]}",
    ]
    assert all(finding.is_failure for finding in found)


async def test_tcp_beyond_this_machine_is_a_warning(tmp_path: Path) -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        tcp = f"0.0.0.0:{reserved.getsockname()[1]}"
    _, found = await heard(tmp_path, {"tcp": tcp})
    assert found.mark == "WARN"
    assert f"what goes through {tcp}, tokens too, can be read on the way" in found.sentence


# The database


async def test_a_database_that_everybody_can_read_is_a_warning_and_left_so(checked: Check, tmp_path: Path) -> None:
    await checked()
    path = tmp_path / "receiptd.db"
    loaded = settings.load(tmp_path / "receiptd.toml")
    store.ensure(loaded.service.database)
    path.chmod(0o644)
    for folder in (one for one in path.parents if "pytest-" in str(one)):  # pytest's own are shut
        folder.chmod(0o755)
    assert [finding.sentence for finding in check.database.readable(loaded)] == [
        f"every user of this machine can read the messages in it: chmod 600 {path}"
    ]
    assert path.stat().st_mode & 0o777 == 0o644
    tmp_path.chmod(0o700)
    assert list(check.database.readable(loaded)) == []


async def test_alerts_that_nobody_took_are_a_failure(checked: Check, tmp_path: Path) -> None:
    await checked()
    loaded = settings.load(tmp_path / "receiptd.toml")
    store.ensure(loaded.service.database)
    open_api = store.Store(loaded)
    async with open_api.write() as session:
        alert = Alert(id="a", type="receipt.failed", created_at=store.utcnow(), kind="failed", undelivered=True)
        session.add(alert)
    await open_api.close()
    status, lines = await checked()
    assert status == 1
    assert said(lines, "FAIL") == [
        "one alert reached no webhook; fix the endpoints (`receiptd alerts` shows every attempt)"
    ]


async def test_a_webhook_that_is_off_is_a_failure_that_says_how_to_put_it_on(checked: Check, tmp_path: Path) -> None:
    await checked()
    loaded = settings.load(tmp_path / "receiptd.toml")
    store.ensure(loaded.service.database)
    open_api = store.Store(loaded)
    async with open_api.write() as session:
        session.add(Alert(id="a", type="receipt.failed", created_at=store.utcnow(), kind="failed"))
        await session.flush()
        session.add(Dispatch(id="d", alert="a", webhook="ops", outcome="gone", finished_at=store.utcnow()))
    await open_api.close()
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


class SeenEnough(io.StringIO):
    """Standard output whose reader is gone when *word* would be written."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def write(self, text: str) -> int:
        if self.word in text:
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize("word", ["DSN", "INBOX", "delivered: "])
async def test_a_reader_that_has_seen_enough_ends_all_of_it_quietly(
    embedded: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    word: str,
) -> None:
    monkeypatch.setattr(sys, "stdout", SeenEnough(word))
    with pytest.raises(BrokenPipeError):
        await asyncio.to_thread(check.run, embedded.write_settings(tmp_path), "ann@delivers.example")
    assert caplog.records == []


def test_bad_settings_are_one_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "receiptd.toml").write_text("[submission]\nuri = 1\n")
    assert check.run(tmp_path / "receiptd.toml") == 1
    assert "submission.uri is no setting; did you mean submission.url?" in capsys.readouterr().out


def test_what_is_sent_to_must_be_an_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--send"):
        check.run(tmp_path / "receiptd.toml", "nobody")


async def test_of_a_relay_with_a_return_path_of_its_own_it_is_said_what_can_come_back(tmp_path: Path) -> None:
    offered = Capabilities(dsn=False, smtputf8=True)
    for host, told in (("email-smtp.eu-west-1.amazonaws.com", 1), ("mail.a.test", 0)):
        found = check.relay._abilities(settings_in(tmp_path, submission={"url": f"smtp://{host}"}), offered)
        assert sum("ask their readers" in finding.sentence for finding in found if finding.mark == "WARN") == told


async def test_the_relays_limit_is_said_as_it_is(tmp_path: Path) -> None:
    offered = Capabilities(size=2_000_000, dsn=True, smtputf8=True)
    found = check.relay._abilities(settings_in(tmp_path), offered)
    assert [finding.sentence for finding in found if finding.mark == "WARN"] == [
        "it takes 2000000 bytes (1.9 MiB) at most; larger messages are refused (max_message is 50 MiB)"
    ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("submission://mail.invalid", ["names no user"]),
        ("submissions://127.0.0.1:4465", ["names no user"]),
        ("smtp://localhost:587", ["names no user"]),
        ("smtp://mail.invalid", ["read on the way"]),
        ("smtp://mail.invalid:587", ["read on the way", "names no user"]),
        ("smtp://localhost", []),
    ],
)
def test_a_submission_port_without_a_login_and_plain_smtp_to_another_machine_are_warnings(
    url: str, words: list[str]
) -> None:
    found = check.relay._risks(parse_url(url))
    assert [one.mark for one in found] == ["WARN"] * len(words)
    assert all(word in one.sentence for word, one in zip(words, found, strict=True))


async def test_what_the_url_alone_risks_is_told_where_the_relay_does_not_answer(tmp_path: Path) -> None:
    loaded = settings_in(tmp_path, submission={"url": "submission://127.0.0.1:1"})
    found = [one async for one in check.relay.findings(loaded)]
    assert [one.mark for one in found] == ["WARN", "FAIL"]
