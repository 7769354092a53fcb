"""How servers without a machine-readable report speak, in a few lines of data each: words, not code.

A bounce is told by its sender, its subject and its sentences; the original begins at one of COPY_BEGINS; a recipient
stands in one of the NAMED places, or alone at the beginning of a line.
"""

from __future__ import annotations

import re


def _any(*patterns: str, flags: re.RegexFlag = re.IGNORECASE | re.MULTILINE) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), flags)


DAEMON = _any(
    r"mailer[-_. ]?daemon|mail[-_. ]?daemon|^<>$|^$|mmdf|uucp\b|mdaemon@",
    r"post-?(?:master|office)|mail (?:delivery|deliver|system|administrator)|mail\.delivery\.system|delivery (?:sub)?system",
    r"\b(?:imss|interscan|symantec_antivirus|mailmarshal|surfcontrol|mimesweeper|system administrator|administrateur syst|systemadministrator)\b",
    r"undeliverable|mail-?gateway|bounce@|mailadmin|mail administrator|no-?reply-bounces|microsoft outlook",
)
"""The From of automata that report deliveries."""

SUBJECT = _any(
    r"deliver[iy]?\w* (?:status|failure|failed|problem|error|report|has failed|notification|warning|not possible|incomplete|unsuccessful|delay)",
    r"(?:fail(?:ed|ure)|undeliver\w*|unable to deliver|undelivered|non-?deliver\w*|nondeliverable|not delivered|undeliverable)\b",
    r"return(?:ed|ing)? (?:mail|message|e-?mail|to sender)|message not delivered|could ?n[o']t be delivered|could not send|failure notice|mail (?:system )?error",
    r"delivery has (?:been )?(?:failed|delayed)|delayed mail|mail delivery|warning: (?:message|could not)|processing error|\bbounced?\b|permanent (?:delivery )?(?:failure|error)",
    r"error (?:sending|delivering)|still being retried|message (?:you sent )?(?:blocked|rejected|status)|rejected (?:mail|message)|nondelivery|user unknown|not been delivered",
    r"unzustellbar|nicht zugestellt|zustellung (?:fehlgeschlagen|verz)|zustellbenachrichtigung|zur(?:ü|ue)ckgesandt|fehlgeschlagen|unzustellbarkeit",
    r"non remis|non d[eé]livr|[eé]chec|impossible de remettre|retour[^\n]{0,20}exp[eé]diteur|non distribu",
    r"no (?:se )?(?:ha )?(?:podido|pudo|puede) (?:ser )?entreg|devuelto|no entregad|error de entrega|entrega fallida|fallo en la entrega|n[aã]o (?:foi )?entreg|falha na entrega|devolvid",
    r"mancata consegna|non recapitabil|impossibile (?:recapitare|consegnare)|messaggio non|onbestelbaar|kan niet worden (?:be|af)geleverd|niet bezorgd",
    r"退信|退回|投递失败|无法投递|傳送失敗|传输失败|配信(?:不能|エラー|できません)|配送|送信(?:できません|エラー)|エラー(?:通知|メール)|не доставлен|недоставлен|ошибка доставки|niedostarcz|nie dostarczon|nedoru|kézbesít|ej levererat|kunne ikke leveres|iletilemedi",
)
"""What bounces are called."""

