"""send-with-receipt: hand a message to the daemon, and wait for its receipts if told to."""

from receiptd.send.command import main

__all__ = ["main"]
