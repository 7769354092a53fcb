"""Answering machines, refusals in prose, and people who write of either: told apart in many languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.facts import Report, ReportKind
from receiptd.interpret import interpret

NOTICES = Path(__file__).parent / "fixtures" / "notices"
"""Texts of one block a message: `== name: what it is / what it may be`, header, empty line, text."""
TOKEN = "abcdefghijklmnop23456723"
TO_RETURN_PATH = f"To: receipts+{TOKEN}@ourfirm.example\n"
BOUNCES = (ReportKind.BOUNCE, ReportKind.DSN)


def mail(head: str, text: str) -> Report:
    to = "" if re.search(r"^To:", head, re.MULTILINE) else TO_RETURN_PATH
    return interpret(f"{to}{head}\nContent-Type: text/plain; charset=utf-8\n\n{text}\n".encode())


def gist(report: Report) -> str:
    """What a report comes to: its kind, and of a bounce whom it fails."""
    told = {f"{one.action} {one.final_recipient}" for one in report.recipients}
    return " ".join((report.kind, *sorted(told))) if report.kind in BOUNCES else report.kind.value


def noted() -> Iterator[object]:
    for path in sorted(NOTICES.glob("*.txt")):
        for block in re.split(r"^== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            title, _, rest = block.partition("\n")
            name, _, wanted = title.rpartition(": ")
            head, _, text = rest.partition("\n\n")
            yield pytest.param(head, text, wanted.split(" / "), id=name)


@pytest.mark.parametrize(("head", "text", "wanted"), list(noted()))
def test_a_notice_is_what_its_words_make_it(head: str, text: str, wanted: list[str]) -> None:
    assert gist(mail(head, text)) in wanted


CONTACTS = {
    "de-a": "Ihre E-Mail konnte nicht bearbeitet werden, da ich krank bin. Senden Sie Dringendes an folgende Empfänger:",  # noqa: E501
    "de-b": "Diese Nachricht wurde nicht weitergeleitet. Bis 5.1.27 bin ich außer Haus. Vertretung:",
    "de-c": "Das Postfach ist voll, bitte an folgende Adresse schreiben:",
    "en-a": "Sorry, this mailbox is full and mail may not be delivered while I travel. Use the following address:",
    "en-b": "Mail to this account could not be read since Friday. My deputies are:",
    "en-c": "I have moved to another department and my old address does not exist any more. My new address is:",
    "en-d": "The person you are trying to reach does not exist here any more. The following recipients took over:",
    "fr-a": "Impossible de vous répondre avant lundi. En cas d'urgence, écrivez aux destinataires suivants :",
    "fr-b": "Mon adresse n'existe plus. Merci d'utiliser :",
    "es-a": "No se puede leer su mensaje hasta el lunes. Diríjase a los siguientes destinatarios:",
    "it-a": "Impossibile rispondere fino a lunedì. Rivolgersi ai seguenti destinatari:",
    "pt-a": "Não foi possível ler a sua mensagem. Por favor escreva para os seguintes destinatários:",
    "nl-a": "Uw e-mail kan niet worden beantwoord. Neem contact op met de volgende personen:",
    "sv-a": "Ditt meddelande kunde inte läsas. Kontakta följande mottagare:",
    "da-a": "Din besked kunne ikke læses. Skriv til følgende modtagere:",
    "no-a": "Meldingen din kunne ikke leses. Ta kontakt med følgende mottakere:",
    "fi-a": "Viestiäsi ei voitu lukea. Lähetä se seuraaville vastaanottajille:",
    "cs-a": "Vaši zprávu nelze přečíst. Napište následujícím příjemcům:",
    "sk-a": "Vašu správu nebolo možné prečítať. Kontaktujte nasledujúcich príjemcov:",
    "hu-a": "Üzenetét nem sikerült elolvasni. Írjon a következő címzetteknek:",
    "ro-a": "Mesajul nu a putut fi citit. Scrieți următorilor destinatari:",
    "tr-a": "Mesajınız okunamadı, ulaşılamadı. Aşağıdaki alıcılara yazın:",
    "ru-a": "Не удалось прочитать письмо, адрес скоро не будет существовать. Обращайтесь к следующим получателям:",
    "uk-a": "Не вдалося прочитати лист. Звертайтеся до наступних одержувачів:",
    "bg-a": "Писмото не може да бъде прочетено. Пишете на следните получатели:",
    "el-a": "Δεν ήταν δυνατή η ανάγνωση. Επικοινωνήστε με τους παραλήπτες:",
    "hr-a": "Poruku nije moguće pročitati. Pišite sljedećim primateljima:",
    "sl-a": "Sporočila ni bilo mogoče prebrati. Pišite prejemnikom:",
    "et-a": "Kirja lugemine nurjus. Pöörduge järgmiste adressaatide poole:",
    "lt-a": "Nepavyko perskaityti laiško. Kreipkitės į šiuos gavėjus:",
    "lv-a": "Neizdevās izlasīt vēstuli. Rakstiet šiem adresātiem:",
    "ja-a": "メールを確認できません。届きません。次の宛先へご連絡ください。",
    "zh-a": "无法及时处理您的邮件。请联系下列收件人：",
    "ko-a": "메일을 읽을 수 없습니다. 다음 수신자에게 연락하십시오:",
    "ar-a": "تعذر الرد على رسالتك. يرجى التواصل مع المستلمين:",
    "he-a": "לא ניתן לקרוא את ההודעה, נכשלה. אנא פנו אל הנמענים:",
    "th-a": "ไม่สามารถอ่านอีเมลได้ กรุณาติดต่อผู้รับ:",
    "vi-a": "Không thể đọc thư của bạn. Vui lòng liên hệ người nhận:",
    "id-a": "Pesan tidak dapat dibaca. Silakan hubungi alamat berikut:",
}
"""Of somebody who is away, moved or gone, above the address of somebody else."""
RESPONDERS = {
    "vacation": "Subject: Contract\nAuto-Submitted: auto-replied (vacation)\nIn-Reply-To: <1.anna@ourfirm.example>",
    "answer": "Subject: Re: Contract\nIn-Reply-To: <1.anna@ourfirm.example>",
    "notes": "Subject: Auto: Contract\nAuto-Submitted: auto-replied (vacation)",
    "bulk": "Subject: Not available\nAuto-Submitted: auto-replied\nPrecedence: bulk",
    "no mark": "Subject: Re: Contract",
}


@pytest.mark.parametrize("responder", RESPONDERS)
@pytest.mark.parametrize("words", CONTACTS)
@pytest.mark.parametrize("domain", ["dest", "third"])
def test_whom_an_answering_machine_names_has_not_failed(words: str, responder: str, domain: str) -> None:
    head = f"Return-Path: <>\nFrom: Bob Miller <bob@dest.example>\n{RESPONDERS[responder]}"
    report = mail(head, f"{CONTACTS[words]}\n\ncarl@{domain}.example")
    assert (report.kind, report.recipients) == (ReportKind.AUTO_REPLY, ())


REFUSALS = {
    "en": (
        "Mail Security <noreply@dest.example>",
        "Your message to bob@dest.example was not delivered because it contains a virus.",
    ),
    "en2": (
        "Bob Miller <bob@dest.example>",
        "The email you sent to bob@dest.example was rejected by our content policy.",
    ),
    "en3": (
        "IT Gateway <gateway@dest.example>",
        "Message rejected. Your e-mail addressed to bob@dest.example exceeds the allowed size.",
    ),
    "en4": (
        "Groups <noreply@groups.dest.example>",
        "Your message to bob@dest.example was not posted because you aren't a member.",
    ),
    "de": (
        "Bob Miller <bob@dest.example>",
        "Ihre Nachricht an bob@dest.example wurde durch eine Transportregel abgelehnt.",
    ),
    "de2": (
        "Spamschutz <spam@dest.example>",
        "Ihre Mail an den Empfänger bob@dest.example wurde wegen Spamverdachts blockiert.",
    ),
    "fr": (
        "Antivirus <ne-pas-repondre@dest.example>",
        "Votre courriel à destination de bob@dest.example a été bloqué par notre antivirus.",
    ),
    "es": ("Bob <bob@dest.example>", "Su mensaje a bob@dest.example fue rechazado por una regla de transporte."),
    "it": ("Filtro <noreply@dest.example>", "La sua e-mail a bob@dest.example è stata rifiutata dal filtro."),
    "pt": ("Segurança <naoresponda@dest.example>", "A sua mensagem para bob@dest.example foi rejeitada."),
    "nl": ("Bob <bob@dest.example>", "Uw bericht aan bob@dest.example is geweigerd door een transportregel."),
    "sv": ("Bob <bob@dest.example>", "Ditt meddelande till bob@dest.example avvisades av en regel."),
    "da": ("Sikkerhed <svar-ikke@dest.example>", "Din e-mail til bob@dest.example blev afvist."),
    "no": ("Bob <bob@dest.example>", "Din e-post til bob@dest.example ble avvist."),
    "fi": ("Suodatin <noreply@dest.example>", "Viestisi osoitteeseen bob@dest.example hylättiin."),
    "pl": ("Bob <bob@dest.example>", "Twoja wiadomość do bob@dest.example została odrzucona."),
    "cs": ("Filtr <noreply@dest.example>", "Vaše zpráva pro bob@dest.example byla odmítnuta."),
    "hu": ("Szűrő <noreply@dest.example>", "Az Ön üzenete a bob@dest.example címre elutasításra került."),
    "ro": ("Filtru <noreply@dest.example>", "Mesajul dvs. către bob@dest.example a fost respins."),
    "tr": ("Filtre <noreply@dest.example>", "bob@dest.example adresine gönderdiğiniz iletiniz reddedildi."),
    "ru": ("Фильтр <noreply@dest.example>", "Ваше письмо на bob@dest.example было отклонено."),
    "uk": ("Фільтр <noreply@dest.example>", "Ваш лист на bob@dest.example відхилено."),
    "el": ("Φίλτρο <noreply@dest.example>", "Το μήνυμά σας προς bob@dest.example απορρίφθηκε."),
    "ja": ("フィルタ <noreply@dest.example>", "あなたのメール（宛先 bob@dest.example）は拒否されました。"),
    "zh": ("网关 <noreply@dest.example>", "您发送给 bob@dest.example 的邮件被拒收。"),
    "ko": ("필터 <noreply@dest.example>", "귀하의 메일(bob@dest.example)이 차단되었습니다."),
}
WAYS = {
    "answer to a person": "Return-Path: <x@dest.example>\nTo: anna.berg@ourfirm.example\nSubject: Re: Contract\n"
    "In-Reply-To: <1.anna@ourfirm.example>",
    "generated": "Return-Path: <>\nSubject: Contract\nAuto-Submitted: auto-generated",
    "null path": "Return-Path: <>\nSubject: Message blocked",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("words", REFUSALS)
def test_a_refusal_that_names_whose_message_it_refused_fails_that_one(words: str, way: str) -> None:
    sender, text = REFUSALS[words]
    assert gist(mail(f"From: {sender}\n{WAYS[way]}", text)) == "bounce failed bob@dest.example"


LISTED = {
    "fields": (
        "IMSVA <imsva-admin@dest.example>",
        "A message you sent was blocked.\n\nSender: anna.berg@ourfirm.example\nRecipient: bob@dest.example",
    ),
    "felder": (
        "Filter <filter@dest.example>",
        "Ihre Nachricht wurde blockiert.\n\nBetreff: Vertrag\nEmpfänger: bob@dest.example",
    ),
    "list": (
        "Proofpoint <noreply@pphosted.example>",
        "Your email to the following recipient was not delivered because of a policy:\n\nbob@dest.example",
    ),
    "liste": (
        "Passerelle <ne-pas-repondre@dest.example>",
        "Votre message aux destinataires suivants a été bloqué :\n\n- bob@dest.example",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("words", LISTED)
def test_a_refusal_fails_whom_its_lines_name(words: str, way: str) -> None:
    sender, text = LISTED[words]
    assert gist(mail(f"From: {sender}\n{WAYS[way]}", text)) == "bounce failed bob@dest.example"


@pytest.mark.parametrize(
    ("sender", "text"),
    [
        ("Bob <bob@dest.example>", "Your mail was returned, the following address works:\n\ncarl@dest.example"),
        (
            "Noreply <noreply@dest.example>",
            "Your message was not delivered to a person. Please use:\n\ninfo@dest.example",
        ),
        ("Gateway <gateway@dest.example>", "Your message is on hold.\n\nRecipient: bob@dest.example"),
    ],
)
def test_a_line_that_names_another_way_fails_nobody(sender: str, text: str) -> None:
    head = "Return-Path: <x@dest.example>\nTo: anna.berg@ourfirm.example\nSubject: Re: Contract\n"
    assert mail(f"From: {sender}\n{head}In-Reply-To: <1.anna@ourfirm.example>", text).recipients == ()


PEOPLE = {
    "en1": ("Re: Out of office: Contract", "Welcome back! I agree."),
    "en2": ("RE: Automatic reply: Contract", "He is away, I sign for him."),
    "de1": ("AW: Abwesenheitsnotiz: Vertrag", "Danke, dann warte ich bis Montag."),
    "de2": ("Abwesenheit von Frau Kurz", "Ich vertrete sie und stimme zu."),
    "de3": ("Urlaubsplanung 2027", "Passt so."),
    "de4": (
        "AW: Zustellung fehlgeschlagen: Vertrag",
        "Hallo Anna,\n\nIhre Mail an carl@dest.example kam zurück, jetzt ist sie da. Ich unterschreibe.\n\nBob",
    ),
    "fr1": ("RE : Absence de Luc", "Je le remplace, c'est d'accord."),
    "fr2": ("Vacances d'été", "D'accord pour les dates. Luc"),
    "es1": ("RE: Respuesta automática: Contrato", "Ya estoy de vuelta, conforme."),
    "es2": ("Vacaciones de agosto", "Conforme con las fechas."),
    "it1": ("R: Risposta automatica: Contratto", "Sono tornato, va bene."),
    "it2": ("Ferie di agosto", "Va bene."),
    "nl1": ("Antw: Automatisch antwoord: Contract", "Ik ben terug, akkoord."),
    "nl2": ("Vakantie plannen", "Akkoord."),
    "sv1": ("SV: Autosvar: Avtal", "Jag är tillbaka, godkänt."),
    "pl1": ("Odp: Odpowiedź automatyczna: Umowa", "Wróciłem, zgadzam się."),
    "ru1": ("Ответ: Автоматический ответ: Договор", "Я вернулся, согласен."),
    "ja1": ("Re: 自動応答: 契約書", "戻りました。承知しました。"),
    "zh1": ("回复: 自动答复: 合同", "我回来了，同意。"),
    "q1": (
        "Re: Contract",
        "Fine.\n\n> I am out of the office until Monday. For urgent matters contact carl@dest.example.",
    ),
    "q2": (
        "Re: Contract",
        "Einverstanden.\n\nVon: Anna Berg\nGesendet: Freitag\nBetreff: Vertrag\n\nIhre Nachricht an zoe@third.example wurde abgelehnt.",  # noqa: E501
    ),
    "b1": (
        "Re: Undeliverable: Contract",
        "Hi Anna,\n\nyour message to bob@dest.example was rejected yesterday because our gateway was down. It works now, I got it.",  # noqa: E501
    ),
    "b2": (
        "Re: Contract",
        "Anna, the mail system told us that it could not be delivered to the following address:\n\ncarl@dest.example\n\nI passed it on. Bob",  # noqa: E501
    ),
    "b3": ("Re: Mail delivery failed", "We fixed the mailbox. 552 5.2.2 should not come again. Bob"),
    "w1": ("Re: Contract", "Danke für deine Nachricht, ich schaue es mir am Montag an und melde mich."),
    "w2": ("Re: Contract", "Thank you for your email. I have signed the contract; urgent items first. Bob"),
    "l1": ("Re: Contract", "Carl left the company, I am the new contact. Signed copy attached. Bob"),
    "s1": ("Re: Ticket 4711", "Hello Anna, the contract looks good to me. Regards, Bob, Dest Support"),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_a_person_who_writes_of_absence_or_failure_is_a_person(name: str) -> None:
    subject, text = PEOPLE[name]
    head = "Return-Path: <bob@dest.example>\nTo: anna.berg@ourfirm.example\nFrom: Bob Miller <bob@dest.example>\n"
    report = mail(f"{head}Subject: {subject}\nIn-Reply-To: <1.anna@ourfirm.example>", text)
    assert (report.kind, report.recipients) == (ReportKind.REPLY, ())


FIELDS = "Reporting-MTA: dns; mx.b.org\nOriginal-Envelope-Id: aaaabbbbccccddddeeeeffff\n\n"
FIELDS += "Final-Recipient: rfc822; bob@dest.example\nAction: failed\nStatus: 5.1.1\n"
FORWARDED = "---------- Forwarded message ---------\nFrom: MAILER-DAEMON@b.org\nSubject: Undelivered Mail\n\n"
CARRIED = "From: Carol <carol@c.org>\nTo: me@ourfirm.example\nSubject: {}: Undelivered Mail Returned to Sender"


@pytest.mark.parametrize("prefix", ["Fwd", "FW", "WG", "TR", "VB", "转发"])
@pytest.mark.parametrize("quote", ["", "> "])
def test_a_bounce_forwarded_inline_with_its_fields_is_a_bounce_without_a_key(prefix: str, quote: str) -> None:
    lines = "".join(f"{quote}{line}\n" for line in f"{FORWARDED}{FIELDS}".split("\n"))
    report = mail(CARRIED.format(prefix), f"See below.\n\n{lines}")
    assert (gist(report), report.tokens) == ("bounce failed bob@dest.example", ())


@pytest.mark.parametrize("prefix", ["Fwd", "WG"])
def test_what_a_person_forwards_in_words_alone_is_their_word(prefix: str) -> None:
    text = f"See below.\n\n{FORWARDED}It could not be delivered to:\n\nbob@dest.example\n550 5.1.1 user unknown\n"
    assert mail(CARRIED.format(prefix), text).kind is ReportKind.ORDINARY
