"""How servers without a machine-readable report speak, in a few lines of data each: words, not code.

A bounce is told by its sender, its subject and its sentences; the copy of the original begins at one of the COPY
lines; recipients stand below a HEADING, alone on a line, or in one of the NAMED places of a sentence.
"""

from __future__ import annotations

import re

from receiptd.interpret.phrases import Phrases

DAEMON = Phrases("""
    mailer-daemon | mailer_daemon | mailerdaemon | mail-daemon | maildaemon | mail daemon | mdaemon@ | [mmdf]
    [uucp] | postmaster | post_master | post-master | mail delivery | mail.delivery.system | microsoftexchange
    mail deliver system | delivery subsystem | delivery system | mail system | mail administrator | mailadmin
    system administrator | systemadministrator | administrateur syst | microsoft outlook | microsoft exchange
    [imss] | interscan | mailmarshal | surfcontrol | mimesweeper | symantec_antivirus | mail gateway | mailgateway
    amavis | content-filter | content filter | virusalert@ | mailscanner | mmsc@ | mms gateway | mms-gateway
    mail-gateway | undeliverable | bounce@ | no-reply-bounces | smtp gateway | message router | mail router | <>
""")
"""The From of automata that report deliveries."""

PROGRAM = Phrases(
    "mailer-daemon | mailer_daemon | mailerdaemon | mail-daemon | maildaemon | mail daemon | subsystem | <>"
)
"""Those among them that no person writes as."""

ANSWERED = re.compile(
    r"(?:re|aw|antw|antwort|sv|svar|vs|odp|odg|od|vá|r|rif|rép|res|ref|ynt|bls|ats|atb|απ|σχετ|ответ|отв|ha|відп|отг"
    r"|одг|回复|回覆|答复|答覆|回信|返信|답장|회신|رد|תשובה|השב|پاسخ|ตอบ|trả lời|balas)"
    r"(?:\[\d+\]|\(\d+\)|\^\d+)? ?[:：]"
)
"""How the subject of an answer begins."""

SUCCESS = Phrases("""
    successfully delivered | delivered successfully | successful mail delivery | successful delivery
    has been delivered to the following | recipients or groups is complete | was successfully relayed
    erfolgreich zugestellt | erfolgreich ausgeliefert | remis avec succès | remise * est terminée | livré avec succès
    entregado correctamente | se ha entregado correctamente | entregue com êxito | entregue com sucesso
    consegnato correttamente | consegnato con successo | succesvol bezorgd | levererats till | доставлено успешно
    успешно доставлен | 正常に配信 | 配信されました | 成功送达 | 投递成功 | 성공적으로 배달
""")
"""What tells of a message that arrived."""

