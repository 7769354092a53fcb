"""Every fate a letter can have happens on these servers, shown with smtplib and imaplib alone."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import re
import smtplib
import ssl
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Post, submission
from tests.daemon_process import PATIENCE
from tests.servers.world import HOST, World


@contextlib.contextmanager
def _imap(world: World, user: str) -> Iterator[imaplib.IMAP4]:
    context = ssl.create_default_context(cafile=str(world.ca_file))
    with imaplib.IMAP4_SSL(HOST, world.imap.imaps, ssl_context=context, timeout=PATIENCE) as imap:
        imap.login(user, world.password)
        yield imap


# --- the letter arrives ---------------------------------------------------------------------------------------------


def test_a_domain_that_delivers_by_lmtp_says_relayed(post: Post) -> None:
    letter = post("bob@b.test")
    report = letter.await_report("Action: relayed")
    assert report.get_content_type() == "multipart/report"
    assert letter.token in str(report)
    assert any(letter.token.encode() in message for message in letter.world.messages_of("bob@b.test"))


def test_a_domain_with_mailboxes_of_its_own_says_delivered(post: Post) -> None:
    letter = post("bob@box.test")
    letter.await_report("Action: delivered")
    assert any(letter.token.encode() in message for message in letter.world.messages_of("bob@box.test"))


def test_a_domain_without_dsn_makes_the_relay_say_relayed(post: Post) -> None:
    report = post("bob@nodsn.test").await_report("Action: relayed")
    assert "Reporting-MTA: dns; relay.a.test" in str(report)


def test_a_catch_all_says_delivered_for_any_name(post: Post) -> None:
    post("nobody.knows@catchall.test").await_report("Action: delivered")


def test_an_alias_to_several_says_expanded_and_no_more(post: Post) -> None:
    letter = post("team@box.test")
    letter.await_report("Action: expanded")
    _await_letter(letter.world, "alice@box.test", letter.token)
    _await_letter(letter.world, "bob@b.test", letter.token)
    assert len(letter.reports()) == 1


def test_an_alias_to_one_says_expanded_too(post: Post) -> None:
    post("forward@box.test").await_report("Action: expanded")
    post("anybody@alias.test").await_report("Action: expanded")


@pytest.mark.parametrize("domain", ["exim.test", "osmtpd.test"])
def test_exim_and_opensmtpd_say_delivered(post: Post, domain: str) -> None:
    post(f"bob@{domain}").await_report("Action: delivered")


def test_exim_calls_a_redirect_delivered(post: Post) -> None:
    letter = post("forward@exim.test")
    letter.await_report("Action: delivered")
    _await_letter(letter.world, "bob@b.test", letter.token)


# --- the letter fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        ("nobody@b.test", "5.1.1"),  # unknown user
        ("nobody@box.test", "5.1.1"),
        ("nobody@nodsn.test", "5.1.1"),
        ("full@b.test", "5.2.2"),  # over quota
        ("picky@box.test", "5.7.1"),  # refused after DATA
        ("nobody@exim.test", "5.0.0"),  # says Exim after it took the letter
        ("gone@exim.test", "5.0.0"),
    ],
)
def test_a_failure_comes_back_with_its_status(post: Post, recipient: str, status: str) -> None:
    report = post(recipient).await_report("Action: failed")
    assert re.search(rf"(?m)^Status: {re.escape(status)}$", str(report))


def test_one_branch_of_an_alias_fails(post: Post) -> None:
    letter = post("mixed@box.test")
    letter.await_report("Action: expanded")
    report = letter.await_report("Action: failed")
    assert "Original-Recipient: rfc822;mixed@box.test" in str(report)
    assert "Final-Recipient: rfc822; nobody@b.test" in str(report)


def test_opensmtpd_reports_a_failure_in_a_form_of_its_own(post: Post) -> None:
    report = post("gone@osmtpd.test").await_report("Action: failed")
    assert report.get_content_type() == "multipart/mixed"


def test_a_sieve_reject_is_a_read_receipt_that_says_deleted(post: Post) -> None:
    letter = post("reject@b.test")
    report = letter.await_report("Disposition: automatic-action/MDN-sent-automatically; deleted")
    assert report.get_param("report-type") == "disposition-notification"
    letter.await_report("Action: relayed")


# --- the letter waits -----------------------------------------------------------------------------------------------


def test_a_greylisting_domain_delays_and_then_delivers(post: Post) -> None:
    letter = post("after1@later.test", notify="SUCCESS,FAILURE,DELAY")
    letter.await_report("Action: delayed")
    letter.await_report("Action: delivered")


def test_a_mailbox_that_is_full_for_now_delays(post: Post) -> None:
    report = post("brimful@b.test", notify="SUCCESS,FAILURE,DELAY").await_report("Action: delayed")
    assert "4.2.2" in str(report)


# --- other things come back, or nothing -----------------------------------------------------------------------------


def test_a_domain_that_swallows_is_silent(post: Post) -> None:
    silent = post("anybody@silent.test")
    post("bob@box.test").await_report("Action: delivered")
    assert silent.reports() == []
    assert "to=<anybody@silent.test>" in silent.world["relay"].log()


def test_an_absent_person_answers_automatically(post: Post) -> None:
    report = post("vacation@b.test").await_report("Subject: Out of office")
    assert str(report["Auto-Submitted"]).startswith("auto-replied")


def test_a_report_may_land_in_junk(post: Post) -> None:
    letter = post("spammy@box.test")
    letter.await_report("Action: delivered", folder="Junk")
    assert letter.reports() == []


# --- the relay ------------------------------------------------------------------------------------------------------


def test_the_relay_offers_dsn_after_starttls_and_auth_only_there(world: World) -> None:
    with smtplib.SMTP(HOST, world.relay.submission, timeout=PATIENCE) as bare:
        bare.ehlo()
        assert not bare.has_extn("auth")
        assert bare.mail("me@a.test")[0] == 530  # must issue STARTTLS first
    with submission(world, "me@a.test") as relay:
        relay.ehlo()
        for keyword in ("dsn", "auth", "size", "smtputf8", "8bitmime", "pipelining"):
            assert relay.has_extn(keyword)
    with smtplib.SMTP(HOST, world.relay.smtp_nodsn, timeout=PATIENCE) as without:
        without.ehlo()
        assert not without.has_extn("dsn")


def test_a_wrong_password_is_refused(world: World) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError):
        submission(world, "me@a.test", "wrong")
    with pytest.raises(imaplib.IMAP4.error), _imap(world, "me@a.test") as imap:
        imap.login("me@a.test", "wrong")


def test_relay_and_mailbox_take_an_access_token_until_it_expires(world: World) -> None:
    def say(user: str, token: str) -> bytes:
        return f"user={user}\1auth=Bearer {token}\1\1".encode()

    context = ssl.create_default_context(cafile=str(world.ca_file))
    user = world.new_receipts_address()
    good, old = say(user, world.access_token(user)), say(user, world.access_token(user, lifetime=-10))
    with imaplib.IMAP4_SSL(HOST, world.imap.imaps, ssl_context=context, timeout=PATIENCE) as imap:
        with pytest.raises(imaplib.IMAP4.error):
            imap.authenticate("XOAUTH2", lambda challenge: b"" if b"status" in challenge else old)
        imap.authenticate("XOAUTH2", lambda challenge: good)
    with smtplib.SMTP_SSL(HOST, world.relay.submissions, timeout=PATIENCE, context=context) as relay:
        relay.ehlo()
        assert relay.docmd("AUTH", f"XOAUTH2 {base64.b64encode(good).decode()}")[0] == 235


def test_tls_from_the_first_byte_is_offered(world: World) -> None:
    context = ssl.create_default_context(cafile=str(world.ca_file))
    with smtplib.SMTP_SSL(HOST, world.relay.submissions, timeout=PATIENCE, context=context) as relay:
        relay.login("me@a.test", world.password)


def test_the_relay_refuses_at_rcpt_after_data_and_by_size(post: Post) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.7\.1"):
        post("forbidden@b.test")
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"4\.3\.2"):
        post("busy@b.test")
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.1\.2"):
        post("nobody@nowhere.test")
    with pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.1"):
        post("unwanted@b.test")
    with pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.3\.4"):
        post("bob@b.test", size=2_100_000)


# --- the mailbox ----------------------------------------------------------------------------------------------------


def test_a_report_is_read_over_imap_with_its_token_in_delivered_to(post: Post, world: World) -> None:
    letter = post("bob@box.test")
    letter.await_report("Action: delivered")
    with _imap(world, letter.receipts) as imap:
        imap.select("INBOX", readonly=True)
        _, found = imap.uid("SEARCH", "HEADER Delivered-To", letter.token)
        assert len(found[0].split()) == 1


def test_the_mailbox_has_what_is_needed(world: World) -> None:
    user = world.new_receipts_address()
    with _imap(world, user) as imap:
        capabilities = imap.capability()[1][0].decode()
        assert {"IDLE", "MOVE", "UIDPLUS", "SPECIAL-USE"} <= set(capabilities.split())
        assert any(rb"\Junk" in line for line in imap.list()[1] if isinstance(line, bytes))
    with imaplib.IMAP4(HOST, world.imap.imap, timeout=PATIENCE) as plain:
        plain.starttls(ssl.create_default_context(cafile=str(world.ca_file)))
        plain.login(user, world.password)


def test_addresses_with_hyphen_or_a_domain_of_their_own_reach_the_same_mailbox(world: World) -> None:
    receipts = world.new_receipts_address()
    user = receipts.partition("@")[0]
    addresses = [f"{user}-first@a.test", f"second@{user}.a.test"]
    with submission(world, "me@a.test") as relay:
        for address in addresses:
            relay.sendmail("me@a.test", [address], f"Subject: to {address}\r\n\r\nx\r\n")
    for address in addresses:
        _await_letter(world, receipts, f"to {address}")


def test_a_recipient_reads_his_mail_over_imap(post: Post, world: World) -> None:
    letter = post("carol@b.test")
    _await_letter(world, "carol@b.test", letter.token)
    with imaplib.IMAP4(HOST, world.b_imap, timeout=PATIENCE) as imap:
        imap.starttls(ssl.create_default_context(cafile=str(world.ca_file)))
        imap.login("carol@b.test", world.password)
        imap.select("INBOX", readonly=True)
        assert imap.uid("SEARCH", "HEADER Message-ID", letter.token)[1][0]


# --- servers that stop ----------------------------------------------------------------------------------------------


def test_reports_wait_while_the_mailbox_server_is_down(post: Post, world: World) -> None:
    world["mailbox"].stop()
    try:
        letter = post("bob@box.test")
        _await_letter(world, "bob@box.test", letter.token)
        with pytest.raises(ConnectionRefusedError), _imap(world, letter.receipts):
            pass
    finally:
        world["mailbox"].start()
    letter.await_report("Action: delivered")


def test_a_relay_that_is_killed_keeps_what_it_took(post: Post, world: World) -> None:
    letter = post("after0.5@later.test")
    world["relay"].restart()
    letter.await_report("Action: delivered")


def test_a_paused_server_says_nothing_until_it_is_resumed(world: World) -> None:
    with submission(world, "me@a.test") as relay:
        assert relay.sock is not None
        relay.sock.settimeout(0.3)
        world["relay"].pause()
        try:
            with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
                relay.noop()
        finally:
            world["relay"].resume()
    with submission(world, "me@a.test") as relay:
        assert relay.noop()[0] == 250


def _await_letter(world: World, address: str, mark: str) -> None:
    world.await_message(address, lambda message: mark.encode() in message)
