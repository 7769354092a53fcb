"""Stage and reply decide what a reply of the relay means, by one table that the docs show too."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.smtp.meaning import CONSEQUENCES, TABLE, Meaning, ReplyStage, meaning_of
from receiptd.smtp.reply import Reply

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"
STAGES: tuple[ReplyStage, ...] = get_args(ReplyStage)


def documented() -> list[list[str]]:
    """Return the rows of the table in the docs."""
    lines = iter(DESIGN.read_text(encoding="utf-8").splitlines())
    rows = []
    for line in lines:
        if line.startswith("| stage | reply | means |"):
            next(lines)
            while (row := next(lines)).startswith("|"):
                rows.append([cell.strip() for cell in row.strip("|").split("|")])
    return rows


def test_the_docs_show_the_table_that_the_code_uses() -> None:
    shown = [
        [
            ", ".join(rule.stages),
            ", ".join(rule.replies) + (f" {rule.condition}" if rule.condition else ""),
            rule.meaning.value,
            CONSEQUENCES[rule.meaning],
        ]
        for rule in TABLE
    ]
    assert documented() == shown


def test_every_stage_and_reply_of_the_table_exists() -> None:
    words = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"}
    for rule in TABLE:
        assert set(rule.stages) <= set(STAGES)
        assert all(reply in words or 200 <= int(reply) < 600 for reply in rule.replies)


@pytest.mark.parametrize(
    ("stage", "code", "text", "meaning"),
    [
        ("MAIL", 550, "5.7.1 sender not owned by user", Meaning.ABOUT_US),
        ("MAIL", 552, "too much mail data", Meaning.TOO_BIG),
        ("RCPT", 550, "5.1.1 no such user", Meaning.RECIPIENT_REFUSED),
        ("RCPT", 552, "5.2.2 mailbox full", Meaning.RECIPIENT_REFUSED),
        ("RCPT", 530, "5.7.0 Authentication required", Meaning.ABOUT_US),
        ("RCPT", 421, "4.3.2 shutting down", Meaning.DROP),
        ("DATA", 354, "go ahead", Meaning.PROCEED),
        ("DATA", 250, "what?", Meaning.DROP),
        ("DATA", 554, "5.5.1 no valid recipients", Meaning.MESSAGE_REFUSED),
        ("final dot", 250, "2.0.0 Ok: queued", Meaning.ACCEPTED),
        ("final dot", 554, "5.7.1 spam", Meaning.MESSAGE_REFUSED),
        ("final dot", 552, "5.3.4 too big", Meaning.TOO_BIG),
        ("final dot", 421, "4.3.2 shutting down", Meaning.ABOUT_US),
        ("final dot", 354, "more", Meaning.UNCERTAIN),
    ],
)
def test_what_a_reply_means_depends_on_where_it_comes(
    stage: ReplyStage, code: int, text: str, meaning: Meaning
) -> None:
    assert meaning_of(stage, Reply(code, text)) is meaning


def test_dsn_parameters_are_refused_only_where_they_were_sent() -> None:
    refusal = Reply(555, "5.5.4 Unsupported option")
    assert meaning_of("RCPT", refusal, dsn=True) is Meaning.WITHOUT_DSN
    assert meaning_of("RCPT", refusal) is Meaning.RECIPIENT_REFUSED


def test_no_reply_is_uncertain_after_the_final_dot_alone() -> None:
    unknown = {stage for stage in STAGES if meaning_of(stage, None) is Meaning.UNCERTAIN}
    assert unknown == {"final dot"}


@given(st.sampled_from(STAGES[STAGES.index("RSET") :]), st.integers(0, 999), st.booleans())
def test_every_reply_has_a_meaning_and_only_the_final_dot_accepts(stage: ReplyStage, code: int, dsn: bool) -> None:
    meaning = meaning_of(stage, Reply(code, ""), dsn=dsn)
    assert (meaning is Meaning.ACCEPTED) == (stage == "final dot" and 200 <= code < 300)
    if stage == "DATA":
        assert (meaning is Meaning.PROCEED) == (code == 354)
