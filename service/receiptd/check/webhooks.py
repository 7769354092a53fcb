"""Has every webhook a secret, and does its way hide what is told?"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from receiptd.check.finding import Finding, fail, good, warn
from receiptd.errors import BadSettings
from receiptd.settings import Settings, is_loopback
from receiptd.webhook import secret_of

WHAT = "webhook"


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what the settings alone show; an endpoint is not called, for it would take that for an alert."""
    for webhook in settings.webhook:
        try:
            secret_of(webhook)
        except BadSettings as error:
            yield fail(WHAT, str(error))
            continue
        parts = urlsplit(webhook.url)
        yield good(WHAT, f"{webhook.name} at {parts.hostname} has a good secret and takes {', '.join(webhook.events)}")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield warn(WHAT, f"alerts to {webhook.name} can be read on the way: use https, or omit subject and address")
