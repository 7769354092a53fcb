"""RFC 8098 as mail programs write it: rows E of what the standards ask."""

from __future__ import annotations

import base64
import struct

import pytest

from receiptd.facts import Action, Report, ReportKind
from receiptd.interpret import interpret

FIELDS = (
    "Reporting-UA: reader.example; Some Reader\nFinal-Recipient: rfc822; bob@b.org\nOriginal-Message-ID: <1@a.org>\n"
    "Disposition: manual-action/MDN-sent-manually; displayed"
)


def mdn(
    fields: str = FIELDS, *, header: str = "From: bob@b.org", kind: str = "message/disposition-notification"
) -> Report:
    return interpret(
        f"{header}\nTo: me@a.org\nSubject: Read: Contract\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="=_b"\n\n'
        f"--=_b\n\nYour message was displayed.\n--=_b\nContent-Type: {kind}\n\n{fields}\n\n--=_b--\n".encode()
    )


def test_the_textbook_notification_is_read() -> None:
    report = mdn()
    assert report.kind is ReportKind.MDN
    assert report.recipients[0].action is Action.DISPLAYED
    assert report.recipients[0].final_recipient == "bob@b.org"
    assert report.original_message_id == "<1@a.org>"
    assert report.reporting_ua == "reader.example; Some Reader"


@pytest.mark.parametrize(
    ("stated", "mode", "action", "modifiers"),
    [
        ("manual-action/MDN-sent-manually; displayed", "manual-action/mdn-sent-manually", "displayed", ()),
        ("manual-action/MDN-sent-manually;displayed", "manual-action/mdn-sent-manually", "displayed", ()),
        ("MANUAL-ACTION / MDN-Sent-Manually ; DISPLAYED", "manual-action/mdn-sent-manually", "displayed", ()),
        (
            "manual-action/MDN-sent-manually (by hand); displayed (seen)",
            "manual-action/mdn-sent-manually",
            "displayed",
            (),
        ),
        (
            "automatic-action/MDN-sent-automatically;\n dispatched",
            "automatic-action/mdn-sent-automatically",
            "dispatched",
            (),
        ),
        (
            "automatic-action/MDN-sent-automatically; processed/error",
            "automatic-action/mdn-sent-automatically",
            "processed",
            ("error",),
        ),
        (
            "manual-action/MDN-sent-manually; displayed / error , warning",
            "manual-action/mdn-sent-manually",
            "displayed",
            ("error", "warning"),
        ),
        (
            "automatic-action/MDN-sent-automatically; deleted/superseded,x-other",
            "automatic-action/mdn-sent-automatically",
            "deleted",
            ("superseded", "x-other"),
        ),
        ("manual-action/MDN-sent-manually; denied", "manual-action/mdn-sent-manually", "denied", ()),
        (
            "automatic-action/MDN-sent-automatically; failed/mailbox-terminated",
            "automatic-action/mdn-sent-automatically",
            "failed",
            ("mailbox-terminated",),
        ),
        ("displayed", None, "displayed", ()),
        ("displayed/error", None, "displayed", ("error",)),
        ("; displayed", None, "displayed", ()),
        ("x-odd/x-mode; x-kind", "x-odd/x-mode", None, ()),
        ("", None, None, ()),
    ],
)
def test_a_disposition_is_read_in_any_spelling(
    stated: str, mode: str | None, action: str | None, modifiers: tuple[str, ...]
) -> None:
    report = mdn(FIELDS.rpartition("\n")[0] + f"\nDisposition: {stated}")
    assert (report.disposition_mode, report.disposition_modifiers) == (mode, modifiers)
    assert report.recipients[0].action == action


def test_the_internationalised_type_is_the_same() -> None:
    assert mdn(kind="message/global-disposition-notification").kind is ReportKind.MDN


def test_a_folded_message_id_is_read() -> None:
    assert mdn(FIELDS.replace(": <1@a.org>", ":\n <1@a.org>")).original_message_id == "<1@a.org>"


def test_without_original_message_id_the_answered_one_counts() -> None:
    fields = FIELDS.replace("Original-Message-ID: <1@a.org>\n", "")
    assert mdn(fields, header="From: bob@b.org\nIn-Reply-To: <2@a.org>").original_message_id == "<2@a.org>"


def test_an_original_recipient_that_lists_several_is_not_believed() -> None:
    assert mdn(f"{FIELDS}\nOriginal-Recipient: bob@b.org, carol@b.org").recipients[0].original_recipient is None
    assert mdn(f"{FIELDS}\nOriginal-Recipient: rfc822;list@b.org").recipients[0].original_recipient == "list@b.org"


