"""What is taken from users: on what terms, with which warnings, and what is refused before anything is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import func, select

from receiptd import compose, errors
from receiptd.accept import AcceptedMessage, KeyReused, SubmitOptions, TooBig, accept
from receiptd.facts import EventKind, Level, Source, Trust
from receiptd.models import Evidence, Message, Recipient
from tests.stage import START, Stage, dsn, staged, watching


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


async def _take(stage: Stage, draft: dict[str, Any] | None = None, **options: Any) -> AcceptedMessage:
    words: dict[str, Any] = {"from_": "office@a.test", "to": ("bob@b.test",), "text": "x"} | (draft or {})
    return await accept(stage.store, compose.compose(compose.Draft(**words), now=stage.instant), _options(**options))


def _options(**options: Any) -> SubmitOptions:
    return SubmitOptions(**({"owner": "uid:1000"} | options))


async def _stored(stage: Stage) -> list[int]:
    """Return how many messages, recipients and pieces of evidence there are."""
    async with stage.store.read() as session:
        return [
            (await session.exec(select(func.count()).select_from(kind))).one()
            for kind in (Message, Recipient, Evidence)
        ]


# --- terms --------------------------------------------------------------------------------------------------------


async def test_a_recipient_is_queued_for_now_with_its_own_token_and_the_policys_terms(stage: Stage) -> None:
    taken = await _take(stage, {"to": ("bob@b.test", "carol@c.test")})
    bob, carol = taken.recipients
    assert bob.token != carol.token
    assert (bob.require, bob.within, bob.minimum_trust) == (Level.RELAYED, 4 * 3600, Trust.KEYED)
    assert bob.next_attempt_at == START
    assert bob.submit_by == bob.judge_at == START + timedelta(hours=1)
    assert bob.give_up_at == START + timedelta(days=5)
    assert bob.deadline_at is bob.submitted_at is None, "the clock starts at the first final dot"
    assert [event.kind for event in (await stage.whole(taken)).events] == [EventKind.QUEUED] * 2


POLICY = {
    "default": {
        "require": "delivered", "within": "4h", "domain": [{"name": "b.test", "require": "accepted", "within": "5d"}]
    },
    "strict": {"require": "displayed", "within": "1d", "minimum_trust": "plausible", "onward": True},
}  # fmt: skip


async def test_the_message_overrides_its_domain_and_the_domain_the_policy(tmp_path: Path) -> None:
    async with staged(tmp_path, policy=POLICY) as stage:
        bob, carol = (await _take(stage, {"to": ("bob@B.test", "carol@c.test")})).recipients
        assert (bob.require, bob.within) == (Level.ACCEPTED, 5 * 86400)
        assert (carol.require, carol.within) == (Level.DELIVERED, 4 * 3600)
        (bob,) = (await _take(stage, require=Level.DISPLAYED, within=timedelta(minutes=5))).recipients
        assert (bob.require, bob.within) == (Level.DISPLAYED, 300)
        (bob,) = (await _take(stage, policy="strict")).recipients
        assert (bob.require, bob.minimum_trust, bob.onward) == (Level.DISPLAYED, Trust.PLAUSIBLE, True)


async def test_cc_and_bcc_keep_what_their_policy_requires_unless_all_must_meet_the_same(stage: Stage) -> None:
    everyone = {"to": ("bob@b.test",), "cc": ("carol@c.test",), "bcc": ("dave@d.test",)}
    rows = (await _take(stage, everyone, require=Level.DISPLAYED)).recipients
    assert [(row.role, row.require) for row in rows] == [("to", "displayed"), ("cc", "relayed"), ("bcc", "relayed")]
    rows = (await _take(stage, everyone, require=Level.DISPLAYED, require_all=True)).recipients
    assert {row.require for row in rows} == {"displayed"}
    rows = (await _take(stage, everyone, require=Level.ACCEPTED)).recipients
    assert {row.require for row in rows} == {"accepted"}


async def test_without_sub_addresses_plausible_is_enough(tmp_path: Path) -> None:
    async with staged(tmp_path, receipts={"address": "receipts@a.test", "subaddress": ""}) as stage:
        assert (await _take(stage)).recipients[0].minimum_trust is Trust.PLAUSIBLE


async def test_the_same_address_twice_is_one_recipient_in_its_strongest_role(stage: Stage) -> None:
    rows = (
        await _take(stage, {"to": ("bob@B.TEST",), "cc": ("bob@b.test", "Bob@b.test"), "bcc": ("bob@b.test",)})
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
    async with staged(tmp_path, receipts={"address": "receipts@a.test"} | receipts) as stage:
        assert (await _take(stage, **options)).recipients[0].mdn_requested is asked


async def test_no_receipt_is_asked_for_a_report_and_the_sender_is_told(stage: Stage) -> None:
    raw = b"From: a@a.test\nTo: bob@b.test\nAuto-Submitted: auto-replied (vacation)\n\nx\n"
    taken = await accept(stage.store, compose.adopt(raw, now=START), _options(mdn=True))
    (row,) = taken.recipients
    assert (row.require, row.mdn_requested) == (Level.ACCEPTED, False)
    assert "no receipt is asked" in taken.message.warnings[0]


async def test_what_a_program_generates_is_tracked_like_any_other(stage: Stage) -> None:
    raw = b"From: erp@a.test\nTo: bob@b.test\nAuto-Submitted: auto-generated\n\nx\n"
    taken = await accept(stage.store, compose.adopt(raw, now=START), _options())
    assert taken.recipients[0].require is Level.RELAYED
    assert taken.message.warnings == []


# --- warnings -----------------------------------------------------------------------------------------------------


async def _ended(stage: Stage, number: int, *, met: bool, domain: str = "b.test", **options: Any) -> None:
    """Let so many requests at *domain* end, one after the other: of the same instant none is the last."""
    for _ in range(number):
        stage.pass_time(seconds=1)
        taken = await stage.submitted(f"someone@{domain}", **options)
        await stage.tell(taken.recipients[0].id, EventKind.CONFIRMED if met else EventKind.FAILED)


async def test_a_level_that_a_domain_has_never_met_in_ten_requests_earns_a_warning(stage: Stage) -> None:
    await _ended(stage, 9, met=False)
    assert (await _take(stage)).message.warnings == []
    await _ended(stage, 1, met=False)
    assert (await _take(stage)).message.warnings == ["b.test has met relayed in none of the last 10 requests"]
    assert (await _take(stage, {"to": ("carol@c.test",)})).message.warnings == []
    await _ended(stage, 1, met=True)
    assert (await _take(stage)).message.warnings == []


async def test_what_is_still_open_says_nothing_of_a_domain(stage: Stage) -> None:
    for _ in range(12):
        await stage.submitted("someone@b.test")
    assert (await _take(stage)).message.warnings == []


async def test_what_was_waived_or_cancelled_says_nothing_of_a_domain(stage: Stage) -> None:
    await _ended(stage, 9, met=False)
    for kind in (EventKind.WAIVED, EventKind.CANCELLED):
        taken = await stage.take("someone@b.test")
        await stage.tell(taken.recipients[0].id, kind, source=Source.PERSON)
    assert (await _take(stage)).message.warnings == []


async def test_a_level_that_was_proven_counts_though_more_was_required(stage: Stage) -> None:
    for _ in range(10):
        taken = await stage.submitted("someone@b.test", require=Level.DISPLAYED)
        await stage.tell(taken.recipients[0].id, EventKind.DELIVERED)
        await stage.tell(taken.recipients[0].id, EventKind.OVERDUE, source=Source.CLOCK)
    assert (await _take(stage, require=Level.DELIVERED)).message.warnings == []
    (warning,) = (await _take(stage, require=Level.DISPLAYED)).message.warnings
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
    async with staged(tmp_path, mailbox=watching(tmp_path, "office@a.test")) as stage:
        warnings = (await _take(stage, **options)).message.warnings
        assert warnings == [UNASKED.format("bob@b.test")] * warned


UNASKED = "displayed is required but no read receipt asked for: {} can meet it by an answer alone"


async def test_the_warning_names_those_whom_mdn_never_spares_and_no_other(tmp_path: Path) -> None:
    receipts = {"address": "receipts@a.test", "mdn_never": ["@b.test"]}
    async with staged(tmp_path, receipts=receipts, mailbox=watching(tmp_path, "office@a.test")) as stage:
        everyone = {"to": ("carol@c.test", "bob@b.test"), "cc": ("eve@b.test",)}
        taken = await _take(stage, everyone, require=Level.DISPLAYED)
        assert [row.mdn_requested for row in taken.recipients] == [True, False, False]
        assert taken.message.warnings == [UNASKED.format("bob@b.test")]
        many = {"to": tuple(f"u{n}@b.test" for n in range(9))}
        (warning,) = (await _take(stage, many, require=Level.DISPLAYED)).message.warnings
        assert warning == UNASKED.format("u0@b.test, u1@b.test, u2@b.test and 6 more")


async def test_a_higher_level_that_was_met_speaks_for_a_lower_one(stage: Stage) -> None:
    await _ended(stage, 9, met=False)
    await _ended(stage, 1, met=True, require=Level.DISPLAYED)
    assert (await _take(stage)).message.warnings == []


# --- refusals -----------------------------------------------------------------------------------------------------


async def _refused(
    stage: Stage, kind: type[errors.ReceiptdError], draft: dict[str, Any] | None = None, **options: Any
) -> str:
    with pytest.raises(kind) as refusal:
        await _take(stage, draft, **options)
    assert refusal.value.exit_status == 65
    assert await _stored(stage) == [0, 0, 0]
    return str(refusal.value)


async def test_what_cannot_be_sent_or_judged_is_refused_before_anything_is_stored(stage: Stage) -> None:
    many = tuple(f"u{n}@b.test" for n in range(1001))
    assert "1001 recipients" in await _refused(stage, errors.BadData, {"to": many})
    assert "default" in await _refused(stage, errors.BadData, policy="defualt")
    sentence = await _refused(stage, errors.BadData, require=Level.REPLIED)
    assert 'role = "replies"' in sentence
    assert "office@a.test" in sentence


async def test_a_message_beyond_the_bound_is_refused_with_the_bound(tmp_path: Path) -> None:
    service = {"database": f"sqlite:///{tmp_path}/receiptd.db", "max_message": "1M"}
    async with staged(tmp_path, service=service) as stage:
        assert "larger than 1M" in await _refused(stage, TooBig, {"text": "x\n" * (1 << 20)})


async def test_a_reply_may_be_required_where_a_watched_mailbox_gets_the_answers(tmp_path: Path) -> None:
    boxes = watching(tmp_path, "office@a.test")
    policy = {"chat": {"require": "replied"}, "some": {"domain": [{"name": "b.test", "require": "replied"}]}}
    async with staged(tmp_path, mailbox=boxes, policy=policy) as stage:
        assert (await _take(stage, require=Level.REPLIED)).recipients[0].require is Level.REPLIED
        assert (await _take(stage, policy="chat")).recipients[0].require is Level.REPLIED
        elsewhere = {"from_": "sales@a.test"}
        for options in ({"require": Level.REPLIED}, {"policy": "chat"}, {"policy": "some"}):
            with pytest.raises(errors.BadData, match=r"sales@a\.test"):
                await _take(stage, elsewhere, **options)
        await _take(stage, elsewhere | {"headers": (("Reply-To", "office@A.TEST"),)}, require=Level.REPLIED)
        await _take(stage, elsewhere, policy="chat", require=Level.RELAYED)


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
    async with staged(tmp_path, policy=CHATTY) as stage:
        rows = (await _take(stage, draft, **options)).recipients
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
    async with staged(tmp_path, policy=CHATTY) as stage:
        sentence = await _refused(stage, errors.BadData, draft, **options)
        assert "office@a.test" in sentence


async def test_displayed_cannot_be_required_where_no_reader_is_asked_and_no_answer_is_seen(stage: Stage) -> None:
    sentence = await _refused(stage, errors.BadData, require=Level.DISPLAYED, mdn=False)
    assert "bob@b.test" in sentence
    assert "no read receipt" in sentence
    assert 'role = "replies"' in sentence
    assert "office@a.test" in sentence
    many = {"to": tuple(f"u{n}@b.test" for n in range(9)), "headers": (("List-Id", "<l.a.test>"),)}
    assert "u2@b.test and 6 more" in await _refused(stage, errors.BadData, many, require=Level.DISPLAYED)


async def test_one_reader_whom_mdn_never_spares_refuses_a_message_that_everyone_must_display(tmp_path: Path) -> None:
    receipts = {"address": "receipts@a.test", "mdn_never": ["@b.test"]}
    async with staged(tmp_path, receipts=receipts) as stage:
        both = {"to": ("carol@c.test", "bob@b.test")}
        sentence = await _refused(stage, errors.BadData, both, require=Level.DISPLAYED)
        assert "bob@b.test" in sentence
        assert "carol@c.test" not in sentence
        await _take(stage, {"to": ("carol@c.test",), "cc": ("bob@b.test",)}, require=Level.DISPLAYED)


async def test_an_automatic_answer_is_taken_though_the_policy_wants_a_reply(tmp_path: Path) -> None:
    async with staged(tmp_path, policy=CHATTY) as stage:
        raw = b"From: a@a.test\nTo: bob@b.test\nAuto-Submitted: auto-replied\n\nx\n"
        taken = await accept(stage.store, compose.adopt(raw, now=START), _options(policy="chat"))
        assert taken.recipients[0].require is Level.ACCEPTED


# --- the same key twice -------------------------------------------------------------------------------------------


async def test_the_same_key_and_request_is_the_message_that_was_taken(stage: Stage) -> None:
    first = await _take(stage, idempotency_key="k", fingerprint="f")
    second = await _take(stage, idempotency_key="k", fingerprint="f")
    assert (first.is_new, second.is_new) == (True, False)
    assert second.message.id == first.message.id
    assert [row.id for row in second.recipients] == [row.id for row in first.recipients]
    with pytest.raises(KeyReused, match=first.message.id):
        await _take(stage, idempotency_key="k", fingerprint="g")
    assert (await _take(stage, idempotency_key="k", fingerprint="g", owner="uid:2")).is_new
    assert (await _stored(stage))[0] == 2


async def test_of_many_at_the_same_moment_one_is_new(stage: Stage) -> None:
    taken = await asyncio.gather(*(_take(stage, idempotency_key="k", fingerprint="f") for _ in range(20)))
    assert sum(one.is_new for one in taken) == 1
    assert (await _stored(stage))[:2] == [1, 1]


async def test_without_a_key_each_request_is_a_message(stage: Stage) -> None:
    assert len({(await _take(stage, fingerprint="f")).message.id for _ in range(3)}) == 3


async def test_a_key_is_free_after_seven_days_and_the_old_message_stays(stage: Stage) -> None:
    first = await _take(stage, idempotency_key="k", fingerprint="f")
    stage.pass_time(days=7)
    assert not (await _take(stage, idempotency_key="k", fingerprint="f")).is_new
    stage.pass_time(seconds=1)
    assert (await _take(stage, idempotency_key="k", fingerprint="g")).is_new
    assert not (await _take(stage, idempotency_key="k", fingerprint="g")).is_new
    assert (await stage.whole(first)).message.idempotency_key is None


async def test_a_report_may_be_asked_of_what_was_just_taken(stage: Stage) -> None:
    """A report can be settled before our own `accepted` is: it proves acceptance."""
    taken = await _take(stage)
    await stage.receive(dsn(taken.recipients[0].token))
    row = await stage.recipient(taken)
    assert (row.receipt, row.next_attempt_at) == ("met", None)
    assert row.deadline_at == START + timedelta(hours=4)
