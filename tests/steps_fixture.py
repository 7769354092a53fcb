"""The steps without their daemon: a store in a folder of its own, and a clock that only the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlmodel import select

from receiptd import compose
from receiptd.accept import AcceptedMessage, SubmitOptions, accept
from receiptd.escalate import escalate, folders_to_read
from receiptd.facts import EventKind, Fact, Source
from receiptd.models import Alert, Dispatch, Recipient
from receiptd.recipients import Entry, Provenance, SideEffects, record_one
from receiptd.settings import Settings
from receiptd.settle import settle
from receiptd.store import Store, folders, messages, submissions
from receiptd.store.messages import Whole
from receiptd.store.submissions import Work
from tests.databases import database_in, drop_database, make_database
from tests.receiver import SECRET

START = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ADDRESS = "receipts@a.test"


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Return settings whose database and secrets lie in *folder*; *changes* replace or add whole tables.

    A `service` without `database` has the one in *folder* all the same.
    """
    (folder / "secret").write_text(SECRET)
    (folder / "password").write_text("correct-horse")
    values: dict[str, Any] = {
        "service": {
            "listen": [{"unix": str(folder / "api.sock"), "scope": "operate"}],
        },
        "submission": {"url": "smtp://127.0.0.1:25"},
        "receipts": {"address": ADDRESS},
        "mailbox": [{"url": "imaps://receipts%40a.test@127.0.0.1", "password_file": str(folder / "password")}],
        "policy": {
            "default": {
                "within": "4h",
                "levels": [{"after": "0s", "to": ["ops"]}, {"after": "1d", "to": ["ops", "boss"]}],
            }
        },
        "webhook": [
            {"name": name, "url": f"http://127.0.0.1:1/{name}", "secret_file": str(folder / "secret")}
            for name in ("ops", "boss")
        ],
    }
    values |= changes
    values["service"] = {"database": database_in(folder)} | values["service"]
    return Settings.model_validate(values)


@dataclass
class StepsFixture:
    """One store and its clock."""

    store: Store
    instant: datetime = START
    _uid: int = field(default=0)

    def clock(self) -> datetime:
        return self.instant

    def pass_time(self, **length: float) -> None:
        self.instant += timedelta(**length)

    async def take(self, *to: str, **options: Any) -> AcceptedMessage:
        """Accept a letter."""
        letter = compose.compose(
            compose.Draft(from_="office@a.test", to=to or ("bob@b.test",), subject="An invoice", text="Good day."),
            now=self.instant,
        )
        return await accept(self.store, letter, SubmitOptions(owner="uid:1000", **options))

    async def submitted(self, *to: str, **options: Any) -> AcceptedMessage:
        """Accept a letter, and let the relay have accepted every copy now."""
        taken = await self.take(*to, **options)
        for row in taken.recipients:
            await self.tell(
                row.id,
                EventKind.ACCEPTED,
                source=Source.SMTP,
                submitted_at=self.instant,
                deadline_at=self.instant + timedelta(seconds=row.within),
                dsn_requested=True,
            )
        return taken

    async def tell(
        self, recipient: str, kind: EventKind, *, source: Source = Source.DSN, by: str = "", **columns: Any
    ) -> None:
        """Record one fact, as if a report had told it now."""
        fact = Fact(recipient, kind, source)
        told = Provenance(by or f"{kind}-{self.instant}", self.instant)
        entry = Entry(recipient, [fact], told, SideEffects(columns))
        async with self.store.write() as session:
            await record_one(session, self.store.settings, entry, now=self.instant)

    async def receive(self, *raws: bytes, folder: str = "INBOX", received_at: datetime | None = None) -> None:
        """Put messages into the store as a read of the mailbox does, and settle them."""
        batch = []
        for raw in raws:
            self._uid += 1
            batch.append(folders.Raw(self._uid, received_at or self.instant, len(raw), raw))
        await self.store.transact(
            lambda session: folders.keep(session, "receipts", folder, 1, batch, upto=self._uid, now=self.instant)
        )
        while await settle(self.store):
            pass

    async def read_all(self) -> None:
        """Let a read of every folder begin now and find nothing more."""
        for mailbox, name in folders_to_read(self.store.settings.mailbox):
            await complete(self.store, mailbox, name, self.instant)

    async def judge(self) -> int:
        """Read every folder to its end, then judge the deadlines."""
        await self.read_all()
        return await escalate(self.store)

    async def claim(self, limit: int) -> list[Work]:
        """Take what is due as submit does: with the attempt of each."""
        hold = self.store.settings.submission.uncertain_wait
        return await self.store.transact(
            lambda session: submissions.take(session, node=self.store.node, now=self.instant, hold=hold, limit=limit)
        )

    async def whole(self, taken: AcceptedMessage) -> Whole:
        found = await self.store.query(partial(messages.whole, message=taken.message.id))
        assert found is not None
        return found

    async def recipient(self, taken: AcceptedMessage, number: int = 0) -> Recipient:
        return (await self.whole(taken)).recipients[number]

    async def alerts(self) -> list[Alert]:
        """Return all alerts, oldest first; of one instant a resolution is the last."""
        async with self.store.read() as session:
            rows = (await session.exec(select(Alert))).all()
        return sorted(rows, key=lambda alert: (alert.created_at, alert.type == "receipt.resolved", alert.level))

    async def told(self) -> list[tuple[str, int, tuple[str, ...]]]:
        """Return type, level and webhooks of each alert, oldest first."""
        async with self.store.read() as session:
            dispatches = (await session.exec(select(Dispatch))).all()
        return [(a.type, a.level, _webhooks(a, dispatches)) for a in await self.alerts()]

    async def dispatches(self) -> list[Dispatch]:
        async with self.store.read() as session:
            return list((await session.exec(select(Dispatch))).all())


