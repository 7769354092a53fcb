"""Whom a report speaks of, by which key, how sure; and that forgery moves nothing."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd import correlation_token
from receiptd.facts import (
    Action,
    Cause,
    Delivery,
    Demand,
    Event,
    EventKind,
    Fact,
    FoundToken,
    Level,
    MatchedBy,
    Receipt,
    RecipientState,
    Report,
    ReportedRecipient,
    ReportKind,
    Source,
    Trust,
    Verdict,
)
from receiptd.lifecycle import fold
from receiptd.match import Candidate, Matched, keys, match
from receiptd.match.matching import MOST_FACTS

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
OURS = "me@a.org"


def candidate(name: str, message: str = "m1", **changes: Any) -> Candidate:
    """Recipient *name*@b.org of *message*, whose token spells its name."""
    return Candidate(
        recipient_id=f"{message}/{name}",
        message_id=message,
        rfc_message_id=f"<{message}@a.org>",
        token=token_of(name, message),
        address=f"{name}@b.org",
        from_address=OURS,
        **changes,
    )


def token_of(name: str, message: str = "m1") -> str:
    """A token that a test can recognise."""
    return f"{name}{message.replace('1', 'a')}".ljust(24, "x")


BOB, CAROL, DAVE = candidate("bob"), candidate("carol"), candidate("dave")
OTHER = candidate("bob", "m2")
TRIO = (BOB, CAROL, DAVE)
ID = "<m1@a.org>"
STRANGE = "z" * 24


def block(action: Action | None = Action.FAILED, final: str | None = "bob@b.org", **more: Any) -> ReportedRecipient:
    """A recipient block."""
    return ReportedRecipient(action=action, final_recipient=final, **more)


def found(*tokens: str, place: MatchedBy = MatchedBy.RETURN_PATH) -> tuple[FoundToken, ...]:
    """Tokens in one place."""
    return tuple(FoundToken(one, place) for one in tokens)


def dsn(*blocks: ReportedRecipient, **more: Any) -> Report:
    """A DSN from the null path."""
    return Report(ReportKind.DSN, **({"recipients": blocks or (block(),), "return_path": ""} | more))


def mdn(action: Action = Action.DISPLAYED, final: str | None = "bob@b.org", **more: Any) -> Report:
    """An MDN that a person sent."""
    said = {"disposition_mode": "manual-action/mdn-sent-manually", "recipients": (block(action, final),)}
    return Report(ReportKind.MDN, **(said | more))


def of(report: Report, *candidates: Candidate, subaddress: str = "+", authserv_id: str | None = "mx.a.org") -> Matched:
    """The match of *report*."""
    return match(report, candidates, receipts_address="receipts@a.org", subaddress=subaddress, authserv_id=authserv_id)


def brief(matched: Matched) -> list[tuple[str, str, str, str | None]]:
    """Whom, what, how sure and which branch."""
    return [(one.recipient_id, one.kind.value, one.trust.value, one.final_recipient) for one in matched.facts]


def state(facts: tuple[Fact, ...], one: Candidate = BOB, *known: EventKind) -> RecipientState:
    """The state of *one* after acceptance, *known* and *facts*, as settle would append them."""
    events = [Event(kind, one.recipient_id, kind, AT, Source.SMTP) for kind in (EventKind.ACCEPTED, *known)]
    for fact in facts:
        if fact.recipient_id == one.recipient_id:
            name = "/".join((fact.kind, fact.final_recipient or "", fact.variant))
            events.append(
                Event(
                    name, one.recipient_id, fact.kind, AT, fact.source, fact.trust,
                    final_recipient=fact.final_recipient, detail=fact.detail,
                )
            )  # fmt: skip
    return fold(events, Demand(address=one.address))


# Keys


def test_every_id_that_may_be_ours_is_looked_up() -> None:
    report = dsn(
        found_tokens=found("a" * 24, "b" * 24),
        original_message_id="<o@a>",
        alias_message_ids=("<al@a>",),
        in_reply_to=("<i@a>",),
        references=("<r1@a>", "<r2@a>", "<i@a>"),
        message_id="<self@a>",
    )
    looked = keys(report)
    assert [one.token for one in looked.tokens] == ["a" * 24, "b" * 24]
    assert looked.message_ids == ("<o@a>", "<al@a>", "<i@a>", "<r2@a>", "<r1@a>", "<self@a>")


def test_keys_are_bounded() -> None:
    looked = keys(
        dsn(found_tokens=found(*[correlation_token.make() for _ in range(99)]), references=tuple(map(str, range(9999))))
    )
    assert len(looked.tokens) == 20
    assert len(looked.message_ids) == 100


def test_an_id_longer_than_any_of_ours_is_not_looked_up() -> None:
    longest, longer = (f"<{'x' * (octets - len('<@a.org>'))}@a.org>" for octets in (998, 999))
    assert keys(dsn(original_message_id=longer, references=(longest, "x" * 100_000))).message_ids == (longest,)


# Trust: keyed


@pytest.mark.parametrize("place", [MatchedBy.RETURN_PATH, MatchedBy.ENVELOPE_ID, MatchedBy.RETURNED_HEADER])
def test_a_known_token_is_keyed_wherever_a_token_counts(place: MatchedBy) -> None:
    matched = of(dsn(found_tokens=found(BOB.token, place=place)), *TRIO)
    assert matched.verdict is Verdict.MATCHED
    assert brief(matched) == [("m1/bob", "failed", "keyed", None)]
    assert matched.facts[0].matched_by is place


@pytest.mark.parametrize("stated", ["<m1@a.org>", "m1@a.org", " <m1@a.org> "])
def test_our_own_message_id_is_nothing_against_it(stated: str) -> None:
    matched = of(dsn(found_tokens=found(BOB.token), original_message_id=stated), *TRIO)
    assert brief(matched) == [("m1/bob", "failed", "keyed", None)]


def test_the_id_a_relay_gave_it_is_nothing_against_it() -> None:
    renamed = replace(BOB, alias_message_ids=("<0100@eu-west-1.amazonses.com>",))
    report = dsn(found_tokens=found(BOB.token), original_message_id="<0100@eu-west-1.amazonses.com>")
    assert brief(of(report, renamed, CAROL)) == [("m1/bob", "failed", "keyed", None)]


def test_the_case_of_a_token_doesnt_matter() -> None:
    assert brief(of(dsn(found_tokens=found(BOB.token.upper())), *TRIO)) == [("m1/bob", "failed", "keyed", None)]


def test_a_strangers_words_beside_the_token_are_ignored() -> None:
    tokens = (*found(STRANGE), *found(BOB.token), *found(STRANGE, place=MatchedBy.RETURNED_HEADER))
    assert brief(of(dsn(found_tokens=tokens), *TRIO)) == [("m1/bob", "failed", "keyed", None)]


def test_a_report_that_names_nobody_is_the_token_owners() -> None:
    assert brief(of(dsn(block(final=None), found_tokens=found(BOB.token)), *TRIO)) == [
        ("m1/bob", "failed", "keyed", None)
    ]
    bounce = Report(ReportKind.BOUNCE, found_tokens=found(BOB.token), return_path="")
    assert brief(of(bounce, *TRIO)) == [("m1/bob", "failed", "keyed", None)]


def test_an_mdns_envelope_sender_decides_nothing() -> None:
    report = mdn(found_tokens=found(BOB.token), return_path="bob@b.org")
    assert brief(of(report, *TRIO)) == [("m1/bob", "displayed", "keyed", None)]


# Trust: plausible


def test_a_token_with_a_message_id_we_dont_know_is_plausible() -> None:
    report = dsn(found_tokens=found(BOB.token), original_message_id="<else@where>")
    assert brief(of(report, *TRIO)) == [("m1/bob", "failed", "plausible", None)]


def test_a_token_that_returns_anothers_message_is_plausible() -> None:
    report = dsn(found_tokens=found(BOB.token), returned_from="spammer@x.org")
    assert brief(of(report, *TRIO)) == [("m1/bob", "failed", "plausible", None)]


def test_a_token_with_its_envelope_id_is_plausible_though_a_relay_changed_author_and_message_id() -> None:
    keys = (FoundToken(BOB.token, MatchedBy.RETURN_PATH), FoundToken(BOB.token, MatchedBy.ENVELOPE_ID))
    report = dsn(found_tokens=keys, original_message_id="<else@where>", returned_from="firm@a.org")
    assert brief(of(report, *TRIO)) == [("m1/bob", "failed", "plausible", None)]


def test_a_token_that_returns_spam_in_the_name_of_its_return_path_is_weak() -> None:
    report = dsn(found_tokens=found(BOB.token), original_message_id="<spam@e.org>", returned_from="pills@e.org")
    matched = of(report, *TRIO)
    assert (matched.verdict, matched.facts[0].trust) == (Verdict.SUSPICIOUS, Trust.WEAK)


@pytest.mark.parametrize("kind", [ReportKind.DSN, ReportKind.BOUNCE])
def test_a_dsn_from_a_non_null_path_is_never_keyed(kind: ReportKind) -> None:
    """RFC 3461 §6.1: a DSN has the null reverse-path."""
    report = replace(dsn(found_tokens=found(BOB.token), return_path="mallory@x.org"), kind=kind)
    assert brief(of(report, *TRIO)) == [("m1/bob", "failed", "plausible", None)]


@pytest.mark.parametrize("named", [{"final": "carol@B.ORG"}, {"final": "x@c.org", "original_recipient": "carol@b.org"}])
def test_message_id_and_a_recipient_that_fit_are_plausible(named: dict[str, str]) -> None:
    matched = of(dsn(block(Action.RELAYED, **named), original_message_id=ID), *TRIO)
    branch = None if named["final"] == "carol@B.ORG" else "x@c.org"
    assert brief(matched) == [("m1/carol", "relayed", "plausible", branch)]
    assert matched.facts[0].matched_by is MatchedBy.MESSAGE_ID


def test_message_id_and_the_only_recipient_are_plausible() -> None:
    matched = of(dsn(block(final="x@c.org"), original_message_id=ID), BOB)
    assert brief(matched) == [("m1/bob", "failed", "plausible", "x@c.org")]
    assert matched.facts[0].detail["onward"]


def test_an_alias_is_a_key_too() -> None:
    renamed = replace(BOB, alias_message_ids=("<new@ms>",))
    for report in (dsn(original_message_id="<new@ms>"), dsn(alias_message_ids=("<m1@a.org>",))):
        (fact,) = of(report, renamed, CAROL).facts
        assert (fact.matched_by, fact.trust) == (MatchedBy.ALIAS, Trust.PLAUSIBLE)


def test_an_mdn_without_original_message_id_may_use_in_reply_to() -> None:
    (fact,) = of(mdn(in_reply_to=(ID,)), *TRIO).facts
    assert (fact.matched_by, fact.trust) == (MatchedBy.REFERENCES, Trust.PLAUSIBLE)


def test_an_unlisted_address_moves_no_other_recipient() -> None:
    """RFC 3461 §6.3e: both recipients unknown, and several could be meant."""
    matched = of(dsn(block(final="x@c.org"), original_message_id=ID), *TRIO)
    assert matched == Matched(Verdict.UNMATCHED)


# Trust: sealed


SEALED_BOB = replace(BOB, envelope_id="e" * 24)
SEALED_CAROL = replace(CAROL, envelope_id="f" * 24)


def gives_back(one: Candidate, *actions: Action, envelope_id: str | None = None, **more: Any) -> Report:
    """A report to the return path of *one* that gives back its envelope id, or *envelope_id*."""
    envelope_id = (one.envelope_id or one.token) if envelope_id is None else envelope_id
    word = found(envelope_id, place=MatchedBy.ENVELOPE_ID) if len(envelope_id) == 24 else ()
    keys = found(one.token) + word
    blocks = (block(action) for action in actions or (Action.FAILED,))
    return dsn(*blocks, **({"found_tokens": keys, "envelope_id": envelope_id or None} | more))


@pytest.mark.parametrize("kind", [ReportKind.DSN, ReportKind.BOUNCE])
def test_what_gives_back_our_envelope_id_is_sealed(kind: ReportKind) -> None:
    told = replace(gives_back(SEALED_BOB, Action.DELIVERED), kind=kind)
    assert brief(of(told, SEALED_BOB, SEALED_CAROL)) == [("m1/bob", "delivered", "sealed", None)]


def test_the_envelope_id_alone_is_a_key_and_case_does_not_matter() -> None:
    told = dsn(found_tokens=found("E" * 24, place=MatchedBy.ENVELOPE_ID), envelope_id="E" * 24)
    (fact,) = of(told, SEALED_BOB, SEALED_CAROL).facts
    assert (fact.recipient_id, fact.trust, fact.matched_by) == ("m1/bob", Trust.SEALED, MatchedBy.ENVELOPE_ID)


def test_an_envelope_id_counts_nowhere_else() -> None:
    for place in (MatchedBy.RETURN_PATH, MatchedBy.RETURNED_HEADER):
        assert of(dsn(found_tokens=found("e" * 24, place=place)), SEALED_BOB).verdict is Verdict.UNMATCHED


@pytest.mark.parametrize("action", [Action.DELIVERED, Action.RELAYED, Action.EXPANDED])
@pytest.mark.parametrize("stated", [STRANGE, BOB.token, "f" * 24, "0R8G00F2A1B2C3"])
def test_success_with_an_envelope_id_that_is_not_ours_is_weak_and_suspicious(action: Action, stated: str) -> None:
    matched = of(gives_back(SEALED_BOB, action, envelope_id=stated), SEALED_BOB, SEALED_CAROL)
    assert (matched.verdict, {fact.trust for fact in matched.facts}) == (Verdict.SUSPICIOUS, {Trust.WEAK})


@pytest.mark.parametrize("stated", [STRANGE, BOB.token, "f" * 24])
def test_a_failure_with_a_guessed_envelope_id_is_weak_and_suspicious(stated: str) -> None:
    matched = of(gives_back(SEALED_BOB, envelope_id=stated), SEALED_BOB, SEALED_CAROL)
    assert (matched.verdict, {fact.trust for fact in matched.facts}) == (Verdict.SUSPICIOUS, {Trust.WEAK})


def test_a_failure_with_an_envelope_id_of_the_servers_own_making_is_keyed() -> None:
    """Behind a relay without DSN an Oracle server gets no id, makes one up, and reports failures alone."""
    matched = of(gives_back(SEALED_BOB, envelope_id="0R8G00F2A1B2C3"), SEALED_BOB)
    assert brief(matched) == [("m1/bob", "failed", "keyed", None)]


@pytest.mark.parametrize("action", [Action.DELIVERED, Action.FAILED])
def test_without_any_envelope_id_a_report_is_keyed(action: Action) -> None:
    """OpenSMTPD gives none back."""
    assert brief(of(gives_back(SEALED_BOB, action, envelope_id=""), SEALED_BOB)) == [("m1/bob", action, "keyed", None)]


def test_what_went_out_with_the_token_as_envelope_id_stays_keyed() -> None:
    told = gives_back(BOB, Action.DELIVERED, envelope_id=BOB.token)
    assert brief(of(told, BOB)) == [("m1/bob", "delivered", "keyed", None)]


def test_an_envelope_id_outweighs_that_a_relay_changed_author_and_message_id() -> None:
    told = gives_back(SEALED_BOB, original_message_id="<else@where>", returned_from="firm@a.org")
    assert brief(of(told, SEALED_BOB)) == [("m1/bob", "failed", "keyed", None)]


def test_the_envelope_id_of_one_message_with_the_message_id_of_another_is_weak() -> None:
    told = gives_back(SEALED_BOB, original_message_id=OTHER.rfc_message_id)
    matched = of(told, SEALED_BOB, OTHER)
    assert (matched.verdict, matched.facts[0].trust) == (Verdict.SUSPICIOUS, Trust.WEAK)


def test_a_read_receipt_is_never_sealed() -> None:
    keys = found(BOB.token) + found("e" * 24, place=MatchedBy.ENVELOPE_ID)
    assert of(mdn(found_tokens=keys, envelope_id="e" * 24), SEALED_BOB).facts[0].trust is Trust.KEYED


# Trust: weak, and forgery


def test_an_unknown_token_alone_matches_nobody() -> None:
    assert of(dsn(found_tokens=found(STRANGE)), *TRIO) == Matched(Verdict.UNMATCHED)
    assert of(dsn(found_tokens=found(STRANGE), original_message_id="<no@one>")) == Matched(Verdict.UNMATCHED)


@pytest.mark.parametrize("action", [Action.DELIVERED, Action.FAILED])
@pytest.mark.parametrize(
    "strange",
    [
        {"found_tokens": found(STRANGE), "to_addresses": (f"receipts+{STRANGE}@a.org",)},
        {"found_tokens": found(STRANGE, place=MatchedBy.ENVELOPE_ID)},
    ],
)
def test_a_perfect_report_with_an_unknown_token_moves_nothing(action: Action, strange: dict[str, Any]) -> None:
    report = dsn(block(action), original_message_id=ID, returned_from=OURS, **strange)
    matched = of(report, BOB)
    assert matched.verdict is Verdict.SUSPICIOUS
    assert brief(matched) == [("m1/bob", action.value, "weak", None)]
    assert state(matched.facts) == state(())


def test_a_mailbox_whose_name_looks_like_a_token_is_no_forgery() -> None:
    report = dsn(original_message_id=ID, found_tokens=found(STRANGE), to_addresses=("receipts@a.org",))
    assert of(report, BOB).verdict is Verdict.MATCHED
    nosub = of(replace(report, to_addresses=(f"receipts{STRANGE}@a.org",)), BOB, subaddress="")
    assert nosub.facts[0].trust is Trust.PLAUSIBLE


def test_another_messages_message_id_makes_a_token_weak() -> None:
    matched = of(dsn(found_tokens=found(BOB.token), original_message_id="<m2@a.org>"), *TRIO, OTHER)
    assert matched.verdict is Verdict.SUSPICIOUS
    assert brief(matched) == [("m1/bob", "failed", "weak", None)]
    assert state(matched.facts) == state(())


@pytest.mark.parametrize("second", [CAROL, OTHER])
def test_two_tokens_are_weak(second: Candidate) -> None:
    matched = of(dsn(found_tokens=found(BOB.token, second.token)), *TRIO, OTHER)
    assert matched.verdict is Verdict.SUSPICIOUS
    assert {one.trust for one in matched.facts} == {Trust.WEAK}
    assert state(matched.facts) == state(())


def test_the_same_token_in_two_places_is_one() -> None:
    tokens = (*found(BOB.token), *found(BOB.token.upper(), place=MatchedBy.ENVELOPE_ID))
    assert of(dsn(found_tokens=tokens), *TRIO).facts[0].trust is Trust.KEYED


def test_one_recipient_cant_fail_another_that_is_keyed() -> None:
    """Bob knows the Message-ID and his own token; Carol's relayed stands."""
    forged = dsn(block(final="carol@b.org"), found_tokens=found(BOB.token), original_message_id=ID)
    matched = of(forged, *TRIO)
    assert ("m1/carol", "failed", "weak", None) in brief(matched)
    assert state(matched.facts, CAROL, EventKind.RELAYED) == state((), CAROL, EventKind.RELAYED)