def test_a_display_name_in_final_recipient_does_no_harm() -> None:
    fields = FIELDS.replace("bob@b.org", '"Bob, the reader" <bob@b.org>')
    assert mdn(fields).recipients[0].final_recipient == "bob@b.org"


def test_an_error_field_is_kept() -> None:
    report = mdn(FIELDS.replace("displayed", "processed/error") + "\nError: 550 disk full")
    assert report.disposition_modifiers == ("error",)
    assert report.recipients[0].diagnostic_code == "550 disk full"


def test_the_error_of_an_internationalised_notification_is_utf_8() -> None:
    """RFC 6533 §5."""
    fields = FIELDS.replace("rfc822; bob", "utf-8; tür").replace("displayed", "processed/error")
    report = mdn(f"{fields}\nError: 550 Größe überschritten", kind="message/global-disposition-notification")
    assert report.recipients[0].final_recipient == "tür@b.org"
    assert report.recipients[0].diagnostic_code == "550 Größe überschritten"


def test_of_two_notifications_in_one_the_first_speaks() -> None:
    """RFC 8098 §3: a notification is of one message and one recipient."""
    second = FIELDS.replace("bob", "carol").replace("<1@", "<2@").replace("displayed", "deleted")
    report = mdn(f"{FIELDS}\n\n{second}")
    assert [(one.action, one.final_recipient) for one in report.recipients] == [(Action.DISPLAYED, "bob@b.org")]
    assert report.original_message_id == "<1@a.org>"


@pytest.mark.parametrize(
    ("header", "refused"),
    [
        ("From: postmaster@b.org\nAuto-Submitted: auto-replied (rejected)", True),
        ("From: bob@b.org\nAuto-Submitted: auto-replied (rejected)", True),
        ("From: bob@b.org", False),
    ],
)
def test_deleted_is_a_refusal_only_from_a_delivery_agent(header: str, refused: bool) -> None:
    report = mdn(FIELDS.replace("displayed", "deleted"), header=header)
    assert report.is_refusal is refused


def test_a_delivery_agent_that_says_displayed_refuses_nothing() -> None:
    assert not mdn(header="From: postmaster@b.org").is_refusal


def test_a_notification_part_without_fields_is_none() -> None:
    assert mdn("").kind is not ReportKind.MDN


def winmail(message_class: bytes) -> bytes:
    """A TNEF stream as Exchange begins it: version, code page, class, each with its checksum ([MS-OXTNEF] §2.1.3)."""
    attributes = [(0x00089006, b"\0\0\1\0"), (0x00069007, b"\xe4\x04\0\0\0\0\0\0"), (0x00078008, message_class + b"\0")]
    stream = b"\x78\x9f\x3e\x22\x01\x00"
    for attribute, data in attributes:
        stream += struct.pack("<BII", 1, attribute, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
    return stream


def exchange(stream: bytes) -> Report:
    return interpret(
        b"From: Bob <bob@b.org>\nTo: me@a.org\nSubject: Read: Contract\nIn-Reply-To: <1@a.org>\n"
        b'Content-Type: multipart/mixed; boundary="=_b"\n\n--=_b\nContent-Type: text/plain\n\nYour message was read.\n'
        b'--=_b\nContent-Type: application/ms-tnef; name="winmail.dat"\nContent-Transfer-Encoding: base64\n\n'
        + base64.encodebytes(stream)
        + b"\n--=_b--\n"
    )


@pytest.mark.parametrize(
    ("message_class", "action"),
    [
        (b"IPM.Microsoft Mail.Read Receipt", Action.DISPLAYED),
        (b"Report.IPM.Note.IPNRN", Action.DISPLAYED),
        (b"REPORT.IPM.Note.IPNNRN", Action.DELETED),
    ],
)
def test_a_receipt_in_exchanges_own_format_is_read(message_class: bytes, action: Action) -> None:
    report = exchange(winmail(message_class))
    assert report.kind is ReportKind.MDN
    assert [(one.action, one.final_recipient) for one in report.recipients] == [(action, "bob@b.org")]
    assert report.original_message_id == "<1@a.org>"


@pytest.mark.parametrize("stream", [winmail(b"IPM.Microsoft Mail.Note"), winmail(b"")[:-9], b"\x78\x9f\x3e\x22", b"x"])
def test_any_other_winmail_proves_no_reading(stream: bytes) -> None:
    assert exchange(stream).kind is ReportKind.AUTO_REPLY
