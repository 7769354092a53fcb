"""One transaction on an open connection, and what its replies mean (docs/design.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from receiptd import correlation_token
from receiptd.compose import mail_parameters, rcpt_parameters
from receiptd.smtp.connection import Connection
from receiptd.smtp.envelope import LONGEST_LINE, Envelope, check_parameter, shown
from receiptd.smtp.fault import refusal
from receiptd.smtp.outcome import (
    Accepted,
    Dropped,
    Outcome,
    Refused,
    RefusedAt,
    RelayDown,
    Stage,
    Uncertain,
)
from receiptd.smtp.reply import Dialogue, Reply, alias_message_id
from receiptd.smtp.wire import ConnectionLost

BeforeData = Callable[[Dialogue], Awaitable[None]]

_PARAMETERS_REFUSED = frozenset({501, 504, 555})
_ABOUT_US = frozenset({503, 530})
"""Replies to RCPT that are about the session, never about the recipient: wrong order of commands, AUTH or
STARTTLS wanted (RFC 4954 §6)."""
_SHUTTING_DOWN = 421


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a reply (RFC 5321 §4.5.3.2 gives these as minima)."""

    final: float
    envelope: float = 300
    data: float = 120


def too_long(envelope: Envelope) -> Refused | None:
    """Return the refusal of a message that no relay may accept, before any is asked."""
    if envelope.longest_line <= LONGEST_LINE:
        return None
    reason = f"the message has a line of {envelope.longest_line} octets, and SMTP carries {LONGEST_LINE} at most"
    return Refused("message", permanent=True, reply=None, reason=reason, dialogue="")