def test_one_recipient_cant_satisfy_for_another() -> None:
    forged = mdn(final="carol@b.org", found_tokens=found(BOB.token), original_message_id=ID)
    assert state(of(forged, *TRIO).facts, CAROL).receipt is Receipt.OPEN


def test_who_reuses_a_message_id_neither_takes_its_bounces_nor_makes_them_doubtful() -> None:
    """A local user may hand over any Message-ID: what the report names decides, then who was first."""
    first, twin = replace(BOB, handed_over_at=AT), replace(OTHER, rfc_message_id=ID, handed_over_at=AT + HOUR)
    elsewhere = replace(twin, address="eve@d.org")
    bounce = dsn(original_message_id=ID, returned_from=OURS)
    for others in ((twin,), (elsewhere,), (replace(twin, handed_over_at=AT - HOUR, from_address="eve@a.org"),)):
        assert brief(of(bounce, *others, first)) == [("m1/bob", "failed", "plausible", None)]
    assert brief(of(replace(bounce, returned_from="eve@a.org"), first, replace(twin, from_address="eve@a.org"))) == [
        ("m2/bob", "failed", "plausible", None)
    ]


def test_a_replayed_report_is_the_same_fact() -> None:
    first = dsn(found_tokens=found(BOB.token), reporting_mta="MTA.b.org", message_id="<1@b>", date=AT)
    again = replace(first, reporting_mta="mta.b.org", message_id="<2@b>", date=None, excerpt="once more")
    (one,), (two,) = of(first, *TRIO).facts, of(again, *TRIO).facts
    assert (one.kind, one.final_recipient, one.variant) == (two.kind, two.final_recipient, two.variant)


