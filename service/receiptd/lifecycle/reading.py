"""One event -> what it says by the table of docs/design.md §6, and whether it may count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiptd.facts import Demand, Event, EventKind, Level, MatchedBy, Source, Trust
from receiptd.mail import address

SCANNER = timedelta(seconds=60)
"""An automatic `displayed` that comes sooner after acceptance is a machine's (docs/design.md §6)."""

PROVES = {
    EventKind.ACCEPTED: Level.ACCEPTED,
    EventKind.RELAYED: Level.RELAYED,
    EventKind.EXPANDED: Level.RELAYED,
    EventKind.DELIVERED: Level.DELIVERED,
    EventKind.PROCESSED: Level.DELIVERED,
    EventKind.DISPATCHED: Level.DELIVERED,
    EventKind.DELETED: Level.DELIVERED,
    EventKind.DENIED: Level.DELIVERED,
    EventKind.ERROR: Level.DELIVERED,
    EventKind.DISPLAYED: Level.DISPLAYED,
    EventKind.REPLIED: Level.REPLIED,
}
"""A disposition may happen only after successful delivery (RFC 8098 §1), so each one proves `delivered`."""

BAD = frozenset({EventKind.FAILED, EventKind.REFUSED})
OURS = frozenset({Source.SMTP, Source.CLOCK})
REPORTS = frozenset({Source.DSN, Source.BOUNCE, Source.MDN, Source.REPLY, Source.FEEDBACK})
RANK = {word: word.rank for ranked in (Level, Trust) for word in ranked}
_READING_DENIED = frozenset({EventKind.DELETED, EventKind.DENIED, EventKind.ERROR})


@dataclass(frozen=True, slots=True)
class Reading:
    """An event as the table reads it. *level* is None where it proves nothing that may satisfy.

    *trust* is a rank: the event's, and `keyed` for an answer that our server vouches for from a branch that is known.
    """

    event: Event
    kind: EventKind
    branch: str
    trust: int
    level: Level | None

    @property
    def rank(self) -> int:
        """How much it proves; -1 is nothing."""
        return -1 if self.level is None else RANK[self.level]


def read(events: Iterable[Event], demand: Demand) -> tuple[Reading, ...]:
    """Return what each event says, each id once, in an order that doesn't depend on theirs.

    Weak news moves nothing (docs/design.md §5), so weak events are left out altogether.
    """
    told = [event for event in _once(events) if event.trust is not Trust.WEAK]
    accepted_at = _accepted_at(told)
    aliases = _Aliases(told, demand)
    return tuple(
        Reading(
            event,
            kind,
            aliases.branch(event),
            _trust(event, aliases),
            _level(event, kind, aliases, demand.minimum_trust),
        )
        for event in told
        for kind in (_kind(event, accepted_at, aliases),)
    )


def is_sealed(event: Event) -> bool:
    """Whether a server on the way wrote the report, or a person who looked at it says so."""
    return event.trust is Trust.SEALED or event.matched_by is MatchedBy.PERSON


def _trust(event: Event, aliases: _Aliases) -> int:
    is_vouched = bool(event.detail.get("vouched")) and aliases.is_known(event)
    return RANK[Trust.KEYED] if is_vouched and event.trust is Trust.PLAUSIBLE else RANK[event.trust]


def _once(events: Iterable[Event]) -> list[Event]:
    """Return each event once: of unequal copies the best trusted, then the earliest."""
    kept: dict[str, Event] = {}
    for event in events:
        known = kept.get(event.id)
        if known is None or (known is not event and _preference(event) < _preference(known)):
            kept[event.id] = event
    return sorted(kept.values(), key=lambda event: (event.observed_at, event.id))


def _preference(event: Event) -> tuple[int, datetime, str, str, str]:
    return -RANK[event.trust], event.observed_at, event.kind, event.final_recipient or "", repr(event.detail)


def _accepted_at(events: list[Event]) -> datetime | None:
    """Return when the submission server took the message; where it never said so, when we gave up waiting for it."""
    for kind in (EventKind.ACCEPTED, EventKind.UNCERTAIN):
        times = [event.observed_at for event in events if event.kind is kind and event.source in OURS]
        if times:
            return min(times)
    return None


def _level(event: Event, kind: EventKind, aliases: _Aliases, minimum: Trust) -> Level | None:
    """Return what *event* proves if its trust may satisfy.

    A person's reply is plausible at best wherever no server of ours vouches for it, and satisfies all the same; that
    of an address of which nobody said that it is behind the recipient's satisfies nothing.
    """
    if kind is EventKind.REPLIED:
        return Level.REPLIED if aliases.answers(event) else None
    # What we saw ourselves needs no envelope id.
    needed = RANK[minimum] if event.source in REPORTS else min(RANK[minimum], RANK[Trust.KEYED])
    if RANK[event.trust] < needed:
        return None
    return PROVES.get(kind) or (Level.ACCEPTED if event.source in REPORTS else None)


def _kind(event: Event, accepted_at: datetime | None, aliases: _Aliases) -> EventKind:
    """Return the kind that the table makes of it."""
    kind = event.kind
    if kind is not EventKind.DISPLAYED and kind not in _READING_DENIED:
        return kind
    if aliases.is_stranger(event):
        return EventKind.DISPATCHED  # it was sent on to somebody; what they do says nothing of our recipient
    if kind is EventKind.DISPLAYED and "error" in {str(word).lower() for word in event.detail.get("modifiers") or ()}:
        return EventKind.ERROR
    if kind is EventKind.DISPLAYED and event.detail.get("automatic") and _is_scanners(event, accepted_at):
        return EventKind.PROCESSED
    return kind


def _is_scanners(event: Event, accepted_at: datetime | None) -> bool:
    """Whether it came so soon after acceptance that no person did it; before our own `accepted` is sooner still."""
    return accepted_at is None or event.observed_at <= accepted_at + SCANNER


class _Aliases:
    """Which final recipients are known behind the address (docs/design.md §6, `onward`).

    A server on the way must have named them, or have said that the address is an alias: anyone who has a copy has the
    token, and could name themselves.
    """

    def __init__(self, events: list[Event], demand: Demand) -> None:
        self._own = address.key(demand.address)
        self._onward = demand.onward
        sealed = [event for event in events if event.source is Source.DSN and is_sealed(event)]
        self._is_alias = any(event.kind is EventKind.EXPANDED for event in sealed)
        self._named = {self.branch(event) for event in sealed}
        if self._is_alias:  # its members are known by their own read receipts
            keyed = (event for event in events if event.trust.at_least(Trust.KEYED))
            self._named |= {self.branch(event) for event in keyed if event.source is Source.MDN}

    def branch(self, event: Event) -> str:
        """Return the branch an event is about, as the key of its address."""
        final = event.final_recipient
        if not final:
            return self._own
        key = address.key(final)
        return self._own if key.casefold() == self._own.casefold() else key

    def is_stranger(self, event: Event) -> bool:
        """Whether an MDN comes from somebody of whom no server on the way said that they are behind the address."""
        return not (self._is_alias or self._onward or self.is_known(event))

    def is_known(self, event: Event) -> bool:
        """Whether *event* is of the address itself, or of one that is known behind it."""
        branch = self.branch(event)
        return branch == self._own or not event.detail.get("onward") or branch in self._named

    def answers(self, event: Event) -> bool:
        """Whether a person's answer counts."""
        return self._onward or self.is_known(event)
