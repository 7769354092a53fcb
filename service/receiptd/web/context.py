"""What the API needs of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Annotated, cast

from fastapi import Depends, Request

from receiptd import correlation_token
from receiptd.smtp import Capabilities
from receiptd.store import Store
from receiptd.store.monitors import Health
from receiptd.web.quotas import Quota

_MOST_STREAMS, _STREAMS_OF_ONE = 32, 8
_CLOSE_ONE = "close one, or come back later"


@dataclass(frozen=True, slots=True)
class AppContext:
    """The store, how the daemon's peers do, and how to wake its steps.

    *relay_offers* tells what the relay's last EHLO said, None before the first one; *ask_relay* asks it again.
    *wake* is for what a person decides; a message that was taken gives work to the one step that *wake_submit* wakes.
    """

    store: Store
    relay: Health
    mailboxes: Mapping[str, Health]
    wake: Callable[[], None]
    wake_submit: Callable[[], None]
    relay_offers: Callable[[], Capabilities | None]
    ask_relay: Callable[[], Awaitable[Capabilities | None]]
    started_at: datetime
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the listeners close: streams of events end."""
    streams: Quota = field(
        default_factory=partial(Quota, _MOST_STREAMS, _STREAMS_OF_ONE, "streams of events", _CLOSE_ONE)
    )

    def waits(self) -> str | None:
        """Return why nothing goes out now, where the relay can't be used."""
        reason = correlation_token.mask(self.relay.reason)[:500].rstrip(".")
        return f"It waits for the relay: {reason}." if reason else None

    def warnings(self) -> list[str]:
        """Return what a sender should know now about every message."""
        offered = self.relay_offers()
        if offered is not None and not offered.dsn:
            return ["the relay offers no DSN: it will send no delivery report, only bounces"]
        return []


async def context_of(request: Request) -> AppContext:
    """Return the context of the application that serves *request*.

    A coroutine, as all our dependencies are: FastAPI runs any other in a thread, which costs a request 0.1 ms each.
    """
    return cast(AppContext, request.app.state.context)


Context = Annotated[AppContext, Depends(context_of)]
