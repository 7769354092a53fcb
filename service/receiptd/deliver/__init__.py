"""Alert rows -> signed POSTs until acknowledged."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx2
import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import telemetry
from receiptd.deliver.body import body_of
from receiptd.errors import BadSettings
from receiptd.models import Alert
from receiptd.settings import WebhookSettings, read_secret
from receiptd.store import Store, dispatches, handover
from receiptd.store.dispatches import Post
from receiptd.watchdog import Watchdog

_log = structlog.get_logger(__name__)

SCHEDULE = (
    timedelta(0),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""The wait before each attempt, as Standard Webhooks advises; after the last, once a day while nobody took it."""
WINDOW = 10
"""Posts under way at one endpoint: each has a window of its own, so that none waits for another's answers."""
_TIMEOUT = 15
_LONGEST_POST = timedelta(minutes=1)
"""What the watchdog allows a post, from its claim to the commit of its answer."""
_LONGEST_RETRY_AFTER = timedelta(days=1)
_LONGEST_HOLD = timedelta(minutes=5)
_LONGEST_ANSWER = 64 * 1024
"""Octets of an answer's body that are read, so that the connection can be used again; nobody looks at them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered: *status* is None where nothing came, *reason* says why."""

    status: int | None
    milliseconds: int
    reason: str | None = None
    retry_after: timedelta | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def outcome(self) -> str:
        if self.is_success:
            return "delivered"
        return "gone" if self.status == 410 else "failed"


def client() -> httpx2.AsyncClient:
    """Return the HTTP client of this step: it follows no redirects and keeps no cookies.

    It opens as many connections as there are posts: a pool that is full of one endpoint's would hold up the others'.
    """
    return httpx2.AsyncClient(
        headers={"user-agent": "receiptd"},
        timeout=_TIMEOUT,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        follow_redirects=False,
        trust_env=False,
    )


@dataclass(slots=True)
class Endpoints:
    """The way to the endpoints, and until when each of them asked to be left alone."""

    http: httpx2.AsyncClient
    held: dict[str, datetime] = field(default_factory=dict)

    def hold(self, name: str, now: datetime, retry_after: timedelta) -> None:
        """Begin nothing at *name* for as long as it asks, or for five minutes: news can't wait longer unseen."""
        self.held[name] = now + min(retry_after, _LONGEST_HOLD)

    def may_ask(self, name: str, now: datetime) -> bool:
        """Whether *name* wants to be left alone no longer; a hold beyond its bound is of a clock that was set."""
        return not now < self.held.get(name, now) <= now + _LONGEST_HOLD


async def deliver(
    store: Store, endpoints: Endpoints, *, wake: asyncio.Event, stop: asyncio.Event, watchdog: Watchdog
) -> int:
    """Post what is due, each endpoint in a bounded window of its own; return how many alerts were taken.

    A window is refilled as its posts end and when *wake* is set, so that an endpoint that hangs holds up no other.
    Ends when nothing is due and nothing under way, or *stop* is set and what was under way has ended.
    """
    running: dict[asyncio.Task[bool], str] = {}
    taken = 0
    try:
        while True:
            wake.clear()
            if not stop.is_set():
                for post in await _claim(store, endpoints, Counter(running.values()), watchdog):
                    running[asyncio.create_task(_guarded(store, endpoints, post, watchdog))] = post.dispatch.webhook
            if not running:
                return taken
            for task in await _ended(set(running), wake):
                del running[task]
                taken += task.result()
    except Exception:
        # The database may be away for a moment: what the endpoints answer meanwhile is worth keeping all the same.
        if running:
            await asyncio.wait(running)
        raise
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _claim(store: Store, endpoints: Endpoints, under_way: Counter[str], watchdog: Watchdog) -> list[Post]:
    """Take what is due where the window has room; what is due at an endpoint that is gone is handed on."""
    names = [webhook.name for webhook in store.settings.webhook]
    with watchdog.track("deliver", _LONGEST_POST):
        async with store.read() as session:
            off = await dispatches.gone(session, names)
        if off:
            await handover.pass_over(store, sorted(off))
        now = store.now()
        asked = [name for name in names if name not in off and endpoints.may_ask(name, now)]
        room = {name: WINDOW - under_way[name] for name in asked if under_way[name] < WINDOW}
        return await dispatches.claim(store, room) if room else []


