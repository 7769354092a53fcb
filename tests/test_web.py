"""The HTTP API as programs see it: shapes, codes, bounds, and who may do what."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import select
from structlog.testing import capture_logs

from receiptd import correlation_token as tokens
from receiptd.client import path as path_of
from receiptd.facts import EventKind, Source
from receiptd.models import Alert, Dispatch, Message
from receiptd.smtp import Capabilities
from receiptd.store import reports
from receiptd.web import api, auth
from tests.api_fixture import ApiFixture, Json, instant, letter, open_api
from tests.steps_fixture import START, dsn

RFC822 = {"content-type": "message/rfc822"}
RAW = b"From: office@a.test\nTo: bob@b.test\nBcc: carol@c.test\nSubject: An invoice\n\nGood day.\n"
GOT_SHAPE = {
    "id", "message_id", "from", "sender", "subject", "created_at", "policy", "labels", "resent_from", "recipients",
    "events",
}  # fmt: skip
RECIPIENT_SHAPE = {
    "id", "address", "role", "require", "deadline", "delivery", "disposition", "receipt", "level", "reason",
    "dsn_requested", "mdn_requested", "trust", "branches",
}  # fmt: skip
EVENT_SHAPE = {
    "id", "recipient", "kind", "observed_at", "occurred_at", "source", "trust", "matched_by", "final_recipient",
    "count", "evidence", "detail",
}  # fmt: skip


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(tmp_path) as server:
        yield server


async def _get(client: httpx2.AsyncClient, path: str, **query: Any) -> Json:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    got: Json = answer.json()
    return got


def _is_problem(answer: httpx2.Response, status: int, exit_status: int) -> str:
    """Return the sentence of an RFC 9457 problem that says *status* and *exit_status*."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "exit_status"}
    assert (body["status"], body["exit_status"]) == (status, exit_status)
    sentence: str = body["detail"]
    return sentence


# --- taking messages ----------------------------------------------------------------------------------------------


async def test_a_message_that_is_taken_is_on_disk_when_202_is_said(server: ApiFixture) -> None:
    taken = await server.send(cc="carol@c.test", labels={"order": "17"})
    assert set(taken) == {"id", "message_id", "recipients", "warnings"}
    assert [set(row) for row in taken["recipients"]] == [{"id", "address"}] * 2
    async with server.steps.store.read() as session:
        assert (await session.get_one(Message, taken["id"])).message_id == taken["message_id"]
    assert server.wakes == 1, "submit is woken"


async def test_a_complete_message_goes_to_whom_its_header_names_and_without_its_bcc(server: ApiFixture) -> None:
    answer = await server.api.post("/v1/messages", content=RAW, headers=RFC822)
    assert [row["address"] for row in answer.json()["recipients"]] == ["bob@b.test", "carol@c.test"]
    raw = await server.api.get(f"/v1/messages/{answer.json()['id']}/raw")
    assert b"Bcc" not in raw.content
    assert raw.content.endswith(b"\r\n\r\nGood day.\r\n")


async def test_the_query_of_a_complete_message_says_to_whom_and_on_what_terms(server: ApiFixture) -> None:
    query = "to=dave@d.test&require=delivered&within=3d&label=order=17&label=site=x&mdn=never"
    answer = await server.api.post(f"/v1/messages?{query}", content=RAW, headers=RFC822)
    got = await _get(server.api, f"/v1/messages/{answer.json()['id']}")
    (row,) = got["recipients"]
    assert (row["address"], row["require"], row["mdn_requested"]) == ("dave@d.test", "delivered", False)
    assert got["labels"] == {"order": "17", "site": "x"}


async def test_a_null_character_in_an_encoded_word_keeps_no_message_from_its_way(server: ApiFixture) -> None:
    """PostgreSQL has no text that holds one; the message itself passes as it is."""
    subject = b"=?utf-8?q?x=00y?="
    raw = RAW.replace(b"An invoice", subject)
    sent = (await server.api.post("/v1/messages", content=raw, headers=RFC822)).json()
    assert (await _get(server.api, f"/v1/messages/{sent['id']}"))["subject"] == "x\ufffdy"
    assert subject in (await server.api.get(f"/v1/messages/{sent['id']}/raw")).content


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (RAW.replace(b"Good", b"x" * 999), "998"),
        (RAW.replace(b"Good", b"\0"), "null character"),
        (b"Message-ID: <a\0b@a.test>\n" + RAW, "null character"),
        (b"From: eve@a.test\n" + RAW, "2 From fields"),
    ],
    ids=["long line", "null", "null in the Message-ID", "two From fields"],
)
async def test_a_message_that_must_fail_is_refused_and_nothing_is_stored(
    server: ApiFixture, raw: bytes, words: str
) -> None:
    assert words in _is_problem(await server.api.post("/v1/messages", content=raw, headers=RFC822), 422, 65)
    assert (await _get(server.api, "/v1/messages"))["items"] == []


async def test_what_is_over_the_relays_last_known_size_is_refused(server: ApiFixture) -> None:
    server.offered = Capabilities(dsn=True, size=10_000)
    assert (await server.send(text="x\n" * 2_500))["warnings"] == []
    answer = await server.api.post("/v1/messages", json=letter(text="x\n" * 5_000))
    assert "10000" in _is_problem(answer, 413, 65)
    assert len((await _get(server.api, "/v1/messages"))["items"]) == 1


async def test_a_copy_that_only_our_own_header_lines_make_too_large_is_refused(server: ApiFixture) -> None:
    server.offered = Capabilities(dsn=True, size=len(RAW) + 60)
    assert _is_problem(await server.api.post("/v1/messages", content=RAW, headers=RFC822), 413, 65)


async def test_a_relay_that_has_raised_its_limit_meanwhile_is_asked_before_a_message_is_refused(
    server: ApiFixture,
) -> None:
    server.offered, server.offers_now = Capabilities(dsn=True, size=10_000), Capabilities(dsn=True, size=20_000)
    await server.send(text="x\n" * 5_000)


async def test_a_limit_that_is_not_known_yet_is_asked_for_when_a_message_is_large(server: ApiFixture) -> None:
    server.offered, server.offers_now = None, Capabilities(dsn=True, size=70_000)
    await server.send(text="x\n" * 100)
    assert "70000" in _is_problem(await server.api.post("/v1/messages", json=letter(text="x\n" * 40_000)), 413, 65)


async def test_no_limit_refuses_nothing(server: ApiFixture) -> None:
    for server.offered in (None, Capabilities(dsn=True, size=0), Capabilities(dsn=True)):
        await server.send(text="x\n" * 5_000)


@pytest.mark.parametrize("word", ["ä".encode(), b"\xe4"], ids=["UTF-8", "Latin-1"])
async def test_a_raw_8_bit_header_is_a_warning_where_the_relay_has_no_smtputf8(server: ApiFixture, word: bytes) -> None:
    raw = RAW.replace(b"An invoice", word)
    server.offered = Capabilities(dsn=True, eightbitmime=True)
    for headers in (RFC822, RFC822 | {"idempotency-key": "k"}, RFC822 | {"idempotency-key": "k"}):
        answer = await server.api.post("/v1/messages", content=raw, headers=headers)
        assert answer.status_code == 202
        assert "SMTPUTF8" in answer.json()["warnings"][0]
    server.offered = Capabilities(dsn=True, eightbitmime=True, smtputf8=True)
    answer = await server.api.post("/v1/messages", content=raw, headers=RFC822)
    assert not any("SMTPUTF8" in warning for warning in answer.json()["warnings"])


