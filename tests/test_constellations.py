"""How a report finds its recipient: every key by itself, in what real servers wrote, from the bytes to the state.

The servers keep different keys: Postfix gives back everything, Exim leaves the envelope id in xtext, OpenSMTPD gives
back none, relays rename messages, a forward names somebody else, and a provider may allow no sub-addresses.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from receiptd import correlation_token
from receiptd.accept import AcceptedMessage
from receiptd.facts import Event, MatchedBy, Source, Trust
from receiptd.models import Attempt, Recipient
from receiptd.smtp.reply import Reply, alias_message_id
from tests.recorded import about
from tests.steps_fixture import StepsFixture, open_steps

ALICE = "alice@box.test"
DELIVERED = "ret-full-success"
FULL, QUOTA = "full@exim.test", "failed-quota-exim"
ASKED = b"Disposition-Notification-To: receipts@a.test"
SES = "010201935f0c1a2b-1f2e3d4c-5b6a-7988-a7b6-c5d4e3f2a1b0-000000"
NO_SUBADDRESS = {"address": "receipts@a.test", "subaddress": ""}


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    """Open steps whose provider allows no sub-addresses: everything comes to the one address."""
    async with open_steps(tmp_path, receipts=NO_SUBADDRESS) as steps:
        yield steps


async def heard(steps: StepsFixture, taken: AcceptedMessage, raw: bytes, number: int = 0) -> tuple[str, str, str, str]:
    """Let *raw* come; return a recipient's delivery and receipt, and by which key and how surely the report was his."""
    await steps.receive(raw.replace(b"\n", b"\r\n"))
    row = await steps.recipient(taken, number)
    event = await _last_told(steps, taken, row)
    return str(row.delivery), str(row.receipt), str(event.matched_by), str(event.trust)


async def _last_told(steps: StepsFixture, taken: AcceptedMessage, row: Recipient) -> Event:
    whole = await steps.whole(taken)
    reports = [one for one in whole.events if one.recipient == row.id and one.source in (Source.DSN, Source.MDN)]
    return reports[-1]


def without_key(name: str, taken: AcceptedMessage) -> bytes:
    """Return the recorded report without token anywhere, and with a Message-ID that is none of ours."""
    return about(name, taken, token="", message_id="<renamed@relay.test>")


def with_line(raw: bytes, before: bytes, line: str) -> bytes:
    """Return *raw* with one more line before the first that begins so."""
    assert before in raw
    return raw.replace(before, line.encode() + b"\n" + before, 1)


# --- the token, in one place alone --------------------------------------------------------------------------------


