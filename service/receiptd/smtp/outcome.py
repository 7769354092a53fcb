"""The outcome of one transaction, and the errors that are about us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from receiptd.errors import Unavailable
from receiptd.smtp.reply import Capabilities, Reply


@dataclass(frozen=True, slots=True)
class Accepted:
    """The relay answered the final dot with 2xx: it is responsible now (RFC 5321 §6.1)."""

    reply: Reply
    dsn_requested: bool
    dialogue: str
    capabilities: Capabilities
    alias_message_id: str | None = None
    dsn_refused: bool = False
    """DSN was offered, but its parameters got a 501, 504 or 555; the message went without them."""
    waited: float = 0.0
    """Seconds since the final dot."""


RefusedAt = Literal["rcpt", "data", "size", "message", "dsn"]


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay, or we ourselves, refuse this message for this recipient; not permanent = perhaps later."""

    stage: RefusedAt
    permanent: bool
    reply: Reply | None
    reason: str
    dialogue: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The final dot was sent and no reply came: the relay may or may not have the message (RFC 5321 §4.5.3.2.6)."""

    reason: str
    dialogue: str
    waited: float = 0.0
    """Seconds since the final dot."""


Outcome = Accepted | Refused | Uncertain


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing of the content was sent, or the relay said that it didn't take it: sending it again doubles nothing."""

    fault: Exception | None
    """RelayDown is about us; None: the stream was closed or aborted first; else an unforeseen error."""


Stage = Literal["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data"]


class RelayDown(Unavailable):
    """The relay can't be used; this says nothing about any message: all stay queued, nothing was sent.

    *stage* says how far we came (`starttls` is any trouble with TLS; `rcpt` and `data` only where the
    connection ended there). *permanent* means that waiting won't help and a person must act.
    """

    def __init__(self, stage: Stage, sentence: str, *, permanent: bool = False, reply: Reply | None = None) -> None:
        super().__init__(sentence)
        self.stage = stage
        self.permanent = permanent
        self.reply = reply


class Dropped(RelayDown):
    """The connection ended before DATA: the same envelope may go over another."""