@pytest.mark.parametrize(
    "changed",
    [
        {"reporting_mta": "mx2.b.org"},
        {"recipients": (block(status="5.1.1"),)},
        {"recipients": (block(final="x@c.org"),)},
        {"recipients": (block(Action.RELAYED),)},
    ],
)
def test_another_status_server_action_or_branch_is_another_fact(changed: dict[str, Any]) -> None:
    report = dsn(block(status="5.0.0"), found_tokens=found(BOB.token), reporting_mta="mx1.b.org")
    (one,), (two,) = of(report, *TRIO).facts, of(replace(report, **changed), *TRIO).facts
    assert (one.kind, one.final_recipient, one.variant) != (two.kind, two.final_recipient, two.variant)


def test_ten_thousand_blocks_tell_a_hundred_facts_and_ours_first() -> None:
    blocks = [block(final=f"u{n}@x{n}.org", original_recipient=f"ü{n}@ü{n}.org") for n in range(10_000)]
    blocks.insert(9_000, block(Action.RELAYED))
    started = time.perf_counter()
    matched = of(dsn(*blocks, found_tokens=found(BOB.token)), *TRIO)
    assert time.perf_counter() - started < 3
    assert len(matched.facts) == MOST_FACTS
    assert brief(matched)[0] == ("m1/bob", "relayed", "keyed", None)