class Transaction:
    """One transaction in progress."""

    def __init__(self, connection: Connection, envelope: Envelope, timeouts: Timeouts) -> None:
        self._connection = connection
        self._envelope = envelope
        self._timeouts = timeouts
        self._offered = connection.capabilities
        self._dialogue = Dialogue(connection.opening)
        self._final_dot: float | None = None

    async def run(self, before_data: BeforeData, *, without_dsn: str) -> Outcome:
        """Submit the message; *before_data* is awaited between the accepted RCPT and DATA, once.

        Raises RelayDown for what isn't about the message. The connection is usable after a return, and to
        be closed after an exception.
        """
        envelope = self._envelope
        if refused := self._unfit(needs_dsn=envelope.request_dsn and without_dsn == "refuse"):
            return refused
        dsn, dsn_refused = envelope.request_dsn and self._offered.dsn, False
        refused = await self._mail_and_rcpt(dsn=dsn)
        if refused is not None and refused.stage == "dsn" and without_dsn != "refuse":
            dsn, dsn_refused = False, True
            refused = await self._mail_and_rcpt(dsn=False)
        if refused is not None:
            return refused
        await before_data(self._dialogue)
        return await self._content(dsn=dsn, dsn_refused=dsn_refused)

    def _unfit(self, *, needs_dsn: bool) -> Refused | None:
        """Return why this relay can't take the message as it is; nothing was sent yet."""
        envelope, offered = self._envelope, self._offered
        if offered.size and len(envelope.content) > offered.size:
            reason = f"the message has {len(envelope.content)} octets, and the relay takes {offered.size} at most"
            return self._refused("size", None, reason)
        if needs_dsn and not offered.dsn:
            return self._refused("dsn", None, 'the relay offers no delivery reports, and without_dsn = "refuse"')
        if self._is_international and not offered.smtputf8:
            return self._refused("message", None, "an address needs SMTPUTF8, which the relay doesn't offer")
        if envelope.needs_8bitmime and not offered.eightbitmime:
            return self._refused("message", None, "the message is 8-bit, and the relay doesn't offer 8BITMIME")
        return None

    @property
    def _needs_smtputf8(self) -> bool:
        """A header in UTF-8 goes as 8-bit to a relay without it, as sendmail would send it: most accept that."""
        return self._is_international or (self._envelope.needs_smtputf8 and self._offered.smtputf8)

    @property
    def _is_international(self) -> bool:
        """Whether an address of the envelope isn't ASCII."""
        return not (self._envelope.recipient + self._envelope.return_path).isascii()

    async def _mail_and_rcpt(self, *, dsn: bool) -> Refused | None:
        """Send MAIL and RCPT; return None once both are accepted."""
        commands: list[tuple[Stage, str]] = [("mail", self._mail(dsn=dsn)), ("rcpt", self._rcpt(dsn=dsn))]
        if self._connection.needs_reset:
            commands.insert(0, ("mail", "RSET"))
        self._connection.needs_reset = True
        said = await self._command(commands)
        for stage, command, reply in said:
            # 354 to anything but DATA: the two sides are out of step, and what we send next would be
            # content. So all replies are checked before any is judged.
            if reply.code == _SHUTTING_DOWN or reply.code < 200 or 300 <= reply.code < 400:
                raise self._dropped(stage, str(reply))
            if command == "RSET" and not reply.is_positive:
                raise self._dropped(stage, str(reply))
        return next((self._meaning(stage, reply, dsn=dsn) for stage, _, reply in said if not reply.is_positive), None)

    def _mail(self, *, dsn: bool) -> str:
        envelope = self._envelope
        parameters = mail_parameters(
            envelope_id=envelope.envelope_id,
            ret=envelope.ret,
            smtputf8=self._needs_smtputf8,
            body_8bit=envelope.needs_8bitmime,
            size=None if self._offered.size is None else len(envelope.content),
            dsn=dsn,
        )
        return " ".join([f"MAIL FROM:<{envelope.return_path}>", *map(check_parameter, parameters)])

    def _rcpt(self, *, dsn: bool) -> str:
        envelope = self._envelope
        parameters = rcpt_parameters(envelope.recipient, notify=envelope.notify, smtputf8=self._needs_smtputf8, dsn=dsn)
        return " ".join([f"RCPT TO:<{envelope.recipient}>", *map(check_parameter, parameters)])

    async def _command(self, commands: list[tuple[Stage, str]]) -> list[tuple[Stage, str, Reply]]:
        """Send *commands*, in one write where the relay pipelines; else none after the first that is refused."""
        if not self._offered.pipelining:
            said: list[tuple[Stage, str, Reply]] = []
            for stage, command in commands:
                said.append((stage, command, await self._receive(stage, command, self._send([(stage, command)])[0])))
                if not said[-1][2].is_positive:
                    break
            return said
        owed = self._send(commands)
        return [
            (stage, command, await self._receive(stage, command, reply))
            for (stage, command), reply in zip(commands, owed, strict=True)
        ]

    def _send(self, commands: list[tuple[Stage, str]]) -> list[asyncio.Future[Reply]]:
        wire = self._connection.wire
        try:
            wire.write("".join(f"{command}\r\n" for _, command in commands).encode())
        except ConnectionLost as error:
            raise self._dropped(commands[0][0], str(error)) from error
        return [wire.expect() for _ in commands]

    async def _receive(self, stage: Stage, command: str, owed: asyncio.Future[Reply]) -> Reply:
        self._dialogue.client(command)
        try:
            reply = await self._connection.wire.receive(owed, self._timeouts.envelope)
        except ConnectionLost as error:
            raise self._dropped(stage, str(error)) from error
        self._dialogue.server(reply)
        return reply

    def _meaning(self, stage: Stage, reply: Reply, *, dsn: bool) -> Refused:
        """Return what a refused MAIL or RCPT says about the message; raise what it says about us."""
        if dsn and reply.code in _PARAMETERS_REFUSED:
            return self._refused(
                "dsn", reply, f"the relay refuses the parameters that ask for delivery reports: {_said(reply)}"
            )
        if reply.is_about_size:
            return self._refused("size", reply, f"the relay finds the message too big: {_said(reply)}")
        if stage == "mail" or reply.code in _ABOUT_US:
            raise refusal(stage, self._connection.server, reply)
        return self._refused("rcpt", reply, f"the relay refuses {shown(self._envelope.recipient)}: {_said(reply)}")

    async def _content(self, *, dsn: bool, dsn_refused: bool) -> Outcome:
        reply = await self._data()
        if reply.code == 354:
            try:
                owed = await self._connection.wire.send_content(self._envelope.content)
            except ConnectionLost as error:
                raise self._down("data", str(error)) from error
            self._final_dot = asyncio.get_running_loop().time()
            self._dialogue.note(f"{len(self._envelope.content)} octets of content, final dot")
            try:
                reply = await self._connection.wire.receive(owed, self._timeouts.final)
            except ConnectionLost as error:
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
            reply = await wire.receive(wire.send("DATA"), self._timeouts.data)
        except ConnectionLost as error:
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
        stage: RefusedAt = "size" if reply.is_about_size else "data"
        return self._refused(stage, reply, f"the relay refuses the message: {_said(reply)}")

    def _uncertain(self, why: str) -> Uncertain:
        self._dialogue.note(why)
        self._connection.wire.abort(why)
        reason = (
            f"{self._connection.server} gave no verdict after the final dot ({why}): it may have the message or not"
        )
        return Uncertain(reason, self._dialogue.text(), self._waited())

    def _waited(self) -> float:
        return 0.0 if self._final_dot is None else asyncio.get_running_loop().time() - self._final_dot

    def _refused(self, stage: RefusedAt, reply: Reply | None, reason: str) -> Refused:
        permanent = reply is None or reply.is_permanent
        return Refused(stage, permanent, reply, reason, self._dialogue.text())

    def _dropped(self, stage: Stage, why: str) -> Dropped:
        return Dropped(stage, self._break_off(stage, why))

    def _down(self, stage: Stage, why: str) -> RelayDown:
        return RelayDown(stage, self._break_off(stage, why))

    def _break_off(self, stage: Stage, why: str) -> str:
        self._connection.wire.abort(why)
        return f"{self._connection.server} broke off at {stage.upper()} ({correlation_token.mask(why)[:200]})"


def _said(reply: Reply) -> str:
    return correlation_token.mask(str(reply))[:200]
