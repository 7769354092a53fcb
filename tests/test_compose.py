"""What compose must do with complete messages and with drafts (RFC 5322, 8098 §2)."""

from __future__ import annotations

import base64
import email
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import policy
from email.header import Header
from email.message import EmailMessage

import dkim
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from receiptd import correlation_token
from receiptd.compose import Attachment, Draft, Letter, adopt, check_fitness, compose, for_recipient, has_raw_header
from receiptd.errors import BadData

CONTENT_LINES = ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
PLAIN = b"From: me@a.org\r\nTo: bob@b.org\r\nMessage-ID: <1@a.org>\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n"


def addressed(letter: Letter) -> list[tuple[str, str]]:
    return [(addressee.address, addressee.role.value) for addressee in letter.recipients]


def read(letter: Letter) -> EmailMessage:
    message = email.message_from_bytes(letter.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


# A complete message


def test_a_complete_message_passes_byte_for_byte() -> None:
    raw = PLAIN + b"Subject:  odd   spacing\r\n\tand folds\r\nX-Odd : \xe4\r\n\r\nBody \xff\r\n\r\n.\r\n trailing \r\n"
    assert adopt(raw, now=NOW).content == raw


def test_only_what_must_not_be_sent_is_removed() -> None:
    unwanted = (
        b"Bcc: eve@e.org,\r\n frank@f.org\r\nRESENT-BCC: x@y.org\r\nDisposition-Notification-To: me@a.org\r\n"
        b"Disposition-Notification-Options: a=required,b\r\nX-Receipt-Require: displayed\r\nReceipt-Token: forged\r\n"
        b"Return-Path: <me@a.org>\r\nbcc : g@g.org\r\n"
    )
    letter = adopt(unwanted + PLAIN + unwanted + b"Subject: x\r\n\r\nbody\r\n", now=NOW)
    assert letter.content == PLAIN + b"Subject: x\r\n\r\nbody\r\n"


def test_blind_copies_are_recipients_and_nowhere_in_the_bytes() -> None:
    letter = adopt(PLAIN + b"Bcc: Eve <eve@e.org>\r\nCc: carol@c.org\r\n\r\nx\r\n", now=NOW)
    assert addressed(letter) == [("bob@b.org", "to"), ("carol@c.org", "cc"), ("eve@e.org", "bcc")]
    assert b"eve@" not in letter.content


def test_message_id_and_date_are_added_where_missing() -> None:
    raw = b"From: Me <me@A.org>\r\nTo: bob@b.org\r\nMessage-ID:\r\n\r\nx\r\n"
    letter = adopt(raw, now=NOW.astimezone(timezone(timedelta(hours=5))))
    message = read(letter)
    assert message["Date"] == "Tue, 24 Nov 2026 09:30:00 +0000"
    assert message.get_all("Message-ID") == [letter.message_id]
    assert re.fullmatch(r"<[^@<>\s]+@a\.org>", letter.message_id)
    assert correlation_token.find(letter.message_id) == ()
    assert letter.message_id != adopt(raw, now=NOW).message_id


def test_a_message_id_that_fits_no_line_is_refused_and_one_that_does_is_taken() -> None:
    def adopted(local: str) -> str:
        raw = f"From: a@a.org\nTo: b@b.org\nMessage-ID:\n <{local}@a.org>\n\n"
        return adopt(raw.encode(), now=NOW).message_id

    longest = "x" * (998 - len("<@a.org>"))
    assert adopted(longest) == f"<{longest}@a.org>"
    for local in (f"{longest}x", "é" * 500):
        with pytest.raises(BadData, match=r"Message-ID .* 998 octets .* leave it out"):
            adopted(local)


def test_a_message_id_on_the_next_line_is_found() -> None:
    assert adopt(b"From: a@a.org\nTo: b@b.org\nMessage-ID:\n <1@a.org>\n\n", now=NOW).message_id == "<1@a.org>"


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"])
def test_every_line_ends_in_crlf(line_break: bytes) -> None:
    raw = PLAIN + b"Bcc: eve@e.org\r\n\r\none\r\n\r\ntwo\r\n"
    letter = adopt(raw.replace(b"\r\n", line_break), now=NOW)
    assert letter.content == PLAIN + b"\r\none\r\n\r\ntwo\r\n"
    assert len(letter.recipients) == 2


def test_mixed_line_breaks_become_crlf() -> None:
    assert adopt(PLAIN + b"\r\na\nb\rc\r\r\nd\n\re", now=NOW).content.endswith(b"\r\n\r\na\r\nb\r\nc\r\n\r\nd\r\n\r\ne")


def test_an_mbox_line_is_left_out() -> None:
    assert adopt(b"From me@a.org Tue Nov 24 09:30:00 2026\r\n" + PLAIN + b"\r\nx", now=NOW).content == PLAIN + b"\r\nx"


def test_a_line_that_is_no_header_begins_the_body_for_every_reader() -> None:
    letter = adopt(PLAIN + b"no header line\r\nBcc: eve@e.org\r\n", now=NOW)
    assert letter.content == PLAIN + b"\r\nno header line\r\nBcc: eve@e.org\r\n"
    assert addressed(letter) == [("bob@b.org", "to")]


def test_a_message_of_a_header_alone_is_whole() -> None:
    assert adopt(PLAIN.removesuffix(b"\r\n"), now=NOW).content == PLAIN + b"\r\n"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no sender"),
        (b"\r\nFrom: me@a.org\r\n", "no sender"),
        (b"To: bob@b.org\r\n\r\nx", "no sender"),
        (b"From: me@a.org\r\n\r\nx", "no recipient"),
        (b"From: me@a.org\r\nTo: undisclosed-recipients:;\r\n\r\nx", "no recipient"),
        (b"From: me@a.org\r\nTo: bob\r\n\r\nx", "isn't a mail address"),
        (b"From: me@a.org\r\nTo: Bob <bob@b.org> carol@c.org\r\n\r\nx", "can't be read"),
        (b"From: root\r\nTo: bob@b.org\r\n\r\nx", "isn't a mail address"),
    ],
)
def test_a_message_that_can_not_be_sent_is_refused_with_a_sentence(raw: bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        adopt(raw, now=NOW)


def test_the_same_address_twice_is_one_recipient_in_its_strongest_role() -> None:
    letter = adopt(
        b"From: me@a.org\r\nBcc: bob@B.org, Eve@e.org\r\nCc: carol@b\xc3\xbccher.example, bob@b.org\r\n"
        b"To: carol@xn--bcher-kva.example, eve@e.org\r\n\r\n",
        now=NOW,
    )
    assert addressed(letter) == [
        ("carol@xn--bcher-kva.example", "to"),
        ("eve@e.org", "to"),
        ("bob@b.org", "cc"),
        ("Eve@e.org", "bcc"),
    ]


def test_a_resent_message_goes_to_whom_it_is_resent() -> None:
    letter = adopt(PLAIN + b"Resent-To: carol@c.org\r\nResent-Bcc: eve@e.org\r\n\r\n", now=NOW)
    assert addressed(letter) == [("carol@c.org", "to"), ("eve@e.org", "bcc")]


def test_named_recipients_stand_for_those_of_the_header_and_keep_their_role() -> None:
    raw = PLAIN + b"Cc: carol@c.org\r\n\r\nx"
    letter = adopt(raw, now=NOW, to=["dave@d.org", "carol@C.org"])
    assert addressed(letter) == [("dave@d.org", "to"), ("carol@c.org", "cc")]
    assert letter.content == raw
    unreadable = b"From: me@a.org\r\nTo: everybody\r\n\r\nx"
    assert addressed(adopt(unreadable, now=NOW, to=["dave@d.org"])) == [("dave@d.org", "to")]
    with pytest.raises(BadData):
        adopt(raw, now=NOW, to=["dave@d.org\r\nRCPT TO:<x@y.org>"])


def test_several_authors_and_from_lines_pass() -> None:
    raw = b"From: me@a.org, you@a.org\r\nFrom: they@a.org\r\nSender: me@a.org\r\n" + PLAIN[16:] + b"\r\n"
    letter = adopt(raw, now=NOW)
    assert letter.content == raw
    assert letter.from_address == "me@a.org"


def test_encoded_words_are_read() -> None:
    raw = (
        PLAIN
        + b"Subject: =?utf-8?B?VmVydHI=?=\r\n =?iso-8859-1?Q?_=E4g?= plain\r\n"
        + b"Reply-To: =?utf-8?q?=C3=BC?= <r@a.org>\r\n\r\n"
    )
    letter = adopt(raw, now=NOW)
    assert letter.subject == "Vertr äg plain"
    assert letter.reply_to == ("r@a.org",)


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        (b"=?x-unknown?Q?abc?=", "abc"),
        (b"=?utf-8?B?a?=", "=?utf-8?B?a?="),
        (b"=?utf-8?Q?=FF?=", "\ufffd"),
        ("Verträge".encode(), "Verträge"),
        ("Verträge".encode("latin-1"), "Verträge"),
        (b"", ""),
    ],
)
def test_an_odd_subject_is_shown_as_well_as_can_be(subject: bytes, shown: str) -> None:
    assert adopt(PLAIN + b"Subject: " + subject + b"\r\n\r\n", now=NOW).subject == shown