# Whom the blocks speak of


def test_one_report_of_three_recipients_is_three_facts() -> None:
    """RFC 3461 §5.2.8: one DSN may cover several recipients."""
    report = dsn(
        block(Action.DELIVERED), block(Action.FAILED, "carol@b.org"), block(Action.DELAYED, "dave@b.org"),
        found_tokens=found(BOB.token),
    )  # fmt: skip
    assert brief(of(report, *TRIO)) == [
        ("m1/bob", "delivered", "keyed", None),
        ("m1/carol", "failed", "weak", None),
        ("m1/dave", "delayed", "weak", None),
    ]


def test_a_block_for_an_unknown_address_is_a_branch_of_the_tokens_recipient() -> None:
    matched = of(dsn(block(final="Ann@C.org"), found_tokens=found(BOB.token)), *TRIO)
    assert brief(matched) == [("m1/bob", "failed", "keyed", "Ann@c.org")]
    assert matched.facts[0].detail["onward"]
    assert state(matched.facts).delivery is Delivery.FAILED


def test_an_alias_whose_members_fail_fails() -> None:
    report = dsn(
        block(Action.EXPANDED), block(final="ann@c.org", original_recipient="bob@b.org"), found_tokens=found(BOB.token)
    )
    matched = of(report, *TRIO)
    assert brief(matched) == [("m1/bob", "expanded", "keyed", None), ("m1/bob", "failed", "keyed", "ann@c.org")]
    assert state(matched.facts).reason == "One branch of an alias failed, others may have arrived."


