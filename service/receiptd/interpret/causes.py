"""Why a delivery failed or waits: one readable table of words, then the status, then the reply code."""

from __future__ import annotations

import re

from receiptd.facts import Cause

_WORDS: tuple[tuple[Cause, str], ...] = (
    # The first line that fits wins: the specific stands before the general.
    (Cause.AUTHENTICATION, r"\bdmarc\b|\bdkim\b|\bspf\b|sender policy framework|unauthenticated (?:email|mail|sender)|authentication (?:required|failed|checks)|5\.7\.2[3-7]\b|smtp auth"),
    (Cause.VIRUS, r"\bvirus|\bmalware|\binfected|\btrojan|\bphish|viren"),
    (Cause.MAILBOX_FULL, r"(?:mailbox|quota|maildir|inbox|account|storage|disk|postfach|bo[iî]te|buz[oó]n|casella)[^.\n]{0,40}(?:full|exceed|over|quota|limit|voll|pleine|lleno|piena|satur)|over ?quota|out of (?:storage|quota|disk) ?(?:space)?|exceed\w*[^.\n]{0,30}quota|quota[^.\n]{0,30}exceed|has (?:run )?out of space|not enough (?:storage|disk|space)|insufficient (?:disk|storage|quota|system storage)|(?:speicherplatz|kontingent)[^.\n]{0,30}|mailbox is full|mailfolder is full|容量|bo[iî]te pleine|user is over"),
    (Cause.TOO_BIG, r"(?:message|mail|size|attachment|nachricht)[^.\n]{0,40}(?:too (?:big|large)|exceeds?[^.\n]{0,30}(?:size|limit|maximum|length)|zu gro(?:ß|ss))|size limit|too large|exceeds? (?:the )?(?:fixed )?maximum (?:message )?size|max(?:imum)? message size"),
    (Cause.LOOP, r"\bloop|too many hops|hop count|mail forwarding loop|too many received"),
    (Cause.RELAY_DENIED, r"relay(?:ing)?[^.\n]{0,20}(?:denied|not (?:permitted|allowed)|prohibited|disallowed)|(?:not|never) (?:permitted |allowed )?(?:to )?relay|unable to relay|cannot relay|we do not relay|rcpthosts|relaying"),
    (Cause.RATE_LIMITED, r"rate limit|ratelimit|throttl|too many (?:messages|connections|recipients|concurrent|mails|invalid|errors|emails)|receiving mail (?:at a rate|too quickly)|greylist|grey ?list|graylist|try again later, greylisted|sending limit|daily (?:user )?sending|deferred due to (?:user complaints|unexpected volume)|quota for sending"),
    (Cause.SPAM, r"\bspam\b|\bspammy|\bjunk\b|unsolicited|\bbulk mail|bayes|spamassassin|considered (?:as )?spam"),
    (Cause.BLOCKED, r"black ?list|block(?:ed|ing)? ?list|\brbl\b|\bdnsbl|spamhaus|spamcop|barracuda|\bblocked\b|\bbanned\b|poor reputation|bad reputation|low reputation|reputation|ip (?:address )?.{0,40}(?:blocked|rejected|refused)|client host rejected|reverse dns|\bptr\b|sender address (?:rejected|blocked)|sender (?:denied|rejected)|helo command rejected|access denied"),
    (Cause.MOVED, r"has (?:been )?moved|user not local|please try <|new (?:e-?mail )?address|address (?:has )?changed|no longer (?:at|works|with)|umgezogen|\b551\b"),
    (Cause.MAILBOX_DISABLED, r"(?:account|mailbox|user|recipient|address|konto|compte|cuenta)[^.\n]{0,50}(?:disabled|inactive|suspended|deactivated|locked|expired|not active|blocked|closed|deaktiviert|gesperrt|d[eé]sactiv|inactif|not accepting|discontinued)|mailbox (?:is )?(?:currently )?unavailable for|not an active|inactive (?:user|account|recipient)|account (?:is|has been) "),
    (Cause.USER_UNKNOWN, r"(?:user|recipient|mailbox|address|account|alias|userid|addressee|name|person|member|customer|empf[aä]nger|benutzer|postfach|adresse|destinataire|utilisateur|usuario|destinatario|utente|account|mail address)[^.\n]{0,50}(?:unknown|not? (?:be )?(?:found|exist|known|valid|listed|recogni[sz]ed|a valid|local|here|such|available)|doesn'?t exist|does not exist|doesn't have|n['’ ]?existe|inconnu|desconocid|no existe|sconosciut|non esiste|unbekannt|existiert nicht|nicht gefunden|nicht bekannt|invalid|undeliverable|not our customer|isn't|no longer)|(?:unknown|invalid|no such|nonexist\w*|non-exist\w*|bad|unrouteable|unroutable|undeliverable|unable to find|incorrect|illegal)[^.\n]{0,25}(?:user|recipient|mailbox|address|account|alias|local part|name|person|destination|addressee|domain mailbox)|no mailbox|no (?:such )?(?:account|person|one|recipient)|doesn't have a? ?(?:\S+ )?account|can'?t (?:find|open) mailbox|wasn['’]t found|couldn['’]t be found|user doesn|no users? (?:here|by that name)|resolver\.adr\.\w*notf|recipientnotfound|does not exist|address rejected|not a known user|sorry, no mailbox|utilisateur non recens|宛先|ユーザ|пользовател|не существует|существует|不存在|nameserver query"),
    (Cause.HOST_UNKNOWN, r"host (?:unknown|not found)|unknown host|domain (?:not found|name not found|unknown|does not exist)|unknown domain|(?:name|dns|mx|host)[^.\n]{0,40}(?:lookup|resolution|resolve|not found|record|loop)[^.\n]{0,30}(?:fail|error|not found|no |found|problem)?|nxdomain|couldn'?t find any host|can'?t find (?:any )?host|no mx|no mail (?:hosts|server|exchanger)|bad destination (?:host|mailbox|system)|unrouteable mail domain|null ?mx|domain of|invalid (?:host|domain)|cannot resolve|unable to resolve|not resolve|routing (?:information|error)|no route to domain|host or domain name"),
    (Cause.EXPIRED, r"expired|too long|retry timeout|retry time|(?:delivery|message|mail)[^.\n]{0,20}time(?:d)? ?out|could not (?:be )?deliver(?:ed)? for|giving up|giving up on|exceeded maximum|gave up|(?:within|for) (?:the )?\d+ (?:day|hour)|time limit|undelivered after|wartezeit"),
    (Cause.HOST_UNREACHABLE, r"connection (?:timed out|refused|reset|died|lost|failed|was dropped|dropped|closed|unexpectedly)|timed out|timeout|no route to host|network (?:is )?unreachable|(?:could|can)(?:n't| ?not) (?:connect|contact|establish|reach)|unable to (?:connect|contact|reach|establish)|connect to|lost connection|host (?:is )?(?:unreachable|down|not responding)|not respond|no answer|refused to talk|unable to open|connection to"),
    (Cause.SECURITY, r"\btls\b|\bssl\b|starttls|certificate|encrypt|\bdane\b|security (?:policy|violation)"),
    (Cause.PROTOCOL, r"syntax error|bad sequence|command (?:not|unrecogni)|protocol error|unrecogni[sz]ed command|bare lf|smtputf8|line too long|unexpected response|pipelining|violat"),
    (Cause.CONTENT, r"content (?:rejected|filter|not|denied|is)|attachment|message (?:content|refused|rejected due to|header)|header|\bmime\b|body|prohibited|file ?type|extension|message rejected|virus"),
    (Cause.POLICY, r"polic(?:y|ies)|not (?:permitted|allowed|authori[sz]ed|accepted|accept)|permission|restrict|prohibit|denied|refused|rejected|reject|moderat|administrative|not have permission|rules|unauthori[sz]ed"),
    (Cause.SYSTEM, r"(?:local|system|server|configuration|internal|software|mail system|temporary) (?:error|failure|problem|issue)|no space left|i/o error|can'?t create|cannot (?:create|open|append|write)|disk|pipe|command died|exec|resources|service (?:not|un)available|try again later|temporar|unavailable|delivery failed"),
)  # fmt: skip
_TABLE = tuple((cause, re.compile(words, re.IGNORECASE)) for cause, words in _WORDS)
_BY_STATUS = {
    "1.1": Cause.USER_UNKNOWN, "1.2": Cause.HOST_UNKNOWN, "1.3": Cause.USER_UNKNOWN, "1.4": Cause.USER_UNKNOWN,
    "1.6": Cause.MOVED, "1.7": Cause.POLICY, "1.8": Cause.POLICY, "1.10": Cause.HOST_UNKNOWN,
    "2.0": Cause.USER_UNKNOWN, "2.1": Cause.MAILBOX_DISABLED, "2.2": Cause.MAILBOX_FULL, "2.3": Cause.TOO_BIG, "2.4": Cause.USER_UNKNOWN,
    "3.0": Cause.SYSTEM, "3.1": Cause.SYSTEM, "3.2": Cause.SYSTEM, "3.4": Cause.TOO_BIG, "3.5": Cause.SYSTEM,
    "4.1": Cause.HOST_UNREACHABLE, "4.2": Cause.HOST_UNREACHABLE, "4.3": Cause.HOST_UNKNOWN, "4.4": Cause.HOST_UNKNOWN,
    "4.5": Cause.RATE_LIMITED, "4.6": Cause.LOOP, "4.7": Cause.EXPIRED,
    "5.0": Cause.PROTOCOL, "5.1": Cause.PROTOCOL, "5.2": Cause.PROTOCOL, "5.3": Cause.RATE_LIMITED,
    "6.0": Cause.CONTENT, "6.1": Cause.CONTENT, "6.7": Cause.PROTOCOL,
    "7.0": Cause.POLICY, "7.1": Cause.POLICY, "7.5": Cause.SECURITY, "7.8": Cause.AUTHENTICATION, "7.9": Cause.AUTHENTICATION,
    "7.20": Cause.AUTHENTICATION, "7.23": Cause.AUTHENTICATION, "7.24": Cause.AUTHENTICATION, "7.25": Cause.BLOCKED,
    "7.26": Cause.AUTHENTICATION, "7.27": Cause.POLICY, "7.509": Cause.AUTHENTICATION,
}  # fmt: skip
_SURE = {"1.1", "1.2", "1.6", "1.10", "2.1", "2.2", "2.3", "3.4", "4.6", "4.7", "7.23", "7.26", "7.509"}
"""Details that servers use as RFC 3463 means them; the others are filled in by habit, so words come first."""
_BY_REPLY = {
    550: Cause.USER_UNKNOWN,
    551: Cause.MOVED,
    552: Cause.MAILBOX_FULL,
    553: Cause.USER_UNKNOWN,
    521: Cause.HOST_UNKNOWN,
    556: Cause.HOST_UNKNOWN,
}
_MOST_TEXT = 4000


def of(text: str, status: str | None, reply_code: int | None) -> Cause:
    """Return the cause that a recipient's diagnostic, status and reply code tell."""
    detail = status.partition(".")[2] if status else ""
    if detail in _SURE and not (detail == "1.1" and text):
        return _BY_STATUS[detail]
    text = text[:_MOST_TEXT]
    for cause, words in _TABLE:
        if words.search(text):
            return cause
    return _BY_STATUS.get(detail) or _BY_REPLY.get(reply_code or 0) or Cause.OTHER
