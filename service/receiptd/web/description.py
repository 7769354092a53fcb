"""The OpenAPI description: what FastAPI reads off the routes, and what the routes read by hand."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from receiptd.web import schemas

_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    HTTPStatus.BAD_REQUEST: "It isn't an HTTP request, or its header is too large.",
    HTTPStatus.UNAUTHORIZED: "Over TCP: no token, or a wrong one.",
    HTTPStatus.FORBIDDEN: "The token or socket hasn't the right to this.",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it isn't the caller's to see.",
    HTTPStatus.CONFLICT: "The decision would change nothing as things stand.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than it may be.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "What was sent can't be taken.",
    HTTPStatus.TOO_MANY_REQUESTS: "So much is under way that this must wait.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "receiptd itself failed.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database can't be used now.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"schema": {"type": "string", "const": "Bearer"}}},
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}

Responses = dict[int | str, dict[str, Any]]


def describe(app: FastAPI, bodies: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    """Return the description of *app*; *bodies* are the models that its routes read by hand."""
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components: dict[str, Any] = described["components"]["schemas"]
    models: tuple[type[BaseModel], ...] = (*bodies, schemas.Problem)
    for model in models:
        _, further = models_json_schema([(model, "validation")], ref_template=_REF)
        components |= further["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    return described


def problems(*statuses: int) -> Responses:
    """Return the description of answers that are problems (RFC 9457)."""
    return {status: _problem(HTTPStatus(status)) for status in statuses}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=schemas.Problem.__name__)}
    answer: dict[str, Any] = {
        "description": _PROBLEMS[status],
        "content": {"application/problem+json": {"schema": schema}},
    }
    return answer | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


ANYWHERE = problems(400, 401, 403, 422, 429, 500, 503)
"""What any call below /v1 may answer."""


def text(description: str, headers: dict[str, str] | None = None) -> Responses:
    """Return the description of an answer that is text, with the meaning of its *headers*."""
    told = {name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in (headers or {}).items()}
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": content, "headers": told}}


def body(model: type[BaseModel], **others: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a request whose body is *model* as JSON, or of one of the *others* by media type."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    return {"requestBody": {"required": True, "content": content | others}}
