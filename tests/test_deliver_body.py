"""What a webhook is told: always under 20 kB, and nothing of what its endpoint must not see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiptd import compose
from receiptd.accept import SubmitOptions, accept
from receiptd.deliver.body import body_of
from receiptd.facts import EventKind
from tests.steps_fixture import START
from tests.webhook_fixture import WebhookFixture, open_webhooks

PILE = "\U0001f4a9"


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[WebhookFixture]:
    async with open_webhooks(tmp_path) as hooks:
        yield hooks


def body(data: dict[str, Any], *omit: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(body_of("receipt.failed", START, data, omit))
    return shown


def receipt(**changes: Any) -> dict[str, Any]:
    """Return the data of an alert about a recipient."""
    data: dict[str, Any] = {
        "message": {"id": "m", "message_id": "<1@a.test>", "from": "me@a.test", "subject": "Contract 7", "labels": {}},
        "recipient": {"id": "r", "address": "Bob@b.test", "delivery": "failed"},
        "reason": "A report says that delivery failed.",
    }
    return data | changes


async def test_a_message_whose_header_is_as_long_as_its_sender_liked_is_told_in_less_than_20_kb(
    hooks: WebhookFixture,
) -> None:
    """The receiver asserts the bound."""
    long = "\r\n ".join([PILE * 200] * 500)
    raw = (
        f"From: {'f' * 64}@a.test\r\nTo: bob@b.test\r\nSubject: {long}\r\n"
        f"Message-ID: <{'i' * 900}@a.test>\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\n\r\nGood day.\r\n"
    )
    labels = {f"{n:03}": '"\\' * 100 for n in range(1000)}
    taken = await accept(
        hooks.steps.store, compose.adopt(raw.encode(), now=START), SubmitOptions(owner="uid:1", labels=labels)
    )
    await hooks.steps.tell(taken.recipients[0].id, EventKind.FAILED)
    assert await hooks.deliver() == 1
    (got,) = hooks.receiver.alerts
    assert got.data["message"]["id"] == taken.message.id
    assert got.address == "bob@b.test"
    assert got.data["message"]["subject"].startswith(PILE)


@example("\\" * 500, "\x01" * 500, {f"{n:064}": '"' * 256 for n in range(1000)}, ["f" * 32] * 300)
@given(
    st.text(max_size=3000),
    st.text(max_size=30_000),
    st.dictionaries(st.text(max_size=70), st.text(max_size=300), max_size=40),
    st.lists(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32), max_size=300),
)
def test_a_body_is_under_20_kb_and_names_whom_it_is_about_whatever_stands_in_it(
    subject: str, text: str, labels: dict[str, str], resolves: list[str]
) -> None:
    data = receipt(reason=text, excerpt=text, resolves=resolves * 3)
    data["message"] |= {"subject": subject * 9, "labels": labels}
    content = body_of("receipt.failed", START, data, ())
    assert len(content) < 20_000
    told = json.loads(content)["data"]
    assert (told["message"]["id"], told["recipient"]["address"]) == ("m", "Bob@b.test")


def test_a_body_that_is_short_enough_is_not_cut() -> None:
    data = receipt(excerpt="x" * 5000, labels={"a": "b" * 5000})
    assert body(data)["data"] == data


def test_half_a_surrogate_pair_stops_no_alert() -> None:
    assert body(receipt(reason="half \ud83d"))["data"]["reason"] == "half ?"


def test_what_an_endpoint_must_not_see_is_left_out_for_it_alone() -> None:
    data = {"message": {"id": "m", "subject": "Secret"}, "recipient": {"id": "r", "address": "bob@b.test"}}
    assert body(data, "subject", "address")["data"] == {"message": {"id": "m"}, "recipient": {"id": "r"}}
    assert body(data)["data"] == data
    assert body({"what": "relay"}, "subject", "address") == {
        "type": "receipt.failed", "timestamp": "2026-11-24T09:30:00Z", "data": {"what": "relay"},
    }  # fmt: skip


def test_what_an_endpoint_must_not_see_is_not_told_in_words_either() -> None:
    data = receipt(
        reason="A report of bob@b.test says that delivery failed.", excerpt="Re: contract 7. I, BOB@B.TEST, am away."
    )
    told = body(data, "subject", "address")["data"]
    assert told["reason"] == "A report of … says that delivery failed."
    assert told["excerpt"] == "Re: …. I, …, am away."
    assert body(data)["data"] == data


def test_a_short_subject_is_not_struck_out_of_every_word() -> None:
    data = receipt(excerpt="I am away.")
    data["message"]["subject"] = "a"
    assert body(data, "subject")["data"]["excerpt"] == "I am away."


def test_of_many_recipients_no_address_is_told_where_it_is_omitted() -> None:
    data = {"recipients": [{"id": "r", "address": "bob@b.test"}, {"id": "s", "address": "carol@b.test"}], "count": 2}
    assert body(data, "address")["data"] == {"recipients": [{"id": "r"}, {"id": "s"}], "count": 2}
