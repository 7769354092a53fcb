"""What a server's words mean: replies, capabilities, the dialogue, the relay's own Message-ID."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.smtp import Capabilities, Dialogue, Reply, parse_url
from receiptd.smtp.content import stuff_dots
from receiptd.smtp.reply import alias_message_id, read_capabilities, replaces_return_path

OUTLOOK = "smtp.office365.com"


@pytest.mark.parametrize(
    ("text", "enhanced"),
    [
        ("5.1.1 no such user", "5.1.1"),
        ("5.1.1", "5.1.1"),
        ("Ok", None),
        ("10.0.0.1 said no", None),
        ("5.1.1.1 x", None),
    ],
)
def test_the_enhanced_code_stands_in_front_or_is_unknown(text: str, enhanced: str | None) -> None:
    assert Reply(550, text).enhanced == enhanced


@pytest.mark.parametrize(
    ("reply", "about_size"),
    [
        (Reply(552, "5.3.4 too big"), True),
        (Reply(552, "message exceeds fixed maximum"), True),
        (Reply(554, "5.3.4 too big"), True),
        (Reply(552, "5.2.2 mailbox full"), False),
        (Reply(452, "4.3.1 insufficient system storage"), False),
        (Reply(550, "5.7.1 no"), False),
    ],
)
def test_only_a_refusal_for_size_is_about_size(reply: Reply, about_size: bool) -> None:
    assert reply.is_about_size is about_size


def test_capabilities_are_what_the_lines_after_the_first_offer() -> None:
    ehlo = "DSN.example greets you\nsize 50000\nDsn\n8BITMIME\nAUTH PLAIN LOGIN"
    offered = read_capabilities(ehlo, banner="hello", tls="TLSv1.3")
    assert offered == Capabilities(
        dsn=True,
        eightbitmime=True,
        size=50000,
        tls="TLSv1.3",
        banner="hello",
        lines=("DSN.example greets you", "size 50000", "Dsn", "8BITMIME", "AUTH PLAIN LOGIN"),
    )


@pytest.mark.parametrize(
    ("line", "size"), [("SIZE", 0), ("SIZE 0", 0), ("SIZE 12 3", 0), ("SIZE ²", 0), ("HELP", None)]
)
def test_size_without_a_number_names_no_limit(line: str, size: int | None) -> None:
    assert read_capabilities(f"x\n{line}", banner="", tls=None).size == size


def test_a_host_named_like_an_extension_offers_nothing() -> None:
    assert not read_capabilities("DSN", banner="", tls=None).dsn


@given(st.text(max_size=3000), st.lists(st.tuples(st.integers(200, 599), st.text(max_size=600)), max_size=30))
def test_a_dialogue_stays_under_2_kb_and_keeps_its_last_reply(opening: str, said: list[tuple[int, str]]) -> None:
    dialogue = Dialogue(opening)
    for code, text in said:
        dialogue.client("NOOP")
        dialogue.server(Reply(code, text))
    dialogue.server(Reply(250, "2.0.0 Ok: queued as 4XyZ1"))
    assert len(dialogue.text().encode()) <= 2048
    assert dialogue.text().endswith("S: 250 2.0.0 Ok: queued as 4XyZ1")


def test_a_long_opening_is_cut_before_the_transaction() -> None:
    dialogue = Dialogue("S: 220 " + "x" * 5000)
    dialogue.client("MAIL FROM:<a@a.test>")
    text = dialogue.text()
    assert text.startswith("S: 220 x")
    assert text.endswith("…\nC: MAIL FROM:<a@a.test>")


def test_every_line_of_a_reply_is_kept() -> None:
    dialogue = Dialogue()
    dialogue.server(Reply(550, "5.1.1 no\nsuch user"))
    assert dialogue.text() == "S: 550-5.1.1 no\nS: 550 such user"


def test_a_relay_that_replaces_the_return_path_is_known() -> None:
    assert replaces_return_path("email-smtp.eu-west-1.amazonaws.com")
    assert not replaces_return_path("smtp.office365.com")
    assert not replaces_return_path("email-smtp.eu-west-1.amazonaws.com.example.org")


SES = "0102018f9a6c1b2d-0a1b2c3d-1111-2222-3333-444455556666-000000"


@pytest.mark.parametrize(
    ("host", "text", "alias"),
    [
        ("email-smtp.eu-west-1.amazonaws.com", f"Ok {SES}", f"<{SES}@eu-west-1.amazonses.com>"),
        ("email-smtp.us-east-1.amazonaws.com", f"Ok {SES}", f"<{SES}@email.amazonses.com>"),
        ("email-smtp-fips.us-west-2.amazonaws.com", f"Ok {SES}", f"<{SES}@us-west-2.amazonses.com>"),
        ("mail.a.test", f"Ok {SES}", None),
        ("email-smtp.eu-west-1.amazonaws.com.evil.test", f"Ok {SES}", None),
        (
            OUTLOOK,
            "2.6.0 <AM0PR01MB1@AM0PR01MB1.eurprd01.prod.outlook.com> [InternalId=1, Hostname=x] 8 bytes in 0.2, "
            "40 KB/sec Queued mail for delivery",
            "<AM0PR01MB1@AM0PR01MB1.eurprd01.prod.outlook.com>",
        ),
        (OUTLOOK, "2.6.0 Queued mail for delivery", None),
        ("smtp.gmail.com", "2.0.0 OK  1700000000 abc123-20020a05600c.1 - gsmtp", None),
        ("mail.a.test", "2.0.0 Ok: queued as 4XyZ1", None),
    ],
)
def test_a_relay_that_renames_messages_tells_the_new_name(host: str, text: str, alias: str | None) -> None:
    assert alias_message_id(Reply(250, text), host) == alias


@pytest.mark.parametrize(
    ("url", "shown", "user"),
    [
        ("submission://user%40a.org@mail.a.org", "mail.a.org:587", "user@a.org"),
        ("submissions://u%2Bx@mail.a.org", "mail.a.org:465", "u+x"),
        ("smtp://localhost", "localhost:25", None),
        ("smtp://localhost:2525", "localhost:2525", None),
        ("smtp://[::1]:2525", "[::1]:2525", None),
    ],
)
def test_the_url_names_server_and_user(url: str, shown: str, user: str | None) -> None:
    server = parse_url(url)
    assert (str(server), server.user) == (shown, user)


@given(st.lists(st.sampled_from([b".", b"..", b"a", b"", b".a", b"a."]), max_size=8))
def test_a_server_reads_back_the_content_before_the_dot(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    *sent, dot, rest = stuff_dots(content).split(b"\r\n")
    assert (dot, rest) == (b".", b"")
    assert [line.removeprefix(b".") if line.startswith(b".") else line for line in sent] == lines
    assert b"." not in sent
