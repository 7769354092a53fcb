"""Transactions one after the other on one connection: while a message waits for its reply, the next one's MAIL, RCPT
and DATA are on their way (RFC 2920 §3.1), and every reply is checked."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Protocol, TypeVar

from receiptd.errors import BadData
from receiptd.smtp.connection import Connection
from receiptd.smtp.envelope import Envelope
from receiptd.smtp.outcome import Dropped, Outcome, Refused, RelayDown, Uncertain
from receiptd.smtp.timeouts import Timeouts
from receiptd.smtp.transaction import Command, Transaction, bad_data, refused_unseen
from receiptd.smtp.wire import ConnectionLost

SMALL = 256 << 10
"""Octets; a message beyond it takes long to send, and nobody should wait behind it."""
STALL_SECONDS = 5.0
"""A final reply later than this holds nobody up: the message behind it goes over another connection."""


Key = TypeVar("Key")


class Job(Generic[Key]):
    """An envelope on its way, and how far it came on the connection that carries it now."""

    __slots__ = (
        "commands",
        "dsn_refused",
        "envelope",
        "group",
        "is_at_risk",
        "is_sent",
        "key",
        "put_at",
        "transaction",
        "was_dropped",
    )

    def __init__(self, key: Key, envelope: Envelope) -> None:
        self.key, self.envelope = key, envelope
        self.put_at = asyncio.get_running_loop().time()
        self.was_dropped = False
        """A connection ended under it, so it goes next over a new one."""
        self.dsn_refused = False
        self.start_over()

    def start_over(self) -> None:
        """Forget the connection that carried it: nothing of its content was sent there."""
        self.transaction: Transaction | None = None
        self.commands: list[Command] = []
        self.group = b""
        """The commands as they are written."""
        self.is_sent = False
        """MAIL, RCPT and DATA are written."""
        self.is_at_risk = False
        """The final dot was written, and there is no reply yet."""


class Feed(Protocol[Key]):
    """Where a pipeline gets its jobs from, and whom it tells what became of them."""

    is_quick: bool
    """The relay's final replies come soon, so it is worth sending the next envelope ahead."""

    def next(self) -> Job[Key] | None:
        """Return a job that may start now, or None."""

    def done(self, job: Job[Key], outcome: Outcome) -> None: ...

    def give_back(self, job: Job[Key]) -> None:
        """Take back a job that waits too long behind another; it may start elsewhere."""


