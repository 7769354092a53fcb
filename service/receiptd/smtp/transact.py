"""One transaction on an open connection, and what its replies mean (docs/design.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from receiptd import correlation_token
from receiptd.compose import mail_parameters, rcpt_parameters
from receiptd.smtp.connection import Connection
from receiptd.smtp.fault import refusal
from receiptd.smtp.outcome import (
    LONGEST_LINE,
    Accepted,
    Dropped,
    Outcome,
    Place,
    Refused,
    RefusedAt,
    RelayDown,
    Transaction,
    Uncertain,
    check_parameter,
    shown,
)
from receiptd.smtp.reply import Dialogue, Reply, alias_message_id
from receiptd.smtp.wire import Lost

BeforeData = Callable[[Dialogue], Awaitable[None]]

_PARAMETERS_REFUSED = frozenset({501, 504, 555})
_ABOUT_US = frozenset({503, 530})
"""Replies to RCPT that are about the session, never about the recipient: wrong order of commands, AUTH or
STARTTLS wanted (RFC 4954 §6)."""
_SHUTTING_DOWN = 421


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a reply (RFC 5321 §4.5.3.2 gives these as minima)."""

    final: float
    envelope: float = 300
    data: float = 120


def too_long(transaction: Transaction) -> Refused | None:
    """Return the refusal of a message that no relay may take, before any is asked."""
    if transaction.longest_line <= LONGEST_LINE:
        return None
    reason = f"the message has a line of {transaction.longest_line} octets, and SMTP carries {LONGEST_LINE} at most"
    return Refused("message", permanent=True, reply=None, reason=reason, dialogue="")


