"""Alert rows -> signed POSTs until acknowledged."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx2
import structlog
from sqlmodel.ext.asyncio.session import AsyncSession

from receiptd import telemetry
from receiptd.errors import BadSettings
from receiptd.models import DispatchAttempt, new_id
from receiptd.settings import WebhookSettings, read_secret
from receiptd.store import Store, alerts, dispatches
from receiptd.store.dispatches import Post

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
PATIENCE = 3
"""Failed attempts at one endpoint after which the next level's are told as well."""
_TIMEOUT = 15
_LONGEST_RETRY_AFTER = timedelta(days=1)
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
    """Return the HTTP client of this step: it follows no redirects and keeps no cookies."""
    return httpx2.AsyncClient(
        headers={"user-agent": "receiptd"}, timeout=_TIMEOUT, follow_redirects=False, trust_env=False
    )


async def deliver(store: Store, http: httpx2.AsyncClient, *, limit: int = 50) -> int:
    """Send the dispatches that are due; return how many an endpoint took."""
    names = [webhook.name for webhook in store.settings.webhook]
    async with store.read() as session:
        off = await dispatches.gone(session, names)
    if off:
        await dispatches.pass_over(store, limit, sorted(off), patience=PATIENCE)
    posts = await dispatches.claim(store, limit, [name for name in names if name not in off])
    taken = await asyncio.gather(*(_guarded(store, http, post) for post in posts))
    return sum(taken)


async def _guarded(store: Store, http: httpx2.AsyncClient, post: Post) -> bool:
    """Let one dispatch that raises stop no other; its claim pushes it ahead by a minute."""
    try:
        return await _deliver(store, http, post)
    except Exception:
        _log.exception("an alert can't be sent", alert=post.alert.id, webhook=post.dispatch.webhook)
        return False


async def _deliver(store: Store, http: httpx2.AsyncClient, post: Post) -> bool:
    webhook = next(entry for entry in store.settings.webhook if entry.name == post.dispatch.webhook)
    started_at = store.now()
    answer = await _post(http, webhook, post, started_at)
    telemetry.WEBHOOK_ATTEMPTS.labels(webhook.name, answer.outcome).inc()
    if not answer.is_success:
        _log.warning(
            "a webhook did not take an alert", webhook=webhook.name, status=answer.status, reason=answer.reason
        )
    await store.together(partial(_settle, store=store, post=post, answer=answer, started_at=started_at))
    return answer.is_success


async def _settle(session: AsyncSession, *, store: Store, post: Post, answer: Answer, started_at: datetime) -> None:
    now, attempts = store.now(), post.dispatch.attempts
    attempt = DispatchAttempt(
        id=new_id(started_at),
        dispatch=post.dispatch.id,
        started_at=started_at,
        milliseconds=answer.milliseconds,
        status=answer.status,
        reason=answer.reason,
    )
    await dispatches.write_attempt(session, attempt)
    if answer.is_success:
        await dispatches.delivered(session, post, now)
        return
    if answer.outcome == "gone":
        await dispatches.end(session, post, "gone", now)
    else:
        await dispatches.again(session, post, now + wait_after(attempts, answer.retry_after))
    if answer.outcome == "gone" or attempts >= PATIENCE:
        await dispatches.hand_on(session, store.settings, post, patience=PATIENCE, now=now)


def wait_after(attempts: int, retry_after: timedelta | None) -> timedelta:
    """Return how long to wait after *attempts* failed ones: by the schedule, or longer if it asks."""
    wait = SCHEDULE[min(attempts, len(SCHEDULE) - 1)] * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load only
    return max(wait, min(retry_after or timedelta(0), _LONGEST_RETRY_AFTER))


async def _post(http: httpx2.AsyncClient, webhook: WebhookSettings, post: Post, now: datetime) -> Answer:
    body = body_of(post.alert.type, post.alert.created_at, post.alert.data, webhook.omit)
    loop = asyncio.get_running_loop()
    began = loop.time()

    def milliseconds() -> int:
        return int((loop.time() - began) * 1000)

    try:
        headers = {"content-type": "application/json", **sign(secret_of(webhook), post.alert.id, now, body)}
        async with (
            asyncio.timeout(_TIMEOUT),
            http.stream("POST", webhook.url, content=body, headers=headers) as response,
        ):
            await _pass_over(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, BadSettings) as error:
        return Answer(None, milliseconds(), f"{type(error).__name__}: {error}"[:300])
    retry_after = read_retry_after(response.headers.get("retry-after"), now)
    reason = None if response.is_success else f"HTTP {response.status_code} {response.reason_phrase}"[:300]
    return Answer(
        response.status_code, milliseconds(), reason, retry_after if response.status_code in (429, 503) else None
    )


async def _pass_over(response: httpx2.Response) -> None:
    """Read the body to its end if that is near; an endless one is cut off with its connection."""
    octets = 0
    async for chunk in response.aiter_raw():
        octets += len(chunk)
        if octets > _LONGEST_ANSWER:
            return


def body_of(kind: str, created_at: datetime, data: dict[str, Any], omit: tuple[str, ...]) -> bytes:
    """Return the JSON body of an alert, without what the endpoint must not see."""
    shown = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    if "subject" in omit and "message" in shown:
        shown["message"].pop("subject", None)
    if "address" in omit and "recipient" in shown:
        shown["recipient"].pop("address", None)
    body = {"type": kind, "timestamp": alerts.rfc3339(created_at), "data": shown}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


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
    except ValueError:
        return None
    return max(at - now, timedelta(0)) if at.tzinfo else None
