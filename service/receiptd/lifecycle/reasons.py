"""Why a state is what it is: one plain sentence that claims no more than is proven."""

from __future__ import annotations

from collections.abc import Sequence

from receiptd.facts import Cause, Delivery, Disposition, Event, EventKind, Level, Receipt, Source
from receiptd.lifecycle.branches import BranchState
from receiptd.lifecycle.reading import Reading

CAUSES = {
    Cause.USER_UNKNOWN: "there is no such user",
    Cause.MAILBOX_FULL: "the mailbox is full",
    Cause.MAILBOX_DISABLED: "the mailbox is disabled",
    Cause.HOST_UNKNOWN: "the domain has no mail server",
    Cause.HOST_UNREACHABLE: "the recipient's server couldn't be reached",
    Cause.EXPIRED: "the time for trying ran out",
    Cause.BLOCKED: "the sending server is blocked",
    Cause.SPAM: "it was taken for spam",
    Cause.VIRUS: "it was taken for malware",
    Cause.POLICY: "a policy of the recipient's server forbids it",
    Cause.AUTHENTICATION: "the sender could not be authenticated",
    Cause.TOO_BIG: "the message is too big",
    Cause.CONTENT: "its content or format was not taken",
    Cause.RELAY_DENIED: "the server doesn't relay for this address",
    Cause.RATE_LIMITED: "too much was sent in too short a time",
    Cause.LOOP: "the message went round in a loop",
    Cause.SYSTEM: "the recipient's server has a fault",
    Cause.SECURITY: "a security requirement wasn't met",
    Cause.MOVED: "the recipient has moved",
    Cause.PROTOCOL: "the servers didn't understand each other",
}

_LAST_ANSWERS = {Cause.RATE_LIMITED: "try again later"}
"""Greylisting says so to everybody: not that too much was sent."""

_AT_SUBMISSION = CAUSES | {
    Cause.POLICY: "a policy of that server forbids it",
    Cause.SYSTEM: "that server has a fault",
}
"""There the submission server means itself, not the recipient's."""

ALIAS = "One branch of an alias failed, others may have arrived."
CONTRADICTED = "One report says delivered, another says failed: which of them is right is not known."
REFUSED = "A mail filter at the recipient's server refused the message."
OVERRIDDEN = (
    "A report said failed, but the same recipient's mail program displayed the message, or the recipient answered it."
)
ONE_BRANCH = "Known of one branch behind the address; of others nothing was heard."
UNCERTAIN = "The submission server gave no answer to the complete message: whether it took it is not known."
RESTORED = "The database may come from a backup: whether the message was sent since is not known."
CONFIRMED = "A person confirmed the receipt."
COPY = "A copy that was sent again has its receipt; it says nothing of what became of this message itself."
WAIVED = "A person decided that no receipt is needed."
CANCELLED = "The message was cancelled before it was sent."
HELD = "The recipient's server asks the sender to answer a challenge before it lets the message through."
AUTOMATIC = "An automatic receipt came within a minute of acceptance: a machine's, not a reader's."
DELETED = "The message was reported deleted; whether it was seen before is not known."
DENIED = "The recipient declined to say whether the message was displayed."
ERROR = "The recipient's mail program reported an error and did not say that the message was displayed."

NOT_SUBMITTED = "Not submitted: the submission server has not accepted the message in the time allowed for that."
UNCERTAIN_TOO_LONG = "Not submitted for certain: the submission server gave no answer to the complete message."
SUBMITTED_LATE = (
    "The submission server took longer to accept the message than was allowed; the required receipt has not come yet."
)
_SILENCE = "The required receipt has not come by the deadline."
DELAYED = f"{_SILENCE} All that is known: a server has reported that the message waits in its queue."
OVERDUE: dict[Level | None, str] = {
    None: f"{_SILENCE} It is not known whether the submission server accepted the message.",
    Level.ACCEPTED: f"{_SILENCE} All that is known: the submission server accepted the message.",
    Level.RELAYED: f"{_SILENCE} All that is known: the message was handed on to another server.",
    Level.DELIVERED: f"{_SILENCE} All that is known: a server or mail program reported it delivered.",
    Level.DISPLAYED: f"{_SILENCE} All that is known: a mail program reported it displayed, which need not mean read.",
    Level.REPLIED: f"{_SILENCE} All that is known: an answer to the message came.",
}

_BY_DISPOSITION = {
    Disposition.DELETED: DELETED,
    Disposition.DENIED: DENIED,
    Disposition.ERROR: ERROR,
}


def reason(
    readings: Sequence[Reading],
    bad: Sequence[Reading],
    branch_states: Sequence[BranchState],
    delivery: Delivery,
    disposition: Disposition,
    receipt: Receipt,
) -> str | None:
    """Return why the receipt isn't met, or what limits the claim; None where there is nothing to add."""
    kinds = {one.kind for one in readings}
    if EventKind.CONFIRMED in kinds:
        against = _of_bad_news(kinds, bad, branch_states, delivery) if bad else _BY_DISPOSITION.get(disposition)
        return f"{CONFIRMED} {against}" if against else CONFIRMED
    if receipt is Receipt.WAIVED:
        return CANCELLED if EventKind.WAIVED not in kinds else WAIVED
    if bad:
        return _of_bad_news(kinds, bad, branch_states, delivery)
    if receipt is Receipt.FAILED:
        return _BY_DISPOSITION.get(disposition)
    return _of_limits(readings, branch_states, delivery, receipt)


