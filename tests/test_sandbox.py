"""The embedded mail world behaves as real servers do: judged with smtplib, imaplib and the stdlib's email."""

from __future__ import annotations

import asyncio
import email
import email.policy
import imaplib
import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from receiptd import sandbox
from receiptd.sandbox.mailworld import World

TOKEN = "k7oavncpwrsgawpkla5sedgo"
"""The same in every process that collects these tests: it stands in their names."""
RETURN_PATH = f"receipts+{TOKEN}@office.example"


@pytest.fixture
async def embedded() -> AsyncIterator[World]:
    async with sandbox.world() as opened:
        yield opened


def _message(to: str, *, receipt: bool = True) -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "sales@office.example"
    message["To"] = to
    message["Subject"] = "Offer – für Ben"
    message["Message-ID"] = f"<{TOKEN}@office.example>"
    if receipt:
        message["Disposition-Notification-To"] = RETURN_PATH
    message.set_content("Dear Ben,\n\nhere it is.\n")
    return message.as_bytes()


def _connect(embedded: World) -> smtplib.SMTP:
    parts = urlsplit(embedded.smtp_url)
    client = smtplib.SMTP("127.0.0.1", parts.port or 0, local_hostname="client", timeout=5)
    client.starttls(context=ssl.create_default_context(cafile=str(embedded.ca_file)))
    client.login(unquote(parts.username or ""), embedded.password)
    return client


async def _submit(
    embedded: World,
    to: str,
    *,
    mail: tuple[str, ...] = ("RET=HDRS", f"ENVID={TOKEN}"),
    rcpt: tuple[str, ...] = ("NOTIFY=SUCCESS,FAILURE,DELAY",),
    receipt: bool = True,
) -> None:
    def send() -> None:
        with _connect(embedded) as client:
            client.sendmail(RETURN_PATH, [to], _message(to, receipt=receipt), mail, rcpt)

    await asyncio.to_thread(send)


async def _mailbox(embedded: World, folder: str = "INBOX") -> list[EmailMessage]:
    def fetch() -> list[EmailMessage]:
        parts = urlsplit(embedded.imap_url)
        context = ssl.create_default_context(cafile=str(embedded.ca_file))
        with imaplib.IMAP4_SSL("127.0.0.1", parts.port or 0, ssl_context=context, timeout=5) as client:
            client.login(unquote(parts.username or ""), embedded.password)
            client.select(folder, readonly=True)
            uids = client.uid("SEARCH", "ALL")[1][0].split()
            raws = [client.uid("FETCH", uid.decode(), "(BODY.PEEK[])")[1][0][1] for uid in uids]
        return [email.message_from_bytes(raw, policy=email.policy.default) for raw in raws]

    return await asyncio.to_thread(fetch)


async def _arrived(embedded: World, count: int = 1) -> None:
    await embedded.wait_for(lambda: len(embedded.imap.kept) >= count)


def _status(report: EmailMessage) -> dict[str, str]:
    part = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    blocks: Any = part.get_payload()
    return {name: " ".join(value.split()) for block in blocks for name, value in block.items()}


