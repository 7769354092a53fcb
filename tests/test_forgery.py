"""Attacks: what a stranger, a recipient or chance may put into the mailbox, and what it must not move.

Each is a report that a real server wrote, rewritten, and goes the whole way: raw bytes, interpret, match, settle.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from receiptd import decide
from receiptd.accept import AcceptedMessage
from receiptd.facts import Delivery, Disposition, Event, EventKind, Level, Receipt, Source, Trust, Verdict
from receiptd.models import EventRow, Evidence, Recipient, ReportRow
from tests.recorded import about, recorded
from tests.steps_fixture import StepsFixture, open_steps

STRANGE = "z" * 24
DELIVERED = ("ret-full-success", "alice@box.test")
DISPLAYED = ("list-owner-postfix", "bob@b.test")
FAILED = ("failed-quota-dovecot", "quota@b.test")
REFUSED = ("sieve-reject--dovecot", "rejectme@b.test")

Claim = tuple[str, str]
"""A recorded report, and the recipient that it names."""

good = pytest.mark.parametrize("claim", [DELIVERED, DISPLAYED], ids=["delivered", "displayed"])
bad = pytest.mark.parametrize("claim", [FAILED, REFUSED], ids=["failed", "refused"])
any_claim = pytest.mark.parametrize(
    "claim", [DELIVERED, DISPLAYED, FAILED, REFUSED], ids=["delivered", "displayed", "failed", "refused"]
)


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def came(steps: StepsFixture, *raws: bytes, folder: str = "INBOX") -> Verdict | None:
    """Let *raws* come, their lines ended as IMAP ends them; return what became of the last one."""
    await steps.receive(*(raw.replace(b"\n", b"\r\n") for raw in raws), folder=folder)
    async with steps.store.read() as session:
        rows = (await session.exec(select(ReportRow).order_by(col(ReportRow.uid).desc()))).all()
    return rows[0].verdict


async def moved_nothing(steps: StepsFixture, raw: bytes, *messages: AcceptedMessage) -> Verdict | None:
    """Let *raw* come, which must leave every recipient of *messages* as it is; return what became of it."""
    before = [_standing(row) for taken in messages for row in (await steps.whole(taken)).recipients]
    verdict = await came(steps, raw)
    assert [_standing(row) for taken in messages for row in (await steps.whole(taken)).recipients] == before
    return verdict


def _standing(row: Recipient) -> tuple[object, ...]:
    return row.delivery, row.disposition, row.receipt, row.level, row.trust, row.branches, row.deadline_at


async def alarms(steps: StepsFixture) -> list[tuple[str, bool]]:
    """Return what people were told, and whether it was marked unproven."""
    return [(alert.type.removeprefix("receipt."), alert.data.get("unproven", False)) for alert in await steps.alerts()]


async def told(steps: StepsFixture, taken: AcceptedMessage) -> list[Event]:
    """Return what reports told of *taken*."""
    reports = (Source.DSN, Source.BOUNCE, Source.MDN, Source.REPLY, Source.FEEDBACK)
    return [event for event in (await steps.whole(taken)).events if event.source in reports]


def unproven(claim: Claim) -> list[tuple[str, bool]]:
    """Return the alarm that bad news raises without moving anything."""
    return {FAILED: [("failed", True)], REFUSED: [("refused", True)]}.get(claim, [])


@any_claim
async def test_the_true_report_moves_its_recipient(steps: StepsFixture, claim: Claim) -> None:
    """What follows is worth something only if these reports do move a state when they are true."""
    name, address = claim
    taken = await steps.submitted(address)
    assert await came(steps, about(name, taken)) is Verdict.MATCHED
    row = await steps.recipient(taken)
    assert row.trust is (Trust.KEYED if claim in (DISPLAYED, REFUSED) else Trust.SEALED), "MDNs give no ENVID back"
    assert row.receipt is (Receipt.MET if claim in (DELIVERED, DISPLAYED) else Receipt.FAILED)


# --- an unknown token ---------------------------------------------------------------------------------------------


@any_claim
async def test_a_perfect_report_with_a_token_that_was_never_given_out(steps: StepsFixture, claim: Claim) -> None:
    """Its author has seen the message, so knows its Message-ID; only the token is made up."""
    name, address = claim
    taken = await steps.submitted(address)
    assert await moved_nothing(steps, about(name, taken, token=STRANGE), taken) is Verdict.SUSPICIOUS
    assert await alarms(steps) == unproven(claim)


@any_claim
async def test_a_perfect_report_about_a_message_that_we_never_sent(steps: StepsFixture, claim: Claim) -> None:
    name, address = claim
    taken = await steps.submitted(address)
    raw = about(name, taken, token=STRANGE, message_id="<never@a.test>")
    assert await moved_nothing(steps, raw, taken) is Verdict.UNMATCHED
    assert await alarms(steps) == []


# --- a Message-ID without or with another's token -----------------------------------------------------------------


@any_claim
async def test_the_token_of_one_message_with_the_message_id_of_another(steps: StepsFixture, claim: Claim) -> None:
    name, address = claim
    one, other = await steps.submitted(address), await steps.submitted(address)
    raw = about(name, one, message_id=other.message.message_id)
    assert await moved_nothing(steps, raw, one, other) is Verdict.SUSPICIOUS
    assert await alarms(steps) == unproven(claim)


@good
async def test_good_news_that_knows_the_message_id_alone(steps: StepsFixture, claim: Claim) -> None:
    name, address = claim
    taken = await steps.submitted(address)
    assert await moved_nothing(steps, about(name, taken, token=""), taken) is Verdict.MATCHED
    assert [event.trust for event in await told(steps, taken)] == [Trust.PLAUSIBLE]


@bad
async def test_bad_news_that_knows_the_message_id_alone_contradicts_nothing_that_is_keyed(
    steps: StepsFixture, claim: Claim
) -> None:
    name, address = claim
    taken = await steps.submitted(address)
    await came(steps, about(DELIVERED[0], taken, address=address))
    assert await moved_nothing(steps, about(name, taken, token=""), taken) is Verdict.MATCHED
    assert await alarms(steps) == unproven(claim)


@bad
async def test_bad_news_that_knows_the_message_id_alone_is_told_at_once_and_gives_way_to_a_keyed_receipt(
    steps: StepsFixture, claim: Claim
) -> None:
    """Where nothing better is known it may be true, and servers that lose the token do write such reports."""
    name, address = claim
    taken = await steps.submitted(address)
    await came(steps, about(name, taken, token=""))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.FAILED, Receipt.FAILED, Trust.PLAUSIBLE)
    await came(steps, about(DELIVERED[0], taken, address=address))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.SEALED)


async def test_where_the_provider_allows_no_sub_address_the_message_id_satisfies_and_the_trust_says_so(
    tmp_path: Path,
) -> None:
    """Who has seen the message can forge its receipt there: that is what docs/receipts.md says of `plausible`."""
    async with open_steps(tmp_path, receipts={"address": "receipts@a.test", "subaddress": ""}) as steps:
        taken = await steps.submitted(DELIVERED[1])
        await came(steps, about(DELIVERED[0], taken, token=""))
        row = await steps.recipient(taken)
        assert (row.delivery, row.receipt, row.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.PLAUSIBLE)


# --- the token in a wrong place -----------------------------------------------------------------------------------


def letter(content: bytes, kind: str = "text/plain; charset=utf-8", *, top: str = "", subject: str = "Look") -> bytes:
    """Return a letter that somebody writes to our bare address."""
    return (
        f"Return-Path: <eve@d.test>\nDelivered-To: receipts@a.test\n"
        f"Received: from mx.d.test by mx.a.test with ESMTP id 1; Tue, 24 Nov 2026 09:40:00 +0000\n"
        f"{top}From: Eve <eve@d.test>\nTo: receipts@a.test\nSubject: {subject}\nMessage-ID: <1@d.test>\n"
        f"Date: Tue, 24 Nov 2026 09:40:00 +0000\nMIME-Version: 1.0\nContent-Type: {kind}\n\n"
    ).encode() + content


def quoted(raw: bytes) -> bytes:
    return letter(b"What does this mean?\n\n" + b"".join(b"> " + line + b"\n" for line in raw.splitlines()))


def pasted(raw: bytes) -> bytes:
    return letter(b"----- Forwarded message -----\n\n" + raw)


def forwarded(raw: bytes) -> bytes:
    return letter(
        b"--=0\n\nSee below.\n--=0\nContent-Type: message/rfc822\n\n" + raw + b"\n--=0--\n",
        'multipart/mixed; boundary="=0"',
    )


def attached(raw: bytes) -> bytes:
    part = b"--=0\n\nSee below.\n--=0\nContent-Type: application/octet-stream; name=bounce.eml\n"
    part += b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(raw) + b"\n--=0--\n"
    return letter(part, 'multipart/mixed; boundary="=0"')


def returned_in_a_bounce(raw: bytes) -> bytes:
    """A bounce of a bounce: what it returns is the true report, whole."""
    outer = recorded("ret-full--a--failed").replace(b"reports@a.test", b"receipts@a.test")
    head, _, rest = outer.partition(b"Content-Type: message/rfc822\n")
    boundary = rest[rest.rindex(b"\n--") :]
    return head + b"Content-Type: message/rfc822\n\n" + raw + boundary


def below_the_first_hop(raw: bytes) -> bytes:
    """Lines that look like our server's, where a stranger can write them."""
    token = raw.partition(b"receipts+")[2][:24].decode()
    lines = "".join(f"{name}: receipts+{token}@a.test\n" for name in ("Delivered-To", "X-Original-To", "Envelope-To"))
    return letter(b"It was delivered.\n", top=lines, subject=f"Delivered: receipts+{token}@a.test")


