"""A server we didn't write: aiosmtpd, which refuses DSN parameters even where DSN is advertised."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from receiptd.settings import Submission
from receiptd.smtp import Accepted, Relay
from tests.test_smtp import CONTENT, submit


class Box:
    """Keeps what was delivered; refuses messages that hold `spam`."""

    def __init__(self, *, advertises_dsn: bool) -> None:
        self.advertises_dsn = advertises_dsn
        self.delivered: list[tuple[str | None, list[str], Any]] = []

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _: object, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-DSN", responses[-1]] if self.advertises_dsn else responses

    async def handle_DATA(self, _: object, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.delivered.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 Message accepted for delivery"


@pytest.mark.parametrize("advertises_dsn", [True, False], ids=["DSN advertised", "no DSN"])
async def test_a_message_arrives_unchanged_and_the_outcome_tells_whether_reports_will_come(
    advertises_dsn: bool,
) -> None:
    box = Box(advertises_dsn=advertises_dsn)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, hostname="peer.test"), "127.0.0.1", 0)
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    outcomes = [await submit(relay), await submit(relay)]
    await relay.close()
    server.close()
    for outcome in outcomes:
        assert isinstance(outcome, Accepted)
        assert not outcome.dsn_requested
        assert outcome.dsn_refused is advertises_dsn
        assert outcome.reply.enhanced == "2.0.0"
    assert [content for _, _, content in box.delivered] == [CONTENT, CONTENT]
