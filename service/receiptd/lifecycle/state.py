"""The join: readings of all events -> the three tracks (docs/design.md §6)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from receiptd.facts import (
    Delivery,
    Demand,
    Disposition,
    Event,
    EventKind,
    Level,
    Receipt,
    RecipientState,
    Trust,
)
from receiptd.lifecycle import branches, reasons
from receiptd.lifecycle.branches import BranchState
from receiptd.lifecycle.reading import BAD, PROVES, RANK, REPORTS, Reading, read
from receiptd.mail import address

_LEVELS = {
    Delivery.DELIVERED: Level.DELIVERED,
    Delivery.RELAYED: Level.RELAYED,
    Delivery.EXPANDED: Level.RELAYED,
    Delivery.ACCEPTED: Level.ACCEPTED,
    Delivery.DELAYED: Level.ACCEPTED,
}
_READ = {Disposition.DISPLAYED: Level.DISPLAYED, Disposition.REPLIED: Level.REPLIED}
_NOT_READ = (Disposition.DELETED, Disposition.DENIED, Disposition.ERROR)
_BY_TRUST = {RANK[trust]: trust for trust in Trust}


@dataclass(frozen=True, slots=True)
class _Joined:
    """What the branches say together, before it is held against the demand."""

    readings: tuple[Reading, ...]
    bad: tuple[Reading, ...]
    branch_states: tuple[BranchState, ...]
    delivery: Delivery
    disposition: Disposition

    @property
    def kinds(self) -> set[EventKind]:
        return {one.kind for one in self.readings}

    @property
    def is_failed(self) -> bool:
        """Whether bad news stands that no one's own `displayed` or answer overrides."""
        return any(one.is_bad and not one.is_overridden for one in self.branch_states)


def fold(events: Iterable[Event], demand: Demand) -> RecipientState:
    """Return the state of a recipient that *events* prove, in whatever order and however often they came.

    Precedence decides, never time; time is looked at in two places: an automatic `displayed` within a
    minute of acceptance is a scanner's, and evidence is in time if our server had it by the deadline.

    Judgement calls where the table leaves room:

    * Evidence below `minimum_trust` moves nothing but queued, deferred and uncertain (any matched report
      proves acceptance); a plausible failure moves the state where nothing better trusted stands against it, word
      that it was not read doesn't: nothing is known to have failed.
    * `level` is what is proven and undisputed: after delivered + failed that is `relayed`.
    * A branch that is only delayed never holds another back; a refusal beside `delivered` is the
      explanation of that delivery, not its contradiction.
    * The receipt of a copy that was sent again meets this one's, whatever stands in the record, and moves no
      other track.
    * A person's `waive` stays, whatever comes later (only `confirm` is stronger); a message cancelled
      before it was sent needs no receipt, so its receipt track says waived.
    """
    readings = read(events, demand)
    own = address.key(demand.address)
    bad = branches.bad_news(readings)
    readings = branches.undisputed(readings, bad)
    branch_states = branches.branch_states(readings, bad)
    joined = _Joined(
        readings,
        bad,
        branch_states,
        branches.delivery(readings, branch_states, own),
        branches.strongest(EventKind(one.disposition.value) for one in branch_states if one.disposition in _DISPOSED),
    )
    level = _level(joined)
    own_at, copy_at = _met_at(joined, level, demand), _met_by_copy_at(readings)
    met_at = min((at for at in (own_at, copy_at) if at is not None), default=None)
    receipt = _receipt(joined, met_at, demand)
    is_copys = receipt.is_met and own_at is None
    disposition_event = _disposition_event(joined)
    return RecipientState(
        delivery=joined.delivery,
        disposition=joined.disposition,
        receipt=receipt,
        level=level,
        trust=_trust(joined, level),
        branches=branches.shown(branch_states, own, demand.address),
        disposition_mode=disposition_event.detail.get("disposition_mode") if disposition_event else None,
        disposition_modifiers=tuple(disposition_event.detail.get("modifiers") or ()) if disposition_event else (),
        reason=reasons.COPY if is_copys else _reason(joined, receipt, level),
        met_at=met_at if receipt.is_met else None,
        is_confirmed=EventKind.CONFIRMED in joined.kinds,
    )


def _reason(joined: _Joined, receipt: Receipt, level: Level | None) -> str | None:
    """Return why the receipt isn't met; of one that is overdue at least what its alert says."""
    said = reasons.reason(
        joined.readings, joined.bad, joined.branch_states, joined.delivery, joined.disposition, receipt
    )
    if said is not None or receipt is not Receipt.OVERDUE:
        return said
    overdue = [one.event for one in joined.readings if one.kind is EventKind.OVERDUE]
    is_late = any(event.detail.get("submitted") is False for event in overdue)
    return reasons.overdue(joined.delivery, level, submitted=level is not None, is_late=is_late)


