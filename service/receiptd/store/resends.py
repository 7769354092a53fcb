"""Resends: which copies were sent again to whom, and to whom the same was sent before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlmodel import Session, col, select

from receiptd.facts import EventKind
from receiptd.models import EventRow, Message, Recipient


def of(session: Session, recipients: Sequence[Recipient]) -> dict[str, list[Recipient]]:
    """Return whoever was sent a message again that went to *recipients*, and again that copy, by address."""
    found: dict[str, list[Recipient]] = {}
    rows, seen = list(recipients), set[str]()
    while rows:
        messages = _resent(session, [row.id for row in rows]) - seen
        seen |= messages
        query = select(Recipient).where(col(Recipient.message).in_(sorted(messages)))
        rows = list(session.exec(query.order_by(col(Recipient.message), col(Recipient.position))).all())
        for row in rows:
            found.setdefault(row.address, []).append(row)
    return found


def _resent(session: Session, recipients: Collection[str]) -> set[str]:
    """Return the messages that are copies sent again to *recipients*."""
    query = select(EventRow.detail).where(col(EventRow.recipient).in_(recipients), EventRow.kind == EventKind.RESENT)
    return {detail["copy"] for detail in session.exec(query).all()}


def predecessors(session: Session, recipients: Collection[str]) -> dict[str, list[str]]:
    """Return to whom the same was sent before each of *recipients* that are of copies: at first, and again since.

    They are known once a copy is written and never change: so they can be looked up before they are locked. The
    number of statements grows with how often one message was sent again, not with *recipients*.
    """
    query = (
        select(Recipient.id, Recipient.address, Recipient.message)
        .join(Message, col(Message.id) == col(Recipient.message))
        .where(col(Recipient.id).in_(sorted(recipients)), col(Message.resent_from).is_not(None))
    )
    copies = session.exec(query).all()
    if not copies:
        return {}
    roots = _roots(session, {message for _, _, message in copies})
    lines = _lines(session, set(roots.values()), {address for _, address, _ in copies})
    order = _in_order(session, {one for line in lines.values() for one in line})
    found: dict[str, list[str]] = {}
    for recipient, address, message in copies:
        line = sorted(lines.get((roots[message], address), set()) & order.keys(), key=order.__getitem__)
        found[recipient] = line[: line.index(recipient)] if recipient in line else []
    return found


def _roots(session: Session, messages: Collection[str]) -> dict[str, str]:
    """Return the message that was sent at first for each of *messages*."""
    above: dict[str, str] = {}
    asked = set(messages)
    while asked:
        query = select(Message.id, Message.resent_from).where(col(Message.id).in_(sorted(asked)))
        rows = session.exec(query).all()
        above |= {message: first for message, first in rows if first is not None}
        asked = {first for _, first in rows if first is not None} - above.keys()
        asked -= {message for message, first in rows if first is None}
    return {message: _root(message, above) for message in messages}


def _root(message: str, above: dict[str, str]) -> str:
    while message in above:
        message = above[message]
    return message


def _lines(session: Session, roots: Collection[str], addresses: Collection[str]) -> dict[tuple[str, str], set[str]]:
    """Return, by first message and address, everybody to whom it was sent, at first and again."""
    lines: dict[tuple[str, str], set[str]] = {}
    root_of = {root: root for root in roots}
    rows = _recipients(session, roots, addresses)
    while rows:
        for recipient, address, message in rows:
            lines.setdefault((root_of[message], address), set()).add(recipient)
        found = _copies_of(session, {recipient: root_of[message] for recipient, _, message in rows})
        new = {message: root for message, root in found.items() if message not in root_of}
        root_of |= new
        rows = _recipients(session, new, addresses)
    return lines


def _copies_of(session: Session, recipients: dict[str, str]) -> dict[str, str]:
    """Return the copies sent again to *recipients* (their first message by id), each with that first message."""
    query = select(EventRow.recipient, EventRow.detail).where(
        col(EventRow.recipient).in_(sorted(recipients)), EventRow.kind == EventKind.RESENT
    )
    return {detail["copy"]: recipients[recipient] for recipient, detail in session.exec(query).all()}


def _recipients(
    session: Session, messages: Iterable[str], addresses: Collection[str]
) -> Sequence[tuple[str, str, str]]:
    query = select(Recipient.id, Recipient.address, Recipient.message).where(
        col(Recipient.message).in_(sorted(messages)), col(Recipient.address).in_(sorted(addresses))
    )
    return session.exec(query).all()


def _in_order(session: Session, recipients: Collection[str]) -> dict[str, int]:
    """Return the place of each of *recipients* in the order in which their copies were handed over."""
    query = select(EventRow.recipient).where(
        col(EventRow.recipient).in_(sorted(recipients)), EventRow.kind == EventKind.QUEUED
    )
    rows = session.exec(query.order_by(col(EventRow.serial), col(EventRow.id))).all()
    return {recipient: place for place, recipient in enumerate(rows)}
