"""The laws of docs/design.md §6: state is a join of facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.facts import (
    Delivery,
    Demand,
    Disposition,
    Event,
    EventKind,
    Level,
    MatchedBy,
    Receipt,
    RecipientState,
    Source,
    Trust,
)
from receiptd.lifecycle import fold, reasons, uncounted

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
DEADLINE = START + timedelta(hours=4)
BOB = "bob@b.org"
ANN = "ann@c.org"
KIM = "kim@c.org"
DEMAND = Demand(address=BOB, deadline=DEADLINE)

SOURCES = {
    EventKind.QUEUED: Source.SMTP,
    EventKind.DEFERRED: Source.SMTP,
    EventKind.UNCERTAIN: Source.SMTP,
    EventKind.ACCEPTED: Source.SMTP,
    EventKind.DISPLAYED: Source.MDN,
    EventKind.DELETED: Source.MDN,
    EventKind.REFUSED: Source.MDN,
    EventKind.DISPATCHED: Source.MDN,
    EventKind.PROCESSED: Source.MDN,
    EventKind.DENIED: Source.MDN,
    EventKind.ERROR: Source.MDN,
    EventKind.REPLIED: Source.REPLY,
    EventKind.AUTO_REPLIED: Source.REPLY,
    EventKind.HELD: Source.REPLY,
    EventKind.COMPLAINED: Source.FEEDBACK,
    EventKind.OVERDUE: Source.CLOCK,
    EventKind.MET: Source.CLOCK,
    EventKind.ACKNOWLEDGED: Source.PERSON,
    EventKind.WAIVED: Source.PERSON,
    EventKind.CONFIRMED: Source.PERSON,
    EventKind.CANCELLED: Source.PERSON,
    EventKind.RESENT: Source.PERSON,
}


def event(
    kind: EventKind,
    branch: str | None = None,
    *,
    after: float = 60,
    trust: Trust = Trust.KEYED,
    source: Source | None = None,
    **detail: Any,
) -> Event:
    """An event *after* so many seconds; equal arguments give equal ids."""
    source = source or SOURCES.get(kind, Source.DSN)
    name = f"{kind}/{branch}/{after}/{trust}/{source}/{sorted(detail.items())}"
    at = START + timedelta(seconds=after)
    return Event(name, "r1", kind, at, source, trust, final_recipient=branch, detail=detail)


QUEUED = event(EventKind.QUEUED, after=0)
ACCEPTED = event(EventKind.ACCEPTED, after=1)


def after(*events: Event, demand: Demand = DEMAND, **changes: Any) -> RecipientState:
    """The state after acceptance and *events*."""
    return fold((QUEUED, ACCEPTED, *events), replace(demand, **changes))


FAILED = event(EventKind.FAILED)
RELAYED = event(EventKind.RELAYED)
EXPANDED = event(EventKind.EXPANDED)
DELIVERED = event(EventKind.DELIVERED)
DISPLAYED = event(EventKind.DISPLAYED)
REPLIED = event(EventKind.REPLIED, trust=Trust.PLAUSIBLE)


def copy(receipt: Receipt = Receipt.MET, *, version: int = 3, after: float = 60, of: str = "r2") -> Event:
    """What the copy for recipient *of* said in its *version* of how its own receipt stands."""
    return event(
        EventKind.RESENT, after=after, source=Source.CLOCK, copy="m2", recipient=of, version=version, receipt=receipt
    )


# The laws

COPIES = st.builds(
    copy,
    st.sampled_from(list(Receipt)),
    version=st.integers(1, 4),
    after=st.sampled_from([60, 20_000]),
    of=st.sampled_from(["r2", "r3"]),
)
EVENTS = st.lists(
    COPIES
    | st.builds(
        event,
        st.sampled_from(list(EventKind)),
        st.sampled_from([None, BOB, "bob@B.ORG", "Bob@b.org", ANN, KIM]),
        after=st.sampled_from([0, 2, 5, 60, 61.5, 20_000]),
        trust=st.sampled_from(list(Trust)),
        source=st.sampled_from([None, Source.SMTP, Source.DSN, Source.BOUNCE, Source.MDN]),
        automatic=st.booleans(),
        onward=st.booleans(),
        modifiers=st.sampled_from([(), ("error",)]),
        disposition_mode=st.sampled_from(["automatic-action", "manual-action"]),
    ),
    max_size=9,
)
DEMANDS = st.builds(
    Demand,
    address=st.just(BOB),
    require=st.sampled_from(list(Level)),
    deadline=st.sampled_from([None, DEADLINE]),
    minimum_trust=st.sampled_from(list(Trust)),
    onward=st.booleans(),
)


@given(EVENTS, DEMANDS, st.data())
def test_any_order_and_any_repetition_give_the_same_state(
    events: list[Event], demand: Demand, data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    shuffled = data.draw(st.permutations(events + again))
    assert fold(shuffled, demand) == fold(events, demand)


@given(EVENTS, DEMANDS, st.data())
def test_copies_with_another_time_or_trust_make_no_order_either(
    events: list[Event], demand: Demand, data: st.DataObject
) -> None:
    seconds, trusts = st.integers(-9, 9), st.sampled_from(Trust)
    copies = [
        replace(one, observed_at=one.observed_at + timedelta(seconds=data.draw(seconds)), trust=data.draw(trusts))
        for one in events
    ]
    assert fold(events + copies, demand) == fold(copies + events, demand)


@given(EVENTS, EVENTS, DEMANDS)
def test_weak_news_moves_nothing(events: list[Event], others: list[Event], demand: Demand) -> None:
    weak = [replace(one, id=f"weak {one.id}", trust=Trust.WEAK) for one in others]
    assert fold(events + weak, demand) == fold(events, demand)


@given(EVENTS, DEMANDS)
def test_evidence_below_the_minimum_never_satisfies(events: list[Event], demand: Demand) -> None:
    low = [
        replace(one, trust=Trust.PLAUSIBLE)
        for one in events
        if one.kind not in (EventKind.REPLIED, EventKind.CONFIRMED) and not one.is_of_copy
    ]
    assert not fold(low, replace(demand, minimum_trust=Trust.KEYED)).receipt.is_met


@given(EVENTS, EVENTS)
def test_less_trusted_failures_never_undo_a_met_receipt(events: list[Event], others: list[Event]) -> None:
    good = [one for one in events if one.kind not in (EventKind.FAILED, EventKind.REFUSED)]
    bad = [
        replace(one, id=f"bad {one.id}", kind=EventKind.FAILED, source=Source.BOUNCE, trust=Trust.PLAUSIBLE)
        for one in others
    ]
    before = fold([*good, RELAYED], DEMAND)
    assert fold([*good, RELAYED, *bad], DEMAND) == before


@given(EVENTS, EVENTS, DEMANDS)
def test_no_holder_of_a_copy_fails_what_a_server_on_the_way_reported_delivered(
    events: list[Event], others: list[Event], demand: Demand
) -> None:
    sealed = event(EventKind.DELIVERED, trust=Trust.SEALED)
    bad = [
        replace(one, id=f"bad {one.id}", kind=EventKind.FAILED, source=Source.DSN, trust=Trust.KEYED) for one in others
    ]
    demand = replace(demand, minimum_trust=Trust.KEYED)
    before, after = fold([*events, sealed], demand), fold([*events, sealed, *bad], demand)
    assert (after.delivery, after.receipt, after.level) == (before.delivery, before.receipt, before.level)


@given(EVENTS, DEMANDS)
def test_a_met_receipt_has_proof_a_copys_or_a_persons_word(events: list[Event], demand: Demand) -> None:
    state = fold(events, demand)
    if state.reason == reasons.COPY:
        state = fold((one for one in events if one.kind is not EventKind.RESENT), demand)
        assert not state.receipt.is_met
    if state.receipt.is_met and EventKind.CONFIRMED not in {one.kind for one in events}:
        assert state.level is not None
        assert state.level.at_least(demand.require)
        assert state.trust is not None
        assert state.met_at is not None


@given(EVENTS, st.sampled_from(list(EventKind)))
def test_only_a_failure_can_take_a_default_receipt_away(events: list[Event], kind: EventKind) -> None:
    """The default requirement is `relayed`: whatever else is heard afterwards, it stays met."""
    before = fold([*events, RELAYED], DEMAND)
    if before.receipt.is_met and kind not in (EventKind.FAILED, EventKind.REFUSED, EventKind.WAIVED):
        assert fold([*events, RELAYED, event(kind, ANN, after=70)], DEMAND).receipt.is_met


# Submission


@pytest.mark.parametrize(
    ("events", "delivery"),
    [
        ([], Delivery.QUEUED),
        ([QUEUED], Delivery.QUEUED),
        ([QUEUED, event(EventKind.DEFERRED)], Delivery.DEFERRED),
        ([QUEUED, event(EventKind.DEFERRED), event(EventKind.UNCERTAIN)], Delivery.UNCERTAIN),
        ([QUEUED, event(EventKind.UNCERTAIN), event(EventKind.DEFERRED, after=900)], Delivery.UNCERTAIN),
        ([QUEUED, event(EventKind.UNCERTAIN), ACCEPTED], Delivery.ACCEPTED),
        ([QUEUED, event(EventKind.FAILED, source=Source.SMTP)], Delivery.FAILED),
        ([QUEUED, event(EventKind.DEFERRED), event(EventKind.FAILED, source=Source.CLOCK)], Delivery.FAILED),
        ([QUEUED, event(EventKind.CANCELLED)], Delivery.CANCELLED),
        ([QUEUED, ACCEPTED, event(EventKind.CANCELLED)], Delivery.ACCEPTED),
    ],
)
def test_submission_is_a_join_too(events: list[Event], delivery: Delivery) -> None:
    assert {fold(order, DEMAND).delivery for order in permutations(events)} == {delivery}


def test_a_refused_second_try_leaves_it_uncertain() -> None:
    state = fold([event(EventKind.UNCERTAIN), event(EventKind.FAILED, source=Source.SMTP, after=900)], DEMAND)
    assert (state.delivery, state.receipt, state.level) == (Delivery.UNCERTAIN, Receipt.OPEN, None)
    assert state.reason == reasons.UNCERTAIN


@pytest.mark.parametrize("own", [EventKind.QUEUED, EventKind.UNCERTAIN, EventKind.DEFERRED])
@pytest.mark.parametrize("told", [EventKind.AUTO_REPLIED, EventKind.HELD, EventKind.COMPLAINED])
@pytest.mark.parametrize("trust", [Trust.KEYED, Trust.PLAUSIBLE])
def test_any_matched_report_proves_acceptance(own: EventKind, told: EventKind, trust: Trust) -> None:
    state = fold([event(own, after=0), event(told, trust=trust)], DEMAND)
    assert (state.delivery, state.level) == (Delivery.ACCEPTED, Level.ACCEPTED)


def test_a_weak_report_does_not_even_prove_acceptance() -> None:
    state = fold([event(EventKind.UNCERTAIN), event(EventKind.DELIVERED, trust=Trust.WEAK)], DEMAND)
    assert state.delivery is Delivery.UNCERTAIN


def test_a_report_does_not_undo_a_refusal_at_submission() -> None:
    state = fold([QUEUED, event(EventKind.FAILED, source=Source.SMTP), event(EventKind.AUTO_REPLIED)], DEMAND)
    assert (state.delivery, state.receipt) == (Delivery.FAILED, Receipt.FAILED)


def test_a_cancelled_message_needs_no_receipt() -> None:
    assert fold([QUEUED, event(EventKind.CANCELLED)], DEMAND).receipt is Receipt.WAIVED


# The table of docs/design.md §6, row by row


@pytest.mark.parametrize(
    ("fact", "delivery"),
    [
        (RELAYED, Delivery.RELAYED),
        (EXPANDED, Delivery.EXPANDED),
        (DELIVERED, Delivery.DELIVERED),
        (FAILED, Delivery.FAILED),
        (event(EventKind.PROCESSED), Delivery.DELIVERED),
    ],
)
@pytest.mark.parametrize("branch", [None, ANN])
def test_delayed_and_anything_else_is_the_else(fact: Event, delivery: Delivery, branch: str | None) -> None:
    assert after(event(EventKind.DELAYED, branch, after=5000), fact).delivery is delivery


def test_delayed_alone_is_delayed_and_open() -> None:
    state = after(event(EventKind.DELAYED))
    assert (state.delivery, state.receipt, state.level) == (Delivery.DELAYED, Receipt.OPEN, Level.ACCEPTED)


def test_relayed_proves_no_delivery_and_a_bounce_may_still_come() -> None:
    """RFC 3461 §5.2.2: the next server makes no reports, only bounces of the old kind."""
    state = after(RELAYED, require=Level.DELIVERED)
    assert (state.delivery, state.receipt, state.level) == (Delivery.RELAYED, Receipt.OPEN, Level.RELAYED)
    assert after(RELAYED, event(EventKind.FAILED, source=Source.BOUNCE)).delivery is Delivery.FAILED


def test_delivered_is_the_end_unless_somebody_must_read_it() -> None:
    """RFC 3461 §5.2.7: a list's members report to its owner, a secret forward to nobody: nothing more will come."""
    assert after(DELIVERED, require=Level.DELIVERED).receipt is Receipt.MET
    for level in (Level.DISPLAYED, Level.REPLIED):
        assert after(DELIVERED, require=level).receipt is Receipt.OPEN


