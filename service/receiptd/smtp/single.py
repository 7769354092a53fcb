"""One transaction by itself, with a pause for the caller's commit between RCPT and DATA."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from receiptd.smtp.connection import Connection
from receiptd.smtp.outcome import Dropped, Outcome, RelayDown, Uncertain
from receiptd.smtp.reply import Dialogue, Reply
from receiptd.smtp.timeouts import Timeouts
from receiptd.smtp.transaction import Command, Transaction
from receiptd.smtp.wire import ConnectionLost

BeforeData = Callable[[Dialogue], Awaitable[None]]


async def carry(
    connection: Connection, transaction: Transaction, timeouts: Timeouts, before_data: BeforeData
) -> Outcome:
    """Carry *transaction* over; *before_data* is awaited between the accepted RCPT and DATA, once.

    Raises RelayDown for what isn't about the message, Dropped where it is certain that DATA was never sent.
    The connection is usable after a return, and must be closed after an exception.
    """
    if (refused := transaction.refused_by_offer()) is not None:
        return refused
    single = _Single(connection, transaction, timeouts)
    await single.envelope()
    if transaction.again_without_dsn():
        await single.envelope()
    if transaction.verdict is None:
        await before_data(transaction.dialogue)
        return await single.content()
    return _told(transaction.verdict)


class _Single:
    def __init__(self, connection: Connection, transaction: Transaction, timeouts: Timeouts) -> None:
        self._connection, self._wire = connection, connection.wire
        self._transaction, self._timeouts = transaction, timeouts

    async def envelope(self) -> None:
        """Send MAIL and RCPT, in one write where the relay pipelines, else one by one until one is refused."""
        commands = self._transaction.commands(reset=self._connection.needs_reset)
        self._connection.needs_reset = True
        groups = [commands] if self._connection.pipelines else [[command] for command in commands]
        for group in groups:
            self._send(group)
            for command in group:
                await self._take(command, self._timeouts.envelope)
            if self._transaction.verdict is not None:
                return

    def _send(self, commands: list[Command]) -> None:
        try:
            self._wire.send("".join(f"{line}\r\n" for _, line in commands).encode(), len(commands))
        except ConnectionLost as error:
            raise self._transaction.dropped(commands[0][0], str(error)) from error

    async def _take(self, command: Command, seconds: float) -> None:
        stage, line = command
        try:
            reply = await self._wire.receive(seconds)
        except ConnectionLost as error:
            raise self._transaction.dropped(stage, str(error)) from error
        try:
            self._transaction.take(stage, line, reply)
        except Dropped as dropped:
            self._wire.abort(str(dropped))
            raise

    async def content(self) -> Outcome:
        try:
            self._send([("DATA", "DATA")])
            await self._take(("DATA", "DATA"), self._timeouts.data)
        except Dropped as dropped:  # the caller has committed an attempt, so this isn't tried again unseen
            raise RelayDown("data", str(dropped)) from dropped
        if self._transaction.verdict is not None:
            return _told(self._transaction.verdict)
        return _told(await self._body())

    async def _body(self) -> Outcome | RelayDown:
        transaction = self._transaction
        try:
            is_whole = await self._wire.send_content(transaction.envelope.header, transaction.stuffed())
        except ConnectionLost as error:
            raise transaction.cut_off(str(error)) from error
        if is_whole:
            transaction.note_dot()
        try:
            reply: Reply = await self._wire.receive(self._timeouts.final)
        except ConnectionLost as error:
            return transaction.uncertain(str(error))
        outcome = transaction.take_final(reply)
        self._connection.needs_reset = not reply.is_positive
        if isinstance(outcome, Uncertain):
            self._wire.abort(outcome.reason)
        return outcome


def _told(verdict: Outcome | RelayDown) -> Outcome:
    if isinstance(verdict, RelayDown):
        raise verdict
    return verdict
