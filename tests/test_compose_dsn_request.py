"""The parameters of MAIL and RCPT that ask for reports (RFC 3461, 6533)."""

from __future__ import annotations

import pytest

from receiptd import correlation_token
from receiptd.compose import (
    mail_parameters,
    notify_value,
    original_recipient,
    rcpt_parameters,
)
from receiptd.errors import BadData
from receiptd.mail import xtext

TOKEN = "abcdefghijklmnopqrstuv23"


def test_mail_parameters_come_once_and_only_where_offered() -> None:
    everything = mail_parameters(envelope_id=TOKEN, ret="hdrs", smtputf8=True, body_8bit=True, size=99, dsn=True)
    assert everything == ["SIZE=99", "BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", f"ENVID={TOKEN}"]
    assert mail_parameters(envelope_id=TOKEN, ret="hdrs", smtputf8=False, body_8bit=False, size=None, dsn=False) == []


@pytest.mark.parametrize("envid", ["x" * 101, "a\r\nRCPT TO:<x@y.org>", "a\0", "", "tür", "=" * 34])
def test_an_envelope_id_that_would_break_the_command_is_refused(envid: str) -> None:
    with pytest.raises(BadData):
        mail_parameters(envelope_id=envid, ret="hdrs", smtputf8=False, body_8bit=False, size=None, dsn=True)


def test_ret_knows_two_words() -> None:
    with pytest.raises(BadData):
        mail_parameters(envelope_id=TOKEN, ret="hdrs SIZE=1", smtputf8=False, body_8bit=False, size=None, dsn=True)


def test_a_made_token_needs_no_xtext_and_stays_short() -> None:
    made = correlation_token.make()
    assert xtext.encode(made) == made
    assert len(made) <= 38


def test_the_token_of_a_check_is_a_token_like_any_other() -> None:
    first, second = correlation_token.make_for_check(), correlation_token.make_for_check()
    assert correlation_token.find(first) == (first,)
    assert first != second
    assert correlation_token.is_of_check(first)


def test_each_recipient_has_its_own_orcpt() -> None:
    assert rcpt_parameters("a+b=c@x.org", notify=("success", "Failure"), smtputf8=False, dsn=True) == [
        "NOTIFY=SUCCESS,FAILURE",
        "ORCPT=rfc822;a+2Bb+3Dc@x.org",
    ]
    assert rcpt_parameters("a@x.org", notify=("success", "failure"), smtputf8=True, dsn=False) == []


def test_an_orcpt_over_500_characters_is_left_out() -> None:
    just_fits = "a" * 487 + "@x.org"
    assert len(rcpt_parameters(just_fits, notify=["failure"], smtputf8=False, dsn=True)[1]) == len("ORCPT=") + 500
    assert rcpt_parameters("a" + just_fits, notify=["failure"], smtputf8=False, dsn=True) == ["NOTIFY=FAILURE"]
    assert rcpt_parameters("+" * 480 + "@x.org", notify=["failure"], smtputf8=False, dsn=True) == ["NOTIFY=FAILURE"]


@pytest.mark.parametrize(
    ("notify", "value"),
    [
        (("failure", "SUCCESS"), "SUCCESS,FAILURE"),
        (("delay", "success", "failure"), "SUCCESS,FAILURE,DELAY"),
        (("never",), "NEVER"),
        (("failure",), "FAILURE"),
    ],
)
def test_notify_is_written_in_upper_case(notify: tuple[str, ...], value: str) -> None:
    assert notify_value(notify) == value


@pytest.mark.parametrize(
    "notify", [("never", "success"), ("success",), (), ("failure", "always"), ("failure RET=FULL",)]
)
def test_a_notify_that_would_lose_failures_is_refused(notify: tuple[str, ...]) -> None:
    with pytest.raises(BadData):
        notify_value(notify)


def test_a_non_ascii_address_goes_as_utf_8() -> None:
    assert original_recipient("tür@x.de", smtputf8=False) == r"utf-8;t\x{FC}r@x.de"
    assert original_recipient("tür@x.de", smtputf8=True) == "utf-8;tür@x.de"
    assert original_recipient("tü+r=\\ \x07@x.de", smtputf8=True) == r"utf-8;tü\x{2B}r\x{3D}\x{5C}\x{20}\x{07}@x.de"
    assert original_recipient("ü+😀@x.de", smtputf8=False) == r"utf-8;\x{FC}\x{2B}\x{1F600}@x.de"
