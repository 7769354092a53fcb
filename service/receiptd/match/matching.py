"""The decision: a report and the candidates -> verdict and facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from receiptd import correlation_token
from receiptd.facts import Fact, MatchedBy, Report, ReportKind, Trust, Verdict
from receiptd.mail.return_path import ReturnPaths
from receiptd.match import authentication_results, fact_builder, match_keys, replies, targets
from receiptd.match.candidates import Candidate
from receiptd.match.match_keys import MatchKey

MOST_FACTS = 100
"""Facts that one report may tell; what it says of our own addresses comes first."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of a report, and what it tells of whom."""

    verdict: Verdict
    facts: tuple[Fact, ...] = ()


def match(
    report: Report,
    candidates: Sequence[Candidate],
    *,
    receipts_address: str,
    subaddress: str,
    authserv_id: str | None = None,
) -> Matched:
    """Return whom *report* is about among *candidates* (see `Candidate`), and how sure that is (docs/design.md §5).

    Facts that bad keys tell are weak: they may raise an alarm, and `lifecycle.fold` lets them move nothing.
    The verdict is then `suspicious`, and somebody can look. Of what fits nobody, ordinary mail and what a
    `receiptd check` caused are noise, other reports and answers are unmatched.
    """
    if replies.is_own(report, candidates):
        return Matched(Verdict.NOISE)
    key = match_keys.find(report, candidates, ReturnPaths(receipts_address, subaddress))
    told = _once(_facts(report, key, authserv_id)) if key else []
    is_spoofed = report.kind is ReportKind.REPLY and authentication_results.is_refuted(report, authserv_id)
    if key and (key.is_suspicious or (told and is_spoofed)):
        return Matched(Verdict.SUSPICIOUS, tuple(told))
    if told:
        return Matched(Verdict.MATCHED, tuple(told))
    is_noise = report.kind is ReportKind.ORDINARY or any(correlation_token.is_of_check(word) for word in report.tokens)
    return Matched(Verdict.NOISE if is_noise else Verdict.UNMATCHED)


def assigned(
    report: Report,
    at: Candidate,
    candidates: Sequence[Candidate],
    *,
    branches: Iterable[str],
    receipts_address: str,
    subaddress: str,
) -> tuple[Fact, ...]:
    """Return what *report* tells of *at*, which a person says it is about; *candidates* are all of its message.

    Nothing where it names others alone, neither *at* nor one of the *branches* that are known behind it.
    The person vouches for the match, so what it tells is keyed; what it proves is what any keyed report of its kind
    proves, and an answer to a return path stays an automaton's.
    """
    if replies.is_own(report, candidates):
        return ()
    if match_keys.is_to_return_path(report, ReturnPaths(receipts_address, subaddress)):
        report = replace(report, is_automatic=True)
    key = MatchKey(tuple(candidates), MatchedBy.PERSON, Trust.KEYED, owner=at, branches=tuple(branches))
    return tuple(_once(_facts(report, key, None)))


def _facts(report: Report, key: MatchKey, authserv_id: str | None) -> Iterable[Fact]:
    if report.kind in fact_builder.SOURCES:
        return (fact_builder.fact(report, target, key.by) for target in targets.find(report, key))
    if report.kind is ReportKind.FEEDBACK:
        return replies.by_complainer(report, key)
    if replies.is_automatons(report, key):
        return replies.by_automaton(report, key)
    if report.kind is ReportKind.REPLY:
        return replies.by_person(report, key, authserv_id)
    return ()


def _once(facts: Iterable[Fact]) -> list[Fact]:
    """Return each fact once, and no more than a report may tell."""
    kept: dict[tuple[str, str, str | None, str], Fact] = {}
    for fact in facts:
        kept.setdefault((fact.recipient_id, fact.kind, fact.final_recipient, fact.variant), fact)
        if len(kept) >= MOST_FACTS:
            break
    return list(kept.values())
