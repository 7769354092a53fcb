"""Events in the order in which they were recorded, as a list or as server-sent events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from sqlmodel import Session
from starlette.responses import StreamingResponse

from receiptd.errors import BadData
from receiptd.store import Store, events
from receiptd.store.events import BEGINNING, Place, Recorded
from receiptd.web import description, schemas, serializers
from receiptd.web.auth import Anyone
from receiptd.web.context import AppContext, Context
from receiptd.web.parameters import KnownParameters, Limit, NoNull

router = APIRouter(prefix="/v1", dependencies=[NoNull, KnownParameters], responses=description.ANYWHERE)

OVERLAP = timedelta(seconds=30)
"""How much longer a transaction on PostgreSQL, or on a daemon whose clock is behind, may take than a later one."""
_PAGE = 200
_PAUSE = 0.5
_HEARTBEAT = 15.0
_PLACE = re.compile("([0-9]{1,18})_([0-9a-f]{32})?")


class Follower:
    """A reader of the event log: each look returns what was recorded since the last one, each event once.

    On SQLite writers take turns, so what commits later stands behind. On PostgreSQL, and over several daemons, an
    event may commit when others that stand behind it were read already: so the last OVERLAP is looked through again.
    """

    def __init__(self, store: Store, place: Place, seen: set[Place]) -> None:
        self.place = place
        self._store, self._seen = store, seen
        self._overlap = overlap(store)
        self._floor = place.serial - self._overlap if seen else place.serial

    @classmethod
    async def from_now(cls, store: Store) -> Follower:
        """Follow what is recorded from now on."""

        def look(session: Session) -> tuple[Place, list[Place]]:
            place = events.last(session)
            return place, events.between(session, place.serial - overlap(store), place)

        place, seen = await store.query(look)
        return cls(store, place, set(seen))

    @classmethod
    def behind(cls, store: Store, place: Place) -> Follower:
        """Follow what was recorded behind *place*, and what may have been committed later though it stands before."""
        if not overlap(store):
            return cls(store, place, set())
        return cls(store, Place(max(place.serial - overlap(store), 0)), set())

    async def look(self) -> list[Recorded]:
        """Return what is new."""
        floor = max(self._floor, self.place.serial - self._overlap)

        def look_behind(session: Session) -> list[Recorded]:
            late = events.between(session, floor, self.place) if self._overlap else []
            found = events.at(session, [place for place in late if place not in self._seen])
            return found + events.behind(session, self.place, limit=_PAGE)

        found = await self._store.query(look_behind)
        places = {one.place for one in found}
        self._seen = {place for place in self._seen if place.serial >= floor} | places if self._overlap else set()
        self.place = max(self.place, *places) if places else self.place
        return found


def overlap(store: Store) -> int:
    """Return how far behind the last place an event may still come to stand, in microseconds."""
    return 0 if store.is_sqlite else OVERLAP // timedelta(microseconds=1)


_STREAM_RESPONSES: description.Responses = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "A page, or the stream."}
}
Stream = Annotated[Literal["", "1", "true"] | None, Query(description="Go on as server-sent events.")]
After = Annotated[str | None, Query(description="Only what stands behind this cursor; 0 is the beginning.")]
LastEventId = Annotated[str | None, Header(description="As `after`, for a stream that is taken up again.")]


@router.get("/events", response_model=schemas.RecordedEventPage, responses=_STREAM_RESPONSES)
async def follow_events(
    context: Context,
    caller: Anyone,
    stream: Stream = None,
    after: After = None,
    limit: Limit = 50,
    last_event_id: LastEventId = None,
) -> schemas.RecordedEventPage | StreamingResponse:
    """List events as they were recorded, oldest first; with `stream` go on as server-sent events."""
    owner = caller.sees
    if stream is None:
        return await _page(context.store, owner, place_of(after) if after is not None else BEGINNING, limit)
    cursor = last_event_id or after
    place = None if cursor is None else place_of(cursor)
    with ExitStack() as stack:
        stack.enter_context(context.streams.reserve(caller.owner))
        follower = await Follower.from_now(context.store) if place is None else Follower.behind(context.store, place)
        return _EventStream(_stream(context, follower, owner), stack.pop_all())


async def _page(store: Store, owner: str | None, place: Place, limit: int) -> schemas.RecordedEventPage:
    """Return a page of what *owner* may see: neither its items nor its cursor tell of others' messages."""
    look = events.behind if owner is None else partial(events.of_owner, owner=owner)
    found = await store.query(lambda session: look(session, place=place, limit=limit + 1))
    items = [serializers.recorded(one) for one in found[:limit]]
    return schemas.RecordedEventPage(items=items, next=items[-1].cursor if len(found) > limit else None)


def place_of(cursor: str) -> Place:
    """Return the place that a cursor names; `0` is the beginning."""
    if cursor == "0":
        return BEGINNING
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise BadData(f"after={cursor!r} isn't a cursor of the events: take `next` of the list, or `id` of the stream")
    return Place(int(found[1]), found[2] or "")


class _EventStream(StreamingResponse):
    """A response that goes on; what it has reserved is released however it ends."""

    def __init__(self, content: AsyncIterator[str], held: ExitStack) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, *asgi: Any) -> None:
        with self._held:
            await super().__call__(*asgi)


async def _stream(context: AppContext, follower: Follower, owner: str | None) -> AsyncIterator[str]:
    """Yield events as they come, and a comment where none comes, until the daemon stops."""
    now = asyncio.get_running_loop().time
    yield ": receiptd tells what happens\n\n"
    silent_since = now()
    while not context.closing.is_set():
        # A look that is cut off would spoil a connection of the pool.
        found = await asyncio.shield(follower.look())
        text = "".join(_message(one) for one in found if owner in (None, one.owner))
        if not text and now() - silent_since >= _HEARTBEAT:
            text = ": still there\n\n"
        if text:
            silent_since = now()
            yield text
        if len(found) < _PAGE:
            await _pause(context.closing)


async def _pause(closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_PAUSE):
            await closing.wait()
    except TimeoutError:
        pass


def _message(one: Recorded) -> str:
    data = json.dumps(serializers.recorded(one).model_dump(mode="json"), separators=(",", ":"))
    return f"id: {one.place}\nevent: {one.event.kind}\ndata: {data}\n\n"
