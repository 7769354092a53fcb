"""The kinds of value a setting has (durations, sizes, rates, URLs, files), each with its sentence when wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo

from receiptd import duration
from receiptd.facts import AlertType
from receiptd.mail.loopback import is_loopback

_RATE = re.compile(r"(\d+)/(s|m|h|d)")
_SIZE = re.compile(r"(\d+)\s*([KMG]?)B?", re.IGNORECASE)
_POSTGRESQL = re.compile(
    r"postgresql(?:\+psycopg)?://(?:[^:/@]*(?::[^@]*)?@)?"
    r"(?P<host>\[[^/?\]]*\]|[^/:?]*)(?::(?P<port>[^/?]*))?(?:/[^?]*)?(?:\?(?P<query>.*))?"
)
"""As SQLAlchemy takes a URL apart."""
_HIGHEST_PORT = 65535
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_TLS_AT_ONCE = {465: "submissions", 993: "imaps"}
_IN_THE_CLEAR_FIRST = {25: "submission", 587: "submission", 143: "imap+starttls"}


def _as_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return duration.parse(value)
    raise ValueError('a duration is a text with its unit: "90s", "30m", "4h", "3d" or "PT4H"')


def _as_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not (found := _SIZE.fullmatch(value.strip())):
        raise ValueError(f'{value!r} is no size: write 52428800, "50M" or "1G"')
    return int(found[1]) * _UNITS[found[2].upper()]


def show_size(size: int) -> str | int:
    """Return *size* as the settings have it: with the largest unit that divides it."""
    for unit in ("G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return size


def parse_rate(text: str) -> tuple[int, timedelta]:
    """Return how many in how long; raise ValueError with a sentence if *text* is no rate above zero."""
    found = _RATE.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise ValueError(f'{text!r} is no rate: write "30/m" for thirty messages a minute (s, m, h, d)')
    return int(found[1]), duration.parse(f"1{found[2]}")


def _check_rate(text: str) -> str:
    parse_rate(text)
    return text


def check_url(url: str, schemes: tuple[str, ...], *, plain: tuple[str, ...] = ()) -> SplitResult:
    """Return *url* taken apart; raise ValueError if it is none of *schemes* or has no host.

    Schemes in *plain* carry passwords in the clear and are taken on the loopback interface only.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # What urlsplit takes for the port may be part of a password: neither its words nor the URL are repeated.
        raise ValueError(f"this isn't a valid URL: write {schemes[0]}://host or {schemes[0]}://host:port") from None
    if parts.scheme not in (*schemes, *plain):
        found = f", not with {parts.scheme}://" if url.startswith(f"{parts.scheme}://") and parts.scheme else ""
        raise ValueError(f"the URL must begin with {_either(schemes)}{found}")
    if not parts.hostname or port == 0:
        raise ValueError(f"the URL names no host and port: write {schemes[0]}://host or {schemes[0]}://host:port")
    if parts.scheme in plain and not is_loopback(parts.hostname):
        raise ValueError(f"{parts.scheme}:// is unencrypted and taken on this machine only: use {_either(schemes)}")
    return parts


def check_account_url(url: str, schemes: tuple[str, ...], *, plain: tuple[str, ...] = ()) -> str:
    """Return *url* as it is; refuse one that carries a password, which would show in logs and process lists."""
    parts = check_url(url, schemes, plain=plain)
    if parts.password is not None:
        raise ValueError("a password has no place in the URL: put it into a file and name that as password_file")
    _check_port(parts)
    return url


def _check_port(parts: SplitResult) -> None:
    """Refuse a scheme that its port never speaks (RFC 8314 §7): both sides would wait for the other to begin."""
    port, has_tls_at_once = parts.port or 0, parts.scheme in _TLS_AT_ONCE.values()
    if port in _TLS_AT_ONCE and not has_tls_at_once:
        raise ValueError(f"port {port} begins with TLS: write {_TLS_AT_ONCE[port]}:// there, not {parts.scheme}://")
    if port in _IN_THE_CLEAR_FIRST and has_tls_at_once:
        right = _IN_THE_CLEAR_FIRST[port]
        raise ValueError(
            f"port {port} begins in the clear and turns TLS on: write {right}:// there, not {parts.scheme}://"
        )