SENTENCE = _any(
    r"(?:could|can|was|were|has|have|is|are|did)(?: ?not|n'?t)(?: yet)?(?: be| been)? (?:successfully )?(?:deliver|sent|send|relayed|reach|process|transmitted)\w*",
    r"(?:undeliver(?:ed|able)|delivery (?:to|of|has|failed|failure|attempts|error|problem|notification|failed)|unable to (?:deliver|send|relay|process|transmit)|fail(?:ed|ure) (?:to|addresses|recipients)|failed recipient)",
    r"permanent(?:ly)? (?:fatal )?(?:error|failure|failed)|transcript of session|returned (?:mail|message|to)|not deliver(?:ed|able)|(?:was|is|been|being) (?:returned|rejected|refused|bounced|delayed|blocked)",
    r"user unknown|unknown user|no such (?:user|recipient|mailbox|person)|mailbox (?:is )?(?:full|unavailable|not found|disabled)|recipient (?:unknown|rejected|not found)|exceeds? (?:allowed|the|its)|invalid (?:final delivery|recipient|address)|address(?:es)? (?:had|have|has|failed|rejected|below)",
    r"does not exist|did not exactly match|not (?:recognized|known|listed) (?:here|at|by|in)|failure reason|trouble delivering|have a problem|delivery errors|rejected recipient|(?:over|exceeded)[^\n]{0,20}quota|no matches|has been postponed|couldn'?t be delivered|deferred:",
    r"konnte[^\n]{0,60}nicht[^\n]{0,30}(?:zugestellt|zustellen|versendet|gesendet|übermittelt)|nicht zugestellt|unzustellbar|zustellung[^\n]{0,40}(?:fehlgeschlagen|nicht möglich)",
    r"n['’]a pas pu|n['’]ont pas pu|pas [eé]t[eé] (?:remis|d[eé]livr|distribu)|impossible de|n'existe pas|destinataires? (?:inconnu|suivants?)|[eé]chec de",
    r"no (?:se )?(?:ha |han )?(?:podido|pudo|puede|pudieron)|no (?:fue|ha sido) (?:posible )?(?:entreg|posible)|n[aã]o (?:p[oô]de|foi poss[ií]vel|foi entregue)|non (?:è stato|e' stato)|impossibile|kon niet|niet worden",
    r"送信できません|配信できません|届けられません|送信に失敗|配達できません|届きません|発信できません|エラー|該当|无法|失败|無法|失敗|退信|не (?:может быть|был[ао]?|удалось) ?(?:доставлен)?|не доставлен|niemożliw|nie (?:można|został)|nebyl|nem (?:sikerült|lehet)",
)
"""Sentences of failure and delay."""

DELAYED = _any(
    r"\bdelayed\b|\bdelay(?:ed)? (?:mail|notification|reason)|\(delay\)|warning message only|this is a warning only|still being retried|will (?:be retried|continue to be|keep trying|retry|continue to try)|delivery attempts will (?:continue|be)",
    r"has not yet been delivered|not been delivered (?:yet|for|after)|temporar(?:y|ily) (?:failure|problem|unable|delayed|error)|no action is required on your part|not yet (?:been )?deliver|has been postponed|do not need to (?:re-?send|do)|please do not resend|continue to try to deliver|still undelivered",
    r"verzögert|verspätet|wird weiterhin versucht|noch nicht zugestellt|retard[eé]|retraso|in ritardo|vertraagd|遅延|再送|задерж",
)
GAVE_UP = _any(
    r"permanent(?:ly)? (?:fatal )?(?:error|failure|failed)|giving up|gave up|given up|i'?ve given up|not going to try again|(?:will|has) be(?:en)? (?:returned|deleted from queue)|no further (?:delivery )?attempts|too long|could not be delivered for|cannot send message for|failed permanently|\(failure\)|returning message to sender|retry time(?:out)? (?:not reached|exceeded)",
)
"""What makes a delay final."""

