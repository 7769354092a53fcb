"""A person says whose a report is: what it tells counts like a keyed one's, once, and only where it can be true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from receiptd import errors
from receiptd.accept import AcceptedMessage
from receiptd.assign import assign
from receiptd.decide import NoSuchThing, Pointless
from receiptd.facts import Delivery, Disposition, Event, EventKind, Level, Receipt, Source, Trust, Verdict
from receiptd.models import EventCopy, Recipient, ReportRow
from receiptd.standing import RecipientRecord
from receiptd.store import folders
from tests.steps_fixture import START, StepsFixture, dsn, keep, open_steps

STRANGE = "z" * 24


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def _came(steps: StepsFixture, raw: bytes) -> ReportRow:
    """Let *raw* be settled; return its row."""
    await steps.receive(raw)
    async with steps.store.read() as session:
        rows = (await session.exec(select(ReportRow).order_by(col(ReportRow.uid)))).all()
    return rows[-1]


async def _row(steps: StepsFixture, report: ReportRow) -> ReportRow:
    async with steps.store.read() as session:
        return await session.get_one(ReportRow, report.id)


async def _assign(
    steps: StepsFixture, report: ReportRow, recipient: Recipient | RecipientRecord, reason: str = "the order number"
) -> RecipientRecord:
    return await assign(steps.store, report.id, recipient.id, by="uid:0", reason=reason)


async def _told(steps: StepsFixture, taken: AcceptedMessage) -> list[Event]:
    """Return what reports told."""
    ours = (Source.SMTP, Source.PERSON, Source.CLOCK)
    return [event for event in (await steps.whole(taken)).events if event.source not in ours]


def _mdn(final: str = "bob@b.test", *, disposition: str = "displayed") -> bytes:
    return (
        f"From: {final}\nTo: office@a.test\nSubject: Read: An invoice\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="="\n\n'
        "--=\n\nSeen.\n--=\nContent-Type: message/disposition-notification\n\n"
        f"Final-Recipient: rfc822; {final}\nDisposition: manual-action/MDN-sent-manually; {disposition}\n\n--=--\n"
    ).encode()


# --- what it does -------------------------------------------------------------------------------------------------


async def test_what_a_report_says_is_settled_on_a_persons_word_and_counts_like_a_keyed_one(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    bob, carol = taken.recipients
    report = await _came(steps, dsn(STRANGE, action="failed", status="5.1.1"))
    assert report.verdict is Verdict.UNMATCHED
    row = await _assign(steps, report, bob)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.FAILED, Receipt.FAILED, Trust.KEYED)
    (event,) = await _told(steps, taken)
    assert (event.kind, event.source, event.matched_by, event.trust) == ("failed", "dsn", "person", "keyed")
    assert (event.detail["by"], event.detail["reason"]) == ("uid:0", "the order number")
    assert event.evidence == f"sha256:{report.evidence}"
    assert (await steps.whole(taken)).recipients[1].delivery is Delivery.ACCEPTED, carol.address
    (alert,) = await steps.alerts()
    assert (alert.type, alert.data["unproven"], alert.data["evidence"]) == ("receipt.failed", False, event.evidence)


async def test_the_report_is_matched_then_and_says_who_said_so_and_why(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted()).recipients
    report = await _came(steps, dsn(STRANGE))
    await _assign(steps, report, bob, reason=f"see receipts+{bob.token}@a.test")
    row = await _row(steps, report)
    assert row.verdict is Verdict.MATCHED
    assert (row.reason or "").startswith("assigned to bob@b.test by uid:0: see ")
    assert bob.token not in (row.reason or "")


async def test_it_is_in_time_if_our_server_had_it_in_time_however_late_the_person_is(steps: StepsFixture) -> None:
    taken = await steps.submitted()
    steps.pass_time(hours=1)
    report = await _came(steps, dsn(STRANGE))
    steps.pass_time(hours=5)
    await steps.judge()
    assert (await steps.recipient(taken)).receipt is Receipt.OVERDUE
    row = await _assign(steps, report, taken.recipients[0])
    assert (row.receipt, row.level, row.incident_opened_at) == (Receipt.MET, Level.DELIVERED, None)


async def test_a_suspicious_report_that_a_person_vouches_for_is_proven_and_still_one(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    bob, carol = taken.recipients
    raw = dsn(bob.token, action="failed", status="5.1.1", envelope_id=carol.token)
    report = await _came(steps, raw)
    assert report.verdict is Verdict.SUSPICIOUS
    row = await _assign(steps, report, bob)
    assert (row.delivery, row.trust) == (Delivery.FAILED, Trust.KEYED)
    (event,) = [event for event in await _told(steps, taken) if event.recipient == bob.id]
    assert (event.trust, event.matched_by, event.count) == (Trust.KEYED, "person", 1)
    async with steps.store.read() as session:
        (copy,) = (await session.exec(select(EventCopy).where(EventCopy.event == event.id))).all()
    assert copy.trust is Trust.KEYED
    told = [(alert.type, alert.data["unproven"], alert.data["evidence"]) for alert in await steps.alerts()]
    assert told == [("receipt.failed", True, event.evidence), ("receipt.failed", False, event.evidence)]


async def test_the_same_fact_in_a_matched_report_and_in_an_assigned_one_is_one_event_of_two_copies(
    steps: StepsFixture,
) -> None:
    taken = await steps.submitted()
    (bob,) = taken.recipients
    await steps.receive(dsn(bob.token))
    await _assign(steps, await _came(steps, dsn(STRANGE)), bob)
    (event,) = await _told(steps, taken)
    assert (event.count, event.matched_by) == (2, "return_path")


async def test_a_persons_word_is_kept_however_many_reports_there_are(
    steps: StepsFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiptd.recipients.move.MOST_EVENTS", 3)
    (bob,) = (await steps.submitted()).recipients
    for status in ("5.1.0", "5.1.1", "5.1.2"):
        await steps.receive(dsn(bob.token, action="failed", status=status))
    raw = dsn(STRANGE, action="failed", status="5.2.2").replace(
        b"Final-Recipient: rfc822; bob@", b"Final-Recipient: rfc822; ann@"
    )
    row = await _assign(steps, await _came(steps, raw), bob)
    assert "ann@b.test" in [branch["final_recipient"] for branch in row.branches]


async def test_a_matched_report_is_cleared_from_the_mailbox_whoever_matched_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    box = {"url": "imaps://receipts%40a.test@127.0.0.1", "password_file": str(tmp_path / "password"), "after": "seen"}
    async with open_steps(tmp_path, mailbox=[box]) as steps:
        (bob,) = (await steps.submitted()).recipients
        report = await _came(steps, dsn(STRANGE))
        assert not report.clear
        await _assign(steps, report, bob)
        assert (await _row(steps, report)).clear


# --- what a person can't make of a report -------------------------------------------------------------------------


async def test_a_read_receipt_from_an_address_we_did_not_send_to_proves_no_more_than_a_keyed_one(
    steps: StepsFixture,
) -> None:
    (bob,) = (await steps.submitted(require=Level.DISPLAYED)).recipients
    raw = _mdn("stranger@d.test").replace(
        b"Final-Recipient", b"Original-Recipient: rfc822; bob@b.test\nFinal-Recipient"
    )
    row = await _assign(steps, await _came(steps, raw), bob)
    assert (row.delivery, row.disposition, row.receipt) == (Delivery.DELIVERED, Disposition.DISPATCHED, Receipt.OPEN)


async def test_the_readers_own_receipt_proves_that_it_was_displayed(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted(require=Level.DISPLAYED)).recipients
    row = await _assign(steps, await _came(steps, _mdn()), bob)
    assert (row.disposition, row.receipt, row.trust) == (Disposition.DISPLAYED, Receipt.MET, Trust.KEYED)


async def test_only_the_blocks_that_name_the_recipient_are_about_it(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    more = "".join(
        f"\nFinal-Recipient: rfc822; {address}\nAction: failed\nStatus: 5.1.1\n"
        for address in ("carol@c.test", "stranger@d.test")
    )
    raw = dsn(STRANGE).replace(b"Diagnostic-Code: smtp; 250 ok\n", more.encode())
    await _assign(steps, await _came(steps, raw), taken.recipients[0])
    bob, carol = (await steps.whole(taken)).recipients
    assert (bob.delivery, [branch["final_recipient"] for branch in bob.branches]) == ("delivered", ["bob@b.test"])
    assert carol.delivery is Delivery.ACCEPTED


async def test_a_report_that_names_only_a_branch_known_behind_the_address_tells_of_it(steps: StepsFixture) -> None:
    (team,) = (await steps.submitted("team@b.test")).recipients
    await steps.receive(dsn(team.token, action="relayed", status="2.0.0", recipient="ann@b.test"))
    more = b"\nFinal-Recipient: rfc822; zoe@z.test\nAction: failed\nStatus: 5.1.1\n"
    raw = dsn(STRANGE, action="failed", status="5.2.2", recipient="ann@B.test")
    row = await _assign(steps, await _came(steps, raw.replace(b"Status: 5.2.2\n", b"Status: 5.2.2\n" + more)), team)
    assert [(one["final_recipient"], one["delivery"]) for one in row.branches] == [("ann@b.test", "failed")]


async def test_the_case_of_the_domain_and_a_name_that_is_missing_stand_in_nobodys_way(steps: StepsFixture) -> None:
    bob, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    shouted = await _came(steps, dsn(STRANGE, action="failed", status="5.1.1", recipient="bob@B.TEST"))
    assert (await _assign(steps, shouted, bob)).delivery is Delivery.FAILED
    nameless = dsn(STRANGE, action="failed", status="5.1.1").replace(b"bob@b.test", b"")
    assert (await _assign(steps, await _came(steps, nameless), carol)).delivery is Delivery.FAILED


@pytest.mark.parametrize(("to", "kind"), [(f"receipts+{STRANGE}@a.test", "auto_replied"), ("office@a.test", "replied")])
async def test_an_answer_to_a_return_path_is_an_automatons_whoever_assigns_it(
    steps: StepsFixture, to: str, kind: str
) -> None:
    taken = await steps.submitted()
    raw = f"From: bob@b.test\nTo: {to}\nSubject: Re: An invoice\nIn-Reply-To: <old@a.test>\n\nThanks!\n"
    await _assign(steps, await _came(steps, raw.encode()), taken.recipients[0])
    assert [(event.kind, event.source, event.matched_by) for event in await _told(steps, taken)] == [
        (kind, "reply", "person")
    ]


# --- refusals -----------------------------------------------------------------------------------------------------


async def test_a_report_is_assigned_once_and_the_second_time_says_to_whom(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    bob, carol = taken.recipients
    report = await _came(steps, dsn(STRANGE, action="failed", status="5.1.1"))
    await _assign(steps, report, bob)
    before = (await steps.whole(taken)).events
    for row in (bob, carol):
        with pytest.raises(Pointless, match=r"matched already \(assigned to bob@b\.test by uid:0: the order number\)"):
            await _assign(steps, report, row)
    assert (await steps.whole(taken)).events == before
    assert len(await steps.alerts()) == 1


async def test_of_two_who_assign_it_at_once_one_does(steps: StepsFixture) -> None:
    bob, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    report = await _came(steps, dsn(STRANGE).replace(b"bob@b.test", b""))
    ends = await asyncio.gather(*(_assign(steps, report, row) for row in (bob, carol)), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["Pointless", "RecipientRecord"]


async def test_a_report_that_found_its_recipient_by_itself_is_not_for_anybody_to_assign(steps: StepsFixture) -> None:
    bob, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    where = rf"matched already \(to bob@b\.test in message {bob.message}\): there is nothing"
    with pytest.raises(Pointless, match=where):
        await _assign(steps, await _came(steps, dsn(bob.token)), carol)


@pytest.mark.parametrize("ours", [True, False])
async def test_what_is_no_report_tells_nothing_and_confirm_is_the_persons_word(steps: StepsFixture, ours: bool) -> None:
    taken = await steps.submitted()
    name = taken.message.message_id if ours else "<offer@d.test>"
    raw = f"From: {'office@a.test' if ours else 'x@d.test'}\nMessage-ID: {name}\nSubject: Offer\n\nBuy.\n"
    with pytest.raises(Pointless, match="`receiptd confirm RECIPIENT`"):
        await _assign(steps, await _came(steps, raw.encode()), taken.recipients[0])


async def test_what_could_not_be_read_or_is_not_settled_yet_tells_nothing(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted()).recipients
    with pytest.raises(Pointless, match="can't be read"):
        await _assign(steps, await _came(steps, b""), bob)
    raw = dsn(STRANGE)
    batch = [folders.Raw(9, steps.instant, len(raw), raw)]
    await keep(steps.store, "receipts", "INBOX", 1, batch, upto=9, now=steps.instant)
    async with steps.store.read() as session:
        unsettled = (await session.exec(select(ReportRow).where(ReportRow.uid == 9))).one()
    with pytest.raises(Pointless, match="not settled yet"):
        await _assign(steps, unsettled, bob)


async def test_a_report_about_another_recipient_of_the_message_is_not_this_ones(steps: StepsFixture) -> None:
    _, carol = (await steps.submitted("bob@b.test", "carol@c.test")).recipients
    report = await _came(steps, dsn(STRANGE, action="failed", status="5.1.1"))
    with pytest.raises(Pointless, match=r"says nothing of carol@c\.test"):
        await _assign(steps, report, carol)
    assert (await _row(steps, report)).verdict is Verdict.UNMATCHED


@pytest.mark.parametrize(
    "raw",
    [
        dsn(STRANGE, action="failed", status="5.1.1", recipient="karl@k.test"),
        _mdn("karl@k.test", disposition="deleted"),
        b"From: postmaster@k.test\nTo: office@a.test\nSubject: complaint\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/report; report-type=feedback-report; boundary="="\n\n'
        b"--=\n\nSpam.\n--=\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\n"
        b"Version: 1\nOriginal-Rcpt-To: karl@k.test\n\n--=--\n",
    ],
    ids=["dsn", "mdn", "feedback"],
)
async def test_a_report_that_names_only_strangers_fails_nobody_by_a_wrong_id(steps: StepsFixture, raw: bytes) -> None:
    taken = await steps.submitted("dora@d.test")
    report = await _came(steps, raw)
    with pytest.raises(Pointless, match=r"says nothing of dora@d\.test: it names only karl@k\.test; .*confirm"):
        await _assign(steps, report, taken.recipients[0])
    assert (await steps.recipient(taken)).delivery is Delivery.ACCEPTED
    assert ((await _row(steps, report)).verdict, await steps.alerts()) == (Verdict.UNMATCHED, [])


async def test_what_is_not_sent_yet_has_no_report_and_is_sent(steps: StepsFixture) -> None:
    taken = await steps.take()
    report = await _came(steps, dsn(STRANGE))
    with pytest.raises(Pointless, match=r"was not sent to bob@b\.test"):
        await _assign(steps, report, taken.recipients[0])
    row = await steps.recipient(taken)
    assert (row.delivery, row.next_attempt_at) == (Delivery.QUEUED, START)


async def test_what_is_uncertain_is_proven_and_not_sent_again(steps: StepsFixture) -> None:
    taken = await steps.take()
    (bob,) = taken.recipients
    again_at = steps.instant + timedelta(minutes=15)
    await steps.tell(bob.id, EventKind.UNCERTAIN, source=Source.SMTP, next_attempt_at=again_at)
    row = await _assign(steps, await _came(steps, dsn(STRANGE, action="relayed")), bob)
    assert (row.delivery, row.receipt, row.next_attempt_at) == (Delivery.RELAYED, Receipt.MET, None)


async def test_a_report_that_was_here_before_the_message_speaks_of_another(steps: StepsFixture) -> None:
    report = await _came(steps, dsn(STRANGE))
    steps.pass_time(minutes=1)
    (bob,) = (await steps.submitted()).recipients
    with pytest.raises(Pointless, match="was here before the message"):
        await _assign(steps, report, bob)


async def test_it_wants_a_report_a_recipient_and_a_reason_that_are_there(steps: StepsFixture) -> None:
    (bob,) = (await steps.submitted()).recipients
    report = await _came(steps, dsn(STRANGE))
    asked: list[tuple[type[Exception], dict[str, Any]]] = [
        (NoSuchThing, {"report": "none", "recipient": bob.id, "reason": "x"}),
        (NoSuchThing, {"report": report.id, "recipient": "none", "reason": "x"}),
        (errors.BadData, {"report": report.id, "recipient": bob.id, "reason": " "}),
    ]
    for fault, words in asked:
        with pytest.raises(fault):
            await assign(steps.store, by="uid:0", **words)