def test_relayed_and_delivered_is_delivered() -> None:
    state = after(RELAYED, DELIVERED)
    assert (state.delivery, state.level) == (Delivery.DELIVERED, Level.DELIVERED)


@pytest.mark.parametrize("first", [RELAYED, EXPANDED])
@pytest.mark.parametrize("branch", [None, ANN])
def test_relayed_or_expanded_and_failed_is_failed(first: Event, branch: str | None) -> None:
    state = after(first, event(EventKind.FAILED, branch, after=59))
    assert (state.delivery, state.receipt, state.level) == (Delivery.FAILED, Receipt.FAILED, Level.RELAYED)
    if first is EXPANDED or branch:
        assert state.reason == "One branch of an alias failed, others may have arrived."


@pytest.mark.parametrize("delivered", [None, ANN])
@pytest.mark.parametrize("failed", [None, ANN, KIM])
def test_delivered_and_failed_in_any_branch_is_a_contradiction(delivered: str | None, failed: str | None) -> None:
    state = after(event(EventKind.DELIVERED, delivered), event(EventKind.FAILED, failed))
    assert (state.delivery, state.receipt) == (Delivery.CONTRADICTED, Receipt.FAILED)
    assert state.level is Level.RELAYED  # what is disputed isn't proven


@pytest.mark.parametrize("read", [EventKind.DISPLAYED, EventKind.REPLIED])
@pytest.mark.parametrize(("branch", "same"), [(None, BOB), (ANN, "ann@C.org")])
def test_displayed_or_replied_by_that_same_final_recipient_overrides_a_failure(
    read: EventKind, branch: str | None, same: str
) -> None:
    state = after(event(EventKind.FAILED, branch), event(read, same))
    assert (state.delivery, state.receipt) == (Delivery.FAILED, Receipt.MET)
    assert state.level == Level(read.value)
    assert state.reason == reasons.OVERRIDDEN


