"""A gateway's, list manager's or mail rule's refusal in prose -> whose message it refuses, or that it only holds it.

They sign as anybody: as `noreply@`, as the list, as the recipient. What a person doesn't write is the sentence itself:
`Your message to bob@b.org was rejected …`, without a word about themselves.
"""

from __future__ import annotations

import re
from itertools import islice

from receiptd.interpret import absence_phrases, addresses, human_part, mta_phrases, phrases, report_header
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.phrases import Phrases

ROBOT = Phrases("""
    noreply | no-reply | no_reply | no.reply | donotreply | do-not-reply | do_not_reply | ne-pas-repondre
    nepasrepondre | ne_pas_repondre | noresponder | no-responder | nao-responda | naoresponda | nicht-antworten
    nichtantworten | non-rispondere | nonrispondere | niet-beantwoorden | nietbeantwoorden | svarej-ikke | svar-ikke
    ei-vastata | nie-odpowiadaj | listserv | list server | sympa@ | majordomo | mailman | ecartis | listmaster
    listar@ | mlmmj | ezmlm | listproc | -bounces@ | -owner@ | -request@ | quarantine | quarantaene | spamfilter
    spam filter | spamschutz | antispam | anti-spam | virenschutz | antivirus | anti-virus | virusalert
    mail security | mailsecurity | message security | messaging security | mail-sicherheit | mailsicherheit
    sécurité messagerie | sécurité e-mail | seguridad de correo | seguridad del correo | filtro de correo
    sicurezza e-mail | sicurezza mail | mailbeveiliging | e-postsäkerhet | content-filter | content filter
    mail filter | mailfilter | mail firewall | gateway | passerelle | pasarela | mail-relay | mailrelay | mail relay
    mmsgw | mmsc@ | sms2email | fax server | faxserver | amavis | barracuda | proofpoint | mimecast | fortimail
    fortinet | sophos | hornetsecurity | trend micro | trendmicro | retarus | nospamproxy | ironport | messagelabs
    symantec | mcafee | forcepoint | websense | trustwave | spamtitan | vade | libraesva | cloudmark | postmark
    mailchannels | virenscan | virus scan | virusscan | mail guard | mailguard | email protection | e-mail protection
""")
"""The From of automata that refuse or hold mail."""

YOURS = Phrases("""
    your message | your e-mail | your email | your mail | your post | your request | your submission | your fax
    your multimedia message | the email you sent | the e-mail you sent | the mail you sent | the message from
    the message to | the email to | the e-mail to | the mail to | message you sent | message sent by you
    email sent by you | a message from you | an email from you | ihre nachricht | ihre e-mail | ihre email | ihre mail
    ihr e-mail | ihre sendung | ihr schreiben | deine nachricht | deine e-mail | deine mail | die von ihnen gesendete
    ihrer nachricht | ihrer e-mail | ihrer email | ihrer mail
    ihre anfrage | votre message | votre e-mail | votre email | votre courriel | votre courrier | votre mail
    votre mél | le message que vous | su mensaje | su correo | su email | su e-mail | tu mensaje | tu correo
    el mensaje que envió | sua mensagem | seu e-mail | seu email | a mensagem que | suo messaggio | suo e-mail
    suo email | sua e-mail | sua email | tuo messaggio | tua e-mail | tua email | vostro messaggio | vostra e-mail
    uw bericht | uw e-mail | uw email | uw mail | je bericht | je e-mail | ditt meddelande | ditt mejl | ditt mail
    ditt e-post | din e-post | din besked | din meddelelse | din e-mail | din mail | din melding | dit brev | viestisi
    viestiäsi | sähköpostisi | póstur þinn | skeyti þitt | tölvupóstur | twoja wiadomość | państwa wiadomość
    pana wiadomość | wysłana wiadomość | wiadomość wysłana | vaše zpráva | vaši zprávu | vaše správa | vašu správu
    váš e-mail | vás e-mail | üzenete | üzenetét | e-mailje | levele | levelét | mesajul dvs | mesajul dumneavoastră
    mesajul tău | e-mailul dvs | iletiniz | mesajınız | e-postanız | ваше сообщение | ваше письмо | вашого листа
    ваш лист | ваше повідомлення | вашето съобщение | вашето писмо | το μήνυμά σας | το μήνυμα σας | το email σας
    vaša poruka | vašu poruku | vaš e-mail | vaša e-pošta | vaše sporočilo | ваша порука | вашата порака | teie kiri
    teie sõnum | teie e-kiri | jūsu vēstule | jūsu ziņojum | jūsų laišk | jūsų žinut | el vostre missatge
    el seu missatge | zure mezua | eich neges | do theachtaireacht | 您的邮件 | 您的郵件 | 您发送 | 您發送 | 您发给
    您寄给 | 您寄給 | 您寄出 | 你的邮件 | あなたのメール | お送りいただいた | お客様のメール | お送りになった
    送信されたメール | 送信したメール | 귀하의 메시지 | 귀하의 메일 | 귀하가 보낸 | 보내신 | ההודעה שלך | המייל שלך
    رسالتك | بريدك | پیام شما | ایمیل شما | आपका संदेश | आपका ईमेल | ข้อความของคุณ | อีเมลของคุณ | thư của bạn
    email của bạn | tin nhắn của bạn | pesan anda | email anda | mesej anda | e-mel anda
""")
"""How the message that is refused is called."""

