"""What a reply of the relay means at each stage of a transaction: one table, for the code and for the docs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

from receiptd.smtp.reply import Reply

ReplyStage = Literal["connect", "EHLO", "STARTTLS", "AUTH", "RSET", "MAIL", "RCPT", "DATA", "final dot"]


class Meaning(StrEnum):
    """What a reply means."""

    PROCEED = "go on"
    ACCEPTED = "accepted"
    WITHOUT_DSN = "DSN refused"
    TOO_BIG = "too big"
    RECIPIENT_REFUSED = "recipient refused"
    MESSAGE_REFUSED = "message refused"
    ABOUT_US = "about us"
    DROP = "out of step"
    UNCERTAIN = "uncertain"


_REFUSED = "5xx: this recipient is `failed` at once; 4xx: `deferred`"
CONSEQUENCES = {
    Meaning.PROCEED: "the next command, or the content, follows",
    Meaning.ACCEPTED: "`accepted`: the relay is responsible now (RFC 5321 §6.1)",
    Meaning.WITHOUT_DSN: 'MAIL and RCPT once more without the parameters; with `without_dsn = "refuse"` as a refusal',
    Meaning.TOO_BIG: _REFUSED,
    Meaning.RECIPIENT_REFUSED: _REFUSED,
    Meaning.MESSAGE_REFUSED: _REFUSED,
    Meaning.ABOUT_US: "nothing fails, all stays queued; `monitor.blind` once",
    Meaning.DROP: "the connection is closed without a dot, and the message goes once more over a new one",
    Meaning.UNCERTAIN: "`uncertain`: the relay may have the message or not (RFC 5321 §4.5.3.2.6)",
}
"""What becomes of the recipient."""

Condition = Literal["", "with DSN parameters", "about size"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: at any of *stages*, any of *replies* (`550`, `4xx`, `none`) means this, where *condition* holds."""

    stages: tuple[ReplyStage, ...]
    replies: tuple[str, ...]
    meaning: Meaning
    condition: Condition = ""


def _rule(stages: str, replies: str, meaning: Meaning, condition: Condition = "") -> Rule:
    named = tuple(stages.split(", "))
    return Rule(named, tuple(replies.split()), meaning, condition)  # type: ignore[arg-type]  # checked by the tests


TABLE: tuple[Rule, ...] = (
    _rule("connect, EHLO, STARTTLS, AUTH", "4xx 5xx none", Meaning.ABOUT_US),
    _rule("RSET, MAIL, RCPT", "2xx", Meaning.PROCEED),
    _rule("DATA", "354", Meaning.PROCEED),
    _rule("final dot", "2xx", Meaning.ACCEPTED),
    # The two sides are out of step, and what we send next could be taken for content.
    _rule("RSET", "1xx 3xx 4xx 5xx none", Meaning.DROP),
    _rule("MAIL, RCPT", "1xx 3xx 421 none", Meaning.DROP),
    _rule("DATA", "1xx 2xx 3xx 421 none", Meaning.DROP),
    _rule("final dot", "1xx 3xx none", Meaning.UNCERTAIN),
    _rule("MAIL, RCPT", "501 504 555", Meaning.WITHOUT_DSN, "with DSN parameters"),
    _rule("final dot", "421", Meaning.ABOUT_US),
    # Wrong order of commands, AUTH or STARTTLS wanted (RFC 4954 §6): about the session, never about the recipient.
    _rule("RCPT, DATA, final dot", "503 530", Meaning.ABOUT_US),
    _rule("MAIL, RCPT, DATA, final dot", "4xx 5xx", Meaning.TOO_BIG, "about size"),
    _rule("MAIL", "4xx 5xx", Meaning.ABOUT_US),
    _rule("RCPT", "4xx 5xx", Meaning.RECIPIENT_REFUSED),
    _rule("DATA, final dot", "4xx 5xx", Meaning.MESSAGE_REFUSED),
)
"""From top to bottom; the first row that fits decides."""


def meaning_of(stage: ReplyStage, reply: Reply | None, *, dsn: bool = False) -> Meaning:
    """Return what *reply* means at *stage*; None is no reply, *dsn* says that DSN parameters were sent."""
    if reply is None:
        return _look_up(stage, None, dsn=dsn, about_size=False)
    return _look_up(stage, reply.code, dsn=dsn, about_size=reply.code >= 400 and reply.is_about_size)


@cache
def _look_up(stage: ReplyStage, code: int | None, *, dsn: bool, about_size: bool) -> Meaning:
    names = {"none"} if code is None else {str(code), f"{min(max(code // 100, 1), 5)}xx"}
    holds = {"": True, "with DSN parameters": dsn, "about size": about_size}
    return next(
        rule.meaning for rule in TABLE if stage in rule.stages and names & set(rule.replies) and holds[rule.condition]
    )