SUBJECT = Phrases("""
    delivery status | delivery failure | delivery failed | delivery problem | delivery error | delivery report
    delivery notification | delivery warning | delivery has * failed | delivery has been | delivery incomplete
    delivery unsuccessful | delivery delay | deliver* failed | mail failure | failed mail | failed delivery
    message delivery | mail delivery | could not be delivered | couldn't be delivered | could not send | cannot send
    unable to deliver | undeliver | non-deliver | nondeliver | not delivered | not been delivered | not yet delivered
    returned mail | returned message | returned e-mail | returned email | returning mail | returning message
    return to sender | returned to sender | failure notice | mail system error | mail error | processing error
    mail from you | contents from you | apparently from you
    [bounce] | [bounced] | permanent * failure | permanent error | error sending | error delivering
    sending your mail | still being retried | delayed mail | message delayed | warning: message | warning: could not
    mail * rejected | message rejected | message * blocked | rejected mail | message you sent | user unknown
    unknown user | message status | nameserver error | invalid recipient | invalid address | mailbox full
    unzustellbar | nicht zugestellt | nicht zustellbar | zustellung * fehlgeschlagen | zustellung * verz
    zustellbenachrichtigung | zustellungsfehler | fehler beim versenden | non remis | non delivr | echec de
    impossible de remettre | non distribu | avis de non-remise | utilisateur non recens | utilisateur inconnu
    message non | no se ha podido entregar | no se pudo entregar | devuelto | error de entrega | entrega fallida
    fallo * entrega | no se puede entregar | falha * entrega | devolvid | retornada | mancata consegna
    non recapitabil | impossibile recapitare | impossibile consegnare | onbestelbaar | kan niet worden | niet bezorgd
    niet afgeleverd | mislukt | ej levererat | ikke levert | iletilemedi | niedostarcz | nie dostarczon | nedoru
    nelivrat | message returned | address not found | delivery to * failed | recipient not found | error * delivery
    could not deliver | couldn't deliver | not deliver | hard bounce | mail not accepted | delivery notice
    sending failed | bounced message | bounced mail | bounce notification
    message bounced | mail-zustellung | zustellung nicht | absender zur | konnte nicht * werden | nicht ausgeliefert
    nicht versendet | zustellproblem | zustellfehler | fehler bei der zustellung | fehler bei der nachricht | non livr
    retour du message | n'a pas pu * remis | n'a pas pu * livr | erreur de livraison | erreur de distribution
    erreur d'envoi | message retard | no se ha entregado | no pudo ser entregad | no pudo entregarse | no fue entregad
    imposible entregar | no es posible entregar | no entrega | no pudimos entregar | error en la entrega
    error al entregar | error al enviar | no s'ha pogut | nao entreg | nao foi entreg | nao foi possivel
    erro na entrega | erro de entrega | erro ao enviar | mancato recapito | recapito non riuscito | non recapitat
    non consegnat | impossibile inviare | consegna fallita | errore di consegna | errore nella consegna
    consegna non riuscita | consegna * fallita | invio non riuscito | niet worden bezorgd | niet worden afgeleverd
    bezorging | kan niet bezorg | niet verzonden | oleverer | kan inte leverer | inte levererat | kunde inte leverer
    leveransfel | leverans misslyck | ikke leveret | kan ikke lever | ulevert | levering mislyk | levering * mislyk
    kunne ikke lever | leveringsfejl | leveringsfeil | ei voi toimittaa | toimittamaton | ei toimitet
    ei voitu toimittaa | toimitusvirhe | nie udalo sie | zwrot poczty | niedorecz | nepodarilo | nu a putut fi livrat
    nu a fost livrat | nelivrabil | teslim edil | iletilemiyor | nedostavljivo | kohaletoimetamat | nepristatyt
    entrega retrasada | entrega atrasada | recapito in ritardo | consegna ritardata | levering vertraagd
    levering forsinket | teslim gecik | zustellstatus | stato della consegna | status de entrega | estado de entrega
    leveransstatus | stanie dostarcz | teslim durumu | bezorgstatus
""")
"""What bounces are called."""

SUBJECT_ABROAD = Phrases("""
    zurückgesandt | rückläufer | non délivr | échec | pas été remis | retour * expéditeur | não entreg
    não foi entreg | toimitus * epäonnistu | 退信 | 退回 | 投递失败 | 无法投递 | 傳送失敗 | 传输失败 | 发送失败
    配信不能 | 配信エラー | 配信できません | 送信できません | 送信エラー | 配達できません | 配送できません
    メッセージ配送 | エラーメール | 不達 | 배달 실패 | 반송 | не доставлен | недоставлен | ошибка доставки
    не может быть доставлен | невозможно доставить | übermittlung fehl | pas été livr | pas été distribu
    n'a pas pu * délivr | não é possível entregar | não pôde ser | não pode ser entreg | não foi possível
    nie można dostarczyć | nie udało się | zwrot wiadomości | błąd dostarcz | niedoręcz | nelze doruč | nepodařilo
    nebyla doruč | nebyl doruč | kézbesíthetetlen | nem kézbesíthető | sikertelen kézbesítés | gönderilemedi
    не удалось доставить | не удается доставить | не удаётся доставить | не отправлено | сбой доставки
    уведомление о недоставке | возвращено отправителю | не вдалося доставити | недоставимо
    δεν είναι δυνατή η παράδοση | αποτυχία παράδοσης | δεν παραδόθηκε | nije isporučen | neisporuč | nav piegādājams
    neizdevās piegādāt | 无法送达 | 未送达 | 未能送达 | 无法传递 | 无法发送 | 無法傳遞 | 無法送達 | 未傳遞 | 未送達
    寄送失敗 | 退件 | 送信失敗 | 配信失敗 | 配達不能 | 返送 | 戻りメール | 배달되지 않음 | 배달할 수 없 | 전송 실패
    발송 실패 | 수신 실패 | 전송하지 못 | 보내지 못 | לא ניתן למסירה | לא נמסר | המסירה נכשלה | غير قابل للتسليم
    تعذر التسليم | فشل التسليم | không gửi được | không thể gửi | ไม่สามารถส่ง | remise différée | remise retardée
    verzögerte zustellung | état de remise | försenad leverans | leveransen är försenad | dostarczenie opóź
    доставка задерж | статусе доставки | 配信遅延 | 配信の遅延 | 配信ステータス | 延迟传递 | 延迟投递 | 投递延迟
    传递延迟 | 传递状态 | 延遲傳遞 | 배달 지연 | 전송 상태
""")
"""What they are called in letters outside ASCII."""

