"""Reports that gateways, rewriters and providers lay out in their own way (see `structures`)."""

from __future__ import annotations

import base64

import pytest

from receiptd.facts import Action, Cause, Report, ReportedRecipient, ReportKind
from receiptd.interpret import interpret
from tests import structures
from tests.structures import DAEMON, FAILED, ID, MESSAGE, ORIGINAL, RETURN_PATH, TOKEN, body, mixed, report, returned
from tests.structures import status as status_part
from tests.structures import text as text_part

BOB, CARL = "bob@b.org", "carl@c.org"
DISCLAIMER = "[EXTERNAL] This message came from outside.\nIt is confidential: if it isn't meant for you, delete it."


def told(report: Report) -> dict[str | None, Action | None]:
    """Return what *report* says of each recipient it names."""
    return {one.final_recipient: one.action for one in report.recipients}


def only(report: Report) -> ReportedRecipient:
    (one,) = report.recipients
    return one


def block(address: str, action: str, status: str = "") -> str:
    return f"Final-Recipient: rfc822; {address}\nAction: {action}" + (f"\nStatus: {status}" if status else "")


# What the word of an action means


@pytest.mark.parametrize(
    "word", ["error", "undeliverable", "undelivered", "rejected", "dropped", "x-gave-up", "Permanent-Failure"]
)
def test_a_strange_word_with_a_permanent_status_is_failed(word: str) -> None:
    one = only(interpret(report(text_part(), status_part(FAILED.replace("failed", word)), returned())))
    assert (one.action, one.stated_action, one.status) == (Action.FAILED, word, "5.1.1")


def test_a_strange_word_with_a_sentence_of_failure_is_failed() -> None:
    said = "Unable to deliver your message to bob@b.org: mailbox unavailable."
    assert told(interpret(report(text_part(said), status_part(block(BOB, "x-unknown")), returned()))) == {
        BOB: Action.FAILED
    }


@pytest.mark.parametrize(
    ("action", "status", "said", "meant"),
    [
        ("deliverable", "2.1.5", "The address is deliverable.", None),
        ("deliverable", "", "The message was not delivered: this is a probe.", None),
        ("x-unknown", "2.0.0", "It was processed.", None),
        ("x-retrying", "4.4.1", "We keep trying to deliver your message.", Action.DELAYED),
        ("error", "4.4.7", "Delivery failed permanently.", Action.FAILED),
    ],
)
def test_a_probe_proves_nothing_and_a_passing_status_is_a_delay(
    action: str, status: str, said: str, meant: Action | None
) -> None:
    raw = report(text_part(said), status_part(block(BOB, action, status)), returned(), subject="Status")
    assert told(interpret(raw)) == {BOB: meant}


TRANSIENT = """The original message was received at Fri, 20 Nov 2026 06:00:00 +0100

   ----- The following addresses had transient non-fatal errors -----
<bob@b.org>

   ----- Transcript of session follows -----
<bob@b.org>... Deferred: Connection timed out with mx.b.org.
"""


@pytest.mark.parametrize(
    "subject", ["Warning: could not send message for past 4 hours", "Returned mail: see transcript for details"]
)
def test_sendmails_transient_non_fatal_errors_are_a_delay(subject: str) -> None:
    head = structures.top("text/plain", subject=subject)
    copy = f"\n   ----- Original message follows -----\n\n{ORIGINAL}\n"
    assert told(interpret(f"{head}{TRANSIENT}{copy}".encode())) == {BOB: Action.DELAYED}


@pytest.mark.parametrize("fields", [block(BOB, "warning"), f"Final-Recipient: rfc822; {BOB}"])
def test_they_are_one_where_the_fields_say_nothing(fields: str) -> None:
    assert told(interpret(report(text_part(TRANSIENT), status_part(fields), returned()))) == {BOB: Action.DELAYED}


def test_sendmails_permanent_fatal_errors_are_a_failure() -> None:
    said = TRANSIENT.replace("transient non-fatal", "permanent fatal")
    head = structures.top("text/plain", subject="Returned mail: Cannot send message within 5 days")
    assert told(interpret(f"{head}{said}Message will be deleted from queue\n".encode())) == {BOB: Action.FAILED}


# More than one report in one


