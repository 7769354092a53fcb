"""What the client must do: find the daemon, ask it, and turn its answers into errors with an exit status."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from receiptd import client
from receiptd.errors import (
    BadData,
    BadSettings,
    NoInput,
    NotPermitted,
    ReceiptdError,
    TryLater,
    Unavailable,
    UsageError,
)
from tests.fake_api import FakeAPI, problem, serve


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeAPI]:
    with serve(tmp_path / "api.sock") as served:
        yield served


def config(tmp_path: Path, *sockets: tuple[str, str]) -> Path:
    """Write settings that name these sockets with these scopes; the rest of the file is the daemon's alone."""
    entries = ", ".join(f'{{unix = "{tmp_path / name}", scope = "{scope}"}}' for name, scope in sockets)
    path = tmp_path / "receiptd.toml"
    path.write_text(f'[service]\nlisten = [{entries}, {{tcp = "127.0.0.1:8025"}}]\n[nonsense]\nx = 1\n')
    return path


def test_the_operators_socket_is_tried_first(api: FakeAPI, tmp_path: Path) -> None:
    with serve(tmp_path / "send.sock") as other:
        api.answers["GET", "/v1/x"] = other.answers["GET", "/v1/x"] = (200, {})
        client.find(config(tmp_path, ("send.sock", "send"), ("api.sock", "operate")), environ={}).get("/v1/x")
    assert len(api.requests) == 1
    assert not other.requests


@pytest.mark.parametrize("hindrance", ["missing", "refused", "denied"])
def test_a_door_that_does_not_open_leads_to_the_next(hindrance: str) -> None:
    with tempfile.TemporaryDirectory() as directory, serve(Path(directory, "api.sock")) as api:
        api.answers["GET", "/v1/x"] = (200, [1])
        named = config(Path(directory), ("first.sock", "operate"), ("api.sock", "send"))
        first = Path(directory, "first.sock")
        if hindrance != "missing":
            with socket.socket(socket.AF_UNIX) as listening:  # bound, and nobody listens
                listening.bind(str(first))
        if hindrance == "denied":
            first.chmod(0)
            Path(directory, "api.sock").chmod(0o666)
            Path(directory).chmod(0o755)
        with nobody() if hindrance == "denied" else nullcontext():
            assert client.find(named, environ={}).get("/v1/x") == [1]


def test_who_is_denied_at_every_door_is_told_so() -> None:
    with tempfile.TemporaryDirectory() as directory, serve(Path(directory, "api.sock")):
        named = config(Path(directory), ("api.sock", "operate"), ("gone.sock", "send"))
        Path(directory, "api.sock").chmod(0)
        Path(directory).chmod(0o755)
        with nobody(), pytest.raises(NotPermitted, match="group"):
            client.find(named, environ={}).get("/v1/x")


def test_settings_of_the_usual_place_that_the_sender_may_not_read_leave_the_usual_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr(client, "SOCKETS", (Path(directory, "usual.sock"),))
        monkeypatch.setattr(client, "CONFIG_PLACES", (config(Path(directory), ("other.sock", "send")),))
        client.CONFIG_PLACES[0].chmod(0)
        Path(directory).chmod(0o755)
        with nobody(), pytest.raises(Unavailable, match=r"usual\.sock"):
            client.find(environ={}).get("/v1/x")


def test_settings_that_are_named_and_may_not_be_read_are_not_passed_over() -> None:
    with tempfile.TemporaryDirectory() as directory:
        named = config(Path(directory), ("other.sock", "send"))
        named.chmod(0)
        Path(directory).chmod(0o755)
        for path, environ in ((named, {}), (None, {"RECEIPTD_CONFIG": str(named)})):
            with nobody(), pytest.raises(NotPermitted, match=r"receiptd\.toml can't be read \(Permission denied\)"):
                client.find(path, environ=environ)