def test_an_override_leaves_a_contradiction_in_the_record() -> None:
    state = after(DELIVERED, FAILED, DISPLAYED)
    assert (state.delivery, state.receipt, state.level) == (Delivery.CONTRADICTED, Receipt.MET, Level.DISPLAYED)


def test_an_override_meets_only_what_it_proves() -> None:
    assert after(FAILED, DISPLAYED, require=Level.REPLIED).receipt is Receipt.OPEN


def test_another_members_mdn_never_overrides() -> None:
    state = after(EXPANDED, event(EventKind.FAILED, ANN), event(EventKind.DISPLAYED, KIM, onward=True))
    assert state.receipt is Receipt.FAILED
    assert after(FAILED, event(EventKind.DISPLAYED, KIM), onward=True).receipt is Receipt.FAILED


def test_two_failed_branches_need_two_overrides() -> None:
    failures = (event(EventKind.FAILED, ANN), event(EventKind.FAILED, KIM))
    assert after(EXPANDED, *failures, event(EventKind.DISPLAYED, ANN)).receipt is Receipt.FAILED
    both = (event(EventKind.DISPLAYED, ANN), event(EventKind.DISPLAYED, KIM))
    assert after(EXPANDED, *failures, *both).receipt is Receipt.MET


def test_a_persons_confirm_meets_the_receipt_and_leaves_the_level() -> None:
    state = after(RELAYED, FAILED, event(EventKind.CONFIRMED, after=5_000))
    assert (state.delivery, state.receipt, state.level) == (Delivery.FAILED, Receipt.MET, Level.RELAYED)