FOR_POSTMASTERS = ("postfix smtp server: errors from", "postfix smtp client: errors from", "cron <", "logwatch for ")
"""How subjects begin that tell a server's own postmaster of others' sessions."""

CERTIFIED = ("errore-consegna", "non-accettazione")
"""What X-Ricevuta calls a failure in Italy's certified mail (PEC)."""

FORWARDED = (
    "fwd:",
    "fw:",
    "wg:",
    "tr:",
    "rv:",
    "i:",
    "vs:",
    "doorst:",
    "enc:",
    "[fwd:",
    "pd:",
    "vb:",
    "vl:",
    "tr :",
    "fwd :",
    "reenv:",
    "fs:",
    "ilt:",
    "fyi:",
    "пересл:",
    "fwd：",
    "转发:",
    "转发：",
    "轉寄:",
    "轉寄：",
    "転送:",
    "전달:",
)
"""How the subject of a forwarded message begins."""

LIST_REFUSALS = Phrases("are not member | you are not a member | not a member of | loop alert")
"""What list managers call the refusal of a post, answering it."""

SENTENCE = Phrases("""
    not be delivered | not been delivered | not yet been delivered | n't be delivered | not be sent | not be relayed
    delivery * was stopped | our content checker found
    not be reached | not reach the following | not receive this message | not be processed | not deliver
    did not reach | undeliver | unable to deliver | unable to send | unable to relay | unable to process
    was unable to | delivery to the following | delivery to * fail | delivery fail | delivery has failed
    delivery error | delivery attempt | fail to deliver | failed to deliver | fatal error | permanent failure
    permanent error | permanently fail | failed permanently | failed recipient | failed address | returned mail
    returned message | returned to sender | being returned | been returned | was returned | was rejected
    been rejected | rejected your message | rejected recipient | was refused | been blocked | was blocked
    been delayed | is delayed | failure reason | trouble delivering | having trouble | has been postponed | [deferred]
    user unknown | unknown user | unknown recipient | no such user | no such recipient | no such mailbox
    no such person | no such address | mailbox full | mailbox is full | mailbox unavailable | mailbox not found
    mailbox disabled | recipient unknown | recipient rejected | recipient not found | address rejected
    exceeds allowed | exceeded * quota | over quota | invalid final delivery | invalid recipient | invalid address
    invalid user | not a valid user | not a valid recipient | not a valid address | not listed in | does not exist
    doesn't exist | no longer exist | did not exactly match | not recognized | not known here
    no matches to nameserver | could not be found | requested action not taken | not a member of
    duplicated message-id | couldn't deliver | not accepting mail | were unable to | had * errors | failed with
    nicht zugestellt | nicht zustellen | nicht ausgeliefert | nicht versendet | nicht übermittelt | unzustellbar
    konnte * nicht | unbekannter empfänger | empfänger unbekannt | n'a pas pu | n'ont pas pu | pas pu etre
    pas été remis | pas été délivr | pas été distribu | impossible de | n'existe pas | destinataires suivants
    destinataire inconnu | échec de | non remis | no se ha podido | no se pudo | no se puede | no ha podido
    no fue posible | no pudo ser | no existe | não pôde ser | não foi possível | não existe | nao foi possivel
    non è stato | non e' stato | impossibile | non esiste | kon niet | niet worden | bestaat niet | kunde inte
    kunne ikke | ei voitu | iletilemedi | teslim edilemedi | nie można | nie został | nie mogła | nebyl | nelze
    送信できません | 配信できません | 配信されません | 届けられません | 届きません | 配達できません | 発信できません
    送れません | エラー | 配送できません | 送信できなかった | 無法 | 无法 | 失败 | 失敗 | 退信 | 不存在 | 전송 | 배달
    не доставлен | не может быть | не удалось | не было доставлено | не существует | невозможно | delivery has been
    no valid recipients | mail failed | has failed to these | couldn't be found | wasn't delivered | can't deliver
    did not accept | didn't accept | bounced back | not been accepted | not accepted | fehler bei der | nicht erreicht
    nicht erreichbar | nicht übertragen | nicht gesendet | nicht gefunden | nicht ausliefern | schlugen fehl
    schlug fehl | fehlgeschlagen | dauerhafter fehler | permanenter fehler | zurückgewiesen | abgelehnt | abgewiesen
    n'a pas été | n'est pas parvenu | n'avons pas pu | n'avoir pu | erreur permanente | a échoué | introuvable
    a été rejeté | a été refusé | no pudimos | no llegó | no ha sido | error permanente | error en la entrega
    fue rechazado | no se encontró | no s'ha pogut | não pudemos | não atingiu | não foi entreg | não conseguimos
    erro permanente | falha na entrega | foi rejeitad | não encontrad | non riuscit | non ha raggiunto
    mancata consegna | mancato recapito | è stato rifiutato | errore permanente | è stato rilevato un errore
    is mislukt | niet bezorgd | niet bereik | geweigerd | misslyckades | inte levereras | inte nås | gick inte att
    avvisades | mislykkedes | mislyktes | ikke leveres | ikke nås | nådde ikke | nåede ikke | epäonnistui
    ei saavuttanut | ei voi toimittaa | ei tavoitettu | ei toimitettu | nie powiodło | nie udalo | nie udało
    nie dotarła | nie dostarczono | nezdařil | nepodařilo | nepodarilo | zlyhal | nedorazil | nem sikerült
    nem jutott el | nem kézbesíthető | nu a reușit | nu a putut | teslim edilemiyor | ulaşmadı | ulaşılamadı
    gönderilemedi | недоступны | не удается | не удаётся | сбой доставки | ошибка | не вдалося | неуспешна
    не е доставено | απέτυχε | δεν ήταν δυνατή | δεν βρέθηκε | nije uspjela | nije moguće | ni uspela | ni bilo mogoče
    nurjus | nepavyko | neizdevās | 未能 | 未送达 | 退回 | 配信不能 | 見つかりません | 못했습니다 | 수 없습니다 | 실패
    נכשלה | לא נמצא | فشل | تعذر | không thành công | không thể | ล้มเหลว | ไม่สามารถ | no se ha entregado
    no se ha encontrado | remise * est retardée | se ha retrasado | está atrasad | in ritardo | is vertraagd
    är försenad | er forsinket | jest opóźnion | задерживается | 遅延してい | 已延迟 | gecikti | niet is gevonden
    nie znaleziono | receiver not found
""")
"""Sentences of failure and delay."""

