"""What is required, who is told, and that no sentence claims more than is proven."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd import policy
from receiptd.errors import BadData
from receiptd.facts import (
    Cause,
    Delivery,
    Demand,
    Event,
    EventKind,
    Level,
    Receipt,
    RecipientState,
    Role,
    Source,
    Trust,
)
from receiptd.lifecycle import fold, reasons
from receiptd.policy import alarms, effective, next_level
from receiptd.settings import EscalationLevel, Settings

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
BOB = "bob@b.org"
DEMAND = Demand(address=BOB)


def settings(subaddress: str = "+", **policies: dict[str, Any]) -> Settings:
    """Settings with two webhooks and *policies*."""
    hooks = [{"name": name, "url": "https://hooks.a.org/x", "secret_file": f"/etc/{name}"} for name in ("ops", "boss")]
    return Settings.model_validate(
        {
            "submission": {"url": "smtp://localhost"},
            "receipts": {"address": "receipts@a.org", "subaddress": subaddress},
            "mailbox": [{"url": "imaps://r@mail.a.org", "password_file": "/etc/imap"}],
            "policy": policies,
            "webhook": hooks,
        }
    )


# Terms


def test_the_default_policy_always_exists() -> None:
    terms = effective(settings(), "default", BOB)
    assert (terms.require, terms.within, terms.onward) == (Level.RELAYED, timedelta(hours=4), False)
    assert effective(settings(slow={}), "default", BOB) == terms


def test_an_unknown_policy_is_named_with_the_known_ones() -> None:
    with pytest.raises(BadData, match="no policy 'fast'; there are: default, slow"):
        effective(settings(slow={}), "fast", BOB)


EXCEPTION = {"require": "displayed", "domain": [{"name": "Zürich.CH", "require": "accepted", "within": "5d"}]}


@pytest.mark.parametrize("domain", ["zürich.ch", "xn--zrich-kva.ch", "XN--ZRICH-KVA.CH"])
def test_a_domains_exception_holds_in_any_spelling(domain: str) -> None:
    terms = effective(settings(default=EXCEPTION), "default", f"bob@{domain}")
    assert (terms.require, terms.within) == (Level.ACCEPTED, timedelta(days=5))


def test_a_domains_exception_holds_for_none_below_it() -> None:
    assert effective(settings(default=EXCEPTION), "default", "bob@mx.zürich.ch").require is Level.DISPLAYED


def test_an_exception_may_change_one_and_leave_the_other() -> None:
    one = {"within": "1h", "domain": [{"name": "b.org", "require": "delivered"}]}
    terms = effective(settings(default=one), "default", BOB)
    assert (terms.require, terms.within) == (Level.DELIVERED, timedelta(hours=1))


def test_the_messages_own_word_comes_first() -> None:
    terms = effective(
        settings(default=EXCEPTION), "default", "bob@zürich.ch", require=Level.REPLIED, within=timedelta(days=9)
    )
    assert (terms.require, terms.within) == (Level.REPLIED, timedelta(days=9))


@pytest.mark.parametrize("role", [Role.CC, Role.BCC])
@pytest.mark.parametrize("require", list(Level))
@pytest.mark.parametrize("asked", list(Level))
def test_what_is_required_beyond_the_policy_holds_for_to_alone_unless_all_must(
    role: Role, require: Level, asked: Level
) -> None:
    def required(**more: Any) -> Level:
        return effective(settings(default={"require": asked}), "default", BOB, require=require, **more).require

    assert required() is require
    assert required(role=role, require_all=True) is require
    assert required(role=role) is min(require, asked, key=lambda level: level.rank)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("require", list(Level))
def test_copies_keep_what_the_policy_or_its_domain_requires(role: Role, require: Level) -> None:
    assert effective(settings(default={"require": require}), "default", BOB, role=role).require is require
    exception = {"require": "accepted", "domain": [{"name": "b.org", "require": require}]}
    assert effective(settings(default=exception), "default", BOB, role=role).require is require
    replied = effective(settings(default=exception), "default", BOB, role=role, require=Level.REPLIED)
    assert replied.require is (Level.REPLIED if role is Role.TO else require)


def test_without_subaddress_plausible_is_enough_unless_the_policy_says_otherwise() -> None:
    assert effective(settings(), "default", BOB).minimum_trust is Trust.KEYED
    assert effective(settings(""), "default", BOB).minimum_trust is Trust.PLAUSIBLE
    strict = settings("", default={"minimum_trust": "keyed"})
    assert effective(strict, "default", BOB).minimum_trust is Trust.KEYED


# Levels

LEVELS = (EscalationLevel(to=("ops",)), EscalationLevel(after=timedelta(days=1), to=("ops", "boss")))


def test_without_levels_everybody_is_told_at_once() -> None:
    assert policy.levels(settings(), "default") == (EscalationLevel(after=timedelta(0), to=("ops", "boss")),)


def test_levels_count_from_the_first_alert_until_there_are_none() -> None:
    assert next_level(LEVELS, START, 0) == policy.Next(START, ("ops",))
    assert next_level(LEVELS, START, 1) == policy.Next(START + timedelta(days=1), ("ops", "boss"))
    assert next_level(LEVELS, START, 2) is None


# Alarms


def event(kind: EventKind, branch: str | None = None, *, trust: Trust = Trust.KEYED, **more: Any) -> Event:
    source = more.pop("source", Source.SMTP if kind in (EventKind.ACCEPTED, EventKind.UNCERTAIN) else Source.DSN)
    name = f"{kind}/{branch}/{trust}/{source}"
    return Event(name, "r1", kind, START, source, trust, final_recipient=branch, detail=more)


ACCEPTED = event(EventKind.ACCEPTED)
RELAYED = event(EventKind.RELAYED)
FAILED = event(EventKind.FAILED)


def told(known: list[Event], *new: Event, demand: Demand = DEMAND) -> list[tuple[str, bool]]:
    """Kind and `unproven` of what *new* events make us tell."""
    before, after = fold(known, demand), fold([*known, *new], demand)
    return [(alarm.kind, alarm.unproven) for alarm in alarms(before, after, new, demand)]


def test_good_news_alarms_nobody() -> None:
    for kind in (EventKind.DELIVERED, EventKind.DELAYED, EventKind.AUTO_REPLIED, EventKind.HELD, EventKind.OVERDUE):
        assert told([ACCEPTED], event(kind)) == []


@pytest.mark.parametrize("trust", [Trust.KEYED, Trust.PLAUSIBLE])
def test_a_failure_alarms_at_once(trust: Trust) -> None:
    assert told([ACCEPTED], event(EventKind.FAILED, trust=trust)) == [("failed", False)]


def test_a_failure_alarms_once() -> None:
    assert (
        told([ACCEPTED, FAILED], event(EventKind.FAILED, "ann@c.org"), event(EventKind.FAILED, trust=Trust.WEAK)) == []
    )


def test_a_failure_after_delivery_alarms_as_a_contradiction() -> None:
    assert told([ACCEPTED, event(EventKind.DELIVERED)], FAILED) == [("contradicted", False)]


def test_a_new_kind_alarms_again() -> None:
    assert told([ACCEPTED, FAILED], event(EventKind.DELIVERED)) == [("contradicted", False)]


@pytest.mark.parametrize("require", list(Level))
def test_a_refusal_alarms_whatever_was_required(require: Level) -> None:
    assert told([ACCEPTED, RELAYED], event(EventKind.REFUSED), demand=replace(DEMAND, require=require)) == [
        ("refused", False)
    ]


@pytest.mark.parametrize("kind", [EventKind.DELETED, EventKind.DENIED, EventKind.ERROR])
def test_unread_alarms_only_where_reading_is_required(kind: EventKind) -> None:
    assert told([ACCEPTED], event(kind)) == []
    must = replace(DEMAND, require=Level.DISPLAYED)
    assert told([ACCEPTED], event(kind), demand=must) == [("refused", False)]
    assert told([ACCEPTED], event(kind, trust=Trust.WEAK), demand=must) == [("refused", True)]
    assert told([ACCEPTED, event(EventKind.DISPLAYED)], event(kind, trust=Trust.WEAK), demand=must) == []


@pytest.mark.parametrize("trust", [Trust.PLAUSIBLE, Trust.WEAK])
@pytest.mark.parametrize("kind", [EventKind.FAILED, EventKind.REFUSED])
def test_bad_news_below_the_trust_of_what_it_contradicts_alarms_unproven(trust: Trust, kind: EventKind) -> None:
    assert told([ACCEPTED, RELAYED], event(kind, trust=trust), event(kind, "x@y.org", trust=trust)) == [
        (kind.value, True)
    ]


def test_weak_bad_news_alarms_unproven_where_nothing_is_known() -> None:
    assert told([ACCEPTED], event(EventKind.FAILED, trust=Trust.WEAK)) == [("failed", True)]


def test_what_an_answer_overrides_alarms_nobody() -> None:
    answered = [ACCEPTED, event(EventKind.DISPLAYED)]
    assert told(answered, FAILED) == []
    assert told(answered, event(EventKind.FAILED, trust=Trust.WEAK)) == []
    assert told(answered, event(EventKind.FAILED, "x@y.org", trust=Trust.WEAK)) == [("failed", True)]


def test_a_refused_second_try_alarms_though_the_state_stays_uncertain() -> None:
    refused = event(EventKind.FAILED, source=Source.SMTP)
    uncertain = [event(EventKind.UNCERTAIN)]
    assert told(uncertain, refused) == [("failed", True)]
    assert told([*uncertain, RELAYED], refused) == []


def test_a_refused_first_try_is_proven() -> None:
    assert told([], event(EventKind.FAILED, source=Source.SMTP)) == [("failed", False)]


def test_a_complaint_alarms_unproven() -> None:
    assert told([ACCEPTED, RELAYED], event(EventKind.COMPLAINED)) == [("refused", True)]


def test_after_waive_bad_news_is_only_recorded() -> None:
    assert told([ACCEPTED, event(EventKind.WAIVED)], FAILED, event(EventKind.COMPLAINED)) == []


CONFIRMED = event(EventKind.CONFIRMED, source=Source.PERSON)


def test_bad_news_after_a_persons_confirm_alarms_once() -> None:
    confirmed = [ACCEPTED, CONFIRMED]
    assert told(confirmed, FAILED) == [("failed", False)]
    assert told(confirmed, event(EventKind.REFUSED)) == [("refused", False)]
    assert told([*confirmed, FAILED], event(EventKind.FAILED, "ann@c.org")) == []
    assert told([ACCEPTED, event(EventKind.DELIVERED), CONFIRMED], FAILED) == [("contradicted", False)]
    assert told([*confirmed, FAILED], event(EventKind.DELIVERED)) == [("contradicted", False)]
    must = replace(DEMAND, require=Level.DISPLAYED)
    assert told(confirmed, event(EventKind.DELETED), demand=must) == [("refused", False)]
    assert told(confirmed, event(EventKind.DELETED)) == []


def test_what_a_person_knew_when_confirming_alarms_nobody_again() -> None:
    assert told([ACCEPTED, FAILED], CONFIRMED) == []
    assert told([ACCEPTED, FAILED, CONFIRMED], event(EventKind.FAILED, "ann@c.org")) == []
    assert told([ACCEPTED, CONFIRMED, event(EventKind.DISPLAYED)], FAILED) == [], "the reader's own word overrides it"


def test_after_a_persons_confirm_the_reason_says_what_speaks_against_it() -> None:
    assert fold([ACCEPTED, CONFIRMED], DEMAND).reason == reasons.CONFIRMED
    state = fold([ACCEPTED, CONFIRMED, event(EventKind.FAILED, cause=Cause.USER_UNKNOWN, status="5.1.1")], DEMAND)
    assert state.receipt is Receipt.MET
    assert state.reason == (
        "A person confirmed the receipt. A report says that delivery failed: there is no such user (5.1.1)."
    )


# Sentences

STATES = [RecipientState(delivery=delivery, level=level) for delivery in Delivery for level in (None, *Level)]


def every_text() -> Iterator[str]:
    """Every sentence that states, alarms and overdue receipts can say."""
    yield from (value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str))
    yield from policy.UNPROVEN.values()
    for state in STATES:
        yield reasons.overdue(state.delivery, state.level, submitted=True)
        yield reasons.overdue(state.delivery, state.level, submitted=False)
    for kind in (EventKind.HELD, EventKind.AUTO_REPLIED):
        yield policy.auto_reply_reason(event(kind))
        yield policy.auto_reply_reason(event(kind, returns_at="2026-12-01T00:00:00Z"))
    for cause in Cause:
        for source in Source:
            for status in ("5.1.1", "4.7.1"):
                yield reasons.failure(event(EventKind.FAILED, source=source, cause=cause, status=status))
    yield from (policy.COMPLAINED, policy.REFUSED_AGAIN, reasons.SUBMITTED_LATE)


OVERCLAIM = re.compile(
    r"\bproo?[fv]|guarantee|\bnever\b|\bread it\b|was read\b|has read\b|was lost|not delivered|undeliver(ed|able)"
    r"|non-?delivery|was not received|did not arrive|didn't arrive|not (been )?seen by|certainly|definitely|legal",
    re.IGNORECASE,
)


@pytest.mark.parametrize("text", sorted(set(every_text())))
def test_no_sentence_claims_more_than_is_known(text: str) -> None:
    """RFC 3464 §4.3: even a failure report is no guarantee that the message did not arrive."""
    assert not OVERCLAIM.search(text)
    assert text[0].isupper()
    assert text.endswith((".", ")."))


@pytest.mark.parametrize(
    ("source", "detail", "said"),
    [
        (
            Source.DSN,
            {"status": "4.7.1", "reply_code": 450, "cause": Cause.RATE_LIMITED},
            "A report says that delivery failed: it was put off until a server gave up trying; "
            "the last answer: try again later (4.7.1).",
        ),
        (
            Source.DSN,
            {"status": "4.2.2", "cause": Cause.MAILBOX_FULL},
            "A report says that delivery failed: it was put off until a server gave up trying; "
            "the last reason: the mailbox is full (4.2.2).",
        ),
        (
            Source.DSN,
            {"status": "4.4.7", "cause": Cause.EXPIRED},
            "A report says that delivery failed: it was put off until a server gave up trying (4.4.7).",
        ),
        (
            Source.DSN,
            {"status": "5.0.0", "reply_code": 451, "cause": Cause.RATE_LIMITED},
            "A report says that delivery failed: it was put off until a server gave up trying; "
            "the last answer: try again later (5.0.0).",
        ),
        (
            Source.SMTP,
            {"status": "4.2.0", "reply_code": 450},
            "The submission server put the message off for this recipient until the time for trying ran out (4.2.0).",
        ),
        (
            Source.DSN,
            {"status": "5.7.1", "reply_code": 550, "cause": Cause.RATE_LIMITED},
            "A report says that delivery failed: too much was sent in too short a time (5.7.1).",
        ),
    ],
)
def test_of_what_was_put_off_to_the_end_that_is_said_and_not_the_last_answer_alone(
    source: Source, detail: dict[str, Any], said: str
) -> None:
    assert reasons.failure(event(EventKind.FAILED, source=source, **detail)) == said


def test_what_an_overdue_reason_says_follows_the_level() -> None:
    relayed = RecipientState(delivery=Delivery.RELAYED, level=Level.RELAYED)
    assert "handed on to another server" in reasons.overdue(relayed.delivery, relayed.level, submitted=True)
    assert "ot submitted" in reasons.overdue(Delivery.QUEUED, None, submitted=False)
    uncertain = RecipientState(delivery=Delivery.UNCERTAIN)
    assert reasons.overdue(uncertain.delivery, uncertain.level, submitted=False) == reasons.UNCERTAIN_TOO_LONG


@given(st.sampled_from(list(Receipt)), st.sampled_from(list(Delivery)), st.sampled_from(list(EventKind)))
def test_every_failed_receipt_has_an_alarm(receipt: Receipt, delivery: Delivery, kind: EventKind) -> None:
    raised = alarms(RecipientState(), RecipientState(receipt=receipt, delivery=delivery), [event(kind)], DEMAND)
    if receipt is Receipt.FAILED:
        assert [alarm.unproven for alarm in raised] == [False]
    assert all(alarm.reason for alarm in raised)
