"""Log in by what the server offers: LOGIN, SASL PLAIN, XOAUTH2 or OAUTHBEARER."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable

from aioimaplib.aioimaplib import AUTH

from receiptd import masking
from receiptd.mailbox import response_parser, utf7
from receiptd.mailbox.command import Response
from receiptd.mailbox.connection import Connection
from receiptd.mailbox.faults import MailboxDown, printable
from receiptd.mailbox.server_address import ServerAddress


async def enter(
    connection: Connection,
    address: ServerAddress,
    *,
    password: str | None,
    access_token: Callable[[], Awaitable[str]] | None,
) -> frozenset[str]:
    """Log in and return what the server offers from now on; raise MailboxDown if it refuses."""
    offered = await ask_capabilities(connection)
    if access_token is not None:
        secret = await access_token()
        response = await _with_token(connection, address, secret, offered)
    elif password is not None:
        secret = password
        response = await _with_password(connection, address, password, offered)
    else:
        raise MailboxDown(
            "There is nothing to log in to the mailbox with: give password_file or oauth.", permanent=True
        )
    if not response.is_ok:
        raise _refusal(address, response, secret, by_token=access_token is not None)
    connection.state = AUTH
    # Asked again: the list differs after login, and the one in the login's response is optional.
    return await ask_capabilities(connection)


async def ask_capabilities(connection: Connection) -> frozenset[str]:
    """Return what the server offers now, in upper case."""
    offered = response_parser.capabilities((await connection.ask("CAPABILITY")).untagged)
    if not offered & {"IMAP4REV1", "IMAP4REV2"}:
        raise MailboxDown(f"The mailbox server {connection.server} doesn't support IMAP4rev1.", permanent=True)
    return offered


async def _with_password(
    connection: Connection, address: ServerAddress, password: str, offered: frozenset[str]
) -> Response:
    is_plain = all(" " <= char <= "~" for char in address.user + password)
    if "LOGINDISABLED" not in offered and is_plain:
        return await connection.ask("LOGIN", utf7.quote(address.user), utf7.quote(password))
    if "AUTH=PLAIN" in offered:
        return await _sasl(connection, "PLAIN", f"\0{address.user}\0{password}", offered, to_refusal=b"*")
    if "LOGINDISABLED" in offered:
        raise MailboxDown(
            f"The mailbox server {address} takes no password here (LOGINDISABLED, and no SASL PLAIN): "
            "use imaps:// or imap+starttls://, or oauth.",
            permanent=True,
        )
    return await _by_literals(connection, address.user.encode(), password.encode())


async def _by_literals(connection: Connection, user: bytes, password: bytes) -> Response:
    """LOGIN with octets that no quoted string may hold (RFC 9051 §4.3)."""
    return await connection.ask("LOGIN", f"{{{len(user)}}}", replies=(user + b" {%d}" % len(password), password))


async def _with_token(connection: Connection, address: ServerAddress, token: str, offered: frozenset[str]) -> Response:
    if "AUTH=XOAUTH2" in offered:
        return await _sasl(
            connection, "XOAUTH2", f"user={address.user}\1auth=Bearer {token}\1\1", offered, to_refusal=b""
        )
    if "AUTH=OAUTHBEARER" in offered:
        user = address.user.replace("=", "=3D").replace(",", "=2C")
        first = f"n,a={user},\1host={address.host}\1port={address.port}\1auth=Bearer {token}\1\1"
        return await _sasl(connection, "OAUTHBEARER", first, offered, to_refusal=b64encode(b"\1"))
    raise MailboxDown(
        f"The mailbox server {address} offers neither XOAUTH2 nor OAUTHBEARER: use password_file instead of oauth.",
        permanent=True,
    )


async def _sasl(
    connection: Connection, mechanism: str, first: str, offered: frozenset[str], *, to_refusal: bytes
) -> Response:
    """Authenticate; *to_refusal* answers a challenge after the initial response, which only explains a refusal."""
    word = b64encode(first.encode())
    if "SASL-IR" in offered:  # RFC 4959
        return await connection.ask("AUTHENTICATE", mechanism, word.decode("ascii"), replies=(to_refusal,))
    return await connection.ask("AUTHENTICATE", mechanism, replies=(word, to_refusal))


def _refusal(address: ServerAddress, response: Response, secret: str, *, by_token: bool) -> MailboxDown:
    said = printable(masking.mask(response.text.decode("utf-8", "replace"), secret))
    if response_parser.is_temporary(response.text):
        return MailboxDown(f"The mailbox server {address} can't log {address.user} in now: {said}.")
    what = (
        "the access token: check client_id and scope of [[mailbox]] oauth"
        if by_token
        else "the password: check [[mailbox]] password_file"
    )
    return MailboxDown(
        f"The mailbox server {address} refuses {address.user} or {what} and the user in url ({said}).", permanent=True
    )