def test_a_status_part_for_each_recipient_is_read() -> None:
    raw = report(text_part(), status_part(block(BOB, "relayed")), status_part(block(CARL, "failed")), returned())
    assert told(interpret(raw)) == {BOB: Action.RELAYED, CARL: Action.FAILED}


def test_a_second_part_tells_what_an_empty_first_one_does_not() -> None:
    empty = f"Content-Type: message/delivery-status\n\n{MESSAGE}\n"
    assert told(interpret(report(text_part(), empty, status_part(), returned()))) == {BOB: Action.FAILED}


@pytest.mark.parametrize("container", [False, True])
def test_a_status_part_behind_the_original_is_the_originals(container: bool) -> None:
    second = status_part(block(BOB, "failed"), block(CARL, "failed"))
    if container:
        inner = body(text_part("x"), second, boundary="inner")
        second = f'Content-Type: multipart/report; report-type=delivery-status; boundary="inner"\n\n{inner}'
    raw = report(text_part("delayed"), status_part(block(BOB, "delayed", "4.4.1")), returned(), second)
    assert told(interpret(raw)) == {BOB: Action.DELAYED}


def test_a_bounce_that_returns_a_bounce_with_the_same_boundary_speaks_alone() -> None:
    inner = f"Content-Type: message/rfc822\n\n{report().decode()}"
    raw = report(text_part(), status_part(block(CARL, "failed", "5.2.2")), inner)
    assert told(interpret(raw)) == {CARL: Action.FAILED}


# Our own return path


def test_our_return_path_is_never_a_failed_recipient() -> None:
    raw = report(text_part(), status_part(FAILED, block(RETURN_PATH, "failed", "5.1.1")), returned())
    assert told(interpret(raw)) == {BOB: Action.FAILED}


def test_where_only_our_return_path_failed_nobody_did() -> None:
    assert told(interpret(report(text_part("-"), status_part(block(RETURN_PATH, "failed", "5.1.1"))))) == {}


def test_the_original_recipient_counts_where_our_return_path_is_the_final_one() -> None:
    raw = report(text_part(), status_part(f"Original-Recipient: rfc822; {BOB}\n{block(RETURN_PATH, 'failed')}"))
    assert told(interpret(raw)) == {BOB: Action.FAILED}


def test_a_notice_in_prose_that_names_our_return_path_fails_only_the_other() -> None:
    said = f"The following message could not be delivered:\n\n{RETURN_PATH}\n  -> {BOB}\n  550 5.1.1 unknown user"
    raw = mixed(text_part(said), returned()).replace(f"\nTo: {RETURN_PATH}".encode(), b"\nTo: undisclosed:;", 1)
    assert told(interpret(raw)) == {BOB: Action.FAILED}


# A report that a gateway wrapped


@pytest.mark.parametrize("encoding", ["", "base64", "quoted-printable"])
@pytest.mark.parametrize(
    ("sender", "subject"),
    [(DAEMON, "Undelivered Mail"), ("Mail Gateway <gateway@a.org>", "[checked] Undelivered Mail")],
)
def test_a_report_behind_a_gateways_disclaimer_is_read(encoding: str, sender: str, subject: str) -> None:
    got = interpret(structures.wrapped(report(), DISCLAIMER, encoding=encoding, sender=sender, subject=subject))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.DSN, {BOB: Action.FAILED}, ID)
    assert got.tokens == (TOKEN,)
    assert got.excerpt.startswith("Your message could not be delivered")


def test_a_report_that_a_spam_filter_wrapped_is_read_though_it_quotes_the_report() -> None:
    preview = "Spam detection software has identified this mail as spam.\n\nContent preview:  could not be delivered\n"
    got = interpret(structures.wrapped(report(), f"{preview}  <{BOB}>: 550 5.1.1 no such user [...]\n"))
    assert (got.kind, told(got)) == (ReportKind.DSN, {BOB: Action.FAILED})


def test_a_read_receipt_behind_a_disclaimer_is_read() -> None:
    got = interpret(structures.wrapped(notification(), DISCLAIMER, sender="Bob <bob@b.org>", path=BOB))
    assert (got.kind, told(got)) == (ReportKind.MDN, {BOB: Action.DISPLAYED})


@pytest.mark.parametrize("subject", ["WG: Undelivered Mail", "please check"])
def test_a_report_that_a_person_forwards_as_an_attachment_is_none(subject: str) -> None:
    raw = structures.wrapped(report(), "Anna, this came back.", sender=f"Carl <{CARL}>", subject=subject, path=CARL)
    assert interpret(raw).kind is ReportKind.ORDINARY