async def test_an_8_bit_body_is_a_warning_where_the_relay_has_no_8bitmime(server: ApiFixture) -> None:
    server.offered = Capabilities(dsn=True, smtputf8=True)
    answer = await server.api.post("/v1/messages", content=RAW + "ä".encode(), headers=RFC822)
    assert "8BITMIME" in answer.json()["warnings"][0]


async def test_a_message_id_that_was_handed_over_before_is_a_warning(server: ApiFixture) -> None:
    raw = b"Message-ID: <1@a.test>\n" + RAW
    first, second = [(await server.api.post("/v1/messages", content=raw, headers=RFC822)).json() for _ in range(2)]
    assert first["warnings"] == []
    assert first["id"] != second["id"]
    assert "<1@a.test> was handed over before" in second["warnings"][0]
    assert first["id"] not in second["warnings"][0]


async def test_a_message_id_that_no_index_holds_is_refused(server: ApiFixture) -> None:
    named = b"Message-ID: <" + b"x" * 3000 + b"@a.test>\n" + RAW
    assert "998 octets" in _is_problem(await server.api.post("/v1/messages", content=named, headers=RFC822), 422, 65)


async def test_the_envelopes_owner_is_kept_and_the_author_stays_who_the_header_says(server: ApiFixture) -> None:
    answer = await server.api.post("/v1/messages?sender=Boss+%3Cboss@A.test%3E", content=RAW, headers=RFC822)
    got = await _get(server.api, f"/v1/messages/{answer.json()['id']}")
    assert (got["from"], got["sender"]) == ("office@a.test", "boss@a.test")
    assert [item["id"] for item in (await _get(server.api, "/v1/messages?q=boss@"))["items"]] == [got["id"]]
    answer = await server.api.post("/v1/messages?sender=office@A.test", content=RAW, headers=RFC822)
    assert (await _get(server.api, f"/v1/messages/{answer.json()['id']}"))["sender"] is None


@pytest.mark.parametrize("sender", ["nobody", "a@a.test,b@b.test", "a@a.test%0ABcc:x@y.test", "@"])
async def test_an_envelopes_owner_that_is_no_address_is_refused(server: ApiFixture, sender: str) -> None:
    answer = await server.api.post(f"/v1/messages?sender={sender}", content=RAW, headers=RFC822)
    assert _is_problem(answer, 422, 65)


async def test_a_message_in_json_has_no_other_owner_than_its_from(server: ApiFixture) -> None:
    answer = await server.api.post("/v1/messages", json=letter(sender="boss@a.test"))
    assert "sender" in _is_problem(answer, 422, 65)


async def test_attachments_are_bytes_in_the_request(server: ApiFixture) -> None:
    content = base64.b64encode(b"%PDF-1.7 \x00\xff").decode()
    taken = await server.send(
        attachments=[{"filename": "c.pdf", "content_type": "application/pdf", "content": content}], html="<p>Good day."
    )
    raw = (await server.api.get(f"/v1/messages/{taken['id']}/raw")).content
    assert content.encode() in raw


NOT_TAKEN: list[Any] = [
    ({"to": []}, "recipient"),
    ({"to": ["nobody"]}, "nobody"),
    ({"to": ["bob@b.test\r\nBcc: eve@e.test"]}, ""),
    ({"policy": "none"}, "policy"),
    ({"require": "read"}, "require"),
    ({"require": "replied"}, "repl"),
    ({"within": "soon"}, "within"),
    ({"within": 1e300}, "within"),
    ({"within": 500_000_000_000}, "within"),
    ({"within": "0s"}, "within"),
    ({"within": -5}, "within"),
    ({"tos": ["x"]}, "tos"),
    ({"labels": {"k": 1}}, "labels"),
    ({"labels": {f"k{n}": "" for n in range(21)}}, "labels"),
    ({"labels": {"k": "v" * 257}}, "labels"),
    ({"labels": {f"k{n}": "\u20ac" * 256 for n in range(20)}}, "labels"),
    ({"labels": {"k": "\x00"}}, "labels"),
    ({"headers": {"X-A": "b\r\nBcc: eve@e.test"}}, ""),
    ({"attachments": [{"filename": "/etc/passwd", "content": "/etc/passwd!"}]}, "base64"),
    ({"to": [f"u{n}@b.test" for n in range(1001)]}, "1001"),
]


async def test_what_cannot_be_taken_is_422_with_a_sentence_and_nothing_is_stored(
    server: ApiFixture,
) -> None:
    for changes, word in NOT_TAKEN:
        answer = await server.api.post("/v1/messages", json=letter(**changes))
        assert word in _is_problem(answer, 422, 65), changes
    assert (await _get(server.api, "/v1/messages"))["items"] == []
    assert server.wakes == 0


SENTENCES: list[Any] = [
    ({"within": 7}, 'within: write a text with its unit, such as "7d" (s, m, h, d)'),
    ({"within": "0s"}, 'within: write a duration above zero, such as "4h"'),
    ({"labels": {"k": "a\nb"}}, "labels: a label is one line of text without control characters"),
    ({"labels": {"k": 1}}, "labels.k: write a text"),
    ({"mdn": "perhaps"}, 'mdn: write "always" or "never"'),
    ({"require": "read"}, "require: write 'accepted', 'relayed', 'delivered', 'displayed' or 'replied'"),
    ({"subjekt": "x"}, "subjekt: there is no such field; did you mean 'subject'? There are policy, require, within"),
    ({"query": 1}, "query: there is no such field; did you mean"),
    ({"attachments": [{"name": "a"}]}, "attachments.0.filename: this is missing"),
    ({"headers": [1]}, 'headers: write {"Name": "value"} or [["Name", "value"]]'),
]


async def test_what_is_wrong_is_said_with_what_to_write_instead(server: ApiFixture) -> None:
    for changes, said in SENTENCES:
        answer = await server.api.post("/v1/messages", json=letter(**changes))
        detail = _is_problem(answer, 422, 65)
        assert detail.startswith(said), changes
        assert "Input should" not in detail
    (row,) = (await server.steps.submitted()).recipients
    answer = await server.api.post(f"/v1/recipients/{row.id}/acknowledge", json={"reason": "seen", "for": 7})
    assert _is_problem(answer, 422, 65).startswith('for: write a text with its unit, such as "7d"')
    assert (
        _is_problem(await server.api.get("/v1/messages?limit=201"), 422, 65) == "limit: write a number of at most 200"
    )


MISTYPED: list[Any] = [
    (
        "/v1/messages?reciept=failed",
        "'reciept' isn't a parameter of GET /v1/messages; did you mean 'receipt'? "
        "It takes receipt, label, q, after, limit",
    ),
    ("/v1/events?limits=1", "'limits' isn't a parameter of GET /v1/events; did you mean 'limit'? It takes stream,"),
    ("/v1/reports?verdicts=noise", "'verdicts' isn't a parameter of GET /v1/reports; did you mean 'verdict'?"),
    ("/v1/alerts?typ=x", "'typ' isn't a parameter of GET /v1/alerts; did you mean 'type'? It takes type, after, limit"),
    ("/v1/messages/x?events=1", "'events' isn't a parameter of GET /v1/messages/{message}: it takes none"),
]