class Pipeline(Generic[Key]):
    """Jobs on one connection.

    A group is `RSET MAIL RCPT DATA`; it is written right behind the content of the job before it. The content of a
    job is written only after 354 to its own DATA, with MAIL and RCPT accepted: a reply out of order ends the
    connection without a dot.
    """

    def __init__(self, connection: Connection, feed: Feed[Key], timeouts: Timeouts, *, without_dsn: str) -> None:
        self._connection, self._wire, self._feed = connection, connection.wire, feed
        self._timeouts, self._without_dsn = timeouts, without_dsn
        self._current: Job[Key] | None = None
        self._following: Job[Key] | None = None
        self._preparing: Job[Key] | None = None
        self.carried = 0
        """How many jobs got their outcome."""

    @property
    def unfinished(self) -> list[Job[Key]]:
        """The jobs without an outcome when `run` ended with an exception: no content of theirs was taken."""
        return [job for job in (self._current, self._following, self._preparing) if job is not None]

    async def run(self, first: Job[Key]) -> None:
        """Carry *first* and what the feed gives, until it gives no more.

        Raises Dropped where the connection ended and others may work, RelayDown for what is about us. Whatever
        ends it, a job that was at risk has got its outcome: uncertain.
        """
        try:
            job = self._prepared(first) or self._next()
            while job is not None:
                job = await self._one(job)
        finally:
            if (at_risk := self._current) is not None and at_risk.is_at_risk and at_risk.transaction is not None:
                self._done(at_risk, at_risk.transaction.uncertain("we closed the connection"))

    async def _one(self, job: Job[Key]) -> Job[Key] | None:
        """Carry one job, whose group may be sent already; return the next one."""
        self._current, self._following = job, None
        transaction = _transaction(job)
        await self._envelope(job, transaction)
        if transaction.verdict is not None and transaction.again_without_dsn():
            job.dsn_refused, job.is_sent = True, False
            self._write_group(job, transaction)
            await self._envelope(job, transaction)
        if transaction.verdict is None:
            return await self._content(job, transaction)
        if isinstance(transaction.verdict, RelayDown):
            raise transaction.verdict
        self._done(job, transaction.verdict)
        return self._next()

    # The envelope.

    async def _envelope(self, job: Job[Key], transaction: Transaction) -> None:
        """Send the group where it isn't sent yet, and take its replies; without PIPELINING one by one."""
        if not self._connection.pipelines:
            for command in job.commands:
                self._send(transaction, command, f"{command[1]}\r\n".encode(), 1)
                await self._take(job, transaction, command)
                if transaction.verdict is not None:
                    return
            return
        if not job.is_sent:
            self._send(transaction, job.commands[0], job.group, len(job.commands))
            job.is_sent = True
        for command in job.commands:
            await self._take(job, transaction, command)

    def _send(self, transaction: Transaction, first: Command, written: bytes, replies: int) -> None:
        try:
            self._wire.send(written, replies)
        except ConnectionLost as error:
            raise transaction.dropped(first[0], str(error)) from error

    async def _take(self, job: Job[Key], transaction: Transaction, command: Command) -> None:
        stage, line = command
        try:
            try:
                reply = await self._wire.receive(self._timeouts.data if stage == "DATA" else self._timeouts.envelope)
            except ConnectionLost as error:
                raise transaction.dropped(stage, str(error)) from error
            transaction.take(stage, line, reply)
        except Dropped as dropped:
            self._wire.abort(str(dropped))
            if isinstance(transaction.verdict, RelayDown):  # it says more than the end that followed it
                raise transaction.verdict from dropped
            if isinstance(transaction.verdict, Refused) and transaction.again_without_dsn():
                job.dsn_refused = True
            elif isinstance(transaction.verdict, Refused):
                self._done(job, transaction.verdict)
            raise

    # The content.

    async def _content(self, job: Job[Key], transaction: Transaction) -> Job[Key] | None:
        """Write the content, the next group right behind it, and take the final reply; return the next job."""
        envelope = job.envelope
        is_ahead = self._connection.pipelines and self._feed.is_quick and envelope.size <= SMALL
        self._following = following = self._next() if is_ahead else None
        group, replies = (following.group, len(following.commands)) if following is not None else (b"", 0)
        try:
            is_whole = await self._wire.send_content(envelope.header, transaction.stuffed(), group, replies)
        except ConnectionLost as error:
            raise transaction.cut_off(str(error)) from error
        if is_whole:
            job.is_at_risk = True
            transaction.note_dot()
            if following is not None:
                following.is_sent = True
        await self._final(job, transaction)
        if not is_whole:
            raise transaction.dropped("DATA", "it refused the content before its end")
        if self._following is None and following is not None:  # it was given back
            self._wire.abort("the message behind a late reply went over another connection")
            return None
        return following if following is not None else self._next()

    async def _final(self, job: Job[Key], transaction: Transaction) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stall = loop.call_later(STALL_SECONDS, self._give_back_following) if self._following is not None else None
        try:
            reply = await self._wire.receive(self._timeouts.final)
        except ConnectionLost as error:
            self._done(job, transaction.uncertain(str(error)))
            raise transaction.dropped("final dot", str(error)) from error
        finally:
            if stall is not None:
                stall.cancel()
        self._feed.is_quick = loop.time() - began < 1
        job.is_at_risk = False
        outcome = transaction.take_final(reply)
        if isinstance(outcome, RelayDown):
            raise outcome
        self._connection.needs_reset = self._following is not None or not reply.is_positive
        self._done(job, outcome)
        if isinstance(outcome, Uncertain):
            raise transaction.dropped("final dot", str(reply))

    def _give_back_following(self) -> None:
        """Let the next message go elsewhere: only its envelope was sent here, and this connection ends without it."""
        if (job := self._following) is not None:
            self._following = None
            job.start_over()
            self._feed.give_back(job)

    # Jobs.

    def _next(self) -> Job[Key] | None:
        """Return the next job that this relay can take; tell at once what it can't."""
        while (job := self._feed.next()) is not None:
            if (prepared := self._prepared(job)) is not None:
                return prepared
        return None

    def _prepared(self, job: Job[Key]) -> Job[Key] | None:
        """Return *job* with its commands; None where it was refused without a word to the relay."""
        self._preparing = job
        try:
            refused = refused_unseen(job.envelope) or self._refused_by_offer(job)
        except BadData as error:
            refused = bad_data(error)
        self._preparing = None
        if refused is None:
            return job
        self._done(job, refused)
        return None

    def _refused_by_offer(self, job: Job[Key]) -> Refused | None:
        transaction = Transaction(job.envelope, self._connection.peer, without_dsn=self._without_dsn)
        if job.dsn_refused:
            transaction.leave_dsn_out()
        if (refused := transaction.refused_by_offer()) is None:
            self._write_group(job, transaction)
        return refused

    def _write_group(self, job: Job[Key], transaction: Transaction) -> None:
        commands = transaction.commands(reset=self._connection.needs_reset)
        job.transaction, job.commands = transaction, [*commands, ("DATA", "DATA")]
        job.group = "".join(f"{line}\r\n" for _, line in job.commands).encode()
        self._connection.needs_reset = True

    def _done(self, job: Job[Key], outcome: Outcome) -> None:
        self.carried += 1
        job.is_at_risk = False
        if job is self._current:
            self._current = None
        self._feed.done(job, outcome)


def _transaction(job: Job[Any]) -> Transaction:
    if job.transaction is None:
        raise RuntimeError("a job was started before it was prepared")
    return job.transaction