def test_a_notice_that_returns_a_report_fails_whom_it_names_itself() -> None:
    said = f"Your message could not be delivered.\n\n<{CARL}>: 552 5.2.2 mailbox full"
    assert told(interpret(structures.wrapped(report(boundary="=_other"), said))) == {CARL: Action.FAILED}


@pytest.mark.parametrize("subject", ["FW: Undeliverable", "WG: Unzustellbar"])
def test_the_machine_part_that_a_person_attaches_is_no_report(subject: str) -> None:
    raw = mixed(text_part("see details"), status_part(), sender=f"Carl <{CARL}>", subject=subject, path=CARL)
    assert interpret(raw).kind is ReportKind.ORDINARY


@pytest.mark.parametrize("kind", ["alone", "behind", "root", "alternative"])
def test_it_is_read_wherever_the_gateway_put_its_own_words(kind: str) -> None:
    carried = f"Content-Type: message/rfc822\n\n{report().decode()}"
    page = "Content-Type: text/html\n\n<p>CAUTION</p>\n"
    both = f'Content-Type: multipart/alternative; boundary="alt"\n\n{body(text_part("CAUTION"), page, boundary="alt")}'
    raw = {
        "alone": mixed(carried),
        "behind": mixed(carried, text_part(DISCLAIMER)),
        "root": (structures.top("message/rfc822") + report().decode()).encode(),
        "alternative": mixed(both, carried),
    }[kind]
    got = interpret(raw)
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.DSN, {BOB: Action.FAILED}, ID)


def test_a_bounce_in_prose_behind_a_disclaimer_is_read() -> None:
    head = "Return-Path: <>\nFrom: MAILER-DAEMON@mx.b.org\nTo: x@a.org\nSubject: failure notice\n\n"
    said = "I wasn't able to deliver your message to the following addresses.\n\n<bob@b.org>:\nno mailbox (#5.1.1)\n\n"
    inner = f"{head}{said}--- Below this line is a copy of the message.\n\n{ORIGINAL}\nhi\n"
    got = interpret(structures.wrapped(inner.encode(), DISCLAIMER, subject="failure notice"))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.BOUNCE, {BOB: Action.FAILED}, ID)


def test_what_is_wrapped_twice_stays_closed() -> None:
    twice = structures.wrapped(structures.wrapped(report(), DISCLAIMER), DISCLAIMER, sender="Bob <bob@b.org>", path=BOB)
    assert interpret(twice).recipients == ()


# A report of which a rewriter broke the boundary


@pytest.mark.parametrize(
    ("whole", "broken"),
    [
        ('boundary="=_r"', 'boundary="=_rewritten"'),
        ('; boundary="=_r"', ""),
        ('boundary="=_r"', 'boundary="=_R"'),
        ('multipart/report; report-type=delivery-status; boundary="=_r"', "text/plain; charset=utf-8"),
        ("--=_r", "--=3D_r"),
        ("--=_r", " --=_r"),
        ("such user\n\n--=_r", "such user\n\nThis is confidential.--=_r"),
        ("such user\n\n--=_r", "such user\n\nThis is confidential.\n--=_r--\n--=_r"),
        ("Content-Type: message/delivery-status\n", ""),
        ("message/delivery-status", "message/x-delivery-status"),
        ('boundary="=_r"', "boundary='=_r'"),
        ('boundary="=_r"', 'boundary="=_r'),
        ('boundary="=_r"', 'boundary*0="=_";\n boundary*1=r'),
        ("--=_r\nContent-Type: message/delivery", "--=_z\nContent-Type: message/delivery"),
        ("multipart/report; report-type=delivery-status;", "multipart/digest;"),
        ("Subject: Undelivered", "X-Scan: ok\n\nSubject: Undelivered"),
    ],
)
def test_a_report_whose_boundary_a_rewriter_broke_is_read(whole: str, broken: str) -> None:
    raw = report().decode()
    assert whole in raw
    got = interpret(raw.replace(whole, broken).encode())
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.DSN, {BOB: Action.FAILED}, ID)


