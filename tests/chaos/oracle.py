"""The oracle: what must have come of every letter, judged by what peers and clients saw, and by the API's end state."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tests.chaos.fates import fate_of
from tests.chaos.journal import Journal, Letter, Post, Report, Transaction
from tests.chaos.state import deadline_of, events_of

_RETURN_PATH = re.compile(r"receipts\+([a-z2-7]{24})@a\.test")
_GOOD = ("relayed", "delivered", "displayed")
_UNCOMMITTED = 3.0
"""Seconds after the relay's answer within which a kill may still find it uncommitted."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise; *may_heal*: a daemon that has more time may still keep it."""

    kind: str
    about: str
    text: str
    may_heal: bool = False
    message: str | None = None
    """The id of the message, where it is about one."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.text}"


@dataclass(frozen=True)
class Person:
    """One recipient: its row in the API, and all that peers saw of its address."""

    letter: Letter
    row: Json
    events: Sequence[Json] | None
    transactions: Sequence[Transaction]
    reports: Sequence[Report]
    posts: Sequence[Post]

    @property
    def address(self) -> str:
        return str(self.row["address"])

    @property
    def taken(self) -> list[Transaction]:
        return [one for one in self.transactions if one.taken]

    def has(self, kind: str) -> bool:
        return any(event["kind"] == kind and event["recipient"] == self.row["id"] for event in self.events or ())

    def reported(self, *actions: str) -> list[Report]:
        return [one for one in self.reports if one.action in actions]

    def told(self, kind: str, endpoint: str = "ops") -> list[Post]:
        return [post for post in self.posts if post.type == kind and post.endpoint == endpoint]


class Oracle:
    """Judges one run; *state* is what the API shows in the end: messages by id, with events where they are needed."""

    def __init__(self, journal: Journal, state: Mapping[str, Json], within: float) -> None:
        self.journal, self.state, self.within = journal, state, within
        self._transactions: dict[str, list[Transaction]] = defaultdict(list)
        self._reports: dict[str, list[Report]] = defaultdict(list)
        self._posts: dict[str, list[Post]] = defaultdict(list)
        for transaction in journal.transactions:
            self._transactions[transaction.address].append(transaction)
        for report in journal.reports:
            self._reports[report.address].append(report)
        for post in journal.posts:
            for recipient in _recipients_of(post):
                self._posts[recipient].append(post)
        self._by_subject: dict[str, list[Json]] = defaultdict(list)
        for message in state.values():
            self._by_subject[message["subject"]].append(message)

    def judge(self) -> Iterator[Violation]:
        """Return every violation of the run."""
        yield from self._strangers()
        yield from self._webhook_ids()
        yield from self._monitors()
        for letter in self.journal.letters:
            yield from self._acceptance(letter)
            for message in self._by_subject[letter.subject]:
                for row in message["recipients"]:
                    person = self._person(letter, message, row)
                    for violation in judge_person(person, self.within, self.journal):
                        yield replace(violation, message=message["id"])

    def _person(self, letter: Letter, message: Json, row: Json) -> Person:
        address = row["address"]
        posts = self._posts[row["id"]]
        events = message.get("events")
        return Person(letter, row, events, self._transactions[address], self._reports[address], posts)

    def needs_events(self) -> list[str]:
        """Return the ids of messages about whose recipients the events must be known too."""
        found = []
        for message in self.state.values():
            for row in message["recipients"]:
                taken = sum(one.taken for one in self._transactions[row["address"]])
                is_doubtful = taken > 1 or row["delivery"] == "uncertain" or len(self._reports[row["address"]]) > 1
                if is_doubtful and "events" not in message:
                    found.append(message["id"])
                    break
        return found

    # --- what clients were told

    def _acceptance(self, letter: Letter) -> Iterator[Violation]:
        kept = self._by_subject[letter.subject]
        told = {answer["id"]: answer for answer in letter.answers}
        if len(told) > 1:
            yield Violation("unstable id", letter.subject, f"one key, several ids: {sorted(told)}")
        for key, answer in told.items():
            if key not in self.state:
                yield Violation("lost", letter.subject, f"accepted as {key}, and the API knows no such message")
            elif (problem := _differs(answer, self.state[key])) is not None:
                yield Violation("unstable id", letter.subject, f"{key}: {problem}")
        most = 1 if letter.key or not letter.unknown else letter.tries
        if len(kept) > most:
            yield Violation("doubled", letter.subject, f"{letter.tries} tries of one letter are {len(kept)} messages")
        if letter.key and not letter.answers:
            yield Violation("lost", letter.subject, f"not accepted in {letter.tries} tries")

    def _strangers(self) -> Iterator[Violation]:
        known = {letter.subject for letter in self.journal.letters}
        for message in self.state.values():
            if message["subject"] not in known:
                yield Violation("false", message["id"], f"nobody handed over {message['subject']!r}")
        addresses = {row["address"] for message in self.state.values() for row in message["recipients"]}
        for address in self._transactions.keys() - addresses:
            yield Violation("lost", address, "the relay saw a copy of a message that the API doesn't know")

    # --- webhooks as such

    def _webhook_ids(self) -> Iterator[Violation]:
        said: dict[str, tuple[str, object]] = {}
        for post in self.journal.posts:
            if post.problem:
                yield Violation("wrong", post.id, f"a webhook at {post.endpoint}: {post.problem}")
                continue
            meaning = (post.type, repr(post.data))
            if said.setdefault(post.id, meaning) != meaning:
                yield Violation("unstable id", post.id, f"the id of {said[post.id]} came again with {meaning}")

    def _monitors(self) -> Iterator[Violation]:
        blind = {post.id: post for post in self.journal.posts if post.type == "monitor.blind"}
        ended = {name for post in self.journal.posts for name in post.data.get("resolves", ()) if _is_told(post)}
        for key, post in blind.items():
            if key not in ended:
                text = f"{post.data.get('what')} was blind ({post.data.get('reason')}), and no monitor.clear was told"
                yield Violation("missed", key, text, may_heal=True)
            cause = {"relay": "relay", "mailbox": "imap"}.get(str(post.data.get("what")), "clock")
            earlier = (s for s in self.journal.strikes if post.at - 360 < s.at < post.at)
            if not any(strike.what.startswith((cause, "SIG", "database")) for strike in earlier):
                yield Violation("false", key, f"{post.data.get('what')} is said to be blind: {post.data.get('reason')}")
        for post in self.journal.posts:
            if post.type == "monitor.set_aside":
                yield Violation("false", post.id, f"a report that can be read was set aside: {post.data.get('reason')}")


# --- one recipient


def judge_person(person: Person, within: float, journal: Journal) -> Iterator[Violation]:
    """Return what is wrong about one recipient."""
    yield from _envelopes(person)
    yield from _doubles(person, journal)
    yield from _deadline(person, within)
    if not person.taken and fate_of(person.address).refused_at is None:
        yield Violation("lost", person.address, f"the relay never got it: {_short(person.row)}", may_heal=True)
        return
    wanted = expected(person)
    if (found := (person.row["delivery"], person.row["receipt"])) not in wanted:
        text = f"is {found}, the evidence says {sorted(wanted)}: {_short(person.row)}"
        yield Violation("wrong", person.address, text, may_heal=True)
    yield from _counts(person)
    yield from _missed_alerts(person)
    yield from _false_alerts(person)
    yield from _alert_ids(person)


def expected(person: Person) -> set[tuple[str, str]]:
    """Return the (delivery, receipt) that the evidence allows."""
    good = person.reported(*_GOOD)
    if person.reported("failed"):
        delivery = "contradicted" if person.reported("delivered") else "failed"
        read = person.reported("displayed")
        return {(delivery, receipt) for receipt in (_in_time(person, read) if read else {"failed"})}
    if good:
        delivery = "delivered" if person.reported("delivered") else "relayed"
        return {(delivery, receipt) for receipt in _in_time(person, good)}
    if person.taken:
        return {("delayed" if person.reported("delayed") else "accepted", "overdue")}
    may_be_uncertain = {("uncertain", "overdue")} if person.has("uncertain") else set()
    was_refused = any(one.reply is not None and one.reply >= 500 for one in person.transactions)
    return may_be_uncertain | ({("failed", "failed")} if was_refused else set())


def _in_time(person: Person, reports: Sequence[Report]) -> set[str]:
    """Return whether the first of *reports* meets the deadline; both are known to the second."""
    deadline, first = deadline_of(person.row), min(report.at for report in reports)
    if deadline is None or first < deadline:
        return {"met"}
    return {"met_late"} if first > deadline + 2 else {"met", "met_late"}


def _envelopes(person: Person) -> Iterator[Violation]:
    """One address has one token, one envelope id, and the same bytes, each time."""
    seen = person.transactions
    for name in ("return_path", "envelope_id", "digest", "message_id"):
        values = {getattr(one, name) for one in seen if name in ("return_path", "envelope_id") or one.digest}
        if len(values) > 1:
            yield Violation("doubled", person.address, f"different copies of one message: {name} is {sorted(values)}")
    for one in seen:
        if not _RETURN_PATH.fullmatch(one.return_path):
            yield Violation("wrong", person.address, f"the return path is {one.return_path}")
        notification_to = (one.disposition_notification_to or "").strip("<>")
        if one.digest and notification_to != one.return_path:
            yield Violation("wrong", person.address, f"{one.return_path} came with the copy of {notification_to}")
        answers = person.letter.answers
        if one.message_id and answers and one.message_id not in {answer["message_id"] for answer in answers}:
            yield Violation("wrong", person.address, f"{one.message_id} was sent, the client was told {answers}")


def _doubles(person: Person, journal: Journal) -> Iterator[Violation]:
    """A copy goes out again only where nobody can know what became of the one before."""
    taken = person.taken
    for one, again in pairwise(taken):
        text = f"taken at {one.at:.3f} with {one.reply} and again at {again.at:.3f}"
        if one.reply == 250 and not _may_be_unknown(one, journal):
            yield Violation("doubled", person.address, f"{text}, though nothing kept the answer from being committed")
        elif person.events is not None and not person.has("uncertain"):
            yield Violation("doubled", person.address, f"{text}, and no event says that the outcome was unknown")


def _may_be_unknown(one: Transaction, journal: Journal) -> bool:
    """Whether the daemon may have been stopped, or its database been away, before it committed the answer."""
    until = (one.reply_at or one.at) + _UNCOMMITTED
    for strike in journal.strikes:
        if strike.what.startswith("database") and strike.at < until and strike.until + _UNCOMMITTED > one.at:
            return True
        is_ours = strike.node == one.node and strike.what in ("SIGKILL", "SIGSTOP")
        if is_ours and one.at - 0.5 < max(strike.at, strike.until) and strike.at < until:
            return True
    return False


def _deadline(person: Person, within: float) -> Iterator[Violation]:
    """The clock starts at the first final dot: never later than the first copy that the relay acknowledged."""
    deadline = deadline_of(person.row)
    dots = [one.dot_at for one in person.transactions if one.dot_at and one.reply == 250]
    if deadline is not None and dots and deadline > min(dots) + within + 8:
        text = f"the deadline is {deadline - min(dots):.1f} s after the first final dot, {within} s were asked"
        yield Violation("wrong", person.address, text)
    if deadline is not None and deadline < person.letter.begun_at + within - 2:
        yield Violation("wrong", person.address, "the deadline is earlier than any final dot allows")


def _counts(person: Person) -> Iterator[Violation]:
    """The same fact told again is one event that counts its copies."""
    if person.events is None:
        return
    for action in ("delivered", "relayed", "failed", "displayed"):
        told, own = len(person.reported(action)), events_of(person.events, person.row["id"], action)
        proven = [event for event in own if event["source"] in ("dsn", "mdn")]
        if told and (len(proven) != 1 or proven[0]["count"] != told):
            text = f"{told} reports of {action} are {[(e['kind'], e['count']) for e in proven]}"
            yield Violation("wrong", person.address, text, may_heal=sum(e["count"] for e in proven) < told)


# --- alerts


def _missed_alerts(person: Person) -> Iterator[Violation]:
    row, met = person.row, person.row["receipt"] in ("met", "met_late")
    needed = []
    if row["receipt"] == "failed":
        needed.append(("receipt.contradicted" if row["delivery"] == "contradicted" else "receipt.failed", "ops"))
    if row["receipt"] == "overdue":
        refused = [one for one in person.transactions if one.reply is not None and one.reply >= 500]
        is_refused_again = bool(refused) and row["delivery"] == "uncertain"
        needed.append(("receipt.overdue", "ops"))
        needed += [("receipt.failed", "ops")] if is_refused_again else []
        # The next level is told what the incident was about last.
        last = (
            "receipt.failed" if is_refused_again and any(person.told("receipt.failed", "boss")) else "receipt.overdue"
        )
        needed.append((last, "boss"))
    if met:
        needed.append(("receipt.met", "audit"))
    for kind, endpoint in needed:
        if not any(_is_told(post) for post in person.told(kind, endpoint)):
            text = f"{endpoint} was never told {kind}: {_short(row)}"
            yield Violation("missed", person.address, text, may_heal=True)
    if met:
        yield from _missed_resolution(person)


def _missed_resolution(person: Person) -> Iterator[Violation]:
    for endpoint in ("ops", "boss"):
        ended = {name for post in person.told("receipt.resolved", endpoint) for name in post.data["resolves"]}
        raised = {post.id for post in person.posts if post.endpoint == endpoint and post.type in _ALARMS}
        if raised - ended:
            text = f"{endpoint} heard of {sorted(raised - ended)} and never that it is over: {_short(person.row)}"
            yield Violation("missed", person.address, text, may_heal=True)
        told = [post for post in person.told("receipt.resolved", endpoint) if _is_told(post)]
        if raised and not told:
            yield Violation("missed", person.address, f"{endpoint} took no resolution", may_heal=True)


_ALARMS = ("receipt.failed", "receipt.overdue", "receipt.contradicted", "receipt.refused")


def _false_alerts(person: Person) -> Iterator[Violation]:
    for post in person.posts:
        if (problem := _is_false(post, person)) is not None:
            yield Violation("false", person.address, f"{post.type} to {post.endpoint} at {post.at:.3f}: {problem}")


def _is_false(post: Post, person: Person) -> str | None:
    """Return what speaks against an alert, by what had happened when it came."""
    had = {report.action for report in person.reports if report.at <= post.at}
    refused = any(one.reply is not None and one.reply >= 500 for one in person.transactions if one.at <= post.at)
    deadline = deadline_of(person.row)
    good = [report.at for report in person.reports if report.action in _GOOD]
    match post.type:
        case "receipt.failed":
            return None if "failed" in had or refused else "nothing had failed"
        case "receipt.contradicted":
            return None if {"failed", "delivered"} <= had else "no two reports contradicted each other"
        case "receipt.overdue" if deadline is None or post.at < deadline:
            return f"the deadline is {person.row['deadline']}"
        case "receipt.overdue":
            return "a receipt lay in the mailbox in time" if good and min(good) < (deadline or 0) else None
        case "receipt.resolved" | "receipt.met":
            return None if had & set(_GOOD) else "no receipt had come"
        case _:
            return "nothing gives cause for this type"


def _alert_ids(person: Person) -> Iterator[Violation]:
    """One fact has one id, at each endpoint."""
    ids: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for post in person.posts:
        ids[post.endpoint, post.type, post.data.get("escalation"), post.data.get("unproven")].add(post.id)
    for (endpoint, kind, *_), found in ids.items():
        if len(found) > 1:
            text = f"{endpoint} got {kind} under {len(found)} ids: {sorted(found)}"
            yield Violation("unstable id", person.address, text)


def _is_told(post: Post) -> bool:
    return post.answered is not None and 200 <= post.answered < 300


def _recipients_of(post: Post) -> list[str]:
    single, several = post.data.get("recipient"), post.data.get("recipients") or ()
    return [one["id"] for one in ([single] if single else several)]


def _differs(answer: Json, message: Json) -> str | None:
    """Return how the message of an answer isn't the one that is kept, or None."""
    if answer["message_id"] != message["message_id"]:
        return f"told {answer['message_id']}, kept {message['message_id']}"
    told, kept = ({(one["id"], one["address"]) for one in whole["recipients"]} for whole in (answer, message))
    return None if told == kept else f"told {sorted(told)}, kept {sorted(kept)}"


def _short(row: Json) -> str:
    return ", ".join(f"{name} {row[name]}" for name in ("delivery", "disposition", "receipt", "deadline", "reason"))
