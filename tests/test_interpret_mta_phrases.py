"""How servers of many countries say that a message didn't arrive, and who says so without being a server."""

from __future__ import annotations

import pytest

from receiptd.facts import Action, Cause, Report, ReportKind
from receiptd.interpret import interpret

COPY = (
    "Return-Path: <me@a.org>\nReceived: from a.org by b.org; Tue, 24 Nov 2026 02:34:02 +0000\nMessage-ID: <1@a.org>\n"
)


def mail(text: str, *, sender: str = "postmaster@b.org", subject: str = "failure notice", header: str = "") -> Report:
    head = f"From: {sender}\nTo: me@a.org\nSubject: {subject}\n{header}Content-Type: text/plain; charset=utf-8\n\n"
    return interpret(f"{head}{text}\n".encode())


EXCHANGE = {
    "Unzustellbar": ("Fehler bei der Nachrichtenzustellung an folgende Empfänger oder Gruppen:", "Nicht gefunden."),
    "Non remis": ("Échec de la remise pour ces destinataires ou groupes :", "L'adresse est introuvable."),
    "No se puede entregar": ("No se pudo entregar a estos destinatarios o grupos:", "No se encontró la dirección."),
    "Non recapitato": ("Recapito non riuscito per i seguenti destinatari o gruppi:", "Indirizzo non trovato."),
    "Não é possível entregar": ("Falha na entrega a estes destinatários ou grupos:", "Endereço não encontrado."),
    "Onbestelbaar": ("De levering aan de volgende geadresseerden is mislukt:", "Het adres is niet gevonden."),
    "Kan inte levereras": ("Leverans till följande mottagare misslyckades:", "Det gick inte att hitta adressen."),
    "Kan ikke leveres": ("Levering til følgende modtagere mislykkedes:", "Adressen blev ikke fundet."),
    "Ikke levert": ("Levering til disse mottakerne mislyktes:", "Finner ikke adressen."),
    "Toimittamaton": ("Toimitus epäonnistui seuraaville vastaanottajille:", "Osoitetta ei löydy."),
    "Niedostarczone": ("Dostarczenie do następujących adresatów nie powiodło się:", "Nie można odnaleźć adresu."),
    "Nedoručitelné": ("Doručení těmto příjemcům se nezdařilo:", "Adresu se nepodařilo najít."),
    "Kézbesíthetetlen": ("Nem sikerült a kézbesítés a következő címzetteknek:", "A cím nem található."),
    "Nelivrat": ("Livrarea nu a reușit pentru acești destinatari:", "Adresa nu a putut fi găsită."),
    "Не удается доставить": ("Не удалось выполнить доставку следующим получателям:", "Пользователь не найден."),
    "Не доставлено": ("Не вдалося доставити цим одержувачам:", "Адресу не знайдено."),
    "Teslim edilemiyor": ("Şu alıcılara teslim edilemedi:", "Adres bulunamadı."),
    "Δεν είναι δυνατή η παράδοση": ("Η παράδοση απέτυχε σε αυτούς τους παραλήπτες:", "Δεν βρέθηκε."),
    "配信不能": ("次の受信者への配信に失敗しました:", "アドレスが見つかりませんでした。"),
    "无法传递": ("未能向以下收件人传递邮件:", "找不到地址。"),
    "無法傳遞": ("傳遞至下列收件者失敗:", "找不到地址。"),
    "배달할 수 없음": ("다음 받는 사람에게 배달하지 못했습니다.", "주소를 찾을 수 없습니다."),
    "לא ניתן למסירה": ("המסירה נכשלה לנמענים אלה:", "הכתובת לא נמצאה."),
    "غير قابل للتسليم": ("فشل التسليم إلى هؤلاء المستلمين:", "تعذر العثور على العنوان."),
}


@pytest.mark.parametrize("name", EXCHANGE)
def test_a_bounce_is_understood_in_the_language_of_its_server(name: str) -> None:
    heading, reason = EXCHANGE[name]
    report = mail(f"{heading}\n\nbob@c.org\n{reason}\n\n{COPY}", subject=f"{name}: Delayed train")
    (told,) = report.recipients
    assert (report.kind, report.original_message_id) == (ReportKind.BOUNCE, "<1@a.org>")
    assert (told.final_recipient, told.action, told.status) == ("bob@c.org", Action.FAILED, "5.0.0")
    assert told.cause is Cause.USER_UNKNOWN