DELAYED = Phrases("""
    transient non-fatal | [delayed] | delay reason | (delay) | warning message only | warning only
    still being retried | advisory-only
    will be retried | will keep trying | will continue to be | will continue to try | will retry
    attempts will continue | not yet been delivered | has not been delivered after | not yet delivered
    not been delivered yet | still undelivered | has been postponed | no action is required on your part
    need not resend | not need to resend | not need to re-send | do not resend | temporarily delayed
    delivery delayed | temporary failure report | delivery * is delayed | verzögert | verspätet | nur eine warnung
    müssen * nicht erneut | wird weiter versucht | weitere zustellversuche | wird weiterhin versucht
    noch nicht zugestellt | retardé | n'a pas encore | pas encore été | nouvelle tentative | retraso | retrasado
    aún no se ha | todavía no se ha | se seguirá intentando | ainda não foi | atrasad | in ritardo | non è ancora
    ulteriori tentativi | vertraagd | nog niet bezorgd | nog niet afgeleverd | försenad | ännu inte | forsinket
    endnu ikke | ennå ikke | viivästy | opóźnion | jeszcze nie | zpožděn | késlelt | gecik | задерж | ещё не доставлен
    еще не доставлен | отложен | 遅延 | まだ配信 | まだ配送
    再送信を試み | 再送を試み | réessaie | ponownych prób | se reintentar | будут продолжены | será reintentad
    non è stato ancora | non è stata ancora | continuerà a provare | continuerà a tentare | ritardata consegna
    nie została jeszcze | nie został jeszcze | nie zostało jeszcze | będą ponawiane | będzie ponawian
    延迟 | 延遲 | 尚未送达 | 尚未送達 | 지연
""")
GAVE_UP = Phrases("""
    permanent error | permanent failure | permanent fatal | permanently | fatal error | i've given up | giving up on
    not going to try again | has been returned | will be deleted from queue | no further delivery
    no further attempts | too long | not be delivered for | cannot send message for | (failure)
    returning message to sender | retry timeout exceeded | retry time not reached for any host after | message expired
    endgültig | définitif | dauerhafter fehler | permanenter fehler | wird nicht erneut versucht | erreur permanente
    error permanente | erro permanente | errore permanente | varaktigt | trwały błąd | постоянная ошибка | 永久
""")
"""What makes a delay final."""


