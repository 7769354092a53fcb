"""Is it a bounce, though no machine part says so: by who signs, what it is called, what it says and what it shows."""

from __future__ import annotations

from receiptd.interpret import (
    absence_phrases,
    addresses,
    bounce,
    bounce_evidence,
    mta_phrases,
    refusals,
    reply,
    report_header,
)
from receiptd.interpret.fields import Fields
from receiptd.interpret.human_part import HumanPart
from receiptd.interpret.lazy import lazy

_OF_CONVERSATIONS = frozenset(("in-reply-to", "references", "list-id", "list-unsubscribe", "list-post", "newsgroups"))
"""People quote bounces; lists, replies and newsletters aren't reports for us."""


def is_bounce(header: Fields, said: HumanPart) -> bool:
    """Whether this reports a failed or delayed delivery."""
    if "x-failed-recipients" in header or header.first("x-ricevuta") in mta_phrases.CERTIFIED:
        return True
    signs = _Signs(header, said)
    return signs.tell_of_bounce and not reply.is_away(header) and not signs.tell_success


def is_believed_without_names(header: Fields, said: HumanPart) -> bool:
    """Whether it is a bounce though it names nobody: parcels fail too, and so do logins that phishers want."""
    if not bounce.is_called_so(header) and reply.is_auto_reply(header):
        return False
    path = report_header.return_path(header)
    signs = _Signs(header, said)
    return not path or path.lower().startswith(bounce.SERVERS_POST) or signs.is_program or signs.are_proof


class _Signs:
    """What speaks for a bounce and against it, each read when first asked."""

    def __init__(self, header: Fields, said: HumanPart) -> None:
        self._header, self._said = header, said
        self._subject = bounce.subject_of(header)
        self._is_null = report_header.return_path(header) == ""

    @lazy
    def _is_called(self) -> bool:
        return bounce.is_name(self._subject)

    @lazy
    def is_program(self) -> bool:
        """Whether a program signed as which no person writes."""
        return mta_phrases.PROGRAM.are_in(bounce.sender_of(self._header))

    @lazy
    def _is_daemon(self) -> bool:
        return self.is_program or bounce.is_from_daemon(self._header)

    @lazy
    def _is_robot(self) -> bool:
        return refusals.is_from_robot(self._header)

    @lazy
    def _is_answer(self) -> bool:
        return "in-reply-to" in self._header or "references" in self._header

    @lazy
    def _is_marked(self) -> bool:
        return reply.is_marked(self._header)

    @lazy
    def _is_in_answer(self) -> bool:
        """Whether it answers with a `Re:`, as people do."""
        return self._is_answer and bool(mta_phrases.ANSWERED.match(self._subject))

    @lazy
    def _is_conversation(self) -> bool:
        return self._header.has_any(_OF_CONVERSATIONS)

    @lazy
    def _tells_of_failure(self) -> bool:
        return mta_phrases.SENTENCE.are_in(self._said.plain)

    @property
    def _tells_of_delay(self) -> bool:
        """Whether a program delivers later: a postmaster may write that mail is slow on Saturday."""
        return self.is_program and mta_phrases.DELAYED.are_in(self._said.plain)

    @lazy
    def _gives_reply(self) -> bool:
        return bounce_evidence.gives_reply(self._said)

    @property
    def _is_refused(self) -> bool:
        return bool(refusals.named(self._header, self._said))

    @property
    def tell_success(self) -> bool:
        """Whether the message arrived, and nothing else is told: without a machine part that proves nothing."""
        if mta_phrases.SUCCESS.are_in(self._subject):
            return True
        return mta_phrases.SUCCESS.are_in(self._said.plain) and not bounce_evidence.gives_code(self._said.text)

    @lazy
    def are_proof(self) -> bool:
        """Whether more than words tells of it: a server's reply, a status, the returned message.

        People and their answering machines cite replies and quote what they answer: theirs needs both.
        """
        is_returned = bounce_evidence.is_returned(self._said)
        if is_returned and self._gives_reply:
            return True
        if not (is_returned or self._gives_reply or bounce_evidence.gives_code(self._said.text)):
            return False
        return not ((self._is_answer or self._is_marked) and self._said.is_personal)

    @property
    def tell_of_bounce(self) -> bool:
        """Whether it is a bounce; what it says of success is left aside."""
        if self._subject.startswith(mta_phrases.FOR_POSTMASTERS):
            return False
        if not (self._is_called or self._is_daemon or self._is_null):
            return self._is_list_refusal or self._is_refused_by_anybody
        if not (self.is_program or self.are_proof):
            return self._is_told_in_words and not self._is_let_through
        if self._is_in_answer and not self.is_program:
            return self._is_listed_in_answer
        return self._is_told_with_proof

    @property
    def _is_told_with_proof(self) -> bool:
        if self._is_daemon:
            is_signed = self._is_called or (not self._is_conversation and self._gives_reply)
            return is_signed or self._tells_of_failure or self._tells_of_delay
        if refusals.is_from_person(self._header, self._said):
            return False
        if self._is_null and not self._is_conversation and self._gives_reply:
            return True
        is_report = self._is_null or not self._is_conversation or self._is_robot
        return (is_report and self._is_shown) or self._is_list_refusal or self._is_refused

    @property
    def _is_listed_in_answer(self) -> bool:
        """Whether a server answered the message with its own subject, as Apache James does."""
        is_robot = self._is_daemon or self._is_robot
        if not (is_robot or self._is_null):
            return False
        return self._tells_of_failure and bounce_evidence.lists_failed(self._header, self._said, among_quoted=is_robot)

    @property
    def _is_refused_by_anybody(self) -> bool:
        """Whether an answer, or an automaton, refuses what we sent, in a sentence that names to whom."""
        may_refuse = self._is_robot or (self._is_answer and not self._is_marked)
        return may_refuse and self._is_refused and not self._is_let_through

    @property
    def _is_let_through(self) -> bool:
        """Whether the message was read, arrived without its attachment, or waits for somebody to release it."""
        header, said = self._header, self._said
        is_somewhere = refusals.is_held(header, said) or refusals.is_stripped(said)
        return is_somewhere or reply.is_challenge(header, said.text) or reply.is_receipt(header, said.text)

    @property
    def _is_told_in_words(self) -> bool:
        """Whether words alone tell of a failure, and not of somebody who is away, has left or moved."""
        if self._is_daemon and not self._is_in_answer:
            return (self._is_called or self._tells_of_failure) and not absence_phrases.is_away(self._said.plain)
        if (self._is_robot or not self._is_marked) and self._is_refused:
            return True
        if self._is_list_refusal:
            return True
        is_responder = (
            self._is_answer or self._is_marked or self._said.is_personal or refusals.is_unattended(self._said)
        )
        is_report = self._is_null or (self._is_called and not self._is_conversation)
        return is_report and not is_responder and self._is_shown

    @property
    def _is_shown(self) -> bool:
        if not self._tells_of_failure:
            return False
        names_others = self._is_null and self._is_called and self._names_others
        return bounce_evidence.is_shown(self._header, self._said) or names_others

    @property
    def _is_list_refusal(self) -> bool:
        return mta_phrases.LIST_REFUSALS.are_in(self._subject) and self._tells_of_failure

    @property
    def _names_others(self) -> bool:
        """Whether a sentence names somebody of another domain than the writer's: not a parcel service's help desk."""
        own = (addresses.first(self._header.first("from")) or "").rpartition("@")[2]
        return any(address.rpartition("@")[2] != own for address in bounce.in_sentences(self._said))
