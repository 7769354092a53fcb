"""Faults that are about us, each turned into RelayDown with one sentence for the person."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiosmtplib

from receiptd import correlation_token
from receiptd.errors import ReceiptdError
from receiptd.smtp.outcome import Place, RelayDown
from receiptd.smtp.reply import Reply, printable
from receiptd.smtp.server import Server

_DOING: dict[Place, str] = {
    "connect": "doesn't let us in",
    "ehlo": "refuses EHLO",
    "starttls": "refuses STARTTLS",
    "auth": "refuses our user and password; check the user in [submission] url, and password_file",
    "mail": "refuses our return path; check [receipts] address and what the relay lets this user send",
    "rcpt": "wants something of us before it takes a recipient",
    "data": "doesn't take the content now",
}
_NOT_NOW: dict[Place, str] = {"auth": "can't log us in now"}
"""Where the words above would send a person to check what isn't at fault (RFC 4954 §6: 454)."""
OAUTH_REFUSED = (
    "refuses our access token; check the user in [submission] url, and that the client_id and scope of oauth "
    "may send by SMTP for that user"
)


@contextmanager
def blaming(place: Place, server: Server, *, refused: str | None = None) -> Iterator[None]:
    """Turn every fault inside into RelayDown at *place*, with a sentence for the person.

    *refused* says what a refusal for good means here, where the place alone doesn't.
    """
    try:
        yield
    except RelayDown:
        raise
    except aiosmtplib.SMTPResponseException as error:
        raise refusal(place, server, Reply(error.code, printable(error.message)), refused) from error
    except ReceiptdError as error:
        raise RelayDown(place, str(error), permanent=error.permanent) from error
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        raise _fault(place, server, error) from error


def refusal(place: Place, server: Server, reply: Reply, refused: str | None = None) -> RelayDown:
    """Return the fault that *reply* at *place* means; the text is the relay's, so tokens are masked."""
    doing = (refused if reply.is_permanent else _NOT_NOW.get(place)) or _DOING[place]
    said = (
        correlation_token.mask(str(reply))[:200]
        if reply.code > 0
        else correlation_token.mask(reply.text.replace("\n", " "))[:200]
    )
    return RelayDown(place, f"{server} {doing} ({said})", permanent=reply.is_permanent, reply=reply)


def _fault(place: Place, server: Server, error: Exception) -> RelayDown:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(server, cause)
        if isinstance(cause, ssl.SSLError):
            return RelayDown("starttls", f"TLS with {server} fails ({cause.reason or cause}); check url and port")
        if isinstance(cause, socket.gaierror):
            unknown = cause.errno == socket.EAI_NONAME
            return RelayDown(
                "connect", f"the name {server.host} isn't found in DNS; check [submission] url", permanent=unknown
            )
    if place == "connect":
        return RelayDown(place, f"{server} can't be reached ({reason(error)}); check [submission] url and the firewall")
    if place == "auth":
        return RelayDown(place, f"login to {server} fails ({reason(error)})", permanent=_is_for_good(error))
    return RelayDown(place, f"{server} breaks off at {place.upper()} ({reason(error)})")


def _untrusted(server: Server, error: ssl.SSLCertVerificationError) -> RelayDown:
    return RelayDown(
        "starttls",
        f"the certificate of {server} isn't trusted ({error.verify_message}); "
        "name its authority's certificate in [submission] ca_file, and use the host name it was made for",
        permanent=True,
    )


def _is_for_good(error: Exception) -> bool:
    """Whether the server lacks what we need, rather than fails for now."""
    return type(error) in (aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported) or isinstance(error, ValueError)


def reason(error: Exception) -> str:
    """Return the innermost cause in words, without the library's preamble."""
    *_, last = _causes(error)
    if isinstance(last, OSError) and last.errno and not isinstance(last, ssl.SSLError):
        return os.strerror(last.errno)
    return correlation_token.mask(printable(str(last) or type(last).__name__).replace("\n", " "))[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