@pytest.mark.parametrize(("seconds", "receipt"), [(14_400, Receipt.MET), (14_401, Receipt.MET_LATE)])
def test_a_persons_confirm_after_the_deadline_is_late(seconds: float, receipt: Receipt) -> None:
    confirmed = event(EventKind.CONFIRMED, after=seconds)
    assert after(confirmed).receipt is receipt
    assert after(FAILED, confirmed).receipt is receipt
    assert after(event(EventKind.WAIVED), confirmed).receipt is receipt


def test_a_persons_confirm_of_what_came_in_time_does_not_make_it_late() -> None:
    state = after(RELAYED, event(EventKind.CONFIRMED, after=50_000))
    assert (state.receipt, state.met_at) == (Receipt.MET, RELAYED.observed_at)
    assert after(copy(), event(EventKind.CONFIRMED, after=50_000), require=Level.DELIVERED).receipt is Receipt.MET


@pytest.mark.parametrize("kind", [EventKind.RELAYED, EventKind.EXPANDED])
def test_a_relay_that_says_delivered_but_means_relayed_counts_as_relayed(kind: EventKind) -> None:
    state = after(event(kind, stated_action="delivered"))
    assert (state.delivery.value, state.level) == (kind.value, Level.RELAYED)


@pytest.mark.parametrize("require", list(Level))
def test_a_refusal_is_a_failure_whatever_was_required(require: Level) -> None:
    state = after(RELAYED, event(EventKind.REFUSED), require=require)
    assert (state.delivery, state.disposition, state.receipt) == (Delivery.FAILED, Disposition.REFUSED, Receipt.FAILED)
    assert state.reason == reasons.REFUSED


def test_a_refusal_explains_a_delivery_and_does_not_contradict_it() -> None:
    assert after(DELIVERED, event(EventKind.REFUSED)).delivery is Delivery.FAILED


