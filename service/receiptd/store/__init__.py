"""The only rooms with SQL: claims, compare-and-set and queries, one module a step."""

from receiptd.store.engine import Store, utcnow
from receiptd.store.faults import is_down, reason_of
from receiptd.store.schema import ensure, upgrade

__all__ = ["Store", "ensure", "is_down", "reason_of", "upgrade", "utcnow"]