PLACES = [quoted, pasted, forwarded, attached, returned_in_a_bounce, below_the_first_hop]


@any_claim
@pytest.mark.parametrize("place", PLACES, ids=[place.__name__ for place in PLACES])
async def test_a_true_token_in_a_place_where_no_token_counts(steps: StepsFixture, claim: Claim, place: object) -> None:
    name, address = claim
    taken = await steps.submitted(address)
    raw = place(about(name, taken))  # type: ignore[operator]
    assert await moved_nothing(steps, raw, taken) in (Verdict.UNMATCHED, Verdict.NOISE)
    assert await told(steps, taken) == []
    assert await alarms(steps) == []


# --- two tokens ---------------------------------------------------------------------------------------------------


@any_claim
@pytest.mark.parametrize("same_message", [True, False])
async def test_a_report_that_holds_two_tokens(steps: StepsFixture, claim: Claim, same_message: bool) -> None:
    """It came back to one return path and returns the header of another copy."""
    name, address = claim
    one = await steps.submitted(address, "carol@c.test")
    two = one if same_message else await steps.submitted(address)
    other = one.recipients[1] if same_message else two.recipients[0]
    raw = about(name, one)
    head, blank, body = raw.partition(b"\n\n")
    body += f"\n--\nDisposition-Notification-To: <receipts+{other.token}@a.test>\n".encode()
    to = f"To: receipts+{other.token}@a.test, ".encode()
    raw = head.replace(b"\nTo: ", b"\n" + to, 1) + blank + body
    assert await moved_nothing(steps, raw, one, two) is Verdict.SUSPICIOUS
    assert await alarms(steps) == unproven(claim)


