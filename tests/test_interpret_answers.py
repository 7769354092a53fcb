"""How machines answer for people in many languages, and people who write about their holidays."""

from __future__ import annotations

import re

import pytest

from receiptd.facts import Report, ReportKind
from receiptd.interpret import interpret


def mail(subject: str, text: str = "Until Monday.", *, header: str = "") -> Report:
    head = f"From: bob@c.org\nTo: me@a.org\nSubject: {subject}\n{header}Content-Type: text/plain; charset=utf-8\n\n"
    return interpret(f"{head}{text}\n".encode())


UNMISTAKABLE = re.split(
    r"\s*[|\n]\s*",
    """Automatische Antwort: Vertrag | Abwesenheitsmeldung | Réponse automatique : Contrat | Message d'absence
    Respuesta automática: Contrato | Resposta automática: Contrato | Risposta automatica: Contratto
    Automatisch antwoord: Contract | Afwezigheidsbericht | Autosvar: Avtal | Automatisk svar: Kontrakt
    Automaattinen vastaus: Sopimus | Odpowiedź automatyczna: Umowa | Automatická odpověď: Smlouva
    Automatikus válasz: Szerződés | Răspuns automat: Contract | Автоматический ответ: Договор
    Автоматична відповідь: Договір | Otomatik yanıt: Sözleşme | Αυτόματη απάντηση: Σύμβαση | תגובה אוטומטית: חוזה
    رد تلقائي: عقد | Automatski odgovor: Ugovor | 自動応答: 契約 | 【自動返信】契約 | 自动回复: 合同 | 自動回覆: 合約
    자동 회신: 계약 | Out of office Re: Contract | OOO: Contract | [OOO] Contract | Nicht im Büro: Vertrag
    Absence du bureau : Contrat | Fuera de la oficina: Contrato | Fora do escritório: Contrato | Fuori sede: Contratto
    Вне офиса: Договор | 不在: 契約 | Urlaub Re: Vertrag | Absent : Contrat | Vacation: Contract
    AUTO: Bob is out of the office (returning 30/11/2026)""",
)


@pytest.mark.parametrize("subject", UNMISTAKABLE)
def test_a_machine_that_answers_for_somebody_is_known_by_its_subject(subject: str) -> None:
    assert mail(subject).kind is ReportKind.AUTO_REPLY


@pytest.mark.parametrize(
    "subject", ["Urlaub", "On leave", "Absent", "Estoy de vacaciones", "Ferie", "Semester", "В отпуске", "休暇"]
)
def test_a_word_for_absence_counts_in_an_answer_or_of_an_automaton_alone(subject: str) -> None:
    assert mail(subject, header="In-Reply-To: <1@a.org>\n").kind is ReportKind.AUTO_REPLY
    assert mail(subject, header="Auto-Submitted: auto-generated\n").kind is ReportKind.AUTO_REPLY
    assert mail(subject).kind is ReportKind.ORDINARY
    assert mail(f"Re: {subject}", header="In-Reply-To: <1@a.org>\n").kind is ReportKind.REPLY


@pytest.mark.parametrize(
    "subject",
    [
        "Vacation photos", "Urlaub 2027", "Urlaubsantrag Mai", "Absents réunion", "Assenza dell'alunno",
        "Frånvaro i skolan", "外出許可", "不在者投票", "Auto: Probefahrt am Montag", "Автоответчик сломан",
        "Out of office party", "On leave policy",
    ],
)  # fmt: skip
def test_people_write_about_holidays_and_absence_too(subject: str) -> None:
    assert mail(subject).kind is ReportKind.ORDINARY


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (
            "Automatic reply: Contract",
            "I left; bob@c.org does not exist any more. Write to eve@d.org.",
        ),
        ("Abwesenheitsnotiz", "Ihre Nachricht wurde nicht zugestellt. Wenden Sie sich an:\neve@d.org"),
        ("Absence", "Votre message n'a pas été transmis. eve@d.org"),
        ("Автоответ", "Я недоступен; пишите eve@d.org"),
        ("自动回复: 合同", "我在外出,无法回复。请联系 eve@d.org"),
    ],
)
@pytest.mark.parametrize("header", ["", "In-Reply-To: <1@a.org>\n", "Auto-Submitted: auto-replied\n"])
def test_an_answer_that_speaks_of_failure_fails_nobody(subject: str, text: str, header: str) -> None:
    """RFC 3834 §3.3: a responder sends from the null path, as a bounce does."""
    report = mail(subject, text, header=f"Return-Path: <>\n{header}")
    assert (report.kind, report.recipients) == (ReportKind.AUTO_REPLY, ())


@pytest.mark.parametrize(
    "text",
    [
        "Your message was waitlisted. Please add yourself to my Guest List.",
        "Please verify that you are a real live human being.",
        "I now allow messages only from my approved senders. EarthLink spamBlocker",
        "ANTISPAM UOL: TIRA-TEIMA. Para que sua mensagem seja encaminhada, clique aqui",
        "Pour que votre email soit distribué, merci de vous authentifier.",
        "Um Spam zu vermeiden, bestätigen Sie bitte Ihre Nachricht.",
    ],
)
def test_a_challenge_is_known_in_the_words_of_its_filter(text: str) -> None:
    report = mail("Contract", text, header="Auto-Submitted: auto-replied\nIn-Reply-To: <1@a.org>\n")
    assert (report.kind, report.is_challenge) == (ReportKind.AUTO_REPLY, True)


@pytest.mark.parametrize(
    "header",
    [
        "X-Apple-Action: VACATION",
        "X-POST-MessageClass: Autoresponder",
        "Preference: auto_reply",
        "X-MDAutoResponse: 1",
    ],
)
def test_the_marks_of_large_providers_tell_an_answering_machine(header: str) -> None:
    assert mail("Contract", header=f"{header}\n").kind is ReportKind.AUTO_REPLY


def test_a_rule_that_files_mail_is_no_answering_machine() -> None:
    assert mail("Contract", header="X-Apple-Action: MOVE_TO_FOLDER/INBOX\n").kind is ReportKind.ORDINARY
