"""What of new settings a running daemon takes over, and what needs a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from receiptd.settings.model import Section, Settings

_WHOLE = frozenset({"mailbox", "policy", "webhook"})
_LIVE = {
    "service": frozenset({"max_evidence", "messages_per_hour", "bytes_per_hour"}),
    "submission": frozenset({"rate", "submit_within", "give_up", "uncertain_wait"}),
    "receipts": frozenset({"notify", "ret", "mdn", "mdn_never"}),
}


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The settings to go on with, the names of those that changed, and of those that wait for a restart."""

    settings: Settings
    changed: tuple[str, ...]
    need_restart: tuple[str, ...]


def take_over(old: Settings, new: Settings) -> Reloaded:
    """Return what becomes of *old* by *new*: what sockets, the database and connections were made of stays."""
    taken: dict[str, Any] = {}
    changed: list[str] = []
    need_restart: list[str] = []
    for name in Settings.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name in _WHOLE:
            taken[name] = after
            changed += [name] if before != after else []
        else:
            differing = _differing(before, after)
            live = [one for one in differing if one in _LIVE.get(name, ())]
            taken[name] = before.model_copy(update={one: getattr(after, one) for one in live})
            changed += [f"{name}.{one}" for one in live]
            need_restart += [f"{name}.{one}" for one in differing if one not in live]
    return Reloaded(old.model_copy(update=taken), tuple(changed), tuple(need_restart))


def _differing(before: Section, after: Section) -> list[str]:
    return [name for name in type(before).model_fields if getattr(before, name) != getattr(after, name)]