@pytest.mark.parametrize("kind", [EventKind.DELETED, EventKind.DENIED, EventKind.PROCESSED, EventKind.DISPATCHED])
def test_other_dispositions_prove_delivery(kind: EventKind) -> None:
    state = after(event(kind))
    assert (state.delivery, state.level, state.receipt) == (Delivery.DELIVERED, Level.DELIVERED, Receipt.MET)
    assert state.disposition == Disposition(kind.value)


@pytest.mark.parametrize("require", [Level.DISPLAYED, Level.REPLIED])
@pytest.mark.parametrize(
    ("kind", "receipt"),
    [
        (EventKind.DELETED, Receipt.FAILED),
        (EventKind.DENIED, Receipt.FAILED),
        (EventKind.ERROR, Receipt.FAILED),
        (EventKind.PROCESSED, Receipt.OPEN),
        (EventKind.DISPATCHED, Receipt.OPEN),
    ],
)
def test_where_reading_is_required_unread_fails_and_unseen_stays_open(
    require: Level, kind: EventKind, receipt: Receipt
) -> None:
    assert after(event(kind), require=require).receipt is receipt


def test_a_modifier_error_makes_displayed_an_error() -> None:
    state = after(event(EventKind.DISPLAYED, modifiers=("Error",)), require=Level.DISPLAYED)
    assert (state.disposition, state.receipt) == (Disposition.ERROR, Receipt.FAILED)
    assert state.reason == reasons.ERROR


def test_an_automatic_displayed_within_a_minute_is_a_scanners() -> None:
    state = after(event(EventKind.DISPLAYED, after=61, automatic=True), require=Level.DISPLAYED)
    assert (state.disposition, state.level, state.receipt) == (Disposition.PROCESSED, Level.DELIVERED, Receipt.OPEN)
    assert state.reason == reasons.AUTOMATIC


def test_a_later_automatic_displayed_is_displayed_and_shown_as_automatic() -> None:
    told = event(
        EventKind.DISPLAYED, after=61.5, automatic=True, disposition_mode="automatic-action/mdn-sent-automatically"
    )
    state = after(told)
    assert (state.disposition, state.level) == (Disposition.DISPLAYED, Level.DISPLAYED)
    assert state.disposition_mode == "automatic-action/mdn-sent-automatically"


def test_a_person_within_a_minute_is_a_person() -> None:
    assert after(event(EventKind.DISPLAYED, after=2)).disposition is Disposition.DISPLAYED


def test_before_our_own_accepted_is_within_a_minute() -> None:
    assert fold([event(EventKind.DISPLAYED, automatic=True)], DEMAND).disposition is Disposition.PROCESSED
    late = [event(EventKind.UNCERTAIN, after=600), event(EventKind.DISPLAYED, after=90_000, automatic=True)]
    assert fold(late, DEMAND).disposition is Disposition.DISPLAYED


def test_a_persons_mode_is_shown_before_an_automatons() -> None:
    machine = event(EventKind.DISPLAYED, after=90, automatic=True, disposition_mode="automatic-action")
    person = event(EventKind.DISPLAYED, after=90, disposition_mode="manual-action", modifiers=("x",))
    state = after(machine, person)
    assert (state.disposition_mode, state.disposition_modifiers) == ("manual-action", ("x",))


def test_displayed_and_deleted_is_displayed() -> None:
    state = after(DISPLAYED, event(EventKind.DELETED), require=Level.DISPLAYED)
    assert (state.disposition, state.receipt) == (Disposition.DISPLAYED, Receipt.MET)


def test_an_onward_failure_is_a_failed_branch() -> None:
    state = after(RELAYED, event(EventKind.FAILED, ANN, onward=True))
    assert (state.delivery, state.receipt) == (Delivery.FAILED, Receipt.FAILED)
    assert {(one.final_recipient, one.delivery) for one in state.branches} == {
        (BOB, Delivery.RELAYED),
        (ANN, Delivery.FAILED),
    }


@pytest.mark.parametrize("kind", [EventKind.DISPLAYED, EventKind.DELETED, EventKind.DENIED, EventKind.ERROR])
def test_an_onward_mdn_proves_delivered_and_no_more(kind: EventKind) -> None:
    state = after(RELAYED, event(kind, ANN, onward=True), require=Level.DISPLAYED)
    assert (state.delivery, state.disposition) == (Delivery.DELIVERED, Disposition.DISPATCHED)
    assert (state.level, state.receipt) == (Level.DELIVERED, Receipt.OPEN)


