"""What several rooms know of mail syntax: xtext, return paths, timestamps, loopback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd import correlation_token
from receiptd.mail import address, xtext
from receiptd.mail.loopback import is_loopback
from receiptd.mail.return_path import ReturnPaths
from receiptd.mail.timestamps import rfc3339

TOKEN = "abcdefghijklmnopqrstuv23"
UNICODE = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(UNICODE)
def test_xtext_decodes_to_what_was_encoded(text: str) -> None:
    encoded = xtext.encode(text)
    assert encoded.isascii()
    assert all("!" <= character <= "~" and character != "=" for character in encoded)
    assert xtext.decode(encoded) == text


@given(UNICODE.filter(str.isprintable))
def test_printable_text_comes_back_from_xtext_that_a_server_left_in_a_report(text: str) -> None:
    assert xtext.decode_leniently(xtext.encode(text)) == text


@given(st.text())
def test_reading_foreign_xtext_never_fails_and_makes_no_control_character(text: str) -> None:
    decoded = xtext.decode_leniently(text)
    assert [one for one in decoded if not one.isprintable()] == [one for one in text if not one.isprintable()]


def test_xtext_of_careless_servers_is_read() -> None:
    assert xtext.decode_leniently("a+2bb+3dc") == "a+b=c"
    assert xtext.decode_leniently("a+b") == "a+b"


@pytest.mark.parametrize("text", ["t+C3+BCr", "t+c3+bcr"])
def test_xtext_is_read_as_utf_8(text: str) -> None:
    assert xtext.decode_leniently(text) == "tür"


@pytest.mark.parametrize("text", ["a+00b", "a+0Ab", "a+7Fb", "a+C2+85b", "a+FFb", "a+20+C3b", "+", "+2", "+2G"])
def test_what_would_become_a_control_character_or_isnt_utf_8_stays_xtext(text: str) -> None:
    assert xtext.decode_leniently(text) == text


@pytest.mark.parametrize("text", ["a b", "a=b", "a+", "a+2", "a+2b", "a+ZZ", "ü", "a+FF", "a\n"])
def test_what_isnt_xtext_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  UnicodeDecodeError is one
        xtext.decode(text)


@given(UNICODE, st.booleans())
def test_an_international_address_comes_back_from_its_escapes(text: str, smtputf8: bool) -> None:
    encoded = xtext.encode_utf8(text, smtputf8=smtputf8)
    assert smtputf8 or encoded.isascii()
    assert not {" ", "+", "="} & set(encoded)
    if all(one >= " " for one in text):
        assert xtext.decode_utf8(encoded) == text


@pytest.mark.parametrize(
    ("subaddress", "path"),
    [
        ("+", f"receipts+{TOKEN}@a.org"),
        ("-", f"receipts-{TOKEN}@a.org"),
        ("@", f"{TOKEN}@receipts.a.org"),
        ("", "receipts@a.org"),
    ],
)
def test_the_return_path_carries_the_token(subaddress: str, path: str) -> None:
    paths = ReturnPaths("receipts@a.org", subaddress)
    assert paths.of(TOKEN) == path
    assert paths.carry_token == (TOKEN in path)


@given(st.from_regex(r"[a-z]{1,20}@([a-z]{1,9}\.){1,3}[a-z]{2,5}", fullmatch=True), st.sampled_from(["+", "-", "@"]))
def test_a_token_is_found_in_the_return_path_that_was_made_of_it(receipts: str, subaddress: str) -> None:
    token = correlation_token.make()
    path = ReturnPaths(receipts, subaddress).of(token)
    assert correlation_token.find(path) == (token,)
    assert address.parse_address(path) == path


def test_an_instant_is_written_in_utc_to_the_second() -> None:
    east = timezone(timedelta(hours=2))
    assert rfc3339(datetime(2026, 3, 1, 1, 2, 3, 999999, tzinfo=east)) == "2026-02-28T23:02:03Z"
    assert rfc3339(None) is None


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)))  # noqa: DTZ001  Hypothesis wants it naive
def test_an_instant_comes_back_to_the_second(instant: datetime) -> None:
    assert datetime.fromisoformat(rfc3339(instant) or "") == instant.replace(microsecond=0)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
    ],
)
def test_what_never_leaves_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.example.org",
        "127.0.0.999",
        "127.0.0.1.example.org",
        "128.0.0.1",
        "0.0.0.0",
        "::",
        "::2",
        "::ffff:1.2.3.4",
    ],
)
def test_any_other_host_is_not(host: str) -> None:
    """`127.0.0.999` is no address, so it is looked up as a name, and DNS may send a name anywhere."""
    assert not is_loopback(host)
