"""One transaction: the commands it sends and what the replies to them mean; it touches no connection."""

from __future__ import annotations

import asyncio

from receiptd import correlation_token
from receiptd.compose import mail_parameters, rcpt_parameters
from receiptd.errors import BadData
from receiptd.smtp.content import Content
from receiptd.smtp.envelope import LONGEST_LINE, Envelope, check_parameter, shown
from receiptd.smtp.fault import refusal
from receiptd.smtp.meaning import Meaning, ReplyStage, meaning_of
from receiptd.smtp.outcome import Accepted, Dropped, Refused, RefusedAt, RelayDown, Stage, Uncertain
from receiptd.smtp.peer import Peer
from receiptd.smtp.reply import Dialogue, Reply, alias_message_id

_REFUSED_AT: dict[Meaning, RefusedAt] = {
    Meaning.TOO_BIG: "size",
    Meaning.WITHOUT_DSN: "dsn",
    Meaning.RECIPIENT_REFUSED: "rcpt",
    Meaning.MESSAGE_REFUSED: "data",
}
_STAGES: dict[ReplyStage, Stage] = {"RSET": "mail", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "final dot": "data"}

Command = tuple[ReplyStage, str]


def refused_unseen(envelope: Envelope) -> Refused | None:
    """Return the refusal of a message that no relay may accept, before any is asked; raise BadData for a bad one."""
    envelope.check()
    if envelope.longest_line <= LONGEST_LINE:
        return None
    reason = f"the message has a line of {envelope.longest_line} octets, and SMTP carries {LONGEST_LINE} at most"
    return Refused("message", permanent=True, reply=None, reason=reason, dialogue="")


