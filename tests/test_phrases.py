"""Tables of phrases: looking up a few runs of characters finds what reading every phrase finds."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from receiptd.interpret.phrases import Phrases, Tables

TABLES = [
    ("first", Phrases("mailbox full | user * unknown | [spf] | no")),
    ("second", Phrases("quota | unknown user | abcdef | abcdefg")),
    ("third", Phrases("容量 | is full | full")),
]
PIECES = st.sampled_from(
    ["mailbox full", "user", "unknown", "spf", "quota", "abcdef", "容量", "is full", " ", "x", "ab"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@example("the mailbox is full")
@example("xabcdefx")
@example("xxabcdefg")
@example("user of this host unknown")
def test_the_first_table_of_which_a_phrase_stands_in_the_text_wins_wherever_it_stands(text: str) -> None:
    assert Tables(TABLES).first_in(text) == next((name for name, phrases in TABLES if phrases.are_in(text)), None)


def test_half_a_character_that_no_encoding_knows_hides_no_phrase() -> None:
    assert Tables(TABLES).first_in("\ud83d quota") == "second"
