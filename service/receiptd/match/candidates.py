"""What to look a report up by, and whom the look-up may find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from receiptd.facts import LONGEST_MESSAGE_ID, FoundToken, Report
from receiptd.mail import address

MOST_TOKENS = 20
MOST_MESSAGE_IDS = 100


@dataclass(frozen=True, slots=True)
class Keys:
    """The tokens and Message-IDs of a report that may be ours."""

    tokens: tuple[FoundToken, ...]
    message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipient of a message that a key of the report hits.

    The look-up gives *every* recipient of such a message: a report may be about another than the key's.
    *envelope_id* is None where the token went out as ENVID. *alias_message_ids* are the Message-IDs that relays put
    in the place of ours, *branches* the final recipients that reports have named behind the address.
    """

    recipient_id: str
    message_id: str
    rfc_message_id: str
    token: str
    address: str
    from_address: str
    alias_message_ids: tuple[str, ...] = ()
    envelope_id: str | None = None
    branches: tuple[str, ...] = ()
    handed_over_at: datetime | None = None

    def has_envelope_id(self, word: str) -> bool:
        """Whether *word* is what ENVID said of this recipient's envelope; relays change the case."""
        return word.lower() == (self.envelope_id or self.token).lower()

    def is_known_as(self, message_id: str) -> bool:
        """Whether *message_id* is this copy's, as we sent it or as a relay renamed it."""
        return bare(message_id) == bare(self.rfc_message_id) or self.is_alias(message_id)

    def is_alias(self, message_id: str) -> bool:
        """Whether a relay renamed this copy to *message_id*."""
        return bare(message_id) in map(bare, self.alias_message_ids)


class Directory:
    """Which of some candidates an address means."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._exact: dict[str, Candidate] = {}
        self._folded: dict[str, Candidate] = {}
        for one in candidates:
            key = address.key(one.address)
            self._exact.setdefault(key, one)
            self._folded.setdefault(key.casefold(), one)
        self._locals = {key.rpartition("@")[0] for key in self._folded}

    def find(self, text: str | None) -> Candidate | None:
        """Return the candidate at this address; relays change the case of local parts, so that counts last."""
        if not text or not self._may_hold(text):
            return None
        key = address.key(text)
        return self._exact.get(key) or self._folded.get(key.casefold())

    def _may_hold(self, text: str) -> bool:
        """Whether the local part is known; a report may name thousands, and IDNA is slow."""
        return "\\x{" in text or text.rpartition("@")[0].strip().removeprefix("<").casefold() in self._locals


def keys(report: Report) -> Keys:
    """Return what to look *report* up by; its own Message-ID is there because our own copies come back too."""
    ids = (
        report.original_message_id,
        *report.alias_message_ids,
        *report.in_reply_to,
        *reversed(report.references),
        report.message_id,
    )
    return Keys(
        tokens=report.found_tokens[:MOST_TOKENS],
        message_ids=tuple(dict.fromkeys(one for one in ids if one and _may_be_ours(one)))[:MOST_MESSAGE_IDS],
    )


def _may_be_ours(message_id: str) -> bool:
    return len(message_id) <= LONGEST_MESSAGE_ID


def of_message(candidates: Sequence[Candidate], one: Candidate) -> list[Candidate]:
    """Return the recipients of the message of *one*, itself included."""
    return [other for other in candidates if other.message_id == one.message_id]


def bare(message_id: str) -> str:
    """Return *message_id* without brackets and white space, as it is compared."""
    return message_id.strip().removeprefix("<").removesuffix(">").strip()
