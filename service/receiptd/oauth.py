"""An access token for XOAUTH2: from a command, a file or a token endpoint (RFC 6749), kept until it grows old."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog

from receiptd import settings
from receiptd.errors import ReceiptdError, Unavailable
from receiptd.mail.loopback import is_loopback

_log = structlog.get_logger(__name__)

_EARLY = 60
"""Seconds before its end in which a token isn't given out any more: a login must not outlast it."""
_UNSTATED = 300
"""Seconds a token lives whose endpoint doesn't say (RFC 6749 §5.1 only recommends expires_in)."""
_TIMEOUT = 30
_LONGEST = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class NoToken(Unavailable):
    """No access token is to be had; *permanent* means that waiting won't help and a person must act."""

    def __init__(self, sentence: str, *, permanent: bool) -> None:
        super().__init__(sentence)
        self.permanent = permanent


class AccessToken:
    """The access token that one `oauth = {…}` table describes.

    Any number of tasks may ask at once; one asks the source, the others get its answer. What a command or
    a file gives is asked for every time: whoever writes it knows when it ends, we don't.
    """

    def __init__(self, oauth: settings.OAuth, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._oauth = oauth
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._good_until = 0.0
        self._refresh = RefreshToken(oauth.refresh_token_file) if oauth.refresh_token_file else None

    async def get(self, rejected: str | None = None, /) -> str:
        """Return a token, never *rejected* from our own memory; raise NoToken with a sentence."""
        async with self._lock:
            if self._token is None or self._token == rejected or self._clock() >= self._good_until:
                self._token = None
                self._token, lifetime = await self._fetch()
                self._good_until = self._clock() + lifetime - _EARLY
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        """Return a new token and the seconds it lives."""
        if self._oauth.token_command:
            return _checked(await _run(self._oauth.token_command), "token_command"), 0
        if self._oauth.token_file:
            return _checked(await asyncio.to_thread(_read, self._oauth.token_file), str(self._oauth.token_file)), 0
        return await self._grant(self._oauth.token_url or "")

    async def _grant(self, url: str) -> tuple[str, float]:
        """Ask the endpoint for a token (RFC 6749 §4.4, §6)."""
        host = urlsplit(url).hostname or ""
        if urlsplit(url).scheme != "https" and not is_loopback(host):
            raise NoToken(f"oauth token_url of {host} must be https://: it carries secrets", permanent=True)
        form = await asyncio.to_thread(self._form)
        try:
            async with asyncio.timeout(_TIMEOUT):
                status, content = await _post(url, form)
        except (httpx2.HTTPError, TimeoutError) as error:
            why = _short(str(error)) or type(error).__name__
            raise NoToken(f"the token endpoint {host} doesn't answer: {why}", permanent=False) from error
        answer = _json(content)
        if status != 200:
            raise _refusal(host, status, answer)
        token = _checked(str(answer.get("access_token") or ""), f"the token endpoint {host}")
        if self._refresh and (successor := answer.get("refresh_token")):
            await asyncio.to_thread(self._refresh.replace, str(successor))
        return token, _seconds(answer.get("expires_in"))

    def _form(self) -> dict[str, str]:
        form = {"grant_type": "client_credentials", "client_id": self._oauth.client_id or ""}
        if self._refresh:
            form |= {"grant_type": "refresh_token", "refresh_token": self._refresh.read()}
        if self._oauth.client_secret_file:
            form["client_secret"] = _read(self._oauth.client_secret_file)
        if self._oauth.scope:
            form["scope"] = self._oauth.scope
        return form


class RefreshToken:
    """The refresh token in *path*, and the one that took its place (RFC 6749 §6 lets the endpoint change it).

    The successor is written back where the file may be written; else (systemd credentials, no room) it is
    remembered until it is, or a person writes another token into the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""
        self._successor = ""

    def read(self) -> str:
        """Return the token to use now."""
        written = _read(self._path)
        if written != self._written:
            self._written, self._successor = written, ""
        return self._successor or written

    def replace(self, successor: str) -> None:
        """Use *successor* from now on."""
        self.read()
        self._successor = successor if successor != self._written else ""
        if not self._successor:
            return
        if os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK):
            try:
                _write(self._path, successor)
            except OSError as error:
                # The access token that came with it is good: to refuse it would keep us from logging in at all.
                _log.warning("a new refresh token isn't written down", path=str(self._path), reason=error.strerror)


def _write(path: Path, secret: str) -> None:
    """Put *secret* into *path* at once or not at all, for its owner's eyes only."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(number)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path) -> str:
    try:
        return settings.read_secret(path)
    except ReceiptdError as error:
        raise NoToken(str(error), permanent=True) from error


async def _run(command: str) -> str:
    """Return what *command* prints; it gets no shell and half a minute."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise NoToken(f"oauth token_command can't be run: {why}", permanent=True) from error
    try:
        async with asyncio.timeout(_TIMEOUT):
            printed, complaint = await process.communicate()
    except TimeoutError as error:
        raise NoToken(f"oauth token_command took more than {_TIMEOUT} seconds", permanent=False) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        why = _short(complaint.decode("utf-8", "replace")) or "no reason given"
        raise NoToken(f"oauth token_command failed with status {process.returncode}: {why}", permanent=False)
    return printed.decode("utf-8", "replace").strip()


async def _post(url: str, form: dict[str, str]) -> tuple[int, bytes]:
    """Return the status of the answer and what it says; nothing where that is longer than any token.

    The octets are taken as they come: 0.6 MB of gzip unpack to 600 MB, and nobody asked for them to be packed.
    """
    content = bytearray()
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with (
        httpx2.AsyncClient(timeout=_TIMEOUT) as client,
        client.stream("POST", url, data=form, headers=headers) as response,
    ):
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > _LONGEST:
                return response.status_code, b""
    return response.status_code, bytes(content)


def _json(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(host: str, status: int, answer: dict[str, Any]) -> NoToken:
    """Return the fault behind an error answer (RFC 6749 §5.2); only its own words are shown."""
    said = _short(f"{answer.get('error') or status} {answer.get('error_description') or ''}")
    if answer.get("error") == "invalid_grant":
        way_out = "; the refresh token has ended: authorise receiptd again and write the new one to refresh_token_file"
        return NoToken(f"the token endpoint {host} refuses the refresh token ({said}){way_out}", permanent=True)
    permanent = 400 <= status < 500 and status not in (408, 429)
    check = "; check client_id, client_secret_file and scope" if permanent else ""
    return NoToken(f"the token endpoint {host} gives no token ({said}){check}", permanent=permanent)


def _checked(token: str, source: str) -> str:
    """Return *token* if it can stand in an AUTH line; it never appears in the sentence."""
    if not _TOKEN.fullmatch(token):
        raise NoToken(f"oauth: what {source} gives is no access token (one word is expected)", permanent=True)
    return token


def _seconds(stated: object) -> float:
    try:
        return max(0.0, float(str(stated)))
    except ValueError:
        return _UNSTATED


def _short(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()[:200]
