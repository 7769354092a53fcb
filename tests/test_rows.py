"""Every row of the table in docs/design.md §6, shown with what real servers and mail programs wrote.

The first sentence of a test's docstring is the row's first cell; the last test holds them together. What nobody
recorded (an answer of a person, a complaint) stands in the words of a program that writes it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from receiptd import decide
from receiptd.accept import AcceptedMessage
from receiptd.facts import Event, EventKind, Level, Source, Trust
from receiptd.models import Recipient
from receiptd.settings import Settings
from receiptd.standing import RecipientRecord
from tests.recorded import about
from tests.steps_fixture import StepsFixture, open_steps, settings_in

DELIVERED = "ret-full-success"
RELAYED = "delivered-no-delay"
FAILED = "failed-quota-dovecot"
DISPLAYED = "list-owner-postfix"
BOB = "bob@b.test"


@pytest.fixture
async def steps(tmp_path: Path) -> AsyncIterator[StepsFixture]:
    async with open_steps(tmp_path) as steps:
        yield steps


async def come(steps: StepsFixture, taken: AcceptedMessage, *raws: bytes) -> Recipient:
    """Let *raws* come, a minute apart, their lines ended as IMAP ends them; return the first recipient."""
    for raw in raws:
        steps.pass_time(minutes=1)
        await steps.receive(raw.replace(b"\n", b"\r\n"))
    return await steps.recipient(taken)


async def after(steps: StepsFixture, *names: str, address: str = BOB, **options: Any) -> Recipient:
    """Let a message be submitted to *address* and the recorded reports *names* come about it."""
    taken = await steps.submitted(address, **options)
    return await come(steps, taken, *(about(name, taken, address=address) for name in names))


def tracks(row: Recipient | RecipientRecord) -> tuple[str, str, str, str | None]:
    return str(row.delivery), str(row.disposition), str(row.receipt), row.level and str(row.level)


def branches(row: Recipient) -> dict[str, str]:
    return {branch["final_recipient"]: branch["delivery"] for branch in row.branches}


async def told(steps: StepsFixture) -> list[tuple[str, bool]]:
    """Return what people were told, and whether it was marked unproven."""
    return [(alert.type.removeprefix("receipt."), alert.data["unproven"]) for alert in await steps.alerts()]


async def event(steps: StepsFixture, taken: AcceptedMessage, kind: EventKind) -> Event:
    (found,) = [event for event in (await steps.whole(taken)).events if event.kind is kind]
    return found


def disposed(raw: bytes, words: str) -> bytes:
    """Return the read receipt *raw* with another Disposition."""
    changed = re.sub(rb"^Disposition: .*", b"Disposition: " + words.encode(), raw, flags=re.MULTILINE)
    assert changed != raw
    return changed


# --- delivery reports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "delivery", "receipt"), [("delivered", "relayed", "met"), ("failed", "failed", "failed")]
)
@pytest.mark.parametrize("late", [False, True])
async def test_a_delay_and_what_came_of_it(
    steps: StepsFixture, name: str, delivery: str, receipt: str, late: bool
) -> None:
    """Delayed + anything else."""
    reports = ["fwd-delayed-exim--exim--delayed", f"fwd-delayed-exim--exim--{name}"]
    row = await after(steps, *(reversed(reports) if late else reports), address="fwd-delayed@exim.test")
    assert tracks(row)[::2] == (delivery, receipt)


async def test_a_delay_alone_is_open(steps: StepsFixture) -> None:
    row = await after(steps, "delayed-expired--a--delayed", address="x@delayed.test")
    assert tracks(row) == ("delayed", "none", "open", "accepted")
    assert await told(steps) == []


@pytest.mark.parametrize("names", [(RELAYED, DELIVERED), (DELIVERED, RELAYED)])
async def test_two_servers_of_which_the_second_is_the_last(steps: StepsFixture, names: tuple[str, str]) -> None:
    """Relayed + delivered."""
    assert tracks(await after(steps, *names)) == ("delivered", "none", "met", "delivered")


@pytest.mark.parametrize(
    ("server", "address", "first"),
    [("postfix--b", "fwd-nosuch@b.test", "expanded"), ("exim--exim", "fwd-nosuch@exim.test", "delivered")],
)
@pytest.mark.parametrize("swapped", [False, True])
async def test_a_forward_whose_target_fails(
    steps: StepsFixture, server: str, address: str, first: str, swapped: bool
) -> None:
    """Relayed or expanded + failed."""
    names = [f"fwd-fail-{server}--{first}", f"fwd-fail-{server}--failed"]
    row = await after(steps, *(reversed(names) if swapped else names), address=address)
    assert tracks(row) == ("failed", "none", "failed", "relayed")
    assert await told(steps) == [("failed", False)]
    assert (row.reason == "One branch of an alias failed, others may have arrived.") == (first == "expanded")


@pytest.mark.parametrize("names", [(DELIVERED, FAILED), (FAILED, DELIVERED)])
async def test_a_server_that_bounces_what_it_had_delivered(steps: StepsFixture, names: tuple[str, str]) -> None:
    """Delivered + failed (any branch)."""
    assert tracks(await after(steps, *names)) == ("contradicted", "none", "failed", "relayed")
    assert ("contradicted", False) in await told(steps)


async def test_a_delivered_address_and_a_failed_member_behind_it(steps: StepsFixture) -> None:
    taken = await steps.submitted("whoever@catchall.test")
    delivered = about(DELIVERED, taken, address="whoever@catchall.test")
    row = await come(steps, taken, delivered, about(FAILED, taken, address="dave@b.test"))
    assert tracks(row)[::2] == ("contradicted", "failed")
    assert branches(row) == {"whoever@catchall.test": "delivered", "dave@b.test": "failed"}


@pytest.mark.parametrize("names", [(FAILED, DISPLAYED), (DISPLAYED, FAILED)])
async def test_a_reader_who_has_what_a_server_called_failed(steps: StepsFixture, names: tuple[str, str]) -> None:
    """Failed + displayed or replied by that same final recipient, keyed, or a person's confirm."""
    row = await after(steps, *names)
    assert tracks(row) == ("failed", "displayed", "met", "displayed")
    assert row.incident_opened_at is None


