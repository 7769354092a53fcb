"""What a person sees must be what is there, whoever wrote it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receiptd import terminal


def test_a_strangers_text_moves_no_cursor_and_turns_no_words() -> None:
    assert terminal.safe("a\x1b[2J\r\nb\x9b\u202ec\u200d\u2066\ufeff\ud800\U000e0041") == (
        "a\\x1b[2J\\x0d\\x0ab\\x9b\\u202ec\\u200d\\u2066\\ufeff\\ud800\\U000e0041"
    )
    assert terminal.safe("Jürgen 张三 😀") == "Jürgen 张三 😀"


@given(st.text())
def test_safe_text_is_one_printable_line(text: str) -> None:
    shown = terminal.safe(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
