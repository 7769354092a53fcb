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


ABSENCES = [
    ("Out of the office until Monday", "I'm out of the office until Monday."),
    ("Contract", "I will be out of the country until 4 January and I am not reading my mail."),
    ("Contract", "Ich bin vom 16.11. bis einschließlich 27.11.2026 nicht im Haus."),
    ("Contrat", "Je suis en déplacement jusqu'à lundi."),
    ("Ausência temporária", "Encontro-me ausente do escritório e só poderei responder a partir de segunda-feira."),
    ("Frånvarande", "Jag är föräldraledig och läser inte min e-post förrän i januari."),
    ("Ārpus biroja", "Šobrīd neesmu birojā, atbildēšu pēc atgriešanās."),
    ("Ofis dışındayım", "Yıllık izinde olduğum için e-postalarınıza dönünce yanıt vereceğim."),
    ("Відсутня на роботі", "Мене немає на робочому місці до понеділка."),
    ("外出办公", "我目前不在办公室。"),
    ("契約書", "私は出張のため不在にしております。"),
]


@pytest.mark.parametrize(("subject", "text"), ABSENCES)
def test_an_answer_that_tells_of_its_writers_absence_under_a_subject_of_its_own_is_a_machines(
    subject: str, text: str
) -> None:
    """Without any mark; people answer with `Re:`, greet by name, ask, or write of others."""
    answer = "In-Reply-To: <1@a.org>\n"
    assert mail(subject, text, header=answer).kind is ReportKind.AUTO_REPLY
    assert mail(f"Re: {subject}", text, header=answer).kind is ReportKind.REPLY


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Holiday plans", "I am on holiday from 20 December, let us sign before."),
        ("Urlaubsplanung", "Ich bin ab Montag im Urlaub, der Vertrag geht vorher raus."),
        ("Abwesenheit von Carl", "Carl ist im Urlaub, ich unterschreibe."),
        ("Contract", "I am on leave but can sign on my phone. Shall I?"),
        ("Contract", "I sign for Carl, who is on leave."),
        ("Contract", "I replace Carl while he is on leave."),
        ("Vertrag", "Hallo Frau Berg, ich bin nicht im Büro, unterschreibe aber heute noch."),
        ("Contrat", "Je signe à la place de Luc, qui est en congé."),
        ("契約書", "承知いたしました。"),
    ],
)
def test_people_who_tell_of_absence_under_a_subject_of_their_own_stay_people(subject: str, text: str) -> None:
    head = f"From: bob@c.org\nTo: Anna Berg <anna.berg@a.org>\nSubject: {subject}\nIn-Reply-To: <1@a.org>\n"
    assert interpret(f"{head}Content-Type: text/plain; charset=utf-8\n\n{text}\n".encode()).kind is ReportKind.REPLY


ACKNOWLEDGED = [
    ("Thanks for getting in touch", "Thank you for your message. We aim to respond within 3 working days."),
    ("Eingangsbestätigung", "Wir werden Ihre Nachricht schnellstmöglich bearbeiten."),
    ("Accusé de réception", "Nous avons bien reçu votre message et vous répondrons sous 48 heures."),
    ("Hemos recibido su mensaje", "Le responderemos lo antes posible."),
    ("Conferma di ricezione", "Abbiamo ricevuto la sua richiesta. Le risponderemo al più presto."),
    ("Potwierdzenie otrzymania wiadomości", "Otrzymaliśmy Państwa wiadomość. Odpowiemy wkrótce."),
    ("Ontvangstbevestiging", "Wij hebben uw bericht ontvangen en reageren zo snel mogelijk."),
    ("Office closed", "Our offices are closed from 24 December to 2 January."),
    ("Betriebsferien", "Unser Betrieb ist vom 24.12. bis 6.1. geschlossen."),
    ("Contract", "Bob Miller no longer works for us. Please direct enquiries to info@c.org."),
    ("Re: Contract", "Bob Miller has left the firm; write to info@c.org."),
    ("Vertrag", "Herr Kurz ist nicht mehr für uns tätig. Bitte richten Sie Ihre Anfrage an info@c.org."),
    ("Vacaciones", "Estaré de vuelta el día 9."),
    ("Ferieavvikling", "Jeg er tilbake 5. desember."),
    ("夏季休暇のお知らせ", "休業期間中はご返信できません。"),
    ("Away from email", "Back on 5 December."),
    ("I'm driving", "I'm driving right now. Sent automatically."),
]
SETTLED = [
    ("Thank you for your message", "We have received your message and signed the contract."),
    ("Ihre Anfrage", "Ich bearbeite sie am Montag."),
    ("Re: Contract", "We have received your message and will get back to you."),
    ("Re: Contract", "Thanks for your message! I'm back in the office now and signed it."),
    ("AW: Vertrag", "Vielen Dank für Ihre Nachricht. Ich bin ab Montag im Urlaub und unterschreibe vorher."),
    ("Vertrag", "Anbei der Vertrag. Ich bin nächste Woche nicht im Büro."),
    ("Contract", "Carl left the company, I am the new contact."),
    ("Vacation plans", "We are back on 3 January, ship it then."),
    ("Contract", "It is back on my desk, I look at it tomorrow."),
    ("Contract", "Will you be back on 5 December?"),
    ("Re: Contract", "Carl is away, back on 5 December."),
    ("Re: Contract", "Carl has left; please write to Eve instead."),
]


def answer(subject: str, text: str) -> ReportKind:
    head = f"From: Bob Miller <b@c.org>\nTo: Anna Berg <anna@a.org>\nSubject: {subject}\nIn-Reply-To: <1@a.org>\n"
    return interpret(f"{head}Content-Type: text/plain; charset=utf-8\n\n{text}\n".encode()).kind


@pytest.mark.parametrize(("subject", "text"), ACKNOWLEDGED)
def test_an_answer_that_only_acknowledges_or_speaks_of_its_sender_is_a_machines(subject: str, text: str) -> None:
    assert answer(subject, text) is ReportKind.AUTO_REPLY


@pytest.mark.parametrize(("subject", "text"), SETTLED)
def test_an_answer_that_settles_the_matter_or_speaks_of_others_is_a_persons(subject: str, text: str) -> None:
    assert answer(subject, text) is ReportKind.REPLY
