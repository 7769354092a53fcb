"""Events -> state of a recipient."""

from receiptd.lifecycle.state import fold, uncounted

__all__ = ["fold", "uncounted"]
