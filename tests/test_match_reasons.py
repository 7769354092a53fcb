"""A report that fits nobody, or contradicts itself, says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from receiptd.facts import Action, FoundToken, MatchedBy, Report, ReportKind, Verdict
from receiptd.match import Candidate, match, reason, reasons
from tests.api_fixture import ApiFixture, open_api
from tests.steps_fixture import dsn as raw_dsn
from tests.test_match import BOB, CAROL, ID, OTHER, REPORTS, STRANGE, TRIO, block, candidate, dsn, found, reply


def why(report: Report, *candidates: Candidate) -> tuple[Verdict, str | None]:
    """Return the verdict, and what is said of it."""
    verdict = match(report, candidates, receipts_address="receipts@a.org", subaddress="+").verdict
    return verdict, reason(report, candidates, verdict)


SEALED = candidate("bob", envelope_id="e" * 24)
UNMATCHED: dict[str, Any] = {
    reasons._NO_KEY: (dsn(message_id="<itself@b.org>"),),
    reasons._STRANGE: (dsn(found_tokens=found(STRANGE)),),
    reasons._OTHERS: (dsn(block(final="x@c.org"), original_message_id=ID), *TRIO),
    reasons._NOBODY: (dsn(block(final=None), original_message_id=ID), *TRIO),
}
SUSPICIOUS: dict[str, Any] = {
    reasons._TWO_KEYS: (dsn(found_tokens=found(BOB.token, CAROL.token.upper())), *TRIO),
    reasons._ANOTHERS: (dsn(found_tokens=found(BOB.token), original_message_id="<m2@a.org>"), *TRIO, OTHER),
    reasons._NOT_RETURNED: (
        dsn(found_tokens=found(BOB.token), original_message_id="<spam@e.org>", returned_from="pills@e.org"),
        *TRIO,
    ),
    reasons._STRANGE_ENVELOPE: (
        dsn(
            block(Action.DELIVERED),
            envelope_id=STRANGE,
            found_tokens=(*found(SEALED.token), FoundToken(STRANGE, MatchedBy.ENVELOPE_ID)),
        ),
        SEALED,
    ),
    reasons._SPOOFED: (reply(authentication_results=("mx.b.org; dmarc=fail header.from=b.org",)), BOB),
    reasons._STRANGE_KEY: (
        dsn(original_message_id=ID, found_tokens=(FoundToken(STRANGE, MatchedBy.ENVELOPE_ID),)),
        BOB,
    ),
}


@pytest.mark.parametrize("said", UNMATCHED)
def test_a_report_that_fits_nobody_says_why(said: str) -> None:
    assert why(*UNMATCHED[said]) == (Verdict.UNMATCHED, said)


@pytest.mark.parametrize("said", SUSPICIOUS)
def test_a_report_that_contradicts_itself_says_why(said: str) -> None:
    assert why(*SUSPICIOUS[said]) == (Verdict.SUSPICIOUS, said)


def test_an_answer_from_somebody_the_message_was_not_sent_to_says_so() -> None:
    answer = Report(ReportKind.REPLY, from_address="ann@c.org", in_reply_to=(ID,))
    assert why(answer, *TRIO) == (Verdict.UNMATCHED, reasons._OTHERS)


@given(REPORTS)
def test_whatever_is_unmatched_or_suspicious_has_a_reason_and_nothing_else_has(report: Report) -> None:
    verdict, said = why(report, *TRIO, OTHER)
    assert bool(said) == (verdict in (Verdict.UNMATCHED, Verdict.SUSPICIOUS))
    assert said is None or not any(one in said for one in report.tokens)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(tmp_path) as server:
        yield server


async def test_the_list_of_reports_gives_the_reason(server: ApiFixture) -> None:
    taken = await server.steps.submitted("bob@b.test", "carol@b.test")
    bob, carol = taken.recipients
    await server.steps.receive(raw_dsn("a" * 24), raw_dsn(bob.token, envelope_id=carol.envelope_id))
    items = (await server.api.get("/v1/reports?verdict=unmatched&verdict=suspicious")).json()["items"]
    told = {item["verdict"]: item["reason"] for item in items}
    assert told == {"unmatched": reasons._STRANGE, "suspicious": reasons._TWO_KEYS}