@pytest.mark.parametrize(
    ("to", "action", "status"),
    [
        ("ann@delivers.example", "delivered", "2.0.0"),
        ("fay@relays.example", "relayed", "2.0.0"),
        ("nobody@unknown.example", "failed", "5.1.1"),
        ("dora@delays.example", "delayed", "4.3.2"),
    ],
)
async def test_a_destination_reports_as_rfc_3464_says(embedded: World, to: str, action: str, status: str) -> None:
    await _submit(embedded, to, rcpt=("NOTIFY=SUCCESS,FAILURE,DELAY", f"ORCPT=rfc822;{to}"))
    await _arrived(embedded)
    (report,) = await _mailbox(embedded)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert report["Return-Path"] == "<>"
    assert report["Delivered-To"] == report["To"] == RETURN_PATH
    assert not report.defects
    assert [part.get_content_type() for part in report.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    fields = _status(report)
    assert fields["Original-Envelope-Id"] == TOKEN
    assert fields["Final-Recipient"] == f"rfc822; {to}"
    assert fields["Original-Recipient"] == f"rfc822;{to}"
    assert (fields["Action"], fields["Status"]) == (action, status)
    assert f"Message-ID: <{TOKEN}@office.example>" in str(list(report.iter_parts())[2].get_payload())


async def test_a_reader_sends_a_receipt_to_the_address_that_asked_for_it(embedded: World) -> None:
    await _submit(embedded, "ben@reads.example")
    await _arrived(embedded, 2)
    (receipt,) = await _mailbox(embedded, "Junk")
    assert receipt.get_param("report-type") == "disposition-notification"
    assert receipt["Return-Path"] == "<ben@reads.example>"
    assert receipt["Delivered-To"] == RETURN_PATH
    machine = next(part for part in receipt.walk() if part.get_content_type() == "message/disposition-notification")
    assert "Disposition: manual-action/MDN-sent-manually; displayed" in machine.as_string()
    assert f"Original-Message-ID: <{TOKEN}@office.example>" in machine.as_string()
    assert receipt["Subject"] == "Return Receipt (displayed) -Offer – für Ben"
    assert not receipt.defects


async def test_nobody_sends_a_receipt_that_was_not_asked_for(embedded: World) -> None:
    await _submit(embedded, "ben@reads.example", receipt=False)
    await _arrived(embedded)
    await embedded.wait_for(lambda: all(task.done() for task in embedded._fates_underway))
    assert await _mailbox(embedded, "Junk") == []


async def test_a_sieve_reject_is_an_mdn_beside_a_relayed_report(embedded: World) -> None:
    await _submit(embedded, "gus@refuses.example")
    await _arrived(embedded, 2)
    relayed, rejected = await _mailbox(embedded)
    assert _status(relayed)["Action"] == "relayed"
    assert rejected["Auto-Submitted"] == "auto-replied (rejected)"
    assert "automatic-action/MDN-sent-automatically; deleted" in rejected.as_string()


async def test_a_silent_destination_never_reports(embedded: World) -> None:
    await _submit(embedded, "eve@silent.example")
    await embedded.wait_for(lambda: all(task.done() for task in embedded._fates_underway))
    assert embedded.submitted
    assert await _mailbox(embedded) == []


@pytest.mark.parametrize("to", ["ann@delivers.example", "dora@delays.example"])
async def test_reports_that_notify_does_not_ask_for_stay_away(embedded: World, to: str) -> None:
    await _submit(embedded, to, rcpt=("NOTIFY=FAILURE",))
    await embedded.wait_for(lambda: bool(embedded.submitted))
    await asyncio.sleep(0.1)
    assert embedded.imap.kept == []


async def test_without_notify_a_failure_is_reported_and_ret_full_returns_the_whole_message(embedded: World) -> None:
    await _submit(embedded, "nobody@unknown.example", mail=("RET=FULL",), rcpt=())
    await _arrived(embedded)
    (report,) = await _mailbox(embedded)
    returned = list(report.iter_parts())[2]
    assert returned.get_content_type() == "message/rfc822"
    assert "here it is." in returned.as_string()


async def test_a_delayed_message_waits_until_it_is_released(embedded: World) -> None:
    await _submit(embedded, "dora@delays.example")
    await _arrived(embedded)
    await asyncio.sleep(0.1)
    assert len(embedded.imap.kept) == 1
    embedded.release("dora@delays.example")
    await _arrived(embedded, 2)
    assert [_status(report)["Action"] for report in await _mailbox(embedded)] == ["delayed", "delivered"]


async def test_the_envelope_keeps_its_dsn_parameters_as_written(embedded: World) -> None:
    await _submit(
        embedded,
        "Ann@delivers.example",
        mail=("RET=FULL", "ENVID=Mixed+2BCase"),
        rcpt=("NOTIFY=never", "ORCPT=rfc822;Ann+2Bx@delivers.example"),
    )
    (envelope,) = embedded.submitted
    assert (envelope.ret, envelope.envelope_id) == ("FULL", "Mixed+Case")
    assert envelope.notify == {"NEVER"}
    assert envelope.original_recipient == "rfc822;Ann+x@delivers.example"
    assert (envelope.return_path, envelope.recipient) == (RETURN_PATH, "Ann@delivers.example")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("MAIL", f"FROM:<{RETURN_PATH}> ENVID=a+b"),
        ("MAIL", f"FROM:<{RETURN_PATH}> RET=SOME"),
        ("MAIL", f"FROM:<{RETURN_PATH}> RET=FULL RET=HDRS"),
        ("MAIL", f"FROM:<{RETURN_PATH}> ENVID={'a' * 101}"),
        ("RCPT", "TO:<ann@delivers.example> NOTIFY=NEVER,SUCCESS"),
        ("RCPT", "TO:<ann@delivers.example> NOTIFY=SOMETIMES"),
        ("RCPT", "TO:<ann@delivers.example> ORCPT=ann@delivers.example"),
    ],
)
async def test_a_wrong_dsn_parameter_is_refused(embedded: World, command: str, line: str) -> None:
    def attempt() -> int:
        with _connect(embedded) as client:
            client.ehlo("client")
            if command == "RCPT":
                client.docmd("MAIL", f"FROM:<{RETURN_PATH}>")
            return client.docmd(command, line)[0]

    assert await asyncio.to_thread(attempt) == 501


