"""Find the settings file, lay the environment over it, check it, and read the secrets it names."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from receiptd.errors import BadSettings
from receiptd.settings.model import Settings
from receiptd.settings.validation_errors import describe, describe_toml_error

_SHORTEST_TOKEN = 24
"""Characters: base64 of 18 random octets, and more than anybody guesses over the network."""
PLACES = (Path("receiptd.toml"), Path("/etc/receiptd/receiptd.toml"))
"""Where the file is looked for when neither --config nor $RECEIPTD_CONFIG names it."""


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the file at *path*, or of the first file that `find` knows, under *environ*.

    Raises BadSettings with one sentence that names the file, the setting and what would be right.
    """
    path = find(path, environ)
    tables = _read(path)
    for name, value in environ.items():
        _override(tables, name, value)
    try:
        return Settings.model_validate(tables, context={"places": _secret_places(path, environ)})
    except ValidationError as error:
        raise BadSettings(f"{path}: {describe(error)}") from error


def find(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file: *path*, $RECEIPTD_CONFIG, ./receiptd.toml, /etc/receiptd/receiptd.toml."""
    if path is None and environ.get("RECEIPTD_CONFIG"):
        path = Path(environ["RECEIPTD_CONFIG"])
    if path is not None:
        return path
    for place in PLACES:
        if place.exists():
            return place
    raise BadSettings(
        f"there is no settings file: write {PLACES[-1]} (config/receiptd.toml shows every setting), "
        "or name yours with --config or $RECEIPTD_CONFIG"
    )


def read_secret(path: Path) -> str:
    """Return the secret in *path* without surrounding white space; raise BadSettings if there is none."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadSettings(f"the secret in {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"the secret in {path} is not text in UTF-8") from error
    if not secret:
        raise BadSettings(f"the file {path} is empty; write the secret into it")
    return secret


def read_token(path: Path) -> str:
    """Return the API token in *path*; raise BadSettings for one so short that it may be guessed."""
    secret = read_secret(path)
    if len(secret) < _SHORTEST_TOKEN:
        raise BadSettings(
            f"the API token in {path} has fewer than {_SHORTEST_TOKEN} characters and may be guessed: "
            f"head -c 32 /dev/urandom | base64 > {path} makes a good one"
        )
    return secret


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadSettings(f"the settings file {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{path} is not TOML: {error}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{path} is not TOML: {describe_toml_error(error, text)}") from error


def _secret_places(path: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where a secret's file may lie: what LoadCredential= gave (systemd.exec(5)), then beside the settings."""
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    beside = path.absolute().parent
    return (Path(credentials), beside) if credentials else (beside,)


def _override(tables: dict[str, Any], name: str, value: str) -> None:
    """Lay RECEIPTD_SECTION__KEY over *tables*; other variables (RECEIPTD_CONFIG …) aren't settings."""
    keys = name.removeprefix("RECEIPTD_").lower().split("__")
    if not name.startswith("RECEIPTD_") or (len(keys) == 1 and keys[0] not in Settings.model_fields):
        return
    table: Any = tables
    for key in keys[:-1]:
        table = table.setdefault(key, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise BadSettings(
            f"${name} reaches into a list; give the whole list ${'__'.join(name.split('__')[:-1])} as TOML"
        )
    table[keys[-1]] = _value(name, value)


def _value(name: str, text: str) -> Any:
    """Return a list, a table or a quoted text as TOML; any other text is the value as it stands."""
    if not text.lstrip().startswith(("[", "{", '"', "'")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"${name} is not a TOML value: {error}") from error