@contextmanager
def nobody() -> Iterator[None]:
    """Be another user than root, to whom nothing is denied."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_daemon_says_where_it_was_sought(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"send\.sock.*receiptd run"):
        client.find(config(tmp_path, ("send.sock", "send")), environ={}).get("/v1/x")


def test_settings_come_from_the_environment_or_the_places_where_the_daemon_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = config(tmp_path, ("mine.sock", "send"))
    with pytest.raises(Unavailable, match=r"mine\.sock"):
        client.find(environ={"RECEIPTD_CONFIG": str(named)}).get("/v1/x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable, match=r"mine\.sock"):
        client.find(environ={}).get("/v1/x")


def test_a_relative_socket_lies_beside_the_settings(api: FakeAPI, tmp_path: Path) -> None:
    (tmp_path / "receiptd.toml").write_text('[service]\nlisten = [{unix = "api.sock"}]\n')
    api.answers["GET", "/v1/x"] = (200, {})
    client.find(tmp_path / "receiptd.toml", environ={}).get("/v1/x")
    assert len(api.requests) == 1


def test_without_settings_the_usual_sockets_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONFIG_PLACES", (tmp_path / "none.toml",))
    monkeypatch.setattr(client, "SOCKETS", (tmp_path / "usual.sock",))
    with pytest.raises(Unavailable, match=r"usual\.sock"):
        client.find(environ={}).get("/v1/x")
    (tmp_path / "none.toml").write_text("[submission]\nurl = 'smtp://localhost'\n")
    with pytest.raises(Unavailable, match=r"usual\.sock"):
        client.find(environ={}).get("/v1/x")


def test_a_settings_file_that_is_named_must_be_there_and_make_sense(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no settings file"):
        client.find(tmp_path / "none.toml", environ={})
    for text in ("[service\n", "service = 1\n", "[service]\nlisten = 1\n", "[service]\nlisten = [1]\n"):
        broken = tmp_path / "broken.toml"
        broken.write_text(text)
        with pytest.raises(BadSettings, match=r"broken\.toml"):
            client.find(broken, environ={})


def test_over_tcp_a_token_opens(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with serve(token="s3cret") as api:
        api.answers["GET", "/v1/x"] = (200, {"ok": True})
        assert client.find(server=api.url, environ={"RECEIPTD_TOKEN_FILE": str(token)}).get("/v1/x") == {"ok": True}
        with pytest.raises(NotPermitted, match="not known"):
            client.find(server=api.url + "/", environ={}).get("/v1/x")


def test_a_token_does_not_cross_the_network_in_the_clear(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    environ = {"RECEIPTD_TOKEN_FILE": str(token)}
    for server in ("http://receiptd.example.org:8025", "http://10.0.0.5", "http://127.0.0.1.example.org"):
        with pytest.raises(UsageError, match="in the clear: write https://"):
            client.find(server=server, environ=environ)
    for server in ("https://receiptd.example.org", "http://localhost:8025", "http://[::1]:8025", "http://127.0.0.1"):
        client.find(server=server, environ=environ)


def test_a_password_in_the_url_of_the_server_is_refused_and_not_repeated() -> None:
    for server in ("https://me:s3cret@a.org", "me:s3cret@a.org", "http://me:s3/cret@a.org:port"):
        with pytest.raises(UsageError, match="no place in --server") as refused:
            client.find(server=server, environ={})
        assert "s3" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"two words", b"caf\xc3\xa9"])
def test_a_token_that_can_not_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content:
        path.write_bytes(content)
    with pytest.raises((NoInput, BadData), match=r"RECEIPTD_TOKEN_FILE"):
        client.find(server="http://127.0.0.1:1", environ={"RECEIPTD_TOKEN_FILE": str(path)})


@pytest.mark.parametrize(
    "server",
    [
        *("", "localhost:8025", "ftp://a.org", "http://", "http://a.org:port", "http://a.org/path", "http://[::1"),
        *("http://a b.org", "http://a..b", "http://\udcfc.org"),
    ],
)
def test_a_server_that_is_no_url_is_a_usage_error(server: str) -> None:
    with pytest.raises(UsageError, match="names no server"):
        client.find(server=server, environ={})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(422, "the recipient has no domain", 65), BadData),
        (problem(503, "the database is busy", 75), TryLater),
        (problem(500, "the receipts address is wrong", 78), BadSettings),
        ((413, {"title": "too large"}), BadData),
        ((404, {"detail": "nothing there"}), BadData),
        ((403, {"detail": "this socket only sends"}), NotPermitted),
        ((429, {}), TryLater),
        ((502, b"<html>proxy</html>"), Unavailable),
        ((500, b"oops"), ReceiptdError),
        ((200, b"<html>not receiptd</html>"), Unavailable),
        ((200, b"null"), Unavailable),
    ],
)
def test_an_answer_means_an_error_with_a_sentence(
    api: FakeAPI, tmp_path: Path, answer: tuple[int, object], error: type[ReceiptdError]
) -> None:
    api.answers["GET", "/v1/x"] = answer
    with pytest.raises(error) as raised:
        client.find(config(tmp_path, ("api.sock", "operate")), environ={}).get("/v1/x")
    assert type(raised.value) is error
    body = answer[1] if isinstance(answer[1], dict) else {}
    assert str(raised.value) == (body.get("detail") or body.get("title") or str(raised.value))
    assert len(str(raised.value)) > 5


def test_a_daemon_that_hangs_up_leaves_the_outcome_open_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.create_server(str(path), family=socket.AF_UNIX) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Unavailable, match="idempotency-key"):
            client.find(config(tmp_path, ("api.sock", "operate")), environ={}).post("/v1/messages", {})
        thread.join()


def test_an_answer_before_the_whole_body_was_read_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.create_server(str(path), family=socket.AF_UNIX) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b'HTTP/1.1 413 No\r\nContent-Length: 21\r\n\r\n{"detail": "too big"}')
            connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(BadData, match="too big"):
            client.find(config(tmp_path, ("api.sock", "send")), environ={}).post_message(b"x" * 5_000_000, [])
        thread.join()


@pytest.mark.parametrize("answer", [[], "x", 3, {"items": 1}, {"recipients": [], "id": 1}])
def test_what_is_not_receiptd_is_named_so(api: FakeAPI, tmp_path: Path, answer: object) -> None:
    api.answers["GET", "/v1/x"] = (200, answer)
    daemon = client.find(config(tmp_path, ("api.sock", "operate")), environ={})
    with pytest.raises(Unavailable, match="is not receiptd"):
        client.expect(daemon.get("/v1/x"), id=str, items=list)


def test_what_is_no_utf_8_is_refused_wherever_it_would_go(api: FakeAPI, tmp_path: Path) -> None:
    daemon = client.find(config(tmp_path, ("api.sock", "operate")), environ={})
    for ask in (
        lambda: daemon.get("/v1/x", [("q", "\udcfc")]),
        lambda: daemon.post("/v1/x", {"reason": "\udcfc"}),
        lambda: client.path("messages", "\udcfc"),
    ):
        with pytest.raises(BadData, match="not valid UTF-8"):
            ask()
    assert not api.requests


def test_an_id_can_not_reach_another_path() -> None:
    assert client.path("messages", "../alerts?x", "raw") == "/v1/messages/..%2Falerts%3Fx/raw"
    for dots in ("", ".", ".."):
        with pytest.raises(UsageError, match="only dots"):
            client.path("messages", dots, "cancel")


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"],
)
def test_an_answer_that_is_cut_off_or_no_http_is_none(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "api.sock"
    with socket.create_server(str(path), family=socket.AF_UNIX) as server:

        def cut_off() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=cut_off)
        thread.start()
        with pytest.raises(Unavailable, match="ended the connection before it answered"):
            client.find(config(tmp_path, ("api.sock", "send")), environ={}).get("/v1/x")
        thread.join()


def test_a_line_break_in_a_header_begins_no_other_request(api: FakeAPI, tmp_path: Path) -> None:
    daemon = client.find(config(tmp_path, ("api.sock", "send")), environ={})
    with pytest.raises(ValueError, match="can't stand in a request"):
        daemon.post("/v1/messages", {}, headers={"Idempotency-Key": "a\r\nX: y"})
    assert not api.requests


def test_send_with_receipt_imports_nothing_slow() -> None:
    """Each of these takes as long as all that it needs: with them it took eight times as long as a bare Python."""
    slow = {"http.client", "ssl", "email", "dataclasses", "inspect", "asyncio", "receiptd.pages", "receiptd.settings"}
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, receiptd.send; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not slow & set(loaded.stdout.split())
