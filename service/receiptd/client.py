"""The HTTP API over its Unix sockets, or over TCP with a bearer token, for the commands that talk to the daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from receiptd.connection import Answer, Connection, Ended, TcpConnection, UnixConnection
from receiptd.errors import (
    BadData,
    BadSettings,
    NoInput,
    NotPermitted,
    ReceiptdError,
    TryLater,
    Unavailable,
    UsageError,
)

SOCKETS = (Path("/run/receiptd/api.sock"), Path("/run/receiptd/send.sock"))
"""Where the daemon listens unless its settings say otherwise; whoever may operate is let in by the first."""

CONFIG_PLACES = (Path("receiptd.toml"), Path("/etc/receiptd/receiptd.toml"))
_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 120
"""A commit under load, or a large message over a thin line, may take its time."""

Query = Iterable[tuple[str, str]]


def path(*parts: str) -> str:
    """Return the path of API version 1 that *parts* name, whatever characters an id brings."""
    if not all(part.strip(".") for part in parts):  # a proxy takes `..` out of a path, escaped or not
        raise UsageError("an id is empty, or only dots: `receiptd list` and `receiptd show` print them")
    from urllib.parse import quote

    with _as_utf_8():
        return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


def expect(answer: Any, **fields: type) -> Any:
    """Return *answer* if it is an object with these *fields*, as receiptd's are; raise Unavailable if it isn't."""
    if isinstance(answer, dict) and all(isinstance(answer.get(name), kind) for name, kind in fields.items()):
        return answer
    raise Unavailable("what answers there is not receiptd: see to --server and --config")


class Client:
    """A client of the daemon, over the first of its addresses that can be connected to."""

    def __init__(self, connections: Iterable[Connection], token: str | None = None) -> None:
        self._connections = tuple(connections)
        self._token = token

    def get(self, path: str, query: Query = ()) -> Any:
        """Return what is at *path*; raise the ReceiptdError that the daemon's answer means."""
        return self._ask("GET", path, query, None, {})

    def post(self, path: str, value: Any = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """Post *value* as JSON and return the answer."""
        with _as_utf_8():
            body = json.dumps(value, ensure_ascii=False).encode()
        return self._ask("POST", path, (), body, {"Content-Type": "application/json", **(headers or {})})

    def post_message(self, raw: bytes, query: Query, *, headers: Mapping[str, str] | None = None) -> Any:
        """Post the complete message *raw* and return the answer."""
        return self._ask("POST", "/v1/messages", query, raw, {"Content-Type": "message/rfc822", **(headers or {})})

    def _ask(self, method: str, path: str, query: Query, body: bytes | None, headers: Mapping[str, str]) -> Any:
        pairs = list(query)
        target = f"{path}?{_encoded(pairs)}" if pairs else path
        authorization = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection = self._open()
        accepted = {"Accept": "application/json", **authorization, **headers}
        try:
            return _read(connection.ask(method, target, body, accepted, _ANSWER_SECONDS))
        except (OSError, Ended) as error:
            raise Unavailable(
                f"the daemon ended the connection before it answered ({_reason(error)}): try again; "
                "for a message, give the same --idempotency-key and it is taken once"
            ) from error
        finally:
            connection.close()

    def _open(self) -> Connection:
        """Return a connection through the first address that can be connected to."""
        faults: list[tuple[str, OSError]] = []
        for connection in self._connections:
            try:
                connection.connect(_CONNECT_SECONDS)
            except OSError as error:
                faults.append((connection.name, error))
                continue
            return connection
        raise _closed(faults)


def _encoded(query: Query) -> str:
    from urllib.parse import urlencode  # a message in parts has no query, and needn't wait for this

    with _as_utf_8():
        return urlencode(list(query))


@contextmanager
def _as_utf_8() -> Iterator[None]:
    """Say what is wrong with an argument whose octets the locale could not read."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise BadData("an option is not valid UTF-8: set LANG to a UTF-8 locale and write it anew") from error


def find(config: Path | None = None, server: str | None = None, environ: Mapping[str, str] = os.environ) -> Client:
    """Return the daemon: at *server*, or behind the sockets that the settings file names, operators' first.

    A settings file that the caller may not read is passed over, as it holds more than they need, unless they named it.
    """
    if server is not None:
        token = _token(environ)
        return Client([_tcp_connection(server, has_token=token is not None)], token)
    return Client(map(UnixConnection, _sockets(config, environ)))


def _tcp_connection(server: str, *, has_token: bool) -> Connection:
    if "@" in server:
        # Not repeated: what stands before the @ is likely to be a password.
        raise UsageError(
            "a user or password has no place in --server: name a file with the token in $RECEIPTD_TOKEN_FILE"
        )
    from urllib.parse import urlsplit

    from receiptd.mail.loopback import is_loopback

    try:
        url = urlsplit(server)
        if url.scheme in ("http", "https") and url.hostname and not url.path.strip("/") and not url.query:
            url.hostname.encode("idna")
            connection = TcpConnection(url.hostname, url.port, https=url.scheme == "https")
            if has_token and url.scheme == "http" and not is_loopback(url.hostname):
                raise UsageError(
                    f"the token would cross the network in the clear: write https://{url.hostname}, "
                    "or listen on 127.0.0.1 and reach that through a tunnel (ssh -L)"
                )
            return connection
    except ValueError:
        pass
    raise UsageError(f"{server!r} names no server: write http://127.0.0.1:8025 or https://receiptd.example.org")


def _token(environ: Mapping[str, str]) -> str | None:
    """Return the bearer token in the file that $RECEIPTD_TOKEN_FILE names; secrets never come from argv."""
    path = environ.get("RECEIPTD_TOKEN_FILE")
    if not path:
        return None
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoInput(f"the token in {path} ($RECEIPTD_TOKEN_FILE) can't be read: {_reason(error)}") from error
    if not token.isprintable() or " " in token:
        raise BadData(f"the file {path} ($RECEIPTD_TOKEN_FILE) holds no token: it is one word on one line")
    return token


def receipts_address(config: Path | None = None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return `[receipts] address` of the settings file that `find` reads; None where the caller can't read it."""
    import tomllib

    named = config or (Path(environ["RECEIPTD_CONFIG"]) if environ.get("RECEIPTD_CONFIG") else None)
    for path in (named,) if named else CONFIG_PLACES:
        with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            receipts = tomllib.loads(path.read_text(encoding="utf-8")).get("receipts")
            address = receipts.get("address") if isinstance(receipts, dict) else None
            return address if isinstance(address, str) else None
    return None


def _sockets(config: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    named = config or (Path(environ["RECEIPTD_CONFIG"]) if environ.get("RECEIPTD_CONFIG") else None)
    for path in (named,) if named else CONFIG_PLACES:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            if named:
                raise BadSettings(f"there is no settings file {path}: name one that is there with --config") from error
        except PermissionError as error:
            if named:
                raise NotPermitted(
                    f"the settings file {path} can't be read ({_reason(error)}): name one that you may read and that "
                    "says [service] listen, or none where the daemon listens as usual, or the daemon with --server"
                ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"the settings file {path} can't be read: {_reason(error)}") from error
        else:
            return _listening(path, text) or SOCKETS
    return SOCKETS


def _listening(path: Path, text: str) -> tuple[Path, ...]:
    """Return the Unix sockets of `[service] listen`, those of operators first; () where the file names none."""
    import tomllib

    try:
        entries = tomllib.loads(text).get("service", {}).get("listen", [])
        beside = path.absolute().parent
        found = [(entry.get("scope", "operate"), beside / entry["unix"]) for entry in entries if "unix" in entry]
    except (tomllib.TOMLDecodeError, AttributeError, TypeError) as error:
        raise BadSettings(f"the settings file {path} can't be understood ({error}): try `receiptd check`") from error
    return tuple(socket_path for _, socket_path in sorted(found, key=lambda entry: entry[0] != "operate"))


def _read(answer: Answer) -> Any:
    try:
        value = json.loads(answer.body) if answer.body else None
    except ValueError:
        value = None
    if answer.status < 300 and (value is not None or not answer.body):
        return value
    problem = value if isinstance(value, dict) else {}
    sentence = problem.get("detail") or problem.get("title") or f"the server answered {answer.status} {answer.reason}"
    raise _error(answer.status, problem.get("exit_status"))(str(sentence))


def _error(status: int, exit_status: object) -> type[ReceiptdError]:
    """Return the error that an answer means: what it says itself (`exit_status`), else by its HTTP status."""
    for error in ReceiptdError.__subclasses__():
        if exit_status == error.exit_status:
            return error
    if status in (401, 403):
        return NotPermitted
    if status in (429, 503):
        return TryLater
    if status in (502, 504) or status < 400:
        return Unavailable
    return BadData if status < 500 else ReceiptdError


def _closed(faults: list[tuple[str, OSError]]) -> ReceiptdError:
    reasons = ", ".join(f"{name}: {_reason(error)}" for name, error in faults)
    if any(isinstance(error, PermissionError) for _, error in faults):
        return NotPermitted(f"you may not talk to the daemon ({reasons}): ask to be put into the group of its socket")
    return Unavailable(
        f"no daemon answers ({reasons}): start it with `receiptd run`, or name the settings "
        "of one that runs with --config, or its URL with --server"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
