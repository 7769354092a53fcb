"""What a header alone tells: whether to fetch the message from a mailbox that people use."""

from __future__ import annotations

from dataclasses import dataclass

from receiptd.interpret import bounce, envelope, mime

_REPORTS = (
    "multipart/report",
    "message/delivery-status",
    "message/global-delivery-status",
    "message/disposition-notification",
    "message/feedback-report",
)


@dataclass(frozen=True, slots=True)
class Glance:
    """*is_report*: it looks like a machine's report; *answers*: the Message-IDs it says that it answers."""

    is_report: bool
    answers: tuple[str, ...]


def glance(header: bytes) -> Glance:
    """Return what the header of a message tells; never raises, like `interpret`."""
    fields = mime.read(header).header
    kind = (fields.first("content-type") or "").strip().lower()
    is_report = (
        kind.startswith(_REPORTS)
        or envelope.return_path(fields) == ""
        or "x-failed-recipients" in fields
        or bounce.is_called_so(fields)
    )
    answers = (*envelope.message_ids(fields, "in-reply-to"), *envelope.message_ids(fields, "references"))
    return Glance(is_report, tuple(dict.fromkeys(answers))[-100:])
