"""Reports are settled in sets: what comes out is what one by one gives, at a cost that doesn't grow with the set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from receiptd import match
from receiptd.facts import Action, FoundToken, MatchedBy, Report, ReportedRecipient, ReportKind, Verdict
from receiptd.mail import address
from receiptd.models import EventRow, Recipient, ReportRow
from receiptd.settle import settle
from receiptd.store import folders, settlement
from tests.statements import Statements
from tests.steps_fixture import START, StepsFixture, dsn, keep, open_steps


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def _keep(steps: StepsFixture, *raws: bytes, first: int = 1) -> None:
    """Store raw reports as a read of the mailbox does; settle none."""
    batch = [folders.Raw(number, steps.instant, len(raw), raw) for number, raw in enumerate(raws, first)]
    await keep(steps.store, "receipts", "INBOX", 1, batch, upto=first + len(raws), now=steps.instant)


async def _settled(steps: StepsFixture) -> list[int]:
    """Return the UIDs of what is settled."""
    async with steps.store.read() as session:
        query = select(ReportRow.uid).where(col(ReportRow.due_at).is_(None)).order_by(col(ReportRow.uid))
        return list((await session.exec(query)).all())


def _reply(message_id: str, from_: str) -> bytes:
    return (
        f"From: {from_}\nTo: office@a.test\nMessage-ID: <{from_}>\nIn-Reply-To: {message_id}\nSubject: Re: x\n\nYes.\n"
    ).encode()


# --- the cost -----------------------------------------------------------------------------------------------------


async def _statements(steps: StepsFixture, number: int) -> list[int]:
    """Settle reports about *number* messages at once: half say success, half failure; return statements a commit."""
    taken = [await steps.submitted() for _ in range(number)]
    bad = {"action": "failed", "status": "5.1.1"}
    said = [dsn(one.recipients[0].token, **(bad if at % 2 else {})) for at, one in enumerate(taken)]
    await _keep(steps, *said, first=1 + 1000 * number)
    with Statements(steps.store) as counted:
        assert await settle(steps.store) == number
    return counted.per_commit()


async def test_the_number_of_statements_does_not_depend_on_the_number_of_reports(steps: StepsFixture) -> None:
    few, many = await _statements(steps, 2), await _statements(steps, 50)
    assert few == many


async def test_a_report_about_its_own_recipient_loads_none_of_the_others(steps: StepsFixture) -> None:
    taken = await steps.submitted(*(f"user{number}@b.test" for number in range(30)))
    row = taken.recipients[0]
    await _keep(steps, dsn(row.token, recipient=row.address))
    with Statements(steps.store) as counted:
        await settle(steps.store)
    assert not [one for said in counted.said for one in said if "recipient.message IN" in one]


# --- the order ----------------------------------------------------------------------------------------------------


async def test_of_a_backlog_half_of_a_set_is_the_newest(steps: StepsFixture) -> None:
    await _keep(steps, *(f"Subject: {number}\n\nx\n".encode() for number in range(1, 21)))
    steps.pass_time(seconds=1)
    await _keep(steps, b"Subject: 21\n\nx\n", first=21)
    assert await settle(steps.store, limit=6) == 6
    settled = await _settled(steps)
    assert 21 in settled, "what was fetched last doesn't wait for all before it"
    while await settle(steps.store, limit=6):
        pass
    assert await _settled(steps) == list(range(1, 22))


async def test_an_answer_is_matched_by_the_branch_that_a_report_of_the_same_set_names(tmp_path: Path) -> None:
    """The reply comes from the member of a list behind one of two recipients; one by one gives the same rows."""
    outcomes = []
    for limit in (50, 1):
        folder = tmp_path / str(limit)
        folder.mkdir()
        async with open_steps(folder) as steps:
            taken = await steps.submitted("list@b.test", "carol@c.test")
            behind = dsn(taken.recipients[0].token, recipient="member@b.test")
            await _keep(steps, behind, _reply(taken.message.message_id, "member@b.test"))
            while await settle(steps.store, limit=limit):
                pass
            async with steps.store.read() as session:
                query = select(EventRow.kind, EventRow.trust, Recipient.address).join(
                    Recipient, col(Recipient.id) == col(EventRow.recipient)
                )
                outcomes.append(sorted((await session.exec(query)).all()))
    assert outcomes[0] == outcomes[1]
    assert ("replied", "list@b.test") in {(kind, address) for kind, _, address in outcomes[0]}


# --- kills --------------------------------------------------------------------------------------------------------


async def test_kills_in_a_set_set_no_innocent_report_aside(steps: StepsFixture) -> None:
    """The process dies in the set, and twice more while each report is read alone."""
    taken = [await steps.submitted() for _ in range(4)]
    await _keep(steps, *(dsn(one.recipients[0].token) for one in taken))
    assert len(await settlement.begin_reading(steps.store, 50)) == 4
    for _ in range(2 * 4):
        steps.pass_time(minutes=3)
        assert len(await settlement.begin_reading(steps.store, 50)) == 1
    for _ in range(4):
        steps.pass_time(minutes=3)
        while await settle(steps.store):
            pass
    async with steps.store.read() as session:
        rows = (await session.exec(select(ReportRow))).all()
    assert {row.verdict for row in rows} == {Verdict.MATCHED}, [row.tries for row in rows]
    assert await steps.alerts() == []


# --- the candidates -----------------------------------------------------------------------------------------------

_ADDRESSES = ("bob@bücher.test", "BOB@bücher.test", "bob@xn--bcher-kva.test", "carol@c.test")
_IDS = ("<one@a.test>", "<two@a.test>", "<renamed@relay.test>")


@st.composite
def _messages(draw: st.DrawFn) -> list[match.Candidate]:
    """Two messages, whose recipients may differ in the case of a letter alone."""
    unlike = st.lists(st.sampled_from(_ADDRESSES), min_size=1, max_size=3, unique_by=address.key)
    return [_candidate(draw, message, number, to) for message in (0, 1) for number, to in enumerate(draw(unlike))]


def _candidate(draw: st.DrawFn, message: int, number: int, to: str) -> match.Candidate:
    return match.Candidate(
        recipient_id=f"recipient{message}{number}",
        message_id=f"message{message}",
        rfc_message_id=draw(st.sampled_from(_IDS[:2])),
        token="abcdef"[3 * message + number] * 24,
        address=to,
        from_address="office@a.test",
        alias_message_ids=tuple(draw(st.lists(st.sampled_from(_IDS), max_size=1))),
        envelope_id=draw(st.sampled_from((None, "ghijkl"[3 * message + number] * 24))),
        branches=tuple(draw(st.lists(st.sampled_from(_ADDRESSES), max_size=1))),
        handed_over_at=START,
    )


@st.composite
def _reports(draw: st.DrawFn, everyone: list[match.Candidate]) -> Report:
    owner = draw(st.sampled_from(everyone))
    words = (owner.token, owner.token, owner.envelope_id or owner.token, draw(st.sampled_from(everyone)).token)
    place = st.sampled_from((MatchedBy.RETURN_PATH, MatchedBy.ENVELOPE_ID))
    found = st.builds(FoundToken, st.sampled_from(words), place)
    text = st.sampled_from((None, owner.address, *_ADDRESSES))
    action = st.sampled_from((Action.DELIVERED, Action.FAILED, Action.DISPLAYED))
    block = st.builds(ReportedRecipient, final_recipient=text, original_recipient=text, action=action)
    stated = st.sampled_from((None, None, owner.rfc_message_id, *_IDS, "<strange@x.test>"))
    kinds = (ReportKind.DSN, ReportKind.BOUNCE, ReportKind.MDN, ReportKind.REPLY)
    return replace(
        Report(kind=draw(st.sampled_from(kinds))),
        found_tokens=tuple(draw(st.lists(found, min_size=1, max_size=2))),
        recipients=tuple(draw(st.lists(block, max_size=2))),
        original_message_id=draw(stated),
        from_address=draw(text),
        returned_from=draw(st.sampled_from((None, "office@a.test", "x@y.test"))),
        return_path=draw(st.sampled_from(("", "x@y.test"))),
    )


@settings(max_examples=1000)
@given(st.data())
def test_whoever_the_keys_name_is_enough_where_the_match_says_so(data: st.DataObject) -> None:
    everyone = data.draw(_messages())
    report = data.draw(_reports(everyone))
    words = {found.token for found in report.found_tokens}
    own = [one for one in everyone if one.token in words or one.envelope_id in words]
    if not match.needs_no_others(report, own):
        return
    paths = {"receipts_address": "receipts@a.test", "subaddress": "+"}
    full, reduced = (match.match(report, found, **paths) for found in (everyone, own))
    assert reduced == full
    assert match.reason(report, own, reduced.verdict) == match.reason(report, everyone, full.verdict)
    assert full.verdict is not Verdict.UNMATCHED
