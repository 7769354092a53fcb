"""Reports as gateways, rewriters and providers of the field lay them out, by the structure of each."""

from __future__ import annotations

import base64
import json
import quopri
import struct
from typing import TypedDict, Unpack

TOKEN = "abcdefghijklmnopqrstuv23"
RETURN_PATH = f"receipts+{TOKEN}@a.org"
ID = "<1@a.org>"
ORIGINAL = (
    f"Return-Path: <{RETURN_PATH}>\nReceived: from a.org by mx.b.org with ESMTP id 7\nFrom: Anna <anna@a.org>\n"
    f"To: bob@b.org\nSubject: Contract\nMessage-ID: {ID}\nDisposition-Notification-To: <{RETURN_PATH}>\n"
)
FAILED = (
    "Final-Recipient: rfc822; bob@b.org\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user"
)
MESSAGE = "Reporting-MTA: dns; mx.b.org"
TEXT = "Your message could not be delivered to one or more recipients.\n\n<bob@b.org>: 550 5.1.1 no such user"
DAEMON = "Mail Delivery System <MAILER-DAEMON@mx.b.org>"


def top(
    content_type: str,
    *,
    sender: str | None = DAEMON,
    subject: str = "Undelivered Mail Returned to Sender",
    path: str = "",
    extra: str = "",
) -> str:
    """Return the header of what came back, as our own server keeps it."""
    lines = f"Return-Path: <{path}>\nDelivered-To: {RETURN_PATH}\nReceived: from mx.b.org by a.org\nTo: {RETURN_PATH}\n"
    name = f"From: {sender}\n" if sender else ""
    mime = f"Message-ID: <r1@b.org>\nMIME-Version: 1.0\n{extra}Content-Type: {content_type}\n\n"
    return f"{lines}{name}Subject: {subject}\n{mime}"


class Header(TypedDict, total=False):
    """What may be said of a header; see `top`."""

    sender: str | None
    subject: str
    path: str
    extra: str


def mixed(*parts: str, boundary: str = "=_b", **header: Unpack[Header]) -> bytes:
    """Return a multipart/mixed of *parts*, each with its own header."""
    return (top(f'multipart/mixed; boundary="{boundary}"', **header) + body(*parts, boundary=boundary)).encode()


def body(*parts: str, boundary: str = "=_b") -> str:
    """Return *parts* between their delimiter lines."""
    return "".join(f"--{boundary}\n{part}\n" for part in parts) + f"--{boundary}--\n"


def text(said: str = TEXT) -> str:
    return f"Content-Type: text/plain; charset=utf-8\n\n{said}\n"


def status(*blocks: str, message: str = MESSAGE) -> str:
    return "Content-Type: message/delivery-status\n\n" + "\n\n".join((message, *(blocks or (FAILED,)))) + "\n"


def returned(original: str = ORIGINAL) -> str:
    return f"Content-Type: message/rfc822\n\n{original}\nHello\n"


def report(*parts: str, said: str = TEXT, boundary: str = "=_r", **header: Unpack[Header]) -> bytes:
    """Return a delivery report; by default one about bob@b.org, failed."""
    kind = f'multipart/report; report-type=delivery-status; boundary="{boundary}"'
    inside = parts or (text(said), status(), returned())
    return (top(kind, **header) + body(*inside, boundary=boundary)).encode()


def wrapped(inner: bytes, notice: str, *, encoding: str = "", **header: Unpack[Header]) -> bytes:
    """Return *inner* as a gateway attaches it to a notice of its own."""
    content = inner.decode()
    if encoding == "base64":
        content = base64.encodebytes(inner).decode()
    elif encoding == "quoted-printable":
        content = quopri.encodestring(inner).decode()
    coded = f"Content-Transfer-Encoding: {encoding}\n" if encoding else ""
    return mixed(text(notice), f"Content-Type: message/rfc822\n{coded}\n{content}", **header)


def winmail(message_class: str) -> str:
    """Return a TNEF part as Exchange begins it: version, code page, class, each with its checksum."""
    named = message_class.encode() + b"\0"
    stream = b"\x78\x9f\x3e\x22\x01\x00"
    for attribute, data in ((0x00089006, b"\0\0\1\0"), (0x00069007, b"\xe4\x04\0\0\0\0\0\0"), (0x00078008, named)):
        stream += struct.pack("<BII", 1, attribute, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
    coded = base64.encodebytes(stream).decode()
    return f'Content-Type: application/ms-tnef; name="winmail.dat"\nContent-Transfer-Encoding: base64\n\n{coded}'


def exchange(message_class: str, **header: Unpack[Header]) -> bytes:
    """Return what an Exchange server sends in its own format."""
    given: Header = {"sender": "Bob <bob@b.org>", "subject": "Read: Contract", "extra": f"In-Reply-To: {ID}\n"}
    given.update(header)
    return mixed(text(""), winmail(message_class), **given)


def certified(
    receipt: str, said: str, *, subject: str, data: str = "", error: str = "nessuno", has_data: bool = True
) -> bytes:
    """Return a receipt of Italy's certified mail (PEC), whose daticert.xml is its machine part."""
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<postacert tipo="{receipt}" errore="{error}">\n<intestazione>'
        '<mittente>anna@a.org</mittente><destinatari tipo="certificato">bob@b.org</destinatari>'
        f"<risposte>anna@a.org</risposte><oggetto>Contract</oggetto></intestazione>\n<dati>{data}"
        "<msgid>&lt;1@a.org&gt;</msgid></dati></postacert>"
    )
    machine = [f'Content-Type: application/xml; name="daticert.xml"\n\n{xml}\n'] if has_data else []
    inner = body(text(said), *machine, boundary="in")
    signature = 'Content-Type: application/pkcs7-signature; name="smime.p7s"\nContent-Transfer-Encoding: base64\n\nMIIG'
    return (
        top(
            'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary="out"',
            sender="posta-certificata@pec.provider.it",
            subject=subject,
            path="posta-certificata@pec.provider.it",
            extra=f"X-Ricevuta: {receipt}\nX-Riferimento-Message-ID: {ID}\nX-TipoRicevuta: completa\n",
        )
        + body(f'Content-Type: multipart/mixed; boundary="in"\n\n{inner}', signature, boundary="out")
    ).encode()


def ses(told: dict[str, object], *, is_wrapped: bool = False, headers: list[dict[str, str]] | None = None) -> bytes:
    """Return a notification of Amazon SES, mailed by SNS."""
    mail = {
        "timestamp": "2026-11-24T09:30:00.000Z",
        "messageId": "0102017b",
        "source": "anna@a.org",
        "destination": ["bob@b.org"],
        "commonHeaders": {"from": ["anna@a.org"], "to": ["bob@b.org"], "messageId": ID, "subject": "Contract"},
    }
    document = json.dumps({**told, "mail": {**mail, **({"headers": headers} if headers else {})}})
    if is_wrapped:
        document = json.dumps({"Type": "Notification", "MessageId": "1", "Message": document}, indent=2)
    header = top(
        "text/plain; charset=utf-8",
        sender="AWS Notifications <no-reply@sns.amazonaws.com>",
        subject="AWS Notification Message",
        path="0102@eu-central-1.amazonses.com",
    )
    return f"{header}{document}\n\n--\nIf you wish to stop receiving notifications from this topic, visit:\nhttps://x\n".encode()
