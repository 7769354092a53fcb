"""Alerts on their way to webhooks: what the standardwebhooks package believes, once, in order, until taken."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from receiptd import deliver
from receiptd.alert import takes
from receiptd.deliver.body import body_of
from receiptd.errors import BadSettings
from receiptd.facts import EventKind, Source
from receiptd.models import Alert
from receiptd.settings import WebhookSettings
from receiptd.web import api
from tests.receiver import SECRET
from tests.steps_fixture import START, dsn
from tests.webhook_fixture import WebhookFixture, open_webhooks


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[WebhookFixture]:
    async with open_webhooks(tmp_path) as hooks:
        yield hooks


# --- what is sent -------------------------------------------------------------------------------------------------


async def test_an_alert_is_signed_and_says_what_the_contract_says(hooks: WebhookFixture) -> None:
    alert = await hooks.bad_news(labels={"order": "17"})
    assert await hooks.deliver() == 1
    (got,) = hooks.receiver.alerts
    assert (got.endpoint, got.id, got.type) == ("ops", alert.id, "receipt.failed")
    assert set(got.data) == {"message", "recipient", "escalation", "reason", "unproven", "evidence", "link"}
    assert set(got.data["message"]) == {"id", "message_id", "from", "subject", "labels"}
    assert set(got.data["recipient"]) == {
        "id", "address", "delivery", "disposition", "receipt", "level", "deadline",
    }  # fmt: skip
    assert got.data["message"]["labels"] == {"order": "17"}
    assert (got.data["recipient"]["delivery"], got.data["escalation"], got.data["unproven"]) == ("failed", 1, False)
    assert got.data["evidence"].startswith("sha256:")
    assert await hooks.deliver() == 0, "it is taken, once and for all"


async def test_the_journal_tells_each_alert_that_is_taken_by_its_ids_alone(hooks: WebhookFixture) -> None:
    alert = await hooks.bad_news()
    with capture_logs() as logs:
        await hooks.deliver()
    (told,) = [line for line in logs if line["log_level"] == "info"]
    assert (told["event"], told["webhook"], told["type"]) == ("a webhook took an alert", "ops", "receipt.failed")
    assert (told["alert"], told["recipient"]) == (alert.id, alert.recipient)
    assert told["message"] == alert.data["message"]["id"]
    assert None not in told.values(), "what an alert doesn't have is left out"
    assert alert.data["recipient"]["address"] not in str(logs)


async def test_an_alert_links_to_a_call_that_the_api_has(tmp_path: Path) -> None:
    listen = [{"tcp": "127.0.0.1:8025"}]
    async with open_webhooks(tmp_path, service={"listen": listen}) as hooks:
        alert = await hooks.bad_news()
        path = alert.data["link"].removeprefix("http://127.0.0.1:8025")
        assert path.rsplit("/", 1) == ["/v1/messages", alert.data["message"]["id"]]
        assert "/v1/messages/{message}" in {getattr(route, "path", "") for part in api.parts() for route in part.routes}


async def test_no_alert_holds_a_token(hooks: WebhookFixture) -> None:
    taken = await hooks.steps.submitted()
    token = taken.recipients[0].token
    raw = dsn(token, action="failed", status="5.1.1").replace(b"smtp; 250 ok", f"smtp; 550 <{token}>".encode())
    await hooks.steps.receive(raw)
    await hooks.deliver()
    assert token not in json.dumps(hooks.receiver.alerts[0].data)


async def test_omit_holds_on_the_wire(tmp_path: Path) -> None:
    async with open_webhooks(tmp_path, ops={"omit": ["subject", "address"]}) as hooks:
        await hooks.bad_news()
        await hooks.deliver()
        (got,) = hooks.receiver.alerts
        assert "address" not in got.data["recipient"]
        assert "subject" not in got.data["message"]


@pytest.mark.parametrize("pattern", ["*", "receipt.*", "receipt.m*", "*.met", "receipt.?et"])
def test_no_pattern_takes_what_must_be_named_in_full(tmp_path: Path, pattern: str) -> None:
    entry = WebhookSettings(
        name="ops", url="http://127.0.0.1:1/", secret_file=tmp_path / "secret", events=(pattern, "receipt.auto_reply")
    )
    assert not takes(entry, "receipt.met")
    assert takes(entry, "receipt.auto_reply")


async def test_met_is_told_only_to_those_who_name_it(tmp_path: Path) -> None:
    async with open_webhooks(tmp_path, ops={"events": ["receipt.*", "receipt.met"]}) as hooks:
        taken = await hooks.steps.submitted()
        await hooks.steps.receive(dsn(taken.recipients[0].token))
        await hooks.deliver()
        (got,) = hooks.receiver.alerts
        assert (got.endpoint, got.type) == ("ops", "receipt.met")
        assert got.data["evidence"].startswith("sha256:")


async def test_a_receipt_that_is_met_again_after_a_failure_is_told_once(tmp_path: Path) -> None:
    async with open_webhooks(tmp_path, ops={"events": ["receipt.*", "receipt.met"]}) as hooks:
        taken = await hooks.steps.submitted()
        (row,) = taken.recipients
        await hooks.steps.receive(dsn(row.token), dsn(row.token, action="failed", status="5.0.0"))
        await hooks.deliver()
        await hooks.steps.tell(row.id, EventKind.CONFIRMED, source=Source.PERSON)
        assert (await hooks.steps.recipient(taken)).receipt == "met"
        await hooks.deliver()
        told = [got.type for got in hooks.receiver.alerts]
        assert sorted(told) == ["receipt.contradicted", "receipt.met", "receipt.resolved"]


async def test_a_persons_word_is_not_told_as_a_receipt_that_came(hooks: WebhookFixture) -> None:
    alert = await hooks.bad_news()
    await hooks.deliver()
    await hooks.steps.tell(alert.recipient or "", EventKind.CONFIRMED, source=Source.PERSON)
    await hooks.deliver()
    resolved = hooks.receiver.alerts[-1]
    assert (resolved.type, resolved.data["outcome"]) == ("receipt.resolved", "recovered")
    assert (resolved.data["reason"], resolved.data["evidence"]) == ("A person confirmed the receipt.", None)


async def test_an_automatic_answer_is_told_only_to_those_who_name_it(tmp_path: Path) -> None:
    async with open_webhooks(tmp_path, ops={"events": ["receipt.auto_reply"]}) as hooks:
        taken = await hooks.steps.submitted()
        away = (
            f"From: bob@b.test\nTo: receipts+{taken.recipients[0].token}@a.test\nAuto-Submitted: auto-replied\n"
            f"Message-ID: <away@b.test>\nSubject: Out of office\n\nBack soon.\n"
        )
        await hooks.steps.receive(away.encode())
        await hooks.deliver()
        (got,) = hooks.receiver.alerts
        assert (got.endpoint, got.type) == ("ops", "receipt.auto_reply")
        assert "Back soon" in got.data["excerpt"]
        assert got.data["evidence"].startswith("sha256:")


async def test_an_alert_whose_policy_names_no_subscriber_goes_to_whom_it_concerns(tmp_path: Path) -> None:
    async with open_webhooks(tmp_path, ops={"events": ["monitor.*"]}) as hooks:
        await hooks.bad_news()
        await hooks.deliver()
        assert [got.endpoint for got in hooks.receiver.alerts] == ["boss"]


async def test_a_message_whose_policy_is_gone_from_the_settings_is_told_as_default_says(tmp_path: Path) -> None:
    levels = [{"to": ["boss"]}]
    async with open_webhooks(
        tmp_path, policy={"contracts": {"levels": levels}, "default": {"levels": levels}}
    ) as hooks:
        taken = await hooks.steps.submitted(policy="contracts")
        settings = hooks.steps.store.settings
        hooks.steps.store.settings = settings.model_copy(update={"policy": {"default": settings.policy["default"]}})
        await hooks.steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
        await hooks.deliver()
        assert [(got.endpoint, got.type) for got in hooks.receiver.alerts] == [("boss", "receipt.failed")]


# --- until it is taken --------------------------------------------------------------------------------------------


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    hours = {"minutes": 60}
    assert [wait.total_seconds() for wait in deliver.SCHEDULE[:4]] == [0, 5, 300, 1800]
    assert [wait / timedelta(**hours) for wait in deliver.SCHEDULE[4:]] == [2, 5, 10, 14, 20, 24]


async def test_an_alert_is_sent_again_by_the_schedule_under_one_id_until_it_is_taken(hooks: WebhookFixture) -> None:
    hooks.receiver.answers = lambda endpoint: 500 if endpoint == "ops" else 204
    alert = await hooks.bad_news()
    for usual in [*deliver.SCHEDULE[1:], deliver.SCHEDULE[-1]]:
        assert await hooks.deliver() in (0, 1), "boss takes what ops does not"
        assert usual <= await hooks.until_due(alert) <= usual * 1.1
    hooks.receiver.answers = lambda _: 204
    await hooks.deliver()
    assert {key for _, key in hooks.receiver.posts} == {alert.id}
    assert [name for name, _ in hooks.receiver.posts].count("ops") == 11
    assert (await hooks.dispatch(alert)).outcome == "delivered"
    attempts = [row for row in await hooks.attempts() if row.dispatch == (await hooks.dispatch(alert)).id]
    assert [row.status for row in attempts] == [500] * 10 + [204]
    assert all((row.reason or "").startswith("HTTP 500") for row in attempts[:-1])


@given(st.integers(0, 50), st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=9))))
def test_the_wait_is_the_schedules_or_longer_if_asked_but_never_beyond_reason(
    attempts: int, asked: timedelta | None
) -> None:
    usual = deliver.SCHEDULE[min(attempts, len(deliver.SCHEDULE) - 1)]
    wait = deliver.wait_after(attempts, asked)
    assert max(usual, min(asked or timedelta(0), timedelta(days=1))) <= wait <= max(usual * 1.1, timedelta(days=1))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed_in_seconds_and_as_a_date(hooks: WebhookFixture, status: int) -> None:
    hooks.receiver.answers = lambda _: status
    alert = await hooks.bad_news()
    hooks.receiver.headers["retry-after"] = "3600"
    await hooks.deliver()
    assert await hooks.until_due(alert) == timedelta(hours=1)
    at = hooks.steps.instant + timedelta(hours=2)
    hooks.receiver.headers["retry-after"] = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    await hooks.deliver()
    assert await hooks.until_due(alert) == timedelta(hours=2)


async def test_retry_after_means_nothing_with_another_status(hooks: WebhookFixture) -> None:
    hooks.receiver.answers = lambda _: 500
    hooks.receiver.headers["retry-after"] = "3600"
    alert = await hooks.bad_news()
    await hooks.deliver()
    assert await hooks.until_due(alert) < timedelta(seconds=6)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1e9", "Tue, 99 Nov 2026 09:30:00 GMT", "Tue, 24 Nov 2026 09:30:00 +99999999999999", "\u0663"],
)
def test_a_retry_after_that_says_nothing_usable_is_none(value: str) -> None:
    assert deliver.read_retry_after(value, START) in (None, timedelta(seconds=3))


def test_a_retry_after_in_the_past_is_now() -> None:
    assert deliver.read_retry_after("Tue, 24 Nov 2020 09:30:00 GMT", START) == timedelta(0)
    assert deliver.read_retry_after("9" * 400, START) == timedelta(seconds=999_999_999)


async def test_a_redirect_is_not_followed(hooks: WebhookFixture) -> None:
    hooks.receiver.answers = lambda endpoint: 307 if endpoint == "ops" else 204
    hooks.receiver.headers["location"] = hooks.receiver.url("elsewhere")
    alert = await hooks.bad_news()
    assert await hooks.deliver() == 0
    assert hooks.receiver.posts == [("ops", alert.id)]
    (attempt,) = await hooks.attempts()
    assert attempt.status == 307


async def test_an_endpoint_that_is_gone_gets_nothing_more_and_the_next_level_is_told_at_once(
    hooks: WebhookFixture,
) -> None:
    hooks.receiver.answers = lambda endpoint: 410 if endpoint == "ops" else 204
    alert = await hooks.bad_news()
    await hooks.deliver()
    assert (await hooks.dispatch(alert)).outcome == "gone"
    await hooks.deliver()
    assert [got.endpoint for got in hooks.receiver.alerts] == ["boss"]
    second = await hooks.bad_news("carol@c.test")
    while await hooks.deliver():
        pass
    assert [name for name, key in hooks.receiver.posts if key == second.id] == ["boss"]


async def test_after_three_failures_the_next_level_is_told_and_the_first_goes_on_being_tried(
    hooks: WebhookFixture,
) -> None:
    hooks.receiver.answers = lambda endpoint: 500 if endpoint == "ops" else 204
    alert = await hooks.bad_news()
    for _ in range(3):
        assert hooks.receiver.alerts == []
        await hooks.deliver()
        await hooks.until_due(alert)
    await hooks.deliver()
    assert [(got.endpoint, got.id) for got in hooks.receiver.alerts] == [("boss", alert.id)]
    assert (await hooks.dispatch(alert)).outcome == "pending"


async def test_an_alert_that_nobody_takes_is_undelivered_until_somebody_does(hooks: WebhookFixture) -> None:
    hooks.receiver.answers = lambda _: 500
    alert = await hooks.bad_news()
    for _ in range(12):
        await hooks.deliver()
        hooks.pass_time(minutes=3)
    assert [one.undelivered for one in await hooks.steps.alerts()] == [True]
    hooks.receiver.answers = lambda _: 204
    second = await hooks.bad_news("carol@c.test")
    await hooks.deliver()
    assert ("ops", second.id) in hooks.receiver.posts
    await hooks.deliver()
    assert alert.id in {got.id for got in hooks.receiver.alerts}, "what was stranded goes out as soon as one is back"
    assert [one.undelivered for one in await hooks.steps.alerts()] == [False, False]


async def test_an_endpoint_that_never_answers_is_given_up_in_time(
    hooks: WebhookFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deliver._TIMEOUT == 15
    assert hooks.http.timeout.connect == hooks.http.timeout.read == 15
    monkeypatch.setattr(deliver, "_TIMEOUT", 0.1)
    alert = await hooks.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nX-Slow: ", drip=0.03) as url:
        _point(hooks, "ops", url)
        assert await hooks.deliver() == 0
    (attempt,) = await hooks.attempts()
    assert (attempt.status, (await hooks.dispatch(alert)).outcome) == (None, "pending")
    assert attempt.reason == "no answer within 0.1 seconds"


async def test_an_answer_without_end_is_not_read_to_its_end(
    hooks: WebhookFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_TIMEOUT", 5)
    await hooks.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", flood=True) as url:
        _point(hooks, "ops", url)
        assert await hooks.deliver() == 1


@pytest.mark.parametrize("drip", [0.03, 30])
async def test_an_answer_whose_body_does_not_end_is_one_all_the_same(
    hooks: WebhookFixture, monkeypatch: pytest.MonkeyPatch, drip: float
) -> None:
    """Its first line says that the alert was taken: what is sent again it would get twice."""
    monkeypatch.setattr(deliver, "_TIMEOUT", 0.5)
    alert = await hooks.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", drip=drip) as url:
        _point(hooks, "ops", url)
        assert await hooks.deliver() == 1
    assert (await hooks.dispatch(alert)).outcome == "delivered"


async def test_an_answer_whose_body_breaks_off_is_one_all_the_same(hooks: WebhookFixture) -> None:
    await hooks.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", drip=None) as url:
        _point(hooks, "ops", url)
        assert await hooks.deliver() == 1


def _point(hooks: WebhookFixture, name: str, url: str) -> None:
    settings = hooks.steps.store.settings
    entries = tuple(hook.model_copy(update={"url": url}) if hook.name == name else hook for hook in settings.webhook)
    hooks.steps.store.settings = settings.model_copy(update={"webhook": entries})


@contextmanager
def _answering(said: bytes, *, drip: float | None = 0, flood: bool = False) -> Iterator[str]:
    """Serve one endpoint that never comes to an end; without *drip* it hangs up at once."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(said)
            if drip is None:
                return
            try:
                while not over.wait(drip):
                    self.wfile.write(bytes(1 << 16) if flood else b"x")
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


