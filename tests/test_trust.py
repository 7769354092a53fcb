"""Who could have written this: what a holder of a copy, a colleague or a local user may tell us, and what not.

A holder has the token, from Return-Path and Disposition-Notification-To, and the Message-ID, but no envelope id.
Each report goes the whole way: raw bytes, interpret, match, settle.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from receiptd import decide
from receiptd.accept import AcceptedMessage
from receiptd.facts import Delivery, Disposition, EventKind, Level, Receipt, Trust, Verdict
from receiptd.models import Message
from receiptd.pages import alert_page
from receiptd.store import schema, upgrade
from tests.recorded import about
from tests.steps_fixture import StepsFixture, dsn, open_steps, watching
from tests.test_forgery import DELIVERED, DISPLAYED, FAILED, alarms, came, moved_nothing, told

ALICE, BOB = DELIVERED[1], "bob@b.test"
DAY = timedelta(days=1)


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


def forged(name: str, taken: AcceptedMessage, *, address: str = "") -> bytes:
    """Return what a holder of the copy can write: everything but the envelope id."""
    return about(name, taken, envelope_id="", address=address)


def answer(
    taken: AcceptedMessage,
    sender: str = BOB,
    *,
    results: str = "",
    message_id: str = "<answer@b.test>",
    text: str = "Yes, thanks!",
) -> bytes:
    """Return an answer as a mail program writes it, in the mailbox of the letter's author."""
    checked = f"Authentication-Results: {results}\n" if results else ""
    return (
        f"Return-Path: <{sender}>\nDelivered-To: office@a.test\n{checked}From: {sender}\nTo: office@a.test\n"
        f"Subject: Re: An invoice\nMessage-ID: {message_id}\nDate: Tue, 24 Nov 2026 10:30:00 +0000\n"
        f"User-Agent: Mozilla Thunderbird\nIn-Reply-To: {taken.message.message_id}\n\n{text}\n"
    ).encode()


# --- the holder of a copy -----------------------------------------------------------------------------------------