async def test_nobody_submits_without_tls_and_a_password(embedded: World) -> None:
    def attempt() -> tuple[bool, int, int]:
        with smtplib.SMTP("127.0.0.1", embedded.smtp.port, local_hostname="client", timeout=5) as client:
            client.ehlo("client")
            offered = client.has_extn("auth")
            bare = client.docmd("MAIL", "FROM:<sales@office.example>")[0]
            client.starttls(context=ssl.create_default_context(cafile=str(embedded.ca_file)))
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.login(embedded.user, "wrong")
            return offered, bare, refused.value.smtp_code

    assert await asyncio.to_thread(attempt) == (False, 530, 535)


async def test_a_relay_without_dsn_neither_offers_nor_takes_it() -> None:
    async with sandbox.world(offers_dsn=False) as embedded:

        def attempt() -> tuple[bool, int]:
            with _connect(embedded) as client:
                client.ehlo("client")
                return client.has_extn("dsn"), client.docmd("MAIL", f"FROM:<{RETURN_PATH}> RET=HDRS")[0]

        assert await asyncio.to_thread(attempt) == (False, 555)


async def test_a_recipient_can_be_refused_at_once(embedded: World) -> None:
    embedded.smtp.replies["x@delivers.example"] = "550 5.1.1 no such user"
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        await _submit(embedded, "x@delivers.example")
    assert embedded.submitted == []


async def test_servers_come_back_on_their_ports_and_mail_under_a_new_uidvalidity(embedded: World) -> None:
    await embedded.deliver(b"Subject: one\r\n\r\nx\r\n")
    before = await asyncio.to_thread(_uidvalidity, embedded)
    urls = embedded.smtp_url, embedded.imap_url
    await embedded.smtp.stop()
    await embedded.imap.stop()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_connect, embedded)
    await embedded.smtp.start()
    await embedded.imap.start()
    assert (embedded.smtp_url, embedded.imap_url) == urls
    await asyncio.to_thread(lambda: _connect(embedded).quit())
    assert [message["Subject"] for message in await _mailbox(embedded)] == ["one"]
    assert await asyncio.to_thread(_uidvalidity, embedded) != before


def _uidvalidity(embedded: World) -> str:
    context = ssl.create_default_context(cafile=str(embedded.ca_file))
    with imaplib.IMAP4_SSL("127.0.0.1", embedded.imap.port, ssl_context=context, timeout=5) as client:
        client.login(embedded.user, embedded.password)
        answer = client.status("INBOX", "(UIDVALIDITY)")[1][0]
    found = re.search(r"UIDVALIDITY (\d+)", str(answer))
    assert found
    return found[1]


async def test_a_stop_drops_whoever_is_connected(embedded: World) -> None:
    client = await asyncio.to_thread(_connect, embedded)
    await embedded.smtp.stop()
    noop: Callable[[], Any] = client.noop
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        await asyncio.to_thread(noop)
    client.close()


def test_the_command_line_pays_nothing_for_the_sandbox() -> None:
    code = "import sys, receiptd.sandbox; print([m for m in ('asyncio', 'aiosmtpd', 'pymap') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