_REFUSED = Phrases("""
    rejected | was refused | been refused | is refused | [denied] | was blocked | been blocked | is blocked
    was stopped | been stopped | was discarded | been discarded | was dropped | bounced
    not posted | not been posted
    not accepted | not authorized | not allowed to | not permitted to | undeliverable | will not be delivered
    blockiert | verworfen | gestoppt | nicht angenommen | nicht akzeptiert | nicht weitergeleitet | unterdrückt
    bloqué | rejeté | refusé | supprimé | bloquead | rechazad | rejeitad | recusad | bloccat | rifiutat | respint
    respins | geblokkeerd | geweigerd | afgewezen | blockerat | blockerades | avvisat | avvisades | blokeret | afvist
    avvist | blokkert | estetty | hylätty | hylättiin | hylkäs | estettiin | zablokowan | odrzucon | zablokován
    odmítnut | zamietnut | zablokovan | letiltott | elutasít | visszautasít | engellen | reddedil | отклонен
    отклонён | заблокирован | отвергнут | відхилен | заблокован | отхвърлен | блокиран | απορρίφθηκε | odbijen
    blokiran | zavrnjen | tagasi lükatud | blokeerit | noraidīt | bloķēt | atmest | užblokuot | rebutjat | 被拒绝
    被拒收 | 被拦截 | 被退回 | 被拒絕 | 被攔截 | 拒否されました | ブロックされました | 破棄されました | 차단 | 거부
    تم رفض | تم حظر | נדחתה | נחסמה | رد شد | مسدود | अस्वीकार | ถูกปฏิเสธ | bị từ chối | bị chặn | ditolak | diblokir
""")

_HELD = Phrases("""
    quarantin | on hold | being held | held for your | held for review | held for moderat | held for approv
    awaiting moderat | awaits moderat | awaiting approval | awaits approval | pending approval | awaiting review
    pending review | can release | may release | zurückgehalten | freigeben | freigegeben | freigabe | quarantäne
    wartet auf | quarantaine | en attente de modération | en attente d'approbation | mis en attente | cuarentena
    retenid | pendiente de aprobación | pendiente de moderación | quarentena | retida | aguarda aprova | aguardando
    quarantena | trattenut | in attesa di | vastgehouden | wacht op goedkeuring | karantän | kvarhåll | karantæne
    tilbageholdt | holdt tilbake | karanteeni | kwarantann | wstrzyman | oczekuje na | karantén | karanten | zadržan
    carantin | карантин | задержан для проверки | ожидает модерации | ожидает одобрения | καραντίνα | 隔离 | 隔離
    待审核 | 等待审批 | 審核 | 保留され | 承認待ち | 격리 | 보류 | 승인 대기 | الحجر | בהסגר | קרנטינה | cách ly
    karantina
""")

_FOR_GOOD = Phrases("""
    will not be delivered | will not be sent | won't be delivered | not be released | permanently | was stopped
    has been stopped | has been rejected | was rejected | been refused | was refused | and rejected | and deleted
    been deleted | was deleted | wird nicht zugestellt | wurde abgelehnt | wurde abgewiesen | gelöscht | endgültig
    ne sera pas | a été rejeté | a été refusé | no será | no se entregará | fue rechazad | não será | foi rejeitad
    non sarà | è stato rifiutato | zal niet | geweigerd | kommer inte att | vil ikke | ei toimiteta | nie zostanie
    nebude | nem kerül | nu va fi | teslim edilmeyecek | не будет доставлен | 不会被投递 | 不會 | 配信されません
    전달되지 않
""")

