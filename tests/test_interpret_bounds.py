"""Whatever the bytes, interpret returns, soon, and in little memory."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.facts import Report
from receiptd.interpret import interpret

RECORDED = [path.read_bytes() for path in sorted((Path(__file__).parent / "fixtures" / "reports").glob("*.eml"))]
MEGABYTE = 1_000_000
DAEMON = b"From: MAILER-DAEMON@x.org\nTo: a@b.c\nReturn-Path: <>\nSubject: failure notice\n"
MIXED = DAEMON + b'Content-Type: multipart/mixed; boundary="b"\n\n'
STATUS = DAEMON + b"Content-Type: message/delivery-status\n\n"
HTML = DAEMON + b"Content-Type: text/html\n\n"
BLOCKS = b"".join(b"Final-Recipient: rfc822; a%d@b.c\nAction: failed\n\n" % at for at in range(15_000))


def nested(depth: int) -> bytes:
    return DAEMON + b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (at, at) for at in range(depth)
    )


HOSTILE = {
    "a-thousand-nested": nested(1000),
    "nested": nested(20_000)[:MEGABYTE],
    "delimiters": MIXED + b"--b\n" * 250_000,
    "false-delimiters": MIXED + b"--bx\n" * 200_000,
    "same-boundary": MIXED + b'--b\nContent-Type: multipart/mixed; boundary="b"\n\n' * 20_000,
    "fields": b"a:\n" * 333_333,
    "folds": b"Subject: x\n" + b" y\n" * 333_333,
    "comments": b"From: " + b"(" * 200_000 + b"\n" + DAEMON,
    "brackets": b"References: " + b"<" * MEGABYTE,
    "at-signs": DAEMON + b"\n" + b"@" * MEGABYTE,
    "locals": DAEMON + b"\n" + b"a@" * 500_000,
    "addresses": DAEMON + b"\n" + b"a@b.c " * 160_000,
    "recipients": DAEMON
    + b"\nThe following addresses failed:\n"
    + b"".join(b"a%d@b.c: 550 5.1.1 unknown\n" % at for at in range(35_000)),
    "failed-recipients": b"X-Failed-Recipients: "
    + b",".join(b"a%d@b.c" % at for at in range(40_000))
    + b"\n\n"
    + b"x@y.z\n" * 90_000,
    "angles": HTML + b"<" * MEGABYTE,
    "styles": HTML + b"<style" * 160_000,
    "entities": HTML + b"&amp" * 250_000,
    "same-recipients": STATUS + b"Final-Recipient: rfc822; a@b.c\nAction: failed\n\n" * 20_000,
    "one-block": STATUS + b"Reporting-MTA: dns; x\n\n" + b"Final-Recipient: rfc822; a@b.c\n" * 30_000,
    "many-recipients": DAEMON
    + b"Content-Type: multipart/report; boundary=b\n\n--b\n\nunable to deliver to\n"
    + b"\n".join(b"a%d@b.c" % at for at in range(8000))
    + b"\n--b\nContent-Type: message/delivery-status\n\n"
    + BLOCKS,
    "codes": DAEMON + b"\n" + b"550 " * 250_000,
    "words": b"Subject: " + b"=?utf-8?q?a?= " * 70_000 + b"\n\n",
    "open-words": b"Subject: " + b"=?" * 500_000 + b"\n\n",
    "parameters": b"Content-Type: multipart/mixed" + b"; a" * 333_333 + b"\n\n",
    "json": DAEMON + b'\n{"notificationType":' + b"[" * MEGABYTE,
    "keywords": DAEMON + b"\n" + b"rcpt to mailbox " * 60_000,
    "dates": b"Auto-Submitted: auto-replied\n\n" + b"until the " * 100_000,
    "noise": random.Random(1).randbytes(MEGABYTE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_made_to_hurt_takes_less_than_a_second(name: str) -> None:
    begun = time.process_time()
    report = interpret(HOSTILE[name])
    assert time.process_time() - begun < 1.0
    assert len(report.recipients) <= 500


@pytest.mark.parametrize("name", ["nested", "fields", "addresses", "recipients", "many-recipients", "angles", "noise"])
def test_it_takes_no_more_than_a_few_times_the_memory_of_the_message(name: str) -> None:
    raw = HOSTILE[name]
    tracemalloc.start()
    try:
        interpret(raw)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(raw)
    finally:
        tracemalloc.stop()


def test_fifty_megabytes_cost_no_more_than_two() -> None:
    raw = MIXED + b"--b\n\n" + (b"y" * 77 + b"\n") * 640_000
    tracemalloc.start()
    try:
        begun = time.process_time()
        interpret(raw)
        assert time.process_time() - begun < 1.0
        assert tracemalloc.get_traced_memory()[1] < len(raw) / 4
    finally:
        tracemalloc.stop()


def is_sound(report: Report) -> bool:
    """Whether every text can be stored: lone surrogates no database takes, null characters not every one."""
    texts = list(_texts(report))
    return all(text.encode() and "\0" not in text for text in texts if text) and all(
        len(token) == 24 for token in report.tokens
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)
    elif is_dataclass(value):
        for each in fields(value):
            yield from _texts(getattr(value, each.name))


@pytest.mark.parametrize("charset", ["utf-7", "utf-8", "utf-16"])
@pytest.mark.parametrize("text", ["+2AA-", "+AAA-", "x\0y", "\xd8\0"])
def test_what_no_database_takes_is_replaced(charset: str, text: str) -> None:
    raw = f"""\
From: MAILER-DAEMON@x.org (=?{charset}?q?{text}?=)
Subject: =?{charset}?q?Undelivered {text}?= {text}
Content-Type: text/plain; charset={charset}

<bob+00@b.org>: 550 no such user {text}
""".replace("Undelivered ", "Undelivered_")
    assert is_sound(interpret(raw.encode("latin-1")))


@given(st.binary(max_size=4000))
def test_random_bytes_never_raise(raw: bytes) -> None:
    assert is_sound(interpret(raw))


@given(st.data())
def test_mutated_reports_never_raise(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(RECORDED)))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(raw)))
        until = min(len(raw), at + data.draw(st.integers(0, 40)))
        raw[at:until] = data.draw(
            st.one_of(st.binary(max_size=20), st.sampled_from([bytes(raw[at : at + 200]), b"\n\n", b""]))
        )
    assert is_sound(interpret(bytes(raw)))


@given(st.sampled_from(RECORDED), st.integers(0, 6000))
def test_a_report_cut_anywhere_never_raises(raw: bytes, length: int) -> None:
    assert is_sound(interpret(raw[:length]))


@given(st.text(alphabet=st.sampled_from(list("ab@<>:;()=?\"' \n-_.5&\\[]{}/+*#é配")), max_size=2000))
def test_text_of_the_characters_that_matter_never_raises(text: str) -> None:
    raw = f"From: MAILER-DAEMON\nSubject: {text[:50]}\nContent-Type: {text[50:120]}\n{text}".encode()
    assert is_sound(interpret(raw))