# --- somebody else's mail to our return path ----------------------------------------------------------------------


def joe_job(taken: AcceptedMessage) -> bytes:
    """Return the bounce of spam that somebody sent in the name of our return path: nothing in it is ours but that."""
    raw = about("failed-unknown-exim", taken, message_id="<spam@e.test>", address="victim@exim.test")
    raw = raw.replace(b"<office@a.test>", b"<pills@e.test>")
    return re.sub(rb"^Original-Envelope-Id: .*\n", b"", raw, flags=re.MULTILINE)


async def test_a_joe_jobs_bounce_to_our_token(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test")
    assert await moved_nothing(steps, joe_job(taken), taken) is Verdict.SUSPICIOUS
    assert await alarms(steps) == [("failed", True)]


async def test_more_joe_jobs_bounces_than_are_kept_are_one_alarm_and_hide_no_true_report(steps: StepsFixture) -> None:
    taken = await steps.submitted("alice@box.test")
    raw = joe_job(taken)
    await came(steps, *(raw.replace(b"victim@", f"victim{n}@".encode()) for n in range(120)))
    assert await alarms(steps) == [("failed", True)]
    await came(steps, about(DELIVERED[0], taken))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.SEALED)


async def test_a_report_that_a_person_wrote_to_the_return_path(steps: StepsFixture) -> None:
    """Delivery reports come from the null path (RFC 3461 §6.1); a mail program gives its user's own."""
    taken = await steps.submitted(DELIVERED[1])
    raw = about(DELIVERED[0], taken, envelope_id="")
    raw = raw.replace(b"Return-Path: <>", b"Return-Path: <eve@d.test>", 1)
    assert await moved_nothing(steps, raw, taken) is Verdict.MATCHED