_STRIPPED = Phrases("""
    attachment * removed | attachments * removed | attachment * stripped | attachment * deleted
    without the attachment | without its attachment | without attachment | removed the attachment | removed attachment
    anhang * entfernt | anhänge * entfernt | anlage* entfernt | ohne anhang | ohne den anhang | ohne anlage
    pièce* jointe* * supprimé | pièce* jointe* * retiré | sans celle-ci | sans la pièce | sans pièce
    archivo* adjunto* * eliminad | adjunto* * eliminad | sin el adjunto | sin el archivo | anexo* * removid
    sem o anexo | allegat* * rimoss | allegat* * eliminat | senza l'allegato | senza allegat | bijlage* * verwijderd
    zonder bijlage | bilag* * fjernet | bilaga* * tagits bort | bilagan har | bilaga* * borttag | vedlegg* * fjernet
    liite * poistett | załącznik* * usunięt | bez załącznika | příloh* * odstraněn | melléklet* * eltávol
    atașament* * elimin | ek * kaldırıl | вложени* * удален | без вложени | 附件已被 | 附件被 | 添付ファイル * 削除
    첨부파일 * 제거 | 첨부 파일 * 제거 | المرفق
""")

_ARRIVED = Phrases("""
    been delivered | was delivered | itself has been | itself was | wurde zugestellt | wurde ausgeliefert
    wurde dennoch | selbst wurde | wurde weitergeleitet | zugestellt an | a été remis | a été délivré | a été livré
    a été distribué | a été transmis | se ha entregado | ha sido entregad | fue entregad | foi entreg
    è stato consegnato | è stato recapitato | is bezorgd | is afgeleverd | har levererats | levererades | er leveret
    blev leveret | er levert | ble levert | toimitettiin | on toimitettu | została dostarczona | zostało dostarczone
    byla doručena | bol doručen | kézbesítettük | a fost livrat | teslim edildi | доставлено | было доставлен | 已送达
    已投递 | 已送達 | 配信されました | 전달되었
""")