# --- the end of an incident ---------------------------------------------------------------------------------------


async def _overdue(hooks: WebhookFixture) -> tuple[str, Alert]:
    """Let a deadline pass; return the token and the alert."""
    taken = await hooks.steps.submitted()
    hooks.pass_time(hours=5)
    await hooks.steps.judge()
    return taken.recipients[0].token, (await hooks.steps.alerts())[-1]


async def test_a_resolution_waits_until_its_alert_was_taken(hooks: WebhookFixture) -> None:
    hooks.receiver.answers = lambda _: 500
    token, alert = await _overdue(hooks)
    await hooks.deliver()
    await hooks.steps.receive(dsn(token))
    hooks.receiver.answers = lambda _: 204
    assert await hooks.deliver() == 0, "the alert itself is not due yet, and nothing overtakes it"
    await hooks.until_due(alert)
    await hooks.deliver()
    await hooks.deliver()
    assert [got.type for got in hooks.receiver.alerts] == ["receipt.overdue", "receipt.resolved"]
    resolved = hooks.receiver.alerts[-1]
    assert resolved.data["resolves"] == [alert.id]
    assert (resolved.data["outcome"], resolved.data["late"]) == ("met", True)


async def test_each_endpoint_that_may_know_gets_one_resolution(hooks: WebhookFixture) -> None:
    token, _ = await _overdue(hooks)
    await hooks.deliver()
    hooks.pass_time(hours=24)
    await hooks.steps.judge()
    await hooks.deliver()
    await hooks.steps.receive(dsn(token), dsn(token, action="relayed"))
    while await hooks.deliver():
        pass
    told = [(got.endpoint, got.type) for got in hooks.receiver.alerts]
    assert told.count(("ops", "receipt.resolved")) == told.count(("boss", "receipt.resolved")) == 1
    assert told.count(("ops", "receipt.overdue")) == 2
    assert told[-1][1] == told[-2][1] == "receipt.resolved"


