"""Why a report fits nobody, or contradicts itself: one plain sentence for the person who looks."""

from __future__ import annotations

from collections.abc import Sequence

from receiptd.facts import Report, ReportKind, Verdict
from receiptd.mail import address
from receiptd.match.candidates import Candidate, keys
from receiptd.match.match_keys import owners_of

_NO_KEY = "It names neither a token nor a Message-ID, so nothing says which message it is about."
_STRANGE = "No message of ours has the token or Message-ID that it names."
_NOBODY = "It is about a message of ours with several recipients, and names none of them."
_OTHERS = "It is about a message of ours, and names only addresses that the message wasn't sent to."
_TWO_KEYS = "It carries the keys of more than one recipient."
_ANOTHERS = "It carries the key of one message and the Message-ID of another."
_NOT_RETURNED = "It carries a token of ours, but the message it returns has neither our Message-ID nor our From."
_STRANGE_KEY = "It names a message of ours, but under a token or envelope id that this message never had."
_SPOOFED = "It failed DMARC at the server that received it, so somebody else may have written it in the sender's name."
_STRANGE_ENVELOPE = "It carries a token of ours, but its envelope id isn't the one that went out with it."


def reason(report: Report, candidates: Sequence[Candidate], verdict: Verdict) -> str | None:
    """Return why *report* has this *verdict*; None where its recipients say it, or nobody asks."""
    if verdict is Verdict.UNMATCHED:
        return _unmatched(report, candidates)
    return _suspicious(report, candidates) if verdict is Verdict.SUSPICIOUS else None


def _unmatched(report: Report, candidates: Sequence[Candidate]) -> str:
    named = keys(report)
    if not named.tokens and not set(named.message_ids) - {report.message_id}:
        return _NO_KEY
    if not any(one.is_known_as(message_id) for one in candidates for message_id in named.message_ids):
        return _STRANGE
    is_answer = report.kind in (ReportKind.REPLY, ReportKind.AUTO_REPLY)
    has_addresses = any(one.final_recipient or one.original_recipient for one in report.recipients)
    return _OTHERS if is_answer or has_addresses else _NOBODY


def _suspicious(report: Report, candidates: Sequence[Candidate]) -> str:
    owners = [owner for owner, _ in owners_of(report, candidates).values()]
    if not owners:
        return _SPOOFED if report.kind is ReportKind.REPLY and not report.found_tokens else _STRANGE_KEY
    if len(owners) > 1:
        return _TWO_KEYS
    stated = [one for one in (report.original_message_id, *report.alias_message_ids) if one]
    knowing = {one.message_id for one in candidates if any(map(one.is_known_as, stated))}
    if knowing and owners[0].message_id not in knowing:
        return _ANOTHERS
    author = report.returned_from
    is_anothers = author is not None and not address.same(author, owners[0].from_address)
    return _NOT_RETURNED if stated and not knowing and is_anothers else _STRANGE_ENVELOPE