def gave_up(plain: str) -> bool:
    """Return whether *plain* makes a delay final; Sendmail's "transient non-fatal errors" are none."""
    return GAVE_UP.are_in(plain.replace("non-fatal", ""))


COPY_STARTS = (
    "below this line is a copy", "below is a copy", "here is a copy", "this is a copy", "enclosed is a copy",
    "included is a copy", "a copy of the original", "a copy of the message", "the following is a copy",
    "a copy of your message", "this is the copy", "the header of the original", "header of the original",
    "the original message follows", "original message follows", "original message is", "original message below",
    "original message as received", "original message included", "original message header", "original headers",
    "original mail as follows", "message header", "message headers", "the message headers", "unsent message",
    "undelivered message", "returned message", "rejected message", "the first ", "start of returned",
    "your original message", "the original message headers", "your message follows", "the headers of",
    "headers of the", "copy of the message", "text of the message", "begin returned", "header of the message",
    "der header der ursprünglichen", "originalnachricht", "ursprüngliche nachricht", "es folgt", "hier folgt",
    "unten", "eine kopie", "message d'origine", "le message original", "en-têtes", "mensaje original",
    "el mensaje original", "mensagem original", "il messaggio originale", "messaggio originale",
    "origineel bericht", "元のメッセージ", "以下のメッセージ", "原始邮件", "原始郵件", "исходное сообщение",
    "заголовки исходного",
)  # fmt: skip
"""How lines begin after which the copy of the original stands; dashes and the like before them don't count."""

COPY_LINES = frozenset((
    "original message", "original mail", "message follows", "original headers", "message text", "included message",
    "attached message", "headers follow", "message content", "original email", "message source", "message body",
))  # fmt: skip
"""Whole lines of that kind."""

COPY_FIELDS = (
    "received:", "return-path:", "dkim-signature:", "domainkey-signature:", "message-id:", "x-originating-ip:",
    "mime-version:", "x-ymail-osg:", "x-apparently-to:", "delivered-to:", "x-yahoofilteredbulk:",
    "x-virus-scanned:",
)  # fmt: skip
"""Header fields that begin a copy where nothing announces it."""

HEADING = Phrases("""
    following recipient | following address | following e-mail | following email | following person | following user
    following destination | recipients were affected | recipients affected | not be delivered to:
    could not be delivered to | to the following: | to one or more | failed recipient | failed address | fatal errors
    delivery errors | not deliver | unable to deliver | undeliverable to | the following failed | transient non-fatal
    addressees | had * errors | address to which * not yet | delivery to the following | recipient(s)
    folgende * empfänger | folgende * adresse | folgenden | an folgende | empfänger konnte | suivants | suivante
    destinataire | siguientes | siguiente dirección | seguintes | seguenti | volgende | følgende | følgjande
    följande | a estes destinat | deze geadresseerden | disse mottakerne | disse modtagere | dessa mottagare | seuraav
    těmto | následující | týmto | adresat | następny | címzett | destinatari | alıcı | gönderilem | одержувач
    παραλήπτ | primatelj | prejemnik | adressaati | gavėj | adresātiem | 收件者 | 受信者 | 宛先 | 받는 사람 | 수신자
    נמענים | المستلمين | người nhận | ผู้รับ | pod wskazane adresy | 次の | 以下 | 下列 | 收件人 | следующ | получател
    następuj
""")
"""Lines that announce a list of recipients."""