class Transaction:
    """The state of one transaction; `verdict` is what its replies said so far, None while all is well."""

    def __init__(self, envelope: Envelope, peer: Peer, *, without_dsn: str) -> None:
        self.envelope = envelope
        self.verdict: Refused | RelayDown | None = None
        self.dialogue = Dialogue(peer.opening)
        self._server, self._offered = peer.server, peer.capabilities
        self._without_dsn = without_dsn
        self._dsn = envelope.request_dsn and peer.capabilities.dsn
        self._dsn_refused = False
        self._dot_at: float | None = None

    def refused_by_offer(self) -> Refused | None:
        """Return why the relay, by what it offers, can't take the message as it is; nothing was sent yet."""
        envelope, offered = self.envelope, self._offered
        if offered.size and envelope.size > offered.size:
            reason = f"the message has {envelope.size} octets, and the relay takes {offered.size} at most"
            return self._refused("size", None, reason)
        if envelope.request_dsn and self._without_dsn == "refuse" and not offered.dsn:
            return self._refused("dsn", None, 'the relay offers no delivery reports, and without_dsn = "refuse"')
        if self._is_international and not offered.smtputf8:
            return self._refused("message", None, "an address needs SMTPUTF8, which the relay doesn't offer")
        if envelope.needs_8bitmime and not offered.eightbitmime:
            return self._refused("message", None, "the message is 8-bit, and the relay doesn't offer 8BITMIME")
        return None

    @property
    def _needs_smtputf8(self) -> bool:
        """A header in UTF-8 goes as 8-bit to a relay without it, as sendmail would send it: most accept that."""
        return self._is_international or (self.envelope.needs_smtputf8 and self._offered.smtputf8)

    @property
    def _is_international(self) -> bool:
        """Whether an address of the envelope isn't ASCII."""
        return not (self.envelope.recipient.isascii() and self.envelope.return_path.isascii())

    # Commands.

    def commands(self, *, reset: bool) -> list[Command]:
        """Return RSET (where the connection may hold half a transaction), MAIL and RCPT."""
        commands: list[Command] = [("MAIL", self._mail()), ("RCPT", self._rcpt())]
        return [("RSET", "RSET"), *commands] if reset else commands

    def _mail(self) -> str:
        envelope = self.envelope
        parameters = mail_parameters(
            envelope_id=envelope.envelope_id,
            ret=envelope.ret,
            smtputf8=self._needs_smtputf8,
            body_8bit=envelope.needs_8bitmime,
            size=None if self._offered.size is None else envelope.size,
            dsn=self._dsn,
        )
        return " ".join([f"MAIL FROM:<{envelope.return_path}>", *map(check_parameter, parameters)])

    def _rcpt(self) -> str:
        envelope = self.envelope
        parameters = rcpt_parameters(
            envelope.recipient, notify=envelope.notify, smtputf8=self._needs_smtputf8, dsn=self._dsn
        )
        return " ".join([f"RCPT TO:<{envelope.recipient}>", *map(check_parameter, parameters)])

    def stuffed(self) -> bytes:
        """Return what follows DATA, without the header of this copy."""
        content = self.envelope.content
        return (content if isinstance(content, Content) else Content.of(content)).stuffed

    # Replies.

    def take(self, stage: ReplyStage, command: str, reply: Reply) -> None:
        """Take the reply to *command*: the first refusal becomes the verdict, the rest of its group follows from it.

        Raises Dropped where the connection must end without a dot: 421, and whatever shows that the two sides
        are out of step, such as 354 after a refused MAIL or RCPT.
        """
        self.dialogue.client(command)
        self.dialogue.server(reply)
        meaning = meaning_of(stage, reply, dsn=self._dsn)
        if meaning is Meaning.DROP or (meaning is Meaning.PROCEED and stage == "DATA" and self.verdict is not None):
            raise self.dropped(stage, str(reply))
        if meaning is not Meaning.PROCEED and self.verdict is None:
            self.verdict = self._judge(stage, reply, meaning)

    def again_without_dsn(self) -> bool:
        """Whether to say MAIL and RCPT once more, without DSN parameters; if so, the verdict is forgotten."""
        if not (isinstance(self.verdict, Refused) and self.verdict.stage == "dsn"):
            return False
        if self._without_dsn == "refuse":
            return False
        self.verdict = None
        self.leave_dsn_out()
        return True

    def leave_dsn_out(self) -> None:
        """Ask for no reports: the relay has refused the parameters."""
        self._dsn, self._dsn_refused = False, self._dsn_refused or self._dsn

    def note_dot(self) -> None:
        """The final dot was written: without a reply from now on, the outcome is unknown."""
        self._dot_at = _now()
        self.dialogue.note(f"{self.envelope.size} octets of content, final dot")

    def take_final(self, reply: Reply) -> Accepted | Refused | Uncertain | RelayDown:
        """Return what the reply to the final dot, or an early one to its content, means."""
        self.dialogue.server(reply)
        meaning = meaning_of("final dot", reply)
        if meaning is Meaning.ACCEPTED:
            alias = alias_message_id(reply, self._server.host)
            text = self.dialogue.text()
            return Accepted(reply, self._dsn, text, self._offered, alias, self._dsn_refused, self._waited())
        if meaning is Meaning.UNCERTAIN and self._dot_at is None:
            return self.cut_off(str(reply))
        if meaning is Meaning.UNCERTAIN:
            return self.uncertain(f"it answers the final dot with {reply.code}")
        return self._judge("final dot", reply, meaning)

    def uncertain(self, why: str) -> Uncertain:
        """Return the outcome where the final dot got no verdict."""
        self.dialogue.note(why)
        reason = f"{self._server} gave no verdict after the final dot ({why}): it may have the message or not"
        return Uncertain(reason, self.dialogue.text(), self._waited())

    def dropped(self, stage: ReplyStage, why: str) -> Dropped:
        """Return the error for a connection that ended before the content of this transaction."""
        return Dropped(_STAGES[stage], self._broke_off(stage, why))

    def cut_off(self, why: str) -> RelayDown:
        """Return the error for a connection that ended within the content, before its final dot."""
        return RelayDown("data", self._broke_off("DATA", why))

    def _broke_off(self, stage: ReplyStage, why: str) -> str:
        return f"{self._server} broke off at {stage} ({correlation_token.mask(why)[:200]})"

    def _judge(self, stage: ReplyStage, reply: Reply, meaning: Meaning) -> Refused | RelayDown:
        if meaning is Meaning.ABOUT_US:
            return refusal(_STAGES[stage], self._server, reply)
        said = correlation_token.mask(str(reply))[:200]
        reasons = {
            Meaning.WITHOUT_DSN: f"the relay refuses the parameters that ask for delivery reports: {said}",
            Meaning.TOO_BIG: f"the relay finds the message too big: {said}",
            Meaning.RECIPIENT_REFUSED: f"the relay refuses {shown(self.envelope.recipient)}: {said}",
            Meaning.MESSAGE_REFUSED: f"the relay refuses the message: {said}",
        }
        return self._refused(_REFUSED_AT[meaning], reply, reasons[meaning])

    def _refused(self, stage: RefusedAt, reply: Reply | None, reason: str) -> Refused:
        permanent = reply is None or reply.is_permanent
        return Refused(stage, permanent, reply, reason, self.dialogue.text())

    def _waited(self) -> float:
        return 0.0 if self._dot_at is None else _now() - self._dot_at


def bad_data(error: BadData) -> Refused:
    """Return the refusal of an envelope that must not reach the wire."""
    return Refused("message", permanent=True, reply=None, reason=str(error), dialogue="")


def _now() -> float:
    return asyncio.get_running_loop().time()
