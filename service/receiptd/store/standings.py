"""Standings: the rows of a set of recipients, loaded and written with a number of statements that doesn't grow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Row, Table, bindparam, insert, select, update
from sqlmodel import Session

from receiptd import telemetry
from receiptd.facts import Event
from receiptd.identifiers import serials
from receiptd.standing import AlertRecord, CopyRecord, DispatchRecord, MessageRecord, RecipientRecord, Standing
from receiptd.store.after_commit import once_committed
from receiptd.store.notices import tell
from receiptd.store.tables import ALERT, DISPATCH, EVENT, EVENT_COPY, MESSAGE, RECIPIENT, columns

R = TypeVar("R")


def load(session: Session, recipients: Collection[str], copies: Collection[str]) -> dict[str, Standing]:
    """Return how *recipients* stand, each locked in the order of ids; of event copies only those in *copies*.

    On PostgreSQL the lock lets others add rows that refer to a recipient (FOR NO KEY UPDATE), but move it no more.
    """
    where = RECIPIENT.c.id.in_(sorted(recipients))
    query = select(*columns(RECIPIENT, RecipientRecord)).where(where).order_by(RECIPIENT.c.id)
    rows = _all(session, query.with_for_update(key_share=True), RecipientRecord)
    messages = _of_ids(session, MESSAGE, MessageRecord, {row.message for row in rows})
    events = _by_recipient(session, EVENT, Event, recipients, EVENT.c.serial, EVENT.c.id)
    alerts = _by_recipient(session, ALERT, AlertRecord, recipients, ALERT.c.created_at, ALERT.c.level, ALERT.c.id)
    known = _of_ids(session, EVENT_COPY, CopyRecord, copies)
    open_alerts = {
        alert.id: row.id
        for row in rows
        if row.incident_opened_at is not None
        for alert in alerts.get(row.id, ())
        if alert.incident == row.incident
    }
    dispatches = _dispatches(session, open_alerts)
    event_of_copy = _grouped(known.values(), lambda copy: copy.event)
    return {
        row.id: Standing(
            message=messages[row.message],
            recipient=row,
            events=(own := {event.id: event for event in events.get(row.id, ())}),
            copies={copy.id: copy for event in own for copy in event_of_copy.get(event, ())},
            alerts={alert.id: alert for alert in alerts.get(row.id, ())},
            dispatches={dispatch.id: dispatch for dispatch in dispatches.get(row.id, ())},
        )
        for row in rows
    }


def _all(session: Session, query: Any, record: Callable[..., R]) -> list[R]:
    rows: Sequence[Row[Any]] = session.connection().execute(query).all()
    return [record(*row) for row in rows]


def _of_ids(session: Session, table: Table, record: type[R], ids: Collection[str]) -> dict[str, R]:
    if not ids:
        return {}
    found = _all(session, select(*columns(table, record)).where(table.c.id.in_(sorted(ids))), record)
    return {one.id: one for one in found}  # type: ignore[attr-defined]


def _by_recipient(
    session: Session, table: Table, record: type[R], recipients: Collection[str], *order: Any
) -> dict[str, list[R]]:
    query = select(*columns(table, record)).where(table.c.recipient.in_(sorted(recipients))).order_by(*order)
    return _grouped(_all(session, query, record), lambda one: one.recipient)  # type: ignore[attr-defined]


def _dispatches(session: Session, alerts: Mapping[str, str]) -> dict[str, list[DispatchRecord]]:
    """Return the dispatches of *alerts* by the recipient they are about, locked.

    An attempt that another process begins just now is seen, or begins no more.
    """
    if not alerts:
        return {}
    query = select(*columns(DISPATCH, DispatchRecord)).where(DISPATCH.c.alert.in_(sorted(alerts)))
    query = query.order_by(DISPATCH.c.id).with_for_update()
    return _grouped(_all(session, query, DispatchRecord), lambda one: alerts[one.alert])


def _grouped(found: Iterable[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    groups: dict[str, list[R]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return groups


def write(
    session: Session,
    before: Mapping[str, Standing],
    after: Mapping[str, Standing],
    appended: Sequence[tuple[str, str]],
) -> None:
    """Write what differs between *before* and *after*, each table once; *appended* names new events in their order."""
    changed = [key for key in sorted(after) if after[key] is not before[key]]
    new_events = [after[recipient].events[event] for recipient, event in appended]
    events = _Rows(EVENT)
    events.new = [{**_values(event), "serial": serials.next()} for event in new_events]
    copies, alerts, dispatches, recipients = _Rows(EVENT_COPY), _Rows(ALERT), _Rows(DISPATCH), _Rows(RECIPIENT)
    for key in changed:
        old, new = before[key], after[key]
        events.differences(old.events, new.events, only_known=True)
        copies.differences(old.copies, new.copies)
        alerts.differences(old.alerts, new.alerts)
        dispatches.differences(old.dispatches, new.dispatches)
        recipients.changed.append({**_values(new.recipient), "old_id": key, "old_version": old.recipient.version})
    recipients.update(session)
    for rows in (events, copies, alerts, dispatches):
        rows.insert(session)
        rows.update(session)
    for event in new_events:
        once_committed(session, telemetry.EVENTS.labels(event.kind, event.source).inc)
    if alerts.new:
        tell(session, "deliver")
    for alert in alerts.new:
        once_committed(session, telemetry.ALERTS.labels(alert["type"]).inc)


_NAMES = {
    record: tuple(one.name for one in fields(record))
    for record in (RecipientRecord, Event, CopyRecord, AlertRecord, DispatchRecord)
}


def _values(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _NAMES[type(record)]}


class _Rows:
    """What is new and what has changed of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.new: list[dict[str, Any]] = []
        self.changed: list[dict[str, Any]] = []

    def differences(self, old: Mapping[str, Any], new: Mapping[str, Any], *, only_known: bool = False) -> None:
        """Note what is in *new* and was not in *old*, or was another there."""
        for key, record in new.items():
            known = old.get(key)
            if known is None and not only_known:
                self.new.append(_values(record))
            elif known is not None and known is not record and known != record:
                self.changed.append({**_values(record), "old_id": key})

    def insert(self, session: Session) -> None:
        if self.new:
            session.connection().execute(insert(self.table), self.new)

    def update(self, session: Session) -> None:
        """Write the rows that changed; every one of them is locked, so none can have moved in between."""
        if not self.changed:
            return
        names = [name for name in self.changed[0] if not name.startswith("old_")]
        where = [
            self.table.c[name.removeprefix("old_")] == bindparam(name)
            for name in self.changed[0]
            if name.startswith("old_")
        ]
        statement = update(self.table).where(*where).values({name: bindparam(name) for name in names})
        written = session.connection().execute(statement, self.changed).rowcount
        if written != len(self.changed):
            raise RuntimeError(f"{len(self.changed) - written} rows of {self.table.name} moved under a lock")
