"""What a query may say, and what is refused in it."""

from __future__ import annotations

from inspect import isclass
from typing import Annotated, get_origin

from fastapi import Depends, Query, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel

from receiptd.errors import BadData
from receiptd.web.validation_errors import nearest


async def _no_null(request: Request) -> None:
    """Refuse U+0000 in path or query: PostgreSQL has no text that holds it."""
    for name, text in [("the path", request.scope["path"]), *request.query_params.multi_items()]:
        if "\0" in text:
            raise BadData(f"{name}: a null character means nothing here")


async def _known_parameters(request: Request) -> None:
    """Refuse a parameter that isn't known, or is there twice: a filter that was mistyped would show all."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = _parameters(route)
    for name in request.query_params:
        if not known:
            raise BadData(f"{name!r} isn't a parameter of {request.method} {route.path}: it takes none")
        if name not in known:
            raise BadData(
                f"{name!r} isn't a parameter of {request.method} {route.path}; did you mean "
                f"{nearest(name, list(known))!r}? It takes {', '.join(known)}"
            )
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise BadData(f"{name!r} stands there more than once: it takes one value")


def _parameters(route: APIRoute) -> dict[str, bool]:
    """Return the parameters that a query may have, and whether each may be repeated."""
    fields = {one.alias: one.field_info.annotation for one in route.dependant.query_params}
    models = [model for model in fields.values() if isclass(model) and issubclass(model, BaseModel)]
    for model in models:
        fields = {one.alias or name: one.annotation for name, one in model.model_fields.items()}
    return {name: get_origin(annotation) is list for name, annotation in fields.items()}


def no_cursor(after: str) -> BadData:
    """Return the fault of a cursor that no list gave out."""
    return BadData(f"after={after!r} is no cursor of this list: take what an answer calls `next`")


After = Annotated[str | None, Query(description="The cursor that the page before calls `next`.")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many items a page has at most.")]
NoNull = Depends(_no_null)
KnownParameters = Depends(_known_parameters)
