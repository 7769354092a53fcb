"""What the relay will not take, as far as it is known when a message is handed over."""

from __future__ import annotations

from receiptd import compose, correlation_token
from receiptd.accept import TooBig
from receiptd.mail.return_path import ReturnPaths
from receiptd.settings import Receipts
from receiptd.smtp import Capabilities
from receiptd.web.context import AppContext

_LARGE = 64 << 10
"""Octets that every server has to take (RFC 5321 §4.5.3.1.7)."""


async def check_relay_limits(context: AppContext, letter: compose.Letter) -> list[str]:
    """Return warnings of what the relay may refuse; raise TooBig for what is over its last known SIZE (RFC 1870).

    Before anything is refused or warned of, the relay is asked again: its limit may have been raised since.
    """
    size = _size_of_a_copy(context.store.settings.receipts, letter)
    offered = context.relay_offers()
    if _is_doubtful(letter, size, offered):
        offered = await context.ask_relay()
    if offered is None:
        return []
    if offered.size and size > offered.size:
        raise TooBig(
            f"the message has {size} octets, and the relay takes {offered.size} at most (SIZE); an attachment counts "
            "a third more than its file has: send a link instead, or let the relay's administrator raise its limit"
        )
    return _warnings(letter, offered)


def _is_doubtful(letter: compose.Letter, size: int, offered: Capabilities | None) -> bool:
    if offered is None:
        return size > _LARGE or compose.has_raw_header(letter)
    return bool(offered.size and size > offered.size) or bool(_warnings(letter, offered))


def _size_of_a_copy(receipts: Receipts, letter: compose.Letter) -> int:
    """Return how many octets one recipient's copy has, with the header lines that are inserted."""
    mark = "x" * correlation_token.LENGTH
    inserted = compose.for_recipient(
        b"",
        disposition_notification_to=ReturnPaths(receipts.address, receipts.subaddress).of(mark),
        receipt_token=None if receipts.subaddress else mark,
    )
    return len(inserted) + len(letter.content)


def _warnings(letter: compose.Letter, offered: Capabilities) -> list[str]:
    warnings = []
    if compose.has_raw_header(letter) and not offered.smtputf8:
        warnings.append(
            "the header holds characters beyond ASCII as they are, and the relay offers no SMTPUTF8: the message may "
            "be refused or garbled; let your program write them as encoded words (RFC 2047)"
        )
    elif letter.needs_8bitmime and not offered.eightbitmime:
        warnings.append(
            "the message is 8-bit, and the relay offers no 8BITMIME: it may be refused; let your program encode it "
            "(quoted-printable or base64)"
        )
    return warnings
