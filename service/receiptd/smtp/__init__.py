"""The only package that knows aiosmtplib: transactions, DSN parameters, pool."""

from receiptd.smtp.backlog import Finished
from receiptd.smtp.connection import TokenSource
from receiptd.smtp.content import Content
from receiptd.smtp.envelope import Envelope
from receiptd.smtp.outcome import Accepted, NotSent, Outcome, Refused, RelayDown, Uncertain
from receiptd.smtp.relay import Relay
from receiptd.smtp.reply import Capabilities, Dialogue, Reply, replaces_return_path
from receiptd.smtp.server import Server, parse_url
from receiptd.smtp.stream import Stream

__all__ = [
    "Accepted",
    "Capabilities",
    "Content",
    "Dialogue",
    "Envelope",
    "Finished",
    "NotSent",
    "Outcome",
    "Refused",
    "Relay",
    "RelayDown",
    "Reply",
    "Server",
    "Stream",
    "TokenSource",
    "Uncertain",
    "parse_url",
    "replaces_return_path",
]