async def _ended(running: set[asyncio.Task[bool]], wake: asyncio.Event) -> set[asyncio.Task[bool]]:
    """Wait until a post ends or somebody wakes us; return the posts that have ended."""
    woken = asyncio.ensure_future(wake.wait())
    try:
        done, _ = await asyncio.wait({*running, woken}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        woken.cancel()
    return running & done


async def _guarded(store: Store, endpoints: Endpoints, post: Post, watchdog: Watchdog) -> bool:
    """Let one dispatch that raises stop no other; its claim pushes it ahead by a minute."""
    try:
        with watchdog.track("deliver", _LONGEST_POST):
            return await _deliver(store, endpoints, post)
    except Exception:
        _log.exception("what came of an alert can't be kept", alert=post.alert.id, webhook=post.dispatch.webhook)
        return False


async def _deliver(store: Store, endpoints: Endpoints, post: Post) -> bool:
    webhook = next((entry for entry in store.settings.webhook if entry.name == post.dispatch.webhook), None)
    if webhook is None:  # new settings came since it was claimed: it is handed on when the claim ends
        return False
    answer = await _post(endpoints.http, webhook, post, store.now())
    telemetry.WEBHOOK_ATTEMPTS.labels(webhook.name, answer.outcome).inc()
    if answer.retry_after:
        endpoints.hold(webhook.name, store.now(), answer.retry_after)
    if answer.outcome == "gone":
        _log.error(
            "a webhook is off: it answered 410 Gone, so it gets nothing until one of its alerts is replayed",
            webhook=webhook.name,
        )
    elif not answer.is_success:
        _log.warning(
            "a webhook did not take an alert", webhook=webhook.name, status=answer.status, reason=answer.reason
        )
    await store.together(partial(_settle, store=store, post=post, answer=answer))
    if answer.is_success:
        _log.info("a webhook took an alert", webhook=webhook.name, **_of_what(post.alert))
    return answer.is_success


def _of_what(alert: Alert) -> dict[str, Any]:
    """Return what finds an alert again: ids alone, for the journal is no place for addresses."""
    told = {
        "type": alert.type,
        "alert": alert.id,
        "message": alert.data.get("message", {}).get("id"),
        "recipient": alert.recipient,
        "about": alert.subject,
    }
    return {name: value for name, value in told.items() if value is not None}


async def _settle(session: AsyncSession, *, store: Store, post: Post, answer: Answer) -> None:
    now, attempts = store.now(), post.dispatch.attempts
    await dispatches.keep_answer(session, post, answer.milliseconds, answer.status, answer.reason)
    if answer.is_success:
        await dispatches.delivered(session, post, now)
        return
    if answer.outcome == "gone":
        await dispatches.end(session, post.dispatch, "gone", now)
    else:
        await dispatches.again(session, post.dispatch, now + wait_after(attempts, answer.retry_after))
    await handover.hand_on(session, store.settings, post.alert, now)


def wait_after(attempts: int, retry_after: timedelta | None) -> timedelta:
    """Return how long to wait after *attempts* failed ones: by the schedule, or longer if it asks."""
    wait = SCHEDULE[min(attempts, len(SCHEDULE) - 1)] * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load only
    return max(wait, min(retry_after or timedelta(0), _LONGEST_RETRY_AFTER))


async def _post(http: httpx2.AsyncClient, webhook: WebhookSettings, post: Post, now: datetime) -> Answer:
    """Post once; whatever goes wrong is an answer that a person can read.

    The first line of a response decides, whatever becomes of its body: an alert that was taken is not sent again.
    """
    loop = asyncio.get_running_loop()
    began, response, why = loop.time(), None, None
    try:
        body = body_of(post.alert.type, post.alert.created_at, post.alert.data, webhook.omit)
        headers = {"content-type": "application/json", **sign(secret_of(webhook), post.alert.id, now, body)}
        async with (
            asyncio.timeout(_TIMEOUT),
            http.stream("POST", webhook.url, content=body, headers=headers) as response,
        ):
            await _pass_over(response)
    except Exception as fault:
        why = _why(fault, post)
    milliseconds = int((loop.time() - began) * 1000)
    if response is None:
        return Answer(None, milliseconds, why)
    reason = None if response.is_success else f"HTTP {response.status_code} {response.reason_phrase}"[:300]
    asked = read_retry_after(response.headers.get("retry-after"), now) if response.status_code in (429, 503) else None
    return Answer(response.status_code, milliseconds, reason, asked)


def _why(fault: Exception, post: Post) -> str:
    """Say why no answer came; a fault of ours is told in the log, with all that is known of it."""
    if isinstance(fault, (TimeoutError, httpx2.TimeoutException)):
        return f"no answer within {_TIMEOUT} seconds"
    named = f"{type(fault).__name__}: {fault}".removesuffix(": ")[:300]
    if isinstance(fault, (httpx2.HTTPError, httpx2.InvalidURL, BadSettings)):
        return named
    _log.error("an alert can't be sent", alert=post.alert.id, webhook=post.dispatch.webhook, exc_info=fault)
    return f"a fault of receiptd, see its log: {named}"


async def _pass_over(response: httpx2.Response) -> None:
    """Read the body to its end if that is near; an endless one is cut off with its connection."""
    octets = 0
    async for chunk in response.aiter_raw():
        octets += len(chunk)
        if octets > _LONGEST_ANSWER:
            return


def sign(secret: bytes, webhook_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of Standard Webhooks for *body*."""
    stamp = str(int(now.timestamp()))
    signed = b".".join((webhook_id.encode(), stamp.encode(), body))
    signature = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    return {"webhook-id": webhook_id, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}


def secret_of(webhook: WebhookSettings) -> bytes:
    """Return the key of *webhook*; raise BadSettings unless its file holds `whsec_` and base64."""
    text = read_secret(webhook.secret_file)
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise BadSettings(
            f"the secret of webhook {webhook.name} must be whsec_ and the base64 of 24 to 64 bytes: "
            "make one with  echo whsec_$(openssl rand -base64 32)"
        )
    return key


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return what a Retry-After field asks for (RFC 9110 §10.2.3), or None where it says nothing usable."""
    if not value:
        return None
    if value.strip().isdecimal():
        return timedelta(seconds=int(value.strip()[:9]))
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(at - now, timedelta(0)) if at.tzinfo else None
