"""A machine-readable delivery report -> what it says of each recipient (RFC 3464, RFC 6533)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from receiptd.facts import Action, ReportedRecipient
from receiptd.interpret import addresses, causes, codes, dialects, fields, notice
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


@dataclass(frozen=True, slots=True)
class Status:
    """The fields of a delivery-status part: those of the message, and one block a recipient."""

    message: Fields
    recipients: tuple[Fields, ...]


def find(root: Part) -> Part | None:
    """Return the outermost delivery-status part, wherever it stands; broken containers count too."""
    for part in root.parts:
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
    """Return what the report says of each recipient, in its own order, corrected to what is meant."""
    addressed = [_addresses(block) for block in status.recipients]
    names = tuple(name for pair in addressed for name in pair if name)
    told = zip(status.recipients, addressed, strict=True)
    return tuple(_recipient(block, status.message, said, own, names) for block, own in told) or _from_text(said)


def _addresses(block: Fields) -> tuple[str | None, str | None]:
    return addresses.of_field(block.first("final-recipient")), addresses.of_field(block.first("original-recipient"))


def _recipient(
    block: Fields, message: Fields, said: Notice, own: tuple[str | None, str | None], names: tuple[str, ...]
) -> ReportedRecipient:
    final, original = own
    if not names and (origin := dialects.ALIAS_OF.search(said.text)):
        original = addresses.first(origin[1])  # a pipe is no address, its owner is
    about = _about(said, own, names)
    diagnostic = block.first("diagnostic-code") or None
    stated = block.first("action") or message.first("action")
    code = codes.status_of_field(block.first("status") or message.first("status"))
    action = _action(stated, code, diagnostic, about, said)
    code = code or _stated_status(diagnostic or about, action) or _class_of(action)
    reply_code = _reply_code((diagnostic, about), code)
    is_bad = action in (Action.FAILED, Action.DELAYED)
    return ReportedRecipient(
        action=action,
        stated_action=stated,
        status=code,
        reply_code=reply_code,
        final_recipient=final,
        original_recipient=original,
        diagnostic_code=diagnostic,
        remote_mta=host(block.first("remote-mta")),
        cause=causes.of(f"{diagnostic or ''} {about}", code, reply_code) if is_bad else None,
        occurred_at=fields.instant(block.first("last-attempt-date")),
        will_retry_until=fields.instant(block.first("will-retry-until")),
        aliases=_aliases(block, final, original),
    )


def _aliases(block: Fields, final: str | None, original: str | None) -> tuple[str, ...]:
    found = [address for name in _ALIAS_FIELDS for value in block.all(name) if (address := addresses.of_field(value))]
    found += [addresses.from_xtext(address) for address in (original, final) if address and "+" in address]
    return tuple(dict.fromkeys(alias for alias in found if alias not in (final, original)))


def _about(said: Notice, own: tuple[str | None, str | None], names: tuple[str, ...]) -> str:
    """Return what the text says of one recipient; of the only one it is all."""
    lines = "\n".join(notice.about(said, name, names) for name in dict.fromkeys(own) if name)
    return lines or (said.text if len({name.lower() for name in names}) <= 1 else "")


def host(value: str | None) -> str | None:
    """Return the name of an `…-MTA` field without its type."""
    if not value:
        return None
    return fields.untyped(fields.without_comments(value))[1].strip() or None


def _action(stated: str | None, status: str | None, diagnostic: str | None, about: str, said: Notice) -> Action | None:
    """Return the action that is meant, where servers state another one or none."""
    word = _WORD.match(fields.without_comments(stated)) if stated else None
    action = _ACTIONS.get(word[1].lower()) if word else None
    if action is Action.DELIVERED and _SAYS_RELAYED.search(f"{diagnostic or ''}\n{about}"):
        return Action.RELAYED  # Exim can't tell a mailbox from a redirect
    if action is Action.DELAYED and status == "4.4.7" and _ENVELOPE_EXPIRED.search(about):
        return Action.FAILED  # OpenSMTPD gives up with the word `delayed`
    if stated:
        return action
    if dialects.SENTENCE.are_in(said.plain) or (status and status[0] == "5"):
        return (
            Action.DELAYED if status and status[0] == "4" and not dialects.GAVE_UP.are_in(said.plain) else Action.FAILED
        )
    return Action.DELAYED if status and status[0] == "4" else None


def _stated_status(text: str, action: Action | None) -> str | None:
    """Return the first code in *text* that agrees with the action."""
    classes = {Action.FAILED: "54", Action.DELAYED: "4"}.get(action, "2") if action else "542"
    found = codes.statuses(notice.unfolded(text))
    return next((code for wanted in classes for code in found if code[0] == wanted), None)


def _class_of(action: Action | None) -> str | None:
    """Return the bare class that follows from an action, where it does (RFC 3463 §2)."""
    return {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}.get(action) if action else None


def _reply_code(texts: tuple[str | None, ...], status: str | None) -> int | None:
    for text in texts:
        if text and (found := codes.reply_codes(notice.unfolded(text))):
            return next((code for code in found if status and str(code)[0] == status[0]), found[0])
    return None


def _from_text(said: Notice) -> tuple[ReportedRecipient, ...]:
    """Return the one recipient of a report without recipient blocks: expanded where its text says so, else relayed."""
    action = Action.EXPANDED if _SAYS_EXPANDED.search(said.text) else Action.RELAYED
    expanded = next(
        (line for line in said.lines if "@" in line and (action is Action.RELAYED or _SAYS_EXPANDED.search(line))), ""
    )
    return (ReportedRecipient(action=action, final_recipient=addresses.first(expanded)),)