def test_the_boundary_of_a_container_inside_may_be_broken_too() -> None:
    kind = 'Content-Type: multipart/report; report-type=delivery-status; boundary="=_gone"'
    got = interpret(
        mixed(text_part(DISCLAIMER), f"{kind}\n\n{body(text_part(), status_part(), returned(), boundary='=_r')}")
    )
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.DSN, {BOB: Action.FAILED}, ID)


# Complaints


JUNK = f"X-HmXmrOriginalRecipient: reader@hotmail.com\n{ORIGINAL}\nhi\n"


@pytest.mark.parametrize(
    ("container", "inside"),
    [
        ('multipart/mixed; boundary="=_b"', body(f"Content-Type: message/rfc822\n\n{JUNK}")),
        ('multipart/mixed; boundary="=_b"', body(text_part(""), f"Content-Type: message/rfc822\n\n{JUNK}")),
        ('multipart/report; boundary="=_b"', body(f"Content-Type: message/rfc822\n\n{JUNK}")),
        ('multipart/mixed; boundary="=_b"', body(text_part(""), f"Content-Type: text/rfc822-headers\n\n{JUNK}")),
        ("message/rfc822", JUNK),
        ("text/plain", JUNK),
    ],
)
def test_hotmails_complaint_is_read(container: str, inside: str) -> None:
    subject = "complaint about message from 192.0.2.5"
    head = structures.top(container, sender="staff@hotmail.com", subject=subject, path="staff@hotmail.com")
    got = interpret((head + inside).encode())
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.FEEDBACK, {"reader@hotmail.com": None}, ID)


def test_a_persons_complaint_about_a_message_is_their_own_word() -> None:
    head = structures.top("text/plain", sender=f"Carl <{CARL}>", subject="complaint about message from Anna", path=CARL)
    assert interpret(f"{head}Hi, I was not happy.\n".encode()).kind is ReportKind.ORDINARY


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "message/feedback-report"])
def test_a_complaint_is_read_whatever_a_gateway_made_of_its_part(kind: str) -> None:
    fields = f"Content-Type: {kind}\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\nOriginal-Rcpt-To: <{BOB}>\n"
    got = interpret(mixed(text_part("An abuse report."), fields, returned(), sender="fbl@c.org", subject="Abuse"))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.FEEDBACK, {BOB: None}, ID)


def test_spamcops_complaint_is_read_with_the_message_that_it_copies() -> None:
    extra = "X-SpamCop-sourceip: 203.0.113.5\nPrecedence: list\n"
    head = structures.top("text/plain", sender="1@reports.spamcop.net", subject="[SpamCop] id:1", extra=extra)
    got = interpret(f"{head}[ SpamCop V5 ]\n\n[ Offending message ]\n{ORIGINAL}\nhi\n".encode())
    assert (got.kind, got.original_message_id) == (ReportKind.FEEDBACK, ID)


def test_x_arf_is_a_complaint() -> None:
    raw = mixed(text_part("abuse"), returned(), sender="x@c.org", subject="abuse report", extra="X-XARF: PLAIN\n")
    assert (interpret(raw).kind, interpret(raw).original_message_id) == (ReportKind.FEEDBACK, ID)


# Amazon SES


BOUNCED: dict[str, object] = {
    "notificationType": "Bounce",
    "bounce": {"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": BOB, "status": "5.1.1"}]},
}


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize(
    ("said", "kind", "action"),
    [
        (BOUNCED, ReportKind.BOUNCE, Action.FAILED),
        (
            {"eventType": "DeliveryDelay", "deliveryDelay": {"delayedRecipients": [{"emailAddress": BOB}]}},
            ReportKind.BOUNCE,
            Action.DELAYED,
        ),
        ({"eventType": "Reject", "reject": {"reason": "Bad content"}}, ReportKind.BOUNCE, Action.FAILED),
        ({"eventType": "Complaint", "complaint": {"complainedRecipients": [{"emailAddress": BOB}]}}, "feedback", None),
        ({"notificationType": "Delivery", "delivery": {"recipients": [BOB]}}, ReportKind.BOUNCE, Action.RELAYED),
    ],
)
def test_a_notification_of_ses_names_the_message(
    said: dict[str, object], kind: ReportKind, action: Action | None, is_wrapped: bool
) -> None:
    got = interpret(structures.ses(said, is_wrapped=is_wrapped))
    assert (got.kind, told(got), got.original_message_id) == (kind, {BOB: action}, ID)
    assert got.returned_from == "anna@a.org"


