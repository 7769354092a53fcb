"""The decision: a report and the candidates -> verdict and facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from receiptd import token
from receiptd.facts import Fact, MatchedBy, Report, ReportKind, Trust, Verdict
from receiptd.match import aims, answers, grounds, telling, vouching
from receiptd.match.candidates import Candidate
from receiptd.match.grounds import Ground, ReturnPaths

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
    """Return whom *report* speaks of among *candidates* (see `Candidate`), and how sure that is (docs/design.md §5).

    Facts that bad keys tell are weak: they may raise an alarm, and `lifecycle.fold` lets them move nothing.
    The verdict is then `suspicious`, and somebody can look. Of what fits nobody, ordinary mail and what a
    `receiptd check` caused are noise, other reports and answers are unmatched.
    """
    if answers.is_own(report, candidates):
        return Matched(Verdict.NOISE)
    ground = grounds.find(report, candidates, ReturnPaths(receipts_address, subaddress))
    told = _once(_facts(report, ground, authserv_id)) if ground else []
    is_spoofed = report.kind is ReportKind.REPLY and vouching.is_refuted(report, authserv_id)
    if ground and (ground.is_suspicious or (told and is_spoofed)):
        return Matched(Verdict.SUSPICIOUS, tuple(told))
    if told:
        return Matched(Verdict.MATCHED, tuple(told))
    is_noise = report.kind is ReportKind.ORDINARY or any(token.is_of_check(word) for word in report.tokens)
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
    """Return what *report* tells of *at*, of whom a person says that it speaks; *candidates* are all of its message.

    Nothing where it names others alone, neither *at* nor one of the *branches* that are known behind it.
    The person vouches for the match, so what it tells is keyed; what it proves is what any keyed report of its kind
    proves, and an answer to a return path stays an automaton's.
    """
    if answers.is_own(report, candidates):
        return ()
    if grounds.is_to_return_path(report, ReturnPaths(receipts_address, subaddress)):
        report = replace(report, is_automatic=True)
    ground = Ground(tuple(candidates), MatchedBy.PERSON, Trust.KEYED, owner=at, branches=tuple(branches))
    return tuple(_once(_facts(report, ground, None)))


def _facts(report: Report, ground: Ground, authserv_id: str | None) -> Iterable[Fact]:
    if report.kind in telling.SOURCES:
        return (telling.fact(report, aim, ground.by) for aim in aims.find(report, ground))
    if report.kind is ReportKind.FEEDBACK:
        return answers.by_complainer(report, ground)
    if answers.is_automatons(report, ground):
        return answers.by_automaton(report, ground)
    if report.kind is ReportKind.REPLY:
        return answers.by_person(report, ground, authserv_id)
    return ()


def _once(facts: Iterable[Fact]) -> list[Fact]:
    """Return each fact once, and no more than a report may tell."""
    kept: dict[tuple[str, str, str | None, str], Fact] = {}
    for fact in facts:
        kept.setdefault((fact.recipient_id, fact.kind, fact.final_recipient, fact.variant), fact)
        if len(kept) >= MOST_FACTS:
            break
    return list(kept.values())
