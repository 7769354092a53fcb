"""What no answer may show: the secrets of a recipient, whoever asks and wherever a report has put them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from receiptd import correlation_token
from receiptd.facts import EventKind, Source
from receiptd.models import Recipient
from receiptd.web import api
from tests.api_fixture import TOKENS, ApiFixture, open_api
from tests.steps_fixture import dsn

_ACCOUNT = "http://www.open-spf.org/Why?s=mfrom;id=receipts%2B{}%40a.test;ip=127.0.0.1"
"""How refusals for SPF name our return path: in a URL, where its + is %2B."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(tmp_path) as server:
        yield server


def _secrets(row: Recipient) -> set[str]:
    assert row.envelope_id
    return {row.token, row.envelope_id}


async def _told_everywhere(server: ApiFixture) -> tuple[dict[str, str], set[str]]:
    """Send a message whose reports repeat its secrets in every field; return ids by path parameter, and these."""
    sent = await server.send(server.over_tcp("erp"))
    async with server.steps.store.read() as session:
        row = await session.get_one(Recipient, sent["recipients"][0]["id"])
    secrets = _secrets(row)
    path = f"receipts+{row.token}@a.test"
    await server.steps.tell(row.id, EventKind.ACCEPTED, source=Source.SMTP, submitted_at=server.steps.instant)
    failed = dsn(row.token, action="failed", status="5.7.1", envelope_id=row.envelope_id)
    urls = (
        " ".join(_ACCOUNT.format(secret) for secret in sorted(secrets)) + f" <{path}> receipts=2B{row.token}=40a.test"
    )
    failed = failed.replace(b"smtp; 250 ok", f"smtp; 550 {urls}".encode()).replace(b"See below.", urls.encode())
    failed = failed.replace(b"Subject: Delivery Status", f"Subject: {path}".encode())
    answer = (
        f"From: bob@b.test\nTo: {path}\nDelivered-To: {path}\nSubject: Out of office {path}\n"
        f"Auto-Submitted: auto-replied\nIn-Reply-To: {sent['message_id']}\n\nYou wrote as {path} ({urls}).\n"
    )
    strange = dsn("z" * 24).replace(b"smtp; 250 ok", urls.encode())
    await server.steps.receive(dsn(row.token, action="relayed", recipient=path), failed, answer.encode(), strange)
    reports = (await server.api.get("/v1/reports")).json()["items"]
    alerts = (await server.api.get("/v1/alerts")).json()["items"]
    assert len(reports) == 4
    assert alerts
    ids = {"message": sent["id"], "recipient": row.id, "report": reports[0]["id"], "alert": alerts[0]["id"]}
    return ids, secrets


async def test_no_answer_to_any_question_holds_a_secret_but_raw_reports_for_who_operates(server: ApiFixture) -> None:
    ids, secrets = await _told_everywhere(server)
    routes = [route for part in api.parts() for route in part.routes if isinstance(route, APIRoute)]
    paths = [route.path.format(**ids) for route in routes if "GET" in (route.methods or ())]
    assert len(paths) > 8
    seen = 0
    for scope in TOKENS:
        for path in paths:
            answer = await server.over_tcp(scope).get(path)
            is_raw_report = "/reports/" in path
            assert not is_raw_report or (answer.status_code == 200) == (scope == "boss")
            seen += answer.status_code == 200
            if not is_raw_report:
                assert not [secret for secret in secrets if secret in answer.text], (scope, path)
    assert seen > 15, "it isn't because nothing was shown"


async def test_who_sends_is_told_the_same_of_what_is_anothers_as_of_what_is_not_there(server: ApiFixture) -> None:
    theirs = await server.send(server.over_tcp("boss"))
    erp = server.over_tcp("erp")
    for path in ("", "/events", "/raw"):
        said = [await erp.get(f"/v1/messages/{one}{path}") for one in (theirs["id"], "f" * 32)]
        assert [answer.status_code for answer in said] == [404, 404]
        assert said[0].text.replace(theirs["id"], "f" * 32) == said[1].text
    assert (await erp.get("/v1/messages", params={"after": "f" * 32})).json()["items"] == []
    assert (await erp.get("/v1/messages", params={"q": theirs["message_id"]})).json()["items"] == []


@given(st.text("ab2Z", max_size=3), st.sampled_from(["+", "%2B", "%2b", "=2B", "+2B", "-", "<", "%3C"]))
def test_a_token_is_masked_however_what_stands_before_it_is_encoded(before: str, joint: str) -> None:
    secret = correlation_token.make()
    for behind in ("", "@a.test", "%40a.test"):
        assert secret not in correlation_token.mask(f"{before}{joint}{secret}{behind}")
        assert secret not in correlation_token.mask(f"{before}{joint}{secret.upper()}{behind}").lower()
