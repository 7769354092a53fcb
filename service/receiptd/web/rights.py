"""What a route asks of its caller, as FastAPI dependencies."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Query, Request
from fastapi.routing import APIRoute

from receiptd.errors import BadData
from receiptd.web.doors import Caller, caller_of
from receiptd.web.house import House
from receiptd.web.problems import Forbidden


def _house(request: Request) -> House:
    return cast(House, request.app.state.house)


def _caller(request: Request) -> Caller:
    return caller_of(request, _house(request).store.settings)


def _operator(request: Request) -> Caller:
    caller = _caller(request)
    if not caller.may("operate"):
        raise Forbidden("only who operates the service may do that: use api.sock or a token with scope operate")
    return caller


def _reader(request: Request) -> Caller:
    caller = _caller(request)
    if not caller.may("read"):
        raise Forbidden("only who operates the service may see that: use api.sock or a token with scope read")
    return caller


def _no_null(request: Request) -> None:
    """Refuse U+0000 in path or query: PostgreSQL has no text that holds it."""
    for name, text in [("the path", request.scope["path"]), *request.query_params.multi_items()]:
        if "\0" in text:
            raise BadData(f"{name}: a null character means nothing here")


def _known_terms(request: Request) -> None:
    """Refuse a term of a GET's query that isn't known: a filter that was mistyped would show all."""
    route = request.scope.get("route")
    if request.method not in ("GET", "HEAD") or not isinstance(route, APIRoute):
        return
    known = [field.alias for field in route.dependant.query_params]
    if unknown := set(request.query_params) - set(known):
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise BadData(f"{min(unknown)!r} is no term of this question: {takes}")


Limit = Annotated[int, Query(ge=1, le=200)]
NoNull = Depends(_no_null)
KnownTerms = Depends(_known_terms)
Rooms = Annotated[House, Depends(_house)]
Anyone = Annotated[Caller, Depends(_caller)]
Operator = Annotated[Caller, Depends(_operator)]
Reader = Annotated[Caller, Depends(_reader)]