@pytest.mark.parametrize(
    "alias",
    [event(EventKind.EXPANDED, trust=Trust.SEALED), event(EventKind.RELAYED, ANN, trust=Trust.SEALED, onward=True)],
)
def test_an_onward_mdn_counts_as_displayed_where_a_server_on_the_way_said_alias(alias: Event) -> None:
    state = after(alias, event(EventKind.DISPLAYED, ANN, onward=True), require=Level.DISPLAYED)
    assert (state.level, state.receipt) == (Level.DISPLAYED, Receipt.MET)
    unsealed = replace(alias, trust=Trust.KEYED)
    state = after(unsealed, event(EventKind.DISPLAYED, ANN, onward=True), require=Level.DISPLAYED)
    assert (state.level, state.receipt) == (Level.DELIVERED, Receipt.OPEN), "whoever holds the copy could say alias"


def test_an_onward_mdn_counts_as_displayed_where_the_policy_says_so() -> None:
    told = event(EventKind.DISPLAYED, ANN, onward=True)
    assert after(told, require=Level.DISPLAYED, onward=True).receipt is Receipt.MET


def test_a_report_about_one_member_says_nothing_of_a_stranger() -> None:
    member = event(EventKind.RELAYED, ANN, onward=True)
    stranger = event(EventKind.DISPLAYED, KIM, onward=True)
    assert after(member, stranger, require=Level.DISPLAYED).receipt is Receipt.OPEN


def test_a_human_reply_is_replied_and_satisfies_though_only_plausible() -> None:
    state = after(REPLIED, require=Level.REPLIED)
    assert (state.disposition, state.level, state.receipt) == (Disposition.REPLIED, Level.REPLIED, Receipt.MET)
    assert state.trust is Trust.PLAUSIBLE


@pytest.mark.parametrize("kind", [EventKind.AUTO_REPLIED, EventKind.HELD, EventKind.COMPLAINED])
@pytest.mark.parametrize("before", [(), (RELAYED,), (DELIVERED,), (FAILED,)])
def test_automatons_and_complaints_move_no_track(kind: EventKind, before: tuple[Event, ...]) -> None:
    state, moved = after(*before), after(*before, event(kind))
    assert replace(moved, reason=state.reason) == state


def test_a_challenge_keeps_the_receipt_open_and_says_so() -> None:
    state = after(event(EventKind.HELD))
    assert (state.receipt, state.reason) == (Receipt.OPEN, reasons.HELD)


# Branches


def test_the_addresss_own_relayed_gives_way_to_a_named_branch() -> None:
    state = after(EXPANDED, RELAYED, event(EventKind.DELIVERED, ANN), require=Level.DELIVERED)
    assert (state.delivery, state.receipt) == (Delivery.DELIVERED, Receipt.MET)
    assert state.reason == reasons.ONE_BRANCH


def test_over_branches_the_worst_counts() -> None:
    state = after(event(EventKind.DELIVERED, ANN), event(EventKind.RELAYED, KIM), require=Level.DELIVERED)
    assert (state.delivery, state.receipt) == (Delivery.RELAYED, Receipt.OPEN)
    assert after(event(EventKind.RELAYED, ANN), event(EventKind.EXPANDED, KIM)).delivery is Delivery.EXPANDED


def test_the_address_in_another_spelling_is_its_own_branch() -> None:
    state = after(event(EventKind.RELAYED, "BOB@B.org"), event(EventKind.DELIVERED, "bob@B.ORG"))
    assert [one.final_recipient for one in state.branches] == [BOB]
    assert state.delivery is Delivery.DELIVERED


# Trust


def test_plausible_proof_moves_nothing_where_keyed_is_needed() -> None:
    state = after(event(EventKind.DELIVERED, trust=Trust.PLAUSIBLE))
    assert (state.delivery, state.level, state.receipt) == (Delivery.ACCEPTED, Level.ACCEPTED, Receipt.OPEN)
    low = after(event(EventKind.DELIVERED, trust=Trust.PLAUSIBLE), minimum_trust=Trust.PLAUSIBLE)
    assert (low.delivery, low.receipt, low.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.PLAUSIBLE)


def test_a_plausible_failure_moves_what_nothing_stands_against() -> None:
    state = after(event(EventKind.FAILED, trust=Trust.PLAUSIBLE))
    assert (state.delivery, state.receipt, state.trust) == (Delivery.FAILED, Receipt.FAILED, Trust.PLAUSIBLE)


@pytest.mark.parametrize("kind", [EventKind.FAILED, EventKind.REFUSED])
@pytest.mark.parametrize("good", [RELAYED, DELIVERED, DISPLAYED, event(EventKind.RELAYED, ANN)])
def test_bad_news_needs_the_trust_of_what_it_contradicts(kind: EventKind, good: Event) -> None:
    assert after(good, event(kind, trust=Trust.PLAUSIBLE)) == after(good)