@pytest.mark.parametrize(
    ("lines", "may_request", "may_request_mdn"),
    [
        (b"", True, True),
        (b"Auto-Submitted: no\r\n", True, True),
        (b"Auto-Submitted: auto-generated\r\n", True, True),
        (b"Auto-Submitted: Auto-Replied (vacation)\r\n", False, False),
        (b"Auto-Submitted: auto-replied; owner-email=x\r\n", False, False),
        (b"Content-Type: Multipart/Report; report-type=delivery-status;\r\n boundary=x\r\n", False, False),
        (b"Newsgroups: comp.mail.misc\r\n", True, False),
        (b"List-Id: Crew <crew.lists.a.test>\r\n", True, False),
        (b"List-Post: <mailto:crew@lists.a.test>\r\n", True, False),
        (b"List-Unsubscribe: <https://a.test/u>\r\n", True, True),
    ],
)
def test_a_report_or_an_answer_of_an_automaton_asks_for_no_report(
    lines: bytes, may_request: bool, may_request_mdn: bool
) -> None:
    letter = adopt(PLAIN + lines + b"\r\nx\r\n", now=NOW)
    assert (letter.may_request, letter.may_request_mdn) == (may_request, may_request_mdn)


@pytest.mark.parametrize(
    ("header", "body", "eight_bit", "smtputf8"),
    [
        (b"Subject: x", b"plain", False, False),
        (b"Subject: x", b"\xc3\xa4", True, False),
        (b"Subject: \xc3\xa4", b"plain", True, True),
        (b"Cc: t\xc3\xbcr@x.de", b"plain", True, True),
        (b"Subject: \xe4", b"plain", True, False),
    ],
)
def test_what_the_relay_must_offer_is_known(header: bytes, body: bytes, eight_bit: bool, smtputf8: bool) -> None:
    letter = adopt(PLAIN + header + b"\r\n\r\n" + body + b"\r\n", now=NOW)
    assert (letter.needs_8bitmime, letter.needs_smtputf8) == (eight_bit, smtputf8)


