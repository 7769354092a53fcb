"""Bounces in free text: dialects, languages, and what must not be taken for one."""

from __future__ import annotations

import json

import pytest

from receiptd.facts import Action, Cause, Report, ReportKind
from receiptd.interpret import interpret

COPY = (
    "Return-Path: <me@a.org>\nReceived: from a.org by b.org; Tue, 24 Nov 2026 02:34:02 +0000\nMessage-ID: <1@a.org>\n"
)


def bounce(
    text: str, *, sender: str = "MAILER-DAEMON@b.org", subject: str = "failure notice", header: str = ""
) -> Report:
    raw = (
        f"From: {sender}\nTo: me@a.org\nSubject: {subject}\n{header}Content-Type: text/plain; charset=utf-8\n\n{text}\n"
    )
    return interpret(raw.encode())


DIALECTS = {
    "qmail": (
        "Hi. This is the qmail-send program at b.org.\nI'm afraid I wasn't able to "
        "deliver your message to the following "
        "addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n<bob@c.org>:\n"
        "192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 No such user\nGiving up on 192.0.2.1.\n\n"
        f"--- Below this line is a copy of the message.\n\n{COPY}",
        "failed", "5.1.1", 550, Cause.USER_UNKNOWN,
    ),
    "exim": (
        "This message was created automatically by mail delivery software.\n\nA message that you sent could not be "
        "delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n"
        "  bob@c.org\n    SMTP error from remote mail server after RCPT TO:<bob@c.org>:\n "
        "   host mx.c.org [192.0.2.1]: "
        f"552 5.2.2 mailbox full\n\n------ This is a copy of the message, including all the headers. ------\n\n{COPY}",
        "failed", "5.2.2", 552, Cause.MAILBOX_FULL,
    ),
    "sendmail": (
        "The original message was received at Tue, 24 Nov 2026 02:34:02 GMT\nfrom [192.0.2.9]\n\n"
        "   ----- The following addresses had permanent fatal errors -----\n<bob@c.org>\n\n"
        "   ----- Transcript of session follows -----\n... while talking to mx.c.org.:\n>>> RCPT To:<bob@c.org>\n"
        f"<<< 550 5.7.1 Message rejected as spam\n\n   ----- Original message follows -----\n\n{COPY}",
        "failed", "5.7.1", 550, Cause.SPAM,
    ),
    "exchange": (
        "Your message\n\n  To:      Bob\n  Subject: Contract\n  Sent:    Fri, 20 Nov 2026 08:53:08 -0700\n\n"
        "did not reach the following recipient(s):\n\nbob@c.org on Fri, 20 Nov 2026 11:08:59 -0700\n"
        f"    The recipient name is not recognized\n\n{COPY}",
        "failed", "5.0.0", None, Cause.USER_UNKNOWN,
    ),
    "domino": (
        "Your message\n\n  Subject: Contract\n\nwas not delivered to:\n\n  bob@c.org\n\nbecause:\n\n"
        f"  User bob (bob@c.org) not listed in Domino Directory\n\n{COPY}",
        "failed", "5.0.0", None, Cause.USER_UNKNOWN,
    ),
    "yahoo": (
        "Sorry, we were unable to deliver your message to the following address.\n\n<bob@c.org>:\n"
        f"550: 5.1.1 <bob@c.org>... User Unknown\n\n--- Below this line is a copy of the message.\n\n{COPY}",
        "failed", "5.1.1", 550, Cause.USER_UNKNOWN,
    ),
    "gmx": (
        "This message was created automatically by mail delivery software.\n\nA message that you sent could not be "
        'delivered to one or more of\nits recipients. This is a permanent error. The '
        'following address\nfailed:\n\n"bob@c.org":\n'
        "SMTP error from remote server after RCPT command:\nhost: mx.c.org\n5.2.1 <bob@c.org>... account disabled\n\n"
        f"--- The header of the original message is following. ---\n\n{COPY}",
        "failed", "5.2.1", None, Cause.MAILBOX_DISABLED,
    ),
    "german": (
        "Ihre Nachricht konnte nicht zugestellt werden. Die folgenden Empfänger wurden nicht erreicht:\n\n  bob@c.org\n"
        f"    Benutzer unbekannt\n\n--- Ursprüngliche Nachricht ---\n\n{COPY}",
        "failed", "5.0.0", None, Cause.USER_UNKNOWN,
    ),
    "french": (
        "Votre message n'a pas pu être remis aux destinataires suivants :\n\nbob@c.org\n  Boîte aux lettres pleine\n\n"
        f"--- Message d'origine ---\n\n{COPY}",
        "failed", "5.0.0", None, Cause.MAILBOX_FULL,
    ),
    "spanish": (
        f"No se ha podido entregar el mensaje a los siguientes "
        f"destinatarios:\n\n<bob@c.org>: el usuario no existe\n\n{COPY}",
        "failed", "5.0.0", None, Cause.USER_UNKNOWN,
    ),
    "japanese": (
        f"以下のメールアドレスへの送信に失敗しました。\nbob@c.org\n\n-------server message\n550 unknown user "
        f"<bob@c.org>\n\n{COPY}",
        "failed", "5.0.0", 550, Cause.USER_UNKNOWN,
    ),
    "exim-warning": (
        "This message was created automatically by mail delivery software.\nA message "
        "that you sent has not yet been delivered "
        "to one or more of its\nrecipients after more than 24 hours on the queue on "
        "b.org.\n\nThe address to which the message has "
        "not yet been delivered is:\n\n  bob@c.org\n    Delay reason: Connection timed "
        "out\n\nNo action is required on your part. "
        "Delivery attempts will continue for\nsome time. Eventually the mail delivery "
        "software will give up,\nand when that "
        f"happens, the message will be returned to you.\n\n{COPY}",
        "delayed", "4.0.0", None, Cause.HOST_UNREACHABLE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_bounce_without_machine_part_is_understood(dialect: str) -> None:
    text, action, status, reply_code, cause = DIALECTS[dialect]
    report = bounce(text, subject="Warning: message delayed" if action == "delayed" else "failure notice")
    assert report.kind is ReportKind.BOUNCE
    (told,) = report.recipients
    assert told.final_recipient == "bob@c.org"
    assert (told.action, told.status, told.reply_code, told.cause) == (action, status, reply_code, cause)
    assert report.original_message_id == "<1@a.org>"
    assert report.returned_from is None


def test_each_recipient_has_its_own_reason() -> None:
    report = bounce(
        "Unable to deliver to the following addresses:\n\n<bob@c.org>:\n550 5.1.1 user unknown\n\n"
        "<carol@c.org>:\n552 5.2.2 mailbox full\n"
    )
    assert [(one.final_recipient, one.status, one.reply_code, one.cause) for one in report.recipients] == [
        ("bob@c.org", "5.1.1", 550, Cause.USER_UNKNOWN),
        ("carol@c.org", "5.2.2", 552, Cause.MAILBOX_FULL),
    ]


def test_the_header_of_failed_recipients_is_believed_before_the_text() -> None:
    report = bounce("It failed. Try look-alike@c.org.", header="X-Failed-Recipients: bob@c.org\n")
    assert [one.final_recipient for one in report.recipients] == ["bob@c.org"]


def test_the_address_we_sent_to_is_told_where_another_one_failed() -> None:
    report = bounce(
        "The following address(es) failed:\n\n  bob@c.org\n    (generated from alias@b.org)\n    unknown user\n"
    )
    assert report.recipients[0].original_recipient == "alias@b.org"


def test_the_only_recipient_of_the_original_is_taken_where_the_notice_names_none() -> None:
    report = bounce(
        f"Your message could not be delivered.\n\n--- Original message follows ---\n\n{COPY}To: bob@c.org\n"
    )
    assert [one.final_recipient for one in report.recipients] == ["bob@c.org"]


def test_neither_reader_nor_writer_of_a_bounce_is_its_recipient() -> None:
    report = bounce("me@a.org\nYour message to bob@c.org could not be delivered. Contact postmaster@b.org.")
    assert [one.final_recipient for one in report.recipients] == ["bob@c.org"]


def test_fields_in_plain_text_are_read_as_a_report() -> None:
    report = bounce(
        "It failed.\n\nReporting-MTA: dns; b.org\n\nFinal-Recipient: rfc822; bob@c.org\nAction: failed\nStatus: 5.1.1\n"
    )
    assert report.kind is ReportKind.DSN
    assert report.recipients[0].status == "5.1.1"


def test_a_forwarded_bounce_speaks_without_tokens() -> None:
    quoted = "> Final-Recipient: rfc822; bob@c.org\n> Action: failed\n> Status: 5.1.1\n"
    report = bounce(
        f"See below.\n\n> Original-Envelope-Id: aaaabbbbccccddddeeeeffff\n{quoted}",
        sender="colleague@a.org",
        subject="Fwd: Undelivered Mail Returned to Sender",
        header="References: <x@b.org>\n",
    )
    assert (report.kind, report.tokens) == (ReportKind.BOUNCE, ())
    assert report.recipients[0].final_recipient == "bob@c.org"


@pytest.mark.parametrize(
    ("subject", "header", "text"),
    [
        ("Re: Undelivered Mail", "In-Reply-To: <1@a.org>\n", "I saw that it could not be delivered to bob@c.org too."),
        ("Contract", "", "Our delivery to bob@c.org failed last week, the truck broke down."),
        ("[list] delivery failed", "List-Id: <l.b.org>\n", "Delivery failed for everybody, see the archive."),
    ],
)
def test_people_who_write_about_failures_send_no_bounce(subject: str, header: str, text: str) -> None:
    assert bounce(text, sender="carol@b.org", subject=subject, header=header).kind is not ReportKind.BOUNCE


def test_a_bounce_in_html_alone_is_read() -> None:
    html = "<html><style>p {}</style><p>Delivery to the following recipient failed:</p><p>bob@c.org</p>"
    html += "<p>550 5.1.1 no user</p>"
    report = interpret(
        f"From: postmaster@b.org\nTo: me@a.org\nSubject: Undeliverable: x\nContent-Type: text/html\n\n{html}".encode()
    )
    assert [(one.final_recipient, one.status) for one in report.recipients] == [("bob@c.org", "5.1.1")]


@pytest.mark.parametrize("name", ["5500511", "550.5.1.1", "o'neil", "support", "anna.b.c+x=y"])
def test_a_listed_recipient_may_have_any_name(name: str) -> None:
    text = f"The following address(es) failed:\n\n 1. <{name}@c.org>\n  {name}@d.org\n    user unknown\n bob@c.org\n"
    named = [one.final_recipient for one in bounce(text).recipients]
    assert named == [f"{name}@c.org", f"{name}@d.org", "bob@c.org"]


def test_the_writer_of_a_notice_is_no_recipient_where_a_sentence_names_both() -> None:
    text = "Delivery to bob@c.org failed: mailbox full. Questions go to postmaster@b.org.\n"
    assert [one.final_recipient for one in bounce(text, sender="<>").recipients] == ["bob@c.org"]


def test_a_list_of_recipients_in_html_is_read_above_a_mailing_lists_footer() -> None:
    raw = (
        "From: postmaster@b.org\nTo: me@a.org\nSubject: Undeliverable: x\n"
        'Content-Type: multipart/mixed; boundary="=_b"\n\n'
        "--=_b\nContent-Type: text/html\n\n<P>did not reach the following recipient(s):<BR>\n<BR>\nbob@c.org</P>\n"
        "--=_b\nContent-Type: text/plain\n\n____\nAnnounce@lists.example.org\n--=_b--\n"
    )
    assert [one.final_recipient for one in interpret(raw.encode()).recipients] == ["bob@c.org"]


def test_html_breaks_a_line_once_where_its_source_breaks_it_too() -> None:
    copy = "<br>\n".join(f"Below this line is a copy of the message.\n\n{COPY}".split("\n"))
    html = f"Content-Type: text/html\n\nDelivery to the following recipient failed:<br>\nbob@c.org<br>\n{copy}"
    raw = f"From: postmaster@b.org\nTo: me@a.org\nSubject: Undeliverable: x\n{html}"
    assert interpret(raw.encode()).original_message_id == "<1@a.org>"


def test_a_page_is_read_without_its_tags_and_empty_lines_and_with_the_address_that_looks_like_one() -> None:
    table = "<table>\n <tr>\n  <td> </td>\n </tr>\n</table>\n\n\n"
    html = f"{table}<p title='a@b'>Undeliverable: <bob@c.org> <b>unknown</b>\n1 < 2"
    raw = f"From: postmaster@b.org\nTo: me@a.org\nSubject: Undeliverable: x\nContent-Type: text/html\n\n{html}"
    report = interpret(f"{raw}{'<td>' * 20_000}".encode())
    assert report.excerpt.startswith("Undeliverable: <bob@c.org> unknown\n1 < 2")
    assert [one.final_recipient for one in report.recipients] == ["bob@c.org"]
    spaced = f"{raw}<p>First</p>{'<br>' * 9}<p>Second</p>"
    assert interpret(spaced.encode()).excerpt.endswith("First\n\nSecond")


def test_an_original_in_an_untyped_part_is_found_above_a_footer_and_in_a_nested_container() -> None:
    raw = (
        "From: postmaster@b.org\nTo: me@a.org\nSubject: Undeliverable: x\n"
        'Content-Type: multipart/mixed; boundary="=_a"\n\n--=_a\nContent-Type: multipart/mixed; boundary="=_b"\n\n'
        "--=_b\n\nCould not be delivered to the following address:\n\nbob@c.org\n"
        f'--=_b\nContent-Type: text/plain; name="headers.txt"\n\n{COPY}--=_b--\n\n'
        "--=_a\nContent-Type: text/plain\n\nChecked by a scanner.\n--=_a--\n"
    )
    assert interpret(raw.encode()).original_message_id == "<1@a.org>"


@pytest.mark.parametrize("text", ["550-5.1.1 no such account\n550 5.1.1 try another", "550-5.1.1 unknown"])
def test_a_status_may_follow_a_reply_that_goes_on(text: str) -> None:
    (one,) = bounce(f"The following address failed:\n\nbob@c.org\n{text}\n").recipients
    assert (one.status, one.reply_code) == ("5.1.1", 550)


def test_a_wrapped_line_that_begins_with_the_postmaster_names_no_recipient() -> None:
    text = "I'm sorry, the message could not be delivered.\n\nFor help, send mail to\n<postmaster@b.org>\n\n"
    report = bounce(f"{text}mail for bob@c.org loops back to myself\n", sender="<>")
    assert [one.final_recipient for one in report.recipients] == ["bob@c.org"]


def test_the_postmaster_may_be_the_recipient_himself() -> None:
    report = bounce("The following address failed:\n\n<postmaster@c.org>\nmailbox full, ask support@b.org\n")
    assert [one.final_recipient for one in report.recipients] == ["postmaster@c.org"]


@pytest.mark.parametrize("text", ["bob@c.orgに配信できませんでした", "\u200bbob@c.org\u200b 退信", "bob@c.org، 550"])
def test_an_address_ends_where_a_language_without_spaces_begins(text: str) -> None:
    report = bounce(f"The following address failed:\n\n{text}\n")
    assert [one.final_recipient for one in report.recipients] == ["bob@c.org"]


@pytest.mark.parametrize("signature", ["Checked by a scanner for viruses, 5.7.1", "spam filter of support@b.org"])
def test_a_signature_says_nothing_of_the_delivery(signature: str) -> None:
    (one,) = bounce(f"The following address failed:\n\nbob@c.org\nuser unknown\n\n-- \n{signature}\n").recipients
    assert (one.cause, one.status) == (Cause.USER_UNKNOWN, "5.0.0")


@pytest.mark.parametrize("row", ["<div>{}</div>", "<tr><td>{}</td></tr>", "<li>{}</li>", "{}<br/>"])
def test_a_row_of_html_is_one_line(row: str) -> None:
    lines = f"failed recipient:|bob@c.org|--- Below this line is a copy of the message.||{COPY}".replace("\n", "|")
    html = "".join(row.format(line.replace("<", "&lt;") or "&nbsp;") for line in lines.split("|"))
    raw = f"From: postmaster@b.org\nTo: me@a.org\nSubject: Undeliverable: x\nContent-Type: text/html\n\n{html}\n"
    assert interpret(raw.encode()).original_message_id == "<1@a.org>"


def test_a_group_of_an_ipv6_address_is_no_reply_code() -> None:
    text = "The following address failed:\n\nbob@c.org: host mx.c.org [2001:db8:550::551] said: 552 mailbox full\n"
    assert [one.reply_code for one in bounce(text).recipients] == [552]


def test_amazons_notification_in_json_is_read() -> None:
    told = {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bouncedRecipients": [
                {
                    "emailAddress": "bob@c.org",
                    "action": "failed",
                    "status": "5.1.1",
                    "diagnosticCode": "smtp; 550 5.1.1 no",
                }
            ],
            "timestamp": "2026-11-24T02:34:02.502Z",
        },
    }
    report = bounce(json.dumps(told), sender="no-reply@sns.amazonaws.com", subject="AWS Notification Message")
    (one,) = report.recipients
    assert (report.kind, one.action, one.final_recipient) == (ReportKind.BOUNCE, Action.FAILED, "bob@c.org")


