"""A machine-readable delivery report -> what it says of each recipient (RFC 3464, RFC 6533)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice, takewhile

from receiptd.facts import Action, Cause, ReportedRecipient
from receiptd.interpret import addresses, causes, codes, fields, human_part, mta_phrases
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.lazy import lazy
from receiptd.interpret.mime import HORIZON, Part
from receiptd.mail import xtext

_TYPES = ("message/delivery-status", "message/global-delivery-status")
_MOST_RECIPIENTS = 500
_MOST_BESIDE = 50
_MOST_SAID = 2000
_LONGEST_SHARED = 1000
"""Characters of a field that counts for several recipients: a longer one, told of each, makes much of little."""
_DEGRADED = ("text/plain", "application/octet-stream")
_LONGEST_ATTACHED, _MOST_ATTACHED = 64 * 1024, 3
_BEGINNINGS = ("\nreporting-mta:", "\nfinal-recipient:", "\noriginal-recipient:")
_OPENS_RECIPIENT = ("final-recipient", "original-recipient", "action")
_NAMES_RECIPIENT = frozenset(("final-recipient", "original-recipient", "x-actual-recipient"))
_PER_RECIPIENT = frozenset(
    (
        *_NAMES_RECIPIENT,
        "action",
        "status",
        "diagnostic-code",
        "remote-mta",
        "last-attempt-date",
        "will-retry-until",
    )
)
_OF_ALL = frozenset(("action", "status"))
_ALIAS_FIELDS = dict.fromkeys(("x-actual-recipient", "x-original-recipient", "x-display-recipient")).keys()
_WORD = re.compile(r"[\s\"']*([A-Za-z-]{2,30})")
_ACTIONS = {
    "failed": Action.FAILED, "failure": Action.FAILED, "fail": Action.FAILED, "bounced": Action.FAILED,
    "expired": Action.FAILED, "delayed": Action.DELAYED, "delay": Action.DELAYED, "deferred": Action.DELAYED,
    "delivered": Action.DELIVERED, "delivery": Action.DELIVERED, "relayed": Action.RELAYED,
    "expanded": Action.EXPANDED, "undeliverable": Action.FAILED, "undelivered": Action.FAILED,
    "rejected": Action.FAILED, "refused": Action.FAILED, "dropped": Action.FAILED,
}  # fmt: skip
_PROBES = ("deliverable", "deliverability")
"""What says that a message would be delivered, and of none that it was."""
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
        if part.type in _TYPES or part.type.endswith("delivery-status"):
            return part
    return next(_untyped(root), None) if root.parameters.get("report-type", "").lower() == "delivery-status" else None


def read_all(root: Part, part: Part) -> Status:
    """Read *part* and the status parts beside it: some servers write one for each recipient.

    Of two that name the same recipient the first counts, and the first one's fields are the message's. What stands
    behind the returned original may be a part of it, where both have the same boundary.
    """
    status = read(part)
    if len([one for one in root.below if one.type == part.type]) > 1:
        container = next((one for one in root.parts if part in one.children), part)
        behind = container.children[container.children.index(part) + 1 :] if container is not part else []
        for other in takewhile(lambda one: not _returns(one), behind[:_MOST_BESIDE]):
            if other.type == part.type:
                status = _joined(status, read(other))
    return status


def _returns(part: Part) -> bool:
    return part.embeds_message or part.type.endswith("headers")


def _joined(status: Status, further: Status) -> Status:
    known = {name.lower() for block in status.recipients for name in _addresses(block) if name}
    unknown = (
        block for block in further.recipients if known.isdisjoint(name.lower() for name in _addresses(block) if name)
    )
    return Status(status.message, (*status.recipients, *unknown)[:_MOST_RECIPIENTS])


def read(part: Part) -> Status:
    """Read a delivery-status part; fields that slipped into its MIME header count as well."""
    blocks = fields.blocks(part.text(HORIZON // 4))
    stray = Fields([item for item in part.header if not item[0].startswith("content-")])
    return _sort([stray, *blocks] if stray else blocks)


def read_text(text: str) -> Status:
    """Read the fields of a report that stand in plain text, among other things."""
    lowered = text.lower()
    start = min((at for name in _BEGINNINGS if (at := lowered.find(name)) >= 0), default=-1)
    blocks = fields.blocks(text[start:]) if start >= 0 else []
    status = _sort([block for block in blocks if any(name in block for name in (*_PER_RECIPIENT, "reporting-mta"))])
    return Status(
        status.message, tuple(block for block in status.recipients if any(name in block for name in _NAMES_RECIPIENT))
    )


def read_attached(root: Part) -> Status:
    """Read a delivery-status part whose type a gateway took away: Exchange makes `ATT00001.txt` of it."""
    found = (read_text(f"\n{part.text(_LONGEST_ATTACHED)}") for part in islice(_untyped(root), _MOST_ATTACHED))
    return next((status for status in found if status.recipients), Status(Fields([]), ()))


def _untyped(root: Part) -> Iterator[Part]:
    """Yield the parts behind the first that name recipients, whatever they are said to be."""
    behind = [part for part in root.below if not part.children][1:]
    for part in behind:
        if part.type in _DEGRADED and _shows(part, b"ecipient:"):
            yield part


def _shows(part: Part, words: bytes) -> bool:
    if "content-transfer-encoding" in part.header:
        return words in part.content(_LONGEST_ATTACHED)
    return part.raw.find(words, part.body, part.end) >= 0


def is_usable(status: Status) -> bool:
    """Whether the fields say anything of a delivery."""
    return bool(status.recipients) or any(
        name in status.message for name in ("reporting-mta", "arrival-date", "original-envelope-id")
    )


def _sort(blocks: list[Fields]) -> Status:
    """Tell the message's fields from the recipients'; a block that names nobody goes on with the one before it."""
    message: list[tuple[str, str]] = []
    found: list[Fields] = []
    for block in blocks:
        for group in _groups(block):
            if found and _goes_on(found[-1], group):
                found[-1] = Fields([*found[-1], *group])
            elif group.has_any(_NAMES_RECIPIENT):
                if len(found) == _MOST_RECIPIENTS:
                    return Status(Fields(message), tuple(found))
                found.append(group)
            elif not found:
                message.extend(group)
    return Status(Fields(message), tuple(found))


def _goes_on(before: Fields, group: Fields) -> bool:
    """Whether *group* tells of the recipient *before*: blank lines may stand between all fields."""
    if group.has_any(_NAMES_RECIPIENT) and not before.names <= _NAMES_RECIPIENT:
        return False
    return group.has_any(_PER_RECIPIENT) and not group.has_any(before.names)


def _groups(block: Fields) -> list[Fields]:
    """Part a block where it begins to name a second recipient; per-message fields before the first stand alone."""
    if not block.repeats and not ("reporting-mta" in block and block.has_any(_NAMES_RECIPIENT)):
        return [block]
    groups: list[list[tuple[str, str]]] = [[]]
    seen: set[str] = set()
    for name, value in block:
        if name in _NAMES_RECIPIENT and "reporting-mta" in seen:
            groups.append(_shared(groups[-1], _PER_RECIPIENT))
            seen = {said for said, _ in groups[-1]}
        elif name in seen and name in _OPENS_RECIPIENT:
            groups.append([])
            seen = set()
        seen.add(name)
        groups[-1].append((name, value))
    return [Fields(group) for group in groups]


def _shared(group: Iterable[tuple[str, str]], names: AbstractSet[str]) -> list[tuple[str, str]]:
    """Return the topmost field of each of *names* that can count for several recipients."""
    topmost: dict[str, str] = {}
    for name, value in group:
        if name in names and len(value) <= _LONGEST_SHARED:
            topmost.setdefault(name, value)
    return list(topmost.items())


def recipients(status: Status, said: HumanPart) -> tuple[ReportedRecipient, ...]:
    """Return what the report says of each recipient, in its own order, corrected to what is meant."""
    addressed = [_addresses(block) for block in status.recipients]
    speech = _Speech(said, tuple(name for pair in addressed for name in pair if name), len(addressed))
    message = Fields(_shared(status.message, _OF_ALL) if status.message.has_any(_OF_ALL) else [])
    told = zip(status.recipients, addressed, strict=True)
    return tuple(_Recipient(block, message, speech, own).told() for block, own in told) or _from_text(said)


class _Speech:
    """What the text says of each recipient, read when first asked."""

    def __init__(self, said: HumanPart, names: tuple[str, ...], recipients: int) -> None:
        self.said, self.names, self._recipients = said, names, recipients

    @lazy
    def _about(self) -> dict[str, str]:
        return human_part.about(self.said, self.names)

    @lazy
    def owner(self) -> str | None:
        """The address behind which recipients that aren't addresses stand."""
        origin = mta_phrases.ALIAS_OF.search(self.said.text) if not self.names else None
        return addresses.first(origin[1]) if origin else None

    @lazy
    def tells_of_failure(self) -> bool:
        return mta_phrases.SENTENCE.are_in(self.said.plain)

    @lazy
    def tells_of_the_end(self) -> bool:
        return mta_phrases.gave_up(self.said.plain)

    @lazy
    def tells_of_delay(self) -> bool:
        return mta_phrases.DELAYED.are_in(self.said.plain)

    @lazy
    def _is_of_one(self) -> bool:
        return len({name.lower() for name in self.names}) <= 1

    def about(self, names: Iterable[str | None]) -> str:
        """Return what is said of one recipient; of the only one it is all."""
        lines = [self._about[name] for name in dict.fromkeys(name.lower() for name in names if name)]
        text = "\n".join(filter(None, lines)) or (self.said.text if self._is_of_one else "")
        return text if len(self.names) <= 2 and self._recipients <= 2 else text[:_MOST_SAID]