def check_web_url(url: str) -> str:
    """Return *url* if it is http or https."""
    check_url(url, ("https", "http"))
    return url


def check_database_url(url: str) -> str:
    """Return *url* if it names a SQLite file or a PostgreSQL database."""
    if re.fullmatch(r"sqlite:///.+", url):
        return url
    if found := _POSTGRESQL.fullmatch(url):
        if "@" in found["host"]:
            raise ValueError(
                "the password in the database's URL holds a sign that must be written in percent: @ is %40"
            )
        ports = (found["port"] or "5432", *parse_qs(found["query"] or "").get("port", ()))
        if not all(port.isdecimal() and 0 < int(port) <= _HIGHEST_PORT for port in ports):
            raise ValueError("the port in the database's URL must be a number from 1 to 65535")
        return url
    raise ValueError("the database is sqlite:////absolute/path.db or postgresql://user@host/name")


def check_event_pattern(pattern: str) -> str:
    """Return *pattern* if it takes at least one type of alert (docs/webhooks.md)."""
    if any(fnmatchcase(kind, pattern) for kind in AlertType):
        return pattern
    near = difflib.get_close_matches(pattern, (*map(str, AlertType), "receipt.*", "monitor.*"), n=1)
    guess = f"did you mean {near[0]!r}? There" if near else "there"
    raise ValueError(f"{pattern!r} takes no type of alert; {guess} are {', '.join(AlertType)}")


def check_name(name: str) -> str:
    """Return *name* if it can stand in a metric's label, which must never hold an address."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ValueError(f"{name!r} is no name: take letters, digits, '_', '.' and '-'")
    return name


def check_mode(mode: str) -> str:
    """Return *mode* if it is a file mode in octal digits."""
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise ValueError(f'{mode!r} is no file mode: write "0660"')
    return mode


def check_tcp(address: str) -> str:
    """Return *address* if it is HOST:PORT (an IPv6 host in brackets)."""
    check_url(f"tcp://{address}", ("tcp",))
    if urlsplit(f"tcp://{address}").port is None:
        raise ValueError(f'{address!r} has no port: write "127.0.0.1:8025"')
    return address


def check_after(after: str) -> str:
    """Return *after* if it says what becomes of a matched report."""
    if after in ("keep", "seen", "delete") or re.fullmatch(r"move:.*\S.*", after):
        return after
    raise ValueError(f'{after!r} is not one of "keep", "seen", "move:FOLDER", "delete"')


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Return *path*; a relative one as the first that exists in the places of the context, else in the last."""
    places: tuple[Path, ...] = (info.context or {}).get("places", ())
    if path.is_absolute() or not places:
        return path
    return next((place / path for place in places if _may_be_there(place / path)), places[-1] / path)


def _may_be_there(path: Path) -> bool:
    """Whether *path* exists, or can't be seen: then whoever reads it shall say why."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _beside(info: ValidationInfo) -> Path | None:
    """Return the folder of the settings file, where there is one."""
    places: tuple[Path, ...] = (info.context or {}).get("places", ())
    return places[-1] if places else None


def _locate(path: Path, info: ValidationInfo) -> Path:
    """Return *path*; a relative one lies beside the settings file, wherever the command was called."""
    beside = _beside(info)
    return beside / path if beside else path


def _locate_database(url: str, info: ValidationInfo) -> str:
    """Return *url*; the relative file of `sqlite:///receiptd.db` lies beside the settings file too."""
    name = url.removeprefix("sqlite:///")
    beside = _beside(info)
    if name in (url, ":memory:") or beside is None:
        return url
    return f"sqlite:///{beside / name}"


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(f"{word}://" for word in words)


def checked(check: Callable[[str], str]) -> AfterValidator:
    """Return the annotation of a text that *check* must let pass."""
    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_as_duration), PlainSerializer(duration.show, return_type=str)]
Size = Annotated[int, BeforeValidator(_as_size), PlainSerializer(show_size, return_type=str | int)]
Rate = Annotated[str, checked(_check_rate)]
Name = Annotated[str, checked(check_name)]
LocalPath = Annotated[Path, AfterValidator(_locate)]
DatabaseUrl = Annotated[str, checked(check_database_url), AfterValidator(_locate_database)]
SecretFile = Annotated[Path, AfterValidator(_resolve)]
