"""RFC 3464, 6522 and 6533 as servers write them: rows B and C of what the standards ask."""

from __future__ import annotations

import base64
import quopri

import pytest

from receiptd.facts import Action, Report, ReportKind
from receiptd.interpret import interpret

TEXT = "The following message could not be delivered."
MESSAGE = "Reporting-MTA: dns; mx.b.org\nArrival-Date: Tue, 24 Nov 2026 02:34:02 +0000"
BOB = "Final-Recipient: rfc822; bob@b.org\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user"


def dsn(
    status: str = f"{MESSAGE}\n\n{BOB}\n",
    *,
    text: str = TEXT,
    container: str = "multipart/report; report-type=delivery-status",
    status_type: str = "message/delivery-status",
    returned: str = "text/rfc822-headers",
    encoding: str = "",
) -> bytes:
    content = status.encode()
    if encoding == "base64":
        content = base64.encodebytes(content)
    elif encoding == "quoted-printable":
        content = quopri.encodestring(content)
    return (
        b"Return-Path: <>\nFrom: MAILER-DAEMON@b.org\nTo: me@a.org\nSubject: Undelivered Mail\nMIME-Version: 1.0\n"
        + f'Content-Type: {container}; boundary="=_b"\n\n--=_b\n\n{text}\n\n'.encode()
        + f"--=_b\nContent-Type: {status_type}\n".encode()
        + (f"Content-Transfer-Encoding: {encoding}\n\n" if encoding else "\n").encode()
        + content
        + f"\n--=_b\nContent-Type: {returned}\n\n".encode()
        + b"Message-ID: <1@a.org>\nFrom: me@a.org\nTo: bob@b.org\n\n--=_b--\n"
    )


def fails_bob(report: Report) -> bool:
    return report.kind is ReportKind.DSN and [
        (one.action, one.final_recipient, one.status, one.reply_code) for one in report.recipients
    ] == [(Action.FAILED, "bob@b.org", "5.1.1", 550)]


def test_the_textbook_report_is_read() -> None:
    report = interpret(dsn())
    assert fails_bob(report)
    assert report.original_message_id == "<1@a.org>"
    assert report.returned_from == "me@a.org"


@pytest.mark.parametrize(
    "block",
    [
        "FINAL-RECIPIENT: RFC822;bob@B.org\nACTION:\n  failed (bad mailbox)\nSTATUS: 5.1.1 (unknown)\n"
        "Diagnostic-Code: smtp;550 5.1.1 no",
        "Final-Recipient : rfc822; <bob@b.org>\nAction:failed\nStatus:5.1.1\nDiagnostic-Code: SMTP; 550 no",
        "Final-Recipient: bob@b.org\nAction: FAILED\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550-5.1.1 no",
        "Final-Recipient: rfc822; Bob <bob@b.org>\nAction: failure\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 #5.1.1 no",
        "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no\nFinal-Recipient: utf-8; bob@b.org",
    ],
)
def test_field_names_and_values_come_in_any_case_folded_and_with_comments(block: str) -> None:
    assert fails_bob(interpret(dsn(f"{MESSAGE}\n\n{block}\n")))


@pytest.mark.parametrize(
    "status",
    [
        f"\n\n{MESSAGE}\n\n\n\n{BOB}\n\n\n",
        f"{MESSAGE}\r\n\r\n{BOB}\n",
        f"{MESSAGE}\n\n{BOB}",
        f"{BOB}\n",
        f"{MESSAGE}\n{BOB}\n",
        f"{MESSAGE}\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: x; 550 n\nFinal-Recipient: rfc822; bob@b.org",
        f"{MESSAGE}\nAction: failed\nStatus: 5.1.1\n\nFinal-Recipient: rfc822; bob@b.org\nDiagnostic-Code: smtp; 550 n",
        f"{MESSAGE}\n\nFinal-Recipient: rfc822; bob@b.org\n\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: x; 550 n",
    ],
    ids=[
        "blank-lines",
        "mixed-ends",
        "no-last-newline",
        "no-first-group",
        "one-group",
        "one-group-name-last",
        "action-above",
        "split-group",
    ],
)
def test_groups_are_found_however_they_are_parted(status: str) -> None:
    assert fails_bob(interpret(dsn(status)))