@pytest.mark.parametrize("name", ["Unzustellbar", "Non recapitato", "Toimittamaton", "未送达", "배달되지 않음"])
def test_a_bounce_that_nobody_signed_is_told_by_what_it_returns(name: str) -> None:
    text = f"Delivery has failed to these recipients:\n\nbob@c.org\n550 5.1.1 not found\n\n{COPY}"
    assert mail(text, sender="IT <helpdesk@b.org>", subject=f"{name}: Contract").kind is ReportKind.BOUNCE


DELAYS = {
    "Remise différée": "La remise à ces destinataires est retardée :",
    "Entrega atrasada": "A entrega a estes destinatários está atrasada:",
    "Levering vertraagd": "De levering aan deze geadresseerden is vertraagd:",
    "Доставка задерживается": "Доставка следующим получателям задерживается:",
    "配信遅延": "次の受信者への配信が遅延しています:",
    "Verzögerte Zustellung": "Nur eine Warnung: Sie müssen die Nachricht nicht erneut senden.",
}


@pytest.mark.parametrize("name", DELAYS)
def test_a_delay_is_understood_in_the_language_of_its_server(name: str) -> None:
    report = mail(f"{DELAYS[name]}\n\nbob@c.org\n", subject=f"{name}: Contract")
    assert [(told.final_recipient, told.action, told.status) for told in report.recipients] == [
        ("bob@c.org", Action.DELAYED, "4.0.0")
    ]


def test_a_reason_above_the_name_counts_where_nothing_stands_below_it() -> None:
    (told,) = mail("--- Failure Reasons ---\n\nUser not listed in public Name & Address Book\nbob@c.org\n").recipients
    assert told.cause is Cause.USER_UNKNOWN


def test_the_failure_of_a_certified_message_is_told_by_its_receipt() -> None:
    """Italy's PEC signs its receipts and has a field of its own for what they say."""
    report = mail(
        'nel messaggio proveniente da me@a.org e destinato all\'utente "bob@c.org" è stato rilevato un errore 5.1.1',
        sender="posta-certificata@pec.b.org",
        subject="AVVISO DI MANCATA CONSEGNA: Contratto",
        header="X-Ricevuta: errore-consegna\n",
    )
    assert [(told.final_recipient, told.status) for told in report.recipients] == [("bob@c.org", "5.1.1")]


def test_an_smtp_reply_in_an_unknown_language_is_a_bounce_where_a_daemon_wrote_it() -> None:
    report = mail("Barua haikufika.\n\nbob@c.org: 550 5.1.1 hayupo\n", sender="MAILER-DAEMON@b.org", subject="Barua")
    assert [(told.final_recipient, told.status, told.reply_code) for told in report.recipients] == [
        ("bob@c.org", "5.1.1", 550)
    ]


