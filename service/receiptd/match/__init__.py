"""What a report says -> whom it is about, by which key, how sure."""

from receiptd.match.candidates import Candidate, Keys, keys
from receiptd.match.match_keys import needs_no_others
from receiptd.match.matching import Matched, assigned, match
from receiptd.match.reasons import reason
from receiptd.match.targets import addresses

__all__ = ["Candidate", "Keys", "Matched", "addresses", "assigned", "keys", "match", "needs_no_others", "reason"]
