"""A bounce without machine part -> what its text says of each recipient, as far as it says it."""

from __future__ import annotations

import re

from receiptd.facts import Action, ReportedRecipient
from receiptd.interpret import addresses, causes, codes, dialects, envelope, notice
from receiptd.interpret.fields import Fields
from receiptd.interpret.notice import Notice
from receiptd.interpret.returned import Returned

_MOST_RECIPIENTS = 200
_ALONE = re.compile(
    r"^[\s>*•·\-–\d.)#|]{0,20}(?:(?:to|recipient|rcpt to|address|user|email)[ \t]{0,4}:[ \t]{0,4})?[<\"'\[(]{0,3}(?=[^\s<>\"'()\[\]]{1,128}@)",
    re.IGNORECASE,
)
_OWN_POST = (
    "mailer-daemon@",
    "postmaster@",
    "mail-daemon@",
    "abuse@",
    "hostmaster@",
    "webmaster@",
    "support@",
    "helpdesk@",
    "noc@",
)


def is_bounce(header: Fields, said: Notice) -> bool:
    """Whether this is a report of a failed or delayed delivery: by its sender, its subject and its sentences, two of three."""
    if "x-failed-recipients" in header:
        return True
    sentence = bool(dialects.SENTENCE.search(said.text[:_LONGEST_LOOK]))
    daemon = _is_from_daemon(header)
    subject = bool(dialects.SUBJECT.search(envelope.subject(header)[:300]))
    return (daemon and (sentence or subject)) or (subject and sentence and not _is_conversation(header))


_LONGEST_LOOK = 16 * 1024


def _is_from_daemon(header: Fields) -> bool:
    if envelope.return_path(header) == "":
        return True
    return bool(dialects.DAEMON.search((header.first("from") or "")[:500]))


def _is_conversation(header: Fields) -> bool:
    """People quote bounces; lists, replies and newsletters are no reports of ours."""
    return (
        any(name in header for name in ("in-reply-to", "list-id", "list-unsubscribe", "list-post", "newsgroups"))
        or "references" in header
    )


def recipients(header: Fields, said: Notice, original: Returned) -> tuple[ReportedRecipient, ...]:
    """Return what the bounce says of each recipient that it names; without one, of the original's only recipient."""
    named = _named(header, said, original)[:_MOST_RECIPIENTS]
    everything = f"{envelope.subject(header)}\n{said.text}"
    if not named:
        return (_told(None, everything, everything, everything),) if codes.statuses(said.text) else ()
    told = []
    for address in named:
        about = notice.about(said, address, tuple(named)) if len(named) > 1 else said.text
        told.append(_told(address, about or said.text, notice.about(said, address, tuple(named)), everything))
    return tuple(told)


def _told(address: str | None, about: str, near: str, everything: str) -> ReportedRecipient:
    line = notice.unfolded(about)
    action = _action(everything)
    found_codes = codes.reply_codes(notice.unfolded(near)) or codes.reply_codes(about) or codes.reply_codes(line)
    statuses = codes.statuses(notice.unfolded(near)) or codes.statuses(line)
    reply_code = next((code for code in found_codes if code >= 400), None)
    status = next((code for code in statuses if code[0] in "45"), None)
    if status is None:
        status = "4.0.0" if action is Action.DELAYED else "5.0.0"
    origin = dialects.ALIAS_OF.search(near)
    return ReportedRecipient(
        action=action,
        status=status,
        reply_code=reply_code,
        final_recipient=address,
        original_recipient=addresses.first(origin[1]) if origin else None,
        cause=causes.of(notice.unfolded(near) or line, status, reply_code),
    )


def _action(everything: str) -> Action:
    if dialects.DELAYED.search(everything) and not dialects.GAVE_UP.search(everything):
        return Action.DELAYED
    return Action.FAILED


def _named(header: Fields, said: Notice, original: Returned) -> list[str]:
    listed = [address for value in header.all("x-failed-recipients") for address in addresses.find(value)]
    if listed:
        return list(dict.fromkeys(listed))
    strangers = _not_recipients(header, original)
    for find in (_alone, _in_sentences, _anywhere):
        if found := _without(find(said), strangers):
            return found
    return _without(original.recipients, frozenset()) if len(set(original.recipients)) == 1 else []


def _not_recipients(header: Fields, original: Returned) -> frozenset[str]:
    """The reader of the bounce, its writer and the sender of the original."""
    own = (*envelope.recipients(header), addresses.first(header.first("from")), original.sender)
    return frozenset(address.lower() for address in own if address)


def _without(found: list[str], strangers: frozenset[str]) -> list[str]:
    unique = {address.lower(): address for address in reversed(found)}
    kept = [address for address in dict.fromkeys(found) if unique[address.lower()] == address]
    likely = [address for address in kept if address.lower() not in strangers]
    return [address for address in likely if not address.lower().startswith(_OWN_POST)] or likely


def _alone(said: Notice) -> list[str]:
    """Addresses that begin a line: the list that most servers make."""
    return [address for line in said.lines if "@" in line and _ALONE.match(line) and (address := addresses.first(line))]


def _in_sentences(said: Notice) -> list[str]:
    return [
        address
        for found in dialects.NAMED.finditer(said.text)
        if (address := addresses.first(next(filter(None, found.groups()), "")))
    ]


def _anywhere(said: Notice) -> list[str]:
    found = []
    for line in said.lines:
        for match in addresses.ADDRESS.finditer(line):
            if not dialects.NOT_A_RECIPIENT.search(line[max(0, match.start() - 100) : match.start()]):
                found.append(addresses.first(match[0]))
    return [address for address in found if address]
