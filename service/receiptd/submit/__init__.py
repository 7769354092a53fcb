"""Queued recipients -> submission server, one transaction each."""

from receiptd.submit.outcomes import backoff
from receiptd.submit.step import submit

__all__ = ["backoff", "submit"]
