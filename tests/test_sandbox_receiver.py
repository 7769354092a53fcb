"""The webhook receiver believes signed posts only; the signer is the standardwebhooks package."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from receiptd.sandbox.receiver import Receiver, new_secret

BODY = json.dumps(
    {
        "type": "receipt.overdue",
        "timestamp": "2026-11-24T09:30:00Z",
        "data": {"escalation": 2, "recipient": {"address": "eve@silent.example"}},
    }
).encode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver({"ops": new_secret(), "boss": new_secret()})
    opened.start()
    yield opened
    opened.stop()


def _post(
    receiver: Receiver,
    *,
    name: str = "ops",
    signer: str = "ops",
    webhook_id: str = "a1",
    body: bytes = BODY,
    sent: bytes | None = None,
    age: timedelta = timedelta(),
) -> int:
    when = datetime.now(UTC) - age
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(when.timestamp())),
        "webhook-signature": "v1,AAAA " + Webhook(receiver.secrets[signer]).sign(webhook_id, when, body.decode()),
    }
    request = urllib.request.Request(receiver.url(name), data=body if sent is None else sent, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_a_signed_post_is_an_alert(receiver: Receiver) -> None:
    assert _post(receiver) == 204
    (alert,) = receiver.alerts
    assert (alert.webhook, alert.id, alert.type, alert.escalation) == ("ops", "a1", "receipt.overdue", 2)
    assert alert.concerns("eve@silent.example")
    assert not alert.concerns("ann@delivers.example")


def test_the_same_webhook_id_again_is_no_second_alert(receiver: Receiver) -> None:
    assert [_post(receiver), _post(receiver)] == [204, 204]
    assert _post(receiver, name="boss", signer="boss") == 204
    assert [alert.webhook for alert in receiver.alerts] == ["ops", "boss"]
    assert receiver.posts == 3


@pytest.mark.parametrize(
    "forgery",
    [
        {"signer": "boss"},
        {"sent": BODY.replace(b"eve", b"ann")},
        {"age": timedelta(minutes=6)},
        {"age": -timedelta(minutes=6)},
        {"body": b"[]"},
        {"body": b"no json"},
    ],
)
def test_a_forged_post_is_refused(receiver: Receiver, forgery: dict[str, object]) -> None:
    assert _post(receiver, **forgery) == 401  # type: ignore[arg-type]
    assert receiver.alerts == []
    assert len(receiver.forged) == 1


def test_a_post_without_headers_is_refused(receiver: Receiver) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(receiver.url("ops"), data=BODY, timeout=5)
    assert refused.value.code == 401
    refused.value.close()


def test_an_unknown_endpoint_is_404(receiver: Receiver) -> None:
    assert _post(receiver, name="nobody") == 404


def test_a_receiver_in_trouble_keeps_nothing_until_it_recovers(receiver: Receiver) -> None:
    receiver.status = 503
    assert _post(receiver) == 503
    assert receiver.alerts == []
    receiver.status = 204
    assert _post(receiver) == 204
    assert len(receiver.alerts) == 1


def test_it_comes_back_on_its_port(receiver: Receiver) -> None:
    before = receiver.url("ops")
    receiver.stop()
    with pytest.raises(urllib.error.URLError):
        _post(receiver)
    receiver.start()
    assert receiver.url("ops") == before
    assert _post(receiver) == 204