def _webhooks(alert: Alert, dispatches: Iterable[Dispatch]) -> tuple[str, ...]:
    return tuple(sorted(d.webhook for d in dispatches if d.alert == alert.id and d.outcome != "dropped"))


@asynccontextmanager
async def open_steps(folder: Path, **changes: Any) -> AsyncIterator[StepsFixture]:
    """Open the steps on a store in *folder*."""
    make_database(folder)
    settings = settings_in(folder, **changes)
    steps = StepsFixture(None)  # type: ignore[arg-type]
    steps.store = Store(settings, clock=steps.clock)
    try:
        yield steps
    finally:
        await steps.store.close()
        drop_database(folder)


async def keep(
    store: Store, mailbox: str, folder: str, uidvalidity: int, raws: list[folders.Raw], *, upto: int, now: datetime
) -> folders.Kept:
    """Store *raws* as a read of the mailbox does."""
    return await store.transact(
        lambda session: folders.keep(session, mailbox, folder, uidvalidity, raws, upto=upto, now=now)
    )


async def complete(store: Store, mailbox: str, folder: str, started_at: datetime) -> None:
    """Let a complete read of a folder have begun at *started_at*."""
    await store.transact(partial(folders.complete, mailbox=mailbox, folder=folder, started_at=started_at))


def watching(folder: Path, person: str) -> list[dict[str, str]]:
    """Return the settings of two mailboxes: that of the receipts, and that where *person* gets the answers."""
    password = {"password_file": str(folder / "password")}
    return [
        {"url": "imaps://receipts%40a.test@127.0.0.1"} | password,
        {"name": "person", "role": "replies", "url": f"imaps://{quote(person, safe='')}@127.0.0.1"} | password,
    ]


def dsn(
    token: str,
    *,
    action: str = "delivered",
    status: str = "2.0.0",
    recipient: str = "bob@b.test",
    message_id: str | None = None,
    envelope_id: str | None = None,
) -> bytes:
    """Return a delivery report as Postfix writes it, to the return path of *token*; without *envelope_id* keyed."""
    given_back = f"Original-Envelope-Id: {envelope_id}\n" if envelope_id else ""
    returned = f"Message-ID: {message_id}\n" if message_id else ""
    return (
        f"Return-Path: <>\nDelivered-To: receipts+{token}@a.test\nFrom: MAILER-DAEMON@b.test\n"
        f"To: receipts+{token}@a.test\nSubject: Delivery Status\nMIME-Version: 1.0\nAuto-Submitted: auto-replied\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="="\n\n'
        f"--=\nContent-Type: text/plain\n\nSee below.\n\n--=\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mail.b.test\n{given_back}\n"
        f"Original-Recipient: rfc822;{recipient}\nFinal-Recipient: rfc822; {recipient}\n"
        f"Action: {action}\nStatus: {status}\nDiagnostic-Code: smtp; 250 ok\n\n"
        f"--=\nContent-Type: text/rfc822-headers\n\nFrom: office@a.test\n{returned}Subject: An invoice\n\n--=--\n"
    ).encode()