def test_two_recipients_in_one_block_are_two() -> None:
    report = interpret(dsn(f"{MESSAGE}\n\n{BOB}\n{BOB.replace('bob', 'carol')}\n"))
    assert [one.final_recipient for one in report.recipients] == ["bob@b.org", "carol@b.org"]


def test_one_report_may_say_different_things_of_its_recipients() -> None:
    blocks = "\n\n".join(
        f"Final-Recipient: rfc822; {name}@b.org\nAction: {action}\nStatus: {status}"
        for name, action, status in (("a", "delivered", "2.0.0"), ("b", "failed", "5.1.1"), ("c", "delayed", "4.4.1"))
    )
    report = interpret(dsn(f"{MESSAGE}\n\n{blocks}\n", text="See below."))
    assert [one.action for one in report.recipients] == ["delivered", "failed", "delayed"]


def test_an_envelope_id_stated_twice_counts_for_nothing() -> None:
    ids = "Original-Envelope-Id: aaaabbbbccccddddeeeeffff\nOriginal-Envelope-Id: aaaabbbbccccddddeeeegggg"
    report = interpret(dsn(f"{ids}\n{MESSAGE}\n\n{BOB}\n"))
    assert report.envelope_id is None
    assert report.tokens == ()


@pytest.mark.parametrize("action", ["deliverable", "x-unknown"])
def test_an_unknown_action_is_kept_and_proves_nothing(action: str) -> None:
    (told,) = interpret(
        dsn(f"{MESSAGE}\n\nFinal-Recipient: rfc822; bob@b.org\nAction: {action}\nStatus: 2.0.0\n")
    ).recipients
    assert (told.action, told.stated_action) == (None, action)


@pytest.mark.parametrize(
    ("action", "status"), [("failed", "4.4.7"), ("delayed", "4.4.1"), ("delivered", "5.1.1"), ("relayed", "2.0.0")]
)
def test_the_action_decides_and_never_the_class_of_the_status(action: str, status: str) -> None:
    (told,) = interpret(
        dsn(f"{MESSAGE}\n\nFinal-Recipient: rfc822; bob@b.org\nAction: {action}\nStatus: {status}\n", text="See below.")
    ).recipients
    assert (told.action, told.status) == (action, status)


def test_failed_is_failed_though_the_text_tells_of_a_server_that_took_it() -> None:
    """RFC 3461 §5.2.6: what was put aside for the postmaster was not delivered."""
    took = (
        "Final-Recipient: rfc822; bob@b.org\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 250 2.0.0 Ok: queued"
    )
    (told,) = interpret(
        dsn(
            f"{MESSAGE}\n\n{took}\n", text="Your message was delivered to the postmaster: 250 2.1.5 bob@b.org accepted."
        )
    ).recipients
    assert (told.action, told.status) == (Action.FAILED, "5.0.0")


@pytest.mark.parametrize("word", ["failure", "expired", "bounced"])
def test_words_that_servers_use_in_place_of_failed_mean_it(word: str) -> None:
    (told,) = interpret(dsn(f"{MESSAGE}\n\n{BOB.replace('failed', word)}\n")).recipients
    assert (told.action, told.stated_action) == (Action.FAILED, word)


@pytest.mark.parametrize("status", ["5.01.1", "N.=", "5", "five"])
def test_a_status_that_is_no_code_is_unknown_and_the_class_follows_from_the_action(status: str) -> None:
    (told,) = interpret(
        dsn(f"{MESSAGE}\n\nFinal-Recipient: rfc822; bob@b.org\nAction: failed\nStatus: {status}\n")
    ).recipients
    assert (told.action, told.status) == (Action.FAILED, "5.0.0")


@pytest.mark.parametrize(("action", "status"), [("failed", "5.1.99"), ("failed", "5.99.1"), ("delayed", "4.999.999")])
def test_a_code_that_nobody_has_heard_of_is_kept_as_it_stands(action: str, status: str) -> None:
    """RFC 3463 §2: class and subject are reported even where what follows is unknown."""
    (told,) = interpret(
        dsn(f"{MESSAGE}\n\nFinal-Recipient: rfc822; bob@b.org\nAction: {action}\nStatus: {status}\n", text="See below.")
    ).recipients
    assert (told.action, told.status, told.cause) == (action, status, "other")