def test_the_headers_that_ses_quotes_are_the_messages() -> None:
    header = {"name": "Disposition-Notification-To", "value": f"<{RETURN_PATH}>"}
    raw = structures.ses(BOUNCED, headers=[header, {"name": "Message-ID", "value": "<2@a.org>"}])
    got = interpret(raw.replace(RETURN_PATH.encode(), b"ops@a.org", 2))
    assert (got.original_message_id, got.tokens) == ("<2@a.org>", (TOKEN,))


def test_an_event_of_ses_that_is_none_of_delivery_is_ordinary_mail() -> None:
    assert interpret(structures.ses({"eventType": "Open", "open": {}})).kind is ReportKind.ORDINARY


# Italy's certified mail


ABOUT = 'Il giorno 20/11/2026 il messaggio\n"Contract" proveniente da "anna@a.org"\ned indirizzato a "bob@b.org"\n'


@pytest.mark.parametrize("has_data", [True, False])
@pytest.mark.parametrize(
    ("kind", "said", "action", "status"),
    [
        (
            "preavviso-errore-consegna",
            "non è stato consegnato nelle prime dodici ore dal suo invio.",
            "delayed",
            "4.0.0",
        ),
        ("errore-consegna", "è stato rilevato un errore 5.1.1 - indirizzo non valido.", "failed", "5.1.1"),
        ("non-accettazione", "è stato rilevato un problema che ne impedisce l'accettazione.", "failed", "5.0.0"),
        ("rilevazione-virus", "è stato rilevato un virus. Il messaggio non è stato consegnato.", "failed", "5.0.0"),
        ("avvenuta-consegna", "è stato consegnato nella casella di destinazione.", "delivered", None),
        ("presa-in-carico", "è stato accettato dal sistema.", "relayed", None),
    ],
)
def test_a_receipt_of_certified_mail_says_what_became_of_the_message(
    kind: str, said: str, action: str, status: str | None, has_data: bool
) -> None:
    raw = structures.certified(kind, f"{ABOUT}{said}", subject=f"{kind.upper()}: Contract", has_data=has_data)
    got = interpret(raw)
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.BOUNCE, {BOB: Action(action)}, ID)
    assert only(got).status == status


def test_the_acceptance_by_the_own_provider_proves_no_more_than_its_reply() -> None:
    raw = structures.certified(
        "accettazione", f"{ABOUT}è stato accettato ed inoltrato.", subject="ACCETTAZIONE: Contract"
    )
    got = interpret(raw)
    assert (got.kind, got.recipients, got.original_message_id) == (ReportKind.AUTO_REPLY, (), ID)


def test_of_several_recipients_the_one_counts_that_the_receipt_is_of() -> None:
    raw = structures.certified(
        "errore-consegna",
        "Non consegnato.",
        subject="MANCATA CONSEGNA",
        data=f"<consegna>{CARL}</consegna>",
        error="no-dest",
    )
    one = only(interpret(raw))
    assert (one.final_recipient, one.cause) == (CARL, Cause.USER_UNKNOWN)


def test_a_receipt_is_known_by_its_machine_part_where_a_gateway_dropped_the_field() -> None:
    raw = structures.certified("errore-consegna", f"{ABOUT}Non consegnato.", subject="AVVISO")
    assert told(interpret(raw.replace(b"X-Ricevuta: errore-consegna\n", b""))) == {BOB: Action.FAILED}


def test_a_message_that_certified_mail_carried_is_no_receipt() -> None:
    raw = structures.certified("posta-certificata", "Messaggio di posta certificata.", subject="POSTA CERTIFICATA: Hi")
    assert interpret(raw.replace(b"X-Ricevuta", b"X-Trasporto")).kind is ReportKind.ORDINARY


# Content filters and multimedia message centres


VIRUS = (
    "VIRUS ALERT\n\nOur content checker found\n    virus: Eicar-Test-Signature\n\n"
    "in email presumably from you (<anna@a.org>), to the following recipient:\n-> bob@b.org\n\n"
    "Delivery of the email was stopped!"
)


