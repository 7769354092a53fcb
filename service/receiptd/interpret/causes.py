"""Why a delivery failed or waits: one readable table of words, then the status, then the reply code."""

from __future__ import annotations

import re

from receiptd.facts import Cause
from receiptd.interpret.phrases import Phrases, Tables, plain


def _ascii(table: str) -> str:
    return "|".join(phrase for phrase in re.split(r"[|\n]", table) if phrase.isascii())


_TABLE = (
    # The first line that fits wins: the specific stands before the general.
    # Whole phrases first, in which a server's words don't mean what they mean elsewhere.
    (Cause.USER_UNKNOWN, """
        recipientnotfound | recipnotfound | 5.4.1 * recipient address rejected: access denied | access denied. as(
    """),
    (Cause.SYSTEM, "not accepting network messages | down for maintenance | under maintenance"),
    (Cause.RATE_LIMITED, "verification in progress"),
    (Cause.HOST_UNKNOWN, """
        null mx | nullmx | relevant mx | dns domain | domain name not found | domain does not exist
        domain doesn't exist | domain existiert nicht | domäne nicht gefunden | domain nicht gefunden
        domaine n'existe pas | domaine inconnu | dominio no existe | domínio não existe | dominio non esiste
        domein bestaat niet | domena nie istnieje | doména neexistuje | домен не найден | домен не существует
        ドメインが存在しません | ドメインが見つかりません | 域名不存在 | 도메인을 찾을 수 없
    """),
    (Cause.POLICY, """
        resolver.rst.sender | resolver.rst.notauthorized | resolver.rst.restricted | allowedsenderslist
        anti-spoofing policy | administrative prohibition | sender verify | has a policy that prohibited
        due to local policy | for policy reasons | only accepts mail from | only accepts messages from
        only accepts email from | recipient address rejected: access denied
    """),
    (Cause.RELAY_DENIED, "relaying denied | relay access denied"),
    (Cause.AUTHENTICATION, """
        required authentication level | not authenticated | authentication unsuccessful | not owned by user
        permissions to send as
    """),
    (Cause.RATE_LIMITED, "sending quota | sending limit | messaging limit | temporarily deferred"),
    (Cause.MAILBOX_FULL, "speichervolumen | exhausted allowed storage | zuviele mails"),
    (Cause.MAILBOX_DISABLED, """
        account is blocked | account has been blocked | account blocked | mailbox blocked | mailbox is blocked
        mailbox has been blocked | mailbox unavailable or access denied
    """),
    (Cause.CONTENT, """
        potential security issue | attachment is banned | banned contents | banned attachment
        file extension
    """),
    (Cause.SPAM, "spam or virus | dt:spm"),
    (Cause.SYSTEM, "temporary lookup failure | storagepermanentexception | storedrv.submit.exception"),
    (Cause.SECURITY, """
        starttls is required | tls is required | certificate has expired | certificate expired
        tls handshake
    """),
    (Cause.PROTOCOL, """
        line too long | lines too long | line length | bare linefeed | barelinefeed
        conversion required
    """),
    (Cause.AUTHENTICATION, """
        [dmarc] | [dkim] | [spf] | sender policy framework | unauthenticated email | unauthenticated mail
        unauthenticated sender | authentication required | authentication failed | authentication check | smtp auth
        5.7.26 | 5.7.23 | 5.7.27 | 5.7.509 | auth required | must authenticate
    """),
    (Cause.VIRUS, "virus | malware | infected | trojan | phish | viren"),
    (Cause.MAILBOX_FULL, """
        mailbox full | mailbox is full | mailbox * full | mailfolder is full | inbox is full | account is full
        disk full | over quota | overquota | quota exceed | exceed* quota | quota is full | out of storage
        out of disk | out of space | not enough storage | not enough disk | insufficient disk
        insufficient system storage | insufficient storage | mailbox exceeds | mailbox over limit | mailbox size limit
        storage limit
        exceeds storage | exceeded storage | mailbox has exceeded | over * storage limit | user is over
        quota violation | quota limit | maildir * full | storage quota | disk quota | postfach * voll
        speicherplatz | kontingent | mailbox * voll | boite pleine | boîte pleine | boîte * pleine | boîte * saturée
        boite * pleine | buzón lleno | buzón * lleno | buzon lleno | bandeja * llena | cuota * exced | casella piena
        casella * piena | spazio esaurito | caixa * cheia | mailbox * [vol] | postvak * [vol] | postkasse* fuld
        postkasse* [full] | postboks * [full] | postlåd* [full] | brevlåd* [full] | postilaatik* täyn | skrzynka * pełna
        skrzynka * przepełnion | skrzynki * przepełnion | przekroczon* pojemno | schránka * plná | schránka * zaplněn
        postal* megtelt | postafiók* megtelt | kutusu dolu | kutusu * dolu | ящик * переполнен | ящик * заполнен
        превышена квота | превышен* квот | 容量 | いっぱいです | 满了 | 已满 | 已滿 | 空间不足 | 空間不足 | 용량
        가득 | empfängerpostfach | mailbox quota
    """),
    (Cause.TOO_BIG, """
        too large | too big | size limit | message size | maximum size | exceeds * maximum | message * exceeds
        size * exceed | max message | attachment size | zu groß | zu gross | trop volumineux | demasiado grande
        muito grande | troppo grande | te groot | för stort | [for stor] | liian suuri | zbyt duża | za duża | zbyt duży
        příliš velk | túl nagy | çok büyük | размер * превышает | слишком больш | 过大 | 過大 | 大小超过 | 大小超過
        サイズが大きすぎ | サイズ * 超え | 크기* 초과
    """),
    (Cause.LOOP, "[loop] | looping | too many hops | hop count | mail loop | too many received | loops back"),
    (Cause.RELAY_DENIED, """
        relaying denied | relay denied | relay access denied | relay not permitted | relaying not
        relay not allowed | not permitted to relay | not allowed to relay | unable to relay | cannot relay
        do not relay | relay operation | rcpthosts | relaying prohibited | relaying is | [relaying] | not a gateway
    """),
    (Cause.RATE_LIMITED, """
        rate limit | ratelimit | rate-limit | throttl | too many messages | too many connections
        too many recipients | too many concurrent | too many mails | too many emails | too many invalid
        too many errors | greylist | grey list | grey-list | graylist | gray list | receiving mail at a rate
        receiving email at a rate | receiving mail too quickly | receiving email too quickly | frequency limited
        unusual rate | daily limit | thread limit | server busy | too busy | server is busy | too much | sending limit
        daily user sending | deferred due to user complaints | unexpected volume | sending quota | exceeded the max
        too many
    """),
    (Cause.SPAM, """
        [spam] | spammy | [junk] | unsolicited | bulk mail | bayes | spamassassin | spam-like | [спам] | 垃圾邮件
        垃圾郵件 | 迷惑メール | 스팸
    """),
    (Cause.BLOCKED, """
        blacklist | black list | blocklist | block list | blocked using | [rbl] | [dnsbl] | spamhaus | spamcop
        barracuda | [blocked] | [banned] | reputation | client host rejected | reverse dns | [ptr]
        sender address rejected | sender rejected | sender denied | sender blocked | helo command rejected
        access denied | denylist | deny list | refused by * list | is listed in | are listed in | is listed at
        ip address * rejected | ip * blocked | your ip* is filtered | bounce attack | aup# | tosa@rx.t-online
    """),
    (Cause.MOVED, """
        has moved | have moved | has been moved | user not local | please try < | new address | address has changed
        address changed | changed to | no longer works | umgezogen | neue adresse
    """),
    (Cause.MAILBOX_DISABLED, """
        account * disabled | mailbox * disabled | user * disabled | address * disabled | recipient * disabled
        account * inactive | mailbox * inactive | user * inactive | inactive user | inactive account
        inactive mailbox | account * suspended | user * suspended | user suspended | account * deactivated
        mailbox * deactivated | account * locked | mailbox * locked | account expired | account has expired
        mailbox expired | account closed | account * closed | not active | not an active | been discontinued
        not accepting mail | not accepting messages | account is frozen | mailbox is frozen | [dormant]
        deaktiviert | gesperrt | désactiv | compte inactif | suspendid | deshabilitad | desactivad | desativad
        disattivat | geblokkeerd | zablokowan | заблокирован | 停用 | 冻结 | 禁用
        mailbox currently unavailable for
    """),
    (Cause.USER_UNKNOWN, """
        user unknown | unknown user | user not found | receiver not found | nicht * aufgeführt | user doesn't
        user does not | no such user | not a known user | unknown recipient | recipient unknown
        recipient not found | recipient address rejected | recipient rejected | recipient not recognized
        recipient does not | recipient name is not | no such recipient | invalid recipient | unknown mailbox
        mailbox unknown | mailbox not found | mailbox unavailable | mailbox does not | no such mailbox | no mailbox
        mailbox name not | mailbox invalid | invalid mailbox | mailbox doesn't | can't open mailbox
        unknown address | address unknown | address not found | address does not | address rejected
        no such address | invalid address | address invalid | bad address | bad destination mailbox
        illegal address | address wasn't found | unknown account | account unknown | account not found
        account that you tried to reach does not | no such account | account does not | no account
        unknown local part | unknown local-part | local part | unrouteable address | unroutable address
        unrouteable mail | undeliverable address | invalid user | bad user | not a valid user
        invalid final delivery userid | unknown alias | no such person | no such alias | no such name
        no one by that name | doesn't have a * account | does not have a * account | does not exist | doesn't exist
        no longer exist | not listed in | not our customer | couldn't be found | could not be found | wasn't found
        no users here | not in * directory | resolver.adr | recipnotfound | recipientnotfound | nameserver query
        does not like recipient | no longer available | no longer employed | no longer with | no longer at
        no longer valid | not a valid mailbox | not known here | not valid | no valid recipient | isn't a valid
        is not a valid | non-existent | nonexistent | unbekannt | existiert nicht | nicht gefunden | nicht bekannt
        ungültige * adresse | kein * postfach | n'existe pas | inconnu | non recens | invalide | no existe
        desconocid | inexistente | não existe | non esiste | sconosciut | inesistente | bestaat niet | onbekend
        ukendt | okänd | ukjent | 宛先 | ユーザ | 存在しません | 不存在 | 无此用户 | 無此使用者 | пользовател
        не существует | нет такого | nie istnieje | neexistuje | nicht ermittelt | adresse inexistante | introuvable
        no se encontró | no se ha encontrado | no encontrad | desconhecid | não encontrad
        não foi possível encontrar | não foi encontrad | niet is gevonden | nie znaleziono | inte hittades
        見つからない | indirizzo non valido | indirizzo * non è stato trovato | non trovato | niet gevonden
        niet worden gevonden | findes ikke | finnes ikke | finner ikke | ikke fundet | ikke funnet | finns inte
        hittades inte | inte att hitta | ei löydy | ei löytynyt | ei ole olemassa | ei ole * tiliä | nieznany
        nie ma takiego | brak takiego | brak konta | nie można odnaleźć | neznám* uživatel | nepodařilo najít
        nepodarilo nájsť | ismeretlen | nem létezik | nem található | necunoscut | nu există | nu a putut fi găsit
        bulunamadı | kullanıcı yok | адрес * не найден | получатель не найден | не знайдено
        не може да бъде намерен | не сте намер | δεν υπάρχει | δεν βρέθηκε | 見つかりません | 找不到 | 查无此
        존재하지 않 | 없는 사용자 | 찾을 수 없 | לא נמצא | تعذر العثور | không tìm thấy | ไม่พบ
    """),
    (Cause.HOST_UNKNOWN, """
        host unknown | unknown host | host not found | domain not found | host or domain name not found
        unknown domain | domain does not | domain name not | domain unknown | nxdomain | couldn't find any host
        can't find any host | couldn't find a * host | no mx | null mx | nullmx | mx record | no mail server
        no mail exchanger | name service error | name lookup | lookup failure | lookup fail | dns error | dns lookup
        dns fail | name server | no route to domain | bad destination host | bad destination system | cannot resolve
        unable to resolve | could not resolve | unable to look up | name or service not known | servname provided
        name resolution | no address associated | invalid host
        invalid domain | unresolvable | routing information | unrouteable mail domain | all relevant mx | domain of
        domain isn't
    """),
    (Cause.EXPIRED, """
        expired | in the queue too long | too long | retry timeout | retry time not | giving up | gave up | given up
        not be delivered for | cannot send message for | undelivered for | delivery time | within * hours
        zustellung wurde aufgegeben
        within * days | for * days | for * hours | time limit | exceeded maximum time | delivery timed out
    """),
    (Cause.HOST_UNREACHABLE, """
        timed out | timeout | time-out | time out | connection refused | connection reset | connection died
        connection lost | connection failed | connection dropped | connection was dropped | connection closed
        lost connection | closed the connection | connection to mail exchanger | connection attempt | socket error
        network error | no route to host | network unreachable | network is unreachable | not connect
        unable to connect | couldn't connect | unable to contact | unable to reach | cannot reach | couldn't reach
        establish * connection | [connect to] | host is unreachable | host unreachable | host is down | host down
        not responding | no answer | not respond | refused to talk | unable to open | remote host | no response
        unreachable | zeitüberschreitung | verbindung abgelehnt | antwortet nicht | nicht erreichbar
        délai * dépassé | connexion refusée | ne répond pas | tiempo de espera | conexión rechazada | no responde
        tempo limite | conexão recusada | connessione rifiutata | non risponde | tempo scaduto | не отвечает
        истекло время | 超时 | 逾時 | タイムアウト | 시간 초과
    """),
    (Cause.SECURITY, "[tls] | [ssl] | starttls | certificate | encrypt | [dane] | security policy"),
    (Cause.PROTOCOL, """
        syntax error | bad sequence | unrecognized command | command not | command unrecognized | protocol error
        bare lf | smtputf8 | line too long | unexpected response | pipelining | bad command | rfc violation
    """),
    (Cause.CONTENT, """
        content | attachment | header | [mime] | message rejected | message refused | prohibited | file type
        extension
    """),
    (Cause.POLICY, """
        policy | policies | not permitted | not allowed | not authori | not accept | permission | restrict | denied
        refused | rejected | reject | moderat | administrative | unauthori | not a member | verboten | refusé
    """),
    (Cause.SYSTEM, """
        local error | system error | server error | configuration error | configuration problem | internal error
        software error | temporary | temporarily | no space left | i/o error | can't create | cannot create
        cannot open | cannot append | disk | [pipe] | command died | [exec] | resources | service unavailable
        service not available | try again later | unavailable | mailer error | mail system
    """),
)  # fmt: skip
_WORDS = Tables([(cause, Phrases(table)) for cause, table in _TABLE])
_ASCII_WORDS = Tables([(cause, Phrases(_ascii(table))) for cause, table in _TABLE])
"""The phrases that can stand in text without letters of other alphabets: most diagnostics are English."""
_BY_STATUS = {
    "1.1": Cause.USER_UNKNOWN, "1.2": Cause.HOST_UNKNOWN, "1.3": Cause.USER_UNKNOWN, "1.4": Cause.USER_UNKNOWN,
    "1.6": Cause.MOVED, "1.7": Cause.POLICY, "1.8": Cause.POLICY, "1.10": Cause.HOST_UNKNOWN,
    "2.0": Cause.USER_UNKNOWN, "2.1": Cause.MAILBOX_DISABLED, "2.2": Cause.MAILBOX_FULL, "2.3": Cause.TOO_BIG,
    "2.4": Cause.USER_UNKNOWN, "3.0": Cause.SYSTEM, "3.1": Cause.SYSTEM, "3.2": Cause.SYSTEM, "3.4": Cause.TOO_BIG,
    "3.5": Cause.SYSTEM, "4.1": Cause.HOST_UNREACHABLE, "4.2": Cause.HOST_UNREACHABLE, "4.3": Cause.HOST_UNKNOWN,
    "4.4": Cause.HOST_UNKNOWN, "4.5": Cause.RATE_LIMITED, "4.6": Cause.LOOP, "4.7": Cause.EXPIRED,
    "5.0": Cause.PROTOCOL, "5.1": Cause.PROTOCOL, "5.2": Cause.PROTOCOL, "5.3": Cause.RATE_LIMITED,
    "6.0": Cause.CONTENT, "6.1": Cause.CONTENT, "6.7": Cause.PROTOCOL, "7.0": Cause.POLICY, "7.1": Cause.POLICY,
    "7.5": Cause.SECURITY, "7.8": Cause.AUTHENTICATION, "7.9": Cause.AUTHENTICATION, "7.20": Cause.AUTHENTICATION,
    "7.23": Cause.AUTHENTICATION, "7.24": Cause.AUTHENTICATION, "7.25": Cause.BLOCKED, "7.26": Cause.AUTHENTICATION,
    "7.27": Cause.POLICY, "7.509": Cause.AUTHENTICATION,
}  # fmt: skip
_SURE = frozenset(("1.2", "1.6", "2.2", "2.3", "3.4", "4.6", "4.7", "7.23", "7.26", "7.509"))
"""Details that servers use as RFC 3463 means them; the others are filled in by habit, so words come first."""
_BY_REPLY = {
    550: Cause.USER_UNKNOWN, 551: Cause.MOVED, 552: Cause.MAILBOX_FULL, 553: Cause.USER_UNKNOWN,
    521: Cause.HOST_UNKNOWN, 556: Cause.HOST_UNKNOWN,
}  # fmt: skip
_MOST_TEXT = 2000
_GENERIC = re.compile(r"(recipient address|sender address|client host|helo command) rejected: (?=\w)")
"""What Postfix puts before the words of any table, milter or policy server: it says at which command, not why."""
_OF_RECIPIENTS = frozenset((Cause.USER_UNKNOWN, Cause.HOST_UNKNOWN, Cause.MAILBOX_DISABLED, Cause.MOVED))


def of(text: str, status: str | None, reply_code: int | None) -> Cause:
    """Return the cause that a recipient's diagnostic, status and reply code tell."""
    detail = status.partition(".")[2] if status else ""
    if detail in _SURE:
        return _BY_STATUS[detail]
    words = plain(text[:_MOST_TEXT])
    return (
        _behind_prefix(words, detail)
        or _by_words(words)
        or _BY_STATUS.get(detail)
        or _BY_REPLY.get(reply_code or 0)
        or Cause.OTHER
    )


def _behind_prefix(words: str, detail: str) -> Cause | None:
    """Return what stands behind a generic prefix tells, if there is one; what is said of a sender is no recipient's."""
    prefix = _GENERIC.search(words)
    if not prefix:
        return None
    if prefix[1] == "recipient address":
        if not words[prefix.end() :].startswith("access denied"):
            words = words[: prefix.start()] + words[prefix.end() :]
        return _by_words(words) or _BY_STATUS.get(detail)
    cause = _by_words(words[: prefix.start()] + words[prefix.end() :])
    return None if cause in _OF_RECIPIENTS else cause


def _by_words(words: str) -> Cause | None:
    return (_ASCII_WORDS if words.isascii() else _WORDS).first_in(words)