RECIPIENT = (
    "to|recipients?|rcpt to|destinataires?|à|empfänger|an|para|destinatarios?"
    "|destinatários?|destinatari|ontvangers?|geadresseerden?|aan|mottagare|modtagere?|mottakere?|till?|vastaanottajat?|odbiorca"
    "|adresat|příjemce|příjemci|címzett|destinatar|alıcı|получател[ьи]|кому|одержувач|παραλήπτης|宛先|受信者|收件人|收件者"
    "|받는 ?사람|수신자"
)
"""The words for a recipient before a colon."""

LABEL = f"address|user|e-?mail|mailbox|{RECIPIENT}"
"""What stands before a colon and the recipient."""

NAMED = re.compile(
    r"\b(?:rcpt to|recipients?|addressee|empfänger(?:adresse)?|destinataires?|destinatarios?|failed address|mailbox"
    r"|account|userid|to address|(?:e-?mail|mail) address(?:ed)?|user|size|message to|mail to|delivery to|delivered to"
    r"|sent to|addressed,?|deliver to|unknown|full|quota|violation|an|à|para)"
    r"(?:(?<![\w])|\b(?!\w))[ \t]{0,3}(?:is|was|are|were|for|the user)?[ \t]{0,3}[:=]?[ \t]{0,3}[<\"'\[(]{0,2}"
    r"([^\s<>\"'()\[\]]{1,128}@[^\s<>\"'()\[\],;:]{1,255})",
    re.IGNORECASE,
)
"""Where a sentence names the recipient."""

NOT_A_RECIPIENT = re.compile(
    r"(?:(?:^|\W)(?:from|sender|reply-to|reporting-mta|contact|mail from|envelope-from|message-?id|return-path|absender"
    r"|expéditeur|remitente|mittente|cc|subject|betreff|x-[\w-]{1,30}|host|helo|ehlo|client|id|by|queue)"
    r"[ \t]{0,3}(?:is|:|=|<|address|email)?[ \t:=]{0,3}[\"'<\[(]?"
    r"|(?:please|to|or|and|try)[ \t]+"
    r"(?:contact|e-?mail|mail|write|forward|notify|call|ask|visit|reach|try|emailing)[^@\n]{0,60}"
    r"|https?://\S{0,200}|mailto:|(?:generated|expanded) from:?[ \t<]{0,3}"
    r"|(?:alternate|alternative|instead|help|assistance|questions?|administrator|support|if|e\.g\.)[^\n@]{0,60}"
    r"|\b(?:wenden sie sich|schreiben sie|fragen|kontakt\w{0,6}|rückfragen|hilfe|contacte[rz]?|contacto"
    r"|contact (?:op|met)|écri(?:re|vez)|adresse[rz]|question|renseignement|escrib[ae]|póngase|consultas?|dudas|ayuda"
    r"|scriv(?:ere|ete|a)|contatt\w{0,4}|assistenza|rivolg\w{0,6}|escrev[ae]|contat[eo]|dúvidas|ajuda|mail naar|vragen"
    r"|skriv|hjälp|hjælp|hjelp|ota yhteyttä|napisz|pytań|pomoc\w?"
    r"|kapcsolat|обращайтесь|пишите|вопрос\w{0,3}|связаться|iletişim)\b"
    r"[^\n@]{0,60}|(?:問い合わせ|联系|聯絡|문의)[^\n@]{0,20})$",
    re.IGNORECASE,
)
"""Words right before an address that isn't a recipient."""

ALIAS_OF = re.compile(
    r"[EeFfGgOo](?i:(?<=g)enerated (?:from|by)|(?<=e)xpanded from|(?<=o)riginally addressed to|(?<=f)orwarded from)"
    r":?[ \t]*<?([^\s<>()]{1,128}@[^\s<>()]{1,255})>?"
)
"""The address we sent to, where the notice is about another."""
