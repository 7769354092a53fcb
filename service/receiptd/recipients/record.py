"""Record: load a set of recipients, move each, and write what changed, each table once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd.recipients import resends
from receiptd.recipients.incidents import Moved
from receiptd.recipients.move import Change, Entry, clamped, met_copy_key, move
from receiptd.settings import Settings
from receiptd.standing import Standing
from receiptd.store import resends as links
from receiptd.store import standings


def record(session: Session, settings: Settings, entries: Sequence[Entry], *, now: datetime) -> list[Moved]:
    """Record *entries* in their order, in the caller's transaction; return how each moved its recipient.

    The number of statements doesn't depend on the number of entries. Every recipient that may move is locked
    first, in the order of ids, so that two sets that share recipients wait for each other and never deadlock.
    """
    if not entries:
        return []
    named = list(dict.fromkeys(entry.recipient for entry in entries))
    predecessors = links.predecessors(session, named)
    everyone = {*named, *(one for before in predecessors.values() for one in before)}
    copies = {key for entry in entries for key in entry.copy_keys()} | set(map(met_copy_key, everyone))
    before = standings.load(session, everyone, copies)
    drawn = _Set(settings, now, dict(before), predecessors)
    moved = [drawn.add(entry) for entry in entries]
    standings.write(session, before, drawn.standings, drawn.appended)
    return moved


async def record_one(session: AsyncSession, settings: Settings, entry: Entry, *, now: datetime) -> Moved:
    """Record one entry in the transaction of *session*; rows that it had loaded stand as they were."""
    await session.flush()
    (moved,) = await session.run_sync(lambda inner: record(cast(Session, inner), settings, [entry], now=now))
    return moved


@dataclass(slots=True)
class _Set:
    """The recipients of one commit while their moves are drawn up."""

    settings: Settings
    now: datetime
    standings: dict[str, Standing]
    predecessors: dict[str, list[str]]
    appended: list[tuple[str, str]] = field(default_factory=list)
    """Recipient and id of every new event, in the order in which they are recorded."""

    def add(self, entry: Entry) -> Moved:
        """Move the recipient of *entry*, and those before whom the same was sent."""
        change = move(self.standings[entry.recipient], entry, self.settings, now=self.now)
        told = clamped(entry.provenance, self.standings[entry.recipient].recipient)
        self._keep(entry.recipient, change)
        before = [self.standings[one] for one in self.predecessors.get(entry.recipient, ())]
        if before:
            for said in resends.entries(change.standing, before, told):
                self.add(said)
        return change.moved

    def _keep(self, recipient: str, change: Change) -> None:
        self.standings[recipient] = change.standing
        self.appended += [(recipient, event) for event in change.appended]
