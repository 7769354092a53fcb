"""Content and recipients -> message bytes and DSN request (RFC 5322, 3461, 8098)."""

from receiptd.compose.draft import Attachment, Draft, compose
from receiptd.compose.dsn_request import (
    mail_parameters,
    notify_value,
    original_recipient,
    rcpt_parameters,
)
from receiptd.compose.fitness import check_fitness, has_raw_header
from receiptd.compose.letter import Addressee, Letter, adopt, for_recipient, header_of_copy, make_message_id, renew

__all__ = [
    "Addressee",
    "Attachment",
    "Draft",
    "Letter",
    "adopt",
    "check_fitness",
    "compose",
    "for_recipient",
    "has_raw_header",
    "header_of_copy",
    "mail_parameters",
    "make_message_id",
    "notify_value",
    "original_recipient",
    "rcpt_parameters",
    "renew",
]
