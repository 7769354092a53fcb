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

from receiptd import webhook
from receiptd.alert import takes
from receiptd.errors import BadSettings
from receiptd.facts import EventKind, Source
from receiptd.models import Alert
from receiptd.settings import WebhookSettings
from receiptd.web import api
from receiptd.webhook.body import body_of
from tests.desk import Desk, desk_in
from tests.receiver import SECRET
from tests.stage import START, dsn


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_in(tmp_path) as desk:
        yield desk


# --- what is sent -------------------------------------------------------------------------------------------------


async def test_an_alert_is_signed_and_says_what_the_contract_says(desk: Desk) -> None:
    alert = await desk.bad_news(labels={"order": "17"})
    assert await desk.deliver() == 1
    (got,) = desk.receiver.alerts
    assert (got.endpoint, got.id, got.type) == ("ops", alert.id, "receipt.failed")
    assert set(got.data) == {"message", "recipient", "escalation", "reason", "unproven", "evidence", "link"}
    assert set(got.data["message"]) == {"id", "message_id", "from", "subject", "labels"}
    assert set(got.data["recipient"]) == {
        "id", "address", "delivery", "disposition", "receipt", "level", "deadline",
    }  # fmt: skip
    assert got.data["message"]["labels"] == {"order": "17"}
    assert (got.data["recipient"]["delivery"], got.data["escalation"], got.data["unproven"]) == ("failed", 1, False)
    assert got.data["evidence"].startswith("sha256:")
    assert await desk.deliver() == 0, "it is taken, once and for all"


async def test_the_journal_tells_each_alert_that_is_taken_by_its_ids_alone(desk: Desk) -> None:
    alert = await desk.bad_news()
    with capture_logs() as logs:
        await desk.deliver()
    (told,) = [line for line in logs if line["log_level"] == "info"]
    assert (told["event"], told["webhook"], told["type"]) == ("a webhook took an alert", "ops", "receipt.failed")
    assert (told["alert"], told["recipient"]) == (alert.id, alert.recipient)
    assert told["message"] == alert.data["message"]["id"]
    assert None not in told.values(), "what an alert doesn't have is left out"
    assert alert.data["recipient"]["address"] not in str(logs)


async def test_an_alert_links_to_a_call_that_the_api_has(tmp_path: Path) -> None:
    listen = [{"tcp": "127.0.0.1:8025"}]
    async with desk_in(tmp_path, service={"database": f"sqlite:///{tmp_path}/receiptd.db", "listen": listen}) as desk:
        alert = await desk.bad_news()
        path = alert.data["link"].removeprefix("http://127.0.0.1:8025")
        assert path.rsplit("/", 1) == ["/v1/messages", alert.data["message"]["id"]]
        assert "/v1/messages/{message}" in {getattr(route, "path", "") for part in api.parts() for route in part.routes}


async def test_no_alert_holds_a_token(desk: Desk) -> None:
    taken = await desk.stage.submitted()
    token = taken.recipients[0].token
    raw = dsn(token, action="failed", status="5.1.1").replace(b"smtp; 250 ok", f"smtp; 550 <{token}>".encode())
    await desk.stage.receive(raw)
    await desk.deliver()
    assert token not in json.dumps(desk.receiver.alerts[0].data)


async def test_omit_holds_on_the_wire(tmp_path: Path) -> None:
    async with desk_in(tmp_path, ops={"omit": ["subject", "address"]}) as desk:
        await desk.bad_news()
        await desk.deliver()
        (got,) = desk.receiver.alerts
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
    async with desk_in(tmp_path, ops={"events": ["receipt.*", "receipt.met"]}) as desk:
        taken = await desk.stage.submitted()
        await desk.stage.receive(dsn(taken.recipients[0].token))
        await desk.deliver()
        (got,) = desk.receiver.alerts
        assert (got.endpoint, got.type) == ("ops", "receipt.met")
        assert got.data["evidence"].startswith("sha256:")