async def test_a_person_whose_word_stands_against_a_failure(steps: StepsFixture) -> None:
    row = await after(steps, RELAYED, FAILED)
    told = await decide.confirm(steps.store, row.id, by="uid:0", reason="Bob has called")
    assert tracks(told) == ("failed", "none", "met", "relayed")
    assert told.incident_opened_at is None


async def test_another_member_who_reads_what_failed_for_one(steps: StepsFixture) -> None:
    taken = await steps.submitted("fwd-nosuch@b.test")
    names = ("fwd-fail-postfix--b--expanded", "fwd-fail-postfix--b--failed")
    row = await come(steps, taken, *(about(name, taken) for name in names), about(DISPLAYED, taken))
    assert tracks(row)[::2] == ("contradicted", "failed")


async def test_exims_delivered_for_a_redirect(steps: StepsFixture) -> None:
    """Exim's delivered whose text or Diagnostic-Code says "relayed"."""
    taken = await steps.submitted("fwd-b@exim.test")
    row = await come(steps, taken, about("forward-exim-b", taken))
    assert tracks(row) == ("relayed", "none", "met", "relayed")
    assert (await event(steps, taken, EventKind.RELAYED)).detail["stated_action"] == "delivered"


@pytest.mark.parametrize(("word", "delivery"), [(b"expanded", "expanded"), (b"sent on", "relayed")])
async def test_sendmails_report_that_names_nobody(steps: StepsFixture, word: bytes, delivery: str) -> None:
    """Delivery-status without recipient block."""
    taken = await steps.submitted("team@sendmail.test")
    raw = about("expanded-sendmail", taken)
    assert b"expanded" in raw
    row = await come(steps, taken, raw.replace(b"expanded", word))
    assert tracks(row) == (delivery, "none", "met", "relayed")


