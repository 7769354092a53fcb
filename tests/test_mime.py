"""Our own bounded reader of MIME: what it finds, and what it never does whatever the bytes."""

from __future__ import annotations

import pytest

from receiptd.interpret import mime

HEADER = b'Subject: x\nContent-Type: multipart/mixed; boundary="=_b"\n\n'


def types(raw: bytes) -> list[str]:
    return [part.type for part in mime.read(raw).parts]


def test_parts_are_found_in_order() -> None:
    raw = HEADER + b"preamble\n--=_b\n\none\n--=_b\nContent-Type: text/html\n\n<p>two</p>\n--=_b--\nepilogue\n"
    root = mime.read(raw)
    assert [part.type for part in root.parts] == ["multipart/mixed", "text/plain", "text/html"]
    assert [part.text().strip() for part in root.parts[1:]] == ["one", "two"]


def test_line_ends_may_be_mixed() -> None:
    raw = HEADER.replace(b"\n", b"\r\n") + b"--=_b\r\nContent-Type: text/html\r\n\r\none\n--=_b--\n"
    assert types(raw) == ["multipart/mixed", "text/html"]


def test_a_boundary_that_begins_like_another_is_not_the_same() -> None:
    assert types(HEADER + b"--=_b\n\none\n--=_bb\nContent-Type: text/html\n\ntwo\n--=_b--\n") == [
        "multipart/mixed",
        "text/plain",
    ]


def test_a_missing_closing_delimiter_loses_nothing() -> None:
    assert mime.read(HEADER + b"--=_b\n\none\n").parts[1].text() == "one\n"


def test_a_declared_boundary_that_never_occurs_gives_way_to_the_one_that_does() -> None:
    assert types(HEADER + b"--real\nContent-Type: text/html\n\none\n--real--\n") == ["multipart/mixed", "text/html"]


def test_a_gateway_that_dropped_the_type_line_left_the_parts() -> None:
    raw = b"Subject: x\n\nThis message is in MIME format.\n\n--real\nContent-Type: text/html\n\none\n--real--\n"
    assert types(raw) == ["multipart/mixed", "text/html"]


def test_the_copy_of_a_multipart_in_text_is_text() -> None:
    raw = b"Subject: x\n\nIt failed.\n\nReceived: by b.org\n\n--real\nContent-Type: text/html\n\none\n--real--\n"
    assert types(raw) == ["text/plain"]


def test_text_before_a_header_and_blank_lines_before_it_do_no_harm() -> None:
    raw = b"\r\n\nFrom MAILER-DAEMON Tue Nov 24 02:34:02 2026\nSubject: x\n\nbody\n"
    assert mime.read(raw).header.first("subject") == "x"


def test_a_part_whose_header_slipped_below_a_blank_line_has_its_type() -> None:
    assert types(HEADER + b"--=_b\n\nContent-Type: text/html\n\none\n--=_b--\n") == ["multipart/mixed", "text/html"]


def test_an_embedded_message_is_not_opened_but_its_header_can_be_read() -> None:
    root = mime.read(HEADER + b"--=_b\nContent-Type: message/rfc822\n\nSubject: inner\n" + HEADER + b"\n--=_b--\n")
    assert [part.type for part in root.parts] == ["multipart/mixed", "message/rfc822"]
    assert root.parts[1].embedded_header().first("subject") == "inner"


def test_an_encoded_message_is_decoded_where_the_standard_library_leaves_it() -> None:
    raw = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogaW5uZXIKCmJvZHkK\n"
    assert mime.read(raw).embedded_header().first("subject") == "inner"


def test_a_charset_that_is_no_charset_is_guessed() -> None:
    for charset in (b"x-unknown", b"punycode", b"zip", b"unicode_escape", b"utf-8", b"cp99999"):
        raw = b"Content-Type: text/plain; charset=" + charset + b"\n\n" + "Grüße".encode()
        assert mime.read(raw).text() == "Grüße"


def test_no_more_than_64_parts_and_depth_8_are_read() -> None:
    wide = mime.read(HEADER + b"--=_b\n\nx\n" * 1000)
    assert len(wide.parts) <= mime.MOST_PARTS + 1
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (at, at) for at in range(1000))
    assert len(mime.read(deep).parts) <= mime.DEEPEST + 2


def test_nothing_behind_the_horizon_is_read() -> None:
    root = mime.read(HEADER + b"--=_b\n\n" + b"x" * mime.HORIZON + b"\n--=_b\nContent-Type: text/html\n\nlate\n")
    assert [part.type for part in root.parts] == ["multipart/mixed", "text/plain"]


def test_reading_copies_no_part() -> None:
    raw = HEADER + b"--=_b\n\none\n--=_b--\n"
    assert all(part.raw is raw for part in mime.read(raw).parts)


@pytest.mark.parametrize("raw", [b"", b"\n", b"\x00", b":", b"a", b"From ", b"Content-Type: multipart/mixed\n\n--"])
def test_scraps_are_read_as_scraps(raw: bytes) -> None:
    assert len(mime.read(raw).parts) == 1