def test_the_longest_line_is_measured_without_its_end() -> None:
    assert adopt(PLAIN + b"\r\n" + b"x" * 999 + b"\r\n" + b"y" * 998, now=NOW).longest_line == 999


_names = st.sampled_from([b"X-A", b"subject", b"Received", b"DKIM-Signature", b"MIME-Version", b"Comments"])
_values = st.binary(max_size=30).map(lambda value: re.sub(rb"[\r\n]+[ \t]*", b"\n ", value))
_removed = st.sampled_from([b"Bcc: eve@e.org", b"X-RECEIPT-Policy: x", b"disposition-notification-to : x@y.org"])
_lines = st.lists(st.tuples(st.booleans(), st.tuples(_names, _values).map(b": ".join), _removed), max_size=6)


@given(lines=_lines, body=st.binary(max_size=200))
def test_body_and_other_header_lines_are_the_same_and_in_order(
    lines: list[tuple[bool, bytes, bytes]], body: bytes
) -> None:
    kept = [line for is_kept, line, _ in lines if is_kept]
    given_lines = [line if is_kept else removed for is_kept, line, removed in lines]
    header = PLAIN.replace(b"\r\n", b"\n")
    letter = adopt(header + b"".join(line + b"\n" for line in given_lines) + b"\n" + body, now=NOW)
    expected = header + b"".join(line + b"\n" for line in kept) + b"\n" + body
    assert letter.content == re.sub(rb"\r\n?|\n", b"\r\n", expected)
    assert adopt(letter.content, now=NOW).content == letter.content


