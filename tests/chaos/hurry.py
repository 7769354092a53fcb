"""Shorter waits inside a daemon of a fault run: what takes minutes takes seconds here, and nothing else changes."""

from __future__ import annotations

import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

_SECOND = timedelta(seconds=1)

WAITS: dict[str, Any] = {
    "IN_DATA": 12 * _SECOND,
    "LEASE": 15 * _SECOND,
    "IN_FLIGHT": 8 * _SECOND,
    "SCHEDULE": tuple(n * _SECOND for n in (0, 1, 2, 3, 5, 5, 5, 5, 5, 5)),
    "deliver._TIMEOUT": 3,
    "_MINUTE": 10 * _SECOND,
    "RETRY": 8 * _SECOND,
    "_REST": 2 * _SECOND,
    "backoff": lambda attempts: min(attempts + 1, 4) * _SECOND,
}
"""The names of waits in receiptd's modules, and how long they are in a fault run (docs/reliability.md says so too)."""


def hurry() -> None:
    """Shorten the waits of this process, whichever modules they stand in."""
    modules = [module for name, module in sys.modules.items() if name.startswith("receiptd.")]
    for wait, value in WAITS.items():
        room, _, name = wait.rpartition(".")
        having = [module for module in modules if _is_wait(module, room, name, value)]
        if not having:
            raise LookupError(f"receiptd has no {wait} any more: tests/chaos/hurry.py must follow")
        for module in having:
            setattr(module, name, value)


def _is_wait(module: ModuleType, room: str, name: str, value: Any) -> bool:
    """Whether *module* has such a wait, and not something else of that name, such as a table."""
    is_there = isinstance(getattr(module, name, None), type(value))
    return is_there and (not room or room in module.__name__.split("."))