_LISTED = re.compile(
    rf"^[ \t*•-]{{0,8}}((?:(?:envelope |original )?(?:{mta_phrases.RECIPIENT}))[ \t]{{0,8}}[:：])?[ \t]{{0,8}}"
    r"[<(]?([^\s<>()\[\]:;,\"]{1,128}@[^\s<>()\[\]:;,\"]{1,255})[>)]?[ \t\r]*$",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that is an address, with the word for its recipient before it or none."""

_GREETING = re.compile(
    r"\s*(?:hi|hello|hey|hallo|hej|hei|liebe[rs]?|salut|ciao|olá|oi|hola|cześć|ahoj|szia|привет|merhaba|dear|servus|moin)\b"
    r"|\s*(?-i:[A-ZÀ-ÞА-Я])[\w-]{1,20}(?: (?-i:[A-ZÀ-ÞА-Я])[\w-]{1,20})?,[ \n]",
    re.IGNORECASE,
)
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])(?<!dvs\.)[ \n]|[。！？]|(?<=\S):[ \t]*\n|\n[ \t]*\n(?=[ \t]*[A-ZÀ-ÞА-Я])")
_MOST_SENTENCES = 12
_LONGEST_SENTENCE = 600
_SIGHT = 100
_SHORT_NOTICE = 1200
_SUBJECT_REFUSES = re.compile(
    r"^(?:rejected|refused|blocked|bounced|denied|undeliver|abgelehnt|abgewiesen|blockiert|rejeté|refusé|bloqué|rechazad|bloquead"
    r"|rejeitad|rifiutat|bloccat|geweigerd|geblokkeerd|avvisa|afvist|avvist|hylätty|odrzucon|odmítnut|elutasít|respins|reddedil|отклон)"
    r"|\brejected (?:post|message|submission)"
)


def is_from_robot(header: Fields) -> bool:
    """Whether an automaton that refuses, holds or announces mail signed, or one that wants no answer."""
    return ROBOT.are_in((header.first("from") or "")[:500].lower())


def is_held(header: Fields, said: HumanPart) -> bool:
    """Whether the message waits for somebody to release it: that is neither delivery, delay nor failure."""
    subject = report_header.plain_subject(header)
    tells_so = _HELD.are_in(said.plain) or (_HELD.are_in(subject) and not mta_phrases.SUBJECT.are_in(subject))
    return tells_so and not _FOR_GOOD.are_in(said.plain)


def is_stripped(said: HumanPart) -> bool:
    """Whether the message arrived and only an attachment didn't."""
    return _STRIPPED.are_in(said.plain) and _ARRIVED.are_in(said.plain)


def is_unattended(said: HumanPart) -> bool:
    """Whether nobody reads what came to the address: it arrived all the same."""
    return absence_phrases.UNATTENDED.are_in(said.plain)


def is_from_person(header: Fields, said: HumanPart) -> bool:
    """Whether a person writes: envelope and letter have the same sender, who isn't a program and speaks or greets."""
    writer = addresses.first(header.first("from"))
    if not writer or (report_header.return_path(header) or "").lower() != writer.lower() or is_from_robot(header):
        return False
    return bool(_GREETING.match(said.text)) or said.is_personal


def tells_of_failure(plain: str) -> bool:
    """Whether *plain* refuses something."""
    return _REFUSED.are_in(plain) or mta_phrases.SENTENCE.are_in(plain)


def named(header: Fields, said: HumanPart) -> list[str]:
    """Return whom the refusal of *our* message names: in its own sentence, or in the subject of a list manager."""
    if said.text.startswith("{"):
        return []  # a program's notification of something
    is_robot = is_from_robot(header) or mta_phrases.DAEMON.are_in((header.first("from") or "")[:500].lower())
    text = said.text if is_robot else human_part.own_words(said.text)
    if not (is_robot or _is_curt(text)) or not tells_of_failure(said.plain) or said.is_personal:
        return []
    readers = {address.lower() for address in report_header.recipients(header)}
    subject = report_header.plain_subject(header)
    is_called = not mta_phrases.ANSWERED.match(subject) and tells_of_failure(subject)
    refusing = [(one, plain) for one in _sentences(text) if YOURS.are_in(plain := phrases.plain(one))]
    for sentence, plain in refusing:
        if is_robot or is_called or tells_of_failure(plain):
            found = [name for name in _in_sentence(sentence) if name.lower() not in readers]
            if found:
                return list(dict.fromkeys(found))[:50]
    if listed := [
        name for _, plain in refusing for name in _listed(text, plain, is_robot=is_robot) if name.lower() not in readers
    ]:
        return list(dict.fromkeys(listed))[:50]
    return _in_subject(header, readers) if is_robot else []


def _is_curt(text: str) -> bool:
    """Whether it could be a robot's: a person greets, and tells more."""
    return len(text) < _SHORT_NOTICE and not _GREETING.match(text)


def _sentences(text: str) -> list[str]:
    pieces = _SENTENCE_ENDS.split(text[: _MOST_SENTENCES * _LONGEST_SENTENCE])
    return [piece[:_LONGEST_SENTENCE] for piece in islice(filter(str.strip, pieces), _MOST_SENTENCES)]


def _in_sentence(sentence: str) -> list[str]:
    text = human_part.unfolded(sentence)
    return [
        address
        for found in islice(addresses.ADDRESS.finditer(text), 50)
        if not mta_phrases.NOT_A_RECIPIENT.search(text[max(0, found.start() - _SIGHT) : found.start()])
        and (address := addresses.first(found[0]))
    ]


def _listed(text: str, plain: str, *, is_robot: bool) -> list[str]:
    """Return whom lines name, where the sentence *plain* refuses: `Recipient: bob@b.org`; or a robot right below it."""
    if not tells_of_failure(plain):
        return []
    lines = list(_LISTED.finditer(text[:_SHORT_NOTICE]))
    if labelled := [found[2] for found in lines if found[1]]:
        return labelled
    if not (is_robot and lines and mta_phrases.HEADING.are_in(plain)):
        return []
    above = phrases.plain(text[: lines[0].start()])
    return [found[2] for found in lines] if above.rstrip(" :.").endswith(plain.rstrip(" :.")) else []


def _in_subject(header: Fields, readers: set[str]) -> list[str]:
    """A list manager writes the list's address into the subject: `Rejected posting to DEV-L@lists.b.org`."""
    subject = report_header.subject(header)[:300]
    if not (_SUBJECT_REFUSES.search(phrases.plain(subject)) or tells_of_failure(phrases.plain(subject))):
        return []
    return [name for name in addresses.find(subject) if name.lower() not in readers]