def test_another_recipient_named_under_this_token_gets_the_fact_too_and_it_moves_nothing() -> None:
    """One person in two envelopes of a message may answer under the other's token; so may who only says so."""
    matched = of(mdn(final="carol@b.org", found_tokens=found(BOB.token)), *TRIO)
    assert sorted(brief(matched)) == [
        ("m1/bob", "displayed", "keyed", "carol@b.org"),
        ("m1/carol", "displayed", "weak", None),
    ]


def test_the_actual_recipient_may_be_ours_where_the_final_isnt() -> None:
    report = dsn(block(final="x@c.org", aliases=("bob@b.org",)), found_tokens=found(BOB.token))
    assert brief(of(report, *TRIO)) == [("m1/bob", "failed", "keyed", "x@c.org")]


def test_letter_case_of_a_local_part_makes_no_stranger() -> None:
    (fact,) = of(mdn(final="BOB@b.org", found_tokens=found(BOB.token)), *TRIO).facts
    assert fact.final_recipient is None
    assert "onward" not in fact.detail


def test_the_exact_spelling_comes_first() -> None:
    upper = replace(CAROL, address="BOB@b.org")
    assert brief(of(dsn(block(final="BOB@b.org"), original_message_id=ID), BOB, upper))[0][0] == "m1/carol"


def test_an_mdn_from_the_very_recipient_is_no_strangers_whatever_its_final_recipient() -> None:
    """RFC 8098 §3.2.4: Final-Recipient may be an alias."""
    (fact,) = of(mdn(final="robert@b.org", from_address="bob@b.org", found_tokens=found(BOB.token)), *TRIO).facts
    assert "onward" not in fact.detail
    (guess,) = of(mdn(final="robert@b.org", from_address="bob@b.org", original_message_id=ID), *TRIO).facts
    assert (guess.recipient_id, guess.trust) == ("m1/bob", Trust.WEAK)


def test_the_original_recipient_of_an_mdn_finds_whom_we_sent_to() -> None:
    """RFC 8098 §2.3: a delivery agent hands our ORCPT on to the reader's program."""
    told = block(Action.DISPLAYED, "x@c.org", original_recipient="carol@b.org")
    matched = of(mdn(recipients=(told,), original_message_id=ID), *TRIO)
    assert brief(matched) == [("m1/carol", "displayed", "plausible", "x@c.org")]


# What is said


@pytest.mark.parametrize("action", [Action.FAILED, Action.DELAYED, Action.DELIVERED, Action.RELAYED, Action.EXPANDED])
def test_a_dsn_says_its_action(action: Action) -> None:
    (fact,) = of(dsn(block(action), found_tokens=found(BOB.token)), *TRIO).facts
    assert (fact.kind, fact.source) == (EventKind(action.value), Source.DSN)