def test_a_plausible_deletion_moves_nothing() -> None:
    state = after(event(EventKind.DELETED, trust=Trust.PLAUSIBLE), require=Level.DISPLAYED)
    assert (state.delivery, state.level, state.receipt) == (Delivery.ACCEPTED, Level.ACCEPTED, Receipt.OPEN)


# Who may contradict whom


@pytest.mark.parametrize(
    ("good", "bad", "moves"),
    [
        (event(EventKind.DELIVERED, trust=Trust.SEALED), Trust.SEALED, True),
        (event(EventKind.DELIVERED, trust=Trust.SEALED), Trust.KEYED, False),
        (event(EventKind.DELIVERED), Trust.KEYED, True),
        (event(EventKind.RELAYED, trust=Trust.SEALED), Trust.KEYED, True),
        (event(EventKind.EXPANDED, trust=Trust.SEALED), Trust.KEYED, True),
        (event(EventKind.RELAYED, trust=Trust.SEALED), Trust.PLAUSIBLE, False),
        (event(EventKind.RELAYED, trust=Trust.PLAUSIBLE), Trust.PLAUSIBLE, True),
        (ACCEPTED, Trust.PLAUSIBLE, True),
        (ACCEPTED, Trust.WEAK, False),
    ],
)
def test_bad_news_needs_the_trust_of_what_it_contradicts_and_relayed_expects_more(
    good: Event, bad: Trust, moves: bool
) -> None:
    state = after(good, event(EventKind.FAILED, trust=bad), minimum_trust=Trust.PLAUSIBLE)
    assert (state.receipt is Receipt.FAILED) is moves


def test_what_a_person_vouches_for_contradicts_even_a_sealed_delivery() -> None:
    vouched = replace(FAILED, matched_by=MatchedBy.PERSON)
    assert after(event(EventKind.DELIVERED, trust=Trust.SEALED), vouched).delivery is Delivery.CONTRADICTED


@pytest.mark.parametrize("kind", [EventKind.DISPLAYED, EventKind.REPLIED])
def test_only_a_key_lets_a_reader_override_a_failure(kind: EventKind) -> None:
    require = Level(kind.value)
    assert after(FAILED, event(kind), require=require).receipt is Receipt.MET
    spoofed = after(FAILED, event(kind, trust=Trust.PLAUSIBLE), require=require, minimum_trust=Trust.PLAUSIBLE)
    assert (spoofed.delivery, spoofed.receipt) == (Delivery.FAILED, Receipt.FAILED)
    assert (spoofed.disposition, spoofed.level) == (Disposition.NONE, Level.ACCEPTED)


def test_an_answer_of_another_address_meets_nothing_unless_it_is_known_behind_the_recipients() -> None:
    answer = event(EventKind.REPLIED, ANN, trust=Trust.PLAUSIBLE, onward=True)
    state = after(RELAYED, answer, require=Level.REPLIED)
    assert (state.receipt, state.level) == (Receipt.OPEN, Level.RELAYED)
    known = event(EventKind.RELAYED, ANN, trust=Trust.SEALED, onward=True)
    assert after(known, answer, require=Level.REPLIED).receipt is Receipt.MET
    assert after(answer, require=Level.REPLIED, onward=True).receipt is Receipt.MET


def test_an_answer_that_our_server_vouches_for_is_keyed_where_its_address_is_known_behind_the_recipients() -> None:
    answer = event(EventKind.REPLIED, ANN, trust=Trust.PLAUSIBLE, onward=True, vouched=True)
    known = event(EventKind.RELAYED, ANN, trust=Trust.SEALED, onward=True)
    failed = event(EventKind.FAILED, ANN, onward=True)
    assert after(known, failed, answer, require=Level.REPLIED).receipt is Receipt.MET
    assert after(failed, answer, require=Level.REPLIED).receipt is Receipt.FAILED


def test_what_has_too_little_trust_to_count_is_named() -> None:
    low = [event(kind, trust=Trust.PLAUSIBLE) for kind in (EventKind.DELIVERED, EventKind.FAILED, EventKind.DELAYED)]
    delivered, failed, _ = low
    weak = event(EventKind.COMPLAINED, trust=Trust.WEAK)
    assert uncounted([RELAYED, *low, REPLIED, weak], DEMAND) == {delivered.id, failed.id, weak.id}
    assert uncounted([ACCEPTED, *low], DEMAND) == {delivered.id}, "nothing better stands against the failure"
    assert uncounted([ACCEPTED, delivered], replace(DEMAND, minimum_trust=Trust.PLAUSIBLE)) == frozenset()


@given(EVENTS, DEMANDS)
def test_without_what_does_not_count_every_track_is_the_same(events: list[Event], demand: Demand) -> None:
    told = [ACCEPTED, *events]
    idle = uncounted(told, demand)
    with_all, without = fold(told, demand), fold([one for one in told if one.id not in idle], demand)
    for track in ("delivery", "disposition", "receipt", "level", "branches", "trust"):
        assert getattr(with_all, track) == getattr(without, track), track


