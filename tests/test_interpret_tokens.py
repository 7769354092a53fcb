"""A token counts only where our own server or the report's own fields put it (docs/design.md §5)."""

from __future__ import annotations

import pytest

from receiptd.facts import FoundToken, MatchedBy, Report
from receiptd.interpret import interpret

TOKEN = "abcdefghijklmnopqrstuv23"
OTHER = "zyxwvutsrqponmlkjihgfe76"


def report(
    top: str = "",
    *,
    to: str = "receipts@a.org",
    text: str = "It failed.",
    message: str = "",
    block: str = "",
    back: str = "",
) -> Report:
    return interpret(
        f"{top}Received: from b.org by a.org\nFrom: MAILER-DAEMON@b.org\nTo: {to}\nSubject: Undelivered Mail\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        f"--b\n\n{text}\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; b.org\n{message}\n"
        f"Final-Recipient: rfc822; bob@b.org\nAction: failed\n{block}\n"
        f"--b\nContent-Type: message/rfc822\n\n{back}Message-ID: <1@a.org>\n\nbody\n--b--\n".encode()
    )


@pytest.mark.parametrize("name", ["Delivered-To", "X-Original-To", "Envelope-To"])
def test_it_counts_in_the_address_line_of_our_own_server(name: str) -> None:
    assert report(f"{name}: receipts+{TOKEN}@a.org\n").found_tokens == (FoundToken(TOKEN, MatchedBy.RETURN_PATH),)


def test_it_counts_in_to_in_any_case() -> None:
    assert report(to=f"receipts+{TOKEN.upper()}@a.org").tokens == (TOKEN,)


def test_a_local_part_that_is_the_token_counts() -> None:
    assert report(to=f"{TOKEN}@receipts.a.org").tokens == (TOKEN,)


def test_only_the_topmost_address_line_counts() -> None:
    top = f"Delivered-To: receipts+{TOKEN}@a.org\nDelivered-To: receipts+{OTHER}@a.org\n"
    assert report(top).tokens == (TOKEN,)


def test_an_address_line_below_the_first_hop_does_not_count() -> None:
    below = f"Delivered-To: receipts@a.org\nReceived: by a.org\nDelivered-To: receipts+{OTHER}@a.org\n"
    assert report(below).tokens == ()


@pytest.mark.parametrize("spelling", [TOKEN, TOKEN.upper(), TOKEN.replace("a", "+61", 1)])
def test_it_counts_in_the_envelope_id_even_in_xtext(spelling: str) -> None:
    found = report(message=f"Original-Envelope-Id: {spelling}\n").found_tokens
    assert FoundToken(TOKEN, MatchedBy.ENVELOPE_ID) in found


@pytest.mark.parametrize("name", ["Disposition-Notification-To", "Return-Path", "Receipt-Token"])
def test_it_counts_in_the_headers_that_the_report_returns(name: str) -> None:
    value = TOKEN if name == "Receipt-Token" else f"<receipts+{TOKEN}@a.org>"
    assert report(back=f"{name}: {value}\n").found_tokens == (FoundToken(TOKEN, MatchedBy.RETURNED_HEADER),)


def test_it_does_not_count_anywhere_else() -> None:
    assert (
        report(
            text=f"Failed: receipts+{OTHER}@a.org",
            block=f"Diagnostic-Code: smtp; 550 {OTHER}\nOriginal-Envelope-Id: {OTHER}\n",
            back=f"Subject: {OTHER}\nReferences: <{OTHER}@a.org>\n",
        ).tokens
        == ()
    )


def test_an_attachment_and_an_inner_report_do_not_count() -> None:
    inner = f"Content-Type: message/delivery-status\n\nOriginal-Envelope-Id: {OTHER}\n"
    raw = (
        "From: x@b.org\nTo: me@a.org\nSubject: look\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n"
        f"--b\nContent-Type: message/rfc822\n\nReturn-Path: <receipts+{OTHER}@a.org>\n{inner}\n--b--\n"
    )
    assert interpret(raw.encode()).tokens == ()


def test_every_place_is_told_once() -> None:
    found = report(to=f"receipts+{TOKEN}@a.org", message=f"Original-Envelope-Id: {TOKEN}\n").found_tokens
    assert found == (FoundToken(TOKEN, MatchedBy.RETURN_PATH), FoundToken(TOKEN, MatchedBy.ENVELOPE_ID))


def test_it_does_not_count_in_the_report_that_a_person_attaches() -> None:
    raw = (
        "From: Anna <anna@b.org>\nTo: me@a.org\nSubject: Undelivered Mail Returned to Sender\n"
        "Content-Type: multipart/mixed; boundary=b\n\n"
        "--b\n\nThis mail could not be delivered, what can I do?\n"
        '--b\nContent-Type: text/plain; name="details.txt"\n\n'
        f"Reporting-MTA: dns; c.org\nOriginal-Envelope-Id: {TOKEN}\n\nFinal-Recipient: rfc822; bob@c.org\n"
        "Action: failed\nStatus: 5.1.1\n"
        "--b\nContent-Type: message/rfc822\n\nMessage-ID: <1@a.org>\n\nbody\n--b--\n"
    )
    assert interpret(raw.encode()).tokens == ()