@pytest.mark.parametrize(
    ("action", "status", "disagrees"),
    [
        (Action.FAILED, "4.4.7", None),
        (Action.DELAYED, "4.4.1", None),
        (Action.DELIVERED, "5.0.0", True),
        (Action.FAILED, "2.0.0", True),
        (Action.RELAYED, "2.0.0", None),
    ],
)
def test_the_action_decides_and_a_status_that_disagrees_is_shown(
    action: Action, status: str, disagrees: bool | None
) -> None:
    """RFC 3464 §2.3.3: the two are independent."""
    (fact,) = of(dsn(block(action, status=status), found_tokens=found(BOB.token)), *TRIO).facts
    assert fact.kind == EventKind(action.value)
    assert fact.detail.get("status_disagrees") is disagrees


def test_delivered_that_means_relayed_counts_as_relayed() -> None:
    report = dsn(block(Action.RELAYED, stated_action="delivered"), found_tokens=found(BOB.token))
    matched = of(report, *TRIO)
    assert state(matched.facts).delivery is Delivery.RELAYED
    assert matched.facts[0].detail["stated_action"] == "delivered"


def test_an_unknown_action_proves_acceptance_and_no_more() -> None:
    """RFC 3464 §2.3.3: the event is kept, the state unchanged."""
    matched = of(dsn(block(None, stated_action="x-unknown"), found_tokens=found(BOB.token)), *TRIO)
    assert brief(matched) == [("m1/bob", "accepted", "keyed", None)]
    assert state(matched.facts).delivery is Delivery.ACCEPTED


@pytest.mark.parametrize(
    ("action", "more", "kind"),
    [
        (Action.DISPLAYED, {}, EventKind.DISPLAYED),
        (Action.DELETED, {}, EventKind.DELETED),
        (Action.DELETED, {"is_refusal": True}, EventKind.REFUSED),
        (Action.DISPLAYED, {"is_refusal": True}, EventKind.DISPLAYED),
        (Action.DISPATCHED, {}, EventKind.DISPATCHED),
        (Action.PROCESSED, {}, EventKind.PROCESSED),
        (Action.DENIED, {}, EventKind.DENIED),
        (Action.ERROR, {}, EventKind.ERROR),
        (Action.FAILED, {}, EventKind.ERROR),
        (Action.DISPLAYED, {"disposition_modifiers": ("Error",)}, EventKind.ERROR),
        (Action.PROCESSED, {"disposition_modifiers": ("warning", "error")}, EventKind.ERROR),
        (Action.DISPLAYED, {"disposition_modifiers": ("warning",)}, EventKind.DISPLAYED),
    ],
)
def test_an_mdn_says_what_became_of_it(action: Action, more: dict[str, Any], kind: EventKind) -> None:
    (fact,) = of(mdn(action, found_tokens=found(BOB.token), **more), *TRIO).facts
    assert (fact.kind, fact.source) == (kind, Source.MDN)


@pytest.mark.parametrize(
    ("mode", "automatic"), [("automatic-action/mdn-sent-manually", True), ("manual-action/x", None)]
)
def test_the_mode_of_action_says_automatic(mode: str, automatic: bool | None) -> None:
    (fact,) = of(mdn(found_tokens=found(BOB.token), disposition_mode=mode), *TRIO).facts
    assert fact.detail.get("automatic") is automatic
    assert fact.detail["disposition_mode"] == mode


def test_detail_keeps_the_fields_in_json_and_in_bounds() -> None:
    said = block(
        status="5.1.1", reply_code=550, cause=Cause.USER_UNKNOWN, remote_mta="mx", will_retry_until=AT, occurred_at=AT,
        diagnostic_code="smtp; 550 \0\ud800" + "ü" * 5000,
    )  # fmt: skip
    (fact,) = of(dsn(said, found_tokens=found(BOB.token), reporting_mta="mta", excerpt="Sorry"), *TRIO).facts
    detail = json.loads(json.dumps(dict(fact.detail)))
    assert len(detail.pop("diagnostic_code").encode()) <= 1024
    assert detail == {
        "status": "5.1.1", "reply_code": 550, "cause": "user_unknown", "remote_mta": "mx", "reporting_mta": "mta",
        "will_retry_until": "2026-11-24T09:30:00Z", "excerpt": "Sorry",
    }  # fmt: skip
    assert "\0" not in str(fact.detail)
    assert fact.occurred_at == AT


# Answers


def reply(**more: Any) -> Report:
    """Bob's answer to our message."""
    said = {"from_address": "bob@b.org", "in_reply_to": (ID,), "message_id": "<re@b.org>", "to_addresses": (OURS,)}
    return Report(ReportKind.REPLY, **(said | more))


def test_a_human_reply_is_replied_and_plausible() -> None:
    matched = of(reply(), *TRIO)
    assert brief(matched) == [("m1/bob", "replied", "plausible", None)]
    assert matched.facts[0].matched_by is MatchedBy.REFERENCES


@pytest.mark.parametrize(
    "result",
    [
        "mx.a.org; dmarc=pass (p=none) header.from=b.org",
        "MX.A.ORG 1; spf=fail smtp.mailfrom=x.org; dkim=pass (2048-bit key) header.d=B.org header.s=x",
        "mx.a.org; dkim=pass header.i=@b.org",
        "mx.a.org; spf=pass smtp.mailfrom=bob@b.org",
    ],
)
def test_a_reply_that_our_own_server_vouches_for_is_keyed(result: str) -> None:
    assert brief(of(reply(authentication_results=(result,)), *TRIO)) == [("m1/bob", "replied", "keyed", None)]


