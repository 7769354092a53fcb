"""The only rooms with SQL: claims, compare-and-set and queries, one module a step."""

from receiptd.store.engine import Store, utcnow
from receiptd.store.faults import is_down, reason_of
from receiptd.store.schema import ensure, is_new, upgrade

__all__ = ["Store", "ensure", "is_down", "is_new", "reason_of", "upgrade", "utcnow"]
