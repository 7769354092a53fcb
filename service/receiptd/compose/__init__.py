"""Content and recipients -> message bytes and DSN request (RFC 5322, 3461, 8098)."""

from receiptd.address import key as address_key
from receiptd.compose.address import Mailbox, domain_of, parse_address, parse_mailboxes
from receiptd.compose.draft import Attachment, Draft, compose
from receiptd.compose.envelope import (
    mail_parameters,
    notify_value,
    original_recipient,
    rcpt_parameters,
    return_path,
    token_in_address,
    xtext_decode,
    xtext_encode,
)
from receiptd.compose.fitness import check_fitness, has_raw_header
from receiptd.compose.letter import Addressee, Letter, adopt, for_recipient, make_message_id, renew

__all__ = [
    "Addressee",
    "Attachment",
    "Draft",
    "Letter",
    "Mailbox",
    "address_key",
    "adopt",
    "check_fitness",
    "compose",
    "domain_of",
    "for_recipient",
    "has_raw_header",
    "mail_parameters",
    "make_message_id",
    "notify_value",
    "original_recipient",
    "parse_address",
    "parse_mailboxes",
    "rcpt_parameters",
    "renew",
    "return_path",
    "token_in_address",
    "xtext_decode",
    "xtext_encode",
]
