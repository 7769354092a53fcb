"""Tables and pages keep their columns and their times, whatever they hold."""

from __future__ import annotations

from receiptd import pages


def test_columns_are_as_wide_as_what_they_hold() -> None:
    assert pages.table(("A", "B"), [("张三", "x"), ("e\u0301", None), ("abcde", "")]) == [
        "A      B",
        "张三   x",
        "e\u0301      -",
        "abcde  -",
    ]


def test_instants_are_told_to_the_second() -> None:
    assert pages.when("2026-11-24T09:30:00.123456Z") == "2026-11-24 09:30:00Z"
    assert pages.when("2026-11-24T09:30:00+00:00") == "2026-11-24 09:30:00Z"
    assert pages.when(None) == ""