# The receipt


def test_overdue_opens_into_late() -> None:
    overdue = event(EventKind.OVERDUE, after=14_500)
    assert after(overdue).receipt is Receipt.OVERDUE
    state = after(overdue, event(EventKind.RELAYED, after=15_000))
    assert (state.receipt, state.met_at) == (Receipt.MET_LATE, START + timedelta(seconds=15_000))


def test_what_reached_our_server_in_time_is_met_even_if_judged_late() -> None:
    assert after(event(EventKind.OVERDUE, after=14_500), event(EventKind.RELAYED, after=14_400)).receipt is Receipt.MET


def test_late_is_late_though_nobody_judged_it() -> None:
    assert after(event(EventKind.RELAYED, after=14_401)).receipt is Receipt.MET_LATE


def test_without_a_deadline_nothing_is_late() -> None:
    assert after(event(EventKind.RELAYED, after=9e7), deadline=None).receipt is Receipt.MET


def test_a_later_stronger_fact_does_not_make_a_met_receipt_late() -> None:
    assert after(RELAYED, event(EventKind.DELIVERED, after=20_000)).receipt is Receipt.MET


def test_overdue_gives_way_to_failed() -> None:
    assert after(event(EventKind.OVERDUE, after=14_500), FAILED).receipt is Receipt.FAILED


@pytest.mark.parametrize("later", [RELAYED, FAILED, event(EventKind.OVERDUE)])
def test_what_a_person_waived_stays_waived(later: Event) -> None:
    assert after(event(EventKind.WAIVED), later).receipt is Receipt.WAIVED


def test_acceptance_satisfies_who_asks_for_no_more() -> None:
    assert after(require=Level.ACCEPTED).receipt is Receipt.MET
    reported = fold([QUEUED, event(EventKind.DELAYED)], replace(DEMAND, require=Level.ACCEPTED))
    assert reported.receipt is Receipt.MET


@pytest.mark.parametrize("kind", [EventKind.MET, EventKind.ACKNOWLEDGED, EventKind.RESENT])
def test_records_move_nothing(kind: EventKind) -> None:
    assert after(event(kind)) == after()


# A copy that was sent again


@pytest.mark.parametrize(
    "known", [(), (RELAYED,), (event(EventKind.OVERDUE),), (FAILED,), (DELIVERED, FAILED), (event(EventKind.DELETED),)]
)
def test_a_copys_receipt_meets_the_firsts_and_moves_nothing_else(known: tuple[Event, ...]) -> None:
    without, state = after(*known, require=Level.DISPLAYED), after(*known, copy(), require=Level.DISPLAYED)
    assert (state.receipt, state.reason, state.met_at) == (Receipt.MET, reasons.COPY, copy().observed_at)
    assert state == replace(without, receipt=state.receipt, reason=state.reason, met_at=state.met_at)


def test_a_copys_receipt_that_comes_after_the_firsts_deadline_is_late() -> None:
    assert after(event(EventKind.OVERDUE), copy(after=20_000), require=Level.DELIVERED).receipt is Receipt.MET_LATE


def test_what_a_copy_said_last_counts_whatever_the_clock_said() -> None:
    lost = copy(Receipt.FAILED, version=4, after=30)
    assert after(event(EventKind.OVERDUE), copy(), lost, require=Level.DELIVERED).receipt is Receipt.OVERDUE
    assert after(FAILED, copy(), lost).receipt is Receipt.FAILED
    assert after(FAILED, copy(), lost, copy(version=5)).receipt is Receipt.MET


def test_one_copy_that_is_met_is_enough() -> None:
    lost = copy(Receipt.FAILED, version=9)
    assert after(lost, copy(of="r3", version=1), require=Level.DELIVERED).receipt is Receipt.MET


def test_a_receipt_of_its_own_is_not_called_the_copys() -> None:
    both = after(DELIVERED, copy(after=20_000), require=Level.DELIVERED)
    assert (both.receipt, both.reason, both.met_at) == (Receipt.MET, None, DELIVERED.observed_at)


def test_a_copys_receipt_outweighs_no_persons_decision() -> None:
    assert after(event(EventKind.WAIVED), copy(), require=Level.DELIVERED).receipt is Receipt.WAIVED
    assert after(event(EventKind.CONFIRMED), copy()).reason == reasons.CONFIRMED


def test_of_what_the_firsts_submission_failed_a_copy_proves_nothing() -> None:
    refused = fold([QUEUED, event(EventKind.FAILED, source=Source.SMTP), copy()], DEMAND)
    assert (refused.delivery, refused.level, refused.receipt) == (Delivery.FAILED, None, Receipt.MET)
