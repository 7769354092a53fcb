"""Monitors: what we can't see (a mailbox, the relay, the clock) is one alert until we can again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import correlation_token
from receiptd.facts import AlertType
from receiptd.identifiers import id_of
from receiptd.mail.timestamps import rfc3339
from receiptd.models import Alert
from receiptd.settings import Settings
from receiptd.store import alerts, one_at_a_time

_MONITORS = "monitors"


@dataclass(slots=True)
class Health:
    """How something we depend on is doing, as this process sees it; *subject* is `relay:relay`, `mailbox:NAME`."""

    subject: str
    since: datetime | None = None
    """When it was first found down; None: it is up, as far as we know."""
    reason: str = ""
    permanent: bool = False
    """Waiting won't help: a person must act."""
    failures: int = 0
    retry_at: datetime | None = None
    is_waiting: bool = False
    """It could be read on, but what it brought has to be settled first."""

    @property
    def is_up(self) -> bool:
        return self.since is None

    def up(self) -> None:
        """It answered."""
        self.since, self.reason, self.permanent, self.failures, self.retry_at = None, "", False, 0, None

    def down(self, now: datetime, reason: str, *, permanent: bool) -> None:
        """It failed again; wait longer each time, at most half a minute, or five where a person must act."""
        self.since = self.since or now
        self.reason, self.permanent = reason, permanent
        self.failures += 1
        longest = timedelta(minutes=5) if permanent else timedelta(seconds=30)
        self.retry_at = now + min(timedelta(seconds=2 ** min(self.failures, 10)), longest)

    def may_try(self, now: datetime) -> bool:
        """Whether the wait after the last failure is over."""
        return self.retry_at is None or now >= self.retry_at


@dataclass(frozen=True, slots=True)
class Outage:
    """What an alert about blindness says: since when, why, and how many deadlines it holds up."""

    since: datetime
    reason: str
    last_complete_read: datetime | None = None
    held: int = 0


def known(session: Session) -> frozenset[str]:
    """Return the subjects of which was told that they are blind (`mailbox:receipts`, `relay:relay`, `clock:clock`)."""
    query = select(Alert.subject).where(*_is_open())
    return frozenset(subject or "" for subject in session.exec(query))


def _is_open() -> tuple[Any, Any, Any]:
    return (
        col(Alert.recipient).is_(None),
        col(Alert.resolved_at).is_(None),
        col(Alert.type) == AlertType.MONITOR_BLIND,
    )


async def open_alerts(session: AsyncSession) -> dict[str, Alert]:
    """Return what is known to be blind, by subject (`mailbox:receipts`, `relay:relay`, `clock:clock`)."""
    query = select(Alert).where(*_is_open())
    return {alert.subject or "": alert for alert in (await session.exec(query)).all()}


async def blind(
    session: AsyncSession,
    settings: Settings,
    subject: str,
    outage: Outage,
    *,
    now: datetime,
) -> bool:
    """Alert once that *subject* can't be reached; False if that is known already."""
    await one_at_a_time.wait(session, _MONITORS)
    if subject in await open_alerts(session):
        return False
    alert = Alert(
        id=id_of("monitor", subject, outage.since.isoformat()),
        type=AlertType.MONITOR_BLIND,
        created_at=now,
        kind="blind",
        subject=subject,
        data=_data(subject, outage),
    )
    if await session.get(Alert, alert.id) is not None:
        return False
    await alerts.post(session, settings, alert, [webhook.name for webhook in settings.webhook], now=now)
    return True


async def clear(
    session: AsyncSession,
    settings: Settings,
    subject: str,
    *,
    now: datetime,
    reason: str | None = None,
    seen: datetime | None = None,
) -> bool:
    """Alert that *subject* can be used again, or matters no longer for *reason*; False if nobody was told before.

    *seen*: where another daemon may be the one that can't use it, since when somebody can.
    """
    await one_at_a_time.wait(session, _MONITORS)
    known = (await open_alerts(session)).get(subject)
    if known is None or (seen is not None and seen <= known.created_at):
        return False
    known.resolved_at, known.undelivered = now, False
    told = await alerts.withdraw(session, [known.id], now=now)
    if not told:
        return False
    data = {**known.data, "reason": reason or f"{_name(subject)} can be used again.", "resolves": [known.id]}
    alert = Alert(
        id=id_of("monitor", subject, known.id, "clear"),
        type=AlertType.MONITOR_CLEAR,
        created_at=now,
        kind="clear",
        subject=subject,
        data=data,
        resolved_at=now,
    )
    await alerts.post(session, settings, alert, sorted(told), now=now, only=sorted(told))
    return True


async def set_aside(
    session: AsyncSession, settings: Settings, report: str, mailbox: str, *, reason: str, now: datetime
) -> None:
    """Alert once that a report couldn't be read."""
    alert = Alert(
        id=id_of("monitor", "set_aside", report),
        type=AlertType.MONITOR_SET_ASIDE,
        created_at=now,
        kind="set_aside",
        subject=f"report:{report}",
        data={**_data(f"mailbox:{mailbox}", Outage(since=now, reason=reason)), "report": report},
        resolved_at=now,
    )
    await one_at_a_time.wait(session, _MONITORS)
    if await session.get(Alert, alert.id) is None:
        await alerts.post(session, settings, alert, [webhook.name for webhook in settings.webhook], now=now)


async def forget_mailboxes(session: AsyncSession, settings: Settings, *, now: datetime) -> int:
    """Alert that mailboxes which left the settings while they couldn't be reached matter no longer."""
    kept = {f"mailbox:{box.name}" for box in settings.mailbox}
    gone = [name for name in await open_alerts(session) if name.startswith("mailbox:") and name not in kept]
    return sum(
        [await clear(session, settings, name, now=now, reason=f"{_name(name)} left the settings.") for name in gone]
    )


def _data(subject: str, outage: Outage) -> dict[str, Any]:
    what, _, name = subject.partition(":")
    return {
        "what": what,
        "name": name,
        "since": rfc3339(outage.since),
        "last_complete_read": rfc3339(outage.last_complete_read),
        "held": outage.held,
        "reason": correlation_token.mask(outage.reason)[:500],
    }


def _name(subject: str) -> str:
    what, _, name = subject.partition(":")
    return f"The mailbox {name}" if what == "mailbox" else f"The {what}"
