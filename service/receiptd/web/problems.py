"""Errors as RFC 9457 problem+json, with the exit status that a command has for them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiptd import errors
from receiptd.accept import TooBig
from receiptd.decide import NoSuchThing, Pointless
from receiptd.store import is_down, reason_of

_log = structlog.get_logger(__name__)


class Unauthorized(errors.NotPermitted):
    """The caller gave no token, or a wrong one (401)."""


class Forbidden(errors.NotPermitted):
    """The caller has no right to this (403)."""


_STATUS: tuple[tuple[type[errors.ReceiptdError], HTTPStatus], ...] = (
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (errors.NotPermitted, HTTPStatus.FORBIDDEN),
    (NoSuchThing, HTTPStatus.NOT_FOUND),
    (Pointless, HTTPStatus.CONFLICT),
    (TooBig, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.BadData, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.TryLater, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)

_HEADERS: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.TOO_MANY_REQUESTS: {"retry-after": "5"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "30"},
}


def problem(status: int, detail: str, exit_status: int) -> JSONResponse:
    """Return the response to a request that was refused."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "exit_status": exit_status,
    }
    return JSONResponse(
        body, status_code=status, media_type="application/problem+json", headers=_HEADERS.get(HTTPStatus(status))
    )


async def answer_fault(_: Request, fault: Exception) -> JSONResponse:
    """Return the problem that a ReceiptdError means to an HTTP client."""
    if not isinstance(fault, errors.ReceiptdError):
        raise fault
    status = next((status for kind, status in _STATUS if isinstance(fault, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    return problem(status, str(fault), fault.exit_status)


async def answer_database_fault(_: Request, fault: Exception) -> JSONResponse:
    """Return the problem that a database which can't be used now means: full, locked or away, nothing was changed.

    A statement that it refuses is our own mistake, which trying again would only repeat: that is raised on.
    """
    if not is_down(fault):
        raise fault
    reason = reason_of(fault)
    _log.error("the database can't be used", reason=reason)
    sentence = f"the database can't be used now ({reason}), so nothing was taken: fix that, or try again later"
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, sentence, errors.TryLater.exit_status)


async def answer_bug(_: Request, __: Exception) -> JSONResponse:
    """Return the problem that a bug of ours means; the server logs it, and the client sees no internals."""
    sentence = "receiptd itself failed at this: the daemon's log says where; please report it"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, errors.ReceiptdError.exit_status)


async def answer_disconnected(_: Request, __: Exception) -> Response:
    """Return a response for a client that disconnected in the middle of its request: nothing was changed."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)
