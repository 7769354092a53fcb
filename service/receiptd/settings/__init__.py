"""receiptd.toml, environment and systemd credentials, read into one frozen object."""

from receiptd.settings.loading import find, load, read_secret, read_token
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
from receiptd.settings.reloading import Reloaded, take_over
from receiptd.settings.showing import mask_url, show
from receiptd.settings.values import show_size

__all__ = [
    "ApiToken",
    "DomainException",
    "EscalationLevel",
    "Listen",
    "MailboxSettings",
    "OAuth",
    "PolicySettings",
    "Receipts",
    "Reloaded",
    "Section",
    "Service",
    "Settings",
    "Submission",
    "WebhookSettings",
    "find",
    "load",
    "mask_url",
    "read_secret",
    "read_token",
    "show",
    "show_size",
    "take_over",
]