@pytest.mark.parametrize(
    ("said", "delivery"), [(b": Envelope expired", "failed"), (b": Delivery of this message is delayed", "delayed")]
)
async def test_opensmtpds_end_of_its_queue_time(steps: StepsFixture, said: bytes, delivery: str) -> None:
    """`delayed` with 4.4.7 and OpenSMTPD's "Envelope expired"."""
    taken = await steps.submitted("x@delayed.test")
    raw = about("fwd-delayed-osmtpd--osmtpd--delayed-2", taken).replace(b": Envelope expired", said)
    assert (await come(steps, taken, raw)).delivery == delivery


@pytest.mark.parametrize(
    ("first", "known", "receipt"),
    [((), ("accepted", "accepted"), "open"), ((FAILED,), ("failed", "accepted"), "failed")],
)
async def test_a_letter_that_arrives_when_it_is_sent_again(
    steps: StepsFixture, first: tuple[str, ...], known: tuple[str, str], receipt: str
) -> None:
    """The receipt of a copy that a person sent again is met."""
    taken = await steps.submitted(BOB)
    assert tracks(await come(steps, taken, *(about(name, taken) for name in first)))[2] == receipt
    copy = await decide.resend(steps.store, taken.message.id, by="uid:0")
    await steps.tell(copy.recipients[0].id, EventKind.ACCEPTED, source=Source.SMTP, submitted_at=steps.instant)
    await come(steps, copy, about(DELIVERED, copy))
    row = await steps.recipient(taken)
    assert tracks(row) == (known[0], "none", "met", known[1]), "the copy proves nothing of the first"
    assert row.incident_opened_at is None


# --- read receipts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("require", [Level.ACCEPTED, Level.RELAYED, Level.DISPLAYED])
async def test_dovecots_sieve_reject(steps: StepsFixture, require: Level) -> None:
    """MDN `deleted` by a delivery agent (`auto-replied (rejected)`, postmaster): Sieve reject."""
    names = ("sieve-reject--b--relayed", "sieve-reject--dovecot")
    row = await after(steps, *names, address="rejectme@b.test", require=require)
    assert tracks(row) == ("failed", "refused", "failed", "relayed")
    assert await told(steps) == [("refused", False)]


@pytest.mark.parametrize(
    ("words", "disposition", "receipt"),
    [
        ("manual-action/MDN-sent-manually; deleted", "deleted", "failed"),
        ("manual-action/MDN-sent-manually; denied", "denied", "failed"),
        ("automatic-action/MDN-sent-automatically; processed", "processed", "open"),
        ("automatic-action/MDN-sent-automatically; dispatched", "dispatched", "open"),
    ],
)
async def test_a_mail_program_that_shows_the_message_to_nobody(
    steps: StepsFixture, words: str, disposition: str, receipt: str
) -> None:
    """Other `deleted`, `denied`, `processed`, `dispatched`."""
    lax = await steps.submitted(BOB)
    row = await come(steps, lax, disposed(about(DISPLAYED, lax), words))
    assert tracks(row) == ("delivered", disposition, "met", "delivered")
    assert await told(steps) == []
    strict = await steps.submitted(BOB, require=Level.DISPLAYED)
    row = await come(steps, strict, disposed(about(DISPLAYED, strict), words))
    assert tracks(row) == ("delivered", disposition, receipt, "delivered")
    assert await told(steps) == ([("refused", False)] if receipt == "failed" else [])


@pytest.mark.parametrize("words", ["displayed/error", "processed/warning,error", "failed", "error"])
async def test_a_mail_program_that_met_an_error(steps: StepsFixture, words: str) -> None:
    """Any modifier `error`, or `failed`/`error` disposition."""
    said = f"automatic-action/MDN-sent-automatically; {words}"
    lax = await steps.submitted(BOB)
    assert tracks(await come(steps, lax, disposed(about(DISPLAYED, lax), said)))[1:3] == ("error", "met")
    assert await told(steps) == []
    strict = await steps.submitted(BOB, require=Level.DISPLAYED)
    assert tracks(await come(steps, strict, disposed(about(DISPLAYED, strict), said)))[1:3] == ("error", "failed")
    assert await told(steps) == [("refused", False)]


