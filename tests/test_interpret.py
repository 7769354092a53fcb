"""What real servers wrote, and what it means: recorded reports against the facts they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from receiptd.facts import Action, Cause, ReportKind
from receiptd.interpret import as_json, interpret

REPORTS = Path(__file__).parent / "fixtures" / "reports"
EXPECTED = [json.loads(line) for line in (REPORTS / "expected.jsonl").read_text("utf-8").splitlines()]


def recorded(name: str) -> bytes:
    return (REPORTS / f"{name}.eml").read_bytes()


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected["file"])
def test_a_recorded_report_means_what_its_server_meant(expected: dict[str, Any]) -> None:
    report = interpret((REPORTS / expected["file"]).read_bytes())
    assert report.kind == expected["kind"]
    assert expected["original_message_id"] in (None, report.original_message_id)
    for wanted in expected["recipients"]:
        told = [
            one for one in report.recipients if {one.final_recipient, one.original_recipient} & set(wanted["names"])
        ]
        assert [one.action for one in told] == [wanted["action"]]
        assert wanted["status"] in (None, told[0].status)
        assert wanted["reply_code"] in (None, told[0].reply_code)


def test_every_recording_has_an_expectation() -> None:
    assert {path.name for path in REPORTS.glob("*.eml")} == {expected["file"] for expected in EXPECTED}


def test_exims_delivered_that_was_relayed_is_relayed() -> None:
    (told,) = interpret(recorded("forward-exim-b--exim--delivered")).recipients
    assert (told.action, told.stated_action) == (Action.RELAYED, "delivered")


def test_opensmtpds_delayed_that_gave_up_is_failed() -> None:
    (told,) = interpret(recorded("fwd-delayed-osmtpd--osmtpd--delayed-2")).recipients
    assert (told.action, told.stated_action, told.cause) == (Action.FAILED, "delayed", Cause.EXPIRED)


def test_exchanges_plain_delay_with_the_same_code_stays_delayed() -> None:
    raw = recorded("fwd-delayed-osmtpd--osmtpd--delayed-2").replace(b": Envelope expired", b": still in the queue")
    assert interpret(raw).recipients[0].action is Action.DELAYED


def test_a_report_without_recipient_block_speaks_in_its_text() -> None:
    (told,) = interpret(recorded("expanded-sendmail--sendmail--none")).recipients
    assert (told.action, told.final_recipient) == (Action.EXPANDED, "team@sendmail.test")


def test_sendmails_comment_after_the_action_is_kept_and_ignored() -> None:
    (told,) = interpret(recorded("delivered-sendmail--sendmail--delivered-to-mailbox")).recipients
    assert (told.action, told.stated_action) == (Action.DELIVERED, "delivered (to mailbox)")
    assert told.aliases == ("alice@mx.sendmail.test",)


def test_sieves_reject_is_a_refusal_by_the_delivery_agent() -> None:
    report = interpret(
        recorded("sieve-reject--dovecot_Dovecot_Mail_Delivery_Agent--automatic-action-mdn-sent-automatically-")
    )
    assert report.kind is ReportKind.MDN
    assert report.is_refusal


def test_a_read_receipt_is_no_refusal() -> None:
    report = interpret(recorded("list-owner-postfix--Mozilla_Thunderbird--manual-action-mdn-sent-manually-displaye"))
    assert not report.is_refusal
    assert report.reporting_ua == "Mozilla Thunderbird"
    assert report.disposition_mode == "manual-action/mdn-sent-manually"
    assert report.returned_from == "reports@a.test"


def test_roundcubes_list_of_addresses_is_no_original_recipient() -> None:
    report = interpret(recorded("delivered-two-rcpts-----manual-action-mdn-sent-manually-displaye"))
    assert report.recipients[0].original_recipient is None
    assert report.recipients[0].final_recipient == "alice@b.test"


def test_internationalised_reports_name_their_recipients() -> None:
    (told,) = interpret(recorded("smtputf8-failed--a--failed")).recipients
    assert told.final_recipient == "üser@b.test"


def test_the_envelope_id_is_kept_as_stated_even_where_exim_left_it_in_xtext() -> None:
    assert interpret(recorded("forward-exim-b--exim--delivered")).envelope_id == "forward-exim-b+2Bc8be4b38a26a+3Dx"
    assert interpret(recorded("sieve-redirect--b--relayed")).envelope_id == "sieve-redirect+9bdc75408adf=x"


def test_the_reports_own_header_is_told() -> None:
    report = interpret(recorded("sieve-redirect--b--relayed"))
    assert report.return_path == ""
    assert report.to_addresses == ("reports@a.test",)
    assert report.from_address == "MAILER-DAEMON@mx.b.test"
    assert report.subject == "Successful Mail Delivery Report"
    assert report.message_id == "<20261124023402.ACB972400EE@mx.b.test>"
    assert report.date is not None
    assert report.date.isoformat() == "2026-11-24T02:34:02+00:00"
    assert report.arrival_date == report.date
    assert report.reporting_mta == "mx.b.test"
    assert report.is_automatic
    assert report.excerpt.startswith("This is the mail system at host mx.b.test.")


def test_the_json_has_the_fixed_shape() -> None:
    answer = as_json(interpret(recorded("failed-quota-dovecot--b--failed")), "a.eml")
    assert list(answer) == [
        "file", "kind", "recipients", "reporting_mta", "reporting_ua", "envelope_id", "original_message_id", "tokens",
        "disposition_mode", "disposition_modifiers",
    ]  # fmt: skip
    (told,) = answer["recipients"]
    assert answer["kind"] == "dsn"
    assert {"action", "status", "reply_code", "final_recipient", "original_recipient", "diagnostic_code"} <= set(told)
    assert {"remote_mta", "cause", "occurred_at", "stated_action"} <= set(told)
    assert told["cause"] == "mailbox_full"
    assert json.loads(json.dumps(answer)) == answer


def test_times_in_json_are_rfc_3339_in_utc() -> None:
    answer = as_json(interpret(recorded("fwd-fail-sendmail--sendmail--failed")), "-")
    assert answer["recipients"][0]["occurred_at"] == "2026-11-24T02:34:02Z"
