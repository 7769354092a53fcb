"""A message from a user -> committed rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError

from receiptd import compose
from receiptd.accept.commit import AcceptedMessage, KeyReused, Submission, commit, put
from receiptd.accept.terms import RecipientTerms, SubmitOptions, TooBig, a_few, agree, check_answers, too_big
from receiptd.store import Store

__all__ = [
    "AcceptedMessage",
    "KeyReused",
    "RecipientTerms",
    "Submission",
    "SubmitOptions",
    "TooBig",
    "a_few",
    "accept",
    "check_answers",
    "put",
    "too_big",
]


async def accept(
    store: Store, letter: compose.Letter, options: SubmitOptions, warnings: Sequence[str] = ()
) -> AcceptedMessage:
    """Commit *letter* for every recipient, with *warnings* that are known already; return when it is on disk.

    Raises BadData with a sentence for what can't be taken; nothing is stored then.
    """
    submission = Submission(letter, options, agree(store.settings, letter, options), warnings)
    try:
        return await commit(store, submission)
    except IntegrityError:
        # Another daemon took the same idempotency key at the same moment: now its message is there to be found.
        return await commit(store, submission)