# --- our own copy -------------------------------------------------------------------------------------------------


async def test_our_own_message_that_comes_back_as_a_copy(steps: StepsFixture) -> None:
    """A list that sends it back to its sender, or a rule that copies what is sent."""
    taken = await steps.submitted("bob@b.test")
    async with steps.store.read() as session:
        original = (await session.get_one(Evidence, taken.message.evidence)).content
    path = f"receipts+{taken.recipients[0].token}@a.test"
    raw = f"Return-Path: <{path}>\nDelivered-To: {path}\nDisposition-Notification-To: {path}\n".encode() + original
    assert await moved_nothing(steps, raw, taken) is Verdict.NOISE
    assert await told(steps, taken) == []


# --- replayed -----------------------------------------------------------------------------------------------------


@any_claim
async def test_a_true_report_that_is_replayed_with_other_received_lines(steps: StepsFixture, claim: Claim) -> None:
    name, address = claim
    taken = await steps.submitted(address)
    raw = about(name, taken)
    await came(steps, raw)
    alarmed, (event,) = await alarms(steps), await told(steps, taken)
    for hour in (1, 20, 40):
        steps.pass_time(hours=hour)
        hop = f"Received: from mx.e.test by mx.a.test with ESMTP id {hour}; Tue, 24 Nov 2026 {hour % 24}:00:00 +0000\n"
        again = raw.replace(b"Received: from mx.a.test", hop.encode() + b"Received: from mx.a.test", 1)
        assert await moved_nothing(steps, again, taken) is Verdict.MATCHED
    assert await alarms(steps) == alarmed
    (copy,) = await told(steps, taken)
    assert (copy.id, copy.count, copy.observed_at) == (event.id, 4, event.observed_at)


async def test_the_same_bytes_in_another_folder_are_the_same_report(steps: StepsFixture) -> None:
    taken = await steps.submitted(FAILED[1])
    raw = about(FAILED[0], taken)
    await came(steps, raw)
    await came(steps, raw, folder="Junk")
    assert [event.count for event in await told(steps, taken)] == [1]
    assert await alarms(steps) == [("failed", False)]