def uncounted(events: Iterable[Event], demand: Demand) -> frozenset[str]:
    """Return the ids of the events that have too little trust to count: they stand in the record and move no track."""
    told = tuple(events)
    readings = read(told, demand)
    bad = branches.bad_news(readings)
    moving = {one.event.id for one in bad}
    counted = {one.event.id for one in branches.undisputed(readings, bad) if _counts(one, moving)}
    return frozenset(event.id for event in told) - counted


def _counts(one: Reading, bad: Container[str]) -> bool:
    """Whether a reading may move a track; a delay needs less trust than proof."""
    if one.event.source not in REPORTS:
        return True
    if one.kind in BAD:
        return one.event.id in bad
    return one.rank >= 0 or one.kind not in PROVES


_DISPOSED = frozenset(Disposition) - {Disposition.NONE}


def _level(joined: _Joined) -> Level | None:
    """Return the strongest level that is proven and that nobody disputes."""
    if joined.disposition in _READ:
        return _READ[joined.disposition]
    if joined.delivery not in (Delivery.FAILED, Delivery.CONTRADICTED):
        return _LEVELS.get(joined.delivery)
    if any(one.rank >= RANK[Level.RELAYED] for one in joined.readings):
        return Level.RELAYED
    is_accepted = EventKind.ACCEPTED in joined.kinds or branches.is_reported(joined.readings)
    return Level.ACCEPTED if is_accepted else None


def _met_at(joined: _Joined, level: Level | None, demand: Demand) -> datetime | None:
    """Return when the demand was satisfied first, by evidence at our server or a person's word; None if it isn't."""
    satisfying = [one for one in joined.readings if one.kind is EventKind.CONFIRMED]
    if level is not None and RANK[level] >= RANK[demand.require] and not _is_hopeless(joined, demand):
        satisfying += _proofs(joined.readings, demand.require)
    return min((one.event.observed_at for one in satisfying), default=None)


def _met_by_copy_at(readings: Sequence[Reading]) -> datetime | None:
    """Return when the receipt of a copy sent again was met first; of each copy what was said last counts.

    Last is what the copy's own version says, not a clock: so that it stands wherever the copy stands in the end.
    """
    said = sorted(
        (one.event for one in readings if one.event.is_of_copy),
        key=lambda event: (int(event.detail["version"]), event.id),
    )
    last = {event.detail["recipient"]: event for event in said}
    met = (event.observed_at for event in last.values() if Receipt(event.detail["receipt"]).is_met)
    return min(met, default=None)


def _proofs(readings: Sequence[Reading], level: Level) -> list[Reading]:
    return [one for one in readings if one.rank >= RANK[level]]


def _receipt(joined: _Joined, met_at: datetime | None, demand: Demand) -> Receipt:
    kinds = joined.kinds
    is_waived = EventKind.WAIVED in kinds or joined.delivery is Delivery.CANCELLED
    if is_waived and EventKind.CONFIRMED not in kinds:
        return Receipt.WAIVED
    if met_at is not None:
        is_late = demand.deadline is not None and met_at > demand.deadline
        return Receipt.MET_LATE if is_late else Receipt.MET
    if _is_hopeless(joined, demand):
        return Receipt.FAILED
    return Receipt.OVERDUE if EventKind.OVERDUE in kinds else Receipt.OPEN


def _is_hopeless(joined: _Joined, demand: Demand) -> bool:
    """Whether the receipt of this message itself can't be met any more."""
    must_be_read = RANK[demand.require] >= RANK[Level.DISPLAYED]
    return joined.is_failed or (must_be_read and joined.disposition in _NOT_READ)


def _trust(joined: _Joined, level: Level | None) -> Trust | None:
    """Return how sure the evidence is on which the state rests."""
    if joined.is_failed:
        resting = list(joined.bad)
    elif level is None:
        return None
    else:
        resting = _proofs(joined.readings, level) or [one for one in joined.readings if one.event.source in REPORTS]
    return _BY_TRUST[max(one.trust for one in resting)] if resting else None


def _disposition_event(joined: _Joined) -> Event | None:
    """Return the event that tells the disposition; a person's before an automaton's, then the earliest."""
    telling = [one.event for one in joined.readings if one.kind.value == joined.disposition.value]
    return min(
        telling, key=lambda event: (bool(event.detail.get("automatic")), event.observed_at, event.id), default=None
    )