async def test_a_parameter_that_is_not_known_is_refused_and_the_nearest_is_named(server: ApiFixture) -> None:
    for path, said in MISTYPED:
        assert _is_problem(await server.api.get(path), 422, 65).startswith(said)


async def test_a_decision_takes_no_parameters(server: ApiFixture) -> None:
    sent = await server.send()
    row = sent["recipients"][0]["id"]
    answer = await server.api.post(f"/v1/recipients/{row}/waive?for=1d", json={"reason": "x"})
    assert "it takes none" in _is_problem(answer, 422, 65)
    answer = await server.api.post(f"/v1/messages/{sent['id']}/cancel?force=1")
    assert "it takes none" in _is_problem(answer, 422, 65)
    assert (await _get(server.api, f"/v1/messages/{sent['id']}"))["recipients"][0]["receipt"] == "open"


async def test_a_parameter_that_takes_one_value_is_given_once(server: ApiFixture) -> None:
    for query in ("q=a&q=b", "limit=1&limit=2", f"after={'0' * 32}&after={'1' * 32}"):
        name = query.partition("=")[0]
        assert f"'{name}' stands there more than once" in _is_problem(
            await server.api.get(f"/v1/messages?{query}"), 422, 65
        )
    twice = await server.api.post("/v1/messages?within=1h&within=2h", content=RAW, headers=RFC822)
    assert "'within' stands there more than once" in _is_problem(twice, 422, 65)


async def test_the_journal_has_a_line_for_each_message_taken_and_names_nobody(server: ApiFixture) -> None:
    with capture_logs() as told:
        taken = await server.send(to=["bob@b.test", "carol@c.test"])
    (line,) = [line for line in told if line["event"] == "a message was taken"]
    assert (line["message"], line["recipients"], line["policy"]) == (taken["id"], 2, "default")
    assert "@" not in repr(line)


NO_MESSAGES: list[Any] = [
    (b"{", "application/json"),
    (b"[]", "application/json"),
    (b"\xff", "application/json"),
    (b"", "application/json"),
    (b"x", "text/plain"),
    (b"", "message/rfc822"),
    (b"Subject: none\n\nx", "message/rfc822"),
]


async def test_what_is_no_message_is_422(server: ApiFixture) -> None:
    for content, kind in NO_MESSAGES:
        answer = await server.api.post("/v1/messages", content=content, headers={"content-type": kind})
        assert _is_problem(answer, 422, 65)


BAD_TERMS: list[Any] = [
    "require=read", "within=soon", "require_all=perhaps", "mdn=perhaps", "policy=none", "label=order", "label==17",
    "requires=displayed", "policy=%00",
]  # fmt: skip


async def test_terms_that_cannot_be_read_are_422(server: ApiFixture) -> None:
    for query in BAD_TERMS:
        answer = await server.api.post(f"/v1/messages?{query}", content=RAW, headers=RFC822)
        assert query.partition("=")[0] in _is_problem(answer, 422, 65)


async def test_a_label_is_said_once(server: ApiFixture) -> None:
    answer = await server.api.post("/v1/messages?label=order=17&label=order=18", content=RAW, headers=RFC822)
    assert "order" in _is_problem(answer, 422, 65)


async def test_terms_beside_a_message_in_json_are_422_for_they_would_count_for_nothing(server: ApiFixture) -> None:
    answer = await server.api.post("/v1/messages?require=displayed", json=letter())
    assert "require" in _is_problem(answer, 422, 65)


async def test_a_message_beyond_the_bound_is_413(server: ApiFixture) -> None:
    answer = await server.api.post("/v1/messages", content=RAW + b"x" * (1 << 20), headers=RFC822)
    assert "larger than 1M ([service] max_message)" in _is_problem(answer, 413, 65)


async def test_a_message_beyond_the_bound_that_does_not_say_its_length_is_413(server: ApiFixture) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    answer = await server.api.post("/v1/messages", content=endless(), headers=RFC822)
    assert "larger than 1M ([service] max_message)" in _is_problem(answer, 413, 65)


async def test_a_json_message_far_beyond_the_bound_is_told_the_bound_that_was_set(server: ApiFixture) -> None:
    content = base64.b64encode(bytes(3 << 20)).decode()
    answer = await server.api.post("/v1/messages", json=letter(attachments=[{"filename": "x", "content": content}]))
    assert "larger than 1M ([service] max_message)" in _is_problem(answer, 413, 65)


async def test_a_json_message_that_is_large_only_when_composed_is_413(server: ApiFixture) -> None:
    content = base64.b64encode(bytes(1 << 20)).decode()
    answer = await server.api.post("/v1/messages", json=letter(attachments=[{"filename": "x", "content": content}]))
    assert "larger than 1M" in _is_problem(answer, 413, 65)


async def test_a_relay_without_dsn_is_a_warning_in_the_answer(server: ApiFixture) -> None:
    assert (await server.send())["warnings"] == []
    server.offered = Capabilities(smtputf8=True, eightbitmime=True)
    assert "no DSN" in (await server.send())["warnings"][0]


# --- the same key twice -------------------------------------------------------------------------------------------


async def _post(client: httpx2.AsyncClient, key: str, **changes: Any) -> httpx2.Response:
    return await client.post("/v1/messages", json=letter(**changes), headers={"idempotency-key": key})


async def test_the_same_key_twice_is_one_message(server: ApiFixture) -> None:
    first, second = [(await _post(server.api, "k")).json() for _ in range(2)]
    assert first == second
    assert len((await _get(server.api, "/v1/messages"))["items"]) == 1
    assert server.wakes == 1