async def test_a_failure_replayed_after_the_reader_has_answered_it(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test")
    failure = about(FAILED[0], taken, address="bob@b.test")
    await came(steps, failure)
    steps.pass_time(hours=1)
    await came(steps, about(DISPLAYED[0], taken))
    alarmed = await alarms(steps)
    row = await steps.recipient(taken)
    assert (row.delivery, row.disposition, row.receipt) == (Delivery.FAILED, Disposition.DISPLAYED, Receipt.MET)
    assert await moved_nothing(steps, failure.replace(b"Received: ", b"Received: again ", 1), taken) is Verdict.MATCHED
    assert await alarms(steps) == alarmed


async def test_a_report_of_the_first_copy_says_nothing_of_the_next(steps: StepsFixture) -> None:
    first = await steps.submitted(FAILED[1])
    await came(steps, about(FAILED[0], first))
    copy = await decide.resend(steps.store, first.message.id, by="uid:0")
    again = about(FAILED[0], first).replace(b"Received: ", b"Received: again ", 1)
    assert await moved_nothing(steps, again, first, copy) is Verdict.MATCHED
    assert (await steps.recipient(copy)).delivery is Delivery.QUEUED


async def test_an_old_report_that_is_made_to_speak_of_a_new_message(steps: StepsFixture) -> None:
    old = await steps.submitted(DELIVERED[1])
    await came(steps, about(DELIVERED[0], old))
    steps.pass_time(hours=1)
    new = await steps.submitted(DELIVERED[1])
    raw = about(DELIVERED[0], old, message_id=new.message.message_id)
    assert await moved_nothing(steps, raw, old, new) is Verdict.SUSPICIOUS


# --- another recipient of the same message ------------------------------------------------------------------------


async def test_one_recipients_token_proves_nothing_for_another(steps: StepsFixture) -> None:
    """A real Postfix that was told of two in one transaction: only the token's owner is proven."""
    taken = await steps.submitted("alice@box.test", "bob@box.test")
    assert await came(steps, about("partial-box--b--delivered", taken)) is Verdict.MATCHED
    alice, bob = (await steps.whole(taken)).recipients
    assert (alice.delivery, alice.receipt, alice.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.SEALED)
    assert (bob.delivery, bob.receipt) == (Delivery.ACCEPTED, Receipt.OPEN)


@bad
async def test_one_recipient_contradicts_nothing_that_is_proven_of_another(steps: StepsFixture, claim: Claim) -> None:
    name, address = claim
    taken = await steps.submitted("eve@d.test", address)
    eve, victim = taken.recipients
    await came(steps, about(DELIVERED[0], taken, victim, address=address))
    before = _standing((await steps.whole(taken)).recipients[1])
    await came(steps, about(name, taken, eve))
    assert _standing((await steps.whole(taken)).recipients[1]) == before
    alerts = [alert for alert in await steps.alerts() if alert.recipient == victim.id]
    assert [alert.data["unproven"] for alert in alerts] == [True]


# --- ten thousand recipients --------------------------------------------------------------------------------------


def crowded(raw: bytes, count: int, *others: str) -> bytes:
    """Return the failure *raw* with blocks about *others* before its own, and about *count* strangers behind it."""
    block = "Final-Recipient: rfc822; {}\nAction: failed\nStatus: 5.1.1\n\n"
    at = raw.index(b"Final-Recipient: ")
    end = raw.index(b"\n\n--", at) + 2
    before = "".join(map(block.format, others))
    behind = "".join(block.format(f"x{n}@d.test") for n in range(count))
    return raw[:at] + before.encode() + raw[at:end] + behind.encode() + raw[end:]


@pytest.mark.parametrize("token", [None, "", STRANGE], ids=["its own token", "no token", "an unknown token"])
async def test_ten_thousand_recipient_blocks(steps: StepsFixture, token: str | None) -> None:
    taken = await steps.submitted(FAILED[1], "alice@box.test")
    victim = taken.recipients[1]
    await came(steps, about(DELIVERED[0], taken, victim))
    before = _standing((await steps.whole(taken)).recipients[1])
    raw = crowded(about(FAILED[0], taken, token=token), 10_000, "alice@box.test")
    started = time.monotonic()
    await came(steps, raw)
    assert time.monotonic() - started < 10
    named, other = (await steps.whole(taken)).recipients
    assert _standing(other) == before
    assert named.delivery is (Delivery.ACCEPTED if token == STRANGE else Delivery.FAILED)
    async with steps.store.read() as session:
        kept = (await session.exec(select(EventRow).where(EventRow.recipient == named.id))).all()
    assert len(kept) <= 104
    assert len(named.branches) <= 101
    alerts = [alert.data["unproven"] for alert in await steps.alerts() if alert.recipient == named.id]
    assert alerts == [token == STRANGE]


async def test_ten_thousand_blocks_leave_room_for_the_true_report(steps: StepsFixture) -> None:
    taken = await steps.submitted(DELIVERED[1])
    for token in (STRANGE, ""):
        raw = about(FAILED[0], taken, token=token, address="stranger@d.test")
        await came(steps, *(crowded(raw, 1000, f"y{n}@d.test") for n in range(4)))
    await came(steps, about(DELIVERED[0], taken))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.SEALED)