NO_BOUNCES = {
    "parcel": ("Your parcel could not be delivered", "Your parcel was undeliverable. Write to help@dhl.org."),
    "paket": ("Ihre Sendung konnte nicht zugestellt werden", "Wir trafen niemanden an.\n\nIhr Team\nservice@dhl.org"),
    "colis": ("Échec de livraison de votre colis", "Nous n'avons pas pu livrer : destinataire inconnu. sav@post.org"),
    "paquete": ("No se ha podido entregar su paquete", "La dirección no existe. clientes@correos.org"),
    "pacco": ("Mancata consegna del pacco", "Non è stato possibile consegnare. assistenza@brt.org"),
    "encomenda": ("Falha na entrega da sua encomenda", "O endereço não existe. apoio@ctt.org"),
    "pakket": ("Je pakket kan niet worden bezorgd", "Het adres bestaat niet. service@postnl.org"),
    "paczka": ("Paczka nie została dostarczona", "Nie można było odnaleźć adresu. pomoc@inpost.org"),
    "посылка": ("Посылка не доставлена", "Получатель не найден, не удалось связаться. help@pochta.org"),
    "荷物": ("【配達できませんでした】お荷物", "住所が存在しません。support@sagawa.org"),
    "包裹": ("您的包裹无法投递", "地址不存在。kefu@sf.org"),
    "shop": ("Delivery delayed: your order", "We are unable to deliver before Friday. orders@shop.org"),
    "order": ("Delivery notification: order 5513", "If it was not delivered, write to:\nhelp@shop.org"),
    "colleague": ("failure notice", "I got this for bob@c.org. What does 'user unknown' mean?\n\nCarla"),
    "quotation": ("Delivery failed?", "What is this?\n\n> <bob@c.org>: 550 5.1.1 User unknown\n\nEve"),
    "Kollegin": ("Rückläufer", "Hallo, deine Mail an bob@c.org konnte nicht zugestellt werden, rufst du ihn an?"),
    "collègue": ("message non remis", "Ton message à bob@c.org n'a pas pu être remis, peux-tu vérifier ?"),
    "коллега": ("недоставлено письмо", "Моё письмо на bob@c.org не удалось отправить, почему?"),
    "同事": ("退信问题", "发给 bob@c.org 的邮件失败了,请检查。"),
    "ticket": ("[#5512] Mail to bob@c.org could not be delivered", "Our team looks into 'user unknown'."),
    "quota": ("Your mailbox is full", "It was not possible to deliver. Write to helpdesk@b.org."),
    "fax": ("Fax delivery failed", "Your fax could not be sent: no answer. fax@fax.org"),
    "newsletter": ("Delivery problem? Read our guide", "When mail is rejected with 550 5.1.1: hello@tool.org"),
    "phishing": ("Delivery failure notification", "5 messages were blocked, me@a.org. Click https://evil.org"),
}


@pytest.mark.parametrize("name", NO_BOUNCES)
def test_whoever_writes_of_what_did_not_arrive_sends_no_bounce(name: str) -> None:
    subject, text = NO_BOUNCES[name]
    assert mail(text, sender="Service <service@b.org>", subject=subject).kind is ReportKind.ORDINARY


LABELS = (
    "Empfänger", "Destinataire", "Destinatario", "Destinatário", "Ontvanger", "Mottagare", "Modtager", "Vastaanottaja",
    "Adresat", "Příjemce", "Címzett", "Alıcı", "Получатель", "Кому", "Παραλήπτης", "宛先", "收件人", "受信者",
    "받는 사람",
)  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("colon", [":", " :", "："])
def test_a_recipient_stands_after_its_label_in_every_language(label: str, colon: str) -> None:
    report = mail(f"Server: admin@b.org\n{label}{colon} bob@c.org\n\n550 5.1.1 unknown\n", subject="Undeliverable")
    assert [(told.final_recipient, told.status) for told in report.recipients] == [("bob@c.org", "5.1.1")]


def test_a_line_of_addresses_alone_names_each_of_them() -> None:
    report = mail("The message was not delivered to:\nbob@c.org, eve@d.org\n\nReason: host unknown\n")
    assert [told.final_recipient for told in report.recipients] == ["bob@c.org", "eve@d.org"]


@pytest.mark.parametrize("unit", ["tries", "bytes", "seconds", "MB"])
def test_a_number_of_things_is_no_reply_code(unit: str) -> None:
    (told,) = mail(f"<bob@c.org>: connection refused after 500 {unit}\n").recipients
    assert (told.reply_code, told.status) == (None, "5.0.0")


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Successful Mail Delivery Report", "Your message was delivered. You may still receive delivery errors."),
        ("Delivered: Contract", "Your message has been delivered to the following recipients:\n\nbob@c.org"),
        ("Zustellbenachrichtigung", "Ihre Nachricht wurde erfolgreich zugestellt an:\n\nbob@c.org"),
    ],
)
def test_news_of_success_without_a_machine_part_fails_nobody(subject: str, text: str) -> None:
    assert mail(text, sender="MAILER-DAEMON@b.org", subject=subject).recipients == ()


@pytest.mark.parametrize("subject", ["Re: abuse from your network", "AW: Undeliverable: Contract"])
def test_a_postmaster_who_answers_is_a_person(subject: str) -> None:
    text = "Your mail to bob@c.org was rejected with 550 5.7.1, because your address was blocked.\n\nAnna"
    report = mail(text, subject=subject, header="In-Reply-To: <1@a.org>\nReferences: <1@a.org>\n")
    assert report.kind is ReportKind.REPLY


