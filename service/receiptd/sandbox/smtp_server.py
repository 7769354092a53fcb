"""The submission server: STARTTLS, AUTH and DSN (RFC 3461) on aiosmtpd, which knows no DSN itself."""

from __future__ import annotations

import asyncio
import collections
import hmac
import logging
import ssl
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiosmtpd import smtp

from receiptd.mail import xtext
from receiptd.sandbox.envelope import Envelope
from receiptd.sandbox.reports import HOME, new_queue_id
from receiptd.transport import abort

_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_MAX_SIZE = 35 * 1024 * 1024

# aiosmtpd warns on each login of an attribute that only it itself sets.
logging.getLogger("mail.log").setLevel(logging.ERROR)

Take = Callable[[Envelope], None]


class _BadParameter(Exception):
    """A DSN parameter that RFC 3461 §4 doesn't allow."""


class DsnRequest(smtp.Envelope):
    """An aiosmtpd envelope that remembers what RET, ENVID, NOTIFY and ORCPT asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.envelope_id: str | None = None
        self.ret: str | None = None
        self.per_recipient: list[tuple[frozenset[str], str | None]] = []


class _Protocol(smtp.SMTP):
    """aiosmtpd refuses DSN parameters (555) and upper-cases what it knows: cut them out before it looks."""

    def __init__(self, handler: _Handler, tls: ssl.SSLContext) -> None:
        super().__init__(
            handler,
            hostname=HOME,
            ident="ESMTP",
            data_size_limit=_MAX_SIZE,
            enable_SMTPUTF8=True,
            tls_context=tls,
            auth_required=True,
            authenticator=handler.authenticate,
        )
        # DSN parameters add 600 octets to a command line (RFC 3461 §5.1, §6.1).
        self.command_size_limits = collections.defaultdict(lambda: 2048)
        self._offers_dsn = handler.server.offers_dsn

    def _create_envelope(self) -> DsnRequest:
        return DsnRequest()

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        await self._with_parameters(arg, ("RET", "ENVID"), self._mail)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        await self._with_parameters(arg, ("NOTIFY", "ORCPT"), self._rcpt)

    async def _with_parameters(self, arg: str | None, names: tuple[str, ...], command: Any) -> None:
        try:
            rest, parameters = _cut(arg or "", names if self._offers_dsn else ())
            await command(rest, parameters)
        except _BadParameter as bad:
            await self.push(f"501 5.5.4 {bad}")

    async def _mail(self, rest: str, parameters: dict[str, str]) -> None:
        ret, envelope_id = parameters.get("RET"), parameters.get("ENVID")
        if ret is not None and ret.upper() not in ("FULL", "HDRS"):
            raise _BadParameter("RET is FULL or HDRS")
        decoded = None if envelope_id is None else _decoded("ENVID", envelope_id, limit=100)
        await super().smtp_MAIL(rest)
        if isinstance(self.envelope, DsnRequest) and self.envelope.mail_from:
            self.envelope.ret = ret and ret.upper()
            self.envelope.envelope_id = decoded

    async def _rcpt(self, rest: str, parameters: dict[str, str]) -> None:
        notify = _notify(parameters.get("NOTIFY"))
        original = parameters.get("ORCPT")
        if original is not None:
            kind, separator, address = original.partition(";")
            if not separator or not kind:
                raise _BadParameter("ORCPT is TYPE;ADDRESS")
            original = f"{kind};{_decoded('ORCPT', address, limit=500, international=kind.lower() == 'utf-8')}"
        await super().smtp_RCPT(rest)
        envelope = self.envelope
        if isinstance(envelope, DsnRequest) and len(envelope.rcpt_tos) > len(envelope.per_recipient):
            envelope.per_recipient.append((notify, original))


class _Handler:
    """What aiosmtpd asks: who may log in, what EHLO says, which recipients are taken, where mail goes."""

    def __init__(self, server: SubmissionServer) -> None:
        self.server = server

    def authenticate(
        self, _protocol: smtp.SMTP, _session: smtp.Session, _envelope: smtp.Envelope, _mechanism: str, data: Any
    ) -> smtp.AuthResult:
        expected = f"{self.server.user}\0{self.server.password}".encode()
        given = data.login + b"\0" + data.password
        return smtp.AuthResult(success=hmac.compare_digest(expected, given), handled=False)

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's name
        self, _protocol: smtp.SMTP, session: smtp.Session, _envelope: smtp.Envelope, hostname: str, lines: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*lines[:-1], *(["250-DSN"] if self.server.offers_dsn else []), lines[-1]]

    async def handle_RCPT(  # noqa: N802
        self,
        _protocol: smtp.SMTP,
        _session: smtp.Session,
        envelope: smtp.Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        reply = self.server.replies.get(address, "250 2.1.5 Ok")
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(  # noqa: N802
        self, _protocol: smtp.SMTP, _session: smtp.Session, request: DsnRequest
    ) -> str:
        queue_id = new_queue_id()
        now = datetime.now(UTC)
        for address, (notify, original) in zip(request.rcpt_tos, request.per_recipient, strict=True):
            self.server.take(
                Envelope(
                    return_path=request.mail_from or "",
                    recipient=address,
                    content=request.content if isinstance(request.content, bytes) else b"",
                    arrived_at=now,
                    queue_id=queue_id,
                    envelope_id=request.envelope_id,
                    ret=request.ret,
                    notify=notify,
                    original_recipient=original,
                )
            )
        return f"250 2.0.0 Ok: queued as {queue_id}"


@dataclass
class SubmissionServer:
    """Listens on a free loopback port; *take* gets every envelope; *replies* overrides the answer to RCPT."""

    user: str
    password: str
    tls: ssl.SSLContext
    take: Take
    offers_dsn: bool = True
    replies: dict[str, str] = field(default_factory=dict)
    port: int = 0
    _server: asyncio.Server | None = None
    _open: weakref.WeakSet[_Protocol] = field(default_factory=weakref.WeakSet)

    async def start(self) -> None:
        """Listen; after a stop, on the same port again."""
        handler = _Handler(self)

        def connect() -> _Protocol:
            protocol = _Protocol(handler, self.tls)
            self._open.add(protocol)
            return protocol

        self._server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and drop every connection, as a crash would."""
        if self._server is None:
            return
        self._server.close()
        for protocol in list(self._open):
            if isinstance(protocol.transport, asyncio.Transport):
                abort(protocol.transport)
        await asyncio.sleep(0)
        self._server = None


def _cut(arg: str, names: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return *arg* without the parameters *names*, and those."""
    address, closing, rest = arg.partition(">")
    kept, found = [], dict[str, str]()
    for word in rest.split():
        name, _, value = word.partition("=")
        if name.upper() not in names:
            kept.append(word)
        elif name.upper() in found or not value:
            raise _BadParameter(f"{name.upper()} stands twice or is empty")
        else:
            found[name.upper()] = value
    return " ".join([address + closing, *kept]), found


def _decoded(name: str, value: str, *, limit: int, international: bool = False) -> str:
    if len(value) > limit:
        raise _BadParameter(f"{name} is longer than {limit}")
    if international:
        return value
    try:
        return xtext.decode(value)
    except ValueError as wrong:
        raise _BadParameter(f"{name} isn't xtext") from wrong


def _notify(value: str | None) -> frozenset[str]:
    words = frozenset(() if value is None else value.upper().split(","))
    if words and words != {"NEVER"} and not words <= _NOTIFY:
        raise _BadParameter("NOTIFY is NEVER alone or a list of SUCCESS, FAILURE, DELAY")
    return words
