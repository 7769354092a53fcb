"""Italy's certified mail (PEC): a provider's receipt -> what it says of each recipient (DPR 68/2005, RFC 6109)."""

from __future__ import annotations

import html
import re

from receiptd.facts import Action, Cause, ReportedRecipient
from receiptd.interpret import addresses, causes, codes, human_part
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.mime import Part

FIELDS = frozenset(("x-ricevuta", "x-riferimento-message-id"))
REFERENCE = "x-riferimento-message-id"
_ACTIONS = {
    "presa-in-carico": Action.RELAYED,
    "avvenuta-consegna": Action.DELIVERED,
    "preavviso-errore-consegna": Action.DELAYED,
    "errore-consegna": Action.FAILED,
    "non-accettazione": Action.FAILED,
    "rilevazione-virus": Action.FAILED,
}
_ACCEPTANCE = "accettazione"
_FILE = "daticert.xml"
_LONGEST = 64 * 1024
_MOST_RECIPIENTS = 200
_ELEMENT = re.compile(r"<(consegna|ricezione|destinatari|mittente|errore-esteso)\b[^<>]{0,200}>([^<>]{1,2000})</\1>")
_ERROR = re.compile(r"<postacert\b[^<>]{0,300}\berrore=[\"']([a-z-]{1,30})[\"']")
_KIND = re.compile(r"<postacert\b[^<>]{0,300}?\btipo=[\"']([a-z-]{1,30})[\"']")
_CAUSES = {"no-dest": Cause.USER_UNKNOWN, "no-dominio": Cause.HOST_UNKNOWN, "virus": Cause.VIRUS}
_ADDRESSED = re.compile(r"(?:indirizzato|destinato|diretto) a:?(.{1,4000})", re.DOTALL)
_END_OF_LIST = re.compile(r"\n[ \t]*\n|\b(?:è|e') stat|\bnon \b")


def is_receipt(header: Fields) -> bool:
    """Whether a provider of certified mail says that this is a receipt."""
    return header.has_any(FIELDS)


def is_acceptance(root: Part) -> bool:
    """Whether the sender's own provider took the message: no more than the relay's reply has told."""
    return _kind(root) == _ACCEPTANCE


def original_message_id(header: Fields) -> str | None:
    """Return the Message-ID that the receipt is about, as it stands."""
    return header.first(REFERENCE)


def recipients(root: Part, said: HumanPart) -> tuple[ReportedRecipient, ...]:
    """Return what the receipt says of each recipient; nothing where it is of an unknown kind."""
    action = _ACTIONS.get(_kind(root))
    if not action:
        return ()
    data = _data(root)
    elements = [(name, html.unescape(value)) for name, value in _ELEMENT.findall(data)]
    named = _named(elements) or _in_text(said, {value.lower() for name, value in elements if name == "mittente"})
    told = [_told(action, address, data, elements, said) for address in named[:_MOST_RECIPIENTS]]
    return tuple(told) or (_told(action, None, data, elements, said),)


def _kind(root: Part) -> str:
    """Return which receipt this is, by its field, else by its machine part."""
    if stated := root.header.first("x-ricevuta"):
        return stated.strip().lower()
    found = _KIND.search(_data(root))
    return found[1] if found else ""


def _data(root: Part) -> str:
    """Return the receipt's machine part."""
    for part in root.below:
        if part.parameters.get("name", "").lower() == _FILE or part.type in ("application/xml", "text/xml"):
            return part.text(_LONGEST)
    return ""


def _named(elements: list[tuple[str, str]]) -> list[str]:
    for wanted in (("consegna",), ("ricezione",), ("destinatari",)):
        found = [address for name, value in elements if name in wanted and (address := addresses.first(value))]
        if found:
            return list(dict.fromkeys(found))
    return []


def _in_text(said: HumanPart, writers: set[str]) -> list[str]:
    """Return the addresses that follow `indirizzato a`."""
    found = _ADDRESSED.search(said.text)
    listed = _END_OF_LIST.split(found[1].lstrip(), maxsplit=1)[0] if found else ""
    return [address for address in addresses.find(listed) if address.lower() not in writers]


def _told(
    action: Action, address: str | None, data: str, elements: list[tuple[str, str]], said: HumanPart
) -> ReportedRecipient:
    if action not in (Action.FAILED, Action.DELAYED):
        return ReportedRecipient(action=action, final_recipient=address)
    detail = next((value for name, value in elements if name == "errore-esteso"), None)
    words = human_part.unfolded(detail or said.text)
    classes = "45" if action is Action.FAILED else "4"
    stated = next((code for code in codes.statuses(words) if code[0] in classes), None)
    error = _ERROR.search(data)
    status = stated or ("5.0.0" if action is Action.FAILED else "4.0.0")
    return ReportedRecipient(
        action=action,
        status=status,
        reply_code=next((code for code in codes.reply_codes(words) if code >= 400), None),
        final_recipient=address,
        diagnostic_code=human_part.unfolded(detail) if detail else None,
        cause=_CAUSES.get(error[1] if error else "") or causes.of(words, status, None),
    )