async def test_in_the_address_that_the_report_came_to(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    came_to = f"receipts+{taken.recipients[0].token}@a.test".encode()
    raw = about(DELIVERED, taken, token="").replace(b"Delivered-To: receipts@a.test", b"Delivered-To: " + came_to)
    assert await heard(steps, taken, raw) == ("delivered", "met", MatchedBy.RETURN_PATH, Trust.KEYED)


async def test_in_the_envelope_id(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    raw = with_line(
        about(DELIVERED, taken, token=""),
        *(b"X-Postfix-Queue-ID:", f"Original-Envelope-Id: {taken.recipients[0].envelope_id}"),
    )
    assert await heard(steps, taken, raw) == ("delivered", "met", MatchedBy.ENVELOPE_ID, Trust.SEALED)


async def test_in_an_envelope_id_that_exim_left_in_xtext(steps: StepsFixture) -> None:
    """Exim gives ENVID back as it came: a relay before it may have written any octet of it in hexadecimal."""
    taken = await steps.submitted(FULL)
    envelope_id = taken.recipients[0].envelope_id or ""
    in_xtext = f"+{ord(envelope_id[0]):02X}{envelope_id[1:]}"
    raw = with_line(about(QUOTA, taken, token=""), b"Reporting-MTA:", f"Original-Envelope-ID: {in_xtext}")
    assert await heard(steps, taken, raw) == ("failed", "failed", MatchedBy.ENVELOPE_ID, Trust.SEALED)


async def test_in_the_returned_request_for_a_read_receipt(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    raw = about(DELIVERED, taken, token="")
    assert ASKED in raw
    raw = raw.replace(ASKED, ASKED.replace(b"@", f"+{taken.recipients[0].token}@".encode()))
    assert await heard(steps, taken, raw) == ("delivered", "met", MatchedBy.RETURNED_HEADER, Trust.KEYED)


async def test_in_the_returned_receipt_token_where_there_are_no_sub_addresses(bare: StepsFixture) -> None:
    taken = await bare.submitted(ALICE)
    raw = with_line(about(DELIVERED, taken, token=""), ASKED, f"Receipt-Token: {taken.recipients[0].token}")
    assert await heard(bare, taken, raw) == ("delivered", "met", MatchedBy.RETURNED_HEADER, Trust.KEYED)


# --- no token -----------------------------------------------------------------------------------------------------


async def test_by_the_message_id_and_the_recipient_it_names_among_several(bare: StepsFixture) -> None:
    taken = await bare.submitted("bob@box.test", ALICE)
    raw = about(DELIVERED, taken, token="")
    assert await heard(bare, taken, raw, 1) == ("delivered", "met", MatchedBy.MESSAGE_ID, Trust.PLAUSIBLE)
    assert (await bare.recipient(taken, 0)).delivery == "accepted"


async def test_a_token_is_worth_more_than_a_message_id_that_a_relay_changed(steps: StepsFixture) -> None:
    taken = await steps.submitted(ALICE)
    token = taken.recipients[0].token
    raw = without_key(DELIVERED, taken).replace(b"receipts@a.test", f"receipts+{token}@a.test".encode())
    *_, trust = await heard(steps, taken, raw)
    assert trust == Trust.PLAUSIBLE, "the returned message isn't known to be ours"


async def test_an_envelope_id_is_worth_more_still(steps: StepsFixture) -> None:
    """A relay that renames messages hands ENVID on, and only servers on the way know that."""
    taken = await steps.submitted(ALICE)
    raw = without_key(DELIVERED, taken)
    raw = with_line(raw, b"X-Postfix-Queue-ID:", f"Original-Envelope-Id: {taken.recipients[0].envelope_id}")
    assert await heard(steps, taken, raw) == ("delivered", "met", MatchedBy.ENVELOPE_ID, Trust.KEYED)


async def test_without_any_key_it_fits_nobody(bare: StepsFixture) -> None:
    taken = await bare.submitted(ALICE)
    await bare.receive(without_key(DELIVERED, taken).replace(b"\n", b"\r\n"))
    assert (await bare.recipient(taken)).delivery == "accepted"


# --- a relay that renames messages --------------------------------------------------------------------------------


async def renamed(steps: StepsFixture, taken: AcceptedMessage, host: str, reply: str) -> str:
    """Let the relay *host* have accepted the message with *reply*; return the Message-ID that it tells."""
    alias = alias_message_id(Reply(250, reply), host)
    assert alias is not None
    async with steps.store.write() as session:
        session.add(
            Attempt(
                id=correlation_token.make(),
                recipient=taken.recipients[0].id,
                started_at=steps.instant,
                finished_at=steps.instant,
                outcome="accepted",
                alias_message_id=alias,
                node="here",
            )
        )
    return alias


@pytest.mark.parametrize(
    ("host", "reply"),
    [
        ("email-smtp.eu-west-1.amazonaws.com", f"Ok {SES}"),
        ("smtp.office365.com", "2.6.0 <AM0PR01@eurprd01.prod.outlook.com> [InternalId=7] Queued mail for delivery"),
    ],
    ids=["Amazon SES", "Microsoft 365"],
)
@pytest.mark.parametrize("has_token", [False, True])
async def test_by_the_message_id_that_the_relay_told_in_its_250(
    bare: StepsFixture, host: str, reply: str, has_token: bool
) -> None:
    taken = await bare.submitted(ALICE)
    alias = await renamed(bare, taken, host, reply)
    raw = about(DELIVERED, taken, token="", message_id=alias)
    if has_token:
        raw = with_line(raw, ASKED, f"Receipt-Token: {taken.recipients[0].token}")
    found = (MatchedBy.RETURNED_HEADER, Trust.KEYED) if has_token else (MatchedBy.ALIAS, Trust.PLAUSIBLE)
    assert await heard(bare, taken, raw) == ("delivered", "met", *found)


@pytest.mark.parametrize("name", ["X-Microsoft-Original-Message-ID", "X-Google-Original-Message-ID"])
@pytest.mark.parametrize("has_token", [False, True])
async def test_by_our_message_id_in_the_field_to_which_the_relay_moved_it(
    bare: StepsFixture, name: str, has_token: bool
) -> None:
    taken = await bare.submitted(ALICE)
    raw = with_line(without_key(DELIVERED, taken), ASKED, f"{name}: {taken.message.message_id}")
    if has_token:
        raw = with_line(raw, ASKED, f"Receipt-Token: {taken.recipients[0].token}")
    found = (MatchedBy.RETURNED_HEADER, Trust.KEYED) if has_token else (MatchedBy.ALIAS, Trust.PLAUSIBLE)
    assert await heard(bare, taken, raw) == ("delivered", "met", *found)


# --- forwarded addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address", "named", "delivery"),
    [
        ("forward-exim-b", "fwd-b@exim.test", "fwd-b@exim.test", "relayed"),
        ("forward-osmtpd-nodsn", "fwd-nodsn@osmtpd.test", "alice@nodsn.test", "relayed"),
        ("forward-postfix-nodsn", "fwd-nodsn@b.test", "fwd-nodsn@b.test", "expanded"),
        ("forward-sendmail-b", "fwd-b@sendmail.test", "alice@b.test", "relayed"),
        ("sieve-redirect--b", "redirect@b.test", "redirect@b.test", "relayed"),
        ("fwd-fail-postfix--b--failed", "fwd-nosuch@b.test", "nosuch@late.test", "failed"),
        ("fwd-fail-osmtpd", "fwd-nosuch@osmtpd.test", "nosuch@b.test", "failed"),
    ],
)
async def test_a_forward_is_the_recipients_whatever_address_the_report_names(
    steps: StepsFixture, name: str, address: str, named: str, delivery: str
) -> None:
    taken = await steps.submitted(address)
    met = "failed" if delivery == "failed" else "met"
    got, receipt, _, trust = await heard(steps, taken, about(name, taken))
    assert (got, receipt, trust) == (delivery, met, Trust.KEYED if "osmtpd" in name else Trust.SEALED)
    branches = {branch["final_recipient"] for branch in (await steps.recipient(taken)).branches}
    assert named in branches


# --- before our own word ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address", "delivery", "receipt"),
    [
        (DELIVERED, ALICE, "delivered", "met"),
        (QUOTA, FULL, "failed", "failed"),
        ("delayed-expired--a--d", "x@late.test", "delayed", "open"),
    ],
)
async def test_a_report_that_is_faster_than_our_own_accepted_proves_it(
    steps: StepsFixture, name: str, address: str, delivery: str, receipt: str
) -> None:
    taken = await steps.take(address)
    got = await heard(steps, taken, about(name, taken, address=address))
    assert got == (delivery, receipt, MatchedBy.RETURN_PATH, Trust.SEALED)
    row = await steps.recipient(taken)
    assert (row.submitted_at, row.next_attempt_at) == (steps.instant, None), "it is not sent a second time"
    assert row.deadline_at == steps.instant + timedelta(seconds=row.within)


# --- several recipients, several reports --------------------------------------------------------------------------


async def test_several_reports_about_several_recipients_find_each_its_own_in_any_order(steps: StepsFixture) -> None:
    """One message to three: a mailbox, nobody, and a server that hands on; all returned the same Message-ID."""
    said = {"ret-full-success": "delivered", "partial-box--a": "failed", "relayed-nodsn--a": "relayed"}
    for order in itertools.permutations(enumerate(said)):
        taken = await steps.submitted(ALICE, "nosuch@box.test", "alice@nodsn.test")
        for number, name in order:
            await steps.receive(about(name, taken, taken.recipients[number]).replace(b"\n", b"\r\n"))
        rows = (await steps.whole(taken)).recipients
        assert [(str(row.delivery), row.trust) for row in rows] == [(one, Trust.SEALED) for one in said.values()]


async def test_one_report_about_two_recipients_is_told_of_both_and_sealed_for_the_one_whose_keys_it_holds(
    steps: StepsFixture,
) -> None:
    taken = await steps.submitted(ALICE, "bob@box.test")
    await steps.receive(about("partial-box--b--delivered", taken).replace(b"\n", b"\r\n"))
    events = [event for event in (await steps.whole(taken)).events if event.source is Source.DSN]
    trust = {event.recipient: event.trust for event in events if event.kind == "delivered"}
    assert trust == {taken.recipients[0].id: Trust.SEALED, taken.recipients[1].id: Trust.PLAUSIBLE}