def overdue(delivery: Delivery, level: Level | None, *, submitted: bool, is_late: bool = False) -> str:
    """Return why a receipt is overdue: what is known, and that silence proves nothing more.

    *is_late*: it was overdue for want of a submission, which came then; nobody judges the deadline that runs since.
    """
    if not submitted:
        return UNCERTAIN_TOO_LONG if delivery is Delivery.UNCERTAIN else NOT_SUBMITTED
    if is_late:
        return SUBMITTED_LATE
    return DELAYED if delivery is Delivery.DELAYED else OVERDUE[level]


def _of_bad_news(
    kinds: set[EventKind], bad: Sequence[Reading], branch_states: Sequence[BranchState], delivery: Delivery
) -> str:
    failed = [one for one in branch_states if one.is_bad and not one.is_overridden]
    if not failed:
        return OVERRIDDEN
    if delivery is Delivery.CONTRADICTED:
        return CONTRADICTED
    if any(one.is_refused for one in failed):
        return REFUSED
    # A Postfix sends the member's failure before the `expanded` of the same second: the other address tells too.
    is_behind = all(one.event.detail.get("onward") for one in bad)
    if is_behind or EventKind.EXPANDED in kinds or not all(one.is_bad for one in branch_states):
        return ALIAS
    return failure(max(bad, key=lambda one: (one.trust, bool(one.event.detail.get("status")), one.event.id)).event)


def failure(event: Event) -> str:
    """Return what a single failure says, and who says so."""
    if event.source is Source.CLOCK:
        return "The submission server did not take the message in the time that was allowed for trying."
    if event.source is Source.SMTP and event.detail.get("reply_code") is None and event.detail.get("reason"):
        # Nobody refused: we saw beforehand what this server can't do, and the sentence is ours.
        return f"The message could not be handed to the submission server: {event.detail['reason']}."
    cause = _words(event)
    status = event.detail.get("status")
    code = f" ({status})" if status else ""
    if _was_put_off(event):
        return _put_off(event, code)
    why = (f": {cause}" if cause else "") + code
    if event.source is Source.SMTP:
        return f"The submission server refused the message for this recipient{why}."
    return f"A report says that delivery failed{why}."


def _was_put_off(event: Event) -> bool:
    """Whether nobody refused for good: the last answer was a temporary one (RFC 3463 §3.1), and trying ended."""
    reply_code = event.detail.get("reply_code") or 0
    return 400 <= reply_code < 500 or (not reply_code and str(event.detail.get("status") or "").startswith("4."))


def _put_off(event: Event, code: str) -> str:
    cause = event.detail.get("cause") or Cause.OTHER
    last = "" if cause is Cause.EXPIRED else _LAST_ANSWERS.get(cause) or _words(event)
    word = "answer" if cause in _LAST_ANSWERS else "reason"
    why = f"; the last {word}: {last}" if last else ""
    if event.source is Source.SMTP:
        ended = "until the time for trying ran out"
        return f"The submission server put the message off for this recipient {ended}{why}{code}."
    return f"A report says that delivery failed: it was put off until a server gave up trying{why}{code}."


def _words(event: Event) -> str:
    """Return the words of the cause, or nothing where nobody knows one."""
    words = _AT_SUBMISSION if event.source is Source.SMTP else CAUSES
    return words.get(event.detail.get("cause") or Cause.OTHER, "")


def deferral(event: Event) -> str:
    """Return what a server that put the message off says, and that it is tried again."""
    cause = event.detail.get("cause") or Cause.OTHER
    words = _LAST_ANSWERS.get(cause) or _words(event)
    status = event.detail.get("status")
    why = (f": {words}" if words else "") + (f" ({status})" if status else "")
    return f"The submission server put the message off for this recipient{why}; it is tried again."


def _of_limits(
    readings: Sequence[Reading], branch_states: Sequence[BranchState], delivery: Delivery, receipt: Receipt
) -> str | None:
    kinds = {one.kind for one in readings}
    if delivery is Delivery.UNCERTAIN:
        return RESTORED if any(one.event.detail.get("restored") for one in readings) else UNCERTAIN
    if delivery is Delivery.DEFERRED:
        put_off = [one.event for one in readings if one.kind is EventKind.DEFERRED]
        return deferral(max(put_off, key=lambda event: (event.observed_at, event.id)))
    if receipt.is_met:
        is_one_branch = EventKind.EXPANDED in kinds and len({one.branch for one in readings if one.rank > 0}) == 2
        return ONE_BRANCH if is_one_branch and delivery is Delivery.DELIVERED else None
    if EventKind.HELD in kinds:
        return HELD
    if any(one.kind is EventKind.PROCESSED and one.event.kind is EventKind.DISPLAYED for one in readings):
        return AUTOMATIC
    return None
