"""receiptd.toml, environment and systemd credentials, read into one frozen object."""

from receiptd.settings.model import (
    ApiToken,
    DomainException,
    EscalationLevel,
    Listen,
    MailboxSettings,
    OAuth,
    PolicySettings,
    Receipts,
    Section,
    Service,
    Settings,
    Submission,
    WebhookSettings,
)
from receiptd.settings.reading import find, load, read_secret
from receiptd.settings.showing import show
from receiptd.settings.values import is_loopback, show_size

__all__ = [
    "ApiToken",
    "DomainException",
    "EscalationLevel",
    "Listen",
    "MailboxSettings",
    "OAuth",
    "PolicySettings",
    "Receipts",
    "Section",
    "Service",
    "Settings",
    "Submission",
    "WebhookSettings",
    "find",
    "is_loopback",
    "load",
    "read_secret",
    "show",
    "show_size",
]