@pytest.mark.parametrize(
    "sender", ['"Content-filter at mx.b.org" <virusalert@mx.b.org>', "amavisd-new <amavis@mx.b.org>"]
)
def test_a_notice_of_amavis_is_a_bounce_where_it_has_no_status_part(sender: str) -> None:
    headers = f"Content-Type: text/rfc822-headers\n\n{ORIGINAL}"
    got = interpret(mixed(text_part(VIRUS), headers, sender=sender, subject="VIRUS (Eicar) in mail FROM YOU"))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.BOUNCE, {BOB: Action.FAILED}, ID)
    assert only(got).cause is Cause.VIRUS


def test_a_status_part_of_amavis_says_that_it_let_the_message_pass() -> None:
    passed = f"{block(BOB, 'delivered', '2.5.0')}\nDiagnostic-Code: smtp; 250 2.0.0 Ok, id=1, from MTA"
    sender = '"Content-filter at mx.b.org" <postmaster@mx.b.org>'
    raw = report(text_part("INVALID HEADER"), status_part(passed), sender=sender, subject="BAD-HEADER in mail from you")
    assert told(interpret(raw)) == {BOB: Action.DELIVERED}


PHONE = "5551234567@vzwpix.com"
MOBILE = f"Message could not be delivered to mobile.\nError: No valid recipients for this MM\n\nTo: {PHONE}\n"
SENT = returned(ORIGINAL.replace(BOB, PHONE))
SLIDES = "Content-Type: application/smil\n\n<smil><body><par/></body></smil>\n"


@pytest.mark.parametrize("sender", ["sysadmin@mms.vzwpix.com", "post_master@vtext.com", PHONE])
@pytest.mark.parametrize("parts", [(text_part(MOBILE),), (SLIDES, text_part(MOBILE)), (text_part(MOBILE), SENT)])
def test_a_multimedia_message_that_reached_no_phone_is_failed(sender: str, parts: tuple[str, ...]) -> None:
    assert told(interpret(mixed(*parts, sender=sender, subject="Undeliverable Message"))) == {PHONE: Action.FAILED}


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("Expired", Action.FAILED),
        ("Rejected", Action.FAILED),
        ("Deferred", Action.DELAYED),
        ("Forwarded", Action.RELAYED),
        ("Retrieved", Action.DELIVERED),
        ("Indeterminate", None),
    ],
)
def test_a_multimedia_message_centre_reports_in_header_fields(state: str, action: Action | None) -> None:
    extra = f"X-Mms-Message-Type: MM4_delivery_report.REQ\nX-Mms-MM-Status-Code: {state}\n"
    got = interpret((structures.top("text/plain", sender="+4917@mms.b.org", path=BOB, extra=extra) + "-\n").encode())
    assert (got.kind, told(got)) == (ReportKind.BOUNCE, {"+4917@mms.b.org": action})


# Exchange's own format


@pytest.mark.parametrize(
    ("form", "action"),
    [
        ("REPORT.IPM.Note.SMIME.IPNRN", Action.DISPLAYED),
        ("REPORT.IPM.Schedule.Meeting.Request.IPNRN", Action.DISPLAYED),
        ("REPORT.IPM.Schedule.Meeting.Request.IPNNRN", Action.DELETED),
        ("Report.IPM.Note.SMIME.MultipartSigned.IPNNRN", Action.DELETED),
        ("REPORT.IPM.Note.Custom.Form.IPNRN", Action.DISPLAYED),
    ],
)
def test_a_receipt_for_any_form_of_exchange_is_read(form: str, action: Action) -> None:
    got = interpret(structures.exchange(form))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.MDN, {BOB: action}, ID)


@pytest.mark.parametrize(
    ("form", "action"),
    [
        ("REPORT.IPM.Note.NDR", Action.FAILED),
        ("REPORT.IPM.Note.SMIME.NDR", Action.FAILED),
        ("REPORT.IPM.Schedule.Meeting.Request.NDR", Action.FAILED),
        ("REPORT.IPM.Note.DR", Action.DELIVERED),
        ("REPORT.IPM.Note.Delayed.DR", Action.DELAYED),
        ("REPORT.IPM.Note.Relayed.DR", Action.RELAYED),
        ("REPORT.IPM.Note.Expanded.DR", Action.EXPANDED),
    ],
)
def test_a_delivery_report_in_exchanges_own_format_is_read(form: str, action: Action) -> None:
    got = interpret(structures.exchange(form, sender="System Administrator <postmaster@b.org>", subject="Report"))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.BOUNCE, {None: action}, ID)


