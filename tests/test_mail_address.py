"""Mail addresses: checked, read out of lists, and compared in all their spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.errors import BadData
from receiptd.mail import address as addresses
from receiptd.mail.address import parse_address
from receiptd.mail.address_list import Mailbox, parse_mailboxes


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
    assert addresses.key("Bob@BÜCHER.example") == addresses.key("Bob@xn--bcher-kva.EXAMPLE")
    assert addresses.key("Bob@b.org") != addresses.key("bob@b.org")
    assert addresses.key("| /usr/bin/procmail") == "| /usr/bin/procmail"


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


@pytest.mark.parametrize(
    "spelling",
    ["tür@straße.de", "tür@STRASSE.DE", r"t\x{FC}r@straße.de", "<tür@straße.de>", "tür@xn--strae-oqa.de."],
)
def test_the_forms_of_rfc_6533_and_idn_are_one_address(spelling: str) -> None:
    if "SS" in spelling:
        assert addresses.key(spelling) != addresses.key("tür@straße.de")  # IDNA 2008: another domain
    else:
        assert addresses.key(spelling) == "tür@xn--strae-oqa.de"


def test_the_local_part_is_its_servers_to_fold() -> None:
    assert addresses.key("Bob@B.ORG") == "Bob@b.org"
    assert addresses.same("Bob@B.ORG", "bob@b.org")
    assert not addresses.same("bob@b.org", "bob@c.org")


@given(st.text(max_size=60))
def test_any_text_has_a_key_that_is_stable(text: str) -> None:
    assert addresses.key(text) == addresses.key(text)
