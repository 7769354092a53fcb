"""What the options and standard input say -> the request that hands the message over."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from receiptd import client, duration, terminal
from receiptd.errors import BadData, NoInput, UsageError
from receiptd.send import sendmail

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FROM_LINE = re.compile(rb"^from[ \t]*:", re.IGNORECASE | re.MULTILINE)
_EMPTY_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def hand_over(daemon: client.Client, args: Namespace) -> dict[str, Any]:
    """Hand the message over and return the answer: id, message_id, recipients, warnings."""
    headers = {"Idempotency-Key": _key(args.idempotency_key)} if args.idempotency_key is not None else {}
    if args.read_recipients or args.complete:
        raw = _complete_message(args)
        answer = daemon.post_message(raw, _query(args, raw), headers=headers)
    else:
        answer = daemon.post("/v1/messages", _draft(args), headers=headers)
    accepted: dict[str, Any] = client.expect(answer, id=str, recipients=list)
    return accepted


def _key(key: str) -> str:
    if not key or len(key) > 200 or not key.isascii() or _CONTROL.search(key):
        raise UsageError("--idempotency-key takes 1 to 200 printable ASCII characters")
    return key


def _complete_message(args: Namespace) -> bytes:
    """Return standard input, with a From line of -f before it where it has none."""
    if any((args.subject, args.text, args.html, args.attach, args.cc, args.bcc, args.header)):
        raise UsageError(
            "with -t or -i the message is complete: leave out -s, --text, --html, -a, --cc, --bcc, --header"
        )
    sendmail.check(args)
    if not args.read_recipients and not args.recipients:
        raise UsageError("name a recipient, or give -t to take them from the message")
    for text in filter(None, (args.from_, args.full_name)):
        if _CONTROL.search(text):
            raise UsageError("-f takes one address on one line, and -F one name")
    raw, domain = _standard_input(), partial(_domain, args)
    args.recipients = [sendmail.qualify_address(recipient, domain) for recipient in args.recipients]
    args.from_ = sendmail.qualify_address((args.from_ or "").strip(), domain)
    if args.from_ == "<>":  # sendmail's word for a message that nobody shall answer
        args.from_ = ""
    return _with_from(_with_domains(raw, domain), args)


def _domain(args: Namespace) -> str:
    return sendmail.domain_of_this_machine(client.receipts_address(args.config) if args.server is None else None)


def _with_domains(raw: bytes, domain: Callable[[], str]) -> bytes:
    found = _EMPTY_LINE.search(raw)
    end = found.start() if found else len(raw)
    return sendmail.qualify(raw[:end], domain) + raw[end:]


def _with_from(raw: bytes, args: Namespace) -> bytes:
    """Return the message with a From line of -f and -F before it where it has none."""
    if not args.from_ or _FROM_LINE.search(_EMPTY_LINE.split(raw, 1)[0]):
        return raw
    line = f"From: {_named(args.full_name, args.from_)}\n".encode(errors="surrogateescape")
    mbox_line, rest = raw.split(b"\n", 1) if raw.startswith(b"From ") and b"\n" in raw else (b"", raw)
    return line + rest if not mbox_line else mbox_line + b"\n" + line + rest


def _named(name: str | None, address: str) -> str:
    if not name or "<" in address:
        return address
    from email.utils import formataddr

    return formataddr((name, address))


def _query(args: Namespace, raw: bytes) -> Iterator[tuple[str, str]]:
    yield from (("to", recipient) for recipient in _recipients(args, raw))
    for name in ("policy", "require", "mdn"):
        if value := getattr(args, name):
            yield name, value
    if args.from_:
        yield "sender", args.from_
    if args.within is not None:
        yield "within", duration.show(args.within)
    if args.require_all:
        yield "require_all", "1"
    yield from (("label", f"{key}={value}") for key, value in _labels(args).items())


def _recipients(args: Namespace, raw: bytes) -> list[str]:
    """Return whom the envelope is for; none where the header alone says it."""
    if not args.read_recipients or not args.recipients:
        return list(args.recipients)
    from datetime import UTC, datetime

    from receiptd.compose import adopt

    letter = adopt(raw, now=datetime.now(UTC))
    return [*(addressee.address for addressee in letter.recipients), *args.recipients]


def _draft(args: Namespace) -> dict[str, Any]:
    if args.from_ is None:
        raise UsageError("say who sends it: -f ADDRESS (or hand over a complete message with -t or -i)")
    if not (args.recipients or args.cc or args.bcc):
        raise UsageError("name a recipient")
    if "" in (args.text, args.html, *args.attach):
        raise UsageError("--text, --html and -a take the name of a file; this one is empty")
    values = {
        "from": args.from_,
        "to": args.recipients,
        "cc": args.cc,
        "bcc": args.bcc,
        "subject": args.subject,
        "text": _text(args.text or "-") if args.text or not args.html else None,
        "html": _text(args.html) if args.html else None,
        "attachments": [_attachment(Path(name)) for name in args.attach],
        "headers": _pairs(args.header, ":", "--header takes 'Name: value'"),
        "policy": args.policy,
        "require": args.require,
        "within": None if args.within is None else duration.show(args.within),
        "labels": _labels(args),
        "mdn": args.mdn,
        "require_all": args.require_all,
    }
    return {name: value for name, value in values.items() if value not in (None, [], {}, False)}


def _text(name: str) -> str:
    place = "standard input" if name == "-" else name
    octets = _standard_input() if name == "-" else _content(Path(name))
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(
            f"the text on {place} is not UTF-8 (octet 0x{octets[error.start]:02x} at {error.start}): convert it first "
            "(iconv -f ISO-8859-1 -t UTF-8), attach it with -a, or hand over a complete message with -t"
        ) from error
    if name == "-" and sendmail.is_header(octets):
        terminal.tell(
            "send-with-receipt: warning: standard input begins with header fields, and they are sent as text; hand a "
            "complete message over with -t (to whom it names) or -i (to the recipients of the command line)"
        )
    return text


def _standard_input() -> bytes:
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise NoInput(f"standard input can't be read ({terminal.reason_of(error)}): redirect it") from error


def _attachment(path: Path) -> dict[str, str]:
    import base64
    import mimetypes

    kind, encoding = mimetypes.guess_type(path.name)
    return {
        "filename": os.fsencode(path.name).decode("utf-8", "replace"),
        "content_type": kind if kind and not encoding else "application/octet-stream",
        "content": base64.b64encode(_content(path)).decode("ascii"),
    }


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NoInput(f"the file {path} can't be read: {error.strerror}") from error


def _labels(args: Namespace) -> dict[str, str]:
    envid = [] if args.envid is None else [f"envid={args.envid}"]
    return _pairs([*args.label, *envid], "=", "--label takes KEY=VALUE")


def _pairs(texts: Sequence[str], separator: str, usage: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, found, value = text.partition(separator)
        if not found or not name.strip() or name.strip() in pairs:
            raise UsageError(f"{usage}, each name once, not {text!r}")
        pairs[name.strip()] = value.strip()
    return pairs
