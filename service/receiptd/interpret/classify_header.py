"""What a header alone tells: whether to fetch the message from a mailbox that people use."""

from __future__ import annotations

from dataclasses import dataclass

from receiptd.facts import ReportKind
from receiptd.interpret import bounce, mime, pec, report_header
from receiptd.interpret.interpreter import interpret

_TYPES = (
    "multipart/report",
    "message/delivery-status",
    "message/global-delivery-status",
    "message/disposition-notification",
    "message/feedback-report",
)
_FIELDS = frozenset(("x-failed-recipients", "x-ricevuta"))
_ANSWERS = ("in-reply-to", "references", pec.REFERENCE)
_REPORTS = (ReportKind.DSN, ReportKind.BOUNCE, ReportKind.MDN, ReportKind.FEEDBACK)


@dataclass(frozen=True, slots=True)
class HeaderClass:
    """*is_report*: it says that it is a machine's report; *seems_report*: it is, or only looks like one.

    *answered_ids*: the Message-IDs it says that it answers.
    """

    is_report: bool
    seems_report: bool
    answered_ids: tuple[str, ...]


def classify_header(header: bytes) -> HeaderClass:
    """Return what the header of a message tells; never raises, like `interpret`."""
    fields = mime.read(header).header
    kind = (fields.first("content-type") or "").strip().lower()
    is_report = kind.startswith(_TYPES) or fields.has_any(_FIELDS)
    seems_report = is_report or report_header.return_path(fields) == "" or bounce.is_called_so(fields)
    answered_ids = [message_id for name in _ANSWERS for message_id in report_header.message_ids(fields, name)]
    return HeaderClass(is_report, seems_report, tuple(dict.fromkeys(answered_ids))[-100:])


def is_report(raw: bytes) -> bool:
    """Whether a whole message is a report: many a parcel that couldn't be delivered is called like one."""
    return interpret(raw).kind in _REPORTS
