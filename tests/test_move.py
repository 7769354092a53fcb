"""A set of facts leaves the very rows that the same facts left one at a time, through the ORM (tests/oracle)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import StaticPool, Table, create_engine, insert, orm, select, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import models, policy, standing
from receiptd.facts import Event, EventKind, Fact, Level, MatchedBy, Role, Source, Trust
from receiptd.recipients.move import Entry, Provenance, SideEffects, move
from receiptd.recipients.record import record
from receiptd.settings import Settings
from receiptd.store import standings
from tests.oracle.record import Beside, Told
from tests.oracle.record import record as record_as_before
from tests.steps_fixture import START, settings_in


def _table(name: str) -> Table:
    return models.TABLES.tables[name]


MESSAGES = {"first": None, "again": "first", "once-more": "again", "other": None}
"""Each message and the one it is a copy of: copies of copies too."""
ADDRESSES = ("bob@b.test", "eve@b.test")
RECIPIENTS = [f"{message}/{address}" for message in MESSAGES for address in ADDRESSES]
POLICIES = {"first": "default", "again": "default", "once-more": "plain", "other": "strict"}
_REQUIRED = {"first": Level.RELAYED, "again": Level.RELAYED, "once-more": Level.DELIVERED, "other": Level.DISPLAYED}
_COMPARED = ("recipient", "event", "event_copy", "alert", "dispatch")


@dataclass(frozen=True)
class Group:
    """Entries at one instant, *later* seconds behind the group before, when some dispatches had been attempted."""

    entries: tuple[Entry, ...]
    later: int = 60
    attempted: tuple[int, ...] = ()


def fact(kind: EventKind, source: Source = Source.DSN, trust: Trust = Trust.SEALED, **more: Any) -> Fact:
    return Fact("", kind, source, trust, **more)


def entry(
    recipient: int, *facts: Fact, by: str = "r1", at: int = 0, evidence: str | None = "e1", **effects: Any
) -> Entry:
    own = [Fact(RECIPIENTS[recipient], *astuple_of(one)) for one in facts]
    told = Provenance(by, START + timedelta(seconds=at), evidence)
    return Entry(RECIPIENTS[recipient], own, told, SideEffects(**effects))


def astuple_of(one: Fact) -> tuple[Any, ...]:
    return tuple(getattr(one, field.name) for field in fields(Fact))[1:]


_KINDS = [kind for kind in EventKind if kind not in (EventKind.RESENT, EventKind.QUEUED)]
_REPORTED = [Source.DSN, Source.BOUNCE, Source.MDN, Source.REPLY, Source.FEEDBACK]
_DETAILS: list[dict[str, Any]] = [
    {},
    {"onward": True},
    {"automatic": True},
    {"refusal": True},
    {"vouched": True},
    {"status": "5.1.1", "cause": "user_unknown"},
    {"excerpt": "I am away.", "returns_at": "2026-12-01"},
    {"by": "ann", "reason": "by telephone"},
]
_INSTANTS = st.sampled_from([-600, -1, 0, 1, 60, 61, 3600, 15000, 90000])


@st.composite
def _facts(draw: st.DrawFn) -> Fact:
    kind = draw(st.sampled_from(_KINDS))
    return fact(
        kind,
        draw(st.sampled_from([*_REPORTED, *Source])),
        draw(st.sampled_from(Trust)),
        matched_by=draw(st.sampled_from([None, *MatchedBy])),
        final_recipient=draw(st.sampled_from([None, None, "bob@b.test", "x@far.test", "y@far.test"])),
        occurred_at=draw(st.sampled_from([None, START])),
        detail=draw(st.sampled_from(_DETAILS)),
        variant=draw(st.sampled_from(["", "", "1", "2"])),
    )


_ALARMS = [
    policy.Alarm("overdue", unproven=False, reason="no receipt came"),
    policy.Alarm("failed", unproven=True, reason="somebody says so"),
    policy.Alarm("contradicted", unproven=False, reason="it failed after all", again=True),
]


@st.composite
def _effects(draw: st.DrawFn) -> dict[str, Any]:
    at = START + timedelta(seconds=draw(_INSTANTS))
    columns = draw(
        st.sampled_from(
            [
                {},
                {},
                {"submitted_at": at, "deadline_at": at + timedelta(hours=4), "dsn_requested": True},
                {"next_attempt_at": at, "attempts": 3, "claimed_by": None, "claimed_until": None},
                {"acknowledged_until": at + timedelta(days=1)},
            ]
        )
    )
    return {
        "columns": columns,
        "alarms": tuple(draw(st.lists(st.sampled_from(_ALARMS), max_size=1))),
        "escalate_to": draw(st.sampled_from([None, None, None, 2])),
    }


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    recipient = draw(st.integers(0, len(RECIPIENTS) - 1))
    facts = draw(st.lists(_facts(), max_size=3))
    effects = draw(st.one_of(st.just({}), _effects()))
    by, evidence = draw(st.sampled_from(["r1", "r2", "r3", "r4"])), draw(st.sampled_from([None, "e1", "e2"]))
    return entry(recipient, *facts, by=by, at=draw(_INSTANTS), evidence=evidence, **effects)


_GROUPS = st.lists(
    st.builds(
        Group,
        st.lists(_entries(), min_size=1, max_size=6).map(tuple),
        st.sampled_from([0, 1, 60, 3600, 86400]),
        st.lists(st.integers(0, 9), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


class Rows:
    """Three databases with the same messages: the oracle's, one entry a set, and one group a set."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._runner = asyncio.Runner()
        self.before = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        self.singly, self.grouped = (create_engine("sqlite://", poolclass=StaticPool) for _ in range(2))
        self._runner.run(self._prepare())
        for engine in (self.singly, self.grouped):
            models.TABLES.create_all(engine)

    async def _prepare(self) -> None:
        async with self.before.begin() as connection:
            await connection.run_sync(models.TABLES.create_all)

    def close(self) -> None:
        self._runner.run(self.before.dispose())
        self.singly.dispose()
        self.grouped.dispose()
        self._runner.close()

    def run(self, groups: Sequence[Group]) -> list[tuple[Any, ...]]:
        """Record *groups* in all three ways; return, way by way, what moved and all rows."""
        return [self._runner.run(self._as_before(groups)), self._one_a_set(groups), self._one_group_a_set(groups)]

    async def _as_before(self, groups: Sequence[Group]) -> tuple[Any, ...]:
        moved: list[Any] = []
        now = START
        async with AsyncSession(self.before, expire_on_commit=False, autoflush=False) as session:
            await session.run_sync(_fill)
            for group in groups:
                now += timedelta(seconds=group.later)
                await session.run_sync(_attempt, group.attempted)
                for one in await session.run_sync(_escalating_what_is_open, group.entries):
                    told = Told(one.provenance.by, one.provenance.observed_at, one.provenance.evidence)
                    effects = one.effects
                    beside = Beside(effects.columns, effects.alarms, effects.escalate_to)
                    moved.append(
                        _told(
                            await record_as_before(
                                session, self.settings, one.recipient, one.facts, told, now=now, beside=beside
                            )
                        )
                    )
            await session.flush()
            session.expunge_all()
            return moved, _in_sets_order(await session.run_sync(_dump))

    def _one_a_set(self, groups: Sequence[Group]) -> tuple[Any, ...]:
        with Session(self.singly, autoflush=False) as session:
            return self._in_sets(session, groups, lambda entries: [[one] for one in entries])

    def _one_group_a_set(self, groups: Sequence[Group]) -> tuple[Any, ...]:
        with Session(self.grouped, autoflush=False) as session:
            return self._in_sets(session, groups, lambda entries: [entries])

    def _in_sets(self, session: Session, groups: Sequence[Group], sets: Any) -> tuple[Any, ...]:
        moved: list[Any] = []
        now = START
        _fill(session)
        for group in groups:
            now += timedelta(seconds=group.later)
            _attempt(session, group.attempted)
            for entries in sets(_escalating_what_is_open(session, group.entries)):
                moved += map(_told, record(session, self.settings, entries, now=now))
        return moved, _dump(session)


