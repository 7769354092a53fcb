"""The parts of aiosmtplib that smtp/ relies on beyond its documentation: each test says which, and why.

smtp/connection.py lets aiosmtplib connect, do TLS and log in; then smtp/wire.py takes over its transport.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import aiosmtplib
import pytest
import trustme

from tests.fake_smtp import EVERYTHING, FakeSMTP


class Collector(asyncio.Protocol):
    """Takes what the server says once the transport is ours."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = asyncio.Event()
        self.is_flowing = True

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def until(self, words: bytes) -> None:
        async with asyncio.timeout(5):
            while words not in self.received:
                await asyncio.sleep(0.001)


@pytest.fixture
def certificate() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's TLS, and a client's that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def a_client(fake: FakeSMTP, context: ssl.SSLContext | None = None) -> aiosmtplib.SMTP:
    """Return a client with the arguments that connection.py gives it."""
    return aiosmtplib.SMTP(
        hostname="127.0.0.1", port=fake.port, use_tls=False, start_tls=False, tls_context=context,
        local_hostname="client.test", timeout=5,
    )  # fmt: skip


@pytest.mark.parametrize("with_tls", [False, True])
async def test_its_transport_can_be_taken_over(
    with_tls: bool, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """wire.py calls set_protocol on `client.transport`: for pipelined replies aiosmtplib has no queue.

    After STARTTLS it must be the TLS transport, or the rest would go in the clear.
    """
    server, trusting = certificate
    async with FakeSMTP(tls=server, ehlo=(*EVERYTHING, "STARTTLS")) as fake:
        client = a_client(fake)
        await client.connect()
        await client.ehlo()
        if with_tls:
            await client.starttls(tls_context=trusting)
            await client.ehlo()
        transport = cast(asyncio.Transport, client.transport)
        assert (transport.get_extra_info("ssl_object") is not None) == with_tls
        ours = Collector()
        transport.set_protocol(ours)
        transport.write(b"NOOP\r\nMAIL FROM:<a@a.test>\r\n")
        await ours.until(b"250 2.1.0 Ok")
        assert ours.received.startswith(b"250 2.0.0 Ok\r\n")
        fake.hang_up()
        async with asyncio.timeout(5):
            await ours.lost.wait()


async def test_nothing_else_of_it_speaks_once_the_transport_is_ours() -> None:
    """No timer or task of aiosmtplib may write behind our back; dropping the client must not close the connection."""
    async with FakeSMTP() as fake:
        client = a_client(fake)
        await client.connect()
        await client.ehlo()
        ours = Collector()
        transport = cast(asyncio.Transport, client.transport)
        transport.set_protocol(ours)
        del client
        await asyncio.sleep(0.05)
        transport.write(b"NOOP\r\n")
        await ours.until(b"250 2.0.0 Ok")
        assert [line.split(" ")[0] for line in fake.lines] == ["EHLO", "NOOP"]
        transport.abort()


async def test_connect_neither_greets_nor_starts_tls_by_itself() -> None:
    """connection.py does each step itself, to know at which one a relay fails, and reads EHLO after each."""
    async with FakeSMTP(ehlo=(*EVERYTHING, "STARTTLS")) as fake:
        client = a_client(fake)
        response = await client.connect()
        assert (response.code, response.message) == (220, "fake.test ESMTP")
        assert fake.lines == []
        assert (await client.ehlo()).message.split("\n")[1] == "PIPELINING"
        assert client.supports_extension("starttls")
        assert fake.lines == ["EHLO client.test"]
        assert client.get_transport_info("sslcontext") is None
        client.close()


async def test_the_login_methods_are_those_of_the_latest_ehlo() -> None:
    """connection.py looks for xoauth2 in `server_auth_methods` before it fetches a token."""
    async with FakeSMTP(ehlo=("AUTH PLAIN XOAUTH2",), users={"me": "secret"}, tokens={"token"}) as fake:
        client = a_client(fake)
        await client.connect()
        await client.ehlo()
        assert set(client.server_auth_methods) >= {"plain", "xoauth2"}
        with pytest.raises(aiosmtplib.SMTPAuthenticationError) as refused:
            await client.auth_xoauth2("me", "stale")
        assert refused.value.code == 535
        assert (await client.auth_xoauth2("me", "token")).code == 235
        client.close()


async def test_a_refusal_carries_code_and_text_and_the_text_can_be_changed() -> None:
    """fault.py tells them, and connection.py masks a password that the relay repeats, before anybody sees it."""
    async with FakeSMTP(ehlo=("AUTH PLAIN",), users={"me": "secret"}) as fake:
        client = a_client(fake)
        await client.connect()
        await client.ehlo()
        with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
            await client.login("me", "wrong")
        assert (refused.value.code, refused.value.message) == (535, "5.7.8 Wrong password")
        refused.value.message = "masked"
        assert refused.value.message == "masked"
        client.close()


async def test_the_cause_of_a_failed_connection_is_kept() -> None:
    """fault.py follows __cause__ to what the system or TLS said: that is the sentence for the person."""
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=1, timeout=5, start_tls=False)
    with pytest.raises(aiosmtplib.SMTPConnectError) as failed:
        await client.connect()
    assert isinstance(failed.value.__cause__, OSError)
