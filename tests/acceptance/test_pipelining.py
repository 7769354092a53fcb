"""The stream on real servers: each message goes under its own sender, also behind a refused recipient."""

from __future__ import annotations

import asyncio
import re
from email.parser import BytesHeaderParser
from functools import partial
from typing import Any

import pytest

from receiptd.correlation_token import make
from receiptd.settings import Submission
from receiptd.smtp import Accepted, Content, Envelope, NotSent, Refused, Relay, Stream
from tests.servers.world import HOST, World

pytestmark = pytest.mark.servers

CONTENT = Content.of(b"From: office@a.test\r\nSubject: pipelined\r\n\r\n.A line with a dot\r\n")


@pytest.mark.parametrize(
    ("server", "good", "bad"),
    [
        ("relay", "bob@box.test", "forbidden@b.test"),
        ("box", "bob@box.test", "no.such.user@box.test"),
        ("exim", "bob@exim.test", "bob@elsewhere.invalid"),
        ("osmtpd", "bob@osmtpd.test", "no.such.user@osmtpd.test"),
    ],
)
def test_no_message_goes_under_the_sender_of_a_refused_one(world: World, server: str, good: str, bad: str) -> None:
    tokens = [make() for _ in range(12)]
    recipients = [bad if number % 3 == 1 else good for number in range(len(tokens))]
    url = world.relay.plain_url if server == "relay" else f"smtp://{HOST}:{world.port_of[server]}"
    outcomes = asyncio.run(_carried(url, tokens, recipients))

    assert not [outcome for outcome in outcomes.values() if isinstance(outcome, NotSent)]
    accepted = {token for token, outcome in outcomes.items() if isinstance(outcome, Accepted)}
    refused = {token for token, outcome in outcomes.items() if isinstance(outcome, Refused)}
    assert refused == {token for token, to in zip(tokens, recipients, strict=True) if to == bad}
    assert len(accepted) + len(refused) == len(tokens)
    for token in accepted:
        world.await_message(good, partial(_names, token))
    for message in world.messages_of(good):
        header = BytesHeaderParser().parsebytes(message)
        asked = str(header["Disposition-Notification-To"])
        sender = f"{header['Return-Path']} {header['Received']}"  # Exim names it in Received alone
        if (found := re.search(r"\+([a-z2-7]{24})@", asked)) and found[1] in tokens:
            assert found[1] in sender, "a message went under the sender of another"
            assert found[1] in accepted


def _names(token: str, message: bytes) -> bool:
    return token.encode() in message


async def _carried(url: str, tokens: list[str], recipients: list[str]) -> dict[str, Any]:
    """Carry a message for each token over one connection."""
    relay = Relay(Submission(url=url, connections=1))
    stream: Stream[str] = relay.stream()
    outcomes: dict[str, Any] = {}
    async with stream:
        for token, recipient in zip(tokens, recipients, strict=True):
            path = f"receipts+{token}@a.test"
            header = f"Disposition-Notification-To: <{path}>\r\n".encode()
            stream.put(token, Envelope(path, recipient, CONTENT, token, header, longest_line=30))
        async with asyncio.timeout(60):
            while len(outcomes) < len(tokens):
                outcomes |= {one.key: one.outcome for one in await stream.outcomes()}
    await relay.close()
    return outcomes