# Signatures


def copied(raw: bytes) -> bytes:
    """Return what a recipient gets of *raw*: a few lines are removed, a few inserted."""
    letter = adopt(raw, now=NOW)
    return for_recipient(letter.content, disposition_notification_to="receipts+x@a.org", receipt_token="x")


def test_an_smime_signature_survives() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me@a.org")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = b'Content-Type: text/plain; charset="utf-8"\n\nH\xc3\xa4llo \t\nFrom here\n'
    signed = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(text)
        .add_signer(certificate, key, hashes.SHA256())
        .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
    )
    sent = copied(b"From: me@a.org\nTo: bob@b.org\nBcc: eve@e.org\n" + signed)
    canonical = re.sub(rb"\r\n?|\n", b"\r\n", signed)
    assert sent.partition(b"\r\n\r\n")[2] == canonical.partition(b"\r\n\r\n")[2]
    parts = list(email.message_from_bytes(sent).walk())
    signature = parts[-1].get_payload(decode=True)
    assert isinstance(signature, bytes)
    boundary = email.message_from_bytes(sent).get_boundary()
    assert boundary
    part = sent.split(b"--" + boundary.encode() + b"\r\n")[1].removesuffix(b"\r\n")
    digest = hashes.Hash(hashes.SHA256())
    digest.update(part)
    assert digest.finalize() in signature  # the messageDigest attribute that the key signed


def test_a_pgp_mime_signature_survives() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    part = b"Content-Type: text/plain\r\n\r\n- dash \r\n\r\n.\r\n\r\ntrailing   \r\n"
    signature = key.sign(part).hex().encode()
    head = b'Content-Type: multipart/signed; boundary=b; protocol="application/pgp-signature"\r\nX-Receipt-A: 1\r\n\r\n'
    sent = copied(PLAIN + head + b"--b\r\n" + part + b"\r\n--b\r\n\r\n" + signature + b"\r\n--b--\r\n")
    received = sent.split(b"--b\r\n")
    key.public_key().verify(bytes.fromhex(received[2].split(b"\r\n")[1].decode()), received[1].removesuffix(b"\r\n"))


def test_a_dkim_signature_survives() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    raw = PLAIN + b"Subject:  odd   spacing\r\n\tfolded\r\n\r\nH\xc3\xa4llo  \r\n\r\n\r\nlast\r\n\r\n"
    signed = dkim.sign(raw, b"s", b"a.org", pem, canonicalize=(b"simple", b"simple")) + raw
    sent = copied(b"Bcc: eve@e.org\r\n" + signed)
    assert sent != signed
    assert dkim.verify(sent, dnsfunc=lambda *_args, **_options: record)


