"""What compose.address must do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.compose import Mailbox, address_key, parse_address, parse_mailboxes
from receiptd.errors import BadData


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("bob@b.org", "bob@b.org"),
        (" <Bob@B.Org> ", "Bob@b.org"),
        ("bob@Bücher.example", "bob@xn--bcher-kva.example"),
        ("bob@straße.de", "bob@xn--strae-oqa.de"),
        ("tür@x.de", "tür@x.de"),
        ('"a b"@x.org', '"a b"@x.org'),
        ("a..b@docomo.example", "a..b@docomo.example"),
        ("root@localhost", "root@localhost"),
        ("x@[192.0.2.1]", "x@[192.0.2.1]"),
        ("x@[IPv6:2001:db8::1]", "x@[IPv6:2001:db8::1]"),
    ],
)
def test_an_address_keeps_its_local_part_and_has_an_ascii_domain(text: str, address: str) -> None:
    assert parse_address(text) == address
    assert parse_address(address) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bob",
        "@b.org",
        "bob@",
        "bob@b.org\r\nRCPT TO:<x@y.org>",
        "bob@b.org\n",
        "bob\0@b.org",
        "bob smith@b.org",
        "a@b@c.org",
        "bob@b.org carol@c.org",
        "bob@b..org",
        "bob@-b.org",
        "bob@b.org> NOTIFY=NEVER",
        "a" * 65 + "@b.org",
        "bob@" + "b." * 130 + "org",
        "bob@\u2028.org",
        "\ud800@b.org",
        "bob@xn--\u00fc.org",
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadData) as refused:
        parse_address(text)
    assert "\n" not in str(refused.value)
    assert "\r" not in str(refused.value)


def test_two_spellings_of_one_address_have_one_key() -> None:
    assert address_key("Bob@BÜCHER.example") == address_key("Bob@xn--bcher-kva.EXAMPLE")
    assert address_key("Bob@b.org") != address_key("bob@b.org")
    assert address_key("| /usr/bin/procmail") == "| /usr/bin/procmail"


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", []),
        ("bob@b.org, carol@c.org", ["bob@b.org", "carol@c.org"]),
        ('"Smith, Bob" <bob@b.org>, Carol <carol@c.org>', ["bob@b.org", "carol@c.org"]),
        ("bob@b.org (Bob (the, builder)), (x) carol@c.org", ["bob@b.org", "carol@c.org"]),
        ("Team: bob@b.org, Carol <carol@c.org>; dave@d.org", ["bob@b.org", "carol@c.org", "dave@d.org"]),
        ("undisclosed-recipients:;", []),
        ("=?utf-8?q?M=C3=BCller=2C_Bob?= <bob@b.org>", ["bob@b.org"]),
        ("Bob <@relay.org,@other.org:bob@b.org>", ["bob@b.org"]),
        ("bob @ b . org", ["bob@b.org"]),
        (",, bob@b.org,", ["bob@b.org"]),
        ('"a, b"@x.org', ['"a, b"@x.org']),
        ('"a \\" b" <bob@b.org>', ["bob@b.org"]),
        ("x@[IPv6:2001:db8::1], bob@b.org", ["x@[IPv6:2001:db8::1]", "bob@b.org"]),
        ("Jürgen <tür@x.de>", ["tür@x.de"]),
    ],
)
def test_an_address_list_names_each_mailbox(text: str, addresses: list[str]) -> None:
    assert [mailbox.address for mailbox in parse_mailboxes(text)] == addresses


def test_a_name_is_read_without_its_quotes() -> None:
    assert parse_mailboxes('"Smith, \\"Bob\\"" <bob@b.org>') == [Mailbox('Smith, "Bob"', "bob@b.org")]


@pytest.mark.parametrize(
    "text",
    [
        "Bob <bob@b.org> carol@c.org",
        "Bob <bob@b.org",
        '"Bob <bob@b.org>',
        "bob@b.org (Bob",
        "<a@b.org><c@d.org>",
        "a@b.org>",
    ],
)
def test_a_list_that_needs_a_guess_is_refused(text: str) -> None:
    with pytest.raises(BadData):
        parse_mailboxes(text)


@given(st.text(max_size=60))
def test_reading_a_list_either_works_or_says_why_not(text: str) -> None:
    try:
        for mailbox in parse_mailboxes(text):
            parse_address(mailbox.address)
    except BadData:
        pass


@given(st.text(alphabet='ab@."<>(),;: \\\r\n', max_size=40))
def test_what_passes_as_address_can_stand_in_a_command(text: str) -> None:
    try:
        address = parse_address(text)
    except BadData:
        return
    assert not set("\r\n\0") & set(address)
    assert address.startswith('"') or not set(" <>,;:") & set(address)
