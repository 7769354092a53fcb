"""Events -> state of a recipient."""

from receiptd.lifecycle.folding import fold, uncounted

__all__ = ["fold", "uncounted"]
