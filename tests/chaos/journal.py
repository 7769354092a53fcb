"""What really happened, as the peers and clients saw it: the oracle's only evidence."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Letter:
    """One message that a client hands over, perhaps in several tries."""

    number: int
    subject: str
    addresses: list[str]
    key: str | None
    by_command: bool
    begun_at: float = 0.0
    tries: int = 0
    unknown: int = 0
    """Tries whose answer nobody saw: they may have been accepted."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """What clients were told: the JSON of each 202, or of each exit 0."""


@dataclass(slots=True)
class Transaction:
    """One SMTP transaction that reached RCPT, as the relay saw it."""

    at: float
    node: int
    return_path: str
    envelope_id: str | None
    address: str
    digest: str | None = None
    """SHA-256 of the content; None where the final dot never came."""
    message_id: str | None = None
    disposition_notification_to: str | None = None
    dot_at: float | None = None
    reply: int | None = None
    """The last reply that was written: to RCPT, DATA or the final dot; None where the connection was cut before."""
    reply_at: float | None = None
    taken: bool = False
    """The relay has the message and will report, whatever it answered."""


@dataclass(slots=True)
class Report:
    """One report that lies in the mailbox since *at* (whole seconds: INTERNALDATE)."""

    at: float
    return_path: str
    address: str
    action: str
    copy_of_transaction: int


@dataclass(slots=True)
class Post:
    """One POST that the webhook receiver read to its end."""

    at: float
    endpoint: str
    id: str
    type: str
    data: dict[str, Any]
    problem: str | None
    """What is wrong with its form or signature."""
    answered: int | None = None
    """The status that was written; None where the connection was cut."""


@dataclass(slots=True)
class Strike:
    """One fault, from *at* to *until*."""

    at: float
    until: float
    what: str
    node: int | None = None


@dataclass
class Journal:
    """Everything that was seen, in the order in which it was."""

    letters: list[Letter] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    """What no client or daemon should ever do: an answer 500, an exit status 70, a traceback."""

    def strike(self, what: str, length: float = 0.0, node: int | None = None) -> Strike:
        now = time.time()
        made = Strike(now, now + length, what, node)
        self.strikes.append(made)
        return made

    def counts(self) -> dict[str, int]:
        """Return how many strikes of each kind there were."""
        found: dict[str, int] = defaultdict(int)
        for strike in self.strikes:
            found[strike.what] += 1
        return dict(sorted(found.items()))

    def write(self, path: Path) -> None:
        """Write all of it as JSON lines."""
        with path.open("w") as file:
            for name in ("letters", "transactions", "reports", "posts", "strikes"):
                for one in getattr(self, name):
                    file.write(json.dumps({"what": name, **dataclasses.asdict(one)}) + "\n")
            for oddity in self.oddities:
                file.write(json.dumps({"what": "oddity", "text": oddity}) + "\n")


@dataclass
class Weather:
    """How bad it is now: a probability for each opportunity of a fault; all zero ends the faults."""

    rng: random.Random
    level: float = 0.0
    """1 is the usual storm, 0 is calm."""

    def strikes(self, probability: float) -> bool:
        """Whether a fault of such a probability strikes now."""
        return self.level > 0 and self.rng.random() < probability * self.level
