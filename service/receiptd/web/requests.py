"""What clients send: messages as JSON or as they are, and decisions, read within bounds."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Header
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.config import JsonDict
from starlette.requests import Request

from receiptd import compose, duration
from receiptd.accept import SubmitOptions, TooBig, too_big
from receiptd.errors import BadData
from receiptd.facts import Level
from receiptd.mail.address import parse_address
from receiptd.mail.address_list import parse_mailboxes
from receiptd.web import description
from receiptd.web.auth import Caller
from receiptd.web.problems import Forbidden
from receiptd.web.quotas import Quota
from receiptd.web.validation_errors import describe

_LARGE = 256 * 1024
_MOST_LABELS = 20
_LONGEST_NAME, _LONGEST_VALUE = 64, 256
_LONGEST_LABELS = 6000
"""Octets of all labels together: they travel in alerts, which stay below 20 kB."""
_SAME_TWICE = (
    "The same request under the same key is one message and gives the same answer, for seven days and per sender."
)
_MOST_WORDS = 64 * 1024
_ROOM_TIMEOUT = 5.0
_OVERHEAD = 1 << 20
"""Octets that JSON may add to attachments beside the third that base64 adds."""


def _duration(value: Any) -> timedelta:
    if not isinstance(value, str):
        raise ValueError('write a text with its unit, such as "7d" (s, m, h, d): a bare number would be a guess')  # noqa: TRY004
    length = duration.parse(value)
    if not length:
        raise ValueError('write a duration above zero, such as "4h"')
    return length


def _mdn(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError('write "always" or "never"') from error


def _headers(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError('write {"Name": "value"} or [["Name", "value"]], all of it text') from error


def _addresses(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Within = Annotated[timedelta, BeforeValidator(_duration, json_schema_input_type=str)]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses, json_schema_input_type=str | tuple[str, ...])]
Body = TypeVar("Body", bound=BaseModel)
Mdn = Annotated[Literal["always", "never"] | bool | None, WrapValidator(_mdn)]
Headers = Annotated[dict[str, str] | tuple[tuple[str, str], ...], WrapValidator(_headers)]
Key = Annotated[str | None, Header(max_length=200, description=_SAME_TWICE)]


def _few(labels: dict[str, str]) -> dict[str, str]:
    lengths = [(len(name), len(value)) for name, value in labels.items()]
    if len(labels) > _MOST_LABELS or any(n > _LONGEST_NAME or v > _LONGEST_VALUE for n, v in lengths):
        raise ValueError(
            f"at most {_MOST_LABELS} labels, names up to {_LONGEST_NAME} and values up to {_LONGEST_VALUE} characters"
        )
    text = "".join((*labels, *labels.values()))
    if not text.isprintable():
        raise ValueError("a label is one line of text without control characters")
    if len(text.encode()) > _LONGEST_LABELS:
        raise ValueError(f"all labels together have at most {_LONGEST_LABELS} octets")
    return labels


def _without_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("a null character means nothing here")
    return text


_MESSAGE: JsonDict = {
    "from": "office@a.example",
    "to": ["bob@b.example"],
    "subject": "Invoice 4713",
    "text": "Please pay.",
    "within": "4h",
    "labels": {"invoice": "4713"},
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AttachmentBody(_Body):
    """A file to attach: its bytes, never a path or URL."""

    filename: str
    content_type: str = "application/octet-stream"
    content: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Terms(_Body):
    """What a message may say of its receipt."""

    policy: str = "default"
    require: Level | None = None
    within: Within | None = None
    require_all: bool = False
    mdn: Mdn = None


class QueryTerms(Terms):
    """What the query says of a complete message; of one in JSON its body says that."""

    to: list[str] = Field(default=[], description="The recipients; without it those of To, Cc and Bcc.")
    label: list[str] = Field(default=[], description="NAME=VALUE; may be repeated.")
    sender: str | None = Field(default=None, description="Who owns the envelope; without it the author in From.")


class MessageBody(Terms):
    """A message to compose."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MESSAGE]})
    labels: Annotated[dict[str, str], AfterValidator(_few)] = {}

    from_: str = Field(alias="from")
    to: Addresses = ()
    cc: Addresses = ()
    bcc: Addresses = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[AttachmentBody, ...] = ()
    headers: Headers = ()


class DecisionBody(_Body):
    """Why a person decided, and for an acknowledgement for how long."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "order cancelled"}]})
    reason: Annotated[str, AfterValidator(_without_null)]
    for_: Within | None = Field(default=None, alias="for")


class AssignmentBody(_Body):
    """Of whom a person says that a report speaks, and why."""

    recipient: Annotated[str, AfterValidator(_without_null)]
    reason: Annotated[str, AfterValidator(_without_null)]


BODIES = (MessageBody, DecisionBody, AssignmentBody)
"""They are read by hand, so that they can be bounded."""

MESSAGE = description.body(MessageBody, **{"message/rfc822": {"schema": {"type": "string", "format": "binary"}}})
DECISION = description.body(DecisionBody)
ASSIGNMENT = description.body(AssignmentBody)


async def read_body(request: Request, most: int, refusal: TooBig) -> bytes:
    """Return the body; raise *refusal* as soon as it is known to be larger than *most* octets."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise refusal
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > most:
            raise refusal
    return bytes(octets)


