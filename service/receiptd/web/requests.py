"""What clients send: messages as JSON or as they are, and decisions, read within bounds."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request

from receiptd import compose, duration
from receiptd.accept import TooBig, Wish
from receiptd.errors import BadData
from receiptd.facts import Level
from receiptd.web.doors import Caller
from receiptd.web.problems import Forbidden

_LARGE = 256 * 1024
_MOST_LABELS = 20
_LONGEST_LABELS = 6000
"""Octets of all labels together: they travel in alerts, which stay below 20 kB."""
_LONGEST_KEY = 200
_OVERHEAD = 1 << 20
"""Octets that JSON may add to attachments beside the third that base64 adds."""


def _duration(value: Any) -> Any:
    return duration.parse(value) if isinstance(value, str) else value


def _addresses(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Within = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0), le=timedelta(days=3650))]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses)]
Body = TypeVar("Body", bound=BaseModel)
Mdn = Literal["always", "never"]


def _few(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > _MOST_LABELS or any(len(name) > 64 or len(value) > 256 for name, value in labels.items()):
        raise ValueError(f"at most {_MOST_LABELS} labels, names up to 64 and values up to 256 characters")
    text = "".join((*labels, *labels.values()))
    if not text.isprintable():
        raise ValueError("a label is one line of text without control characters")
    if len(text.encode()) > _LONGEST_LABELS:
        raise ValueError(f"all labels together have at most {_LONGEST_LABELS} octets")
    return labels


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AttachmentBody(_Body):
    filename: str
    content_type: str = "application/octet-stream"
    content: str
    """base64"""


class Terms(_Body):
    """What a message may say of its receipt."""

    policy: str = "default"
    require: Level | None = None
    within: Within | None = None
    require_all: bool = False
    mdn: Mdn | bool | None = None
    labels: Annotated[dict[str, str], AfterValidator(_few)] = {}


class MessageBody(Terms):
    """A message to compose."""

    from_: str = Field(alias="from")
    to: Addresses = ()
    cc: Addresses = ()
    bcc: Addresses = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[AttachmentBody, ...] = ()
    headers: dict[str, str] | tuple[tuple[str, str], ...] = ()


class DecisionBody(_Body):
    """Why a person decided, and for an acknowledgement for how long."""

    reason: str
    for_: Within | None = Field(default=None, alias="for")


MESSAGE_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": MessageBody.model_json_schema(by_alias=True)},
            "message/rfc822": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""For the OpenAPI description: the body is read by hand, so that it can be bounded."""


async def read_body(request: Request, most: int, why: str = "([service] max_message)") -> bytes:
    """Return the body; raise TooBig, which says *why*, as soon as it is known to be larger than *most* octets."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise TooBig(f"the request has {declared} octets; at most {most} are taken {why}".rstrip())
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > most:
            raise TooBig(f"the request has more than {most} octets {why}".rstrip())
    return bytes(octets)


async def read_message(request: Request, caller: Caller, most: int, now: datetime) -> tuple[compose.Letter, Wish]:
    """Return the letter and the wish that a POST of a message carries."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "message/rfc822":
        raw = await read_body(request, most)
        terms = _checked(Terms, _terms_of(request))
        to = tuple(request.query_params.getlist("to"))
        letter = await _beside(raw, partial(compose.adopt, raw, now=now, to=to))
    elif kind == "application/json":
        raw = await read_body(request, most * 4 // 3 + _OVERHEAD)
        body = _checked_json(MessageBody, raw)
        terms, letter = body, await _beside(raw, lambda: compose.compose(_draft(body), now=now))
    else:
        raise BadData("send a message as application/json or message/rfc822 (Content-Type)")
    return letter, _wish(request, caller, terms, raw)


async def _beside(raw: bytes, work: Callable[[], compose.Letter]) -> compose.Letter:
    """Do the work on a large message beside the event loop: it takes seconds."""
    return await asyncio.to_thread(work) if len(raw) > _LARGE else work()


def _terms_of(request: Request) -> dict[str, Any]:
    query = request.query_params
    terms: dict[str, Any] = {
        name: query[name] for name in ("policy", "require", "within", "require_all", "mdn") if name in query
    }
    labels = [label.partition("=") for label in query.getlist("label")]
    return terms | {"labels": {name: value for name, _, value in labels}}


def _draft(body: MessageBody) -> compose.Draft:
    headers = body.headers.items() if isinstance(body.headers, dict) else body.headers
    return compose.Draft(
        from_=body.from_,
        to=body.to,
        cc=body.cc,
        bcc=body.bcc,
        subject=body.subject,
        text=body.text,
        html=body.html,
        attachments=tuple(_attachment(one) for one in body.attachments),
        headers=tuple(headers),
    )


def _attachment(body: AttachmentBody) -> compose.Attachment:
    try:
        content = base64.b64decode(body.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadData(f"the content of attachment {body.filename!r} is not base64") from error
    return compose.Attachment(body.filename, body.content_type, content)


def _wish(request: Request, caller: Caller, terms: Terms, raw: bytes) -> Wish:
    key = request.headers.get("idempotency-key") or None
    if key is not None and len(key) > _LONGEST_KEY:
        raise BadData(f"the idempotency key is longer than {_LONGEST_KEY} characters")
    if key is not None and caller.is_anybody:
        raise Forbidden("this socket can't tell who you are, so it can't tell whose the idempotency key is")
    asked = hashlib.sha256(request.scope.get("query_string", b"") + b"\0" + raw).hexdigest()
    return Wish(
        owner=caller.owner,
        policy=terms.policy,
        require=terms.require,
        within=terms.within,
        require_all=terms.require_all,
        mdn={"always": True, "never": False}.get(terms.mdn) if isinstance(terms.mdn, str) else terms.mdn,
        labels=terms.labels,
        idempotency_key=key,
        fingerprint=asked,
    )


async def read_decision(request: Request) -> DecisionBody:
    """Return a person's decision."""
    return _checked_json(DecisionBody, await read_body(request, 64 * 1024, why="for a decision"))


def _checked(kind: type[Body], values: dict[str, Any]) -> Body:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise BadData(_sentence(error)) from error


def _checked_json(kind: type[Body], raw: bytes) -> Body:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise BadData(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = _dotted(first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _dotted(place: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in place)
