"""What is no report: answering machines, challenges, people, complaints (RFC 3834, RFC 5965)."""

from __future__ import annotations

import pytest

from receiptd.facts import Report, ReportKind
from receiptd.interpret import interpret


def mail(header: str, text: str = "Thanks, got it.") -> Report:
    return interpret(f"From: bob@b.org\nTo: me@a.org\n{header}\n\n{text}\n".encode())


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-replied (vacation)",
        "Subject: Automatic reply: Contract",
        "Subject: Abwesenheitsnotiz",
        "Subject: =?utf-8?Q?R=C3=A9ponse_automatique_=3A_Contrat?=",
        "Subject: Respuesta automática: Contrato",
        "Subject: Risposta automatica: Contratto",
        "Subject: =?utf-8?B?6Ieq5YuV6L+U5L+h?=",
        "X-Autoreply: yes",
        "Precedence: auto_reply",
        "Return-Path: <>\nSubject: Re: Contract\nIn-Reply-To: <1@a.org>",
        "Auto-Submitted: auto-generated\nIn-Reply-To: <1@a.org>",
    ],
)
def test_an_answering_machine_is_no_person(header: str) -> None:
    report = mail(header)
    assert report.kind is ReportKind.AUTO_REPLY
    assert report.recipients == ()


def test_a_person_answers() -> None:
    report = mail("Subject: Re: Contract\nIn-Reply-To: <1@a.org>\nReferences: <0@a.org> <1@a.org>")
    assert report.kind is ReportKind.REPLY
    assert report.in_reply_to == ("<1@a.org>",)
    assert report.references == ("<0@a.org>", "<1@a.org>")
    assert not report.is_automatic


@pytest.mark.parametrize("header", ["X-Auto-Response-Suppress: All", "Auto-Submitted: no"])
def test_a_wish_for_no_answers_is_no_mark_of_an_automaton(header: str) -> None:
    assert mail(f"Subject: Re: Contract\nIn-Reply-To: <1@a.org>\n{header}").kind is ReportKind.REPLY


def test_a_challenge_is_held_apart() -> None:
    report = mail(
        "Auto-Submitted: auto-replied\nSubject: Your message requires verification",
        "Please prove that you are a person.",
    )
    assert report.kind is ReportKind.AUTO_REPLY
    assert report.is_challenge
    assert not mail("Auto-Submitted: auto-replied\nSubject: Out of office").is_challenge


def test_other_mail_is_ordinary() -> None:
    assert mail("Subject: Lunch?").kind is ReportKind.ORDINARY


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("I am out of the office until Monday, 7 December 2026.", "2026-12-07"),
        ("Ich bin bis zum 24.11.2026 nicht im Büro.", "2026-11-24"),
        ("Ich bin ab dem 1. Dezember 2026 wieder da.", "2026-12-01"),
        ("De retour le lundi 30 novembre 2026.", "2026-11-30"),
        ("Absent jusqu'au 14 juillet 2027.", "2027-07-14"),
        ("back on 12/25/2026", "2026-12-25"),
        ("back on 25/12/2026", "2026-12-25"),
        ("I return on December 5th, 2026", "2026-12-05"),
        ("until 2026-12-01", "2026-12-01"),
        ("I am away until December 4, 2026 and will be back on December 7, 2026.", "2026-12-07"),
        ("I am away until December 4, 2026. I'll be back in the office on Monday, December 7, 2026.", "2026-12-07"),
        ("Ich bin bis 04.12.2026 im Urlaub. Ab 07.12.2026 bin ich zurück.", "2026-12-07"),
        ("Ich bin bis zum 04.12.2026 im Urlaub und am Montag, den 7. Dezember 2026 wieder da.", "2026-12-07"),
        ("Ich bin bis zum 4.12.2026 nicht da. Ich kehre am 7. Dezember 2026 zurück.", "2026-12-07"),
        ("Absent jusqu'au 4 décembre 2026, de retour le 7 décembre 2026.", "2026-12-07"),
        ("Je reviens le lundi 7 décembre 2026.", "2026-12-07"),
        ("Estoy de vacaciones hasta el 4 de diciembre de 2026. Vuelvo el 7 de diciembre de 2026.", "2026-12-07"),
        ("Sono in ferie fino al 4 dicembre 2026; rientro il 7 dicembre 2026.", "2026-12-07"),
        ("Ab dem 1.12.2026 bin ich im Urlaub, wieder da am 7.12.2026.", "2026-12-07"),
        ("until 4 December 2026, back on 5/6/2026", "2026-12-04"),
        ("Am 1.12.2026 beginnt mein Urlaub, bis zum 4.12.2026 bin ich weg.", "2026-12-04"),
    ],
)
def test_the_day_somebody_is_back_is_told(text: str, day: str) -> None:
    report = mail("Auto-Submitted: auto-replied\nSubject: Away", text)
    assert report.returns_at is not None
    assert report.returns_at.date().isoformat() == day