COPY_BEGINS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"^[ \t*=_>#-]{0,80}(?:below (?:this line|is a copy)|(?:here|this) is (?:a|the) copy|this is a copy|enclosed is a copy|included is a copy|a copy of the (?:original|message)|the following is a copy)[^\n]{0,100}$",
        r"^[ \t*=_>#-]{0,80}(?:the )?(?:header of the )?(?:original|unsent|undelivered|returned|rejected|failed|your) (?:message|mail|e-?mail)(?: header| text| content| details| body| as received)*(?: is)?(?: included| attached| follows?| following| below| as follows| returned)*[ \t.:*=_>#<-]{0,80}$",
        r"^[ \t*=_>#-]{0,80}(?:unsent|returned|original|undelivered|returned) message (?:follows|below|is attached|headers?)[^\n]{0,60}$",
        r"^[ \t*=_>#-]{0,80}(?:message header|header of|original (?:message )?headers?|message headers follow|the first \d+ lines|copy of (?:your|the) message|start of (?:the )?(?:returned|original))[^\n]{0,80}$",
        r"^[ \t*=_>#-]{3,80}(?:original[- ]?nachricht|ursprüngliche nachricht|es folgt|message d'origine|message original|mensaje original|messaggio originale|origineel bericht|原件|以下|元のメッセージ|原(?:邮件|郵件))[^\n]{0,80}$",
        r"^(?:der header der ursprünglichen|le message original|il messaggio originale|el mensaje original|aquí está|这里是|送信されたメール|返送|以下是|下面是)[^\n]{0,80}$",
        r"^[> \t]{0,4}(?:Return-Path|Received|DKIM-Signature|DomainKey-Signature|Message-ID|X-Originating-IP|MIME-Version|X-YMail-OSG)[ \t]?:[ \t]*(?!.*(?:recipient|address)\b)[^\n]*\n",
    )
)
"""Where the copy of the original begins in a notice."""

NAMED = _any(
    r"(?:rcpt to|recipients?|addressee|destinatarios?|destinataires?|empfänger(?:adresse)?|final recipient|failed address|mailbox|account|userid|to address|recipient address|email address|e-mail-adresse|mail address)[ \t]{0,3}(?:is|was|are|were)?[ \t]{0,3}[:=]?[ \t]{0,3}[<\"'\[(]?([^\s<>\"'()\[\]]{1,128}@[^\s<>\"'()\[\],;:]{1,255})",
    r"(?:deliver(?:y|ed)?|send|relay|message|mail|sent) (?:this |your |the )?(?:message |mail |e-?mail )?(?:to|for|an|à|a|para)[ \t]{0,3}:?[ \t]{0,3}(?:the (?:user|recipient|address|following (?:address|recipient)s?)[ \t:]{0,4})?[<\"'\[(]?([^\s<>\"'()\[\]]{1,128}@[^\s<>\"'()\[\],;:]{1,255})",
    r"^[ \t]*to[ \t]*:[ \t]*<?([^\s<>\"'()\[\],;]{1,128}@[^\s<>\"'()\[\],;:]{1,255})",
    r"(?:unknown|invalid|full|size|quota|exist|reach|rejected|illegal|disabled|blocked|unavailable)[^\n@]{0,40}[:<\"' \t]([^\s<>\"'()\[\]]{1,128}@[^\s<>\"'()\[\],;:]{1,255})",
)
"""Where a sentence names the recipient; the address is the only group that matched."""

NOT_A_RECIPIENT = _any(
    r"(?:^|\W)(?:from|sender|reply-to|reporting-mta|received|contact|report|mail from|envelope-from|message-?id|in-reply-to|return-path|absender|expéditeur|remitente|mittente|cc|subject|betreff|x-[\w-]{1,30}|host|helo|ehlo|arrived|client|id|by|queue)[ \t]{0,3}(?:is|:|=|<|address|email)?[ \t:=]{0,3}[\"'<\[(]?$",
    r"(?:please|to|or|and)[ \t]+(?:contact|email|e-mail|mail|write|forward|notify|call|ask|visit|send|reach|try)[^@\n]{0,60}$|https?://[^\s]{0,200}$|mailto:$|generated from[ \t<]{0,3}$|expanded from:?[ \t<]{0,3}$|(?:alternate|alternative|new|instead|help|assistance|questions?|problem|support|administrator|postmaster)[^\n@]{0,60}$",
)
"""Words right before an address that is no recipient: it is searched in the line up to the address."""

ALIAS_OF = _any(
    r"(?:generated from|expanded from|originally addressed to|ultimately generated from|forwarded from):?[ \t]*<?([^\s<>()]{1,128}@[^\s<>()]{1,255})>?"
)
"""The address we sent to, where the notice speaks of another."""
