"""Events -> state of a recipient."""

from receiptd.lifecycle.folding import fold

__all__ = ["fold"]
