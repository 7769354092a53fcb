"""Errors that are about us, each translated to RelayDown with one sentence for the person."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiosmtplib

from receiptd import correlation_token
from receiptd.errors import ReceiptdError
from receiptd.smtp.outcome import RelayDown, Stage
from receiptd.smtp.reply import Reply, printable
from receiptd.smtp.server import Server

_DOING: dict[Stage, str] = {
    "connect": "refuses the connection",
    "ehlo": "refuses EHLO",
    "starttls": "refuses STARTTLS",
    "auth": "refuses our user and password; check the user in [submission] url, and password_file",
    "mail": "refuses our return path; check [receipts] address and what the relay lets this user send",
    "rcpt": "requires something else before it accepts a recipient",
    "data": "refuses the content for now",
}
_NOT_NOW: dict[Stage, str] = {"auth": "can't log us in now"}
"""Where the words above would blame settings that are right (RFC 4954 §6: 454)."""
OAUTH_REFUSED = (
    "refuses our access token; check the user in [submission] url, and that the client_id and scope of oauth "
    "may send by SMTP for that user"
)


@contextmanager
def translate_errors(stage: Stage, server: Server, *, refused: str | None = None) -> Iterator[None]:
    """Translate every error inside to RelayDown at *stage*, with a sentence for the person.

    *refused* says what a permanent refusal means here, where the stage alone doesn't.
    """
    try:
        yield
    except RelayDown:
        raise
    except aiosmtplib.SMTPResponseException as error:
        raise refusal(stage, server, Reply(error.code, printable(error.message)), refused) from error
    except ReceiptdError as error:
        raise RelayDown(stage, str(error), permanent=error.permanent) from error
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        raise _fault(stage, server, error) from error


def refusal(stage: Stage, server: Server, reply: Reply, refused: str | None = None) -> RelayDown:
    """Return the error that *reply* at *stage* means; the text is the relay's, so tokens are masked."""
    doing = (refused if reply.is_permanent else _NOT_NOW.get(stage)) or _DOING[stage]
    said = (
        correlation_token.mask(str(reply))[:200]
        if reply.code > 0
        else correlation_token.mask(reply.text.replace("\n", " "))[:200]
    )
    return RelayDown(stage, f"{server} {doing} ({said})", permanent=reply.is_permanent, reply=reply)


def _fault(stage: Stage, server: Server, error: Exception) -> RelayDown:
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
    if stage == "connect":
        return RelayDown(stage, f"{server} can't be reached ({reason(error)}); check [submission] url and the firewall")
    if stage == "auth":
        return RelayDown(stage, f"login to {server} fails ({reason(error)})", permanent=_is_for_good(error))
    return RelayDown(stage, f"{server} breaks off at {stage.upper()} ({reason(error)})")


def _untrusted(server: Server, error: ssl.SSLCertVerificationError) -> RelayDown:
    return RelayDown(
        "starttls",
        f"the certificate of {server} isn't trusted ({error.verify_message}); "
        "name its certificate authority in [submission] ca_file, and use the host name it was issued for",
        permanent=True,
    )


def _is_for_good(error: Exception) -> bool:
    """Whether the server lacks what we need, rather than failing for now."""
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
