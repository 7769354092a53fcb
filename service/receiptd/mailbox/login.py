"""Log in by whatever the server offers: LOGIN, SASL PLAIN, XOAUTH2 or OAUTHBEARER."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable

from aioimaplib.aioimaplib import AUTH

from receiptd import masking
from receiptd.mailbox import answers, names
from receiptd.mailbox.faults import MailboxDown, printable
from receiptd.mailbox.place import Place
from receiptd.mailbox.question import Answer
from receiptd.mailbox.wire import Wire


async def enter(
    wire: Wire, place: Place, *, password: str | None, access_token: Callable[[], Awaitable[str]] | None
) -> frozenset[str]:
    """Log in and return what the server offers from now on; raise MailboxDown if it won't have us."""
    offered = await ask_capabilities(wire)
    if access_token is not None:
        secret = await access_token()
        answer = await _with_token(wire, place, secret, offered)
    elif password is not None:
        secret = password
        answer = await _with_password(wire, place, password, offered)
    else:
        raise MailboxDown(
            "There is nothing to log in to the mailbox with: give password_file or oauth.", permanent=True
        )
    if not answer.is_ok:
        raise _refusal(place, answer, secret, by_token=access_token is not None)
    wire.state = AUTH
    # Asked again: the list differs after login, and the one inside the login's answer is optional.
    return await ask_capabilities(wire)


async def ask_capabilities(wire: Wire) -> frozenset[str]:
    """Return what the server offers now, in upper case."""
    offered = answers.capabilities((await wire.ask("CAPABILITY")).responses)
    if not offered & {"IMAP4REV1", "IMAP4REV2"}:
        raise MailboxDown(f"The mailbox server {wire.server} does not speak IMAP4rev1.", permanent=True)
    return offered


async def _with_password(wire: Wire, place: Place, password: str, offered: frozenset[str]) -> Answer:
    is_plain = all(" " <= char <= "~" for char in place.user + password)
    if "LOGINDISABLED" not in offered and is_plain:
        return await wire.ask("LOGIN", names.quote(place.user), names.quote(password))
    if "AUTH=PLAIN" in offered:
        return await _sasl(wire, "PLAIN", f"\0{place.user}\0{password}", offered, to_refusal=b"*")
    if "LOGINDISABLED" in offered:
        raise MailboxDown(
            f"The mailbox server {place} takes no password here (LOGINDISABLED, and no SASL PLAIN): "
            "use imaps:// or imap+starttls://, or oauth.",
            permanent=True,
        )
    return await _by_literals(wire, place.user.encode(), password.encode())


async def _by_literals(wire: Wire, user: bytes, password: bytes) -> Answer:
    """LOGIN with octets that no quoted string may hold (RFC 9051 §4.3)."""
    return await wire.ask("LOGIN", f"{{{len(user)}}}", replies=(user + b" {%d}" % len(password), password))


async def _with_token(wire: Wire, place: Place, token: str, offered: frozenset[str]) -> Answer:
    if "AUTH=XOAUTH2" in offered:
        return await _sasl(wire, "XOAUTH2", f"user={place.user}\1auth=Bearer {token}\1\1", offered, to_refusal=b"")
    if "AUTH=OAUTHBEARER" in offered:
        user = place.user.replace("=", "=3D").replace(",", "=2C")
        first = f"n,a={user},\1host={place.host}\1port={place.port}\1auth=Bearer {token}\1\1"
        return await _sasl(wire, "OAUTHBEARER", first, offered, to_refusal=b64encode(b"\1"))
    raise MailboxDown(
        f"The mailbox server {place} offers neither XOAUTH2 nor OAUTHBEARER: use password_file instead of oauth.",
        permanent=True,
    )


async def _sasl(wire: Wire, mechanism: str, first: str, offered: frozenset[str], *, to_refusal: bytes) -> Answer:
    """Authenticate; *to_refusal* answers a challenge after our first word, which only ever explains a refusal."""
    word = b64encode(first.encode())
    if "SASL-IR" in offered:  # RFC 4959
        return await wire.ask("AUTHENTICATE", mechanism, word.decode("ascii"), replies=(to_refusal,))
    return await wire.ask("AUTHENTICATE", mechanism, replies=(word, to_refusal))


def _refusal(place: Place, answer: Answer, secret: str, *, by_token: bool) -> MailboxDown:
    said = printable(masking.mask(answer.text.decode("utf-8", "replace"), secret))
    if answers.is_temporary(answer.text):
        return MailboxDown(f"The mailbox server {place} can't log {place.user} in now: {said}.")
    what = (
        "the access token: check client_id and scope of [[mailbox]] oauth"
        if by_token
        else "the password: check [[mailbox]] password_file"
    )
    return MailboxDown(
        f"The mailbox server {place} refuses {place.user} or {what} and the user in url ({said}).", permanent=True
    )
