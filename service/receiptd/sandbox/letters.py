"""The letters of the demo as data: what their destinations do with them, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from receiptd.sandbox import reports

SENDER = "sales@office.example"
RECEIPTS = "receipts@office.example"

WITHIN = timedelta(seconds=8)
"""The deadline of every letter."""
NEXT_LEVEL = timedelta(seconds=6)
"""How long after the first alert the second level is told."""


@dataclass(frozen=True, slots=True)
class Step:
    """After *seconds* a report lands in *folder*."""

    seconds: float
    report: reports.Report
    folder: str = "INBOX"


@dataclass(frozen=True, slots=True)
class Hold:
    """The destination waits here until the world is told to release the address."""


Fate = tuple[Step | Hold, ...]

DELIVERED: Fate = (Step(0.4, reports.delivered),)
FATES: dict[str, Fate] = {
    "delivers.example": DELIVERED,
    "reads.example": (Step(0.4, reports.delivered), Step(1.5, reports.displayed, folder="Junk")),
    "unknown.example": (Step(0.4, reports.failed),),
    # INTERNALDATE has whole seconds: what came less than one after the deadline may count as in time.
    "delays.example": (Step(1.0, reports.delayed), Hold(), Step(1.2, reports.delivered)),
    "silent.example": (),
    "relays.example": (Step(0.4, reports.relayed),),
    "refuses.example": (Step(0.4, reports.relayed), Step(0.4, reports.rejected)),
}
"""What a destination does, by domain; any other delivers."""


@dataclass(frozen=True, slots=True, order=True)
class Told:
    """An alert as far as a letter's fate fixes it: who is told, what, at which level of silence, late or not."""

    webhook: str
    type: str
    escalation: int = 0
    late: bool = False

    def __str__(self) -> str:
        level = f" {self.escalation}" if self.escalation else ""
        return f"{self.webhook}: {self.type}{level}{', late' if self.late else ''}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a letter ends: the three tracks, and the alerts that arrived."""

    delivery: str
    disposition: str
    receipt: str
    alerts: tuple[Told, ...] = ()

    def __str__(self) -> str:
        tracks = f"{self.delivery} / {self.disposition} / {self.receipt}"
        return f"{tracks:<33}  {'; '.join(map(str, self.alerts)) or 'no alert'}"


UNKNOWN = Outcome("unknown", "unknown", "unknown")
"""Of a letter that nothing has been heard of."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to one recipient."""

    name: str
    address: str
    subject: str
    shows: str
    expected: Outcome
    require: str = "relayed"
    released_by: Told | None = None
    """The alert on which its destination goes on (see `Hold`)."""

    @property
    def body(self) -> str:
        return f"Dear {self.address.partition('@')[0].capitalize()},\n\nplease find our offer below.\n\nYour office\n"


_OVERDUE = Told("ops", "receipt.overdue", 1)

LETTERS = (
    Letter(
        "delivered",
        "ann@delivers.example",
        "Offer 1",
        "the destination reports delivery into the mailbox",
        Outcome("delivered", "none", "met"),
        require="delivered",
    ),
    Letter(
        "displayed",
        "ben@reads.example",
        "Offer 2 – für Ben",
        "reading is required; the read receipt is found in Junk",
        Outcome("delivered", "displayed", "met"),
        require="displayed",
    ),
    Letter(
        "unknown user",
        "nobody@unknown.example",
        "Offer 3",
        "the bounce (5.1.1) is an alert at once",
        Outcome("failed", "none", "failed", (Told("ops", "receipt.failed", 1),)),
    ),
    Letter(
        "delayed",
        "dora@delays.example",
        "Offer 4",
        "waits in a queue past the deadline, then arrives",
        Outcome("delivered", "none", "met_late", (_OVERDUE, Told("ops", "receipt.resolved", late=True))),
        released_by=_OVERDUE,
    ),
    Letter(
        "silent",
        "eve@silent.example",
        "Offer 5",
        "nothing ever comes back: two levels are told",
        Outcome(
            "accepted",
            "none",
            "overdue",
            (Told("boss", "receipt.overdue", 2), _OVERDUE, Told("ops", "receipt.overdue", 2)),
        ),
    ),
    Letter(
        "relayed",
        "fay@relays.example",
        "Offer 6",
        "the destination has no DSN: relayed is all that can be known",
        Outcome("relayed", "none", "met"),
    ),
    Letter(
        "refused",
        "gus@refuses.example",
        "Offer 7",
        "relayed, then a Sieve script of the recipient refuses it",
        Outcome("failed", "refused", "failed", (Told("ops", "receipt.refused", 1),)),
    ),
)