# --- answers and complaints ---------------------------------------------------------------------------------------


async def test_an_answer_to_the_return_path_is_no_persons(steps: StepsFixture) -> None:
    """Only servers know that address: whoever answers there wants it to look like a reader."""
    taken = await steps.submitted("bob@b.test")
    token = taken.recipients[0].token
    raw = (
        f"Return-Path: <bob@b.test>\nDelivered-To: receipts+{token}@a.test\nFrom: bob@b.test\n"
        f"To: receipts+{token}@a.test\nSubject: Re: An invoice\nIn-Reply-To: {taken.message.message_id}\n\nYes!\n"
    )
    assert await moved_nothing(steps, raw.encode(), taken) is Verdict.MATCHED
    assert [event.kind for event in await told(steps, taken)] == [EventKind.AUTO_REPLIED]


async def test_a_strangers_answer_to_one_of_several_recipients(steps: StepsFixture) -> None:
    taken = await steps.submitted("bob@b.test", "carol@c.test")
    raw = (
        "Return-Path: <eve@d.test>\nDelivered-To: office@a.test\nFrom: eve@d.test\nTo: office@a.test\n"
        f"Subject: Re: An invoice\nIn-Reply-To: {taken.message.message_id}\n\nYes!\n"
    )
    assert await moved_nothing(steps, raw.encode(), taken) is Verdict.UNMATCHED


async def test_a_read_receipt_of_somebody_else_for_a_known_message(steps: StepsFixture) -> None:
    """Eve has got a copy, so knows the Message-ID and, from its header, the address for read receipts."""
    taken = await steps.submitted("bob@b.test", require=Level.DISPLAYED)
    raw = about(DISPLAYED[0], taken, address="eve@d.test")
    await came(steps, raw)
    row = await steps.recipient(taken)
    assert (row.disposition, row.receipt) == (Disposition.DISPATCHED, Receipt.OPEN)
    steps.pass_time(hours=5)
    await steps.judge()
    assert (await steps.recipient(taken)).receipt is Receipt.OVERDUE


async def test_a_forged_delivery_does_not_stop_the_clock(steps: StepsFixture) -> None:
    taken = await steps.submitted(DELIVERED[1])
    for token in ("", STRANGE):
        await came(steps, about(DELIVERED[0], taken, token=token))
    steps.pass_time(hours=4, minutes=1)
    assert await steps.judge() == 1
    assert (await steps.recipient(taken)).receipt is Receipt.OVERDUE
    assert await alarms(steps) == [("overdue", False)]
    assert timedelta(hours=4) < steps.instant - (await steps.recipient(taken)).submitted_at  # type: ignore[operator]
