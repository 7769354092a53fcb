"""Requirement, deadlines, levels: what is asked of a recipient, and who is told if it does not come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from receiptd.errors import BadData
from receiptd.facts import (
    Delivery,
    Demand,
    Disposition,
    Event,
    EventKind,
    Level,
    Receipt,
    RecipientState,
    Role,
    Source,
    Trust,
)
from receiptd.mail import address as addresses
from receiptd.settings.model import EscalationLevel, PolicySettings, Settings

_UNREAD = {
    EventKind.DELETED: "deleted, and does not say that it was displayed",
    EventKind.DENIED: "opened by somebody who declined to say whether it was displayed",
    EventKind.ERROR: "hit by an error, and does not say that it was displayed",
}
_FAILED = (Delivery.FAILED, Delivery.CONTRADICTED)
_READ = (Disposition.DISPLAYED, Disposition.REPLIED)
_NOT_READ = (Disposition.DELETED, Disposition.DENIED, Disposition.ERROR)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is required of one recipient, within which time of the first final dot, and who is told."""

    require: Level
    within: timedelta
    minimum_trust: Trust
    onward: bool
    levels: tuple[EscalationLevel, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something about one recipient that people must be told.

    *kind* is failed, contradicted, refused or overdue (the `receipt.*` type); *unproven* news moved no state. Told
    *again* is what only a doubtful report had said before: the person who dismissed that hears of the sure one.
    """

    kind: str
    unproven: bool
    reason: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    """The next level of an open incident: when it is due and whom it tells."""

    due_at: datetime
    to: tuple[str, ...]


def effective(
    settings: Settings,
    name: str,
    address: str,
    *,
    require: Level | None = None,
    within: timedelta | None = None,
    role: Role = Role.TO,
    require_all: bool = False,
) -> Terms:
    """Return the terms for *address*: the message's own word before its domain's exception before the policy's.

    An exception holds for that very domain, in any spelling, and for none below it. What the message requires beyond
    the policy holds for Cc and Bcc only with *require_all* (docs/design.md §4). Raises BadData where there is no
    policy *name*.
    """
    policy = _named(settings, name)
    domain = addresses.domain_key(address.rpartition("@")[2])
    exception = next((one for one in policy.domain if addresses.domain_key(one.name) == domain), None)
    usual = (exception and exception.require) or policy.require
    wished = require or usual
    is_beyond = role is not Role.TO and not require_all and wished.at_least(usual)
    return Terms(
        require=usual if is_beyond else wished,
        within=within or (exception and exception.within) or policy.within,
        minimum_trust=policy.minimum_trust or minimum_trust(settings),
        onward=policy.onward,
        levels=levels(settings, name),
    )


def minimum_trust(settings: Settings) -> Trust:
    """Return what may satisfy where the policy doesn't say: a key, unless the provider lets us give out none."""
    return Trust.KEYED if settings.receipts.subaddress else Trust.PLAUSIBLE


def levels(settings: Settings, name: str) -> tuple[EscalationLevel, ...]:
    """Return the levels of policy *name*, never none: by default every webhook is told at once.

    A policy may be taken out of the settings while messages still stand under it: those are told as `default` says.
    """
    everyone = EscalationLevel(to=tuple(webhook.name for webhook in settings.webhook))
    policy = settings.policy.get(name) or _named(settings, "default")
    return policy.levels or (everyone,)


def next_level(levels: Sequence[EscalationLevel], incident_started_at: datetime, n: int) -> Next | None:
    """Return the level after the first *n*, or None if all have been told.

    Levels count from the beginning of the incident, never from the last alert (docs/design.md §7).
    """
    if n >= len(levels):
        return None
    return Next(incident_started_at + levels[n].after, levels[n].to)


def alarms(
    before: RecipientState, after: RecipientState, new_events: Iterable[Event], demand: Demand
) -> tuple[Alarm, ...]:
    """Return what people must be told of a move from *before* to *after*.

    A proven alarm is raised when a state begins to fail, fails in another way, or fails for sure now.
    News that moved nothing for want of trust is an unproven alarm, once per kind, where no proven one says as much
    already. A waived receipt has no alarm: what comes later is recorded. One that a person's word meets stays met, and
    bad news after that word is an alarm all the same. Auto-replies and challenges aren't incidents: see
    `auto_reply_reason`. `overdue` is the clock's to raise, but where a copy had met the receipt and failed after all.
    """
    if after.receipt is Receipt.WAIVED:
        return ()
    is_surer = _is_sure(after) and not _is_sure(before)
    if trouble := _trouble(after):
        known = _trouble(before)
        if known is None or known.kind != trouble.kind:
            return (trouble,)
        return (replace(trouble, again=True),) if is_surer else ()
    if after.is_confirmed and (kind := _contested(after, demand)):
        known_kind = _contested(before, demand)
        if kind != known_kind or is_surer:
            return (Alarm(kind, unproven=False, reason=after.reason or _FAILURE, again=kind == known_kind),)
    if before.receipt.is_met and after.receipt is Receipt.OVERDUE:
        return (Alarm("overdue", unproven=False, reason=after.reason or _SILENCE),)
    unproven = (_unproven(event, after, demand) for event in new_events)
    return tuple({alarm.kind: alarm for alarm in unproven if alarm}.values())


def _is_sure(state: RecipientState) -> bool:
    """Whether what *state* rests on is more than somebody who knows the Message-ID could have written."""
    return state.trust is not None and state.trust.at_least(Trust.KEYED)


def _trouble(state: RecipientState) -> Alarm | None:
    """Return the alarm that holds in *state*."""
    if state.receipt is not Receipt.FAILED:
        return None
    return Alarm(_kind(state), unproven=False, reason=state.reason or _FAILURE)


def _kind(state: RecipientState) -> str:
    """Return as what a state fails."""
    if state.delivery is Delivery.CONTRADICTED:
        return "contradicted"
    if state.disposition is Disposition.REFUSED or state.delivery is not Delivery.FAILED:
        return "refused"  # by the recipient's server, or the reading that was required
    return "failed"


def is_contested(state: RecipientState, demand: Demand) -> bool:
    """Whether a person's word alone meets the receipt, and reports say otherwise."""
    return state.is_confirmed and _contested(state, demand) is not None


def _contested(state: RecipientState, demand: Demand) -> str | None:
    """Return as what *state* would fail but for a person's word: no reader's own answer overrides the bad news."""
    has_failed = any(one.delivery in _FAILED and one.disposition not in _READ for one in state.branches)
    is_unread = demand.require.at_least(Level.DISPLAYED) and state.disposition in _NOT_READ
    return _kind(state) if has_failed or is_unread else None


def _unproven(event: Event, after: RecipientState, demand: Demand) -> Alarm | None:
    """Return the alarm for bad news that moved nothing, or None if it isn't bad news or has moved the state."""
    if event.kind is EventKind.COMPLAINED:
        return Alarm("refused", unproven=True, reason=COMPLAINED)
    if event.kind in (EventKind.FAILED, EventKind.REFUSED):
        return _unproven_failure(event, after, demand)
    is_doubtful = not event.trust.at_least(demand.minimum_trust)
    if event.kind in _UNREAD and is_doubtful and demand.require.at_least(Level.DISPLAYED):
        is_read = after.disposition in _READ
        return None if is_read else Alarm("refused", unproven=True, reason=UNPROVEN[event.kind])
    return None


def _unproven_failure(event: Event, after: RecipientState, demand: Demand) -> Alarm | None:
    if event.source in (Source.SMTP, Source.CLOCK):  # our own word: it moves the state, or an attempt is uncertain
        is_uncertain = after.delivery is Delivery.UNCERTAIN
        return Alarm("failed", unproven=True, reason=REFUSED_AGAIN) if is_uncertain else None
    branch = event.final_recipient or demand.address
    for one in after.branches:
        # It has moved its branch; or the same final recipient's own answer overrides it, as it would proven news.
        is_read = one.disposition in _READ and after.trust is not None and after.trust.at_least(Trust.KEYED)
        if addresses.same(one.final_recipient, branch) and (one.delivery in _FAILED or is_read):
            return None
    kind = "failed" if event.kind is EventKind.FAILED else "refused"
    return Alarm(kind, unproven=True, reason=UNPROVEN[event.kind])


def auto_reply_reason(event: Event) -> str:
    """Return what an automaton's answer amounts to."""
    if event.kind is EventKind.HELD:
        return CHALLENGED
    return RETURNS if event.detail.get("returns_at") else AUTO_REPLIED


def _named(settings: Settings, name: str) -> PolicySettings:
    if name in settings.policy:
        return settings.policy[name]
    if name == "default":
        return PolicySettings()
    known = ", ".join(sorted({"default", *settings.policy}))
    raise BadData(f"There is no policy {name!r}; there are: {known}")


_FAILURE = "A report says that the message failed."
_NOTHING_MOVED = "It is less sure than what is known, so the state stays as it is."
UNPROVEN = {
    EventKind.FAILED: f"A report says that delivery failed. {_NOTHING_MOVED}",
    EventKind.REFUSED: f"A report says that a mail filter refused the message. {_NOTHING_MOVED}",
    **{kind: f"A report says that the message was {what}. {_NOTHING_MOVED}" for kind, what in _UNREAD.items()},
}
REFUSED_AGAIN = (
    "The submission server refused the message when it was sent again; whether it took it the first time is not known."
)
COMPLAINED = "A complaint came back: the recipient, or a filter, reported the message as unwanted."
_SILENCE = "The required receipt has not come by the deadline."
CHALLENGED = "The recipient's server asks the sender to answer a challenge before it lets the message through."
RETURNS = "An automatic answer came, with a date of return; it does not say whether anybody has seen the message."
AUTO_REPLIED = "An automatic answer came; it does not say whether anybody has seen the message."
