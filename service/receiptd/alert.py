"""What an alert says, and which webhooks take it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from receiptd.facts import AlertType
from receiptd.settings.model import Settings, WebhookSettings

_ONLY_BY_NAME = (AlertType.RECEIPT_MET, AlertType.RECEIPT_AUTO_REPLY)


def takes(webhook: WebhookSettings, kind: str) -> bool:
    """Whether *webhook* subscribes to alerts of this type."""
    if kind in _ONLY_BY_NAME:
        return kind in webhook.events
    return any(fnmatchcase(kind, pattern) for pattern in webhook.events)


def link(settings: Settings, message: str) -> str | None:
    """Return the message's address in the API, or None where nothing listens on TCP."""
    address = next((listen.tcp for listen in settings.service.listen if listen.tcp), None)
    return f"http://{address}/v1/messages/{message}" if address else None


def chosen(settings: Settings, kind: str, to: Iterable[str], *, only: Sequence[str] | None = None) -> list[str]:
    """Return the webhooks of *to* that take alerts of this type.

    Where none does, all that take it get it: an alert that nobody was to hear is still one.
    With *only*, nobody outside it is told (a resolution is for those who knew).
    """
    subscribed = [webhook.name for webhook in settings.webhook if takes(webhook, kind)]
    wanted = set(to)
    found = [name for name in subscribed if name in wanted]
    return found if found or only is not None else subscribed
