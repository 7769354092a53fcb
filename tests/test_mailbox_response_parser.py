"""What the server says is understood as it was meant, whatever form it takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.mailbox import FolderInfo, response_parser, utf7


@pytest.mark.parametrize(
    ("name", "travels"),
    [
        ("INBOX", "INBOX"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("R&D", "R&-D"),
        ("台北/日本語", "&U,BTFw-/&ZeVnLIqe-"),
        ("a\r\nb", "a&AA0ACg-b"),
        ("📬", "&2D3c7A-"),
    ],
)
def test_folder_names_travel_in_modified_utf_7(name: str, travels: str) -> None:
    assert utf7.encode(name) == travels
    assert utf7.decode(travels.encode()) == name


@given(st.text())
def test_every_folder_name_comes_back_as_it_went(name: str) -> None:
    travels = utf7.encode(name)
    assert travels.isascii()
    assert "\r" not in travels
    assert "\n" not in travels
    assert utf7.decode(travels.encode()) == name


@pytest.mark.parametrize("raw", [b"R&D", b"&AAAAA-", b"&2D0-", b"\xff"])
def test_a_name_that_is_no_modified_utf_7_is_shown_as_it_is(raw: bytes) -> None:
    assert utf7.decode(raw) == raw.decode("utf-8", "replace")


def test_a_quote_or_backslash_cannot_leave_its_string() -> None:
    assert utf7.quote('a"b\\c') == '"a\\"b\\\\c"'


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (b"17-Jul-2026 02:44:25 -0700", datetime(2026, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b" 7-jan-1996 02:44:25 +0530", datetime(1996, 1, 6, 21, 14, 25, tzinfo=UTC)),
        (b"31-Dec-2016 23:59:60 +0000", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_internaldate_is_read_as_utc(text: bytes, instant: datetime) -> None:
    assert response_parser.instant(text) == instant


@pytest.mark.parametrize("text", [b"", b"yesterday", b"31-Feb-2026 00:00:00 +0000", b"01-Jan-0001 00:00:00 +9959"])
def test_a_date_that_is_none_counts_as_now(text: bytes) -> None:
    assert abs(response_parser.instant(text) - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_body_may_be_a_literal_a_quoted_string_or_nil() -> None:
    literal = (b"1 FETCH (UID 5 BODY[] {3}", bytearray(b"a(b"), b" FLAGS (\\Seen))")
    quoted = (rb'2 FETCH (BODY[]<0> "5 * 3 :) \"so\" \\ {9}" UID 6)',)
    nil = (b"3 FETCH (UID 7 BODY[] NIL)",)
    told = response_parser.fetched([literal, quoted, nil])
    assert response_parser.body(told[5]) == b"a(b"
    assert told[5]["FLAGS"] == [b"\\Seen"]
    assert response_parser.body(told[6]) == rb'5 * 3 :) "so" \ {9}'
    assert response_parser.body(told[7]) is None


def test_what_is_told_in_two_responses_is_one_message() -> None:
    told = response_parser.fetched([(b"1 FETCH (UID 5 RFC822.SIZE 10)",), (b"1 FETCH (UID 5 FLAGS (\\Seen))",)])
    assert told == {5: {"UID": b"5", "RFC822.SIZE": b"10", "FLAGS": [b"\\Seen"]}}


@pytest.mark.parametrize("line", [b"1 FETCH (UID 5", b"1 FETCH (UID 5))", b'1 FETCH (BODY[] "a)', b"1 FETCH (UID)"])
def test_a_broken_response_is_an_error_and_no_guess(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"closed|without a list|shorter"):
        response_parser.fetched([(line,)])


@given(st.binary(max_size=60))
def test_nonsense_raises_nothing_but_value_errors(nonsense: bytes) -> None:
    for line in (b"1 FETCH (" + nonsense, b"LIST (" + nonsense):
        try:
            response_parser.fetched([(line,)])
            response_parser.folders([(line,)])
        except ValueError:
            continue


def test_folders_are_listed_with_their_use_whatever_form_their_names_take() -> None:
    lines = [
        (rb'LIST (\HasNoChildren) "/" inbox',),
        (rb'LIST (\Junk \HasNoChildren) "/" "Spam \"x\""',),
        (rb'LIST (\Noselect) "/" Archive',),
        (rb"LIST (\Spam) NIL {4}", bytearray(b"R&-D"), b""),
        (rb'LIST () "/" "a" ("CHILDINFO" ("SUBSCRIBED"))',),
        (b"5 EXISTS",),
    ]
    assert [folder for folder, _ in response_parser.folders(lines)] == [
        FolderInfo("INBOX"),
        FolderInfo('Spam "x"', r"\junk"),
        FolderInfo("R&D", r"\junk"),
        FolderInfo("a"),
    ]
