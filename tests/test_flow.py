"""The laws of docs/design.md §1, whatever happens in whatever order: Hypothesis plays relay, mail world, clock, people.

Nothing lost: in the end every recipient is in a known state, or somebody was told. Nothing twice: no alert says what
another said, and no copy leaves after one that was answered. A state is what its events prove, and nothing else.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from sqlmodel import select

from receiptd import correlation_token, decide, lifecycle
from receiptd.decide import Pointless
from receiptd.escalate import escalate
from receiptd.facts import Delivery, EventKind, Level, Receipt
from receiptd.models import Alert, Message, Recipient
from receiptd.recipients import attempts
from receiptd.smtp import Relay
from receiptd.standing import demand_of, state_columns
from receiptd.store import events as recorded
from receiptd.store.monitors import Health
from receiptd.submit import submit
from receiptd.watchdog import Watchdog
from tests.fake_smtp import Drop, FakeSMTP, Step
from tests.steps_fixture import StepsFixture, dsn, open_steps

T = TypeVar("T")

# What the relay answers to RCPT and to the final dot of the next transactions.
ANSWERS: dict[str, tuple[str, Step]] = {
    "accept": (".", None),
    "refuse the recipient": ("RCPT", "550 5.1.1 no such user"),
    "refuse the content": (".", "554 5.6.0 no"),
    "put off": ("RCPT", "450 4.2.0 later"),
    "say nothing": (".", Drop()),
    "send us away": ("MAIL", "421 4.3.2 shutting down"),
}
ACTIONS = {"delayed": "4.0.0", "relayed": "2.0.0", "expanded": "2.0.0", "delivered": "2.0.0", "failed": "5.1.1"}
_WAITING = (Delivery.QUEUED, Delivery.DEFERRED, Delivery.UNCERTAIN)
_MET = (Receipt.MET, Receipt.MET_LATE, Receipt.WAIVED)


class Flow(RuleBasedStateMachine):
    """One sender's day. Every step is real; the relay is scripted, and reports come as the mailbox would give them."""

    rows = Bundle("rows")
    letters = Bundle("letters")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rcpt-"))
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.reports: list[bytes] = []
        self.health = Health("relay:relay")
        self.sent: list[str] = []
        self.run(self._open())

    async def _open(self) -> None:
        self.smtp = await self.stack.enter_async_context(FakeSMTP())
        submission = {"url": f"smtp://127.0.0.1:{self.smtp.port}"}
        self.steps: StepsFixture = await self.stack.enter_async_context(open_steps(self.folder, submission=submission))
        self.relay = Relay(self.steps.store.settings.submission)
        self.stack.push_async_callback(self.relay.close)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(
        target=letters,
        to=st.sampled_from([("bob@b.test",), ("bob@b.test", "carol@c.test")]),
        level=st.sampled_from(Level),
    )
    def hand_over(self, to: tuple[str, ...], level: Level) -> Any:
        if level is Level.REPLIED:
            return multiple()
        return self.run(self.steps.take(*to, require=level)).message.id

    @rule(answers=st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=3))
    def let_the_relay_answer(self, answers: list[str]) -> None:
        for verb, step in map(ANSWERS.__getitem__, answers):
            self.smtp.script.setdefault(verb, []).append(step)
        self.run(self._submit())
        self.smtp.script.clear()

    async def _submit(self) -> None:
        await submit(
            self.steps.store, self.relay, self.health, wake=asyncio.Event(), stop=asyncio.Event(), watchdog=Watchdog()
        )

    @rule(letter=letters, number=st.integers(0, 1), action=st.sampled_from(sorted(ACTIONS)), late=st.integers(0, 3))
    def let_a_report_come(self, letter: str, number: int, action: str, late: int) -> None:
        rows = [row for row in self._rows() if row.message == letter]
        row = rows[number % len(rows)]
        if row.token not in self.sent_tokens():
            return
        raw = dsn(row.token, action=action, status=ACTIONS[action], recipient=row.address)
        self.reports.append(raw.replace(b"See below", f"Report {len(self.reports)}".encode()))
        received_at = self.steps.instant - timedelta(hours=late)
        self.run(self.steps.receive(self.reports[-1], received_at=received_at))

    @rule(number=st.integers(0, 100))
    def let_a_report_come_again(self, number: int) -> None:
        if self.reports:
            self.run(self.steps.receive(self.reports[number % len(self.reports)]))

    @rule(minutes=st.sampled_from([1, 16, 61, 250, 1500, 7000]))
    def pass_time(self, minutes: int) -> None:
        self.steps.pass_time(minutes=minutes)

    @rule(is_read=st.booleans())
    def judge(self, is_read: bool) -> None:
        self.run(self.steps.judge() if is_read else escalate(self.steps.store))

    @rule(
        letter=letters,
        number=st.integers(0, 1),
        verb=st.sampled_from(["waive", "confirm", "acknowledge", "cancel", "retry"]),
    )
    def decide(self, letter: str, number: int, verb: str) -> None:
        rows = [row for row in self._rows() if row.message == letter]
        try:
            self.run(self._decide(rows[number % len(rows)], verb))
        except Pointless:
            return

    @rule(target=letters, letter=letters)
    def send_again(self, letter: str) -> Any:
        try:
            return self.run(decide.resend(self.steps.store, letter, by="uid:0")).message.id
        except Pointless:
            return multiple()

    async def _decide(self, row: Recipient, verb: str) -> None:
        store = self.steps.store
        if verb == "cancel":
            await decide.cancel(store, row.message, by="uid:0")
        elif verb == "retry":
            await decide.retry(store, row.message)
        elif verb == "acknowledge":
            await decide.acknowledge(store, row.id, by="uid:0", reason="x", lasting=timedelta(days=1))
        else:
            await {"waive": decide.waive, "confirm": decide.confirm}[verb](store, row.id, by="uid:0", reason="x")

    @rule()
    def let_webhooks_be_tried(self) -> None:
        self.run(self._try_webhooks())

    async def _try_webhooks(self) -> None:
        async with self.steps.store.write() as session:
            for dispatch in await self.steps.dispatches():
                if dispatch.outcome == "pending":
                    dispatch.attempts, dispatch.outcome, dispatch.due_at = 1, "delivered", None
                    await session.merge(dispatch)

    @rule()
    def start_again(self) -> None:
        """The process dies, and another one takes over."""
        self.steps.store.node += "+"
        self.run(attempts.recover(self.steps.store))

    # --- what must be true ----------------------------------------------------------------------------------------

    def _rows(self) -> list[Recipient]:
        async def read() -> list[Recipient]:
            async with self.steps.store.read() as session:
                return list((await session.exec(select(Recipient))).all())

        return self.run(read())

    def _alerts(self) -> list[Alert]:
        return self.run(self.steps.alerts())

    def sent_tokens(self) -> Counter[str]:
        """Return how often each token went out, to its final dot."""
        return Counter(correlation_token.find(raw.partition(b"\r\n\r\n")[0].decode())[0] for raw in self.smtp.messages)

    @invariant()
    def a_state_is_what_its_events_prove(self) -> None:
        async def compare() -> None:
            async with self.steps.store.read() as session:
                rows = (await session.exec(select(Recipient))).all()
            for row in rows:
                events = await self._events(row)
                folded = lifecycle.fold(events, demand_of(row))
                shown = state_columns(folded)
                assert shown == {name: getattr(row, name) for name in shown}, events

        self.run(compare())

    @invariant()
    def no_two_alerts_say_the_same(self) -> None:
        meanings = Counter((one.recipient, one.incident, one.kind, one.level) for one in self._alerts())
        assert all(times == 1 for times in meanings.values()), meanings

    @invariant()
    def no_copy_leaves_after_one_that_was_answered(self) -> None:
        sent = self.sent_tokens()
        for row in self._rows():
            events = self.run(self._events(row))
            unknown = [event for event in events if event.kind is EventKind.UNCERTAIN]
            assert sent[row.token] <= 1 + len(unknown), (row.delivery, events)

    async def _events(self, row: Recipient) -> Any:
        return await self.steps.store.query(lambda session: recorded.of(session, [row.id]))

    async def _resent_from(self) -> dict[str, str | None]:
        async with self.steps.store.read() as session:
            return {one.id: one.resent_from for one in (await session.exec(select(Message))).all()}

    @invariant()
    def of_all_copies_of_a_message_one_is_on_its_way(self) -> None:
        first = self.run(self._resent_from())
        copies = [row for row in self._rows() if first[row.message] is not None]
        awaited = [row for row in copies if row.delivery in _WAITING or row.receipt is Receipt.OPEN]
        times = Counter((first[row.message], row.address) for row in awaited)
        assert all(number == 1 for number in times.values()), times

    @invariant()
    def whose_copy_is_met_is_met(self) -> None:
        first, rows = self.run(self._resent_from()), {(row.message, row.address): row for row in self._rows()}
        for row in rows.values():
            if first[row.message] is not None and row.receipt in (Receipt.MET, Receipt.MET_LATE):
                assert rows[str(first[row.message]), row.address].receipt in _MET, row

    @invariant()
    def an_incident_is_open_as_long_as_its_alerts_are(self) -> None:
        alerts = self._alerts()
        for row in self._rows():
            unresolved = {
                one.incident
                for one in alerts
                if one.recipient == row.id and one.resolved_at is None and one.kind != "resolved"
            }
            assert unresolved == ({row.incident} if row.incident_opened_at else set()), row

    @invariant()
    def who_is_met_is_not_told_otherwise(self) -> None:
        """No deadline is called missed by somebody who has met it."""
        for row in self._rows():
            if row.receipt in _MET and row.incident_opened_at is not None:
                events = self.run(self._events(row))
                assert any(event.kind in (EventKind.FAILED, EventKind.COMPLAINED) for event in events), row

    def teardown(self) -> None:
        try:
            self._in_the_end_everything_is_known_or_told()
        finally:
            self.run(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.folder)

    def _in_the_end_everything_is_known_or_told(self) -> None:
        for _ in range(3):
            self.steps.pass_time(days=10)
            self.run(self._submit())
            self.run(self.steps.judge())
        told = {one.recipient for one in self._alerts()}
        for row in self._rows():
            assert row.receipt in _MET or row.id in told, row
            assert row.receipt is not Receipt.OPEN or row.delivery is Delivery.UNCERTAIN, row


# A day takes as long as a hundred examples of a pure function: of these the thorough profile plays a hundred too.
Flow.TestCase.settings = settings(max_examples=max(10, settings().max_examples // 20), stateful_step_count=20)
# Hypothesis takes up to five minutes to shorten a day on which a law was broken; cut off before, it would tell none.
test_the_laws_hold_whatever_happens_in_whatever_order = pytest.mark.timeout(600)(Flow.TestCase)