@pytest.mark.parametrize(
    "results",
    [
        (),
        ("mx.evil.org; dmarc=pass header.from=b.org",),
        ("mx.evil.org; none", "mx.a.org; dmarc=pass header.from=b.org"),
        ("mx.a.org; dmarc=none header.from=b.org",),
        ("mx.a.org; dmarc=passable header.from=b.org",),
        ("mx.a.org; dkim=pass header.d=evil.org",),
        ("mx.a.org; dkim=pass header.d=org",),
        ("mx.a.org; dkim=pass header.d=sub.b.org",),
        ("mx.a.org; spf=pass smtp.mailfrom=b.org@evil.org",),
        ("mx.a.org; spf=fail (dkim=pass header.d=b.org; dmarc=pass header.from=b.org) smtp.mailfrom=x.org",),
        ('mx.a.org; spf=pass smtp.mailfrom="x; dkim=pass header.d=b.org y"@evil.org',),
        ('mx.a.org; dkim=fail (a " b) header.d=e.org; spf=pass smtp.mailfrom="x; dmarc=pass header.from=b.org"@e.org',),
        ("mx.a.org; spf=fail ((((((; dmarc=pass header.from=b.org",),
    ],
)
def test_what_our_own_server_doesnt_vouch_for_stays_plausible(results: tuple[str, ...]) -> None:
    assert brief(of(reply(authentication_results=results), *TRIO)) == [("m1/bob", "replied", "plausible", None)]


@pytest.mark.parametrize(
    ("results", "authserv_id"),
    [
        (("mx.a.org; spf=pass smtp.mailfrom=e.org; dmarc=fail (p=reject) header.from=b.org",), "mx.a.org"),
        (("mx.a.org; dkim=pass header.d=b.org", "mx.a.org; dmarc=fail header.from=b.org"), "mx.a.org"),
        (("mx.any.org; dmarc=fail header.from=b.org",), None),
    ],
)
def test_a_reply_that_fails_dmarc_at_our_own_server_is_weak(results: tuple[str, ...], authserv_id: str | None) -> None:
    told = of(reply(authentication_results=results), *TRIO, authserv_id=authserv_id)
    assert brief(told) == [("m1/bob", "replied", "weak", None)]


def test_what_another_server_says_of_dmarc_refutes_nobody() -> None:
    """A mailing list on the way breaks it, and notes that."""
    results = ("mx.a.org; none", "lists.c.org; dmarc=fail header.from=b.org")
    assert brief(of(reply(authentication_results=results), *TRIO)) == [("m1/bob", "replied", "plausible", None)]


def test_a_vouched_answer_of_a_colleague_is_not_the_recipients() -> None:
    """Our server vouches for the whole domain; only that very address counts."""
    told = reply(from_address="ann@b.org", authentication_results=("mx.a.org; dmarc=pass header.from=b.org",))
    matched = of(told, BOB)
    assert brief(matched) == [("m1/bob", "replied", "plausible", "ann@b.org")]
    assert state(matched.facts).receipt is Receipt.OPEN
    assert state(matched.facts).level is Level.ACCEPTED


def test_without_a_configured_server_nobody_vouches() -> None:
    told = reply(authentication_results=("mx.a.org; dmarc=pass header.from=b.org",))
    assert of(told, *TRIO, authserv_id=None).facts[0].trust is Trust.PLAUSIBLE


def test_a_vouched_reply_of_somebody_else_is_plausible() -> None:
    told = reply(from_address="ann@c.org", authentication_results=("mx.a.org; dmarc=pass header.from=c.org",))
    assert brief(of(told, BOB)) == [("m1/bob", "replied", "plausible", "ann@c.org")]
    assert of(told, *TRIO) == Matched(Verdict.UNMATCHED)


def test_a_later_message_of_the_thread_answers_somebody_else() -> None:
    assert of(reply(in_reply_to=("<other@b.org>",), references=(ID, "<other@b.org>")), *TRIO).facts == ()
    assert of(reply(in_reply_to=(), references=(ID,)), *TRIO).facts[0].kind is EventKind.REPLIED


@pytest.mark.parametrize("kind", [ReportKind.REPLY, ReportKind.ORDINARY])
def test_what_comes_to_a_return_path_without_report_is_an_automatons(kind: ReportKind) -> None:
    matched = of(replace(reply(found_tokens=found(BOB.token)), kind=kind), *TRIO)
    assert brief(matched) == [("m1/bob", "auto_replied", "keyed", None)]


def test_an_automatic_reply_is_no_persons() -> None:
    assert brief(of(reply(is_automatic=True), *TRIO)) == [("m1/bob", "auto_replied", "plausible", None)]


def test_an_out_of_office_keeps_its_text_and_dates() -> None:
    away = Report(
        ReportKind.AUTO_REPLY, found_tokens=found(BOB.token), from_address="postmaster@b.org", excerpt="I'm away",
        returns_at=AT, subject="Away",
    )  # fmt: skip
    (fact,) = of(away, *TRIO).facts
    assert (fact.kind, fact.source, fact.trust) == (EventKind.AUTO_REPLIED, Source.REPLY, Trust.KEYED)
    assert fact.detail == {
        "from": "postmaster@b.org", "subject": "Away", "excerpt": "I'm away", "returns_at": "2026-11-24T09:30:00Z",
    }  # fmt: skip


