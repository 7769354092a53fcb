"""Opening a mailbox is safe, or one sentence says why it fails."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from receiptd.errors import BadSettings
from receiptd.mailbox import Mailbox, MailboxDown, open_mailbox
from receiptd.mailbox.server_address import ServerAddress, parse_url
from receiptd.settings import MailboxSettings
from tests.fake_imap import CAPABILITY, Conversation, FakeImap, say_nothing


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    return _context(authority.issue_cert("127.0.0.1"))


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def _settings(
    server: FakeImap | int, scheme: str = "imap", *, user: str = "me%40a.org", ca_file: Path | None = None
) -> MailboxSettings:
    port = server if isinstance(server, int) else server.port
    url = f"{scheme}://{user}@127.0.0.1:{port}"
    return MailboxSettings(url=url, password_file=Path("/run/password"), ca_file=ca_file)


async def _enter(
    settings: MailboxSettings,
    password: str | None = "secret",
    token: str | None = None,
    time_limit: float = 10,
) -> frozenset[str]:
    async def access_token() -> str:
        assert token is not None
        return token

    async with open_mailbox(
        settings, password=password, access_token=access_token if token else None, time_limit=time_limit
    ) as mailbox:
        assert isinstance(mailbox, Mailbox)
        return mailbox.capabilities


async def _refused(settings: MailboxSettings, *, permanent: bool, time_limit: float = 10, **how: str | None) -> str:
    with pytest.raises(MailboxDown) as refusal:
        await _enter(settings, time_limit=time_limit, **how)
    assert refusal.value.permanent is permanent
    return str(refusal.value)


# --- who is there --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("imaps://receipts%40a.org@mail.a.org", ServerAddress("imaps", "mail.a.org", 993, "receipts@a.org")),
        ("imap+starttls://a%2Fb@[::1]:1143", ServerAddress("imap+starttls", "::1", 1143, "a/b")),
        ("imap+starttls://me@mail.a.org", ServerAddress("imap+starttls", "mail.a.org", 143, "me")),
    ],
)
def test_the_url_names_server_and_user(url: str, address: ServerAddress) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize("url", ["imaps://mail.a.org", "pop3://me@a.org", "imaps://me@a.org:x", "imap://me@mail.a.org"])
def test_a_url_that_names_none_is_refused(url: str) -> None:
    with pytest.raises(BadSettings):
        parse_url(url)


async def test_a_server_that_is_not_there_is_named(unused_port: int) -> None:
    said = await _refused(_settings(unused_port), permanent=False)
    assert f"127.0.0.1:{unused_port}" in said
    assert "Connection refused" in said


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_host_that_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", not_found)
    settings = MailboxSettings(url="imaps://me@mail.nowhere.test", password_file=Path("/run/password"))
    assert "mail.nowhere.test isn't found" in await _refused(settings, permanent=True)


async def test_a_server_that_never_greets_is_given_up() -> None:
    async with FakeImap(greeting="") as server:
        assert "doesn't answer" in await _refused(_settings(server), permanent=False, time_limit=0.2)


async def test_a_server_that_never_shakes_hands_is_given_up(ca_file: Path) -> None:
    async with FakeImap(greeting="") as server:
        settings = _settings(server, "imaps", ca_file=ca_file)
        assert "doesn't answer" in await _refused(settings, permanent=False, time_limit=0.2)


@pytest.mark.parametrize(
    ("greeting", "words", "permanent"),
    [
        ("* BYE too many connections", "refuses connections: too many connections", False),
        ("* PREAUTH welcome", "PREAUTH", True),
        ("220 mail.a.org ESMTP", "isn't an IMAP server", True),
    ],
)
async def test_a_greeting_that_is_no_welcome_is_told(greeting: str, words: str, permanent: bool) -> None:
    async with FakeImap(greeting=greeting) as server:
        assert words in await _refused(_settings(server), permanent=permanent)
        assert server.got == []


async def test_what_follows_the_greeting_at_once_does_not_disturb() -> None:
    async with FakeImap(greeting="* OK hello\r\n* CAPABILITY IMAP4rev1 LOGINDISABLED\r\n* OK one more") as server:
        assert "MOVE" in await _enter(_settings(server))


async def test_a_server_without_imap4rev1_is_told() -> None:
    async with FakeImap(capability="IMAP2") as server:
        assert "IMAP4rev1" in await _refused(_settings(server), permanent=True)


# --- TLS -----------------------------------------------------------------------------------------------------------


async def test_imaps_is_tls_from_the_start(certificate: ssl.SSLContext, ca_file: Path) -> None:
    async with FakeImap(tls=certificate) as server:
        assert "UIDPLUS" in await _enter(_settings(server, "imaps", ca_file=ca_file))


async def test_a_strange_certificate_is_refused(certificate: ssl.SSLContext) -> None:
    async with FakeImap(tls=certificate) as server:
        said = await _refused(_settings(server, "imaps"), permanent=True)
        assert "isn't trusted" in said
        assert "ca_file" in said


async def test_a_certificate_for_another_host_is_refused(authority: trustme.CA, ca_file: Path) -> None:
    async with FakeImap(tls=_context(authority.issue_cert("other.test"))) as server:
        assert "isn't trusted" in await _refused(_settings(server, "imaps", ca_file=ca_file), permanent=True)


async def test_tls_spoken_to_a_plain_port_is_told(ca_file: Path) -> None:
    async with FakeImap() as server:
        assert "imap+starttls://" in await _refused(_settings(server, "imaps", ca_file=ca_file), permanent=True)


async def test_a_ca_file_that_is_none_is_the_settings_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        (tmp_path / "empty.pem").write_text("nothing")
        with pytest.raises(BadSettings, match="ca_file"):
            await _enter(_settings(1, "imaps", ca_file=path))


def _starttls(certificate: ssl.SSLContext, *, tail: str = "", later: str = "") -> FakeImap:
    server = FakeImap(capability="IMAP4rev1 STARTTLS LOGINDISABLED")

    async def upgrade(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"TAG OK begin\r\n{tail}", tag)
        if later:
            await asyncio.sleep(0.05)
            await conversation.send(later)
        server.capability = CAPABILITY
        await conversation.upgrade(certificate)

    server.on("STARTTLS", upgrade)
    return server


async def test_starttls_comes_before_anything_else(certificate: ssl.SSLContext, ca_file: Path) -> None:
    async with _starttls(certificate) as server:
        offered = await _enter(_settings(server, "imap+starttls", ca_file=ca_file))
        assert "LOGINDISABLED" not in offered
        assert server.got[:4] == ["CAPABILITY", "STARTTLS", "CAPABILITY", 'LOGIN "me@a.org" "secret"']


@pytest.mark.parametrize("tail", ["* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", "* OK hal", "A1 OK\r\n"])
async def test_what_is_injected_behind_starttls_is_never_taken_for_the_server_s(
    tail: str, certificate: ssl.SSLContext, ca_file: Path
) -> None:
    async with _starttls(certificate, tail=tail) as server:
        said = await _refused(_settings(server, "imap+starttls", ca_file=ca_file), permanent=False)
        assert "in the clear after STARTTLS" in said
        assert server.got == ["CAPABILITY", "STARTTLS"]


async def test_clear_text_in_the_middle_of_the_handshake_ends_it(certificate: ssl.SSLContext, ca_file: Path) -> None:
    async with _starttls(certificate, later="* OK trust me\r\n") as server:
        await _refused(_settings(server, "imap+starttls", ca_file=ca_file), permanent=True)
        assert not server.commands("LOGIN")


@pytest.mark.parametrize("answer", ["TAG NO not today\r\n", "TAG BAD what?\r\n"])
async def test_no_starttls_no_password(answer: str, ca_file: Path) -> None:
    async with FakeImap(capability=CAPABILITY + " STARTTLS") as server:
        server.on("STARTTLS", answer)
        with pytest.raises(MailboxDown, match="STARTTLS"):
            await _enter(_settings(server, "imap+starttls", ca_file=ca_file))
        assert server.got == ["CAPABILITY", "STARTTLS"]


async def test_a_server_that_offers_no_starttls_is_not_asked_for_it(ca_file: Path) -> None:
    """GNU imap4d answers BAD, which said nothing of what to do."""
    async with FakeImap() as server:
        said = await _refused(_settings(server, "imap+starttls", ca_file=ca_file), permanent=True)
        assert "offers no STARTTLS" in said
        assert "imaps://" in said
        assert server.got == ["CAPABILITY"]


async def test_a_reset_in_the_tls_handshake_has_a_reason(ca_file: Path) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"imaps://me%40a.org@127.0.0.1:{port}"
        settings = MailboxSettings(url=url, password_file=Path("/run/password"), ca_file=ca_file)
        with pytest.raises(MailboxDown) as down:
            await _enter(settings)
    assert "()" not in str(down.value)
    assert "TLS was being set up" in str(down.value) or "reset" in str(down.value)


async def test_a_strange_certificate_is_refused_after_starttls_too(certificate: ssl.SSLContext) -> None:
    async with _starttls(certificate) as server:
        started = asyncio.get_running_loop().time()
        assert "isn't trusted" in await _refused(_settings(server, "imap+starttls"), permanent=True)
        assert asyncio.get_running_loop().time() - started < 4


# --- passwords -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "arrives"),
    [
        ("secret", 'LOGIN "me@a.org" "secret"'),
        ('a"b\\c d', 'LOGIN "me@a.org" "a\\"b\\\\c d"'),
        ("{5}", 'LOGIN "me@a.org" "{5}"'),
        ("pässword", "LOGIN me@a.org pässword"),
        ("a\r\nA1 LOGOUT", "LOGIN me@a.org a\r\nA1 LOGOUT"),
        ("", 'LOGIN "me@a.org" ""'),
    ],
)
async def test_an_odd_password_arrives_as_it_is(password: str, arrives: str) -> None:
    async with FakeImap() as server:
        await _enter(_settings(server), password=password)
        assert server.got[1] == arrives


async def test_an_odd_password_goes_by_sasl_where_that_is_offered() -> None:
    async with FakeImap(capability=CAPABILITY + " AUTH=PLAIN SASL-IR") as server:
        await _enter(_settings(server), password="pässword")
        word = server.got[1].removeprefix("AUTHENTICATE PLAIN ")
        assert b64decode(word).decode() == "\0me@a.org\0pässword"


def _challenge(
    *challenges: str, heard: list[str], end: str = "TAG OK in\r\n"
) -> Callable[[Conversation, str], Awaitable[None]]:
    async def authenticate(conversation: Conversation, tag: str) -> None:
        for challenge in challenges:
            await conversation.send(f"+ {challenge}\r\n")
            heard.append((await conversation.read_line()).decode())
        await conversation.send(end, tag)

    return authenticate


async def test_sasl_plain_is_used_where_login_is_disabled() -> None:
    heard: list[str] = []
    async with FakeImap(capability=CAPABILITY + " AUTH=PLAIN LOGINDISABLED") as server:
        server.on("AUTHENTICATE", _challenge("", heard=heard))
        await _enter(_settings(server))
        assert server.got[1] == "AUTHENTICATE PLAIN"
        assert b64decode(heard[0]) == b"\0me@a.org\0secret"


async def test_no_password_is_sent_where_none_is_wanted() -> None:
    async with FakeImap(capability=CAPABILITY + " LOGINDISABLED") as server:
        assert "LOGINDISABLED" in await _refused(_settings(server), permanent=True)
        assert server.got == ["CAPABILITY"]


@pytest.mark.parametrize(
    ("answer", "permanent"),
    [
        ("TAG NO [AUTHENTICATIONFAILED] Authentication failed.\r\n", True),
        ("TAG NO sorry\r\n", True),
        ("TAG NO [UNAVAILABLE] Temporary authentication failure.\r\n", False),
        ("* BYE overloaded\r\n", False),
    ],
)
async def test_a_refused_login_says_why_and_whether_it_lasts(answer: str, permanent: bool) -> None:
    async with FakeImap() as server:

        async def refuse(conversation: Conversation, tag: str) -> None:
            await conversation.send(answer, tag)
            if "BYE" in answer:
                raise ConnectionError

        server.on("LOGIN", refuse)
        said = await _refused(_settings(server), permanent=permanent)
        assert "secret" not in said
        assert ("password_file" in said) is permanent


@pytest.mark.parametrize("sasl", ["", " AUTH=PLAIN SASL-IR LOGINDISABLED"])
async def test_a_server_that_repeats_the_password_puts_no_part_of_it_into_the_sentence(sasl: str) -> None:
    async with FakeImap(capability=CAPABILITY + sasl) as server:

        async def repeat(conversation: Conversation, tag: str) -> None:
            await conversation.send(f"TAG NO I refuse {server.got[-1]}\r\n", tag)

        server.on("LOGIN", repeat)
        server.on("AUTHENTICATE", repeat)
        said = await _refused(_settings(server), permanent=True, password='cor"rect horse')
        assert "I refuse" in said
        assert "…" in said
        assert not {"rect", "horse", b64encode(b'\0me@a.org\0cor"rect horse').decode()} & set(
            re.split(r"[ \"()]", said)
        )


async def test_capabilities_are_asked_after_login_whatever_its_answer_says() -> None:
    async with FakeImap() as server:
        server.on("LOGIN", "TAG OK [CAPABILITY IMAP4rev1 NONSENSE] in\r\n")
        assert await _enter(_settings(server)) == frozenset(CAPABILITY.upper().split())


async def test_without_password_or_token_nothing_is_tried() -> None:
    async with FakeImap() as server:
        assert "password_file or oauth" in await _refused(_settings(server), permanent=True, password=None)


# --- access tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "word"),
    [
        ("XOAUTH2", "user=me@a.org\1auth=Bearer t0k\1\1"),
        ("OAUTHBEARER", "n,a=me@a.org,\1host=127.0.0.1\1port=%d\1auth=Bearer t0k\1\1"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_an_access_token_is_presented_as_the_mechanism_wants_it(mechanism: str, word: str, at_once: bool) -> None:
    heard: list[str] = []
    async with FakeImap(capability=f"{CAPABILITY} AUTH={mechanism}{' SASL-IR' if at_once else ''}") as server:
        if not at_once:
            server.on("AUTHENTICATE", _challenge("", heard=heard))
        await _enter(_settings(server), token="t0k")
        sent = heard[0] if heard else server.got[1].split()[2]
        assert b64decode(sent).decode() == (word % server.port if "%d" in word else word)


@pytest.mark.parametrize(("mechanism", "dummy"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
async def test_a_refused_token_is_answered_as_the_server_waits_for_it(mechanism: str, dummy: str) -> None:
    heard: list[str] = []
    async with FakeImap(capability=f"{CAPABILITY} AUTH={mechanism} SASL-IR") as server:
        reason = json.dumps({"status": "400"})
        server.on("AUTHENTICATE", _challenge(reason, heard=heard, end="TAG NO [AUTHENTICATIONFAILED] expired\r\n"))
        said = await _refused(_settings(server), permanent=True, token="t0k")
        assert heard == [dummy]
        assert "oauth" in said
        assert "t0k" not in said


async def test_a_server_without_oauth_is_told() -> None:
    async with FakeImap() as server:
        assert "XOAUTH2" in await _refused(_settings(server), permanent=True, token="t0k")


# --- out again -----------------------------------------------------------------------------------------------------


async def test_we_log_out_and_the_connection_is_closed() -> None:
    async with FakeImap() as server:
        await _enter(_settings(server))
        assert server.got[-1] == "LOGOUT"


async def test_a_server_that_never_lets_go_does_not_hold_us() -> None:
    async with FakeImap() as server:
        server.on("LOGOUT", say_nothing)
        await _enter(_settings(server), time_limit=0.2)


async def test_an_error_of_ours_ends_the_connection_and_passes() -> None:
    async with FakeImap() as server:
        with pytest.raises(ZeroDivisionError):
            async with open_mailbox(_settings(server), password="secret"):
                raise ZeroDivisionError
        assert "LOGOUT" not in server.got


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "[0:0:0:0:0:0:0:1]"])
def test_plain_imap_is_taken_on_any_address_of_this_machine(host: str) -> None:
    """What the settings take (127.0.0.2 among it), the mailbox takes too."""
    assert parse_url(f"imap://me@{host}").port == 143