@pytest.mark.parametrize(
    ("seconds", "mode", "disposition"),
    [
        (59, "automatic-action/MDN-sent-automatically", "processed"),
        (61, "automatic-action/MDN-sent-automatically", "displayed"),
        (9, "manual-action/MDN-sent-automatically", "displayed"),
    ],
)
async def test_a_machine_that_says_displayed(steps: StepsFixture, seconds: int, mode: str, disposition: str) -> None:
    """`displayed` by automatic action within 60 s of acceptance."""
    taken = await steps.submitted(BOB, require=Level.DISPLAYED)
    steps.pass_time(seconds=seconds)
    await steps.receive(disposed(about(DISPLAYED, taken), f"{mode}; displayed"))
    row = await steps.recipient(taken)
    assert (row.disposition, row.receipt) == (disposition, "met" if disposition == "displayed" else "open")
    shown = (await event(steps, taken, EventKind.DISPLAYED)).detail
    assert (shown["disposition_mode"], shown.get("automatic", False)) == (mode.lower(), mode.startswith("automatic"))


@pytest.mark.parametrize("swapped", [False, True])
async def test_a_reader_who_deletes_what_was_shown(steps: StepsFixture, swapped: bool) -> None:
    """Displayed + deleted."""
    taken = await steps.submitted(BOB, require=Level.DISPLAYED)
    shown = about(DISPLAYED, taken)
    raws = [shown, disposed(shown, "manual-action/MDN-sent-manually; deleted")]
    row = await come(steps, taken, *(reversed(raws) if swapped else raws))
    assert tracks(row) == ("delivered", "displayed", "met", "displayed")


# --- addresses we did not send to ---------------------------------------------------------------------------------


async def test_a_member_of_a_list_reads_it(steps: StepsFixture) -> None:
    """A report that names an address we did not send to."""
    taken = await steps.submitted("list@lists.test", require=Level.DISPLAYED)
    row = await come(steps, taken, about(DISPLAYED, taken))
    assert tracks(row) == ("delivered", "dispatched", "open", "delivered")
    row = await come(steps, taken, about("expanded-postfix-virtual", taken, address="list@lists.test"))
    assert tracks(row)[1:] == ("displayed", "met", "displayed"), "a report says list"


async def test_a_member_of_a_list_reads_it_where_the_policy_counts_that(tmp_path: Path) -> None:
    async with open_steps(tmp_path, policy={"default": {"onward": True}}) as steps:
        row = await after(steps, DISPLAYED, address="list@lists.test", require=Level.DISPLAYED)
        assert tracks(row)[1:] == ("displayed", "met", "displayed")


async def test_the_target_of_a_forward_does_not_exist(steps: StepsFixture) -> None:
    taken = await steps.submitted("fwd-nosuch@osmtpd.test")
    row = await come(steps, taken, about("fwd-fail-osmtpd", taken))
    assert tracks(row)[::2] == ("failed", "failed")
    assert branches(row) == {"nosuch@b.test": "failed"}


async def test_a_report_names_another_recipient_of_the_message_too(tmp_path: Path) -> None:
    async with open_steps(tmp_path, policy={"default": {"minimum_trust": "plausible"}}) as steps:
        taken = await steps.submitted("alice@box.test", "bob@box.test")
        await come(steps, taken, about("partial-box--b--delivered", taken))
        alice, bob = (await steps.whole(taken)).recipients
        assert (tracks(alice), alice.trust) == (("delivered", "none", "met", "delivered"), Trust.SEALED)
        assert (tracks(bob), bob.trust) == (("delivered", "none", "met", "delivered"), Trust.PLAUSIBLE)


# --- answers and complaints ---------------------------------------------------------------------------------------