async def test_a_holders_failure_contradicts_no_sealed_delivery_and_is_told_as_unproven(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    await came(steps, about(DELIVERED[0], taken))
    assert await moved_nothing(steps, forged(FAILED[0], taken, address=ALICE), taken) is Verdict.MATCHED
    assert await alarms(steps) == [("failed", True)]
    (alert,) = await steps.alerts()
    shown = {"id": alert.id, "type": alert.type, "created_at": "2026-11-24T09:30:00Z", "data": alert.data}
    assert "  unproven  " in next(alert_page(shown))


async def test_a_sealed_failure_after_a_sealed_delivery_is_a_contradiction(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    await came(steps, about(DELIVERED[0], taken), about(FAILED[0], taken, address=ALICE))
    assert (await steps.recipient(taken)).delivery is Delivery.CONTRADICTED
    assert await alarms(steps) == [("contradicted", False)]


async def test_a_keyed_failure_after_a_sealed_relayed_fails_the_recipient_at_once(steps: StepsFixture) -> None:
    """`relayed` says that a server beyond may still report, and it may never have got our envelope id."""
    taken = await steps.submitted("alice@nodsn.test")
    await came(steps, about("relayed-nodsn--a", taken))
    assert (await steps.recipient(taken)).trust is Trust.SEALED
    await came(steps, dsn(taken.recipients[0].token, action="failed", status="5.1.1", recipient="alice@nodsn.test"))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.FAILED, Receipt.FAILED, Trust.KEYED)
    assert await alarms(steps) == [("failed", False)]


async def test_the_true_failure_is_told_after_a_doubtful_one(steps: StepsFixture) -> None:
    """Whoever dismissed what anybody could have written hears of what only a server on the way could."""
    taken = await steps.submitted(ALICE)
    await came(steps, about(DELIVERED[0], taken), forged(FAILED[0], taken, address=ALICE))
    await decide.acknowledge(steps.store, taken.recipients[0].id, by="uid:0", reason="forged", lasting=DAY)
    await came(steps, about(FAILED[0], taken, address=ALICE))
    assert await alarms(steps) == [("failed", True), ("contradicted", False)]


async def test_a_failure_that_is_sure_now_is_told_once_more(steps: StepsFixture) -> None:
    taken = await steps.submitted(FAILED[1])
    await came(steps, about(FAILED[0], taken, token=""))
    assert (await steps.recipient(taken)).trust is Trust.PLAUSIBLE
    await decide.acknowledge(steps.store, taken.recipients[0].id, by="uid:0", reason="forged?", lasting=DAY)
    for _ in range(2):
        await came(steps, about(FAILED[0], taken))
        steps.pass_time(minutes=1)
    assert (await steps.recipient(taken)).trust is Trust.SEALED
    assert await alarms(steps) == [("failed", False), ("failed", False)]
    assert len({alert.id for alert in await steps.alerts()}) == 2


async def test_a_failure_that_is_sure_only_after_a_persons_confirm_is_told(steps: StepsFixture) -> None:
    taken = await steps.submitted(FAILED[1])
    await came(steps, about(FAILED[0], taken, token=""))
    await decide.confirm(steps.store, taken.recipients[0].id, by="uid:0", reason="they rang")
    await came(steps, about(FAILED[0], taken))
    failures = [alert for alert in await steps.alerts() if alert.type == "receipt.failed"]
    assert len(failures) == 2
    assert (await steps.recipient(taken)).receipt.is_met


@pytest.mark.parametrize("name", ["expanded-postfix-virtual"])
async def test_a_holders_expanded_lets_nobody_elses_read_receipt_count(steps: StepsFixture, name: str) -> None:
    taken = await steps.submitted("list@lists.test", require=Level.DISPLAYED)
    await came(steps, forged(name, taken, address="list@lists.test"), about(DISPLAYED[0], taken, address="eve@d.test"))
    row = await steps.recipient(taken)
    assert (row.disposition, row.receipt) == (Disposition.DISPATCHED, Receipt.OPEN)
    await came(steps, about(name, taken, address="list@lists.test"))
    row = await steps.recipient(taken)
    assert (row.disposition, row.receipt) == (Disposition.DISPLAYED, Receipt.MET), "the server says alias"


async def test_success_with_a_guessed_envelope_id_is_weak_and_suspicious(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    for guess in (taken.recipients[0].token, "z" * 24, "0R8G00F2A1B2C3"):
        raw = about(DELIVERED[0], taken, envelope_id=guess)
        assert await moved_nothing(steps, raw, taken) is Verdict.SUSPICIOUS
    assert {event.trust for event in await told(steps, taken)} == {Trust.WEAK}


async def test_success_without_any_envelope_id_is_keyed(steps: StepsFixture) -> None:
    """OpenSMTPD gives none back."""
    taken = await steps.submitted(ALICE)
    await came(steps, forged(DELIVERED[0], taken))
    row = await steps.recipient(taken)
    assert (row.delivery, row.receipt, row.trust) == (Delivery.DELIVERED, Receipt.MET, Trust.KEYED)


async def test_one_recipient_fails_no_other_under_its_own_token(steps: StepsFixture) -> None:
    taken = await steps.submitted(BOB, FAILED[1])
    bob, carol = taken.recipients
    for raw in (forged(FAILED[0], taken), about(FAILED[0], taken, bob)):
        await came(steps, raw)
        assert (await steps.recipient(taken, 1)).delivery is Delivery.ACCEPTED
    alerts = [alert for alert in await steps.alerts() if alert.recipient == carol.id]
    assert [alert.data["unproven"] for alert in alerts] == [True]


# --- who only knows the Message-ID --------------------------------------------------------------------------------


async def test_a_not_read_by_message_id_alone_moves_nothing_and_is_told_as_unproven(steps: StepsFixture) -> None:
    taken = await steps.submitted(BOB, require=Level.DISPLAYED)
    raw = about(DISPLAYED[0], taken, token="").replace(b"; displayed", b"; deleted")
    assert await moved_nothing(steps, raw, taken) is Verdict.MATCHED
    assert [event.trust for event in await told(steps, taken)] == [Trust.PLAUSIBLE]
    assert await alarms(steps) == [("refused", True)]


async def test_who_reuses_a_message_id_neither_takes_its_bounces_nor_makes_them_doubtful(steps: StepsFixture) -> None:
    victim = await steps.submitted(FAILED[1])
    steps.pass_time(minutes=1)
    thief = await steps.submitted(FAILED[1])
    async with steps.store.write() as session:
        message = await session.get_one(Message, thief.message.id)
        message.message_id = victim.message.message_id
    await came(steps, about(FAILED[0], victim, token=""))
    row = await steps.recipient(victim)
    assert (row.delivery, row.trust) == (Delivery.FAILED, Trust.PLAUSIBLE)
    assert (await steps.recipient(thief)).delivery is Delivery.ACCEPTED


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def answered(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    """Open steps that watch the mailbox where answers come."""
    boxes = watching(tmp_path, "office@a.test")
    boxes[0]["authserv_id"] = "mx.a.test"
    async with open_steps(tmp_path, mailbox=boxes) as steps:
        yield steps


async def test_a_spoofed_answer_overrides_no_failure(answered: StepsFixture) -> None:
    taken = await answered.submitted(FAILED[1], require=Level.REPLIED)
    await came(answered, about(FAILED[0], taken))
    await moved_nothing(answered, answer(taken, FAILED[1]), taken)
    refuted = answer(taken, FAILED[1], results="mx.a.test; dmarc=fail header.from=b.test", message_id="<2@b.test>")
    assert await moved_nothing(answered, refuted, taken) is Verdict.SUSPICIOUS
    assert await alarms(answered) == [("failed", False)]
    vouched = answer(taken, FAILED[1], results="mx.a.test; dmarc=pass header.from=b.test", message_id="<3@b.test>")
    await came(answered, vouched)
    assert (await answered.recipient(taken)).receipt is Receipt.MET


async def test_an_answer_that_fails_dmarc_at_our_own_server_meets_nothing(answered: StepsFixture) -> None:
    taken = await answered.submitted(BOB, require=Level.REPLIED)
    raw = answer(taken, results="mx.a.test; spf=pass smtp.mailfrom=eve@e.test; dmarc=fail header.from=b.test")
    assert await moved_nothing(answered, raw, taken) is Verdict.SUSPICIOUS
    assert [(event.kind, event.trust) for event in await told(answered, taken)] == [(EventKind.REPLIED, Trust.WEAK)]


@pytest.mark.parametrize("sender", ["eve@d.test", "colleague@b.test"])
async def test_an_answer_from_another_address_is_shown_and_meets_nothing(answered: StepsFixture, sender: str) -> None:
    """Not even where our server vouches for the sender, and the sender is a colleague."""
    taken = await answered.submitted(BOB, require=Level.REPLIED)
    domain = sender.partition("@")[2]
    raw = answer(taken, sender, results=f"mx.a.test; dmarc=pass header.from={domain}")
    assert await came(answered, raw) is Verdict.MATCHED
    row = await answered.recipient(taken)
    assert (row.disposition, row.receipt, row.level) == (Disposition.NONE, Receipt.OPEN, Level.ACCEPTED)
    (event,) = await told(answered, taken)
    assert (event.kind, event.trust, event.final_recipient) == (EventKind.REPLIED, Trust.PLAUSIBLE, sender)


@pytest.mark.parametrize("order", [1, -1])
async def test_an_answer_counts_from_a_branch_that_a_server_on_the_way_has_named(
    answered: StepsFixture, order: int
) -> None:
    taken = await answered.submitted("fwd-b@sendmail.test", require=Level.REPLIED)
    reports = [about("forward-sendmail-b", taken), answer(taken, "alice@b.test")]
    await came(answered, *reports[::order])
    row = await answered.recipient(taken)
    assert (row.disposition, row.receipt) == (Disposition.REPLIED, Receipt.MET)


async def test_with_onward_any_answer_counts_as_plausible(tmp_path: Path) -> None:
    async with open_steps(
        tmp_path, mailbox=watching(tmp_path, "office@a.test"), policy={"default": {"onward": True}}
    ) as steps:
        taken = await steps.submitted(BOB, require=Level.REPLIED)
        await came(steps, answer(taken, "eve@d.test"))
        row = await steps.recipient(taken)
        assert (row.receipt, row.trust) == (Receipt.MET, Trust.PLAUSIBLE)


async def test_a_colleague_who_sends_through_us_may_answer(answered: StepsFixture) -> None:
    """Bob's answer is a message of ours too: what it answers decides, not that its From sends through us."""
    taken = await answered.submitted(BOB, require=Level.REPLIED)
    bobs = await answered.submitted("office@a.test")
    async with answered.store.write() as session:
        message = await session.get_one(Message, bobs.message.id)
        message.from_address = BOB
    await came(answered, answer(taken, message_id=bobs.message.message_id))
    assert (await answered.recipient(taken)).receipt is Receipt.MET


async def test_the_author_who_writes_on_in_the_thread_is_noise(answered: StepsFixture) -> None:
    taken = await answered.submitted(BOB, require=Level.REPLIED)
    assert await moved_nothing(answered, answer(taken, "office@a.test"), taken) is Verdict.NOISE


# --- the secret stays one -----------------------------------------------------------------------------------------


async def test_every_recipient_has_an_envelope_id_of_its_own(steps: StepsFixture) -> None:
    taken = await steps.submitted(BOB, ALICE)
    copy = await decide.resend(steps.store, taken.message.id, by="uid:0")
    words = [word for row in (*taken.recipients, *copy.recipients) for word in (row.token, row.envelope_id)]
    assert len(set(words)) == len(words) == 8
    assert all(words)


def test_rows_that_went_out_with_the_token_as_envelope_id_stay_keyed_at_best(tmp_path: Path) -> None:
    """The others get an id of their own: nothing of theirs has been seen yet."""
    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(schema._config(connection), "0001")
    engine.dispose()
    old = sqlite3.connect(path)
    with old:
        _old_rows(old)
    upgrade(f"sqlite:///{path}")
    kept = dict(old.execute("SELECT id, envelope_id FROM recipient"))
    old.close()
    assert {name for name, envelope_id in kept.items() if envelope_id is None} == {
        "accepted",
        "uncertain",
        "on the wire",
    }
    assert len({envelope_id for envelope_id in kept.values() if envelope_id}) == 2


def _old_rows(connection: sqlite3.Connection) -> None:
    """Write a message of the first version: one recipient accepted, one uncertain, one on the wire, two never sent."""
    fill(connection, "evidence", sha256="0", content=b"")
    fill(connection, "message", id="m", evidence="0")
    for name, delivery, outcome, submitted in (
        ("accepted", "accepted", "accepted", "2026-11-24 09:30:00"),
        ("uncertain", "uncertain", "uncertain", None),
        ("on the wire", "queued", None, None),
        ("never", "queued", "", None),
        ("deferred", "deferred", "deferred", None),
    ):
        fill(connection, "recipient", id=name, message="m", token=name, delivery=delivery, submitted_at=submitted)
        if outcome != "":
            fill(connection, "attempt", id=name, recipient=name, outcome=outcome)


def fill(connection: sqlite3.Connection, table: str, **values: object) -> None:
    """Insert a row; what must not be null and isn't given is zero or empty."""
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    filler = {"INTEGER": 0, "BOOLEAN": 0, "DATETIME": "2026-11-24 09:30:00", "JSON": "{}"}
    row = {name: filler.get(kind, "") for _, name, kind, not_null, _, _ in columns if not_null} | values
    marks = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
