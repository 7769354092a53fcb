"""Readings -> the state of each branch, and the delivery track that they give together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from receiptd.facts import Branch, Delivery, Disposition, EventKind, Level, Trust
from receiptd.lifecycle.reading import BAD, OURS, RANK, REPORTS, Reading, is_sealed

_STRONGEST = (
    EventKind.REPLIED,
    EventKind.DISPLAYED,
    EventKind.ERROR,
    EventKind.DENIED,
    EventKind.REFUSED,
    EventKind.DELETED,
    EventKind.DISPATCHED,
    EventKind.PROCESSED,
)
_READ = frozenset({EventKind.DISPLAYED, EventKind.REPLIED})
_WORST = (Delivery.EXPANDED, Delivery.RELAYED, Delivery.DELIVERED)
_HANDED_ON = frozenset({EventKind.RELAYED, EventKind.EXPANDED})
_RELAYED = RANK[Level.RELAYED]
_KEYED = RANK[Trust.KEYED]


@dataclass(frozen=True, slots=True)
class BranchState:
    """The state of one branch. *progress* is how far it came, bad news left aside."""

    name: str
    progress: Delivery | None
    disposition: Disposition
    proves_delivery: bool
    has_failed: bool
    is_refused: bool

    @property
    def is_bad(self) -> bool:
        return self.has_failed or self.is_refused

    @property
    def is_overridden(self) -> bool:
        """Whether the same final recipient has displayed or answered what a report called failed."""
        return self.is_bad and self.disposition in (Disposition.DISPLAYED, Disposition.REPLIED)

    @property
    def delivery(self) -> Delivery:
        """What is shown of the branch."""
        if self.has_failed and self.proves_delivery:
            return Delivery.CONTRADICTED
        return Delivery.FAILED if self.is_bad else self.progress or Delivery.ACCEPTED


def bad_news(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return the failures that move the state: those with at least the trust of what they contradict.

    They contradict every fact from `relayed` up, whichever branch it stands in, for the receipt rests on it; but
    `relayed` and `expanded` say that a server beyond may still report, which our envelope id may not have reached.
    A refusal by our own submission server says nothing where another attempt may have gone through.
    """
    needed = max((_needed(one) for one in readings if one.rank >= _RELAYED), default=RANK[Trust.PLAUSIBLE])
    sent = any(one.kind in (EventKind.ACCEPTED, EventKind.UNCERTAIN) and one.event.source in OURS for one in readings)
    return tuple(
        one
        for one in readings
        if one.kind in BAD and (one.trust >= needed or is_sealed(one.event)) and not (sent and one.event.source in OURS)
    )


def _needed(fact: Reading) -> int:
    """Return the trust that bad news needs beside *fact*."""
    return min(fact.trust, _KEYED) if fact.kind in _HANDED_ON else fact.trust


def undisputed(readings: Sequence[Reading], bad: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return *readings* without word that it was read which bad news of the same branch outweighs.

    Only with a key does it override the bad news: who has that has the copy, who only knows the Message-ID may not.
    """
    failed = {one.branch for one in bad}
    return tuple(one for one in readings if one.kind not in _READ or one.trust >= _KEYED or one.branch not in failed)


def branch_states(readings: Sequence[Reading], bad: Sequence[Reading]) -> tuple[BranchState, ...]:
    """Return each branch of which a report (or our own refusal) speaks, sorted by name."""
    failures = _by_branch(bad)
    proofs = _by_branch(one for one in readings if one.rank >= _RELAYED)
    delays = _by_branch(one for one in readings if one.kind is EventKind.DELAYED)
    nothing: frozenset[EventKind] = frozenset()
    return tuple(
        _branch_state(
            name,
            proofs.get(name, nothing),
            failures.get(name, nothing),
            delays.get(name, nothing),
        )
        for name in sorted({*proofs, *delays, *failures})
    )


def _by_branch(readings: Iterable[Reading]) -> dict[str, frozenset[EventKind]]:
    kinds: dict[str, set[EventKind]] = {}
    for one in readings:
        kinds.setdefault(one.branch, set()).add(one.kind)
    return {name: frozenset(found) for name, found in kinds.items()}


def _branch_state(
    name: str, proofs: frozenset[EventKind], failures: frozenset[EventKind], asides: frozenset[EventKind]
) -> BranchState:
    arrivals = proofs - {EventKind.RELAYED, EventKind.EXPANDED}
    progress: Delivery | None = Delivery.DELIVERED if arrivals else None
    for kind in (EventKind.RELAYED, EventKind.EXPANDED, EventKind.DELAYED):
        if progress is None and kind in proofs | asides:
            progress = Delivery(kind.value)
    has_failed = EventKind.FAILED in failures
    return BranchState(
        name=name,
        progress=progress,
        disposition=strongest(proofs | failures | asides),
        # A `displayed` that overrides leaves the record as it was: failed.
        proves_delivery=bool(arrivals - _READ if has_failed else arrivals),
        has_failed=has_failed,
        is_refused=EventKind.REFUSED in failures,
    )


def strongest(kinds: Iterable[EventKind]) -> Disposition:
    """Return the strongest disposition among *kinds*."""
    among = frozenset(kinds)
    return next((Disposition(kind.value) for kind in _STRONGEST if kind in among), Disposition.NONE)


def delivery(readings: Sequence[Reading], branch_states: Sequence[BranchState], own: str) -> Delivery:
    """Return the delivery track: over branches the worst counts."""
    if any(one.is_bad for one in branch_states):
        is_contradicted = any(one.has_failed for one in branch_states) and any(
            one.proves_delivery for one in branch_states
        )
        return Delivery.CONTRADICTED if is_contradicted else Delivery.FAILED
    # A branch that is only delayed says nothing beside another fact: it never holds the others back.
    named = {one.progress for one in branch_states if one.name != own and one.progress in _WORST}
    mine = {one.progress for one in branch_states if one.name == own and one.progress in _WORST}
    counted = named | (mine & {Delivery.DELIVERED} if named else mine)
    if counted:
        return next(word for word in _WORST if word in counted)
    return Delivery.DELAYED if any(one.progress is Delivery.DELAYED for one in branch_states) else _sent(readings)


def _sent(readings: Sequence[Reading]) -> Delivery:
    """Return how far our own submission came; any matched report proves acceptance."""
    kinds = {one.kind for one in readings}
    if EventKind.ACCEPTED in kinds or is_reported(readings):
        return Delivery.ACCEPTED
    for kind in (EventKind.UNCERTAIN, EventKind.CANCELLED, EventKind.DEFERRED):
        if kind in kinds:
            return Delivery(kind.value)
    return Delivery.QUEUED


def is_reported(readings: Sequence[Reading]) -> bool:
    """Whether any report came back: then the submission server had taken the message."""
    return any(one.event.source in REPORTS for one in readings)


def shown(branch_states: Sequence[BranchState], own: str, address: str) -> tuple[Branch, ...]:
    """Return the branches as shown; our own address as the sender wrote it."""
    return tuple(
        Branch(address if one.name == own else one.name, one.delivery, one.disposition) for one in branch_states
    )