def answer(
    taken: AcceptedMessage, *lines: str, to: str = "office@a.test", sender: str = BOB, text: str = "Thanks."
) -> bytes:
    """Return an answer as Thunderbird writes it, with further header *lines*."""
    header = (
        f"Return-Path: <{sender}>",
        f"Delivered-To: {to}",
        "Message-ID: <149fd810-cb5b-4c58-85ae-95c07d89307a@b.test>",
        "Date: Tue, 24 Nov 2026 09:35:21 +0000",
        "MIME-Version: 1.0",
        "User-Agent: Mozilla Thunderbird",
        "Subject: Re: An invoice",
        f"To: {to}",
        f"References: {taken.message.message_id}",
        f"From: Bob Test <{sender}>",
        f"In-Reply-To: {taken.message.message_id}",
        "Content-Type: text/plain; charset=UTF-8; format=flowed",
        *lines,
    )
    return "\n".join((*header, "", text, "", "> Good day.", "")).encode()


async def test_a_person_answers(steps: StepsFixture) -> None:
    """Human reply: In-Reply-To ours, not auto-submitted, From the recipient or known behind it, not addressed to a
    return path."""
    taken = await steps.submitted(BOB, require=Level.DISPLAYED)
    row = await come(steps, taken, answer(taken))
    assert (tracks(row), row.trust) == (("delivered", "replied", "met", "replied"), Trust.PLAUSIBLE)


@pytest.mark.parametrize("who", ["a robot", "ourselves", "the return path"])
async def test_an_answer_that_is_no_persons(steps: StepsFixture, who: str) -> None:
    taken = await steps.submitted(BOB, require=Level.DISPLAYED)
    raw = {
        "a robot": answer(taken, "Auto-Submitted: auto-generated"),
        "ourselves": answer(taken, sender="office@a.test"),
        "the return path": answer(taken, to=f"receipts+{taken.recipients[0].token}@a.test"),
    }[who]
    assert tracks(await come(steps, taken, raw)) == ("accepted", "none", "open", "accepted")


def subscribed(folder: Path) -> dict[str, Any]:
    """Return a webhook that takes automatic answers too."""
    settings: Settings = settings_in(folder)
    hook = {"name": "ops", "url": "http://127.0.0.1:1/ops", "secret_file": str(settings.webhook[0].secret_file)}
    return {"webhook": [hook | {"events": ["receipt.*", "receipt.auto_reply"]}], "policy": {}}


async def test_dovecots_vacation(tmp_path: Path) -> None:
    """Auto-reply, out of office."""
    async with open_steps(tmp_path, **subscribed(tmp_path)) as steps:
        taken = await steps.submitted(BOB)
        raw = (
            f"Return-Path: <>\nDelivered-To: receipts+{taken.recipients[0].token}@a.test\n"
            "Message-ID: <dovecot-sieve-1795487642-959943-0@mx.b.test>\nDate: Tue, 24 Nov 2026 09:31:00 +0000\n"
            f"From: <{BOB}>\nTo: <receipts+{taken.recipients[0].token}@a.test>\nSubject: Auto: An invoice\n"
            f"In-Reply-To: {taken.message.message_id}\nReferences: {taken.message.message_id}\n"
            "Auto-Submitted: auto-replied (vacation)\nPrecedence: bulk\nX-Auto-Response-Suppress: All\n"
            "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nI am back on 7 December 2026.\n"
        )
        row = await come(steps, taken, raw.encode())
        assert tracks(row) == ("accepted", "none", "open", "accepted")
        said = (await event(steps, taken, EventKind.AUTO_REPLIED)).detail
        assert (said["excerpt"], said["returns_at"][:10]) == ("I am back on 7 December 2026.", "2026-12-07")
        assert [kind for kind, _ in await told(steps)] == ["auto_reply"]


