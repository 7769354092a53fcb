"""The only room that knows aiosmtplib: transaction, DSN parameters, pool."""

from receiptd.smtp.connection import TokenSource
from receiptd.smtp.outcome import Accepted, Outcome, Refused, RelayDown, Transaction, Uncertain
from receiptd.smtp.relay import Relay
from receiptd.smtp.reply import Capabilities, Dialogue, Reply, replaces_return_path
from receiptd.smtp.server import Server, parse_url

__all__ = [
    "Accepted",
    "Capabilities",
    "Dialogue",
    "Outcome",
    "Refused",
    "Relay",
    "RelayDown",
    "Reply",
    "Server",
    "TokenSource",
    "Transaction",
    "Uncertain",
    "parse_url",
    "replaces_return_path",
]
