"""A bounce without machine part -> what its text says of each recipient, as far as it says it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

from receiptd.facts import Action, Cause, ReportedRecipient
from receiptd.interpret import (
    addresses,
    causes,
    codes,
    diagnostic,
    human_part,
    mta_phrases,
    phrases,
    refusals,
    report_header,
)
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.mime import Part
from receiptd.interpret.returned import Returned

_MOST_RECIPIENTS = 200
_MARK = r"(?:[\s>*•·\-–.)#|=]|\+(?!\d)|\d{1,4}(?=[\s):|]|\.[\s)<])){0,20}"
_NAME = r"(?=[^\s<>\"'()\[\]][^\s<>\"()\[\]]{0,127}@)"
_ALONE = re.compile(rf"{_MARK}[<\"'\[(]{{0,3}}{_NAME}")
_LABELLED = re.compile(
    rf"{_MARK}(?:{mta_phrases.LABEL})(?:\(s\))?[ \t]{{0,8}}[:：][ \t]{{0,8}}[<\"'\[(]{{0,3}}{_NAME}",
    re.IGNORECASE,
)
_LIST = re.compile(r"[\s,;<>\"'()]*+")
_BARE_NAME = re.compile(r"[ \t]{1,20}<?([a-z][\w.-]{1,40})>?(?:[ \t]{2,20}\S[^\n]{0,100})?", re.IGNORECASE)
SERVERS_POST = ("mailer-daemon@", "postmaster@", "mail-daemon@")
_HELPERS_POST = ("abuse@", "hostmaster@", "webmaster@", "support@", "noc@")
_remembered = lru_cache(maxsize=16)
"""Of one message the same is asked again and again."""
_LONGEST_LIST = 200
_SIGHT = 100


def is_called_so(header: Fields) -> bool:
    """Whether the subject is one that bounces bear."""
    return is_name(subject_of(header))


@_remembered
def is_name(plain: str) -> bool:
    return mta_phrases.SUBJECT.are_in(plain) or (not plain.isascii() and mta_phrases.SUBJECT_ABROAD.are_in(plain))


def subject_of(header: Fields) -> str:
    """Return the subject as phrases are compared."""
    return report_header.plain_subject(header)


def is_forwarded(header: Fields) -> bool:
    """Whether a person forwards what is called like a bounce."""
    return subject_of(header).startswith(mta_phrases.FORWARDED) and is_called_so(header)


def is_carried_by_person(root: Part) -> bool:
    """Whether a person forwards the machine part of a report, and not the report."""
    return root.type != "multipart/report" and _is_passed_on(root.header)


def is_forwarded_by_person(header: Fields) -> bool:
    """Whether a person forwards a bounce: what they add and leave out is theirs."""
    return _is_passed_on(header) and is_called_so(header)


def _is_passed_on(header: Fields) -> bool:
    is_forward = subject_of(header).startswith(mta_phrases.FORWARDED)
    return is_forward and report_header.return_path(header) != "" and not is_from_daemon(header)


def is_from_daemon(header: Fields) -> bool:
    """Whether an automaton that reports deliveries signed."""
    return _is_daemon(sender_of(header))


@_remembered
def _is_daemon(sender: str) -> bool:
    return mta_phrases.DAEMON.are_in(sender)


def sender_of(header: Fields) -> str:
    return (header.first("from") or "")[:500].lower()


def recipients(header: Fields, said: HumanPart, original: Returned) -> tuple[ReportedRecipient, ...]:
    """Return what the bounce says of each recipient it names; without one, of the original's only recipient."""
    named = _named(header, said, original)[:_MOST_RECIPIENTS]
    action = _action(subject_of(header), said.plain)
    if not named:
        return (_told(None, action, "", said.text),) if codes.statuses(said.plain) else ()
    about = human_part.about(said, named)
    whole = said.text if len(named) == 1 else ""
    return tuple(_told(address, action, about[address.lower()], whole) for address in named)


def _told(address: str | None, action: Action, near: str, whole: str) -> ReportedRecipient:
    """Put together what stands near the address and, where it is the only one, in the *whole* notice."""
    status, reply_code = _codes(near) or _codes(whole) or (None, None)
    words = human_part.unfolded(near) or human_part.unfolded(whole)
    cause = causes.of(words, status, reply_code)
    if cause is Cause.OTHER and whole:
        cause = causes.of(human_part.unfolded(whole), status, reply_code)
    origin = mta_phrases.ALIAS_OF.search(near)
    return ReportedRecipient(
        action=action,
        status=status or _class(action, reply_code, cause),
        reply_code=reply_code,
        final_recipient=address,
        original_recipient=addresses.first(origin[1]) if origin else None,
        diagnostic_code=diagnostic.words(near, address, cause) or diagnostic.words(whole, address, cause),
        cause=cause,
    )


def _codes(text: str) -> tuple[str | None, int | None] | None:
    line = human_part.unfolded(text)
    status = next((code for code in codes.statuses(line) if code[0] in "45"), None)
    found: list[int] = []
    for said in (line, text):
        found += [code for code in codes.reply_codes(said) if code >= 400]
        if agreeing := [code for code in found if not status or str(code)[0] == status[0]]:
            return status, agreeing[0]
    return (status, found[0] if found else None) if status or found else None


def _class(action: Action, reply_code: int | None, cause: Cause) -> str:
    """Return the bare class that follows from action and text (RFC 3463 §2)."""
    if reply_code:
        return f"{reply_code // 100}.0.0"
    return "4.0.0" if action is Action.DELAYED or cause is Cause.EXPIRED else "5.0.0"