async def test_a_receipt_that_is_met_again_after_a_failure_is_told_once(tmp_path: Path) -> None:
    async with desk_in(tmp_path, ops={"events": ["receipt.*", "receipt.met"]}) as desk:
        taken = await desk.stage.submitted()
        (row,) = taken.recipients
        await desk.stage.receive(dsn(row.token), dsn(row.token, action="failed", status="5.0.0"))
        await desk.deliver()
        await desk.stage.tell(row.id, EventKind.CONFIRMED, source=Source.PERSON)
        assert (await desk.stage.recipient(taken)).receipt == "met"
        await desk.deliver()
        told = [got.type for got in desk.receiver.alerts]
        assert sorted(told) == ["receipt.contradicted", "receipt.met", "receipt.resolved"]


async def test_a_persons_word_is_not_told_as_a_receipt_that_came(desk: Desk) -> None:
    alert = await desk.bad_news()
    await desk.deliver()
    await desk.stage.tell(alert.recipient or "", EventKind.CONFIRMED, source=Source.PERSON)
    await desk.deliver()
    resolved = desk.receiver.alerts[-1]
    assert (resolved.type, resolved.data["outcome"]) == ("receipt.resolved", "recovered")
    assert (resolved.data["reason"], resolved.data["evidence"]) == ("A person confirmed the receipt.", None)


async def test_an_automatic_answer_is_told_only_to_those_who_name_it(tmp_path: Path) -> None:
    async with desk_in(tmp_path, ops={"events": ["receipt.auto_reply"]}) as desk:
        taken = await desk.stage.submitted()
        away = (
            f"From: bob@b.test\nTo: receipts+{taken.recipients[0].token}@a.test\nAuto-Submitted: auto-replied\n"
            f"Message-ID: <away@b.test>\nSubject: Out of office\n\nBack soon.\n"
        )
        await desk.stage.receive(away.encode())
        await desk.deliver()
        (got,) = desk.receiver.alerts
        assert (got.endpoint, got.type) == ("ops", "receipt.auto_reply")
        assert "Back soon" in got.data["excerpt"]
        assert got.data["evidence"].startswith("sha256:")


async def test_an_alert_whose_policy_names_no_subscriber_goes_to_whom_it_concerns(tmp_path: Path) -> None:
    async with desk_in(tmp_path, ops={"events": ["monitor.*"]}) as desk:
        await desk.bad_news()
        await desk.deliver()
        assert [got.endpoint for got in desk.receiver.alerts] == ["boss"]


async def test_a_message_whose_policy_is_gone_from_the_settings_is_told_as_default_says(tmp_path: Path) -> None:
    levels = [{"to": ["boss"]}]
    async with desk_in(tmp_path, policy={"contracts": {"levels": levels}, "default": {"levels": levels}}) as desk:
        taken = await desk.stage.submitted(policy="contracts")
        settings = desk.stage.store.settings
        desk.stage.store.settings = settings.model_copy(update={"policy": {"default": settings.policy["default"]}})
        await desk.stage.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
        await desk.deliver()
        assert [(got.endpoint, got.type) for got in desk.receiver.alerts] == [("boss", "receipt.failed")]


# --- until it is taken --------------------------------------------------------------------------------------------


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    hours = {"minutes": 60}
    assert [wait.total_seconds() for wait in webhook.SCHEDULE[:4]] == [0, 5, 300, 1800]
    assert [wait / timedelta(**hours) for wait in webhook.SCHEDULE[4:]] == [2, 5, 10, 14, 20, 24]


async def test_an_alert_is_sent_again_by_the_schedule_under_one_id_until_it_is_taken(desk: Desk) -> None:
    desk.receiver.answers = lambda endpoint: 500 if endpoint == "ops" else 204
    alert = await desk.bad_news()
    for usual in [*webhook.SCHEDULE[1:], webhook.SCHEDULE[-1]]:
        assert await desk.deliver() in (0, 1), "boss takes what ops does not"
        assert usual <= await desk.until_due(alert) <= usual * 1.1
    desk.receiver.answers = lambda _: 204
    await desk.deliver()
    assert {key for _, key in desk.receiver.posts} == {alert.id}
    assert [name for name, _ in desk.receiver.posts].count("ops") == 11
    assert (await desk.dispatch(alert)).outcome == "delivered"
    attempts = [row for row in await desk.attempts() if row.dispatch == (await desk.dispatch(alert)).id]
    assert [row.status for row in attempts] == [500] * 10 + [204]
    assert all((row.reason or "").startswith("HTTP 500") for row in attempts[:-1])