@pytest.mark.parametrize(
    ("diagnostic", "cause"),
    [
        ("550 5.7.26 unauthenticated mail is prohibited, DMARC", Cause.AUTHENTICATION),
        ("554 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org", Cause.BLOCKED),
        ("451 4.7.1 greylisted, try again later", Cause.RATE_LIMITED),
        ("554 5.4.6 too many hops", Cause.LOOP),
        ("550 5.7.1 relaying denied", Cause.RELAY_DENIED),
        ("552 5.3.4 message size exceeds fixed limit", Cause.TOO_BIG),
        ("host or domain name not found", Cause.HOST_UNKNOWN),
        ("connect to mx.c.org: connection refused", Cause.HOST_UNREACHABLE),
        ("551 user has moved", Cause.MOVED),
        ("554 5.7.0 infected with a virus", Cause.VIRUS),
    ],
)
def test_the_cause_is_told_in_words_a_person_can_act_on(diagnostic: str, cause: Cause) -> None:
    assert bounce(f"The following address failed:\n\n<bob@c.org>: {diagnostic}\n").recipients[0].cause is cause


WORDS = {
    "qmail": "Remote host said: 550 5.1.1 No such user Giving up on 192.0.2.1.",
    "exim": "host mx.c.org [192.0.2.1]: 552 5.2.2 mailbox full",
    "sendmail": "550 5.7.1 Message rejected as spam",
    "exchange": "The recipient name is not recognized",
    "domino": "User bob (bob@c.org) not listed in Domino Directory",
    "yahoo": "550: 5.1.1 <bob@c.org>... User Unknown",
    "gmx": "5.2.1 <bob@c.org>... account disabled",
    "german": "Benutzer unbekannt",
}


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_the_server_are_kept_beside_the_cause(name: str) -> None:
    assert bounce(DIALECTS[name][0]).recipients[0].diagnostic_code == WORDS[name]


