"""Write the effective settings as TOML, with secrets masked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from receiptd.settings.model import Settings

_PASSWORD = re.compile(r"(?<=://)([^/@:]*):.*@")  # as far as the last @: a password may hold any other sign
_PATH = re.compile(r"(?<=[^:/])/[^?#]+")
_VALUE = re.compile(r"(?<=[?&;#])([^=&;#/]*=)?[^&;#]+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def show(settings: Settings) -> str:
    """Return *settings* as TOML that names every value in force.

    Passwords, query values and path parameters inside URLs, the paths of webhooks (Slack's and Healthchecks' are
    secrets), and the arguments of a token command are `…`; all other secrets are in files, whose names are shown and
    whose contents are not.
    """
    tables = _masked(settings.model_dump(mode="json", exclude_none=True))
    return "\n".join(line for name, value in tables.items() for line in _table([name], value)).strip() + "\n"


def _masked(value: Any, key: str = "") -> Any:
    if isinstance(value, dict) and "tcp" in value:
        return {"tcp": value["tcp"]}  # mode, group and scope say nothing there
    if isinstance(value, dict):
        return {name: _masked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    if key == "token_command":
        program, space, _ = value.partition(" ")
        return program + (space and " …")
    if isinstance(value, str) and "://" in value:
        return mask_url(value, hide_path=key == "url")
    return value


def mask_url(url: str, *, hide_path: bool = False) -> str:
    """Return *url* as it may be shown: without passwords and without the values of its parameters."""
    url = _PASSWORD.sub(r"\1:…@", url)
    if hide_path:
        url = _PATH.sub("/…", url, count=1)
    return _VALUE.sub(lambda found: (found[1] or "") + "…", url)


def _table(path: list[str], value: Any) -> list[str]:
    """Return the lines of one table, or of each entry of a list of tables, plain keys first."""
    head, tables = (("[[", "]]"), value) if isinstance(value, list) else (("[", "]"), [value])
    lines: list[str] = []
    for table in tables:
        inner = {key: each for key, each in table.items() if _is_table(path, key, each)}
        plain = [f"{_key(key)} = {_inline(each)}" for key, each in table.items() if key not in inner]
        if plain or isinstance(value, list):
            lines += ["", head[0] + ".".join(map(_key, path)) + head[1], *plain]
        for key, each in inner.items():
            lines += _table([*path, key], each)
    return lines


def _is_table(path: list[str], key: str, value: Any) -> bool:
    """Whether *value* is written as a table of its own: policies, their domains, and API tokens."""
    if path == ["policy"]:
        return True
    return key in ("domain", "token") and isinstance(value, list) and bool(value)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # a JSON scalar is a TOML one


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
