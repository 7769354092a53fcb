"""TLS, AUTH and capabilities: how a connection comes about, and which sentence says why it didn't."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from receiptd.errors import ReceiptdError
from receiptd.oauth import AccessToken
from receiptd.settings import OAuth, Submission
from receiptd.smtp import Accepted, Relay, RelayDown, TokenSource
from receiptd.smtp.connection import Login, _must_verify
from receiptd.smtp.server import Server, parse_url
from tests.fake_smtp import EVERYTHING, FakeSMTP
from tests.test_smtp import submit

AUTHORITY = trustme.CA()
STARTTLS = (*EVERYTHING, "STARTTLS")
PASSWORD = "pa ss=wörd "


def server_context(name: str = "127.0.0.1", authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


@contextlib.asynccontextmanager
async def a_relay_with_tls(
    scheme: str = "submission",
    *,
    context: ssl.SSLContext | None = None,
    user: str | None = None,
    access_token: TokenSource | None = None,
    password: str | None = None,
    settings: dict[str, Any],
    **fake: Any,
) -> AsyncIterator[tuple[Relay, FakeSMTP]]:
    context = context or server_context()
    async with FakeSMTP(tls=context, implicit_tls=scheme == "submissions", **fake) as server:
        name = f"{user}@" if user else ""
        url = f"{scheme}://{name}127.0.0.1:{server.port}"
        relay = Relay(Submission(url=url, **settings), access_token=access_token, password=password)
        try:
            yield relay, server
        finally:
            await relay.close()


async def down(relay: Relay) -> RelayDown:
    with pytest.raises(RelayDown) as raised:
        await relay.probe()
    assert str(raised.value).count("\n") == 0
    return raised.value


@pytest.mark.parametrize("scheme", ["submission", "submissions", "smtp"])
async def test_a_message_goes_over_tls(scheme: str, ca_file: Path) -> None:
    async with a_relay_with_tls(scheme, ehlo=STARTTLS, after_tls=EVERYTHING, settings={"ca_file": ca_file}) as (
        relay,
        fake,
    ):
        outcome = await submit(relay)
        assert isinstance(outcome, Accepted)
        assert outcome.capabilities.tls == "TLSv1.3"
        assert "(TLSv1.3)" in outcome.dialogue
    assert len(fake.messages) == 1


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [((*STARTTLS[:2], "STARTTLS"), EVERYTHING, True), (STARTTLS, ("SIZE 100000",), False)],
    ids=["only after TLS", "only before TLS"],
)
async def test_a02_what_counts_is_offered_after_starttls(
    before: tuple[str, ...], after: tuple[str, ...], used: bool, ca_file: Path
) -> None:
    async with a_relay_with_tls(ehlo=before, after_tls=after, settings={"ca_file": ca_file}) as (relay, fake):
        outcome = await submit(relay)
    assert isinstance(outcome, Accepted)
    assert outcome.dsn_requested is used
    assert ("ENVID=" in fake.said("MAIL")[0]) is used


@pytest.mark.parametrize("offered_to_user", [True, False])
async def test_a02_what_counts_is_offered_after_auth(offered_to_user: bool, password_file: Path, ca_file: Path) -> None:
    full, bare = ("AUTH PLAIN", *EVERYTHING), ("AUTH PLAIN", "SIZE 100000")
    before, after = (bare, full) if offered_to_user else (full, bare)
    async with a_relay_with_tls(
        "submissions",
        user="me",
        ehlo=(),
        after_tls=before,
        after_auth=after,
        users={"me": PASSWORD},
        settings={"ca_file": ca_file, "password_file": password_file},
    ) as (relay, _):
        outcome = await submit(relay)
    assert isinstance(outcome, Accepted)
    assert outcome.dsn_requested is offered_to_user


async def test_submission_without_starttls_sends_nothing_in_the_clear(password_file: Path) -> None:
    settings = {"password_file": password_file}
    async with a_relay_with_tls(user="me", ehlo=("AUTH PLAIN", *EVERYTHING), settings=settings) as (relay, fake):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("starttls", True)
    assert "offers no STARTTLS" in str(error)
    assert fake.said("AUTH") == []


async def test_a_refused_starttls_is_about_us(ca_file: Path) -> None:
    script = {"STARTTLS": ["454 4.7.0 TLS not available"]}
    async with a_relay_with_tls(ehlo=STARTTLS, script=script, settings={"ca_file": ca_file}) as (relay, fake):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("starttls", False)
    assert fake.said("MAIL") == []


async def test_plaintext_behind_starttls_is_never_believed(ca_file: Path) -> None:
    injected = "220 2.0.0 Ready\r\n250-evil.test\r\n250 DSN"
    async with a_relay_with_tls(
        ehlo=STARTTLS, after_tls=("SIZE 1000",), script={"STARTTLS": [injected]}, settings={"ca_file": ca_file}
    ) as (relay, _):
        try:
            offered = await relay.probe()
        except RelayDown as error:
            assert error.stage in ("starttls", "ehlo")  # noqa: PT017
        else:
            assert not offered.dsn


@pytest.mark.parametrize("scheme", ["submission", "submissions"])
@pytest.mark.parametrize(
    ("context", "words"),
    [
        (server_context(authority=trustme.CA()), "unable to get local issuer"),
        (server_context("mail.other.test"), "IP address mismatch"),
    ],
    ids=["a stranger's authority", "another name"],
)
async def test_a_bad_certificate_is_named_with_the_way_out(
    scheme: str, context: ssl.SSLContext, words: str, ca_file: Path
) -> None:
    async with a_relay_with_tls(scheme, context=context, ehlo=STARTTLS, settings={"ca_file": ca_file}) as (relay, _):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("starttls", True)
    assert "certificate" in str(error)
    assert words in str(error)
    assert "ca_file" in str(error)


async def test_without_ca_file_the_systems_authorities_decide() -> None:
    async with a_relay_with_tls(ehlo=STARTTLS, settings={}) as (relay, _):
        assert (await down(relay)).stage == "starttls"


async def test_smtp_takes_a_certificate_nobody_vouches_for_where_plain_would_do() -> None:
    async with a_relay_with_tls("smtp", ehlo=STARTTLS, settings={}) as (relay, _):
        assert (await relay.probe()).tls is not None


@pytest.mark.parametrize(
    ("url", "login", "ca", "verified"),
    [
        ("smtp://mail.a.test", Login(), None, False),
        ("smtp://mail.a.test", Login(), Path("ca.pem"), True),
        ("smtp://me@mail.a.test", Login("secret"), None, True),
        ("smtp://me@localhost", Login("secret"), None, False),
        ("submission://mail.a.test", Login(), None, True),
    ],
)
def test_a_password_goes_only_to_a_server_that_is_who_it_says(
    url: str, login: Login, ca: Path | None, verified: bool
) -> None:
    assert _must_verify(parse_url(url), login, ca) is verified


async def test_a_password_never_crosses_the_network_in_the_clear(
    password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "is_here", False)
    async with a_relay_with_tls(
        "smtp", user="me", ehlo=("AUTH PLAIN",), users={"me": PASSWORD}, settings={"password_file": password_file}
    ) as (relay, fake):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", True)
    assert "in the clear" in str(error)
    assert fake.said("AUTH") == []


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("10.0.0.1", False), ("a.test", False)],
)
def test_only_loopback_is_this_machine(host: str, here: bool) -> None:
    assert parse_url(f"smtp://{host}").is_here is here


async def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("not a certificate")
    for path in (empty, tmp_path / "missing.pem"):
        async with a_relay_with_tls(ehlo=STARTTLS, settings={"ca_file": path}) as (relay, _):
            error = await down(relay)
        assert (error.stage, error.permanent) == ("starttls", True)
        assert str(path) in str(error)


async def test_tls_on_a_plain_port_is_trouble_with_tls(ca_file: Path) -> None:
    async with FakeSMTP() as fake:
        relay = Relay(Submission(url=f"submissions://127.0.0.1:{fake.port}", ca_file=ca_file))
        assert (await down(relay)).stage == "starttls"


async def test_a_closed_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{port}"))
    error = await down(relay)
    assert (error.stage, error.permanent) == ("connect", False)
    assert f"127.0.0.1:{port} can't be reached (Connection refused)" in str(error)


async def test_an_unknown_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    error = await down(Relay(Submission(url="smtp://mail.nowhere.test")))
    assert (error.stage, error.permanent) == ("connect", True)
    assert "mail.nowhere.test isn't found in DNS" in str(error)


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "PLAIN"])
async def test_a_password_file_is_stripped_of_one_line_end_and_nothing_else(
    mechanisms: str, password_file: Path
) -> None:
    async with a_relay_with_tls(
        "smtp",
        user="me%40a.test",
        ehlo=(f"AUTH {mechanisms}", "DSN"),
        users={"me@a.test": PASSWORD},
        settings={"password_file": password_file},
    ) as (relay, _):
        assert isinstance(await submit(relay), Accepted)


async def test_a_changed_password_file_is_read_at_the_next_login(password_file: Path) -> None:
    password_file.write_text("old\n")
    async with a_relay_with_tls(
        "smtp", user="me", ehlo=("AUTH PLAIN",), users={"me": "new"}, settings={"password_file": password_file}
    ) as (relay, _):
        error = await down(relay)
        assert (error.stage, error.permanent) == ("auth", True)
        password_file.write_text("new")
        await relay.probe()


async def test_a_password_given_goes_before_the_file(password_file: Path) -> None:
    async with a_relay_with_tls(
        "smtp",
        user="me",
        ehlo=("AUTH PLAIN",),
        users={"me": "given"},
        password="given",
        settings={"password_file": password_file},
    ) as (relay, _):
        await relay.probe()


async def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    async with a_relay_with_tls(
        "smtp", user="me", ehlo=("AUTH PLAIN",), settings={"password_file": tmp_path / "gone"}
    ) as (relay, _):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", True)
    assert str(tmp_path / "gone") in str(error)


async def test_a_password_file_that_is_not_text_is_named_without_its_octets(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"\xfe\xff")
    async with a_relay_with_tls("smtp", user="me", ehlo=("AUTH PLAIN",), settings={"password_file": path}) as (
        relay,
        _,
    ):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", True)
    assert "isn't UTF-8" in str(error)
    assert "xfe" not in str(error)


async def test_without_a_password_there_is_no_auth() -> None:
    async with a_relay_with_tls("smtp", ehlo=("AUTH PLAIN", "DSN"), settings={}) as (relay, fake):
        await submit(relay)
    assert fake.said("AUTH") == []


@pytest.mark.parametrize(
    ("script", "ehlo", "permanent", "word"),
    [
        ({}, ("AUTH PLAIN",), True, "refuses our user and password"),
        ({"AUTH": ["454 4.7.0 Temporary failure"]}, ("AUTH PLAIN",), False, "can't log us in now (454"),
        ({"AUTH": ["421 4.7.0 slow down"]}, ("AUTH PLAIN",), False, "can't log us in now (421"),
        ({}, ("DSN",), True, "AUTH extension is not supported"),
        ({}, ("AUTH GSSAPI",), True, "No suitable authentication method"),
    ],
)
async def test_a_failed_login_says_whether_a_person_must_act(
    script: dict[str, Iterable[str]], ehlo: tuple[str, ...], permanent: bool, word: str, password_file: Path
) -> None:
    async with a_relay_with_tls(
        "smtp", user="me", ehlo=ehlo, script=script, settings={"password_file": password_file}
    ) as (relay, fake):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", permanent)
    assert word in str(error)
    assert fake.said("MAIL") == []


async def test_a_relay_that_repeats_the_password_puts_no_part_of_it_into_the_sentence(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("Tr0ub4dor&3")
    sent = b64encode(b"\0me\0Tr0ub4dor&3").decode()
    said = f"535 5.7.8 AUTH PLAIN {sent} is me:Tr0ub4dor&3, and wrong"
    async with a_relay_with_tls(
        "smtp", user="me", ehlo=("AUTH PLAIN",), script={"AUTH": [said]}, settings={"password_file": path}
    ) as (relay, _):
        error = await down(relay)
    assert "AUTH PLAIN … is me:…, and wrong" in str(error)
    assert "Tr0ub" not in str(error)


@dataclass
class Tokens:
    """A token source that hands out one after another."""

    left: list[str]
    rejected: list[str | None] = field(default_factory=list)

    async def get(self, rejected: str | None = None, /) -> str:
        self.rejected.append(rejected)
        return self.left.pop(0)


OAUTH = {"oauth": OAuth(token_command="true")}


async def test_xoauth2_fetches_another_token_once_when_the_first_is_refused() -> None:
    source = Tokens(["revoked", "fresh"])
    async with a_relay_with_tls(
        "smtp", user="me", ehlo=("AUTH XOAUTH2",), tokens=["fresh"], access_token=source.get, settings=OAUTH
    ) as (relay, fake):
        await relay.probe()
    assert source.rejected == [None, "revoked"]
    assert len(fake.said("AUTH XOAUTH2")) == 2


async def test_an_access_token_from_oauth_settings_logs_in(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fresh\n")
    oauth = OAuth(token_file=tmp_path / "token")
    async with a_relay_with_tls(
        "smtp",
        user="me",
        ehlo=("AUTH XOAUTH2",),
        tokens=["fresh"],
        access_token=AccessToken(oauth).get,
        settings={"oauth": oauth},
    ) as (relay, _):
        await relay.probe()


async def test_an_access_token_that_is_refused_twice_is_about_us_and_not_about_a_password() -> None:
    source = Tokens(["one", "two", "three"])
    async with a_relay_with_tls("smtp", user="me", ehlo=("AUTH XOAUTH2",), access_token=source.get, settings=OAUTH) as (
        relay,
        _,
    ):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", True)
    assert "refuses our access token" in str(error)
    assert "user and password" not in str(error)
    assert source.left == ["three"]


async def test_a_server_without_xoauth2_gets_no_token() -> None:
    source = Tokens(["one"])
    async with a_relay_with_tls("smtp", user="me", ehlo=("AUTH PLAIN",), access_token=source.get, settings=OAUTH) as (
        relay,
        fake,
    ):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", True)
    assert "XOAUTH2" in str(error)
    assert fake.said("AUTH") == []


def test_oauth_without_a_token_source_never_means_no_auth() -> None:
    with pytest.raises(ValueError, match="access_token"):
        Relay(Submission(url="smtp://me@localhost", oauth=OAuth(token_command="true")))


@pytest.mark.parametrize("permanent", [True, False])
async def test_no_token_to_be_had_is_about_us(permanent: bool) -> None:
    async def fail(_: str | None = None, /) -> str:
        error = ReceiptdError("the refresh token has expired")
        error.permanent = permanent
        raise error

    async with a_relay_with_tls("smtp", user="me", ehlo=("AUTH XOAUTH2",), access_token=fail, settings=OAUTH) as (
        relay,
        _,
    ):
        error = await down(relay)
    assert (error.stage, error.permanent) == ("auth", permanent)
    assert str(error) == "the refresh token has expired"


async def test_no_secret_is_kept_or_logged(password_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with a_relay_with_tls(
        "smtp",
        user="me",
        ehlo=("AUTH PLAIN", "DSN"),
        users={"me": PASSWORD},
        settings={"password_file": password_file},
    ) as (relay, fake):
        outcome = await submit(relay)
        secret = fake.said("AUTH")[0].split()[-1]
        assert "C: AUTH (elided)\nS: 235 2.7.0 Authentication successful" in outcome.dialogue
        assert secret not in outcome.dialogue
        assert PASSWORD not in outcome.dialogue
        assert PASSWORD not in repr(vars(relay)).replace(str(password_file), "")
        assert secret not in caplog.text
        assert PASSWORD not in caplog.text


def test_a_login_hides_its_password() -> None:
    assert "secret" not in repr(Login("secret"))


async def test_probe_tells_what_is_offered_and_takes_leave(ca_file: Path) -> None:
    async with a_relay_with_tls(ehlo=STARTTLS, after_tls=EVERYTHING, settings={"ca_file": ca_file}) as (relay, fake):
        offered = await relay.probe()
    assert (offered.dsn, offered.size, offered.banner) == (True, 1000000, "fake.test ESMTP")
    assert offered.lines[0] == "fake.test greets you"
    assert [line.split()[0] for line in fake.lines] == ["EHLO", "STARTTLS", "EHLO", "QUIT"]