async def test_the_same_key_at_the_same_moment_is_one_message(server: ApiFixture) -> None:
    answers = await asyncio.gather(*(_post(server.api, "k") for _ in range(8)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert {answer.status_code for answer in answers} == {202}


async def test_a_key_with_another_body_or_other_terms_is_422(server: ApiFixture) -> None:
    await _post(server.api, "k")
    assert "'k'" in _is_problem(await _post(server.api, "k", text="Good night."), 422, 65)
    await server.api.post("/v1/messages?to=x@b.test", content=RAW, headers=RFC822 | {"idempotency-key": "q"})
    other = await server.api.post("/v1/messages?to=y@b.test", content=RAW, headers=RFC822 | {"idempotency-key": "q"})
    assert _is_problem(other, 422, 65)


async def test_a_key_with_another_kind_of_body_is_422(server: ApiFixture) -> None:
    """The same octets may be a message of either kind; a header that says no more is the same request."""
    body = json.dumps(letter()).encode()
    kinds = ("application/json", "Application/JSON; charset=utf-8", "message/rfc822")
    answers = [
        await server.api.post("/v1/messages", content=body, headers={"content-type": kind, "idempotency-key": "k"})
        for kind in kinds
    ]
    assert answers[0].json() == answers[1].json()
    _is_problem(answers[2], 422, 65)
    raw = {"from": "a@a.test", "to": "b@b.test", "text": "x"}
    both = b"From: a@a.test\nTo: b@b.test\n\n" + json.dumps(raw).encode()
    await server.api.post("/v1/messages", content=both, headers=RFC822 | {"idempotency-key": "q"})
    again = await server.api.post(
        "/v1/messages?require=delivered", content=both, headers=RFC822 | {"idempotency-key": "q"}
    )
    assert "'q'" in _is_problem(again, 422, 65)


async def test_a_key_is_its_senders_own(server: ApiFixture) -> None:
    mine, theirs = await _post(server.api, "k"), await _post(server.over_tcp("erp"), "k")
    assert mine.json()["id"] != theirs.json()["id"]


async def test_a_key_is_free_again_after_seven_days(server: ApiFixture) -> None:
    first = (await _post(server.api, "k")).json()
    server.steps.pass_time(days=6, hours=23)
    assert (await _post(server.api, "k")).json() == first
    server.steps.pass_time(hours=2)
    second = (await _post(server.api, "k", text="Good night.")).json()
    assert second["id"] != first["id"]
    assert (await _post(server.api, "k", text="Good night.")).json() == second


async def test_a_key_may_not_be_endless(server: ApiFixture) -> None:
    assert "200" in _is_problem(await _post(server.api, "k" * 201), 422, 65)


# --- when something is broken --------------------------------------------------------------------------------------


async def test_a_database_without_room_is_503_and_says_when_to_come_again(server: ApiFixture) -> None:
    await server.steps.store.transact(lambda one: one.connection().exec_driver_sql("PRAGMA max_page_count = 1"))
    answer = await server.api.post("/v1/messages", json=letter(text="x" * 500_000))
    assert "full" in _is_problem(answer, 503, 75)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_statement_that_the_database_refuses_is_our_fault_and_told_once_to_those_who_run_us(
    server: ApiFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be refused the next time as well: nobody is told to try again, or to fix the database."""
    async with server.steps.store.write() as session:
        connection = await session.connection()
        await connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON message BEGIN SELECT RAISE(ABORT, 'inside'); END"
        )
    answer = await server.api.post("/v1/messages", json=letter())
    assert "inside" not in _is_problem(answer, 500, 70)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "IntegrityError" in str(record.exc_info and record.exc_info[1].__class__)


# --- reading ------------------------------------------------------------------------------------------------------


async def test_a_message_is_shown_in_the_contracts_shape(server: ApiFixture) -> None:
    steps = server.steps
    taken = await steps.submitted()
    row = taken.recipients[0]
    await steps.receive(dsn(row.token))
    got = await _get(server.api, f"/v1/messages/{taken.message.id}")
    assert set(got) == GOT_SHAPE
    (shown,) = got["recipients"]
    assert set(shown) == RECIPIENT_SHAPE
    assert shown["branches"] == [{"final_recipient": "bob@b.test", "delivery": "delivered", "disposition": "none"}]
    expected = {
        "role": "to", "require": "relayed", "delivery": "delivered", "disposition": "none", "receipt": "met",
        "level": "delivered", "dsn_requested": True, "mdn_requested": True, "trust": "keyed",
    }  # fmt: skip
    assert expected.items() <= shown.items()
    assert instant(got["created_at"]) == START
    assert instant(shown["deadline"]) == START + timedelta(hours=4)
    assert [event["kind"] for event in got["events"]] == ["queued", "accepted", "delivered", "met"]
    assert all(set(event) == EVENT_SHAPE for event in got["events"])
    told = got["events"][2]
    assert (told["source"], told["trust"], told["matched_by"], told["count"]) == ("dsn", "keyed", "return_path", 1)
    assert told["evidence"].startswith("sha256:")
    assert told["detail"]["reporting_mta"] == "mail.b.test"
    assert told["detail"]["status"] == "2.0.0"
    events = await _get(server.api, f"/v1/messages/{taken.message.id}/events")
    assert events == {"items": got["events"], "next": None}


async def test_an_acknowledgement_is_answered_with_the_time_it_holds(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    await server.steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
    path = f"/v1/recipients/{taken.recipients[0].id}/acknowledge"
    answer = (await server.api.post(path, json={"reason": "on it", "for": "2h"})).json()
    assert set(answer) == RECIPIENT_SHAPE | {"acknowledged_until"}
    assert instant(answer["acknowledged_until"]) == server.steps.instant + timedelta(hours=2)


UNREACHABLE = "relay.test:25 can't be reached (Connection refused); check [submission] url and the firewall"


async def test_what_is_queued_says_why_it_waits_while_the_relay_cant_be_reached(server: ApiFixture) -> None:
    sent = await server.send()
    path = f"/v1/messages/{sent['id']}"
    assert (await _get(server.api, path))["recipients"][0]["reason"] is None
    server.relay.down(server.steps.instant, UNREACHABLE, permanent=False)
    waits = f"It waits for the relay: {UNREACHABLE}."
    retried = (await server.api.post(f"{path}/retry")).json()
    listed = (await _get(server.api, "/v1/messages"))["items"][0]
    for shown in (await _get(server.api, path), listed, retried):
        assert [row["reason"] for row in shown["recipients"]] == [waits]
    row = sent["recipients"][0]["id"]
    waived = (await server.api.post(f"/v1/recipients/{row}/waive", json={"reason": "x"})).json()
    assert waived["reason"].endswith(f" {waits}"), "what a person decided is said first"
    server.relay.up()
    assert "waits" not in (await _get(server.api, path))["recipients"][0]["reason"]


async def test_a_relay_that_cant_be_reached_is_no_reason_for_what_it_has_taken(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    server.relay.down(server.steps.instant, UNREACHABLE, permanent=False)
    assert (await _get(server.api, f"/v1/messages/{taken.message.id}"))["recipients"][0]["reason"] is None


NOT_THERE: list[Any] = [
    "/v1/messages/none",
    "/v1/messages/none/events",
    "/v1/messages/none/raw",
    "/v1/reports/none/raw",
]


async def test_what_is_not_there_is_404(server: ApiFixture) -> None:
    for path in NOT_THERE:
        assert "none" in _is_problem(await server.api.get(path), 404, 65)


async def test_a_slash_in_an_id_leads_to_no_other_call(server: ApiFixture) -> None:
    """The commands escape it, and the daemon decodes it only when it has chosen the call."""
    sent = await server.send()
    for path in ("raw", "events", "../" + sent["id"]):
        asked = path_of("messages", f"{sent['id']}/{path}")
        assert "there is no message" in _is_problem(await server.api.get(asked), 404, 65)
    waived = path_of("messages", f"../recipients/{sent['recipients'][0]['id']}/waive", "cancel")
    assert "no message" in _is_problem(await server.api.post(waived), 404, 65)
    assert _is_problem(await server.api.get("/v1/messages/"), 404, 64)


async def test_a_path_that_is_no_call_is_a_problem_too(server: ApiFixture) -> None:
    assert "GET /v2/messages isn't a call" in _is_problem(await server.api.get("/v2/messages"), 404, 64)
    answer = await server.api.delete("/v1/messages")
    assert "it takes GET, POST" in _is_problem(answer, 405, 64)
    assert answer.headers["allow"] == "GET, POST"


async def _walk(client: httpx2.AsyncClient, path: str, **query: Any) -> list[str]:
    """Return the id of every item, page by page."""
    found: list[str] = []
    after: str | None = None
    for _ in range(100):
        page = await _get(client, path, limit=3, **query, **({"after": after} if after else {}))
        assert set(page) == {"items", "next"}
        found += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            return found
    raise AssertionError("the list never ends")


async def test_a_walk_by_cursor_meets_every_message_once_newest_first(server: ApiFixture) -> None:
    sent = []
    for number in range(7):
        sent.append((await server.send(subject=str(number)))["id"])
        server.steps.pass_time(seconds=1)
    assert await _walk(server.api, "/v1/messages") == sent[::-1]


async def test_a_walk_by_cursor_meets_every_alert_and_report_once_even_of_one_instant(server: ApiFixture) -> None:
    taken = await server.steps.submitted(*(f"u{n}@b.test" for n in range(7)))
    raws = [dsn(row.token, action="failed", status="5.1.1", recipient=row.address) for row in taken.recipients]
    await server.steps.receive(*raws)
    for path in ("/v1/alerts", "/v1/reports"):
        found = await _walk(server.api, path)
        assert len(found) == len(set(found)) == 7, path


async def test_a_page_has_its_bounds(server: ApiFixture) -> None:
    for path in ("/v1/messages", "/v1/reports", "/v1/alerts"):
        for limit in ("0", "201", "x"):
            assert "limit" in _is_problem(await server.api.get(f"{path}?limit={limit}"), 422, 65)


async def test_a_cursor_of_another_list_is_422(server: ApiFixture) -> None:
    for path in ("/v1/messages", "/v1/reports", "/v1/alerts"):
        for cursor in ("x", "", "nan_a", "inf_a", "1e300_a", "0" * 33, "é" * 32):
            assert "cursor" in _is_problem(await server.api.get(path, params={"after": cursor}), 422, 65)


async def test_messages_are_found_by_receipt_label_and_text(server: ApiFixture) -> None:
    bob = await server.send(labels={"order": "17"})
    carol = await server.send(to="carol@c.test", subject="50% off_all")
    await server.steps.tell(bob["recipients"][0]["id"], EventKind.CONFIRMED, source=Source.PERSON)

    async def found(**query: str) -> list[str]:
        return [item["id"] for item in (await _get(server.api, "/v1/messages", **query))["items"]]

    assert await found(receipt="met") == [bob["id"]]
    assert await found(receipt="open") == [carol["id"]]
    assert await found(label="order=17") == [bob["id"]]
    assert await found(label="order=1") == []
    assert await found(q="CAROL@") == [carol["id"]]
    assert await found(q="0% off_") == [carol["id"]]
    assert await found(q="%") == [carol["id"]]
    assert await found(q=bob["message_id"]) == [bob["id"]]


async def test_a_repeated_receipt_means_any_of_these_and_a_repeated_label_all_of_these(server: ApiFixture) -> None:
    paid = await server.send(labels={"order": "17", "site": "x"})
    failed = await server.send(labels={"order": "17", "site": "y"})
    await server.send(labels={"order": "18", "site": "x"})
    await server.steps.tell(paid["recipients"][0]["id"], EventKind.CONFIRMED, source=Source.PERSON)
    await server.steps.tell(failed["recipients"][0]["id"], EventKind.FAILED)

    async def found(query: str) -> set[str]:
        answer = await server.api.get(f"/v1/messages?{query}")
        assert answer.status_code == 200, answer.text
        return {item["id"] for item in answer.json()["items"]}

    assert await found("receipt=met&receipt=failed") == {paid["id"], failed["id"]}
    assert await found("label=order=17&label=site=x") == {paid["id"]}
    assert await found("label=order=17&label=order=18") == set()
    assert await found("receipt=met&receipt=failed&label=site=y") == {failed["id"]}


async def test_alerts_are_listed_by_type_and_reports_by_any_of_several_verdicts(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    await server.steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"), dsn("a" * 24), b"x")
    alerts = (await _get(server.api, "/v1/alerts", type="receipt.failed"))["items"]
    assert [item["type"] for item in alerts] == ["receipt.failed"]
    assert (await _get(server.api, "/v1/alerts", type=["receipt.overdue", "monitor.blind"]))["items"] == []
    assert "receipt.failed" in _is_problem(await server.api.get("/v1/alerts?type=failed"), 422, 65)
    reports = (await _get(server.api, "/v1/reports", verdict=["unmatched", "noise"]))["items"]
    assert {item["verdict"] for item in reports} == {"unmatched", "noise"}


NO_QUESTIONS: list[Any] = [
    ("receipt", "none"), ("receipt", ""), ("label", "order"), ("label", "=17"), ("label", "order=\0"),
    ("label", "x" * 400), ("q", "x" * 1001), ("q", "\0"),
]  # fmt: skip


async def test_a_question_that_means_nothing_is_422_and_not_an_empty_list(server: ApiFixture) -> None:
    for name, value in NO_QUESTIONS:
        assert name in _is_problem(await server.api.get("/v1/messages", params={name: value}), 422, 65), value


async def test_no_name_holds_a_null_octet(server: ApiFixture) -> None:
    """PostgreSQL would refuse the statement, and the fault would look like ours."""
    for path in ("messages/%00", "messages/a%00/events", "reports/%00/raw"):
        _is_problem(await server.api.get(f"/v1/{path}"), 422, 65)
    _is_problem(await server.api.post("/v1/recipients/%00/waive", json={"reason": "x"}), 422, 65)


async def test_raw_mail_is_an_attachment_that_no_browser_runs(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    await server.steps.receive(dsn(taken.recipients[0].token))
    (report,) = (await _get(server.api, "/v1/reports"))["items"]
    for path in (f"/v1/messages/{taken.message.id}/raw", f"/v1/reports/{report['id']}/raw"):
        answer = await server.api.get(path)
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


async def test_reports_are_listed_by_what_became_of_them(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    await server.steps.receive(dsn(taken.recipients[0].token), dsn("a" * 24), b"Subject: hi\n\nbuy\n")
    (unmatched,) = (await _get(server.api, "/v1/reports", verdict="unmatched"))["items"]
    assert {"id", "mailbox", "folder", "received_at", "size", "kind", "verdict"} <= set(unmatched)
    assert (unmatched["kind"], unmatched["verdict"]) == ("dsn", "unmatched")
    verdicts = [item["verdict"] for item in (await _get(server.api, "/v1/reports"))["items"]]
    assert sorted(verdicts) == ["matched", "noise", "unmatched"]
    _is_problem(await server.api.get("/v1/reports?verdict=good"), 422, 65)


async def test_an_event_of_too_little_trust_says_that_it_does_not_count(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    token = taken.recipients[0].token
    await server.steps.receive(dsn(token, message_id="<strange@a.test>"), dsn(token, action="relayed"))
    events = (await _get(server.api, f"/v1/messages/{taken.message.id}"))["events"]
    told = [(event["kind"], event["trust"], event["detail"].get("counts")) for event in events if event["evidence"]]
    assert sorted(told)[-2:] == [("delivered", "plausible", False), ("relayed", "keyed", None)]


async def test_a_report_names_the_message_and_the_recipients_of_whom_it_told_something(server: ApiFixture) -> None:
    taken = await server.steps.submitted("bob@b.test", "carol@c.test")
    bob, carol = taken.recipients
    both = dsn(bob.token).replace(
        b"Diagnostic-Code", b"\nFinal-Recipient: rfc822; carol@c.test\nAction: relayed\n\nX-Code"
    )
    await server.steps.receive(dsn(carol.token, recipient="carol@c.test"), both, dsn("a" * 24))
    items = (await _get(server.api, "/v1/reports"))["items"]
    spoken = [(item["verdict"], item["message"], item["recipients"]) for item in items if item["message"]]
    of_both, of_one = sorted(spoken, key=lambda told: -len(told[2]))  # ids of one instant have no order
    assert of_both == ("matched", taken.message.id, [bob.id, carol.id])
    assert of_one == ("matched", taken.message.id, [carol.id])
    (unmatched,) = (await _get(server.api, "/v1/reports", verdict="unmatched"))["items"]
    assert (unmatched["message"], unmatched["recipients"]) == (None, [])


async def test_no_token_is_ever_shown(server: ApiFixture) -> None:
    """Not in a dialogue, a diagnostic text, a subject of a report, an alert or a reason."""
    steps = server.steps
    taken = await steps.take()
    (row,) = taken.recipients
    path = f"receipts+{row.token}@a.test"
    await steps.tell(row.id, EventKind.ACCEPTED, source=Source.SMTP)
    fact_raw = dsn(row.token, action="failed", status="5.1.1").replace(b"smtp; 250 ok", f"smtp; 550 {path}".encode())
    await steps.receive(fact_raw.replace(b"Subject: Delivery Status", f"Subject: to {path.upper()}".encode()))
    paths = [f"/v1/messages/{taken.message.id}", f"/v1/messages/{taken.message.id}/events"]
    for url in (*paths, "/v1/messages", "/v1/alerts", "/v1/reports", "/metrics", "/readyz"):
        answer = await server.api.get(url)
        assert row.token not in answer.text.lower(), url
        assert not [word for word in tokens.find(answer.text) if word == row.token], url
    assert row.token[:4] + "…" in (await server.api.get(paths[0])).text, "it is cut, not left out"


async def test_the_reason_of_a_report_set_aside_shows_no_token(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    token = taken.recipients[0].token
    await server.steps.receive(dsn(token))
    (report,) = (await _get(server.api, "/v1/reports"))["items"]
    async with server.steps.store.write() as session:
        await reports.set_aside(session, report["id"], f"no such column: receipts+{token}@a.test {'x' * 5000}")
    text = (await server.api.get("/v1/reports")).text
    assert token not in text
    assert len(text) < 2000


# --- decisions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "receipt"), [("waive", "waived"), ("confirm", "met")])
async def test_a_person_decides_with_a_reason(server: ApiFixture, verb: str, receipt: str) -> None:
    sent = await server.send()
    (row,) = sent["recipients"]
    answer = await server.api.post(f"/v1/recipients/{row['id']}/{verb}", json={"reason": "they called"})
    assert (answer.status_code, answer.json()["receipt"]) == (200, receipt)
    assert set(answer.json()) == RECIPIENT_SHAPE
    events = (await _get(server.api, f"/v1/messages/{sent['id']}"))["events"]
    (said,) = [event for event in events if event["source"] == "person" and event["kind"] != "queued"]
    assert said["detail"]["reason"] == "they called"
    assert said["detail"]["by"].startswith("uid:")


TOO_LITTLE: list[Any] = [
    {},
    {"reason": " "},
    {"reason": "x", "for": "long"},
    {"reason": "x", "for": 1e12},
    {"reason": "x\0"},
]


async def test_a_decision_that_says_too_little_is_422(server: ApiFixture) -> None:
    (row,) = (await server.send())["recipients"]
    for verb, body in ((verb, body) for verb in ("acknowledge", "waive", "confirm") for body in TOO_LITTLE):
        if "for" not in body or verb == "acknowledge":
            assert _is_problem(await server.api.post(f"/v1/recipients/{row['id']}/{verb}", json=body), 422, 65)


async def test_a_decision_of_endless_words_is_413_and_names_its_bound(server: ApiFixture) -> None:
    (row,) = (await server.send())["recipients"]
    answer = await server.api.post(f"/v1/recipients/{row['id']}/waive", json={"reason": "x" * 70_000})
    assert "max_message" not in _is_problem(answer, 413, 65)


async def test_a_decision_about_nobody_is_404_and_one_that_means_nothing_409(server: ApiFixture) -> None:
    sent = await server.send()
    why = {"reason": "because"}
    for verb in ("acknowledge", "waive", "confirm"):
        _is_problem(await server.api.post(f"/v1/recipients/none/{verb}", json=why), 404, 65)
    for verb in ("cancel", "retry", "resend"):
        _is_problem(await server.api.post(f"/v1/messages/none/{verb}"), 404, 65)
    row = sent["recipients"][0]["id"]
    assert "nothing is open" in _is_problem(
        await server.api.post(f"/v1/recipients/{row}/acknowledge", json=why), 409, 65
    )
    await server.api.post(f"/v1/messages/{sent['id']}/cancel")
    for verb in ("cancel", "retry"):
        _is_problem(await server.api.post(f"/v1/messages/{sent['id']}/{verb}"), 409, 65)


async def test_a_message_is_cancelled_and_one_that_failed_is_sent_again(server: ApiFixture) -> None:
    sent = await server.send()
    answer = await server.api.post(f"/v1/messages/{sent['id']}/cancel")
    assert answer.json()["recipients"][0]["delivery"] == "cancelled"
    failed = await server.steps.submitted()
    await server.steps.receive(dsn(failed.recipients[0].token, action="failed", status="5.1.1"))
    copy = await server.api.post(f"/v1/messages/{failed.message.id}/resend")
    assert copy.status_code == 202
    assert set(copy.json()) == {"id", "message_id", "recipients", "warnings"}
    got = await _get(server.api, f"/v1/messages/{copy.json()['id']}")
    assert got["resent_from"] == failed.message.id
    assert got["message_id"] != failed.message.message_id


async def test_a_copy_is_seen_by_who_sent_the_first_and_warns_like_a_new_message(server: ApiFixture) -> None:
    erp, boss = server.over_tcp("erp"), server.over_tcp("boss")
    sent = await server.send(erp)
    await server.steps.tell(sent["recipients"][0]["id"], EventKind.FAILED)
    server.offered = Capabilities(smtputf8=True, eightbitmime=True)
    copy = (await boss.post(f"/v1/messages/{sent['id']}/resend")).json()
    assert "no DSN" in copy["warnings"][0]
    assert (await _get(erp, f"/v1/messages/{copy['id']}"))["resent_from"] == sent["id"]
    again = await boss.post(f"/v1/messages/{sent['id']}/resend")
    assert copy["id"] in _is_problem(again, 409, 65)


async def test_a_retry_does_not_wait_until_the_relay_would_be_tried_again(server: ApiFixture) -> None:
    sent = await server.send()
    relay = server.relay
    relay.down(server.steps.instant, "it refuses our password", permanent=True)
    assert not relay.may_try(server.steps.instant)
    answer = await server.api.post(f"/v1/messages/{sent['id']}/retry")
    assert answer.status_code == 200
    assert relay.may_try(server.steps.instant)
    assert not relay.is_up, "only its answer tells that it is up"


async def test_an_unmatched_report_is_assigned_to_a_recipient(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    await server.steps.receive(dsn("a" * 24, action="failed", status="5.1.1"))
    (report,) = (await _get(server.api, "/v1/reports", verdict="unmatched"))["items"]
    path, body = f"/v1/reports/{report['id']}/assign", {"recipient": taken.recipients[0].id, "reason": "order 4711"}
    _is_problem(await server.over_tcp("dashboard").post(path, json=body), 403, 77)
    _is_problem(await server.api.post(path, json={"reason": "order 4711"}), 422, 65)
    _is_problem(await server.api.post("/v1/reports/none/assign", json=body), 404, 65)
    wakes = server.wakes
    answer = await server.api.post(path, json=body)
    assert (answer.status_code, answer.json()["delivery"], answer.json()["trust"]) == (200, "failed", "keyed")
    assert server.wakes == wakes + 1
    (told,) = [
        it for it in (await _get(server.api, f"/v1/messages/{taken.message.id}"))["events"] if it["source"] == "dsn"
    ]
    assert (told["matched_by"], told["detail"]["by"], told["detail"]["reason"]) == (
        "person", f"uid:{os.getuid()}", "order 4711",
    )  # fmt: skip
    (listed,) = (await _get(server.api, "/v1/reports"))["items"]
    assert (listed["verdict"], listed["reason"]) == (
        "matched", f"assigned to bob@b.test by uid:{os.getuid()}: order 4711",
    )  # fmt: skip
    assert "matched already" in _is_problem(await server.api.post(path, json=body), 409, 65)


async def test_an_alert_is_shown_with_every_attempt_and_can_be_sent_again(server: ApiFixture) -> None:
    failed = await server.steps.submitted()
    await server.steps.receive(dsn(failed.recipients[0].token, action="failed", status="5.1.1"))
    (alert,) = (await _get(server.api, "/v1/alerts"))["items"]
    assert alert["type"] == "receipt.failed"
    assert alert["dispatches"] == [
        {"webhook": "ops", "outcome": "pending", "next_attempt_at": alert["created_at"], "attempts": []}
    ]
    wakes = server.wakes
    assert (await server.api.post(f"/v1/alerts/{alert['id']}/replay")).status_code == 202
    assert server.wakes == wakes + 1
    _is_problem(await server.api.post("/v1/alerts/none/replay"), 404, 65)


# --- who may ------------------------------------------------------------------------------------------------------


async def test_a_user_follows_only_what_that_user_sent(server: ApiFixture) -> None:
    theirs = await server.steps.take()  # uid:1000 sent it
    mine = await server.send(server.sender)
    assert [item["id"] for item in (await _get(server.sender, "/v1/messages"))["items"]] == [mine["id"]]
    await _get(server.sender, f"/v1/messages/{mine['id']}")
    for path in ("", "/events", "/raw"):
        _is_problem(await server.sender.get(f"/v1/messages/{theirs.message.id}{path}"), 404, 65)
    assert len((await _get(server.api, "/v1/messages"))["items"]) == 2


async def test_a_user_neither_operates_nor_reads_what_came_back(server: ApiFixture) -> None:
    mine = await server.send(server.sender)
    for path in ("/v1/reports", "/v1/reports/x/raw", "/v1/alerts", "/readyz", "/metrics"):
        _is_problem(await server.sender.get(path), 403, 77)
    row = mine["recipients"][0]["id"]
    for path in (
        f"recipients/{row}/waive", f"recipients/{row}/confirm", f"recipients/{row}/acknowledge",
        f"messages/{mine['id']}/cancel", f"messages/{mine['id']}/retry", f"messages/{mine['id']}/resend",
        "alerts/x/replay", "reports/x/assign",
    ):  # fmt: skip
        answer = await server.sender.post(f"/v1/{path}", json={"reason": "x"})
        assert "api.sock" in _is_problem(answer, 403, 77), path


async def test_whoever_reads_as_the_overflow_uid_owns_nothing(
    server: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await server.send(server.sender)
    monkeypatch.setattr(auth, "OVERFLOW_UID", os.getuid())
    for path in ("", f"/{mine['id']}", f"/{mine['id']}/raw"):
        _is_problem(await server.sender.get(f"/v1/messages{path}"), 403, 77)
    assert "who you are" in _is_problem(await _post(server.api, "k"), 403, 77)


async def test_whoever_could_not_follow_a_message_is_refused_before_it_is_taken(
    server: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "OVERFLOW_UID", os.getuid())
    for content in (b"no JSON", json.dumps(letter()).encode()):
        answer = await server.sender.post("/v1/messages", content=content, headers={"content-type": "application/json"})
        assert "who you are" in _is_problem(answer, 403, 77)
    assert (await _get(server.api, "/v1/messages"))["items"] == []
    await server.send(server.api)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as another user")
async def test_nobody_at_a_real_socket_is_refused_before_his_message_is_taken() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # nobody may look into pytest's own folders
        folder = Path(name)
        folder.chmod(0o755)
        async with open_api(folder) as server:
            knock = socket.socket(socket.AF_UNIX)
            os.seteuid(65534)
            try:
                knock.connect(str(folder / "send.sock"))
            finally:
                os.seteuid(0)
            reader, writer = await asyncio.open_unix_connection(sock=knock)
            # The length is promised and never sent: who is refused needn't hand anything over.
            writer.write(
                b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: message/rfc822\r\nContent-Length: 99\r\n\r\n"
            )
            assert b" 403 " in await asyncio.wait_for(reader.readline(), 10)
            writer.close()
            assert (await _get(server.api, "/v1/messages"))["items"] == []


async def test_over_tcp_nobody_is_let_in_without_a_token_not_even_from_loopback(server: ApiFixture) -> None:
    for client in (server.over_tcp(), server.over_tcp("stranger")):
        for path in ("/v1/messages", "/v1/alerts", "/metrics", "/readyz"):
            answer = await client.get(path)
            assert "Bearer" in _is_problem(answer, 401, 77), path
            assert answer.headers["www-authenticate"] == "Bearer"
        _is_problem(await client.post("/v1/messages", json=letter()), 401, 77)
        assert (await client.get("/healthz")).status_code == 200
    basic = await server.over_tcp().get("/v1/messages", headers={"authorization": "Basic c2VjcmV0"})
    _is_problem(basic, 401, 77)


async def test_each_scope_lets_do_what_it_says(server: ApiFixture) -> None:
    erp, dashboard, boss = (server.over_tcp(name) for name in ("erp", "dashboard", "boss"))
    sent = await server.send(erp)
    other = await server.send()
    assert [item["id"] for item in (await _get(erp, "/v1/messages"))["items"]] == [sent["id"]]
    _is_problem(await erp.get(f"/v1/messages/{other['id']}"), 404, 65)
    _is_problem(await erp.get("/metrics"), 403, 77)
    assert len((await _get(dashboard, "/v1/messages"))["items"]) == 2
    await _get(dashboard, "/v1/alerts")
    assert (await dashboard.get("/metrics")).status_code == 200
    _is_problem(await dashboard.post("/v1/messages", json=letter()), 403, 77)
    waiver = {"reason": "x"}
    row = sent["recipients"][0]["id"]
    _is_problem(await dashboard.post(f"/v1/recipients/{row}/waive", json=waiver), 403, 77)
    await server.send(boss)
    assert (await boss.post(f"/v1/recipients/{row}/waive", json=waiver)).status_code == 200


# --- health, figures, description ---------------------------------------------------------------------------------


async def _unwell(server: ApiFixture) -> dict[str, Json]:
    answer = await server.api.get("/readyz")
    body = answer.json()
    assert set(body) == {"ready", "checks"}
    assert all(set(check) == {"name", "ok", "reason", "since"} for check in body["checks"])
    bad = {check["name"]: check for check in body["checks"] if not check["ok"]}
    assert (answer.status_code, body["ready"]) == ((503, False) if bad else (200, True))
    return bad


async def test_ready_means_that_database_mailbox_relay_and_alerts_are_well(server: ApiFixture) -> None:
    assert set(await _unwell(server)) == {"mailbox:receipts"}, "it was never read to its end"
    await server.steps.read_all()
    assert await _unwell(server) == {}
    server.relay.down(server.steps.instant, "the relay refuses our password", permanent=True)
    bad = await _unwell(server)
    assert bad["relay"]["reason"] == "the relay refuses our password"
    assert instant(bad["relay"]["since"]) == START
    server.relay.up()
    server.steps.pass_time(minutes=6)
    assert set(await _unwell(server)) == {"mailbox:receipts"}, "it was not read for too long"
    server.box.down(server.steps.instant, "no such host", permanent=False)
    assert (await _unwell(server))["mailbox:receipts"]["reason"] == "no such host"


async def test_an_alert_that_nobody_took_is_not_ready(server: ApiFixture) -> None:
    await server.steps.read_all()
    taken = await server.steps.submitted()
    await server.steps.receive(dsn(taken.recipients[0].token, action="failed", status="5.1.1"))
    async with server.steps.store.write() as session:
        (await session.exec(select(Alert))).one().undelivered = True
    bad = await _unwell(server)
    assert "receiptd alerts" in bad["alerts"]["reason"]


async def _put_off(server: ApiFixture, webhook: str) -> None:
    async with server.steps.store.write() as session:
        session.add(Alert(id=f"a-{webhook}", type="receipt.failed", created_at=START, kind="failed"))
        await session.flush()
        session.add(Dispatch(id=webhook, alert=f"a-{webhook}", webhook=webhook, outcome="gone", finished_at=START))


async def test_a_webhook_that_is_off_is_shown_but_only_where_no_other_is_left_is_it_not_ready(
    server: ApiFixture,
) -> None:
    await server.steps.read_all()
    await _put_off(server, "ops")
    answer = await server.api.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True), "the next level is told in its place"
    (shown,) = [check for check in answer.json()["checks"] if not check["ok"]]
    assert (shown["name"], instant(shown["since"])) == ("webhook:ops", START)
    assert "410 Gone" in shown["reason"]
    assert 'receiptd_webhook_off{webhook="ops"} 1.0' in (await server.api.get("/metrics")).text
    await _put_off(server, "boss")
    bad = await _unwell(server)
    assert set(bad) == {"webhook:ops", "webhook:boss"}
    assert "no other is left for policy default" in bad["webhook:boss"]["reason"]


async def test_a_database_that_cannot_be_read_is_not_ready(server: ApiFixture) -> None:
    async with server.steps.store.write() as session:
        await (await session.connection()).exec_driver_sql("ALTER TABLE alert RENAME TO gone")
    assert set(await _unwell(server)) == {"database"}


async def test_the_figures_are_prometheus_and_name_nobody(server: ApiFixture) -> None:
    taken = await server.steps.submitted()
    await server.steps.receive(dsn(taken.recipients[0].token))
    await server.send()
    text = (await server.api.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    standing = {tuple(s.labels.values()): s.value for s in families["receiptd_recipients"].samples}
    assert standing == {("delivered", "met"): 1, ("queued", "open"): 1}
    assert families["receiptd_queue_oldest_seconds"].samples[0].value == 0
    assert "@" not in text
    assert {s.labels["webhook"] for s in families["receiptd_webhook_backlog"].samples} == {"ops", "boss"}


async def _taken_so_far(server: ApiFixture) -> float:
    families = text_string_to_metric_families((await server.api.get("/metrics")).text)
    return sum(s.value for family in families if family.name == "receiptd_messages" for s in family.samples)


async def test_every_message_counts_once_and_a_copy_sent_again_is_one(server: ApiFixture) -> None:
    before = await _taken_so_far(server)
    for _ in range(2):
        await server.api.post("/v1/messages", json=letter(), headers={"Idempotency-Key": "invoice-7"})
    assert await _taken_so_far(server) == before + 1
    failed = await server.steps.submitted()
    await server.steps.receive(dsn(failed.recipients[0].token, action="failed", status="5.1.1"))
    for status in (202, 409):
        again = await server.api.post(f"/v1/messages/{failed.message.id}/resend")
        assert again.status_code == status
    assert await _taken_so_far(server) == before + 3, "the invoice, what failed, and its copy"


async def test_the_description_lists_every_call_of_the_contract(server: ApiFixture) -> None:
    described = (await _get(server.api, "/v1/openapi.json"))["paths"]
    calls = {
        "/v1/messages": {"get", "post"},
        "/v1/messages/{message}": {"get"},
        "/v1/messages/{message}/events": {"get"},
        "/v1/messages/{message}/raw": {"get"},
        "/v1/reports": {"get"},
        "/v1/reports/{report}/raw": {"get"},
        "/v1/reports/{report}/assign": {"post"},
        "/v1/recipients/{recipient}/acknowledge": {"post"},
        "/v1/recipients/{recipient}/waive": {"post"},
        "/v1/recipients/{recipient}/confirm": {"post"},
        "/v1/events": {"get"},
        "/v1/alerts": {"get"},
        "/v1/alerts/{alert}/replay": {"post"},
        "/healthz": {"get"},
        "/readyz": {"get"},
        "/metrics": {"get"},
    }
    assert {path: set(described[path]) for path in calls} == calls
    body = json.dumps(described["/v1/messages"]["post"])
    assert "message/rfc822" in body
    assert "application/json" in body


def test_no_dependency_of_a_call_is_run_in_a_thread() -> None:
    """FastAPI runs one that is no coroutine in a thread: with five of them that was a third of what a POST costs."""
    routes = [route for part in api.parts() for route in part.routes if isinstance(route, APIRoute)]
    assert routes
    for route in routes:
        for call in _calls(route.dependant):
            assert inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__), call


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """Return the function of a call, and all that it depends on."""
    if dependant.call is not None:
        yield dependant.call
    for other in dependant.dependencies:
        yield from _calls(other)
