"""What a report says -> whom it speaks of, by which key, how sure."""

from receiptd.match.aims import addresses
from receiptd.match.candidates import Candidate, Keys, keys
from receiptd.match.matching import Matched, assigned, match

__all__ = ["Candidate", "Keys", "Matched", "addresses", "assigned", "keys", "match"]
