"""What a fact does to a recipient: the pure move, its incidents, and what a resent copy says to those before it."""

from receiptd.recipients.incidents import Moved
from receiptd.recipients.move import Change, Entry, Provenance, SideEffects
from receiptd.recipients.record import record, record_one

__all__ = ["Change", "Entry", "Moved", "Provenance", "SideEffects", "record", "record_one"]
