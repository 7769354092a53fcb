"""What a report says -> whom it speaks of, by which key, how sure."""

from receiptd.match.candidates import Candidate, Keys, keys
from receiptd.match.matching import Matched, match

__all__ = ["Candidate", "Keys", "Matched", "keys", "match"]