@given(st.integers(0, 50), st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=9))))
def test_the_wait_is_the_schedules_or_longer_if_asked_but_never_beyond_reason(
    attempts: int, asked: timedelta | None
) -> None:
    usual = webhook.SCHEDULE[min(attempts, len(webhook.SCHEDULE) - 1)]
    wait = webhook.wait_after(attempts, asked)
    assert max(usual, min(asked or timedelta(0), timedelta(days=1))) <= wait <= max(usual * 1.1, timedelta(days=1))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed_in_seconds_and_as_a_date(desk: Desk, status: int) -> None:
    desk.receiver.answers = lambda _: status
    alert = await desk.bad_news()
    desk.receiver.headers["retry-after"] = "3600"
    await desk.deliver()
    assert await desk.until_due(alert) == timedelta(hours=1)
    at = desk.stage.instant + timedelta(hours=2)
    desk.receiver.headers["retry-after"] = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    await desk.deliver()
    assert await desk.until_due(alert) == timedelta(hours=2)


async def test_retry_after_means_nothing_with_another_status(desk: Desk) -> None:
    desk.receiver.answers = lambda _: 500
    desk.receiver.headers["retry-after"] = "3600"
    alert = await desk.bad_news()
    await desk.deliver()
    assert await desk.until_due(alert) < timedelta(seconds=6)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1e9", "Tue, 99 Nov 2026 09:30:00 GMT", "Tue, 24 Nov 2026 09:30:00 +99999999999999", "\u0663"],
)
def test_a_retry_after_that_says_nothing_usable_is_none(value: str) -> None:
    assert webhook.read_retry_after(value, START) in (None, timedelta(seconds=3))


def test_a_retry_after_in_the_past_is_now() -> None:
    assert webhook.read_retry_after("Tue, 24 Nov 2020 09:30:00 GMT", START) == timedelta(0)
    assert webhook.read_retry_after("9" * 400, START) == timedelta(seconds=999_999_999)


async def test_a_redirect_is_not_followed(desk: Desk) -> None:
    desk.receiver.answers = lambda endpoint: 307 if endpoint == "ops" else 204
    desk.receiver.headers["location"] = desk.receiver.url("elsewhere")
    alert = await desk.bad_news()
    assert await desk.deliver() == 0
    assert desk.receiver.posts == [("ops", alert.id)]
    (attempt,) = await desk.attempts()
    assert attempt.status == 307


async def test_an_endpoint_that_is_gone_gets_nothing_more_and_the_next_level_is_told_at_once(desk: Desk) -> None:
    desk.receiver.answers = lambda endpoint: 410 if endpoint == "ops" else 204
    alert = await desk.bad_news()
    await desk.deliver()
    assert (await desk.dispatch(alert)).outcome == "gone"
    await desk.deliver()
    assert [got.endpoint for got in desk.receiver.alerts] == ["boss"]
    second = await desk.bad_news("carol@c.test")
    while await desk.deliver():
        pass
    assert [name for name, key in desk.receiver.posts if key == second.id] == ["boss"]


async def test_after_three_failures_the_next_level_is_told_and_the_first_goes_on_being_tried(desk: Desk) -> None:
    desk.receiver.answers = lambda endpoint: 500 if endpoint == "ops" else 204
    alert = await desk.bad_news()
    for _ in range(3):
        assert desk.receiver.alerts == []
        await desk.deliver()
        await desk.until_due(alert)
    await desk.deliver()
    assert [(got.endpoint, got.id) for got in desk.receiver.alerts] == [("boss", alert.id)]
    assert (await desk.dispatch(alert)).outcome == "pending"


async def test_an_alert_that_nobody_takes_is_undelivered_until_somebody_does(desk: Desk) -> None:
    desk.receiver.answers = lambda _: 500
    alert = await desk.bad_news()
    for _ in range(12):
        await desk.deliver()
        desk.pass_time(minutes=3)
    assert [one.undelivered for one in await desk.stage.alerts()] == [True]
    desk.receiver.answers = lambda _: 204
    second = await desk.bad_news("carol@c.test")
    await desk.deliver()
    assert ("ops", second.id) in desk.receiver.posts
    await desk.deliver()
    assert alert.id in {got.id for got in desk.receiver.alerts}, "what was stranded goes out as soon as one is back"
    assert [one.undelivered for one in await desk.stage.alerts()] == [False, False]