def test_each_address_keeps_its_own_words_without_its_name() -> None:
    report = bounce(
        "This is the mail system at host b.org.\nI'm sorry to have to inform you that your message could not\n"
        "be delivered to one or more recipients.\n\n"
        "<bob@c.org>: host mx.c.org[192.0.2.1] said: 550 5.1.1 <bob@c.org>:\n    User unknown (in reply to RCPT TO)\n\n"
        "<eve@d.org>: mail for d.org loops back to myself\n"
    )
    assert [one.diagnostic_code for one in report.recipients] == [
        "host mx.c.org[192.0.2.1] said: 550 5.1.1 <bob@c.org>: User unknown (in reply to RCPT TO)",
        "mail for d.org loops back to myself",
    ]


def test_long_explanations_before_the_reply_are_left_out() -> None:
    report = bounce(
        "Delivery to the following recipient failed permanently:\n\n     bob@c.org\n\nTechnical details:\n"
        "Google tried to deliver your message, but it was rejected by the recipient domain. We recommend contacting "
        "the other email provider. The error that the other server returned was: 550 5.1.1 No such user (state 14).\n"
    )
    said = "The error that the other server returned was: 550 5.1.1 No such user (state 14)."
    assert report.recipients[0].diagnostic_code == said


def test_where_no_words_of_a_server_stand_none_are_made_up() -> None:
    report = bounce("The following addresses had delivery problems:\n\nTo: bob@c.org\n")
    assert [one.diagnostic_code for one in report.recipients] == [None]


def test_the_words_of_a_server_have_a_bound() -> None:
    report = bounce(f"The following addresses failed:\n\n<bob@c.org>: 550 5.1.1 no {'user ' * 1000}\n")
    assert len(report.recipients[0].diagnostic_code or "") <= 500
