"""The HTTP API, version 1: all its calls in one application, and how it answers what goes wrong."""

from __future__ import annotations

from functools import cache
from typing import cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match

from receiptd import errors
from receiptd.store.faults import DatabaseFault
from receiptd.web import decisions, description, event_stream, health, messages, reports, requests
from receiptd.web.context import AppContext
from receiptd.web.paths import EscapedSlashes
from receiptd.web.problems import (
    answer_bug,
    answer_database_fault,
    answer_disconnected,
    answer_fault,
    problem,
)
from receiptd.web.quotas import HourlyQuota, Quota
from receiptd.web.validation_errors import describe


def create_app(context: AppContext) -> FastAPI:
    """Return the application that serves *context*."""
    app = FastAPI(title="receiptd", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.bodies = _bodies(context)
    app.state.hourly = HourlyQuota()
    app.add_exception_handler(errors.ReceiptdError, answer_fault)
    app.add_exception_handler(SQLAlchemyError, answer_database_fault)
    app.add_exception_handler(DatabaseFault, answer_database_fault)
    app.add_exception_handler(ClientDisconnect, answer_disconnected)
    app.add_exception_handler(Exception, answer_bug)
    app.add_exception_handler(RequestValidationError, _answer_bad_request)
    app.add_exception_handler(HTTPException, _answer_http)
    for part in parts():
        app.include_router(part)
    app.add_middleware(EscapedSlashes)
    described = cache(lambda: description.describe(app, requests.BODIES))  # 0.2 s that no start needs to take
    app.add_api_route("/v1/openapi.json", lambda: JSONResponse(described()), include_in_schema=False)
    return app


def parts() -> tuple[APIRouter, ...]:
    """Return all calls."""
    return messages.router, reports.router, decisions.router, event_stream.router, health.router


def _bodies(context: AppContext) -> Quota:
    """Return how many octets of messages are in memory at a time: of four of the largest, two for one caller."""
    largest = requests.largest_body(context.store.settings.service.max_message)
    return Quota(4 * largest, 2 * largest, "MiB of messages being taken", "try again soon", unit=1 << 20)


async def _answer_bad_request(_: Request, fault: Exception) -> Response:
    first = cast(RequestValidationError, fault).errors()[0]
    return problem(422, describe(first), errors.BadData.exit_status)


async def _answer_http(request: Request, fault: Exception) -> Response:
    """Answer what is no call: a path or a method that isn't there."""
    found = cast(HTTPException, fault)
    asked = f"{request.method} {request.url.path}"
    routes = [route for part in parts() for route in part.routes if isinstance(route, APIRoute)]
    fitting = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    allowed = ", ".join(sorted({method for route in fitting for method in route.methods or ()}))
    what = f"it takes {allowed}" if allowed else "/v1/openapi.json describes all of them"
    answer = problem(found.status_code, f"{asked} isn't a call: {what}", errors.UsageError.exit_status)
    if allowed:
        answer.headers["allow"] = allowed
    return answer