def _addresses(block: Fields) -> tuple[str | None, str | None]:
    return addresses.of_field(block.first("final-recipient")), addresses.of_field(block.first("original-recipient"))


class _Recipient:
    """One recipient block beside the text of the report, which is read only where the fields leave something open."""

    def __init__(self, block: Fields, message: Fields, speech: _Speech, own: tuple[str | None, str | None]) -> None:
        self._block, self._speech, self._own = block, speech, own
        self._stated = block.first("action") or message.first("action")
        self._stated_status = codes.status_of_field(block.first("status") or message.first("status"))
        self._diagnostic = block.first("diagnostic-code") or None

    def told(self) -> ReportedRecipient:
        """Return what the report says of this recipient."""
        final, original = self._own
        original = original or self._speech.owner  # a pipe isn't an address, its owner is
        action = self._action()
        status = self._stated_status or self._status_of_text(action) or _class_of(action)
        is_bad = action in (Action.FAILED, Action.DELAYED)
        reply_code = self._reply_code(status, asks_text=is_bad or action is None)
        return ReportedRecipient(
            action=action,
            stated_action=self._stated,
            status=status,
            reply_code=reply_code,
            final_recipient=final,
            original_recipient=original,
            diagnostic_code=self._diagnostic,
            remote_mta=host(self._block.first("remote-mta")),
            cause=self._cause(status, reply_code) if is_bad else None,
            occurred_at=fields.instant(self._block.first("last-attempt-date")),
            will_retry_until=fields.instant(self._block.first("will-retry-until")),
            aliases=_aliases(self._block, final, original),
        )

    @lazy
    def _about(self) -> str:
        return self._speech.about(self._own)

    def _action(self) -> Action | None:
        """Return the action that is meant, where servers state another one or none."""
        found = _WORD.match(fields.without_comments(self._stated)) if self._stated else None
        word = found[1].lower() if found else ""
        action = _ACTIONS.get(word)
        if action is Action.DELIVERED and _SAYS_RELAYED.search(f"{self._diagnostic or ''}\n{self._about}"):
            return Action.RELAYED  # Exim can't tell a mailbox from a redirect
        if action is Action.DELAYED and self._stated_status == "4.4.7" and _ENVELOPE_EXPIRED.search(self._about):
            return Action.FAILED  # OpenSMTPD gives up with the word `delayed`
        return action or self._action_of_text(word)

    def _action_of_text(self, word: str) -> Action | None:
        """Return the action of a block that states none, or an unknown *word*: by its status, else by the text."""
        digit = (self._stated_status or " ")[0]
        if word in _PROBES or (word and digit == "2"):
            return None
        if digit == "5":
            return Action.FAILED
        if digit == "4" or (digit == " " and self._speech.tells_of_delay):
            return Action.FAILED if self._speech.tells_of_the_end else Action.DELAYED
        return Action.FAILED if self._speech.tells_of_failure else None

    def _status_of_text(self, action: Action | None) -> str | None:
        """Return the first code of diagnostic or text that agrees with the action."""
        classes = {Action.FAILED: "54", Action.DELAYED: "4"}.get(action, "2") if action else "542"
        found = codes.statuses(human_part.unfolded(self._diagnostic or self._about))
        return next((code for wanted in classes for code in found if code[0] == wanted), None)

    def _reply_code(self, status: str | None, *, asks_text: bool) -> int | None:
        found = codes.reply_codes(self._diagnostic) if self._diagnostic else []
        if not found and asks_text:
            found = codes.reply_codes(human_part.unfolded(self._about))
        agreeing = (code for code in found if status and str(code)[0] == status[0])
        return next(agreeing, found[0] if found else None)

    def _cause(self, status: str | None, reply_code: int | None) -> Cause:
        cause = causes.of(self._diagnostic or "", status, reply_code) if self._diagnostic else Cause.OTHER
        return causes.of(self._about, status, reply_code) if cause is Cause.OTHER else cause