def test_an_answer_that_lists_who_failed_is_a_bounce_all_the_same() -> None:
    """Apache James answers the message with its own subject."""
    text = "Error: Invalid user\n\n550 - no such user here\n\n  RCPT TO: bob@c.org\n"
    report = mail(text, subject="Re:Contract", header="In-Reply-To: <1@a.org>\n")
    assert [(told.final_recipient, told.reply_code) for told in report.recipients] == [("bob@c.org", 550)]


@pytest.mark.parametrize(
    "text", ["Your message to bob@c.org could not be delivered.", "It was not delivered to:\n\nbob@b.org"]
)
def test_the_null_path_and_a_name_make_a_bounce_of_any_writer(text: str) -> None:
    report = mail(text, sender="Robot <robot@b.org>", subject="Undeliverable", header="Return-Path: <>\n")
    assert (report.kind, len(report.recipients)) == (ReportKind.BOUNCE, 1)


@pytest.mark.parametrize("text", ["Write to help@dhl.org.", "Your parcel was undeliverable.\n\nYours\nhelp@dhl.org"])
def test_a_parcel_service_that_wants_no_bounces_sends_none(text: str) -> None:
    report = mail(
        f"Your parcel could not be delivered. {text}",
        sender="noreply@dhl.org",
        subject="Your parcel could not be delivered",
        header="Return-Path: <>\n",
    )
    assert report.recipients == ()


ASK = (
    "Bei Fragen wenden Sie sich an help@b.org.", "Bitte schreiben Sie an help@b.org.", "Kontakt: help@b.org",
    "Veuillez écrire à help@b.org.", "Adressez-vous à help@b.org.", "Póngase en contacto con help@b.org.",
    "Per assistenza scrivere a help@b.org.", "Escreva para help@b.org.", "Neem contact op met help@b.org.",
    "Skriv till help@b.org.", "Napisz na help@b.org.", "Пишите на help@b.org.", "お問い合わせ: help@b.org",
    "请联系 help@b.org",
)  # fmt: skip


@pytest.mark.parametrize("ask", ASK)
def test_whom_to_ask_failed_in_no_language(ask: str) -> None:
    report = mail(f"Your message to bob@c.org could not be delivered.\n\n{ask}\n", subject="Undeliverable")
    assert [told.final_recipient for told in report.recipients] == ["bob@c.org"]


@pytest.mark.parametrize(
    "listed", ["1. bob@c.org", "  2) <bob@c.org>", "bob@c.org\n550 – no such user", "bob@c.org\n550 — gone"]
)
def test_a_notice_that_nobody_signed_lists_who_failed_by_number_or_with_a_reply(listed: str) -> None:
    text = f"Your message could not be delivered to the following recipients:\n\n{listed}\n"
    report = mail(text, sender="mail@b.org", subject="Undeliverable: Contract")
    assert report.kind is ReportKind.BOUNCE
    assert [told.final_recipient for told in report.recipients] == ["bob@c.org"]


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (
            "Retard de remise",
            "Votre message à bob@b.org n'a pas encore été remis. Le serveur réessaiera pendant 3 jours.",
        ),
        ("配送遅延", "bob@b.org へのメールはまだ配送されていません。引き続き再送を試みます。"),
    ],
)
def test_a_program_that_tells_only_of_a_delay_delays_whom_it_names(subject: str, text: str) -> None:
    report = mail(text, sender="MAILER-DAEMON@b.org", subject=subject)
    assert [(one.action, one.final_recipient) for one in report.recipients] == [(Action.DELAYED, "bob@b.org")]
    assert mail(text, sender="postmaster@b.org", subject="Maintenance on Saturday").kind is ReportKind.ORDINARY


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (
            "Avviso di ritardata consegna",
            "Il messaggio per bob@b.org non è stato ancora consegnato. Il server continuerà a provare per 3 giorni.",
        ),
        (
            "Opóźnienie dostarczenia",
            "Wiadomość do bob@b.org nie została jeszcze dostarczona. Próby będą ponawiane.",
        ),
    ],
)
def test_what_is_not_delivered_yet_is_delayed_wherever_the_yet_stands(subject: str, text: str) -> None:
    report = mail(text, sender="MAILER-DAEMON@b.org", subject=subject)
    assert [(one.action, one.final_recipient) for one in report.recipients] == [(Action.DELAYED, "bob@b.org")]
