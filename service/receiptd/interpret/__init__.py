"""Bytes -> what the report says: DSN, MDN, bounce, reply, noise (RFC 3464 6522 6533 8098 3834)."""

from __future__ import annotations

from receiptd.interpret.glance import Glance, glance, is_report
from receiptd.interpret.reading import interpret
from receiptd.interpret.shape import as_json

__all__ = ["Glance", "as_json", "glance", "interpret", "is_report"]
