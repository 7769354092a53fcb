"""Access tokens from a real endpoint, a command and a file."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import shlex
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from structlog.testing import capture_logs

from receiptd import oauth
from receiptd.oauth import AccessToken, NoToken
from receiptd.settings import OAuth


class Endpoint(ThreadingHTTPServer):
    """A token endpoint that answers what it is told and keeps the forms it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.forms: list[dict[str, str]] = []
        self.answers: list[tuple[int, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"


class Answer(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.forms.append({name: values[0] for name, values in parse_qs(body).items()})
        number = len(self.server.forms)
        answer: Any
        status, answer = 200, {"access_token": f"token{number}", "token_type": "Bearer", "expires_in": 3600}
        if self.server.answers:
            status, answer = self.server.answers.pop(0)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("s3cret&=\n")
    return path


@pytest.fixture
def refresh_file(tmp_path: Path) -> Path:
    path = tmp_path / "refresh"
    path.write_text("refresh1\n")
    return path


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def by_secret(endpoint: Endpoint, secret_file: Path) -> OAuth:
    return OAuth(token_url=endpoint.url, client_id="me", client_secret_file=secret_file, scope="mail.send")


def by_refresh(endpoint: Endpoint, refresh_file: Path) -> OAuth:
    return OAuth(token_url=endpoint.url, client_id="me", refresh_token_file=refresh_file)


async def test_client_credentials_are_sent_as_the_rfc_says(endpoint: Endpoint, secret_file: Path) -> None:
    assert await AccessToken(by_secret(endpoint, secret_file)).get() == "token1"
    assert endpoint.forms == [
        {"grant_type": "client_credentials", "client_id": "me", "client_secret": "s3cret&=", "scope": "mail.send"}
    ]


async def test_a_refresh_token_is_sent_as_the_rfc_says(endpoint: Endpoint, refresh_file: Path) -> None:
    assert await AccessToken(by_refresh(endpoint, refresh_file)).get() == "token1"
    assert endpoint.forms == [{"grant_type": "refresh_token", "client_id": "me", "refresh_token": "refresh1"}]


async def test_a_token_is_kept_until_a_minute_before_its_end(endpoint: Endpoint, secret_file: Path) -> None:
    clock = Clock()
    source = AccessToken(by_secret(endpoint, secret_file), clock=clock)
    assert await source.get() == "token1"
    clock.now += 3539
    assert await source.get() == "token1"
    clock.now += 1
    assert await source.get() == "token2"


async def test_a_rejected_token_is_fetched_anew_and_only_that_one(endpoint: Endpoint, secret_file: Path) -> None:
    source = AccessToken(by_secret(endpoint, secret_file))
    assert await source.get() == "token1"
    assert await source.get("token1") == "token2"
    assert await source.get("token1") == "token2", "ten connections that were refused need one new token, not ten"
    assert len(endpoint.forms) == 2


async def test_many_tasks_at_once_ask_once(endpoint: Endpoint, secret_file: Path) -> None:
    source = AccessToken(by_secret(endpoint, secret_file))
    assert set(await asyncio.gather(*(source.get() for _ in range(10)))) == {"token1"}
    assert len(endpoint.forms) == 1


@pytest.mark.parametrize("stated", [None, "soon", ""])
async def test_a_token_of_unstated_life_is_soon_fetched_again(
    stated: object, endpoint: Endpoint, secret_file: Path
) -> None:
    clock = Clock()
    endpoint.answers = [(200, {"access_token": "short", "expires_in": stated})]
    source = AccessToken(by_secret(endpoint, secret_file), clock=clock)
    assert await source.get() == "short"
    clock.now += 239
    assert await source.get() == "short"
    clock.now += 1
    assert await source.get() == "token2"


async def test_a_new_refresh_token_takes_the_place_of_the_old_in_the_file(
    endpoint: Endpoint, refresh_file: Path
) -> None:
    endpoint.answers = [(200, {"access_token": "one", "expires_in": 1, "refresh_token": "refresh2"})]
    source = AccessToken(by_refresh(endpoint, refresh_file))
    await source.get()
    assert refresh_file.read_text() == "refresh2\n"
    assert refresh_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in refresh_file.parent.iterdir()] == ["refresh"]
    await source.get()
    assert endpoint.forms[1]["refresh_token"] == "refresh2"


async def test_where_the_file_is_read_only_the_new_refresh_token_is_remembered(
    endpoint: Endpoint, refresh_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    endpoint.answers = [(200, {"access_token": "one", "expires_in": 1, "refresh_token": "refresh2"})] * 2
    source = AccessToken(by_refresh(endpoint, refresh_file))
    await source.get()
    await source.get()
    assert refresh_file.read_text() == "refresh1\n"
    assert endpoint.forms[1]["refresh_token"] == "refresh2"
    refresh_file.write_text("by hand\n")
    await source.get()
    assert endpoint.forms[2]["refresh_token"] == "by hand"


async def test_where_the_disk_is_full_the_new_refresh_token_is_remembered_and_written_later(
    endpoint: Endpoint, refresh_file: Path
) -> None:
    endpoint.answers = [(200, {"access_token": word, "expires_in": 1, "refresh_token": "refresh2"}) for word in "ab"]
    source = AccessToken(by_refresh(endpoint, refresh_file))
    with _full_disk():
        assert await source.get() == "a"
    assert refresh_file.read_text() == "refresh1\n"
    assert await source.get() == "b"
    assert endpoint.forms[1]["refresh_token"] == "refresh2"
    assert refresh_file.read_text() == "refresh2\n"
    assert [path.name for path in refresh_file.parent.iterdir()] == ["refresh"]


@contextmanager
def _full_disk() -> Iterator[None]:
    """Let the kernel refuse this process to write into any file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with capture_logs():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("status", "answer", "permanent", "words"),
    [
        (400, {"error": "invalid_grant", "error_description": "expired\x1b\r\nX"}, True, "authorise receiptd again"),
        (401, {"error": "invalid_client"}, True, "check client_id"),
        (429, {}, False, "429"),
        (503, b"<html>down</html>", False, "503"),
        (200, b"<html>log in</html>", True, "no access token"),
        (200, {"access_token": "two words"}, True, "no access token"),
        (200, ["access_token"], True, "no access token"),
        (302, {}, False, "302"),
    ],
)
async def test_a_refusal_says_what_to_do_and_shows_no_secret(
    status: int, answer: Any, permanent: bool, words: str, endpoint: Endpoint, refresh_file: Path
) -> None:
    endpoint.answers = [(status, answer)]
    with pytest.raises(NoToken) as none:
        await AccessToken(by_refresh(endpoint, refresh_file)).get()
    assert none.value.permanent is permanent
    assert words in str(none.value)
    assert "refresh1" not in str(none.value)
    assert "two words" not in str(none.value)
    assert str(none.value).isprintable()


async def test_an_endpoint_that_is_down_may_be_asked_again(endpoint: Endpoint, secret_file: Path) -> None:
    settings = OAuth(token_url="http://127.0.0.1:1/token", client_id="me", client_secret_file=secret_file)
    with pytest.raises(NoToken) as none:
        await AccessToken(settings).get()
    assert not none.value.permanent
    assert "doesn't answer" in str(none.value)


async def test_after_a_failure_the_next_call_asks_again(endpoint: Endpoint, secret_file: Path) -> None:
    endpoint.answers = [(503, {})]
    source = AccessToken(by_secret(endpoint, secret_file))
    with pytest.raises(NoToken):
        await source.get()
    assert await source.get() == "token2"


async def test_secrets_never_cross_the_network_in_the_clear(secret_file: Path) -> None:
    settings = OAuth(token_url="http://login.example.org/token", client_id="me", client_secret_file=secret_file)
    with pytest.raises(NoToken, match="https"):
        await AccessToken(settings).get()


async def test_an_answer_is_bounded_while_it_is_read(secret_file: Path) -> None:
    """0.6 MB of gzip unpacked to 626 MB in memory before anybody looked at its length."""
    packed = gzip.compress(b" " * (200 << 20), compresslevel=9)
    async with flooding(packed) as url:
        settings = OAuth(token_url=url, client_id="me", client_secret_file=secret_file)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(NoToken, match="no access token"):
            await AccessToken(settings).get()
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 20 << 10  # KiB


async def test_an_answer_that_never_ends_has_its_time(secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "_TIMEOUT", 0.3)
    async with flooding(b" " * 1000, pause=0.05) as url:
        settings = OAuth(token_url=url, client_id="me", client_secret_file=secret_file)
        with pytest.raises(NoToken, match="doesn't answer") as none:
            await AccessToken(settings).get()
        assert not none.value.permanent


@asynccontextmanager
async def flooding(content: bytes, *, pause: float = 0) -> AsyncIterator[str]:
    """Answer each request with *content*, said to be gzip; with a *pause*, one octet after the other."""

    answering = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.clear()
        await reader.readuntil(b"\r\n\r\n")
        packed = b"" if pause else b"Content-Encoding: gzip\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (packed, len(content)))
        with suppress(ConnectionError):
            for piece in [content[i : i + 1] for i in range(len(content))] if pause else [content]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.transport.abort()
        await asyncio.sleep(0)
        answering.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
        await answering.wait()


async def test_a_missing_secret_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(NoToken, match=str(tmp_path / "gone")):
        await AccessToken(by_secret(endpoint, tmp_path / "gone")).get()
    assert endpoint.forms == []


async def test_a_token_file_is_read_every_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    source = AccessToken(OAuth(token_file=path))
    assert await source.get() == "one"
    path.write_text("two\n")
    assert await source.get() == "two"


def python(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


async def test_a_command_prints_the_token(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    code = f"open({str(marks)!r}, 'a').write('x'); print('token', open({str(marks)!r}).read(), sep='-')"
    source = AccessToken(OAuth(token_command=python(code)))
    assert await source.get() == "token-x"
    assert await source.get() == "token-xx"


async def test_a_command_gets_no_shell() -> None:
    assert await AccessToken(OAuth(token_command="printf %s $(id);x")).get() == "$(id);x"


@pytest.mark.parametrize(
    ("command", "words", "permanent"),
    [
        (python("import sys; print('t0k3n'); sys.exit('log in first')"), "status 1: log in first", False),
        ("/nowhere/command", "can't be run: No such file or directory", True),
        ("unclosed 'quote", "can't be run: No closing quotation", True),
        (python("print('t0k3n and more')"), "no access token", True),
        ("true", "no access token", True),
    ],
)
async def test_a_command_that_fails_is_named_without_its_output(command: str, words: str, permanent: bool) -> None:
    with pytest.raises(NoToken) as none:
        await AccessToken(OAuth(token_command=command)).get()
    assert words in str(none.value)
    assert none.value.permanent is permanent
    assert "t0k3n" not in str(none.value)


async def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "_TIMEOUT", 0.05)
    with pytest.raises(NoToken, match="took more than"):
        await AccessToken(OAuth(token_command="sleep 60")).get()