def test_a_copy_asks_for_exactly_one_read_receipt() -> None:
    sent = copied(b"Disposition-Notification-To: other@a.org\r\n" + PLAIN + b"\r\nx\r\n")
    message = email.message_from_bytes(sent)
    assert message.get_all("Disposition-Notification-To") == ["<receipts+x@a.org>"]
    assert message.get_all("Receipt-Token") == ["x"]
    content = adopt(PLAIN + b"\r\n", now=NOW).content
    assert for_recipient(content, disposition_notification_to=None, receipt_token=None) == content


# A draft


def test_a_draft_is_read_back_as_it_was_written() -> None:
    letter = compose(
        Draft(
            from_='"Müller, Jürgen" <me@a.org>',
            to=("Bob <bob@b.org>, carol@c.org", '"Smith, \\"Al\\"" <al@d.org>'),
            cc=("dave@d.org",),
            bcc=("eve@e.org",),
            subject="Verträge – " * 12,
            text="Grüße\n.\nFrom here\n" + "lang " * 500,
            html="<p>Grüße</p>",
            attachments=(Attachment("Übersicht 2026.pdf", "application/pdf", bytes(range(256))),),
            headers=(("X-Ref", "4711"), ("Reply-To", "Büro <office@a.org>"), ("Comments", "naïve")),
        ),
        now=NOW,
    )
    message = read(letter)
    assert message["From"].addresses[0].display_name == "Müller, Jürgen"
    assert [str(address.addr_spec) for address in message["To"].addresses] == ["bob@b.org", "carol@c.org", "al@d.org"]
    assert message["To"].addresses[2].display_name == 'Smith, "Al"'
    assert message["Subject"] == letter.subject == "Verträge – " * 12
    assert (message["X-Ref"], message["Comments"]) == ("4711", "naïve")
    assert message["Date"] == "Tue, 24 Nov 2026 09:30:00 +0000"
    assert "bcc" not in message
    assert addressed(letter)[-2:] == [("dave@d.org", "cc"), ("eve@e.org", "bcc")]
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n") == "Grüße\n.\nFrom here\n" + "lang " * 500 + "\n"
    assert html.get_content().strip() == "<p>Grüße</p>"
    [attachment] = message.iter_attachments()
    assert isinstance(attachment, EmailMessage)
    assert (attachment.get_filename(), attachment.get_content()) == ("Übersicht 2026.pdf", bytes(range(256)))
    assert letter.reply_to == ("office@a.org",)


def test_a_draft_goes_through_any_relay() -> None:
    letter = compose(
        Draft(
            "me@a.org", ("bob@bücher.example",), subject="ä" * 900, text="ß" * 5000 + "\n\rx", html="<p>" + "x" * 2000
        ),
        now=NOW,
    )
    assert not letter.needs_8bitmime
    assert letter.longest_line <= 998
    assert re.sub(rb"\r\n", b"", letter.content).translate(None, b"\r\n") == letter.content.replace(b"\r\n", b"")
    assert all(len(line) <= 78 for line in letter.content.partition(b"\r\n\r\n")[0].split(b"\r\n"))


def test_only_a_non_ascii_local_part_needs_smtputf8() -> None:
    assert not compose(Draft("Jürgen <me@a.org>", ("Bücher <bob@bücher.example>",)), now=NOW).needs_smtputf8
    letter = compose(Draft("me@a.org", ("tür@x.de",)), now=NOW)
    assert letter.needs_smtputf8
    assert "To: tür@x.de\r\n".encode() in letter.content