async def test_where_no_attempt_was_made_neither_alert_nor_resolution_is_sent(hooks: WebhookFixture) -> None:
    token, _ = await _overdue(hooks)
    await hooks.steps.receive(dsn(token))
    assert await hooks.deliver() == 0
    assert hooks.receiver.posts == []


async def test_a_replay_sends_the_same_id_again(hooks: WebhookFixture) -> None:
    alert = await hooks.bad_news()
    await hooks.deliver()
    assert await hooks.replay(alert) == ["ops"]
    await hooks.deliver()
    assert hooks.receiver.posts == [("ops", alert.id)] * 2
    assert len(await hooks.attempts()) == 2


async def test_a_replay_to_an_endpoint_that_was_gone_brings_what_is_stranded_there_as_well(
    hooks: WebhookFixture,
) -> None:
    hooks.receiver.answers = lambda _: 410
    first, second = [await hooks.bad_news(f"{name}@b.test") for name in ("bob", "carol")]
    for _ in range(3):
        await hooks.deliver()
    assert [alert.undelivered for alert in await hooks.steps.alerts()] == [True, True]
    hooks.receiver.answers = lambda _: 204
    assert await hooks.replay(second) == ["ops", "boss"]
    await hooks.deliver()
    assert {got.id for got in hooks.receiver.alerts} == {first.id, second.id}
    assert [alert.undelivered for alert in await hooks.steps.alerts()] == [False, False]