async def test_an_endpoint_that_never_answers_is_given_up_in_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert webhook._TIMEOUT == 15
    assert desk.http.timeout.connect == desk.http.timeout.read == 15
    monkeypatch.setattr(webhook, "_TIMEOUT", 0.1)
    alert = await desk.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nX-Slow: ", drip=0.03) as url:
        _point(desk, "ops", url)
        assert await desk.deliver() == 0
    (attempt,) = await desk.attempts()
    assert (attempt.status, (await desk.dispatch(alert)).outcome) == (None, "pending")
    assert attempt.reason == "no answer within 0.1 seconds"


async def test_an_answer_without_end_is_not_read_to_its_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT", 5)
    await desk.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", flood=True) as url:
        _point(desk, "ops", url)
        assert await desk.deliver() == 1


@pytest.mark.parametrize("drip", [0.03, 30])
async def test_an_answer_whose_body_does_not_end_is_one_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, drip: float
) -> None:
    """Its first line says that the alert was taken: what is sent again it would get twice."""
    monkeypatch.setattr(webhook, "_TIMEOUT", 0.5)
    alert = await desk.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", drip=drip) as url:
        _point(desk, "ops", url)
        assert await desk.deliver() == 1
    assert (await desk.dispatch(alert)).outcome == "delivered"


async def test_an_answer_whose_body_breaks_off_is_one_all_the_same(desk: Desk) -> None:
    await desk.bad_news()
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", drip=None) as url:
        _point(desk, "ops", url)
        assert await desk.deliver() == 1


def _point(desk: Desk, name: str, url: str) -> None:
    settings = desk.stage.store.settings
    hooks = tuple(hook.model_copy(update={"url": url}) if hook.name == name else hook for hook in settings.webhook)
    desk.stage.store.settings = settings.model_copy(update={"webhook": hooks})


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


async def _overdue(desk: Desk) -> tuple[str, Alert]:
    """Let a deadline pass; return the token and the alert."""
    taken = await desk.stage.submitted()
    desk.pass_time(hours=5)
    await desk.stage.judge()
    return taken.recipients[0].token, (await desk.stage.alerts())[-1]


async def test_a_resolution_waits_until_its_alert_was_taken(desk: Desk) -> None:
    desk.receiver.answers = lambda _: 500
    token, alert = await _overdue(desk)
    await desk.deliver()
    await desk.stage.receive(dsn(token))
    desk.receiver.answers = lambda _: 204
    assert await desk.deliver() == 0, "the alert itself is not due yet, and nothing overtakes it"
    await desk.until_due(alert)
    await desk.deliver()
    await desk.deliver()
    assert [got.type for got in desk.receiver.alerts] == ["receipt.overdue", "receipt.resolved"]
    resolved = desk.receiver.alerts[-1]
    assert resolved.data["resolves"] == [alert.id]
    assert (resolved.data["outcome"], resolved.data["late"]) == ("met", True)


async def test_each_endpoint_that_may_know_gets_one_resolution(desk: Desk) -> None:
    token, _ = await _overdue(desk)
    await desk.deliver()
    desk.pass_time(hours=24)
    await desk.stage.judge()
    await desk.deliver()
    await desk.stage.receive(dsn(token), dsn(token, action="relayed"))
    while await desk.deliver():
        pass
    told = [(got.endpoint, got.type) for got in desk.receiver.alerts]
    assert told.count(("ops", "receipt.resolved")) == told.count(("boss", "receipt.resolved")) == 1
    assert told.count(("ops", "receipt.overdue")) == 2
    assert told[-1][1] == told[-2][1] == "receipt.resolved"


async def test_where_no_attempt_was_made_neither_alert_nor_resolution_is_sent(desk: Desk) -> None:
    token, _ = await _overdue(desk)
    await desk.stage.receive(dsn(token))
    assert await desk.deliver() == 0
    assert desk.receiver.posts == []


async def test_a_replay_sends_the_same_id_again(desk: Desk) -> None:
    alert = await desk.bad_news()
    await desk.deliver()
    assert await desk.replay(alert) == ["ops"]
    await desk.deliver()
    assert desk.receiver.posts == [("ops", alert.id)] * 2
    assert len(await desk.attempts()) == 2