@pytest.mark.parametrize(
    "named",
    [
        b'application/octet-stream; name="winmail.dat"',
        b'application/octet-stream\nContent-Disposition: attachment; filename="winmail.dat"',
    ],
)
def test_winmail_is_known_by_its_name_too(named: bytes) -> None:
    raw = structures.exchange("REPORT.IPM.Note.IPNRN")
    assert interpret(raw.replace(b'application/ms-tnef; name="winmail.dat"', named)).kind is ReportKind.MDN


def test_a_delivery_report_in_it_is_told_by_its_text_where_it_has_one() -> None:
    said = (
        "Your message\n\ndid not reach the following recipient(s):\n\nbob@b.org\n    No such account. <mx.b.org #5.1.1>"
    )
    raw = mixed(text_part(said), structures.winmail("REPORT.IPM.Note.NDR"), sender="x <postmaster@b.org>")
    one = only(interpret(raw))
    assert (one.action, one.final_recipient, one.status) == (Action.FAILED, BOB, "5.1.1")


@pytest.mark.parametrize("form", ["IPM.Note", "IPM.Schedule.Meeting.Resp.Neg", "IPM.Outlook.Recall", "REPORT.", "NDR"])
def test_no_other_form_of_exchange_is_a_report(form: str) -> None:
    assert interpret(structures.exchange(form, subject="Re: Contract")).recipients == ()


# Read receipts of which a gateway took the type


FIELDS = f"Final-Recipient: rfc822; {BOB}\nOriginal-Message-ID: {ID}\nDisposition: manual-action/MDN-sent-manually; "


def notification(
    part: str = f"Content-Type: message/disposition-notification\n\n{FIELDS}displayed\n",
    kind: str = "multipart/report; report-type=disposition-notification",
    subject: str = "Read: Contract",
) -> bytes:
    head = structures.top(f'{kind}; boundary="=_m"', sender="Bob <bob@b.org>", subject=subject, path=BOB)
    return (head + body(text_part("It was displayed."), part, boundary="=_m")).encode()


@pytest.mark.parametrize("kind", ["text/plain", 'application/octet-stream; name="details.txt"'])
@pytest.mark.parametrize("container", ["multipart/mixed", "multipart/report; report-type=disposition-notification"])
@pytest.mark.parametrize("encoding", ["", "base64"])
def test_a_read_receipt_is_read_whatever_a_gateway_made_of_its_part(kind: str, container: str, encoding: str) -> None:
    fields = f"{FIELDS}deleted\n"
    if encoding:
        coded = base64.encodebytes(fields.encode()).decode()
        part = f"Content-Type: {kind}\nContent-Transfer-Encoding: base64\n\n{coded}"
    else:
        part = f"Content-Type: {kind}\n\n{fields}"
    got = interpret(notification(part, container))
    assert (got.kind, told(got), got.original_message_id) == (ReportKind.MDN, {BOB: Action.DELETED}, ID)


def test_the_fields_of_one_among_other_words_are_no_read_receipt() -> None:
    part = f"Content-Type: text/plain\n\nHi Anna, what does this mean?\n\n{FIELDS}displayed\n"
    assert interpret(notification(part, "multipart/mixed", "a question")).kind is ReportKind.ORDINARY


def test_the_machine_part_of_a_read_receipt_that_a_person_attaches_is_none() -> None:
    assert interpret(notification(kind="multipart/mixed", subject="FW: Read: Contract")).kind is ReportKind.ORDINARY


# Who wrote it


@pytest.mark.parametrize(
    "said", ["Your parcel could not be delivered, write to help@c.org.", "user unknown\ncarl@c.org"]
)
def test_a_missing_from_is_no_sign_of_a_bounce(said: str) -> None:
    raw = structures.top("text/plain", sender=None, subject="Your parcel", path="shop@c.org") + said
    assert interpret(raw.encode()).kind is ReportKind.ORDINARY


def test_a_bounce_without_from_is_known_by_its_null_path() -> None:
    said = "I wasn't able to deliver your message to the following addresses.\n\n<bob@b.org>:\nno mailbox (#5.1.1)\n"
    raw = structures.top("text/plain", sender=None, subject="failure notice") + said
    assert told(interpret(raw.encode())) == {BOB: Action.FAILED}