# --- the secret ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret", ["secret", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
)
def test_a_secret_of_another_form_is_refused_with_the_command_that_makes_one(tmp_path: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(secret)
    entry = WebhookSettings(name="ops", url="http://127.0.0.1:1/", secret_file=tmp_path / "secret")
    with pytest.raises(BadSettings, match="openssl rand") as refusal:
        deliver.secret_of(entry)
    assert len(secret) < 8 or secret not in str(refusal.value)


@pytest.mark.parametrize("around", [("", ""), ("", "\n"), (" ", "\r\n\n")])
def test_white_space_around_a_secret_is_none_of_it(tmp_path: Path, around: tuple[str, str]) -> None:
    (tmp_path / "secret").write_text(SECRET.join(around))
    entry = WebhookSettings(name="ops", url="http://127.0.0.1:1/", secret_file=tmp_path / "secret")
    assert deliver.secret_of(entry) == base64.b64decode(SECRET.removeprefix("whsec_"))


async def test_what_was_not_taken_is_signed_with_the_new_secret_once_the_file_holds_one(
    hooks: WebhookFixture, tmp_path: Path
) -> None:
    hooks.receiver.answers = lambda _: 401
    alert = await hooks.bad_news()
    await hooks.deliver()
    hooks.receiver.secret = "whsec_" + base64.b64encode(b"another key of 32 bytes in all..").decode()
    (tmp_path / "secret").write_text(hooks.receiver.secret)
    hooks.receiver.answers = lambda _: 204
    await hooks.until_due(alert)
    assert await hooks.deliver() == 1


async def test_an_endpoint_whose_secret_is_gone_is_an_attempt_like_any_other(
    hooks: WebhookFixture, tmp_path: Path
) -> None:
    alert = await hooks.bad_news()
    (tmp_path / "secret").unlink()
    assert await hooks.deliver() == 0
    (attempt,) = await hooks.attempts()
    assert "can't be read" in (attempt.reason or "")
    (tmp_path / "secret").write_text(SECRET)
    await hooks.until_due(alert)
    assert await hooks.deliver() == 1


async def test_a_dispatch_that_raises_stops_no_other_and_is_an_attempt_like_any_other(
    hooks: WebhookFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await hooks.bad_news(), await hooks.bad_news("carol@c.test")
    true = body_of

    def fail(kind: str, at: datetime, data: dict[str, Any], omit: tuple[str, ...]) -> bytes:
        if data["recipient"]["address"] == "bob@b.test":
            raise ZeroDivisionError
        return true(kind, at, data, omit)

    monkeypatch.setattr(deliver, "body_of", fail)
    assert await hooks.deliver() == 1
    assert [got.id for got in hooks.receiver.alerts] == [good.id]
    assert [row.reason for row in await hooks.attempts() if row.status is None] == [
        "a fault of receiptd, see its log: ZeroDivisionError"
    ]
    monkeypatch.undo()
    assert timedelta(seconds=5) <= await hooks.until_due(bad) <= timedelta(seconds=5.5)
    assert await hooks.deliver() == 1


async def test_an_endpoint_that_cannot_be_reached_is_an_attempt_that_says_why(hooks: WebhookFixture) -> None:
    _point(hooks, "ops", "http://127.0.0.1:1/ops")
    alert = await hooks.bad_news()
    assert await hooks.deliver() == 0
    (attempt,) = await hooks.attempts()
    assert (attempt.status, (await hooks.dispatch(alert)).outcome) == (None, "pending")
    assert (attempt.reason or "").startswith("ConnectError: ")


def test_the_timestamp_of_a_signature_is_whole_seconds() -> None:
    headers = deliver.sign(b"k" * 24, "a", datetime(2026, 11, 24, 9, 30, 0, 999_999, UTC), b"{}")
    assert headers["webhook-timestamp"] == str(int(START.timestamp()))
    assert headers["webhook-signature"].startswith("v1,")
