"""One event -> what it says by the table of docs/design.md §6, and whether it may count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiptd import address
from receiptd.facts import Demand, Event, EventKind, Level, Source, Trust

SCANNER = timedelta(seconds=10)
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
    """An event as the table reads it. *level* is None where it proves nothing that may satisfy."""

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
            RANK[event.trust],
            _level(event, kind, demand.minimum_trust),
        )
        for event in told
        for kind in (_kind(event, accepted_at, aliases),)
    )


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


def _level(event: Event, kind: EventKind, minimum: Trust) -> Level | None:
    """Return what *event* proves if its trust may satisfy.

    A person's reply is plausible at best wherever no server of ours vouches for it, and satisfies all the same.
    """
    if kind is EventKind.REPLIED:
        return Level.REPLIED
    if RANK[event.trust] < RANK[minimum]:
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
    """Which final recipients a report named as members of an alias or list (docs/design.md §6, `onward`)."""

    def __init__(self, events: list[Event], demand: Demand) -> None:
        self._own = address.key(demand.address)
        minimum = RANK[demand.minimum_trust]
        counted = [event for event in events if RANK[event.trust] >= minimum]
        self._all = demand.onward or any(
            event.kind is EventKind.EXPANDED or event.detail.get("onward_known") for event in counted
        )
        self._named = {self.branch(event) for event in counted if event.source is Source.DSN}

    def branch(self, event: Event) -> str:
        """Return the branch an event speaks of, as the key of its address."""
        final = event.final_recipient
        if not final:
            return self._own
        key = address.key(final)
        return self._own if key.casefold() == self._own.casefold() else key

    def is_stranger(self, event: Event) -> bool:
        """Whether an MDN comes from somebody of whom no report said that they are behind the address."""
        return bool(event.detail.get("onward")) and not self._all and self.branch(event) not in self._named