@pytest.mark.parametrize(
    "draft",
    [
        Draft("me@a.org", ("bob@b.org\r\nBcc: eve@e.org",)),
        Draft("me@a.org\nX: y", ("bob@b.org",)),
        Draft("me@a.org", ("bob@b.org",), subject="x\r\nBcc: eve@e.org"),
        Draft("me@a.org", ("bob@b.org",), subject="x\ry"),
        Draft("me@a.org", ("bob@b.org",), headers=(("X-A", "b\r\n\r\nbody"),)),
        Draft("me@a.org", ("bob@b.org",), headers=(("X-A: b\r\nBcc", "eve@e.org"),)),
        Draft("me@a.org", ("bob@b.org",), headers=(("X A", "b"),)),
        Draft("me@a.org", ("bob@b.org",), headers=(("Reply-To", "r@a.org\nX: y"),)),
        Draft("me@a.org", ("bob@b.org",), attachments=(Attachment("x\r\nX: y", "text/plain", b""),)),
        Draft("me@a.org", ("bob@b.org",), attachments=(Attachment("x", "text/plain\r\nX: y", b""),)),
        Draft("me@a.org", ("bob@b.org",), attachments=(Attachment("x", "pdf", b""),)),
        Draft("me@a.org", ("bob@b.org",), subject="\ud800"),
        Draft("me@a.org", ("bob@b.org",), text="\ud800"),
        Draft("me@a.org", ("bob@b.org",), headers=(("X-A", "x" * 1000),)),
        Draft("me@a.org", ("x" * 1000 + " <bob@b.org>",)),
    ],
)
def test_what_would_forge_a_header_is_refused(draft: Draft) -> None:
    with pytest.raises(BadData):
        compose(draft, now=NOW)


@pytest.mark.parametrize(
    "name", ["Bcc", "From", "subject", "Disposition-Notification-To", "X-Receipt-A", "Content-Type"]
)
def test_a_header_with_a_place_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(BadData, match=name):
        compose(Draft("me@a.org", ("bob@b.org",), headers=((name, "x"),)), now=NOW)


def test_a_draft_may_bring_its_own_date_and_message_id() -> None:
    headers = (("Message-ID", "<own@a.org>"), ("date", "Mon, 23 Nov 2026 08:00:00 +0100"))
    letter = compose(Draft("me@a.org", ("bob@b.org",), headers=headers), now=NOW)
    assert letter.message_id == "<own@a.org>"
    assert letter.content.lower().count(b"date:") == letter.content.lower().count(b"message-id:") == 1


def test_nothing_calls_a_message_automatic_but_its_sender() -> None:
    """RFC 3834 §5: who marks a message so may get no answer and no read receipt."""
    draft = Draft("me@a.org", ("bob@b.org",))
    assert b"auto-submitted" not in compose(draft, now=NOW).content.lower()
    marked = compose(replace(draft, headers=(("Auto-Submitted", "auto-generated"),)), now=NOW)
    assert read(marked)["Auto-Submitted"] == "auto-generated"
    assert marked.may_request_mdn


def test_a_draft_without_sender_or_recipient_is_refused() -> None:
    with pytest.raises(BadData, match="no sender"):
        compose(Draft("", ("bob@b.org",)), now=NOW)
    with pytest.raises(BadData, match="no recipient"):
        compose(Draft("me@a.org"), now=NOW)


def test_an_attached_message_is_a_plain_file_for_base64_would_break_it() -> None:
    letter = compose(
        Draft("me@a.org", ("bob@b.org",), attachments=(Attachment("a.eml", "message/rfc822", b"From: x\n\n\xff"),)),
        now=NOW,
    )
    [attachment] = read(letter).iter_attachments()
    assert attachment.get_content_type() == "application/octet-stream"


