"""What an answer without a mark tells that nobody asked: machines do, where people answer the matter.

People answer with `Re:`, greet by name, ask, enclose, agree, sign, or write of others. A machine tells of its owner's
absence under a subject of its own, acknowledges for a whole company, or writes about its own sender as `he`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from receiptd.interpret import absence_phrases, autoreply_phrases, phrases
from receiptd.interpret.fields import Fields
from receiptd.interpret.phrases import Phrases

_I = "|".join(sorted(map(re.escape, absence_phrases.SELF | {"i", "je", "ja", "ich"})))
_SPEAKER = re.compile(
    rf"(?<![\w.@'-])(?:{_I})(?![\w@-]|\.\w)"
    r"|我|本人|私|저는|أنا|من |मैं|ผม"
)
_OTHERS = re.compile(
    r"\b(?:he|she|they|his|her|who|while|instead|er|ihn|ihm|seine|vertrete|elle|qui|él|ella|quien|ele|ela"
    r"|lui|lei|che|hij|zij|han|hon|hun|hän|ona|он|она|він|вона|który|która)\b"
)
_CLAUSE_ENDS = re.compile(r"(?<!\d)[.!?;,:。！？，；](?!\d)")
_MOST_CLAUSES = 20
_ASKS = re.compile(r"[?？؟]")
_GREETING = 60

_SETTLES = Phrases("""
    attached | enclosed | please find | [signed] | [i sign] | [to sign] | will sign | can sign | i agree | agreed
    [approved] | looks good | looks fine | go ahead | i'm back | i am back in the | anbei | beigefügt | im anhang
    unterschr | unterzeichn | einverstanden | passt so | zugestimmt | ci-joint | ci-jointe | pièce jointe | [signé
    d'accord | adjunto | adjunta | [firmad | de acuerdo | [conforme] | em anexo | anexo | assinad | in allegato
    allego | [firmat | va bene | d'accordo | bijgevoegd | bijlage | getekend | akkoord | bifogat | bifogad | påskriv
    undertecknat | godkänt | vedhæftet | underskrev | vedlagt | undertegn | liitteenä | allekirjoit | w załączeniu
    podpisa | zgadzam | v příloze | podeps | souhlasím | mellékel | aláír | egyetértek | atașat | [semnat | [ekte]
    imzala | во вложении | подписал | согласен | согласна | у вкладенні | підписа | επισυνάπτ | υπέγραψ | u prilogu
    u privitku | potpisa | 添付 | 承知 | 署名し | 附件 | 同意 | 签署 | 簽署 | 첨부 | 서명 | مرفق | מצורף
""")
"""What settles the matter: an enclosure, an agreement, a signature."""

_ACKNOWLEDGE_BEGINS = (
    "thank you for your", "thanks for your", "thank you for contacting", "thanks for contacting",
    "thank you for getting", "thanks for getting", "we have received", "we received", "we've received",
    "your enquiry", "your inquiry", "your request", "your message to", "acknowledgement", "acknowledgment",
    "confirmation of receipt", "receipt confirmation", "eingangsbestätigung", "empfangsbestätigung",
    "bestätigung ihrer", "bestätigung des eingangs", "ihre anfrage", "ihre nachricht", "vielen dank für ihre",
    "danke für ihre", "accusé de réception", "confirmation de réception", "nous avons bien reçu",
    "votre demande", "votre message", "merci pour votre", "acuse de recibo", "confirmación de recepción",
    "hemos recibido", "su consulta", "gracias por contactar", "gracias por su", "confirmação de recebimento",
    "recebemos", "obrigado pel", "conferma di ricezione", "conferma ricezione", "abbiamo ricevuto",
    "grazie per", "la sua richiesta", "ontvangstbevestiging", "uw bericht", "uw aanvraag", "bedankt voor",
    "wij hebben uw", "mottagningsbekräftelse", "tack för", "bekräftelse", "kvittering for", "bekreftelse",
    "tak for", "takk for", "vahvistus", "kiitos yhtey", "kiitos viesti", "potwierdzenie otrzymania",
    "potwierdzenie", "dziękujemy za", "potvrzení o přijetí", "děkujeme za", "potvrdenie", "visszaigazolás",
    "köszönjük", "confirmare de primire", "mulțumim", "teşekkür", "подтверждение получения", "спасибо за",
    "підтвердження", "дякуємо за", "お問い合わせ", "受付", "ありがとうございます", "感谢您", "已收到", "접수",
    "office closed", "offices closed", "closed", "betriebsferien", "betriebsurlaub", "fermeture", "cierre", "chiusura",
    "encerramento", "gesloten", "stängt", "lukket", "stengt", "suljettu", "nieczynne", "zavřeno", "zárva",
)  # fmt: skip

_ACKNOWLEDGES = Phrases("""
    have received your | has been received | received your message | received your email | received your e-mail
    received your request | received your enquiry | aim to respond | aim to reply | respond within | reply within
    get back to you | be in touch | will be answered | as soon as possible | shortly | nachricht erhalten
    anfrage erhalten | mail erhalten | eingegangen | schnellstmöglich | umgehend | so bald wie möglich | bearbeiten
    bien reçu | répondrons | répondra | dans les plus brefs | dans les meilleurs délais | hemos recibido | responderemos
    a la mayor brevedad | lo antes posible | recebemos | responderemos | o mais breve | abbiamo ricevuto | risponderemo
    al più presto | ontvangen | zo snel mogelijk | zo spoedig mogelijk | mottagit | så snart | snarast | modtaget
    hurtigst muligt | mottatt | så snart som | vastaanotettu | olemme saaneet | mahdollisimman pian | otrzymaliśmy
    odpowiemy | wkrótce | obdrželi jsme | odpovíme | co nejdříve | dostali sme | megkaptuk | válaszolunk | am primit
    vom răspunde | aldık | en kısa sürede | получили | ответим | отримали | відповімо | λάβαμε | primili smo | prejeli
    kätte saanud | saņēmām | gavome | hem rebut | jaso dugu | 受け付け | 受付 | 拝受 | 折り返し | 收到您 | 尽快 | 儘快
    접수되 | 빠른 시일 | استلمنا | קיבלנו | دریافت شد | प्राप्त हो | ได้รับ | đã nhận được | telah kami terima
""")

_CLOSED = Phrases("""
    office is closed | offices are closed | office will be closed | offices will be closed | we are closed
    we're closed | are currently closed | is currently closed | will be closed | geschlossen | betriebsferien
    betriebsurlaub | est fermé | sont fermés | sera fermé | seront fermés | fermeture | cerrado | cerrada | cerraremos
    permanecerá cerr | chiuso | chiusi | chiusa | chiusura | encerrad | fechado | fechada | gesloten | stängt | lukket
    stengt | suljettu | nieczynn | zamknięt | zavřen | zatvoren | zárva | închis | kapalı | закрыт | зачинен | затворен
    κλειστ | suletud | slēgt | uždaryt | tancat | itxita | 休業 | 休館 | 放假 | 休息 | 휴무 | مغلق | סגור
""")

_RETURNS = Phrases("""
    [back on] | back in the | back at | back mon | back tues | back wed | back thu | back fri | will return
    i return | returning on | wieder da | wieder zurück | zurück am | zurück ab | bin zurück | komme * zurück
    kehre * zurück | de retour | reviens | je rentre | de vuelta | regreso | regresaré | volveré | vuelvo | volto
    regresso | estarei de volta | torno | tornerò | rientro | rientrerò | terug op | weer terug | ben * terug | tillbaka
    åter den | tilbage | tilbake | palaan | takaisin | aftur | wracam | wrócę | vrátím | vrátim | jövök vissza
    visszatér | revin | voi reveni | dönü | dönece | вернусь | возвращаюсь | повернуся | повертаюся | връщам
    επιστρέφω | επιστρέψω | vraćam | враћам | vrnem | tagasi | atpakaļ | atgriezīšos | grįšiu | itzuliko
    yn ôl | beidh mé ar ais | אחזור | سأعود | برمی‌گردم | लौट | 戻り | 戻ります | 復帰 | 回来 | 返回 | 回來
    복귀 | 돌아
""")
"""When somebody is back."""
_SHORT = 200
_TOPIC = re.compile(r"plan|schedul|antrag|request|policy|photo|foto|calend|kalender|turno|rota\b|вопрос|график")
"""What makes a word of absence the topic of a subject: `Holiday plans`, `Urlaubsantrag`."""


def tells_of_itself(sender: str, plain: str) -> bool:
    """Whether a clause says that the *sender* is away or gone, by name: nobody writes so of themselves."""
    names = set(re.findall(r"[^\W\d_]{3,}", phrases.plain(sender).partition("@")[0]))
    return any(
        not names.isdisjoint(_words(clause))
        and (absence_phrases.AWAY.are_in(clause) or absence_phrases.GONE.are_in(clause))
        for clause in _clauses(plain)
    )


def settles(plain: str) -> bool:
    """Whether the answer encloses, agrees or signs."""
    return _SETTLES.are_in(plain)


def is_to_reader(header: Fields, plain: str) -> bool:
    """Whether the answer asks something or begins with the reader's name, which no answering machine knows."""
    names = re.findall(r"[^\W\d_]{3,}", phrases.plain((header.first("to") or "")[:200].partition("@")[0]))
    return bool(_ASKS.search(plain)) or bool(_words(plain[:_GREETING]).intersection(names))


def is_own_absence(subject: str, plain: str) -> bool:
    """Whether the writer tells of being away, as `I` or under such a *subject*, or that nobody reads it."""
    if _TOPIC.search(subject):
        return False
    if len(plain) < _SHORT and _RETURNS.are_in(plain):
        is_called = absence_phrases.AWAY.are_in(subject) or subject.startswith(
            (*autoreply_phrases.ABSENT_BEGINS, *autoreply_phrases.AWAY_BEGINS)
        )
        if is_called or any(map(str.isdigit, plain)):
            return True
    if not (absence_phrases.AWAY.are_in(plain) or absence_phrases.UNATTENDED.are_in(plain)):
        return False
    if subject.startswith(autoreply_phrases.ABSENT_BEGINS):
        return False  # `Holiday plans`, `Abwesenheit von Carl`: people write of absence
    if subject.startswith(autoreply_phrases.AWAY_BEGINS) or absence_phrases.UNATTENDED.are_in(plain):
        return True
    return absence_phrases.AWAY.are_in(subject) or any(
        (_SPEAKER.search(clause) or absence_phrases.SELF_TOLD.are_in(clause))
        and absence_phrases.AWAY.are_in(clause)
        and not _OTHERS.search(clause)
        for clause in _clauses(plain)
    )


def acknowledges(subject: str, plain: str) -> bool:
    """Whether a company acknowledges what came, or says that it is closed: under such a *subject*, and never as `I`."""
    if not subject.startswith(_ACKNOWLEDGE_BEGINS) or _SPEAKER.search(plain):
        return False
    return _ACKNOWLEDGES.are_in(plain) or _CLOSED.are_in(plain)


def tells_of_colleague(plain: str) -> bool:
    """Whether somebody has left and others are to be asked, and nobody speaks as `I`."""
    return absence_phrases.GONE.are_in(plain) and absence_phrases.CONTACT.are_in(plain) and not _SPEAKER.search(plain)


def _clauses(plain: str) -> Iterator[str]:
    yield from _CLAUSE_ENDS.split(plain, maxsplit=_MOST_CLAUSES)[:_MOST_CLAUSES]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
