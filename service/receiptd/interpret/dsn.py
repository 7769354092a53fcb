"""A machine-readable delivery report -> what it says of each recipient (RFC 3464, RFC 6533)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from receiptd.facts import Action, ReportedRecipient
from receiptd.interpret import addresses, causes, codes, fields, notice
from receiptd.interpret.fields import Fields
from receiptd.interpret.mime import HORIZON, Part
from receiptd.interpret.notice import Notice

_TYPES = ("message/delivery-status", "message/global-delivery-status")
_MOST_RECIPIENTS = 500
_OPENS_RECIPIENT = ("final-recipient", "original-recipient", "action")
_NAMES_RECIPIENT = ("final-recipient", "original-recipient", "x-actual-recipient")
_PER_RECIPIENT = (
    *_NAMES_RECIPIENT,
    "action",
    "status",
    "diagnostic-code",
    "remote-mta",
    "last-attempt-date",
    "will-retry-until",
)
_ALIAS_FIELDS = ("x-actual-recipient", "x-original-recipient", "x-display-recipient")
_WORD = re.compile(r"[\s\"']*([A-Za-z-]{2,30})")
_ACTIONS = {
    "failed": Action.FAILED, "failure": Action.FAILED, "fail": Action.FAILED, "failed-permanent": Action.FAILED, "bounced": Action.FAILED,
    "delayed": Action.DELAYED, "delay": Action.DELAYED, "deferred": Action.DELAYED,
    "delivered": Action.DELIVERED, "delivery": Action.DELIVERED, "deliver": Action.DELIVERED,
    "relayed": Action.RELAYED, "relay": Action.RELAYED, "expanded": Action.EXPANDED,
    "expired": Action.FAILED,
}  # fmt: skip
_SAYS_RELAYED = re.compile(
    r"\brelayed (?:via|to) (?:a )?non\b|\brelayed to\b[^\n]{0,80}\b(?:mailer|system|router)", re.IGNORECASE
)
_ENVELOPE_EXPIRED = re.compile(r":\s*Envelope expired", re.IGNORECASE)
_SAYS_EXPANDED = re.compile(r"\bexpanded\b|mailing list expansion|distribution list", re.IGNORECASE)
_SAYS_FAILED = re.compile(
    r"fatal error|could not be delivered|undeliver|failed permanently|permanent error|not been delivered", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Status:
    """The fields of a delivery-status part: those of the message, and one block a recipient."""

    message: Fields
    recipients: tuple[Fields, ...]


def find(root: Part) -> Part | None:
    """Return the outermost delivery-status part, wherever it stands; broken containers count too."""
    for part in root.walk():
        if part.type in _TYPES or part.type.endswith("/delivery-status"):
            return part
    return None


def read(part: Part) -> Status:
    """Read a delivery-status part; fields that slipped into its MIME header count as well."""
    blocks = fields.blocks(part.text(HORIZON // 4))
    stray = Fields([item for item in part.header.items if not item[0].startswith("content-")])
    return _sort([stray, *blocks] if stray else blocks)


def read_text(text: str) -> Status:
    """Read the fields of a report that stand in plain text, among other things."""
    start = min(
        (
            at
            for name in ("Reporting-MTA:", "Final-Recipient:", "Original-Recipient:")
            if (at := text.find("\n" + name)) >= 0
        ),
        default=-1,
    )
    blocks = fields.blocks(text[start:]) if start >= 0 else []
    status = _sort([block for block in blocks if any(name in block for name in (*_PER_RECIPIENT, "reporting-mta"))])
    return Status(
        status.message, tuple(block for block in status.recipients if any(name in block for name in _NAMES_RECIPIENT))
    )


def is_usable(status: Status) -> bool:
    """Whether the fields say anything of a delivery."""
    return bool(status.recipients) or any(
        name in status.message for name in ("reporting-mta", "arrival-date", "original-envelope-id")
    )


def _sort(blocks: list[Fields]) -> Status:
    message: list[tuple[str, str]] = []
    found: list[list[tuple[str, str]]] = []
    for block in blocks:
        for at, group in enumerate(_groups(block)):
            names = {name for name, _ in group}
            if not names.intersection(_NAMES_RECIPIENT) and (found or not names.intersection(_PER_RECIPIENT) or not at):
                _extend_last(found, message, group, names)
            elif found and not {name for name, _ in found[-1]}.intersection(_NAMES_RECIPIENT):
                found[-1].extend(group)
            else:
                found.append(group)
    return Status(Fields(message), tuple(map(Fields, found[:_MOST_RECIPIENTS])))


def _extend_last(
    found: list[list[tuple[str, str]]], message: list[tuple[str, str]], group: list[tuple[str, str]], names: set[str]
) -> None:
    """A block that names no recipient goes on with the recipient before it, or speaks of the message."""
    if found and names.intersection(_PER_RECIPIENT) and not names.intersection(name for name, _ in found[-1]):
        found[-1].extend(group)
    elif not found:
        message.extend(group)


def _groups(block: Fields) -> list[list[tuple[str, str]]]:
    """Part a block where it begins to name a second recipient; per-message fields before the first stand alone."""
    groups: list[list[tuple[str, str]]] = [[]]
    seen: set[str] = set()
    for name, value in block.items:
        opens = name in _OPENS_RECIPIENT
        if (opens and name in seen) or (
            name in _NAMES_RECIPIENT and not seen and groups[-1] and "reporting-mta" in dict(groups[-1])
        ):
            groups.append([])
            seen = set()
        if name in _PER_RECIPIENT:
            seen.add(name)
        groups[-1].append((name, value))
    return groups


def recipients(status: Status, said: Notice) -> tuple[ReportedRecipient, ...]:
    """Return what the report says of each recipient, in its own order."""
    told = tuple(
        _recipient(block, status.message, said, alone=len(status.recipients) == 1) for block in status.recipients
    )
    names = tuple(name for one in told for name in (one.final_recipient, one.original_recipient) if name)
    return tuple(_as_meant(one, said, names) for one in told) if told else _from_text(said)


def _recipient(block: Fields, message: Fields, said: Notice, *, alone: bool) -> ReportedRecipient:
    stated = block.first("action") or message.first("action")
    word = _WORD.match(fields.without_comments(stated)) if stated else None
    final = addresses.of_field(block.first("final-recipient"))
    original = addresses.of_field(block.first("original-recipient"))
    diagnostic = block.first("diagnostic-code") or None
    aliases = [found for name in _ALIAS_FIELDS for value in block.all(name) if (found := addresses.of_field(value))]
    aliases += [addresses.from_xtext(address) for address in (original, final) if address and "+" in address]
    return ReportedRecipient(
        action=_ACTIONS.get(word[1].lower()) if word else None,
        stated_action=stated,
        status=codes.status_of_field(block.first("status") or message.first("status")),
        final_recipient=final,
        original_recipient=original,
        diagnostic_code=diagnostic,
        remote_mta=host(block.first("remote-mta")),
        occurred_at=fields.instant(block.first("last-attempt-date")),
        will_retry_until=fields.instant(block.first("will-retry-until")),
        aliases=tuple(dict.fromkeys(alias for alias in aliases if alias not in (final, original))),
    )


def host(value: str | None) -> str | None:
    """Return the name of an `…-MTA` field without its type."""
    if not value:
        return None
    return fields.untyped(fields.without_comments(value))[1].strip() or None


def _as_meant(one: ReportedRecipient, said: Notice, names: tuple[str, ...]) -> ReportedRecipient:
    """Correct what servers state otherwise than they mean, and take from the text what the fields leave out."""
    alone = len({name.lower() for name in names}) <= 1
    own = (one.final_recipient, one.original_recipient)
    about = "\n".join(notice.about(said, name, names) for name in dict.fromkeys(own) if name)
    text = one.diagnostic_code or about or (said.text if alone else "")
    action = _action_as_meant(one, about, said)
    status = one.status or _stated_status(text, action) or _class_of(action)
    reply_code = _reply_code(one, about or (said.text if alone else ""), status)
    is_bad = action in (Action.FAILED, Action.DELAYED)
    cause = (
        causes.of(
            notice.unfolded(one.diagnostic_code or "") + " " + notice.unfolded(about or said.text), status, reply_code
        )
        if is_bad
        else None
    )
    return replace(one, action=action, status=status, reply_code=reply_code, cause=cause)


def _action_as_meant(one: ReportedRecipient, about: str, said: Notice) -> Action | None:
    if one.action is Action.DELIVERED and _SAYS_RELAYED.search(f"{one.diagnostic_code or ''}\n{about}"):
        return Action.RELAYED  # Exim can't tell a mailbox from a redirect
    if one.action is Action.DELAYED and one.status == "4.4.7" and _ENVELOPE_EXPIRED.search(about):
        return Action.FAILED  # OpenSMTPD gives up with the word `delayed`
    if one.action or one.stated_action:
        return one.action
    by_class = {"5": Action.FAILED, "4": Action.DELAYED}
    if one.status and one.status[0] in by_class:
        return Action.FAILED if _SAYS_FAILED.search(said.text) else by_class[one.status[0]]
    return Action.FAILED if _SAYS_FAILED.search(said.text) else None


def _stated_status(text: str, action: Action | None) -> str | None:
    """Return the first code in *text* that agrees with the action."""
    classes = {Action.FAILED: "54", Action.DELAYED: "4"}.get(action, "2") if action else "542"
    found = codes.statuses(notice.unfolded(text))
    return next((code for wanted in classes for code in found if code[0] == wanted), None)


def _class_of(action: Action | None) -> str | None:
    """Return the bare class that follows from an action, where it does (RFC 3463 §2)."""
    return {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}.get(action) if action else None


def _reply_code(one: ReportedRecipient, about: str, status: str | None) -> int | None:
    for text in (one.diagnostic_code, about):
        if text and (found := codes.reply_codes(notice.unfolded(text))):
            return next((code for code in found if status and str(code)[0] == status[0]), found[0])
    return None


def _from_text(said: Notice) -> tuple[ReportedRecipient, ...]:
    """Return the one recipient of a report without recipient blocks: expanded where its text says so, else relayed."""
    action = Action.EXPANDED if _SAYS_EXPANDED.search(said.text) else Action.RELAYED
    expanded = next(
        (line for line in said.lines if "@" in line and (action is Action.RELAYED or _SAYS_EXPANDED.search(line))), ""
    )
    return (
        ReportedRecipient(
            action=action, status="2.0.0" if expanded else None, final_recipient=addresses.first(expanded)
        ),
    )


def says_failed(said: Notice) -> bool:
    """Whether the text of a report tells of a failure."""
    return bool(_SAYS_FAILED.search(said.text))