def _aliases(block: Fields, final: str | None, original: str | None) -> tuple[str, ...]:
    names = _ALIAS_FIELDS if block.has_any(_ALIAS_FIELDS) else ()
    found = [address for name in names for value in block.all(name) if (address := addresses.of_field(value))]
    found += [xtext.decode_leniently(address) for address in (original, final) if address and "+" in address]
    return tuple(dict.fromkeys(alias for alias in found if alias not in (final, original)))


def host(value: str | None) -> str | None:
    """Return the name of an `…-MTA` field without its type."""
    if not value:
        return None
    return fields.untyped(fields.without_comments(value))[1].strip() or None


def _class_of(action: Action | None) -> str | None:
    """Return the bare class that follows from an action, where it does (RFC 3463 §2)."""
    return {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}.get(action) if action else None


def _from_text(said: HumanPart) -> tuple[ReportedRecipient, ...]:
    """Return the one recipient of a report without recipient blocks: expanded where its text says so, else relayed."""
    action = Action.EXPANDED if _SAYS_EXPANDED.search(said.text) else Action.RELAYED
    expanded = next(
        (line for line in said.lines if "@" in line and (action is Action.RELAYED or _SAYS_EXPANDED.search(line))), ""
    )
    return (ReportedRecipient(action=action, final_recipient=addresses.first(expanded)),)
