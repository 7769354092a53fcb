"""What is taken from users: on what terms, with which warnings, and what is refused before anything is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import StatementError
from sqlmodel import func, select

from receiptd import compose, errors, telemetry
from receiptd.accept import AcceptedMessage, KeyReused, SubmitOptions, TooBig, accept
from receiptd.facts import EventKind, Level, Source, Trust
from receiptd.models import Evidence, Message, Recipient
from receiptd.store import Store
from receiptd.store.faults import DatabaseFault
from tests.statements import Statements
from tests.steps_fixture import START, StepsFixture, dsn, open_steps, watching


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def _take(steps: StepsFixture, draft: dict[str, Any] | None = None, **options: Any) -> AcceptedMessage:
    words: dict[str, Any] = {"from_": "office@a.test", "to": ("bob@b.test",), "text": "x"} | (draft or {})
    return await accept(steps.store, compose.compose(compose.Draft(**words), now=steps.instant), _options(**options))


def _options(**options: Any) -> SubmitOptions:
    return SubmitOptions(**({"owner": "uid:1000"} | options))


async def _stored(steps: StepsFixture) -> list[int]:
    """Return how many messages, recipients and pieces of evidence there are."""
    async with steps.store.read() as session:
        return [
            (await session.exec(select(func.count()).select_from(kind))).one()
            for kind in (Message, Recipient, Evidence)
        ]


# --- terms --------------------------------------------------------------------------------------------------------


async def test_a_recipient_is_queued_for_now_with_its_own_token_and_the_policys_terms(steps: StepsFixture) -> None:
    taken = await _take(steps, {"to": ("bob@b.test", "carol@c.test")})
    bob, carol = taken.recipients
    assert bob.token != carol.token
    assert (bob.require, bob.within, bob.minimum_trust) == (Level.RELAYED, 4 * 3600, Trust.KEYED)
    assert bob.next_attempt_at == START
    assert bob.submit_by == bob.judge_at == START + timedelta(hours=1)
    assert bob.give_up_at == START + timedelta(days=5)
    assert bob.deadline_at is bob.submitted_at is None, "the clock starts at the first final dot"
    assert [event.kind for event in (await steps.whole(taken)).events] == [EventKind.QUEUED] * 2


POLICY = {
    "default": {
        "require": "delivered", "within": "4h", "domain": [{"name": "b.test", "require": "accepted", "within": "5d"}]
    },
    "strict": {"require": "displayed", "within": "1d", "minimum_trust": "plausible", "onward": True},
}  # fmt: skip


async def test_the_message_overrides_its_domain_and_the_domain_the_policy(tmp_path: Path) -> None:
    async with open_steps(tmp_path, policy=POLICY) as steps:
        bob, carol = (await _take(steps, {"to": ("bob@B.test", "carol@c.test")})).recipients
        assert (bob.require, bob.within) == (Level.ACCEPTED, 5 * 86400)
        assert (carol.require, carol.within) == (Level.DELIVERED, 4 * 3600)
        (bob,) = (await _take(steps, require=Level.DISPLAYED, within=timedelta(minutes=5))).recipients
        assert (bob.require, bob.within) == (Level.DISPLAYED, 300)
        (bob,) = (await _take(steps, policy="strict")).recipients
        assert (bob.require, bob.minimum_trust, bob.onward) == (Level.DISPLAYED, Trust.PLAUSIBLE, True)


async def test_cc_and_bcc_keep_what_their_policy_requires_unless_all_must_meet_the_same(steps: StepsFixture) -> None:
    everyone = {"to": ("bob@b.test",), "cc": ("carol@c.test",), "bcc": ("dave@d.test",)}
    rows = (await _take(steps, everyone, require=Level.DISPLAYED)).recipients
    assert [(row.role, row.require) for row in rows] == [("to", "displayed"), ("cc", "relayed"), ("bcc", "relayed")]
    rows = (await _take(steps, everyone, require=Level.DISPLAYED, require_all=True)).recipients
    assert {row.require for row in rows} == {"displayed"}
    rows = (await _take(steps, everyone, require=Level.ACCEPTED)).recipients
    assert {row.require for row in rows} == {"accepted"}


async def test_without_sub_addresses_plausible_is_enough(tmp_path: Path) -> None:
    async with open_steps(tmp_path, receipts={"address": "receipts@a.test", "subaddress": ""}) as steps:
        assert (await _take(steps)).recipients[0].minimum_trust is Trust.PLAUSIBLE


async def test_the_same_address_twice_is_one_recipient_in_its_strongest_role(steps: StepsFixture) -> None:
    rows = (
        await _take(steps, {"to": ("bob@B.TEST",), "cc": ("bob@b.test", "Bob@b.test"), "bcc": ("bob@b.test",)})
    ).recipients
    assert [(row.address, row.role) for row in rows] == [("bob@b.test", "to"), ("Bob@b.test", "cc")]


# --- read receipts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receipts", "options", "asked"),
    [
        ({}, {}, True),
        ({}, {"mdn": False}, False),
        ({"mdn": "never"}, {}, False),
        ({"mdn": "never"}, {"mdn": True}, True),
        ({"mdn": "required"}, {}, False),
        ({"mdn": "required"}, {"require": Level.DELIVERED}, False),
        ({"mdn": "required"}, {"require": Level.DISPLAYED}, True),
        ({"mdn_never": ["@b.test"]}, {}, False),
        ({"mdn_never": ["@B.Test"]}, {}, False),
        ({"mdn_never": ["@test"]}, {}, True),
        ({"mdn_never": ["b.test"]}, {}, True),
        ({"mdn_never": ["*@*.b.test"]}, {}, True),
        ({"mdn_never": ["*@b.*"]}, {}, False),
        ({"mdn_never": ["bo?@b.test"]}, {}, False),
        ({"mdn_never": ["@b.test"]}, {"mdn": True}, True),
    ],
)
async def test_a_read_receipt_is_asked_for_where_settings_and_sender_want_it(
    tmp_path: Path, receipts: dict[str, Any], options: dict[str, Any], asked: bool
) -> None:
    async with open_steps(tmp_path, receipts={"address": "receipts@a.test"} | receipts) as steps:
        assert (await _take(steps, **options)).recipients[0].mdn_requested is asked


async def test_no_receipt_is_asked_for_a_report_and_the_sender_is_told(steps: StepsFixture) -> None:
    raw = b"From: a@a.test\nTo: bob@b.test\nAuto-Submitted: auto-replied (vacation)\n\nx\n"
    taken = await accept(steps.store, compose.adopt(raw, now=START), _options(mdn=True))
    (row,) = taken.recipients
    assert (row.require, row.mdn_requested) == (Level.ACCEPTED, False)
    assert "no receipt is asked" in taken.message.warnings[0]


async def test_what_a_program_generates_is_tracked_like_any_other(steps: StepsFixture) -> None:
    raw = b"From: erp@a.test\nTo: bob@b.test\nAuto-Submitted: auto-generated\n\nx\n"
    taken = await accept(steps.store, compose.adopt(raw, now=START), _options())
    assert taken.recipients[0].require is Level.RELAYED
    assert taken.message.warnings == []


# --- warnings -----------------------------------------------------------------------------------------------------


async def _ended(steps: StepsFixture, number: int, *, met: bool, domain: str = "b.test", **options: Any) -> None:
    """Let so many requests at *domain* end, one after the other: of the same instant none is the last."""
    for _ in range(number):
        steps.pass_time(seconds=1)
        taken = await steps.submitted(f"someone@{domain}", **options)
        await steps.tell(taken.recipients[0].id, EventKind.CONFIRMED if met else EventKind.FAILED)


async def test_a_level_that_a_domain_has_never_met_in_ten_requests_earns_a_warning(steps: StepsFixture) -> None:
    await _ended(steps, 9, met=False)
    assert (await _take(steps)).message.warnings == []
    await _ended(steps, 1, met=False)
    assert (await _take(steps)).message.warnings == ["b.test has met relayed in none of the last 10 requests"]
    assert (await _take(steps, {"to": ("carol@c.test",)})).message.warnings == []
    await _ended(steps, 1, met=True)
    assert (await _take(steps)).message.warnings == []


async def test_what_is_still_open_says_nothing_of_a_domain(steps: StepsFixture) -> None:
    for _ in range(12):
        await steps.submitted("someone@b.test")
    assert (await _take(steps)).message.warnings == []


async def test_what_was_waived_or_cancelled_says_nothing_of_a_domain(steps: StepsFixture) -> None:
    await _ended(steps, 9, met=False)
    for kind in (EventKind.WAIVED, EventKind.CANCELLED):
        taken = await steps.take("someone@b.test")
        await steps.tell(taken.recipients[0].id, kind, source=Source.PERSON)
    assert (await _take(steps)).message.warnings == []


async def test_a_level_that_was_proven_counts_though_more_was_required(steps: StepsFixture) -> None:
    for _ in range(10):
        taken = await steps.submitted("someone@b.test", require=Level.DISPLAYED)
        await steps.tell(taken.recipients[0].id, EventKind.DELIVERED)
        await steps.tell(taken.recipients[0].id, EventKind.OVERDUE, source=Source.CLOCK)
    assert (await _take(steps, require=Level.DELIVERED)).message.warnings == []
    (warning,) = (await _take(steps, require=Level.DISPLAYED)).message.warnings
    assert warning == "b.test has met displayed in none of the last 10 requests"


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"require": Level.DISPLAYED}, False),
        ({"require": Level.DISPLAYED, "mdn": False}, True),
        ({"require": Level.DELIVERED, "mdn": False}, False),
    ],
)
async def test_who_requires_displayed_and_asks_no_reader_for_it_is_warned(
    tmp_path: Path, options: dict[str, Any], warned: bool
) -> None:
    async with open_steps(tmp_path, mailbox=watching(tmp_path, "office@a.test")) as steps:
        warnings = (await _take(steps, **options)).message.warnings
        assert warnings == [UNASKED.format("bob@b.test")] * warned


UNASKED = "displayed is required but no read receipt asked for: {} can meet it by an answer alone"


async def test_the_warning_names_those_whom_mdn_never_spares_and_no_other(tmp_path: Path) -> None:
    receipts = {"address": "receipts@a.test", "mdn_never": ["@b.test"]}
    async with open_steps(tmp_path, receipts=receipts, mailbox=watching(tmp_path, "office@a.test")) as steps:
        everyone = {"to": ("carol@c.test", "bob@b.test"), "cc": ("eve@b.test",)}
        taken = await _take(steps, everyone, require=Level.DISPLAYED)
        assert [row.mdn_requested for row in taken.recipients] == [True, False, False]
        assert taken.message.warnings == [UNASKED.format("bob@b.test")]
        many = {"to": tuple(f"u{n}@b.test" for n in range(9))}
        (warning,) = (await _take(steps, many, require=Level.DISPLAYED)).message.warnings
        assert warning == UNASKED.format("u0@b.test, u1@b.test, u2@b.test and 6 more")


async def test_a_higher_level_that_was_met_speaks_for_a_lower_one(steps: StepsFixture) -> None:
    await _ended(steps, 9, met=False)
    await _ended(steps, 1, met=True, require=Level.DISPLAYED)
    assert (await _take(steps)).message.warnings == []


# --- refusals -----------------------------------------------------------------------------------------------------


async def _refused(
    steps: StepsFixture, kind: type[errors.ReceiptdError], draft: dict[str, Any] | None = None, **options: Any
) -> str:
    with pytest.raises(kind) as refusal:
        await _take(steps, draft, **options)
    assert refusal.value.exit_status == 65
    assert await _stored(steps) == [0, 0, 0]
    return str(refusal.value)


async def test_what_cannot_be_sent_or_judged_is_refused_before_anything_is_stored(steps: StepsFixture) -> None:
    many = tuple(f"u{n}@b.test" for n in range(1001))
    assert "1001 recipients" in await _refused(steps, errors.BadData, {"to": many})
    assert "default" in await _refused(steps, errors.BadData, policy="defualt")
    sentence = await _refused(steps, errors.BadData, require=Level.REPLIED)
    assert 'role = "replies"' in sentence
    assert "office@a.test" in sentence


async def test_a_message_beyond_the_bound_is_refused_with_the_bound(tmp_path: Path) -> None:
    service = {"max_message": "1M", "listen": []}
    async with open_steps(tmp_path, service=service) as steps:
        assert "larger than 1M" in await _refused(steps, TooBig, {"text": "x\n" * (1 << 20)})


async def test_a_reply_may_be_required_where_a_watched_mailbox_gets_the_answers(tmp_path: Path) -> None:
    boxes = watching(tmp_path, "office@a.test")
    policy = {"chat": {"require": "replied"}, "some": {"domain": [{"name": "b.test", "require": "replied"}]}}
    async with open_steps(tmp_path, mailbox=boxes, policy=policy) as steps:
        assert (await _take(steps, require=Level.REPLIED)).recipients[0].require is Level.REPLIED
        assert (await _take(steps, policy="chat")).recipients[0].require is Level.REPLIED
        elsewhere = {"from_": "sales@a.test"}
        for options in ({"require": Level.REPLIED}, {"policy": "chat"}, {"policy": "some"}):
            with pytest.raises(errors.BadData, match=r"sales@a\.test"):
                await _take(steps, elsewhere, **options)
        await _take(steps, elsewhere | {"headers": (("Reply-To", "office@A.TEST"),)}, require=Level.REPLIED)
        await _take(steps, elsewhere, policy="chat", require=Level.RELAYED)


CHATTY = {
    "chat": {"require": "replied", "domain": [{"name": "quiet.test", "require": "relayed"}]},
    "some": {"domain": [{"name": "b.test", "require": "replied"}]},
}


@pytest.mark.parametrize(
    ("draft", "options"),
    [
        ({"to": ("carol@c.test",)}, {"policy": "some"}),
        ({"to": (), "bcc": ("bob@b.test",)}, {"require": Level.REPLIED}),
    ],
)
async def test_no_answer_is_missed_where_no_recipient_has_to_give_one(
    tmp_path: Path, draft: dict[str, Any], options: dict[str, Any]
) -> None:
    async with open_steps(tmp_path, policy=CHATTY) as steps:
        rows = (await _take(steps, draft, **options)).recipients
        assert Level.REPLIED not in {row.require for row in rows}


@pytest.mark.parametrize(
    ("draft", "options"),
    [
        ({"to": ("carol@c.test", "bob@B.test")}, {"policy": "some"}),
        ({"to": ("carol@c.test",), "cc": ("bob@b.test",)}, {"policy": "some"}),
        ({"to": ("carol@quiet.test", "bob@b.test")}, {"policy": "chat"}),
        ({"to": ("carol@quiet.test",), "bcc": ("bob@b.test",)}, {"policy": "chat"}),
        ({"to": (), "bcc": ("bob@b.test",)}, {"require": Level.REPLIED, "require_all": True}),
    ],
)
async def test_one_recipient_who_has_to_answer_unseen_refuses_the_message(
    tmp_path: Path, draft: dict[str, Any], options: dict[str, Any]
) -> None:
    async with open_steps(tmp_path, policy=CHATTY) as steps:
        sentence = await _refused(steps, errors.BadData, draft, **options)
        assert "office@a.test" in sentence


async def test_displayed_cannot_be_required_where_no_reader_is_asked_and_no_answer_is_seen(steps: StepsFixture) -> None:
    sentence = await _refused(steps, errors.BadData, require=Level.DISPLAYED, mdn=False)
    assert "bob@b.test" in sentence
    assert "no read receipt" in sentence
    assert 'role = "replies"' in sentence
    assert "office@a.test" in sentence
    many = {"to": tuple(f"u{n}@b.test" for n in range(9)), "headers": (("List-Id", "<l.a.test>"),)}
    assert "u2@b.test and 6 more" in await _refused(steps, errors.BadData, many, require=Level.DISPLAYED)


async def test_one_reader_whom_mdn_never_spares_refuses_a_message_that_everyone_must_display(tmp_path: Path) -> None:
    receipts = {"address": "receipts@a.test", "mdn_never": ["@b.test"]}
    async with open_steps(tmp_path, receipts=receipts) as steps:
        both = {"to": ("carol@c.test", "bob@b.test")}
        sentence = await _refused(steps, errors.BadData, both, require=Level.DISPLAYED)
        assert "bob@b.test" in sentence
        assert "carol@c.test" not in sentence
        await _take(steps, {"to": ("carol@c.test",), "cc": ("bob@b.test",)}, require=Level.DISPLAYED)


async def test_an_automatic_answer_is_taken_though_the_policy_wants_a_reply(tmp_path: Path) -> None:
    async with open_steps(tmp_path, policy=CHATTY) as steps:
        raw = b"From: a@a.test\nTo: bob@b.test\nAuto-Submitted: auto-replied\n\nx\n"
        taken = await accept(steps.store, compose.adopt(raw, now=START), _options(policy="chat"))
        assert taken.recipients[0].require is Level.ACCEPTED


# --- the same key twice -------------------------------------------------------------------------------------------


async def test_the_same_key_and_request_is_the_message_that_was_taken(steps: StepsFixture) -> None:
    first = await _take(steps, idempotency_key="k", fingerprint="f")
    second = await _take(steps, idempotency_key="k", fingerprint="f")
    assert (first.is_new, second.is_new) == (True, False)
    assert second.message.id == first.message.id
    assert [row.id for row in second.recipients] == [row.id for row in first.recipients]
    with pytest.raises(KeyReused, match=first.message.id):
        await _take(steps, idempotency_key="k", fingerprint="g")
    assert (await _take(steps, idempotency_key="k", fingerprint="g", owner="uid:2")).is_new
    assert (await _stored(steps))[0] == 2


async def test_of_many_at_the_same_moment_one_is_new(steps: StepsFixture) -> None:
    taken = await asyncio.gather(*(_take(steps, idempotency_key="k", fingerprint="f") for _ in range(20)))
    assert sum(one.is_new for one in taken) == 1
    assert (await _stored(steps))[:2] == [1, 1]


async def test_without_a_key_each_request_is_a_message(steps: StepsFixture) -> None:
    assert len({(await _take(steps, fingerprint="f")).message.id for _ in range(3)}) == 3


async def test_a_key_is_free_after_seven_days_and_the_old_message_stays(steps: StepsFixture) -> None:
    first = await _take(steps, idempotency_key="k", fingerprint="f")
    steps.pass_time(days=7)
    assert not (await _take(steps, idempotency_key="k", fingerprint="f")).is_new
    steps.pass_time(seconds=1)
    assert (await _take(steps, idempotency_key="k", fingerprint="g")).is_new
    assert not (await _take(steps, idempotency_key="k", fingerprint="g")).is_new
    assert (await steps.whole(first)).message.idempotency_key is None


async def test_a_report_may_be_asked_of_what_was_just_taken(steps: StepsFixture) -> None:
    """A report can be settled before our own `accepted` is: it proves acceptance."""
    taken = await _take(steps)
    await steps.receive(dsn(taken.recipients[0].token))
    row = await steps.recipient(taken)
    assert (row.receipt, row.next_attempt_at) == ("met", None)
    assert row.deadline_at == START + timedelta(hours=4)


# --- sets ---------------------------------------------------------------------------------------------------------


async def _statements(steps: StepsFixture, messages: int, recipients: int) -> list[int]:
    """Return how many statements each commit has that takes so many messages at once, to so many each."""
    drafts = [
        {
            "to": tuple(f"u{n}@d{n}.test" for n in range(recipients)),
            "headers": (("Message-ID", f"<{messages}.{recipients}.{number}@a.test>"),),
        }
        for number in range(messages)
    ]
    with Statements(steps.store) as statements:
        taken = await asyncio.gather(
            *(_take(steps, one, idempotency_key=str(one["headers"]), fingerprint="f") for one in drafts)
        )
    assert sum(len(one.recipients) for one in taken) == messages * recipients
    return statements.per_commit()


async def test_a_commit_has_as_many_statements_for_500_messages_or_1000_recipients_as_for_one(
    steps: StepsFixture,
) -> None:
    (one,) = await _statements(steps, 1, 1)
    assert await _statements(steps, 500, 1) == [one]
    assert await _statements(steps, 1, 1000) == [one]


async def test_of_a_set_each_message_is_on_disk_with_what_it_alone_said(steps: StepsFixture) -> None:
    names = [f"u{n}" for n in range(50)]
    taken = await asyncio.gather(
        *(_take(steps, {"to": (f"{name}@b.test",), "subject": name}, labels={"for": name}) for name in names)
    )
    for name, one in zip(names, taken, strict=True):
        whole = await steps.whole(one)
        assert (whole.message.subject, whole.message.labels) == (name, {"for": name})
        assert [row.address for row in whole.recipients] == [f"{name}@b.test"]
        assert [event.kind for event in whole.events] == [EventKind.QUEUED]
        assert whole.recipients[0].token == one.recipients[0].token
    assert await _stored(steps) == [50, 50, 50]


async def test_in_a_set_too_the_second_under_a_key_is_the_first_and_another_message_under_it_is_refused(
    steps: StepsFixture,
) -> None:
    first, second, other, alone = await asyncio.gather(
        _take(steps, idempotency_key="k", fingerprint="f"),
        _take(steps, idempotency_key="k", fingerprint="f"),
        _take(steps, idempotency_key="k", fingerprint="g"),
        _take(steps),
        return_exceptions=True,
    )
    assert isinstance(other, KeyReused)
    assert isinstance(first, AcceptedMessage)
    assert isinstance(second, AcceptedMessage)
    assert isinstance(alone, AcceptedMessage)
    assert (first.is_new, second.is_new, alone.is_new) == (True, False, True)
    assert (second.message, second.recipients) == (first.message, first.recipients)
    assert (await _stored(steps))[0] == 2


async def test_in_a_set_too_the_second_with_a_message_id_is_warned(steps: StepsFixture) -> None:
    draft = {"headers": (("Message-ID", "<same@a.test>"),)}
    first, second = await asyncio.gather(_take(steps, draft), _take(steps, draft))
    assert first.message.warnings == []
    assert "handed over before" in second.message.warnings[0]


async def test_what_the_database_refuses_of_a_set_takes_nothing_of_the_others_with_it(steps: StepsFixture) -> None:
    refused, *others = await asyncio.gather(
        *(_take(steps, labels={"name": name}) for name in (object(), "b", "c")), return_exceptions=True
    )
    assert isinstance(refused, StatementError | TypeError)
    assert all(isinstance(one, AcceptedMessage) for one in others)
    assert (await _stored(steps))[0] == 2


async def test_figures_count_what_is_committed(steps: StepsFixture) -> None:
    def counted() -> tuple[float, float]:
        return (
            telemetry.MESSAGES.labels("default")._value.get(),
            telemetry.EVENTS.labels(EventKind.QUEUED, Source.PERSON)._value.get(),
        )

    messages, events = counted()
    await _take(steps, {"to": ("bob@b.test", "carol@c.test")}, idempotency_key="k", fingerprint="f")
    await _take(steps, {"to": ("bob@b.test", "carol@c.test")}, idempotency_key="k", fingerprint="f")
    assert counted() == (messages + 1, events + 2)


@pytest.mark.sqlite
async def test_who_loses_patience_is_told_and_nothing_is_taken_afterwards(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "PATIENCE", 0.05)
    async with steps.store.write() as session:
        await session.connection()
        with pytest.raises(DatabaseFault, match="locked"):
            await _take(steps)
        assert steps.store.trouble is not None
    assert (await _take(steps, labels={"n": "2"})).is_new
    assert (await _stored(steps))[0] == 1


async def test_many_still_open_requests_of_a_domain_hide_none_that_ended(steps: StepsFixture) -> None:
    await _ended(steps, 10, met=False)
    for _ in range(12):
        await steps.take("someone@b.test")
    assert len((await _take(steps)).message.warnings) == 1