async def test_tmda_asks_the_sender_to_prove_that_it_is_a_person(tmp_path: Path) -> None:
    """Challenge-response."""
    async with open_steps(tmp_path, **subscribed(tmp_path)) as steps:
        taken = await steps.submitted(BOB)
        raw = (
            f"Return-Path: <>\nDelivered-To: receipts+{taken.recipients[0].token}@a.test\n"
            "Date: Tue, 24 Nov 2026 09:31:00 +0000\nMessage-ID: <1795512660.4711.TMDA@b.test>\n"
            f"From: Bob <{BOB}>\nTo: receipts+{taken.recipients[0].token}@a.test\n"
            "Subject: Please confirm your message\nReply-To: bob-confirm-1795512660.4711.abcdef@b.test\n"
            "Precedence: bulk\nAuto-Submitted: auto-replied\nX-TMDA-Fingerprint: 0aB1cD2eF3\n"
            "X-Delivery-Agent: TMDA/1.1.12 (Macallan)\nMIME-Version: 1.0\n"
            "Content-Type: text/plain; charset=us-ascii\n\n"
            "This message was created automatically by mail delivery software (TMDA).\n\n"
            "Your message attached below is being held because the address\n<office@a.test> has not been verified.\n\n"
            "To release your message for delivery, please send an empty message\nto the following address, or use your "
            'mailer\'s "Reply" feature.\n\n   bob-confirm-1795512660.4711.abcdef@b.test\n'
        )
        row = await come(steps, taken, raw.encode())
        assert tracks(row) == ("accepted", "none", "open", "accepted")
        assert (await event(steps, taken, EventKind.HELD)).trust is Trust.KEYED
        assert "challenge" in (row.reason or "")
        assert [kind for kind, _ in await told(steps)] == ["auto_reply"]


@pytest.mark.parametrize("delivered", [True, False])
async def test_a_feedback_loop_passes_a_complaint_on(steps: StepsFixture, delivered: bool) -> None:
    """ARF complaint."""
    taken = await steps.submitted(BOB)
    before = await come(steps, taken, *([about(DELIVERED, taken, address=BOB)] if delivered else []))
    path = f"receipts+{taken.recipients[0].token}@a.test"
    raw = (
        f"Return-Path: <abusedesk@b.test>\nDelivered-To: {path}\nFrom: <abusedesk@b.test>\n"
        f"Date: Tue, 24 Nov 2026 09:40:00 +0000\nSubject: FW: An invoice\nTo: <{path}>\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=feedback-report;\n boundary="part1_13d.2e68ed54_boundary"\n\n'
        '--part1_13d.2e68ed54_boundary\nContent-Type: text/plain; charset="US-ASCII"\n\n'
        "This is an email abuse report for an email message received from IP\n192.0.2.1.\n\n"
        "--part1_13d.2e68ed54_boundary\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n"
        f"User-Agent: SomeGenerator/1.0\nVersion: 1\nOriginal-Mail-From: <{path}>\nOriginal-Rcpt-To: <{BOB}>\n\n"
        "--part1_13d.2e68ed54_boundary\nContent-Type: message/rfc822\nContent-Disposition: inline\n\n"
        f"Disposition-Notification-To: <{path}>\nFrom: office@a.test\nTo: {BOB}\n"
        f"Message-ID: {taken.message.message_id}\nSubject: An invoice\n\nGood day.\n--part1_13d.2e68ed54_boundary--\n"
    )
    row = await come(steps, taken, raw.encode())
    assert tracks(row) == tracks(before)
    assert (await event(steps, taken, EventKind.COMPLAINED)).matched_by == "return_path"
    assert await told(steps) == [("refused", True)]


# --- the table itself ---------------------------------------------------------------------------------------------


def test_every_row_of_the_table_is_shown() -> None:
    design = (Path(__file__).parent.parent / "docs" / "design.md").read_text(encoding="utf-8")
    table = design.partition("| facts | state |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = {_plain(line.split(" | ")[0]) for line in table}
    shown = {_plain(test.__doc__ or "") for name, test in globals().items() if name.startswith("test_")}
    assert len(rows) == 19
    assert rows <= shown


def _plain(words: str) -> str:
    return " ".join(words.replace("`", "").replace("*", "").strip("| .").lower().split())
