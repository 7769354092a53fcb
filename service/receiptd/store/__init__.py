"""The only rooms with SQL: claims, compare-and-set and queries, one module a step."""

from receiptd.store.engine import Store, is_down, reason_of, utcnow
from receiptd.store.schema import ensure, upgrade

__all__ = ["Store", "ensure", "is_down", "reason_of", "upgrade", "utcnow"]