async def test_a_replay_to_an_endpoint_that_was_gone_brings_what_is_stranded_there_as_well(desk: Desk) -> None:
    desk.receiver.answers = lambda _: 410
    first, second = [await desk.bad_news(f"{name}@b.test") for name in ("bob", "carol")]
    for _ in range(3):
        await desk.deliver()
    assert [alert.undelivered for alert in await desk.stage.alerts()] == [True, True]
    desk.receiver.answers = lambda _: 204
    assert await desk.replay(second) == ["ops", "boss"]
    await desk.deliver()
    assert {got.id for got in desk.receiver.alerts} == {first.id, second.id}
    assert [alert.undelivered for alert in await desk.stage.alerts()] == [False, False]


# --- the secret ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret", ["secret", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
)
def test_a_secret_of_another_form_is_refused_with_the_command_that_makes_one(tmp_path: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(secret)
    entry = WebhookSettings(name="ops", url="http://127.0.0.1:1/", secret_file=tmp_path / "secret")
    with pytest.raises(BadSettings, match="openssl rand") as refusal:
        webhook.secret_of(entry)
    assert len(secret) < 8 or secret not in str(refusal.value)


@pytest.mark.parametrize("around", [("", ""), ("", "\n"), (" ", "\r\n\n")])
def test_white_space_around_a_secret_is_none_of_it(tmp_path: Path, around: tuple[str, str]) -> None:
    (tmp_path / "secret").write_text(SECRET.join(around))
    entry = WebhookSettings(name="ops", url="http://127.0.0.1:1/", secret_file=tmp_path / "secret")
    assert webhook.secret_of(entry) == base64.b64decode(SECRET.removeprefix("whsec_"))


async def test_what_was_not_taken_is_signed_with_the_new_secret_once_the_file_holds_one(
    desk: Desk, tmp_path: Path
) -> None:
    desk.receiver.answers = lambda _: 401
    alert = await desk.bad_news()
    await desk.deliver()
    desk.receiver.secret = "whsec_" + base64.b64encode(b"another key of 32 bytes in all..").decode()
    (tmp_path / "secret").write_text(desk.receiver.secret)
    desk.receiver.answers = lambda _: 204
    await desk.until_due(alert)
    assert await desk.deliver() == 1


async def test_an_endpoint_whose_secret_is_gone_is_an_attempt_like_any_other(desk: Desk, tmp_path: Path) -> None:
    alert = await desk.bad_news()
    (tmp_path / "secret").unlink()
    assert await desk.deliver() == 0
    (attempt,) = await desk.attempts()
    assert "can't be read" in (attempt.reason or "")
    (tmp_path / "secret").write_text(SECRET)
    await desk.until_due(alert)
    assert await desk.deliver() == 1


async def test_a_dispatch_that_raises_stops_no_other_and_is_an_attempt_like_any_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await desk.bad_news(), await desk.bad_news("carol@c.test")
    true = body_of

    def fail(kind: str, at: datetime, data: dict[str, Any], omit: tuple[str, ...]) -> bytes:
        if data["recipient"]["address"] == "bob@b.test":
            raise ZeroDivisionError
        return true(kind, at, data, omit)

    monkeypatch.setattr(webhook, "body_of", fail)
    assert await desk.deliver() == 1
    assert [got.id for got in desk.receiver.alerts] == [good.id]
    assert [row.reason for row in await desk.attempts() if row.status is None] == [
        "a fault of receiptd, see its log: ZeroDivisionError"
    ]
    monkeypatch.undo()
    assert timedelta(seconds=5) <= await desk.until_due(bad) <= timedelta(seconds=5.5)
    assert await desk.deliver() == 1


async def test_an_endpoint_that_cannot_be_reached_is_an_attempt_that_says_why(desk: Desk) -> None:
    _point(desk, "ops", "http://127.0.0.1:1/ops")
    alert = await desk.bad_news()
    assert await desk.deliver() == 0
    (attempt,) = await desk.attempts()
    assert (attempt.status, (await desk.dispatch(alert)).outcome) == (None, "pending")
    assert (attempt.reason or "").startswith("ConnectError: ")


def test_the_timestamp_of_a_signature_is_whole_seconds() -> None:
    headers = webhook.sign(b"k" * 24, "a", datetime(2026, 11, 24, 9, 30, 0, 999_999, UTC), b"{}")
    assert headers["webhook-timestamp"] == str(int(START.timestamp()))
    assert headers["webhook-signature"].startswith("v1,")
