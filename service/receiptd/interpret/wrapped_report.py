"""A report that a gateway wrapped whole, behind a notice of its own -> the report."""

from __future__ import annotations

from receiptd.interpret import addresses, bounce, bounce_evidence, mime, mta_phrases, report_header
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.mime import Part

_CARRIERS = frozenset(("message/rfc822", "message/global"))
_REPORTS = frozenset((
    "multipart/report", "message/delivery-status", "message/global-delivery-status",
    "message/disposition-notification", "message/global-disposition-notification", "message/feedback-report",
))  # fmt: skip

_MOST_NAMES, _SIGHT = 50, 256 * 1024


def report_in(root: Part, said: HumanPart) -> Part | None:
    """Return the report that *root* carries as its only message, where a machine put it there and says nothing else.

    Never deeper than that: what a report returns, or what a person forwards, speaks for itself and not for us.
    """
    if root.types.isdisjoint(_CARRIERS) or not root.types.isdisjoint(_REPORTS):
        return None
    carried = [part for part in root.parts if part.type in _CARRIERS]
    if len(carried) != 1:
        return None
    header = carried[0].embedded_header()
    if not _is_wrapper(root.header, header):
        return None
    inside = carried[0].embedded_message()
    return None if _tells_more(root.header, said, inside) else inside


def _is_wrapper(header: Fields, inner: Fields) -> bool:
    """Whether a machine, or the server that wrote the report with the header *inner*, seems to have sent *header*."""
    if report_header.plain_subject(header).startswith(mta_phrases.FORWARDED):
        return False
    writer = addresses.first(header.first("from"))
    if writer and writer == addresses.first(inner.first("from")):
        return bounce.is_from_daemon(inner) or _is_report(inner)
    return (report_header.return_path(header) == "" or bounce.is_from_daemon(header)) and _is_report(inner)


def _tells_more(header: Fields, said: HumanPart, inside: Part) -> bool:
    """Whether the wrapper itself refuses somebody of whom the report inside says nothing: then it returns that one."""
    if not (bounce_evidence.gives_reply(said) or bounce_evidence.lists_failed(header, said)):
        return False
    own = set(report_header.recipients(header))
    named = [one for one in addresses.find(said.text)[:_MOST_NAMES] if one not in own]
    return any(inside.raw.find(one.encode(), 0, _SIGHT) < 0 for one in named)


def _is_report(header: Fields) -> bool:
    kind, parameters = mime.content_type(header.first("content-type"))
    return kind == "multipart/report" and parameters.get("report-type", "").lower() in (
        "delivery-status",
        "disposition-notification",
        "feedback-report",
    )
