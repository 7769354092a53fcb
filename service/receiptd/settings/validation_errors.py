"""What is wrong with the settings, in a sentence that says what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from tomllib import TOMLDecodeError
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from receiptd.settings.model import Settings

_MAX_SHOWN = 5
_Loc = tuple[int | str, ...]
_QUOTED = re.compile(r"'([^']+)'")
_SINGLE = re.compile(r"^[ \t]*\[([^\[\]]+)\]", re.MULTILINE)


def describe(error: ValidationError) -> str:
    """Return what is wrong, unknown keys before all else."""
    faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    told = list(dict.fromkeys(_fault(fault) for fault in faults if not _is_a_consequence(fault, faults)))
    more = f"; and {len(told) - _MAX_SHOWN} more" if len(told) > _MAX_SHOWN else ""
    return "; ".join(told[:_MAX_SHOWN]) + more


def describe_toml_error(error: TOMLDecodeError, text: str) -> str:
    """Return what is wrong with *text*; of a table that may stand there twice, how it is written."""
    if str(error).startswith("Cannot "):  # declare twice, overwrite
        for found in _SINGLE.finditer(text):
            loc = tuple(part.strip(" \t\"'") for part in found[1].split("."))
            if _table_at(loc) is not None and _is_list(loc):
                return f"{error}; {_double(loc)}"
    return str(error)


def _is_a_consequence(fault: ErrorDetails, faults: Iterable[ErrorDetails]) -> bool:
    """Whether a list counts as too short only because what stands in it is wrong."""
    at = len(fault["loc"])
    return fault["type"] == "too_short" and any(
        other["loc"][:at] == fault["loc"] and len(other["loc"]) > at for other in faults
    )


def _fault(fault: ErrorDetails) -> str:
    where, kind, given = _dotted(fault["loc"]), fault["type"], fault["input"]
    if kind == "extra_forbidden":
        return _unknown(fault["loc"])
    if kind == "missing":
        return f"{where} is missing"
    if kind == "too_short":
        return f"{where}: name at least one"
    if kind in ("literal_error", "enum"):
        return f"{where}: {_no_such_word(given, fault['ctx']['expected'])}"
    if expected := _wrong_type(fault["loc"], kind, given):
        return f"{where}: {expected}"
    wrong = fault["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{where}: {wrong}" if where else wrong
    is_shown = kind != "model_type" and _is_harmless(given)
    return f"{where}: {wrong[0].lower()}{wrong[1:]}" + (f", not {given!r}" if is_shown else "")


def _is_harmless(given: object) -> bool:
    """Whether what stands there can't hold a password: no table, and nothing that looks like a URL."""
    return not isinstance(given, dict | list | tuple) and not re.search("[@:]", repr(given))


def _no_such_word(given: object, expected: str) -> str:
    """Return that *given* is none of the words, and which of them it was perhaps to be."""
    words = _QUOTED.findall(expected)
    near = difflib.get_close_matches(str(given).lower(), words, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"{given!r} is not {expected}{guess}"


def _wrong_type(loc: _Loc, kind: str, given: object) -> str | None:
    """Return how a table or a list is written that stands there as something else; None where that isn't it."""
    if kind in ("tuple_type", "list_type"):
        if _table_at(loc) is not None:
            return _double(loc)
        return "write a list, in square brackets" + (
            f": [{given!r}]" if isinstance(given, str) and _is_harmless(given) else ""
        )
    if kind in ("dict_type", "mapping_type"):
        return f"each has a name of its own: write [{_dotted(loc)}.NAME], in single brackets"
    if kind == "model_type" and not isinstance(loc[-1], int):
        return f"there is one: write [{_dotted(loc)}], in single brackets"
    return None


def _double(loc: _Loc) -> str:
    return f"write [[{_dotted(loc)}]], in double brackets: there may be several"


def _unknown(loc: _Loc) -> str:
    key = str(loc[-1])
    known = _known_keys(loc[:-1])
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
    return f"{_dotted(loc)} is no setting; did you mean {_dotted((*loc[:-1], nearest[0]))}?"


def _known_keys(loc: _Loc) -> list[str]:
    """Return the keys of the table at *loc*."""
    return list(_model_at(loc).model_fields)


def _model_at(loc: _Loc) -> type[BaseModel]:
    """Return the table type at *loc*: walk the model, where an index or a policy's name steps inside."""
    model: type[BaseModel] = Settings
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _table_at(loc: _Loc) -> type[BaseModel] | None:
    """Return the type of the tables that the setting at *loc* holds; None where it holds none."""
    field = _model_at(loc[:-1]).model_fields.get(str(loc[-1]))
    return None if field is None else _model_in(field.annotation)


def _is_list(loc: _Loc) -> bool:
    """Whether the setting at *loc* is a list."""
    field = _model_at(loc[:-1]).model_fields.get(str(loc[-1]))
    return field is not None and str(field.annotation).startswith(("tuple", "typing.Tuple"))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the table type inside `X | None`, `tuple[X, ...]` or `Mapping[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _dotted(loc: _Loc) -> str:
    """Return `mailbox[0].url`; the names pydantic gives to alternatives don't stand in the file."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