def test_a_bad_date_is_unknown() -> None:
    dates = "Last-Attempt-Date: yesterday\nWill-Retry-Until: Sun, 29 Nov 2026 02:34:02 +0100"
    (told,) = interpret(dsn(f"{MESSAGE}\n\n{BOB}\n{dates}\n")).recipients
    assert told.occurred_at is None
    assert told.will_retry_until is not None
    assert told.will_retry_until.isoformat() == "2026-11-29T01:34:02+00:00"


def test_a_pipe_is_no_address() -> None:
    block = BOB.replace("bob@b.org", "|/usr/bin/vacation bob").replace(
        "Action", "Original-Recipient: <bob@b.org>\nAction"
    )
    (told,) = interpret(dsn(f"{MESSAGE}\n\n{block}\n")).recipients
    assert (told.final_recipient, told.original_recipient) == (None, "bob@b.org")


@pytest.mark.parametrize(
    "container", ["multipart/report; report-type=DELIVERY-status", "multipart/report", "multipart/mixed"]
)
def test_the_type_of_the_second_part_decides_not_the_container(container: str) -> None:
    assert fails_bob(interpret(dsn(container=container)))


@pytest.mark.parametrize("encoding", ["", "base64", "quoted-printable"])
@pytest.mark.parametrize("status_type", ["message/delivery-status", "message/global-delivery-status; charset=utf-8"])
@pytest.mark.parametrize(
    "returned", ["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"]
)
def test_any_mix_of_the_types_of_rfc_6522_and_6533_is_read(status_type: str, returned: str, encoding: str) -> None:
    report = interpret(dsn(status_type=status_type, returned=returned, encoding=encoding))
    assert fails_bob(report)
    assert report.original_message_id == "<1@a.org>"


@pytest.mark.parametrize("status_type", ['text/plain; name="ATT00001.txt"', "application/octet-stream"])
def test_a_status_part_that_a_gateway_took_the_type_of_is_read(status_type: str) -> None:
    assert fails_bob(interpret(dsn(status_type=status_type, container="multipart/mixed")))
    assert fails_bob(interpret(dsn(BOB.lower(), status_type=status_type, container="multipart/mixed")))
    hello = dsn(status_type=status_type, text="Hello").replace(b"Subject: Undelivered Mail", b"Subject: Hello")
    assert fails_bob(interpret(hello))


def test_the_headers_of_a_report_without_original_are_no_original() -> None:
    raw = dsn(
        f"{MESSAGE}\nX-Queue-ID: 4X\nX-Sender: rfc822; me@a.org\n\n{BOB}\n",
        text=f"{TEXT}\n\nReceived: by a.org\nMessage-ID: <2@a.org>",
    )
    report = interpret(raw.partition(b"\n--=_b\nContent-Type: text/rfc822-headers")[0])
    assert report.original_message_id == "<2@a.org>"


def test_a_local_part_that_is_quoted_for_nothing_is_the_same_name() -> None:
    quoted = BOB.replace("bob", '"bob"')
    assert fails_bob(interpret(dsn(f"{MESSAGE}\n\n{quoted}\n")))
    (told,) = interpret(dsn(f"{MESSAGE}\n\n{quoted.replace('bob', 'bob b')}\n")).recipients
    assert told.final_recipient == '"bob b"@b.org'


def test_the_text_of_a_report_behind_a_gateways_warning_is_the_reports() -> None:
    warning = "--=_o\nContent-Type: text/plain\n\nThis comes from outside.\n\n--=_o\n"
    report = dsn(BOB.partition("\nDiagnostic")[0], text="<bob@b.org>: 550 no such user").decode()
    kind = 'Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"\n'
    outer = f'Content-Type: multipart/mixed; boundary="=_o"\n\n{warning}{kind}'
    assert fails_bob(interpret(report.replace(kind, outer).encode()))


