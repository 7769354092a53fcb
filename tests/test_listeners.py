"""The sockets: who gets in, what is in the way of making them, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from receiptd import errors, systemd
from receiptd.models import Message
from receiptd.settings import Settings
from receiptd.web import listeners, protocol
from tests.api_fixture import ApiFixture, open_api
from tests.steps_fixture import settings_in


def _settings(folder: Path, *listen: dict[str, Any]) -> Settings:
    database = f"sqlite:///{folder}/receiptd.db"
    return settings_in(folder, service={"database": database, "listen": list(listen)})


def _close(made: list[socket.socket]) -> None:
    for sock in made:
        sock.close()


def test_a_unix_socket_has_the_mode_that_the_settings_say_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "send.sock"
    before = os.umask(0o077)
    try:
        _close(listeners.bind_sockets(_settings(tmp_path, {"unix": str(path), "mode": "0666", "scope": "send"})))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_group_that_is_not_there_is_a_matter_of_settings(tmp_path: Path) -> None:
    with pytest.raises(errors.BadSettings, match="no group 'nobodies'"):
        listeners.bind_sockets(_settings(tmp_path, {"unix": str(tmp_path / "api.sock"), "group": "nobodies"}))


def test_a_socket_that_a_dead_daemon_left_is_taken_over(tmp_path: Path) -> None:
    settings = _settings(tmp_path, {"unix": str(tmp_path / "api.sock")})
    _close(listeners.bind_sockets(settings))
    _close(listeners.bind_sockets(settings))


def test_a_socket_that_answers_is_not_taken_over(tmp_path: Path) -> None:
    settings = _settings(tmp_path, {"unix": str(tmp_path / "api.sock")})
    living = listeners.bind_sockets(settings)
    with pytest.raises(errors.CantCreate, match="another daemon listens there"):
        listeners.bind_sockets(settings)
    with socket.socket(socket.AF_UNIX) as knock:
        knock.connect(str(tmp_path / "api.sock"))
    _close(living)


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "api.sock").write_text("precious")
    with pytest.raises(errors.CantCreate, match="no socket is in the way"):
        listeners.bind_sockets(_settings(tmp_path, {"unix": str(tmp_path / "api.sock")}))
    assert (tmp_path / "api.sock").read_text() == "precious"


def test_a_folder_that_is_not_there_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(errors.CantCreate, match=f"there is no folder {tmp_path}/rum") as told:
        listeners.bind_sockets(_settings(tmp_path, {"unix": str(tmp_path / "rum" / "api.sock")}))
    assert told.value.exit_status == os.EX_CANTCREAT
    assert not (tmp_path / "rum").exists()


def test_a_path_too_long_for_a_socket_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(errors.CantCreate, match="can't be made"):
        listeners.bind_sockets(_settings(tmp_path, {"unix": str(tmp_path / ("x" * 120))}))


def test_a_port_that_is_taken_is_a_sentence_and_opens_no_other_door(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.CantCreate, match=f"can't listen on {address}"):
            listeners.bind_sockets(_settings(tmp_path, {"unix": str(tmp_path / "api.sock")}, {"tcp": address}))
    with socket.socket(socket.AF_UNIX) as knock, pytest.raises(ConnectionRefusedError):
        knock.connect(str(tmp_path / "api.sock"))


async def test_the_sockets_are_gone_when_the_daemon_is(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        await server.send()
        assert (tmp_path / "send.sock").is_socket()
    assert not (tmp_path / "send.sock").exists()
    assert not (tmp_path / "api.sock").exists()


async def test_an_answer_that_is_under_way_is_finished(tmp_path: Path) -> None:
    """The request is read, and the listeners close before it is answered."""
    async with open_api(tmp_path) as server:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(tmp_path / "api.sock"))
        await server.send()  # the server has accepted the connection before this one's answer
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        await server.send()
    assert connection.recv(100).startswith(b"HTTP/1.1 503")
    connection.close()


async def test_who_is_at_the_other_end_is_the_kernels_word(tmp_path: Path) -> None:
    async with open_api(tmp_path) as server:
        forged = {"x-forwarded-for": "uid:12345", "forwarded": "for=uid:12345", "authorization": "Bearer x"}
        sent = await server.sender.post(
            "/v1/messages", json={"from": "a@a.test", "to": "b@b.test", "text": "x"}, headers=forged
        )
        whole = await _owner(server, sent.json()["id"])
    assert whole == f"uid:{os.getuid()}"


async def _owner(server: ApiFixture, message: str) -> str:
    async with server.steps.store.read() as session:
        return (await session.get_one(Message, message)).owner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as somebody else")
async def test_another_user_gets_a_name_of_its_own() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rcpt-"))
    folder.chmod(0o755)
    async with open_api(folder) as server:
        mine = await server.send(server.sender)
        reader, writer = await asyncio.open_connection(sock=_as_user(12345, folder / "send.sock"))
        writer.write(b"GET /v1/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = await reader.read()
        writer.close()
        assert mine["id"].encode() not in said
        assert b'"items":[]' in said
    shutil.rmtree(folder)


def _as_user(uid: int, path: Path) -> socket.socket:
    """Connect as another user: the kernel notes the effective uid of that moment."""
    sock = socket.socket(socket.AF_UNIX)
    os.seteuid(uid)
    try:
        sock.connect(str(path))
    finally:
        os.seteuid(0)
    return sock


async def test_a_socket_that_systemd_passed_is_served_and_left_to_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "api.sock"
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(str(path))
    passed.listen()
    monkeypatch.setattr(systemd, "passed_sockets", lambda: {"api": passed})
    async with open_api(tmp_path) as server:
        await server.send()
    assert path.is_socket()
    assert not (tmp_path / "send.sock").exists()


async def test_an_answer_over_tcp_is_sent_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio switches Nagle's algorithm off only for a socket that says it is TCP's; each answer waited 40 ms."""
    seen: list[int] = []
    made = protocol.PeerProtocol.connection_made

    def note(self: protocol.PeerProtocol, transport: Any) -> None:
        made(self, transport)
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(protocol.PeerProtocol, "connection_made", note)
    async with open_api(tmp_path) as server:
        await server.over_tcp().get("/healthz")
    assert seen == [1]


async def test_a_token_that_became_too_short_or_went_away_lets_nobody_in_and_shuts_nobody_else_out(
    tmp_path: Path,
) -> None:
    async with open_api(tmp_path) as server:
        assert (await server.over_tcp("erp").get("/v1/messages")).status_code == 200
        (tmp_path / "erp").write_text("x")
        answer = await server.over_tcp("erp").get("/v1/messages")
        assert answer.status_code == 401
        assert str(tmp_path) not in answer.text
        short = await server.over_tcp().get("/v1/messages", headers={"authorization": "Bearer x"})
        assert short.status_code == 401
        assert (await server.over_tcp("boss").get("/v1/messages")).status_code == 200