def _told(moved: Any) -> tuple[Any, ...]:
    row = {name: getattr(moved.recipient, name) for name in _names(standing.RecipientRecord)}
    return row, moved.before, moved.after, moved.new_events, moved.is_contested


def _escalating_what_is_open(session: orm.Session, entries: Sequence[Entry]) -> list[Entry]:
    """Leave `escalate_to` to a first entry whose incident is open at level 1, as escalate does; no other has one."""
    recipient = _table("recipient")
    query = select(recipient.c.id).where(recipient.c.incident_opened_at.is_not(None), recipient.c.escalation == 1)
    is_open = entries[0].recipient in session.connection().execute(query).scalars().all()
    return [
        one if is_open and one is entries[0] else replace(one, effects=replace(one.effects, escalate_to=None))
        for one in entries
    ]


def _names(record: Any) -> list[str]:
    return [field.name for field in fields(record)]


def _attempt(session: orm.Session, which: Sequence[int]) -> None:
    """Let some of the dispatches that are pending have been attempted."""
    session.flush()
    dispatch = _table("dispatch")
    pending = select(dispatch.c.id).where(dispatch.c.outcome == "pending").order_by(dispatch.c.id)
    ids = session.connection().execute(pending).scalars().all()
    for number in which if ids else ():
        outcome = ("pending", "delivered")[number % 2]
        chosen = ids[number % len(ids)]
        attempted = update(dispatch).where(dispatch.c.id == chosen).values(attempts=1, outcome=outcome)
        session.connection().execute(attempted)
    session.expire_all()


