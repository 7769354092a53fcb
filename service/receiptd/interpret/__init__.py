"""Bytes -> what the report says: DSN, MDN, bounce, reply, noise (RFC 3464 6522 6533 8098 3834)."""

from __future__ import annotations

from receiptd.interpret.classify_header import HeaderClass, classify_header, is_report
from receiptd.interpret.interpreter import interpret
from receiptd.interpret.json_output import as_json

__all__ = ["HeaderClass", "as_json", "classify_header", "interpret", "is_report"]