@pytest.mark.parametrize(
    ("usual", "odd"),
    [
        ("rfc822; bob@b.org", "rfc822;'bob@b.org'"),
        ("rfc822; bob@b.org", "rfc822;bob@b.org;"),
        ("rfc822; bob@b.org", "rfc822; rfc822; bob@b.org"),
        ("Status: 5.1.1", "Status: 5.1.1."),
        ("Status: 5.1.1", "Status: (5.1.1)"),
        ("Status: 5.1.1", "Status: #5.1.1"),
        ("Status: 5.1.1", "Status: smtp; 5.1.1"),
        ("550 5.1.1", "<550> 5.1.1"),
        ("550 5.1.1", "Error (550) user"),
        ("550 5.1.1", "server replied ’550 5.1.1"),
    ],
)
def test_an_odd_spelling_of_a_field_says_the_same(usual: str, odd: str) -> None:
    assert fails_bob(interpret(dsn(f"{MESSAGE}\n\n{BOB.replace(usual, odd)}\n")))


@pytest.mark.parametrize("end", [b"\r", b"\r\r\n", b"\r\n"])
def test_lines_may_end_as_converters_leave_them(end: bytes) -> None:
    report = interpret(dsn().replace(b"\n", end))
    assert fails_bob(report)
    assert report.original_message_id == "<1@a.org>"


def test_blank_lines_between_all_fields_make_no_recipient_more() -> None:
    carol = BOB.replace("bob", "carol").replace("5.1.1", "5.2.2").replace("550", "552")
    blocks = "\n\n".join((MESSAGE, f"Original-Recipient: rfc822; bob@a.org\n{BOB}", carol))
    told = interpret(dsn("\n\n".join(blocks.split("\n")) + "\n")).recipients
    assert [(one.final_recipient, one.original_recipient, one.status, one.reply_code) for one in told] == [
        ("bob@b.org", "bob@a.org", "5.1.1", 550),
        ("carol@b.org", None, "5.2.2", 552),
    ]


def test_a_byte_order_mark_hides_no_field() -> None:
    assert interpret(dsn(f"\ufeff{MESSAGE}\n\n{BOB}\n")).reporting_mta == "mx.b.org"


def test_comments_may_stand_before_a_status_and_an_action() -> None:
    block = BOB.replace("failed", "(bad (worse)) failed").replace("Status: 5", "Status: (permanent) 5")
    assert fails_bob(interpret(dsn(f"{MESSAGE}\n\n{block}\n")))


def test_a_utf_8_address_is_read_in_both_its_spellings() -> None:
    for spelling in ("tür@b.org", r"t\x{FC}r@b.org"):
        (told,) = interpret(
            dsn(f"{MESSAGE}\n\nFinal-Recipient: utf-8; {spelling}\nAction: failed\nStatus: 5.1.1\n")
        ).recipients
        assert told.final_recipient == "tür@b.org"


def test_the_first_part_may_have_alternatives() -> None:
    text = 'x\n--=_b\nContent-Type: multipart/alternative; boundary="alt"\n\n'
    text += "--alt\nContent-Type: text/html\n\n<p>No</p>\n--alt--"
    assert fails_bob(interpret(dsn(text=text)))


def test_a_returned_bounce_does_not_speak_for_its_inner_report() -> None:
    inner = dsn(f"{MESSAGE}\n\n{BOB.replace('bob', 'inner')}\n").decode().replace("=_b", "=_inner")
    raw = dsn(returned="message/rfc822").decode().replace("Message-ID: <1@a.org>", inner)
    assert [one.final_recipient for one in interpret(raw.encode()).recipients] == ["bob@b.org"]


def test_fields_that_slipped_into_the_parts_header_count() -> None:
    raw = dsn().replace(b"Content-Type: message/delivery-status\n\n", b"Content-Type: message/delivery-status\n")
    assert fails_bob(interpret(raw))


def test_missing_closing_boundary_and_blank_lines_before_the_header_do_no_harm() -> None:
    assert fails_bob(interpret(b"\n\r\n" + dsn().replace(b"--=_b--\n", b"")))
