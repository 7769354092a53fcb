"""How automata answer: out of office, challenges, dates of return, in a few lines of data each."""

from __future__ import annotations

import re

from receiptd.interpret.phrases import Phrases

AWAY_BEGINS = (
    "automatic reply", "automatic response", "automated reply", "automated response", "auto reply", "auto-reply",
    "autoreply", "auto response", "auto-response", "autoresponse", "auto:", "[auto-reply", "[autoreply",
    "[auto reply", "out of office", "out of the office", "out-of-office", "ooo:", "away from", "on vacation",
    "vacation", "holiday reply", "i am away", "i'm away", "i am out of", "i am currently out", "currently out of",
    "abwesenheit", "abwesend", "automatische antwort", "automatische rückantwort", "automatische rueckantwort",
    "ich bin nicht im", "ich bin im urlaub", "ich bin außer", "im urlaub", "urlaub", "nicht im büro",
    "nicht im haus", "außer haus", "autom. antwort", "réponse automatique", "reponse automatique",
    "absence du bureau", "absent du bureau", "absent", "en congé", "message d'absence", "notification d'absence",
    "respuesta automática", "respuesta automatica", "fuera de la oficina", "fuera de oficina", "estoy fuera",
    "resposta automática", "resposta automatica", "fora do escritório", "ausência", "risposta automatica",
    "fuori sede", "fuori ufficio", "assente", "assenza", "automatisch antwoord", "automatisch bericht", "afwezig",
    "afwezigheid", "autosvar", "automatiskt svar", "automatisk svar", "frånvaro", "fravær", "ikke til stede",
    "automaattinen vastaus", "poissa", "automatická odpov", "automatyczna odpowied", "odpowiedź automatyczna",
    "nieobecno", "automatikus válasz", "răspuns automat", "otomatik yanıt", "автоответ", "автоматический ответ",
    "αυτόματη απάντηση", "自動返信", "自動応答", "不在", "自动回复", "自动答复", "自動回覆", "外出", "자동 회신",
    "부재중",
)  # fmt: skip
"""How subjects of answering machines begin, a `Re:` before them left out."""

AWAY = Phrases("""
    out of office | out of the office | auto reply | auto-reply | autoreply | auto response | auto-response
    autoresponse | automatic reply | automatic response | abwesenheit | automatische antwort | vacation
    réponse automatique | respuesta automática | risposta automatica | [ooo]
""")
"""Words anywhere in the subject that count where an automaton says that it is one."""

CHALLENGE = Phrases("""
    confirm your message | confirm your email | confirm your e-mail | confirm that you | confirm delivery of
    confirm you sent | please confirm | requires your confirmation | requires confirmation
    requires your verification | requires verification | challenge-response | challenge response | verify that you
    verify you are | verify your message | verify your e-mail | verify your email | verify your identity
    prove that you are | prove you are | not a spammer | [boxbe] | spamarrest | spam arrest | boxtrapper | [tmda]
    knowspam | sender verification | awaiting your verification | awaiting verification | bestätigen sie
    being held until | held until you | held pending | mailblocks | whitelist request | approved senders
    confirmer votre envoi | confirme su mensaje | antispam * confirm
""")
"""Requests to prove that the sender is a person."""

_MONTH = r"[^\W\d_]{3,10}\.?"
_DATE = (
    r"(\d{4}-\d{2}-\d{2}|\d{1,2}\. ?\d{1,2}\. ?\d{2,4}|\d{1,2}[/-]\d{1,2}[/-]\d{2,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.|er)? (?:of |de )?{_MONTH},? (?:de )?\d{{4}}"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
_WEEKDAY = r"(?:[^\W\d_]{2,13}\.?,? (?:den |dem |the |le |el )?)?"
RETURN = re.compile(
    r"(?:until|till|through|back on|back in the office on|back at work on|back"
    r"|return(?:ing|s)?(?: to (?:the office|work))? on|return(?: date)?:|returning|return|bis zum"
    r"|bis einschließlich|bis|ab dem|wieder (?:ab|am)(?: dem)?|zurück (?:am|ab)(?: dem)?"
    r"|jusqu'au|de retour le|retour le|hasta el|de vuelta el|regreso el|fino al|rientro il|tot en met|tot|t/m|até)"
    rf" (?:the |dem |den |le |el |il )?{_WEEKDAY}{_DATE}",
    re.IGNORECASE,
)
"""Where a text states until when somebody is away, or from when they are back."""

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan ene gen", "feb fév fev", "mar mär mrz maa", "apr avr abr", "may mai mag mei", "jun jui giu", "jul lug",
            "aug aoû aou ago", "sep set", "oct okt ott out", "nov", "dec dez déc dic",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
"""The first three letters of the months in seven languages; juin and juillet differ in the fourth."""