@pytest.mark.parametrize(
    "text", ["back on 5/6/2026", "bis zum 31.02.2026", "until next week", "until the cows come home"]
)
def test_a_day_that_can_be_read_two_ways_or_not_at_all_is_unknown(text: str) -> None:
    assert mail("Auto-Submitted: auto-replied", text).returns_at is None


def test_a_complaint_names_whose_it_is() -> None:
    report = interpret(
        b"From: fbl@b.org\nTo: me@a.org\nSubject: FW: Contract\n"
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nA complaint.\n"
        b"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nOriginal-Rcpt-To: <bob@b.org>\n\n"
        b"--b\nContent-Type: message/rfc822\n\nMessage-ID: <1@a.org>\nFrom: me@a.org\n\nhello\n--b--\n"
    )
    assert report.kind is ReportKind.FEEDBACK
    assert [one.final_recipient for one in report.recipients] == ["bob@b.org"]
    assert report.original_message_id == "<1@a.org>"


def test_an_opt_out_that_a_mail_program_sends_for_its_reader_is_no_automatons_answer() -> None:
    report = mail("Auto-Submitted: auto-replied\nX-Apple-Unsubscribe: true", "Apple Mail sent this to unsubscribe.")
    assert report.kind is ReportKind.FEEDBACK


@pytest.mark.parametrize(
    ("kind", "part"),
    [("tlsrpt", "application/tlsrpt+gzip"), ("x-odd", "message/x-odd"), ("delivery-status", "text/csv")],
)
def test_a_report_of_another_type_tells_of_no_delivery(kind: str, part: str) -> None:
    """RFC 6522 §3: multipart/report holds reports of any kind."""
    report = interpret(
        f"From: reports@b.org\nTo: me@a.org\nSubject: Report Domain: a.org Submitter: b.org\n"
        f"Content-Type: multipart/report; report-type={kind}; boundary=b\n\n--b\n\nThe report of yesterday.\n"
        f"--b\nContent-Type: {part}\n\nFinal-Recipient: rfc822; bob@b.org\nAction: failed\n--b--\n".encode()
    )
    assert (report.kind, report.recipients) == (ReportKind.ORDINARY, ())


PLAIN_RECEIPTS = [
    ("Read: Contract", "Your message\n\n  To: Bob\n  Subject: Contract\n\nwas read on 24 November 2026 09:30."),
    ("Not read: Contract", "Your message\n\n  To: Bob\n\nwas deleted without being read on 24 November 2026."),
    ("Gelesen: Vertrag", "Ihre Nachricht\n\n  An: Bob\n\nwurde am 24. November 2026 um 9:30 gelesen."),
    ("Nicht gelesen: Vertrag", "Ihre Nachricht\n\n  An: Bob\n\nwurde am 24.11.2026 ungelesen gelöscht."),
    ("Lu : Contrat", "Votre message\n\n  À : Bob\n\na été lu le 24 novembre 2026."),
    ("Non lu : Contrat", "Votre message a été supprimé sans avoir été lu."),
    ("Leído: Contrato", "El mensaje fue leído el 24/11/2026."),
    ("Letto: Contratto", "Il messaggio è stato letto il 24/11/2026."),
    ("Gelezen: Contract", "Uw bericht is gelezen op 24-11-2026."),
    ("Lida: Contrato", "A sua mensagem foi lida em 24/11/2026."),
    ("Прочтено: Договор", "Ваше сообщение было прочтено 24.11.2026."),
    ("已读: 合同", "您的邮件已阅读。"),
]


@pytest.mark.parametrize("header", ["", "In-Reply-To: <1@a.org>\n", "Auto-Submitted: no\nReferences: <1@a.org>\n"])
@pytest.mark.parametrize(("subject", "text"), PLAIN_RECEIPTS)
def test_a_read_receipt_in_plain_text_is_no_persons_answer(subject: str, text: str, header: str) -> None:
    report = mail(f"Content-Type: text/plain; charset=utf-8\n{header}Subject: {subject}", text)
    assert (report.kind, report.recipients) == (ReportKind.AUTO_REPLY, ())


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Re: Read: Contract", "It was read on Monday by all of us, and we agree."),
        ("Read: Contract", "I have done so; where do I sign?"),
        ("Re: Contract", "It was read on Monday."),
    ],
)
def test_a_person_may_write_of_reading(subject: str, text: str) -> None:
    assert mail(f"Subject: {subject}\nIn-Reply-To: <1@a.org>", text).kind is ReportKind.REPLY
