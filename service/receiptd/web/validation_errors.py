"""What is wrong with a request's values, in a sentence that says what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

_WRITE = {
    "string_type": "write a text",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "int_parsing": "write a whole number",
    "dict_type": "write an object, {name: value}",
    "tuple_type": "write a list",
    "list_type": "write a list",
    "missing": "this is missing",
    "greater_than_equal": "write a number of at least {ge}",
    "less_than_equal": "write a number of at most {le}",
    "string_too_long": "write at most {max_length} characters",
    "enum": "write {expected}",
    "literal_error": "write {expected}",
}
_NO_OBJECT = ("model_type", "model_attributes_type")


def describe(fault: Mapping[str, Any], model: type[BaseModel] | None = None) -> str:
    """Return what *fault* says, the place of it first: pydantic's about a *model*, or FastAPI's about a parameter."""
    place = list(fault["loc"] if model else fault["loc"][1:])
    where = ".".join(map(str, place))
    what = _what(fault, place, model)
    return f"{where}: {what}" if where else what


def nearest(word: str, known: Sequence[str]) -> str:
    """Return which of the *known* words *word* is most like."""
    return difflib.get_close_matches(word, known, n=1, cutoff=0)[0]


def _what(fault: Mapping[str, Any], place: Sequence[str | int], model: type[BaseModel] | None) -> str:
    kind, context = fault["type"], fault.get("ctx") or {}
    if kind == "extra_forbidden":
        known = _fields(model, place[:-1])
        return f"there is no such field; did you mean {nearest(str(place[-1]), known)!r}? There are {', '.join(known)}"
    if kind == "json_invalid":
        return f"the body is no JSON: {context.get('error')}"
    if kind in _NO_OBJECT:
        return f"write a JSON object, with {', '.join(_fields(model, place))}"
    if kind in _WRITE:
        return _WRITE[kind].format(**context)
    said = str(fault["msg"]).removeprefix("Value error, ")
    return said[:1].lower() + said[1:] if kind != "value_error" else said


def _fields(model: type[BaseModel] | None, place: Sequence[str | int]) -> list[str]:
    """Return the names that the object at *place* of *model* takes."""
    for part in place:
        if model is not None and isinstance(part, str):
            named = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            model = _model_in(named.get(part))
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