class Exchange:
    """One transaction under way; the dialogue grows with it."""

    def __init__(self, connection: Connection, transaction: Transaction, patience: Patience) -> None:
        self._connection = connection
        self._transaction = transaction
        self._patience = patience
        self._offered = connection.capabilities
        self._dialogue = Dialogue(connection.opening)
        self._final_dot: float | None = None

    async def run(self, before_data: BeforeData, *, without_dsn: str) -> Outcome:
        """Carry the message over; *before_data* is awaited between the accepted RCPT and DATA, once.

        Raises RelayDown for what isn't about the message. The connection is usable after a return, and to
        be closed after an exception.
        """
        transaction = self._transaction
        if refused := self._unfit(needs_dsn=transaction.request_dsn and without_dsn == "refuse"):
            return refused
        dsn, dsn_refused = transaction.request_dsn and self._offered.dsn, False
        refused = await self._envelope(dsn=dsn)
        if refused is not None and refused.place == "dsn" and without_dsn != "refuse":
            dsn, dsn_refused = False, True
            refused = await self._envelope(dsn=False)
        if refused is not None:
            return refused
        await before_data(self._dialogue)
        return await self._content(dsn=dsn, dsn_refused=dsn_refused)

    def _unfit(self, *, needs_dsn: bool) -> Refused | None:
        """Return why this relay can't take the message as it is; nothing was said yet."""
        transaction, offered = self._transaction, self._offered
        if offered.size and len(transaction.content) > offered.size:
            reason = f"the message has {len(transaction.content)} octets, and the relay takes {offered.size} at most"
            return self._refused("size", None, reason)
        if needs_dsn and not offered.dsn:
            return self._refused("dsn", None, 'the relay offers no delivery reports, and without_dsn = "refuse"')
        if self._is_international and not offered.smtputf8:
            return self._refused("message", None, "an address needs SMTPUTF8, which the relay doesn't offer")
        if transaction.needs_8bitmime and not offered.eightbitmime:
            return self._refused("message", None, "the message is 8-bit, and the relay doesn't offer 8BITMIME")
        return None

    @property
    def _needs_smtputf8(self) -> bool:
        """A header in UTF-8 goes as 8-bit to a relay without it, as every sendmail sends it: most take that."""
        return self._is_international or (self._transaction.needs_smtputf8 and self._offered.smtputf8)

    @property
    def _is_international(self) -> bool:
        """Whether an address of the envelope isn't ASCII."""
        return not (self._transaction.recipient + self._transaction.return_path).isascii()

    async def _envelope(self, *, dsn: bool) -> Refused | None:
        """Say MAIL and RCPT; return None once both are taken."""
        commands: list[tuple[Place, str]] = [("mail", self._mail(dsn=dsn)), ("rcpt", self._rcpt(dsn=dsn))]
        if self._connection.needs_reset:
            commands.insert(0, ("mail", "RSET"))
        self._connection.needs_reset = True
        said = await self._say(commands)
        for place, command, reply in said:
            # 354 to anything but DATA: the two sides no longer speak of the same transaction, and what we
            # say next would be content. So no reply is judged before all are looked at.
            if reply.code == _SHUTTING_DOWN or reply.code < 200 or 300 <= reply.code < 400:
                raise self._dropped(place, str(reply))
            if command == "RSET" and not reply.is_positive:
                raise self._dropped(place, str(reply))
        return next((self._meaning(place, reply, dsn=dsn) for place, _, reply in said if not reply.is_positive), None)

    def _mail(self, *, dsn: bool) -> str:
        transaction = self._transaction
        parameters = mail_parameters(
            envelope_id=transaction.envelope_id,
            ret=transaction.ret,
            smtputf8=self._needs_smtputf8,
            body_8bit=transaction.needs_8bitmime,
            size=None if self._offered.size is None else len(transaction.content),
            dsn=dsn,
        )
        return " ".join([f"MAIL FROM:<{transaction.return_path}>", *map(check_parameter, parameters)])

    def _rcpt(self, *, dsn: bool) -> str:
        transaction = self._transaction
        parameters = rcpt_parameters(
            transaction.recipient, notify=transaction.notify, smtputf8=self._needs_smtputf8, dsn=dsn
        )
        return " ".join([f"RCPT TO:<{transaction.recipient}>", *map(check_parameter, parameters)])

    async def _say(self, commands: list[tuple[Place, str]]) -> list[tuple[Place, str, Reply]]:
        """Say *commands*, in one write where the relay pipelines; else none after the first that is refused."""
        if not self._offered.pipelining:
            said: list[tuple[Place, str, Reply]] = []
            for place, command in commands:
                said.append((place, command, await self._hear(place, command, self._send([(place, command)])[0])))
                if not said[-1][2].is_positive:
                    break
            return said
        owed = self._send(commands)
        return [
            (place, command, await self._hear(place, command, reply))
            for (place, command), reply in zip(commands, owed, strict=True)
        ]

    def _send(self, commands: list[tuple[Place, str]]) -> list[asyncio.Future[Reply]]:
        wire = self._connection.wire
        try:
            wire.write("".join(f"{command}\r\n" for _, command in commands).encode())
        except Lost as error:
            raise self._dropped(commands[0][0], str(error)) from error
        return [wire.expect() for _ in commands]

    async def _hear(self, place: Place, command: str, owed: asyncio.Future[Reply]) -> Reply:
        self._dialogue.client(command)
        try:
            reply = await self._connection.wire.receive(owed, self._patience.envelope)
        except Lost as error:
            raise self._dropped(place, str(error)) from error
        self._dialogue.server(reply)
        return reply

    def _meaning(self, place: Place, reply: Reply, *, dsn: bool) -> Refused:
        """Return what a refused MAIL or RCPT says of the message; raise what it says of us."""
        if dsn and reply.code in _PARAMETERS_REFUSED:
            return self._refused(
                "dsn", reply, f"the relay refuses the parameters that ask for delivery reports: {_said(reply)}"
            )
        if reply.is_about_size:
            return self._refused("size", reply, f"the relay finds the message too big: {_said(reply)}")
        if place == "mail" or reply.code in _ABOUT_US:
            raise refusal(place, self._connection.server, reply)
        return self._refused("rcpt", reply, f"the relay refuses {shown(self._transaction.recipient)}: {_said(reply)}")

    async def _content(self, *, dsn: bool, dsn_refused: bool) -> Outcome:
        reply = await self._data()
        if reply.code == 354:
            try:
                owed = await self._connection.wire.send_content(self._transaction.content)
            except Lost as error:
                raise self._down("data", str(error)) from error
            self._final_dot = asyncio.get_running_loop().time()
            self._dialogue.note(f"{len(self._transaction.content)} octets of content, final dot")
            try:
                reply = await self._connection.wire.receive(owed, self._patience.final)
            except Lost as error:
                return self._uncertain(str(error))
            self._dialogue.server(reply)
            if reply.is_positive:
                self._connection.needs_reset = False
                alias = alias_message_id(reply, self._connection.server.host)
                return Accepted(reply, dsn, self._dialogue.text(), self._offered, alias, dsn_refused, self._waited())
        return self._verdict(reply)

    async def _data(self) -> Reply:
        self._dialogue.client("DATA")
        wire = self._connection.wire
        try:
            reply = await wire.receive(wire.send("DATA"), self._patience.data)
        except Lost as error:
            raise self._down("data", str(error)) from error
        self._dialogue.server(reply)
        if reply.code != 354 and reply.code < 400:
            raise self._down("data", f"it answers DATA with {reply.code}")
        return reply

    def _verdict(self, reply: Reply) -> Outcome:
        """Return what a refusal of DATA or of the content means."""
        if reply.code < 400:
            return self._uncertain(f"it answers the final dot with {reply.code}")
        if reply.code == _SHUTTING_DOWN or reply.code in _ABOUT_US:
            raise refusal("data", self._connection.server, reply)
        place: RefusedAt = "size" if reply.is_about_size else "data"
        return self._refused(place, reply, f"the relay refuses the message: {_said(reply)}")

    def _uncertain(self, why: str) -> Uncertain:
        self._dialogue.note(why)
        self._connection.wire.abort(why)
        reason = (
            f"{self._connection.server} gave no verdict after the final dot ({why}): it may have the message or not"
        )
        return Uncertain(reason, self._dialogue.text(), self._waited())

    def _waited(self) -> float:
        return 0.0 if self._final_dot is None else asyncio.get_running_loop().time() - self._final_dot

    def _refused(self, place: RefusedAt, reply: Reply | None, reason: str) -> Refused:
        permanent = reply is None or reply.is_permanent
        return Refused(place, permanent, reply, reason, self._dialogue.text())

    def _dropped(self, place: Place, why: str) -> Dropped:
        return Dropped(place, self._break_off(place, why))

    def _down(self, place: Place, why: str) -> RelayDown:
        return RelayDown(place, self._break_off(place, why))

    def _break_off(self, place: Place, why: str) -> str:
        self._connection.wire.abort(why)
        return f"{self._connection.server} broke off at {place.upper()} ({correlation_token.mask(why)[:200]})"


def _said(reply: Reply) -> str:
    return correlation_token.mask(str(reply))[:200]