def test_a_challenge_is_held() -> None:
    asks = Report(ReportKind.AUTO_REPLY, found_tokens=found(BOB.token), is_challenge=True)
    assert brief(of(asks, *TRIO)) == [("m1/bob", "held", "keyed", None)]


def test_two_replies_are_two_facts_and_one_reply_twice_is_one() -> None:
    one, same, other = (of(reply(message_id=name), *TRIO).facts[0] for name in ("<1@b>", "<1@b>", "<2@b>"))
    assert one.variant == same.variant != other.variant


@pytest.mark.parametrize("kind", [ReportKind.ORDINARY, ReportKind.REPLY, ReportKind.AUTO_REPLY])
def test_our_own_copy_is_noise(kind: ReportKind) -> None:
    copy = Report(kind, message_id=ID, from_address="ME@a.org", found_tokens=found(BOB.token))
    assert of(copy, *TRIO) == Matched(Verdict.NOISE)


def test_our_own_next_word_in_the_thread_is_noise() -> None:
    assert of(reply(from_address=OURS), *TRIO) == Matched(Verdict.NOISE)


def test_a_report_that_claims_to_be_from_us_is_no_copy() -> None:
    report = dsn(found_tokens=found(BOB.token), from_address=OURS, message_id=ID)
    assert of(report, *TRIO).verdict is Verdict.MATCHED


@pytest.mark.parametrize("keyed", [True, False])
def test_a_complaint_is_an_event(keyed: bool) -> None:
    key: dict[str, Any] = {"found_tokens": found(BOB.token)} if keyed else {"original_message_id": ID}
    report = Report(ReportKind.FEEDBACK, recipients=(block(None),), return_path="fbl@isp.org", **key)
    assert brief(of(report, *TRIO)) == [("m1/bob", "complained", "keyed" if keyed else "plausible", None)]


@pytest.mark.parametrize("kind", list(ReportKind))
def test_what_fits_nobody_stays_visible_unless_it_is_ordinary(kind: ReportKind) -> None:
    verdict = Verdict.NOISE if kind is ReportKind.ORDINARY else Verdict.UNMATCHED
    assert of(Report(kind, recipients=(block(),)), *TRIO) == Matched(verdict)


def test_what_a_check_caused_is_no_news() -> None:
    assert of(dsn(found_tokens=found(correlation_token.make_for_check())), *TRIO) == Matched(Verdict.NOISE)


def test_the_token_of_a_check_does_not_hide_what_another_key_tells() -> None:
    report = dsn(found_tokens=found(correlation_token.make_for_check()), original_message_id=ID)
    assert of(report, *TRIO).facts


# Laws

ADDRESSES = st.sampled_from(["bob@b.org", "carol@b.org", "x@c.org", "", None])
TOKENS = st.sampled_from([BOB.token, CAROL.token, OTHER.token, STRANGE])
REPORTS = st.builds(
    Report,
    kind=st.sampled_from(ReportKind),
    recipients=st.lists(
        st.builds(
            ReportedRecipient,
            action=st.sampled_from([None, *Action]),
            final_recipient=ADDRESSES,
            original_recipient=ADDRESSES,
        ),
        max_size=3,
    ).map(tuple),
    original_message_id=st.sampled_from([None, ID, "<m2@a.org>", "<x@y>"]),
    found_tokens=st.lists(st.builds(FoundToken, TOKENS, st.sampled_from(MatchedBy)), max_size=3).map(tuple),
    in_reply_to=st.sampled_from([(), (ID,)]),
    from_address=st.sampled_from([None, OURS, "bob@b.org", "x@c.org"]),
    return_path=st.sampled_from([None, "", "x@c.org"]),
    is_refusal=st.booleans(),
    is_automatic=st.booleans(),
)


@given(REPORTS)
def test_any_report_is_matched_without_a_fault(report: Report) -> None:
    matched = of(report, *TRIO, OTHER)
    assert matched == of(report, *TRIO, OTHER)
    assert not matched.facts or matched.verdict in (Verdict.MATCHED, Verdict.SUSPICIOUS)
    if matched.verdict is Verdict.SUSPICIOUS:
        assert all(fact.trust is Trust.WEAK for fact in matched.facts)


@given(REPORTS, st.randoms(use_true_random=False))
def test_the_order_of_candidates_decides_nothing(report: Report, chance: random.Random) -> None:
    shuffled = [*TRIO, OTHER]
    chance.shuffle(shuffled)
    assert set(brief(of(report, *shuffled))) == set(brief(of(report, *TRIO, OTHER)))


@given(REPORTS)
def test_without_a_known_token_no_report_of_a_server_is_keyed(report: Report) -> None:
    stranger = replace(report, found_tokens=tuple(one for one in report.found_tokens if one.token == STRANGE))
    assert all(fact.trust is not Trust.KEYED for fact in of(stranger, *TRIO, OTHER).facts)


@given(REPORTS)
def test_only_the_owner_of_the_token_gets_a_keyed_fact(report: Report) -> None:
    owners = {one.recipient_id for one in (*TRIO, OTHER) if one.token in report.tokens}
    assert {fact.recipient_id for fact in of(report, *TRIO, OTHER).facts if fact.trust is Trust.KEYED} <= owners