def _fill(session: orm.Session) -> None:
    """Put in the messages, each recipient queued and each copy linked to those before it."""
    connection = session.connection()
    for number, (message, original) in enumerate(MESSAGES.items()):
        told: list[tuple[str, EventKind, dict[str, Any]]] = []
        row = {
            "id": message,
            "created_at": START,
            "owner": "uid:1000",
            "from_address": "office@a.test",
            "subject": "An invoice",
            "message_id": f"<{message}@a.test>",
            "policy": POLICIES[message],
            "evidence": "e1",
            "resent_from": original,
        }
        connection.execute(insert(_table("message")), [_defaults(models.Message, row)])
        for position, address in enumerate(ADDRESSES):
            own = f"{message}/{address}"
            recipient = {
                "id": own,
                "message": message,
                "position": position,
                "address": address,
                "domain": "b.test",
                "role": Role.TO,
                "token": own,
                "envelope_id": own,
                "require": _REQUIRED[message],
                "within": 14400,
                "minimum_trust": Trust.KEYED,
                "onward": message == "other",
                "give_up_at": START + timedelta(days=5),
                "submit_by": START + timedelta(hours=1),
                "next_attempt_at": START,
            }
            connection.execute(insert(_table("recipient")), [_defaults(models.Recipient, recipient)])
            told.append((own, EventKind.QUEUED, {}))
            if original is not None:
                told.append((f"{original}/{address}", EventKind.RESENT, {"copy": message}))
        for place, (recipient_id, kind, detail) in enumerate(told):
            event = {
                "id": f"{number}-{place}",
                "serial": 10 * number + place,
                "recipient": recipient_id,
                "kind": kind,
                "observed_at": START,
                "source": Source.PERSON,
                "trust": Trust.KEYED,
                "detail": detail,
            }
            connection.execute(insert(_table("event")), [_defaults(models.EventRow, event)])