async def read_message(
    request: Request, caller: Caller, most: int, now: datetime, query: QueryTerms, key: str | None
) -> tuple[compose.Letter, SubmitOptions]:
    """Return the letter and the options that a POST of a message carries."""
    kind = _kind(request)
    terms: Terms = query
    if kind == "message/rfc822":
        labels = _labels(query.label)
        raw = await read_body(request, most, too_big(most))
        letter = await _beside(raw, partial(compose.adopt, raw, now=now, to=tuple(query.to)))
    elif kind == "application/json":
        if request.query_params:
            raise BadData(
                f"{min(request.query_params)!r}: of a message in JSON all terms stand in the body, none in the query"
            )
        raw = await read_body(request, largest_body(most), too_big(most))
        body = _checked_json(MessageBody, raw)
        terms, labels = body, body.labels
        letter = await _beside(raw, lambda: compose.compose(_draft(body), now=now))
    else:
        raise BadData("send a message as application/json or message/rfc822 (Content-Type)")
    return _storable(letter), _wish(request, caller, terms, labels, key, raw)


def _storable(letter: compose.Letter) -> compose.Letter:
    """Return *letter* with a subject that any database takes: an encoded word may hold a null character."""
    return replace(letter, subject=letter.subject.replace("\0", "\ufffd"))


@asynccontextmanager
async def reserve_body(request: Request, caller: Caller, bodies: Quota, most: int) -> AsyncIterator[None]:
    """Reserve memory for the body of a message; raise Busy where none is free within a few seconds."""
    declared = request.headers.get("content-length", "")
    octets = min(int(declared) if declared.isdecimal() else most, largest_body(most))
    await bodies.wait_for_room(caller.owner, octets, _ROOM_TIMEOUT)
    with bodies.reserve(caller.owner, octets):
        yield


def largest_body(most: int) -> int:
    """Return how many octets the JSON of a message of *most* octets may have."""
    return most * 4 // 3 + _OVERHEAD


def _kind(request: Request) -> str:
    """Return the media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _beside(raw: bytes, work: Callable[[], compose.Letter]) -> compose.Letter:
    """Do the work on a large message beside the event loop: it takes seconds."""
    return await asyncio.to_thread(work) if len(raw) > _LARGE else work()


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for name, value in map(read_label, texts):
        if name in labels:
            raise BadData(f"label: {name!r} stands there twice")
        labels[name] = value
    try:
        return _few(labels)
    except ValueError as error:
        raise BadData(f"label: {error}") from error


def read_label(text: str) -> tuple[str, str]:
    """Return name and value of a label as a query writes it; raise BadData if it is none."""
    name, found, value = text.partition("=")
    if not name or not found or len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE:
        raise BadData(f"label: write NAME=VALUE, of at most {_LONGEST_NAME} and {_LONGEST_VALUE} characters")
    return name, value


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


def _wish(
    request: Request, caller: Caller, terms: Terms, labels: dict[str, str], key: str | None, raw: bytes
) -> SubmitOptions:
    if key is not None and caller.is_anonymous:
        raise Forbidden("this socket can't tell who you are, so it can't tell whose the idempotency key is")
    asked = b"\0".join((_kind(request).encode(), request.scope.get("query_string", b""), raw))
    return SubmitOptions(
        owner=caller.owner,
        policy=terms.policy,
        require=terms.require,
        within=terms.within,
        require_all=terms.require_all,
        mdn={"always": True, "never": False}.get(terms.mdn) if isinstance(terms.mdn, str) else terms.mdn,
        labels=labels,
        sender=_sender(terms),
        idempotency_key=key,
        fingerprint=hashlib.sha256(asked).hexdigest(),
    )


def _sender(terms: Terms) -> str | None:
    """Return the one address that owns the envelope, where the terms name it."""
    text = terms.sender if isinstance(terms, QueryTerms) else None
    if not text:
        return None
    mailboxes = parse_mailboxes(text)
    if len(mailboxes) != 1 or not text.isprintable():
        raise BadData("sender: write one address on one line")
    return parse_address(mailboxes[0].address)


def _too_many_words() -> TooBig:
    return TooBig(f"a decision and its reason have at most {_MOST_WORDS} octets")


async def read_decision(request: Request) -> DecisionBody:
    """Return a person's decision."""
    return _checked_json(DecisionBody, await read_body(request, _MOST_WORDS, _too_many_words()))


async def read_assignment(request: Request) -> AssignmentBody:
    """Return whose a person says that a report is."""
    return _checked_json(AssignmentBody, await read_body(request, _MOST_WORDS, _too_many_words()))


def _checked_json(kind: type[Body], raw: bytes) -> Body:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise BadData(_first(error, kind)) from error


def _first(error: ValidationError, kind: type[BaseModel]) -> str:
    return describe(error.errors(include_url=False)[0], kind)