@given(name=st.text(max_size=30), subject=st.text(max_size=80))
def test_no_name_or_subject_adds_a_header(name: str, subject: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        letter = compose(Draft(f'"{quoted}" <me@a.org>', ("bob@b.org",), subject=subject), now=NOW)
    except BadData:
        return
    lines = letter.content.split(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.split(b":")[0].decode() for line in lines if line[:1] not in b" \t"]
    assert names == ["From", "To", "Subject", "Date", "Message-ID", *CONTENT_LINES]


def test_real_mail_passes_unchanged_but_for_the_header() -> None:
    """Every message that the stdlib changes would show here (docs/design.md §4)."""
    odd = (
        b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n--b\nContent-Type: message/rfc822\n\n'
        b"From: x\nno header\n\n--b--\nepilogue \x00 \x80\n\n\n"
    )
    assert adopt(PLAIN + odd, now=NOW).content == PLAIN + odd.replace(b"\n", b"\r\n")


# --- what no server would have to take ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("added", "words"),
    [
        (b"\r\n" + b"x" * 999 + b"\r\n", "999 octets"),
        (b"X-Long: " + b"x" * 999 + b"\r\n\r\nx\r\n", "octets"),
        (b"\r\na\0b\r\n", "null character"),
        (b"X-A: a\0b\r\n\r\nx\r\n", "null character"),
        (b"FROM : you@a.org\r\n\r\nx\r\n", "2 From fields"),
    ],
    ids=["long line", "long header line", "null", "null in the header", "two From fields"],
)
def test_what_no_server_must_take_is_refused_in_a_complete_message(added: bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        check_fitness(adopt(PLAIN + added, now=NOW))


def test_the_longest_line_there_may_be_and_two_authors_in_one_field_are_fit() -> None:
    check_fitness(adopt(PLAIN + b"\r\n" + b"x" * 998 + b"\r\n", now=NOW))
    check_fitness(adopt(b"From: me@a.org, you@a.org\r\nTo: bob@b.org\r\n\r\nFrom: x\r\n", now=NOW))


@pytest.mark.parametrize("text", ["a\0b\n", "ä\0\n", "x" * 5000 + "\n", "\0" * 2000 + "\n"])
def test_composed_text_is_encoded_where_it_holds_what_no_line_of_mail_may(text: str) -> None:
    letter = compose(Draft("me@a.org", ("bob@b.org",), text=text, html=f"<p>{text}"), now=NOW)
    check_fitness(letter)
    plain, html = read(letter).iter_parts()
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert plain.get_content().replace("\r\n", "\n") == text
    assert html.get_content().replace("\r\n", "\n") == f"<p>{text}"


def test_a_subject_of_one_endless_word_is_encoded() -> None:
    letter = compose(Draft("me@a.org", ("bob@b.org",), subject="x" * 3000), now=NOW)
    check_fitness(letter)
    assert read(letter)["Subject"] == "x" * 3000


@pytest.mark.parametrize(
    ("field", "is_raw"), [(b"Subject: \xe4", True), ("Subject: ä".encode(), True), (b"Subject: =?utf-8?q?=C3?=", False)]
)
def test_a_header_beyond_ascii_is_known_and_a_body_is_none(field: bytes, is_raw: bool) -> None:
    assert has_raw_header(adopt(PLAIN + field + b"\r\n\r\n\xe4\r\n", now=NOW)) is is_raw


@given(st.text(st.characters(codec="ascii"), max_size=200) | st.text(max_size=80))
@example("x" * 78 + "\n")
@example("x" * 79 + "\n")
@example("")
def test_a_plain_text_is_what_the_library_makes_of_it(text: str) -> None:
    made = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
    made.set_content(text, cte="quoted-printable" if "\0" in text else None)
    letter = compose(Draft("a@a.org", to=("b@b.org",), text=text), now=NOW)
    assert letter.content.partition(b"Content-Type:")[2] == made.as_bytes().partition(b"Content-Type:")[2]


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=90))
@example("word " * 13 + "x")
@example("word " * 13 + "xxxx")
@example(" x ")
def test_a_subject_is_what_the_library_makes_of_it(subject: str) -> None:
    charset = "us-ascii" if subject.isascii() else "utf-8"
    made = Header(subject, charset, header_name="Subject", maxlinelen=76).encode(splitchars=" \t", linesep="\r\n")
    if max(map(len, made.split("\r\n"))) < 900:
        letter = compose(Draft("a@a.org", to=("b@b.org",), subject=subject, text="x"), now=NOW)
        assert f"\r\nSubject: {made}\r\nDate: ".encode() in letter.content