def _defaults(model: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* with the defaults of *model* for what they leave out."""
    made = model(**values)
    return {name: getattr(made, name) for name in model.model_fields}


def _dump(session: orm.Session) -> dict[str, list[dict[str, Any]]]:
    """Return all rows that a move writes; of events their order, and not the number that makes it."""
    found = {}
    for name in _COMPARED:
        table = _table(name)
        kept = [column for column in table.c if column.name != "serial"]
        order = [table.c.serial, table.c.id] if name == "event" else [table.c.id]
        found[name] = [dict(row._mapping) for row in session.connection().execute(select(*kept).order_by(*order))]
    return found


def _in_sets_order(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Order what a resolution resolves as sets do: the record as it was asked the database for no order."""
    key = {row["id"]: (row["created_at"], row["level"], row["id"]) for row in found["alert"]}
    for row in found["alert"]:
        if "resolves" in row["data"]:
            row["data"] = {**row["data"], "resolves": sorted(row["data"]["resolves"], key=key.__getitem__)}
    return found


def _differences(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Any]:
    """Return what differs, column by column: whole rows are too long to read."""
    if [row["id"] for row in before] != [row["id"] for row in after]:
        return ["ids or their order", *({row["id"] for row in before} ^ {row["id"] for row in after})]
    pairs = zip(before, after, strict=True)
    return [(old["id"], name, old[name], new[name]) for old, new in pairs for name in old if old[name] != new[name]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    rows = Rows(_settings(tmp_path_factory.mktemp("move")))
    yield rows
    rows.close()


def _settings(folder: Path) -> Settings:
    secret = str(folder / "secret")
    every = [
        {"name": "ops", "url": "http://127.0.0.1:1/ops", "secret_file": secret},
        {
            "name": "boss",
            "url": "http://127.0.0.1:1/boss",
            "secret_file": secret,
            "events": ["receipt.*", "receipt.met", "receipt.auto_reply"],
        },
    ]
    levels = [{"after": "0s", "to": ["ops"]}, {"after": "1d", "to": ["ops", "boss"]}]
    late = [{"after": "1h", "to": ["ops"]}, {"after": "2d", "to": ["boss"]}]
    policies = {
        "default": {"within": "4h", "levels": levels},
        "plain": {"within": "4h"},
        "strict": {"within": "4h", "levels": late},
    }
    return settings_in(folder, webhook=every, policy=policies)


_ACCEPTED = fact(EventKind.ACCEPTED, Source.SMTP)
_FAILED = fact(EventKind.FAILED, detail={"status": "5.1.1", "cause": "user_unknown"})
_RELAYED, _DELIVERED = fact(EventKind.RELAYED), fact(EventKind.DELIVERED)
_CONFIRMED = fact(EventKind.CONFIRMED, Source.PERSON, variant="d", detail={"by": "ann", "reason": "by telephone"})
_WAIVED = fact(EventKind.WAIVED, Source.PERSON, variant="d", detail={"by": "ann", "reason": "no need"})


@settings(max_examples=settings().max_examples // 5)
@given(_GROUPS)
@example([Group((entry(0, _ACCEPTED, by="a"), entry(0, _RELAYED), entry(0, _RELAYED), entry(0, _FAILED, by="r2")))])
@example([Group((entry(0, _FAILED), entry(2, _ACCEPTED, _RELAYED), entry(4, _DELIVERED, by="r2", at=60)))])
@example(
    [
        Group((entry(0, _FAILED), entry(1, alarms=_ALARMS[:1]), entry(6, _FAILED))),
        Group((entry(0, escalate_to=2), entry(6, _WAIVED), entry(6, _DELIVERED)), 86400, (0, 1)),
        Group((entry(4, _DELIVERED), entry(0, _FAILED, by="r2"), entry(0, _CONFIRMED, by="d"))),
    ]
)
@example([Group((entry(4, _DELIVERED), entry(4, _FAILED, by="r2"), entry(2, _RELAYED), entry(0, _RELAYED)))])
@example([Group((entry(6, alarms=_ALARMS[:1]),)), Group((entry(6, alarms=_ALARMS[2:]), entry(6, _WAIVED)), 0, (0, 1))])
@example([Group((entry(6, alarms=_ALARMS[2:]),)), Group((entry(6, alarms=_ALARMS[:1]), entry(6, _WAIVED)), 0, (0, 1))])
@example([Group((entry(0, fact(EventKind.AUTO_REPLIED, detail=_DETAILS[6])), entry(0, _RELAYED, at=-600)))])
def test_a_set_leaves_the_rows_that_its_facts_left_one_at_a_time(rows: Rows, groups: list[Group]) -> None:
    (moved_before, rows_before), *in_sets = rows.run(groups)
    for moved, found in in_sets:
        for name in _COMPARED:
            assert _differences(rows_before[name], found[name]) == []
        assert moved == moved_before


@example([Group((entry(0, _RELAYED), entry(0, _FAILED, by="r2"), entry(0, alarms=_ALARMS[:1]), entry(0, _WAIVED)))])
@given(_GROUPS)
def test_a_move_changes_none_of_its_inputs(rows: Rows, groups: list[Group]) -> None:
    with Session(rows.singly, autoflush=False) as session:
        _fill(session)
        stands = standings.load(session, RECIPIENTS, set())
    for one in (one for group in groups for one in group.entries):
        inputs = stands[one.recipient], replace(one, effects=replace(one.effects, escalate_to=None))
        kept = deepcopy(inputs)
        change = move(*inputs, rows.settings, now=START)
        assert inputs == kept
        stands[one.recipient] = change.standing


@pytest.mark.parametrize(
    ("record", "table", "without"),
    [
        (standing.RecipientRecord, "recipient", set()),
        (Event, "event", {"serial"}),
        (standing.CopyRecord, "event_copy", set()),
        (standing.AlertRecord, "alert", {"subject"}),
        (standing.DispatchRecord, "dispatch", set()),
    ],
)
def test_a_record_has_the_columns_of_its_table(record: Any, table: str, without: set[str]) -> None:
    assert set(_names(record)) == set(_table(table).c.keys()) - without


def test_a_record_of_a_message_names_columns_of_its_table() -> None:
    assert set(_names(standing.MessageRecord)) <= set(_table("message").c.keys())