def _action(subject: str, text: str) -> Action:
    """Return what is told; behind a bounce's name stands the subject of the original (`Undeliverable: Delayed`)."""
    name = subject.partition(":")[0]
    subject = name if is_name(name) else subject
    if mta_phrases.DELAYED.are_in(subject):
        return Action.DELAYED
    if mta_phrases.DELAYED.are_in(text) and not mta_phrases.gave_up(f"{subject} {text}"):
        return Action.DELAYED
    return Action.FAILED


def _named(header: Fields, said: HumanPart, original: Returned) -> list[str]:
    listed = [address for value in header.all("x-failed-recipients") for address in addresses.find(value)]
    if listed:
        return list(dict.fromkeys(listed))
    if not is_from_daemon(header) and (refused := refusals.named(header, said)):
        return refused
    strangers = _not_recipients(header, original)
    if found := _without(_below_heading(said), strangers):
        return _but(SERVERS_POST, found) or found
    writers: list[str] = []
    for find, others in _PLACES:
        found = _without(find(said), strangers)
        if named := _but(others, found):
            return named
        writers = writers or found
    if writers:
        return writers
    if own := _without(_below_heading(said), strangers - {(addresses.first(header.first("from")) or "").lower()}):
        return own
    if named := _local_names(header, said):
        return named
    return list(dict.fromkeys(original.recipients)) if len(set(original.recipients)) == 1 else []


def _not_recipients(header: Fields, original: Returned) -> frozenset[str]:
    """The reader of the bounce, its writer and the sender of the original."""
    own = (*report_header.recipients(header), addresses.first(header.first("from")), original.sender)
    return frozenset(address.lower() for address in own if address)


def _without(found: Iterable[str], strangers: frozenset[str]) -> list[str]:
    unique: dict[str, str] = {}
    for address in found:
        unique.setdefault(address.lower(), address)
    return [address for key, address in unique.items() if key not in strangers]


def _but(others: tuple[str, ...], found: Iterable[str]) -> list[str]:
    return [address for address in found if not address.lower().startswith(others)]


def _below_heading(said: HumanPart) -> list[str]:
    """Addresses that begin lines somewhere below a heading."""
    found: list[str] = []
    open_list, above = False, 0
    for at, line in enumerate(said.lines):
        listed = (_beginning(line, _ALONE) or _x400(line)) if "@" in line else []
        if not listed:
            continue
        open_list = open_list or mta_phrases.HEADING.are_in(phrases.plain("\n".join(said.lines[above:at])))
        above = at + 1
        if open_list:
            found.extend(listed)
    return found


def _x400(line: str) -> list[str]:
    """Old Exchange writes the address as a domain-defined attribute of an X.400 one."""
    return addresses.find(line)[:1] if "smtp=" in line.lower() else []


def _alone(said: HumanPart) -> list[str]:
    """Addresses that begin a line: the list that most servers make."""
    return [address for line in said.lines for address in _beginning(line, _ALONE)]


def _labelled(said: HumanPart) -> list[str]:
    """Addresses after `To:` and the like."""
    return [address for line in said.lines for address in _beginning(line, _LABELLED)]


def _beginning(line: str, pattern: re.Pattern[str]) -> list[str]:
    """Return the address that begins *line*, or each where it lists nothing else."""
    found = pattern.match(line) if "@" in line else None
    if not found:
        return []
    rest = line[found.end() :]
    lists_more = rest.count("@") > 1 and _LIST.fullmatch(addresses.ADDRESS.sub("", rest))
    return addresses.find(rest)[: None if lists_more else 1]


def in_sentences(said: HumanPart) -> list[str]:
    text = human_part.unfolded(said.text)
    return [
        address
        for found in islice(mta_phrases.NAMED.finditer(text), _MOST_RECIPIENTS)
        if not mta_phrases.NOT_A_RECIPIENT.search(text[max(0, found.start() - _SIGHT) : found.start()])
        and (address := addresses.first(found[1]))
    ]


def _anywhere(said: HumanPart) -> list[str]:
    return [
        address
        for found in islice(addresses.ADDRESS.finditer(said.text), _MOST_RECIPIENTS)
        if not mta_phrases.NOT_A_RECIPIENT.search(_line_before(said.text, found.start()))
        and (address := addresses.first(found[0]))
    ]


def _line_before(text: str, at: int) -> str:
    begin = max(text.rfind("\n", 0, at) + 1, at - _SIGHT)
    return text[begin:at]


def _local_names(header: Fields, said: HumanPart) -> list[str]:
    """Names without domain below a heading: users of the host that writes."""
    writer = addresses.first(header.first("from"))
    if not writer:
        return []
    domain = writer.rpartition("@")[2]
    for at, line in enumerate(said.lines):
        if mta_phrases.HEADING.are_in(phrases.plain(line[:_LONGEST_LIST])):
            below = [found for below in said.lines[at + 1 : at + 6] if (found := _BARE_NAME.fullmatch(below.rstrip()))]
            return [f"{found[1]}@{domain}" for found in below]
    return []


_PLACES = (
    (_alone, SERVERS_POST),
    (_labelled, (*SERVERS_POST, *_HELPERS_POST)),
    (in_sentences, (*SERVERS_POST, *_HELPERS_POST)),
    (_anywhere, (*SERVERS_POST, *_HELPERS_POST)),
)
"""Where recipients stand without heading, the surest place first, and who else is named there."""
