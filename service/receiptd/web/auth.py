"""Who calls, and what each caller may do."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from receiptd.errors import BadSettings
from receiptd.settings import ApiToken, Settings, read_token
from receiptd.web.context import Context
from receiptd.web.problems import Forbidden, Unauthorized

_log = structlog.get_logger(__name__)

OVERFLOW_UID = 65534
"""What every foreign uid reads as in a user namespace: nobody in particular, so it owns nothing."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name under which its messages are kept, and its scopes."""

    owner: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the caller has *scope*; operate includes all, read means everybody's messages."""
        return scope in self.scopes or "operate" in self.scopes

    @property
    def is_anonymous(self) -> bool:
        """Whether the socket can't tell this caller from others."""
        return self.owner == f"uid:{OVERFLOW_UID}"

    @property
    def is_metered(self) -> bool:
        """Whether the hourly quota applies: any user of the machine may open send.sock."""
        return self.owner.startswith("uid:") and not self.may("operate")

    @property
    def sees(self) -> str | None:
        """Whose messages the caller sees: None means everybody's."""
        if self.may("read"):
            return None
        self.refuse_anonymous()
        return self.owner

    def refuse_anonymous(self) -> None:
        """Raise Forbidden for a caller that the socket can't tell from others, unless it may see all messages."""
        if self.is_anonymous and not self.may("read"):
            raise Forbidden(
                f"this socket can't tell who you are (it sees uid {OVERFLOW_UID}, as of everybody in another user "
                "namespace), so it can't tell which messages are yours: come as a user of this machine, or over TCP "
                "with a token"
            )


def caller_of(request: Request, settings: Settings) -> Caller:
    """Return who makes *request*; raise Unauthorized where a token is missing or wrong."""
    path, port = request.scope["server"]
    if port is None:
        listen = next(one for one in settings.service.listen if one.unix is not None and str(one.unix) == path)
        return Caller(request.scope["client"][0], frozenset({listen.scope}))
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        for token in settings.service.token:
            if _matches(token, given.strip()):
                return Caller(f"token:{token.name}", frozenset(token.scopes))
    raise Unauthorized(
        "over TCP every request needs Authorization: Bearer and a token of the settings ([[service.token]])"
    )


def _matches(token: ApiToken, given: str) -> bool:
    try:
        secret = read_token(token.secret_file)
    except BadSettings as fault:
        # A mistake in one token's file locks nobody else out, and isn't told to an unauthenticated caller.
        _log.error("an API token lets nobody in", token=token.name, reason=str(fault))
        return False
    return hmac.compare_digest(secret.encode(), given.encode())


_Token = Annotated[
    object,
    Depends(
        HTTPBearer(
            scheme_name="token",
            auto_error=False,
            description="A token of the settings ([[service.token]]), over TCP; on a Unix socket its scope decides.",
        )
    ),
]
"""For the description; `caller_of` reads the header itself."""


async def _caller(request: Request, context: Context, _: _Token) -> Caller:
    return caller_of(request, context.store.settings)


_AnyCaller = Annotated[Caller, Depends(_caller)]


async def _sender(caller: _AnyCaller) -> Caller:
    if not caller.may("send"):
        raise Forbidden("this token may read but not send")
    return caller


async def _operator(caller: _AnyCaller) -> Caller:
    if not caller.may("operate"):
        raise Forbidden("only who operates the service may do that: use api.sock or a token with scope operate")
    return caller


async def _reader(caller: _AnyCaller) -> Caller:
    if not caller.may("read"):
        raise Forbidden("only who operates the service may see that: use api.sock or a token with scope read")
    return caller


Anyone = Annotated[Caller, Security(_caller)]
Sender = Annotated[Caller, Security(_sender, scopes=["send"])]
Operator = Annotated[Caller, Security(_operator, scopes=["operate"])]
Reader = Annotated[Caller, Security(_reader, scopes=["read"])]
