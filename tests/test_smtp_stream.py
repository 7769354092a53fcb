"""Envelopes follow each other on a connection without a pause, and every reply is checked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from receiptd.smtp import Accepted, Content, Envelope, Finished, NotSent, Refused, Relay, RelayDown, Stream, Uncertain
from receiptd.smtp import pipeline as pipeline_module
from receiptd.smtp import worker as worker_module
from tests.fake_smtp import EVERYTHING, Drop, FakeSMTP, Hang, Step, When
from tests.test_smtp import CONTENT, LETTER, WITHOUT_DSN, WITHOUT_PIPELINING, a_relay

both_ways = pytest.mark.parametrize("ehlo", [EVERYTHING, WITHOUT_PIPELINING], ids=["pipelined", "one by one"])
TOKENS = [letter * 24 for letter in "abcdefghijklmnopqrst"]


def letter(number: int, **changes: Any) -> Envelope:
    """Return the envelope of recipient *number*, whose content names it too."""
    token = TOKENS[number]
    content = (
        f"Subject: to {number}\r\nDisposition-Notification-To: <receipts+{token}@a.test>\r\n\r\n.Hello\r\n".encode()
    )
    sent = replace(
        LETTER,
        return_path=f"receipts+{token}@a.test",
        recipient=f"r{number}@b.test",
        envelope_id=token,
        content=content,
    )
    return replace(sent, **changes)


@contextlib.asynccontextmanager
async def a_stream(
    script: Mapping[str, Iterable[Step]] | None = None, *, connections: int = 1, **how: Any
) -> AsyncIterator[tuple[Stream[int], FakeSMTP, Relay]]:
    async with a_relay(script, connections=connections, **how) as (relay, fake):
        stream: Stream[int] = relay.stream()
        async with stream:
            yield stream, fake, relay


async def told(stream: Stream[int], count: int) -> dict[int, Any]:
    """Return so many outcomes by key."""
    found: list[Finished[int]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await stream.outcomes()
    assert len(found) == count
    return {one.key: one.outcome for one in found}


async def carried(stream: Stream[int], *numbers: int, **changes: Any) -> dict[int, Any]:
    """Put the envelopes *numbers* and return their outcomes."""
    for number in numbers:
        stream.put(number, letter(number, **changes))
    return await told(stream, len(numbers))


def taken(fake: FakeSMTP) -> list[tuple[str, str, str]]:
    """Return whose sender, recipient and content each message had that the fake took; they must be the same."""
    found = []
    sender = recipient = ""
    contents = iter(fake.messages)
    for _, line in fake.wire:
        if line.startswith("MAIL"):
            sender = line.split("+")[1][:24]
        elif line.startswith("RCPT"):
            recipient = line.split(":<r")[1].split("@")[0]
        elif line == ".":
            found.append((sender, recipient, next(contents).decode().split("to ")[1].split("\r")[0]))
    return found


def assert_each_went_to_its_own(fake: FakeSMTP) -> None:
    for sender, recipient, content in taken(fake):
        assert TOKENS[int(recipient)] == sender
        assert recipient == content


@both_ways
async def test_envelopes_follow_each_other_on_one_connection(ehlo: tuple[str, ...]) -> None:
    async with a_stream(ehlo=ehlo) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert fake.connections == 1
    assert [message.count(b"\r\n.Hello") for message in fake.messages] == [1, 1, 1]
    assert_each_went_to_its_own(fake)


async def test_the_next_envelope_is_on_its_way_before_the_final_reply() -> None:
    go = asyncio.Event()
    async with a_stream({".": [When(go, "250 2.0.0 Ok: queued as 1")]}) as (stream, fake, _):
        for number in (0, 1):
            stream.put(number, letter(number))
        async with asyncio.timeout(5):
            while "." not in fake.lines:
                await asyncio.sleep(0.001)
        received = b"".join(fake.unread())
        go.set()
        outcomes = await told(stream, 2)
    assert received.split(b"\r\n")[0] == b"RSET"
    assert b"RCPT TO:<r1@b.test>" in received
    assert received.endswith(b"DATA\r\n")
    assert isinstance(outcomes[0], Accepted)
    assert outcomes[0].reply.text == "2.0.0 Ok: queued as 1"
    assert [line.split(" ")[0] for line in fake.lines[5:10]] == ["RSET", "MAIL", "RCPT", "DATA", "."]


async def test_each_dialogue_holds_its_own_lines_alone() -> None:
    async with a_stream() as (stream, _, _):
        outcomes = await carried(stream, 0, 1)
    for number, outcome in outcomes.items():
        assert f"RCPT TO:<r{number}@b.test>" in outcome.dialogue
        assert f"<r{1 - number}@b.test>" not in outcome.dialogue
        assert outcome.dialogue.endswith("S: 250 2.0.0 Ok: queued as 4XyZ1")


REFUSALS = [
    ("RCPT", "550 5.1.1 no such user", "rcpt", True),
    ("RCPT", "450 4.2.0 greylisted", "rcpt", False),
    ("DATA", "554 5.5.1 no", "data", True),
    ("DATA", "451 4.3.0 later", "data", False),
    ("MAIL", "552 5.3.4 too big", "size", True),
    (".", "554 5.7.1 spam", "data", True),
    (".", "452 4.3.1 full", "data", False),
]


@both_ways
@pytest.mark.parametrize(("verb", "reply", "stage", "permanent"), REFUSALS)
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_refusal_within_a_group_is_about_its_own_envelope(
    verb: str, reply: str, stage: str, permanent: bool, which: int, ehlo: tuple[str, ...]
) -> None:
    script: dict[str, list[Step]] = {verb: [*[None] * which, reply]}
    if verb in ("MAIL", "RCPT"):  # as a real server says when nobody is left to send to
        script["DATA"] = [*[None] * which, "554 5.5.1 Error: no valid recipients"] if ehlo == EVERYTHING else []
    async with a_stream(script, ehlo=ehlo) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2, 3)
    refused = outcomes.pop(which)
    assert isinstance(refused, Refused)
    assert (refused.stage, refused.permanent, str(refused.reply)) == (stage, permanent, reply)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert fake.connections == 1
    assert_each_went_to_its_own(fake)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_354_after_a_refusal_ends_the_connection_without_a_dot(verb: str) -> None:
    reply = "550 5.1.1 no such user" if verb == "RCPT" else "552 5.3.4 too big"
    async with a_stream({verb: [None, reply]}) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2)
    assert isinstance(outcomes[1], Refused)
    assert isinstance(outcomes[0], Accepted)
    assert isinstance(outcomes[2], Accepted)
    assert fake.connections == 2
    assert fake.lines.count(".") == 2
    assert_each_went_to_its_own(fake)


async def test_a_server_that_ignores_rset_never_gets_a_message_under_another_token() -> None:
    script: dict[str, list[Step]] = {
        "RCPT": [None, "550 5.1.1 no such user"],
        "DATA": [None, "554 5.5.1 no valid recipients"],
        "RSET": [None, "502 5.5.2 what?"],
        "MAIL": [None, None, "503 5.5.1 nested MAIL command"],
    }
    async with a_stream(script) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2)
    assert [type(outcomes[number]) for number in range(3)] == [Accepted, Refused, Accepted]
    assert fake.connections == 2
    assert fake.lines.count(".") == 2
    assert_each_went_to_its_own(fake)


@pytest.mark.parametrize("verb", ["RSET", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("step", [Drop(), "421 4.3.2 enough", "354 go", "100 what"])
async def test_what_was_only_announced_goes_once_more_over_a_new_connection(verb: str, step: Step) -> None:
    step = "250 what" if (verb, step) == ("DATA", "354 go") else step
    script: dict[str, list[Step]] = {verb: [step] if verb == "RSET" else [None, step]}
    async with a_stream(script) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert fake.connections == 2
    assert len(fake.messages) == 3
    assert_each_went_to_its_own(fake)


@pytest.mark.parametrize("last", [Drop(), Drop("gibberish"), "354 more", Hang()])
async def test_no_verdict_on_one_leaves_the_next_to_another_connection(last: Step) -> None:
    async with a_stream({".": [None, last]}, final_reply=0.2) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2, 3)
    assert isinstance(outcomes.pop(1), Uncertain)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert fake.connections == 2
    assert_each_went_to_its_own(fake)


async def test_a_relay_that_shuts_down_at_the_final_dot_has_not_taken_it() -> None:
    async with a_stream({".": [None, "421 4.3.2 shutting down"]}) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2, 3)
    assert isinstance(outcomes[0], Accepted)
    for number in (1, 2, 3):
        assert isinstance(outcomes[number], NotSent)
        assert isinstance(outcomes[number].fault, RelayDown)
    assert fake.lines.count(".") == 2


@both_ways
async def test_what_is_about_us_fails_nothing_and_gives_back_all_that_wait(ehlo: tuple[str, ...]) -> None:
    async with a_stream({"MAIL": [None, "550 5.7.1 sender not owned by user"]}, ehlo=ehlo) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2, 3)
    assert isinstance(outcomes.pop(0), Accepted)
    assert {outcome.fault.stage for outcome in outcomes.values()} == {"mail"}
    assert fake.lines.count(".") == 1


async def test_without_a_relay_all_come_back() -> None:
    async with a_relay() as (relay, fake):
        fake.server.close()
        stream: Stream[int] = relay.stream()
        async with stream:
            outcomes = await carried(stream, 0, 1, 2)
    assert {outcome.fault.stage for outcome in outcomes.values()} == {"connect"}


@both_ways
@pytest.mark.parametrize(("verb", "reply"), [("MAIL", "555 5.5.4 Unsupported"), ("RCPT", "501 5.5.4 bad NOTIFY")])
async def test_refused_dsn_parameters_are_left_out_within_the_stream(
    verb: str, reply: str, ehlo: tuple[str, ...]
) -> None:
    script: dict[str, list[Step]] = {verb: [None, reply], "DATA": [None, "503 5.5.1 no recipients"]}
    if ehlo != EVERYTHING:
        del script["DATA"]
    async with a_stream(script, ehlo=ehlo) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1, 2)
    assert [(outcome.dsn_requested, outcome.dsn_refused) for _, outcome in sorted(outcomes.items())] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    assert fake.connections == 1
    assert_each_went_to_its_own(fake)


async def test_354_after_refused_dsn_parameters_ends_the_connection_and_leaves_them_out() -> None:
    async with a_stream({"MAIL": [None, "555 5.5.4 Unsupported"]}) as (stream, fake, _):
        outcomes = await carried(stream, 0, 1)
    assert isinstance(outcomes[1], Accepted)
    assert outcomes[1].dsn_refused
    assert fake.connections == 2


async def test_what_the_relay_can_t_take_is_told_without_a_word_to_it() -> None:
    async with a_stream(ehlo=WITHOUT_DSN, without_dsn="refuse") as (stream, fake, _):
        outcomes = await carried(stream, 0)
        stream.put(1, letter(1, recipient="r1@b.test> SIZE=1", request_dsn=False))
        stream.put(2, letter(2, longest_line=1200, request_dsn=False))
        stream.put(3, letter(3, request_dsn=False))
        outcomes |= await told(stream, 3)
    assert [outcomes[number].stage for number in range(3)] == ["dsn", "message", "message"]
    assert isinstance(outcomes[3], Accepted)
    assert len(fake.said("MAIL")) == 1


async def test_the_bytes_of_a_message_are_built_once_for_all_its_recipients() -> None:
    shared = Content.of(b"Subject: to 0\r\n\r\n.Hello\r\n..\r\nlast line")
    async with a_stream() as (stream, fake, _):
        for number in range(2):
            header = f"Disposition-Notification-To: <receipts+{TOKENS[number]}@a.test>\r\n".encode()
            stream.put(number, letter(number, header=header, content=shared))
        outcomes = await told(stream, 2)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    for number, message in enumerate(fake.messages):
        assert message == (
            f"Disposition-Notification-To: <receipts+{TOKENS[number]}@a.test>\r\n".encode()
            + b"Subject: to 0\r\n\r\n.Hello\r\n..\r\nlast line\r\n"
        )
    assert f"SIZE={len(fake.messages[0]) - 2}" in fake.said("MAIL")[0]


@pytest.mark.parametrize("header", [b"X: 1\n", b"X: 1", b"\r\n", b"X: 1\r\n\r\n", b".\r\n"])
async def test_a_header_that_would_end_the_header_or_the_message_is_refused(header: bytes) -> None:
    async with a_stream() as (stream, fake, _):
        [outcome] = (await carried(stream, 0, header=header)).values()
    assert isinstance(outcome, Refused)
    assert outcome.stage == "message"
    assert fake.messages == []


async def test_all_connections_are_used_and_none_twice() -> None:
    async with a_stream(connections=4) as (stream, fake, _):
        outcomes = await carried(stream, *range(20))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert fake.open_at_most == 4
    assert fake.connections == 4
    assert len(fake.messages) == 20


async def test_a_late_reply_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "STALL_SECONDS", 0.05)
    late = asyncio.Event()
    async with a_stream({".": [When(late, "250 2.0.0 at last")]}, connections=2) as (stream, fake, _):
        stream.put(0, letter(0))
        stream.put(1, letter(1, content=CONTENT))
        stream.put(2, letter(2))
        stream.put(3, letter(3))
        first = await told(stream, 3)
        assert all(isinstance(outcome, Accepted) for outcome in first.values())
        late.set()
        last = await told(stream, 1)
    assert all(isinstance(outcome, Accepted) for outcome in last.values())
    assert len(fake.messages) == 4


async def test_a_rate_is_kept_and_what_waits_for_its_turn_can_be_called_back() -> None:
    async with a_stream(connections=3, rate="2/h") as (stream, fake, _):
        for number in range(4):
            stream.put(number, letter(number))
        outcomes = await told(stream, 2)
        assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
        await stream.close()
        outcomes = await told(stream, 2)
        assert [outcome.fault for outcome in outcomes.values()] == [None, None]
    assert len(fake.said("MAIL")) == 2


async def test_close_lets_what_is_under_way_finish_and_gives_back_the_rest() -> None:
    go = asyncio.Event()
    async with a_stream({".": [When(go, "250 Ok")]}) as (stream, fake, _):
        for number in range(4):
            stream.put(number, letter(number))
        async with asyncio.timeout(5):
            while "." not in fake.lines:
                await asyncio.sleep(0.001)
        closing = asyncio.create_task(stream.close())
        await asyncio.sleep(0)
        stream.put(4, letter(4))
        go.set()
        await closing
        outcomes = await told(stream, 5)
        assert await stream.outcomes() == []
    assert [type(outcomes[number]) for number in range(5)] == [Accepted, Accepted, NotSent, NotSent, NotSent]
    assert len(fake.messages) == 2


@pytest.mark.parametrize(("verb", "kinds"), [(".", [Uncertain, NotSent, NotSent]), ("DATA", [NotSent] * 3)])
async def test_abort_tells_what_the_relay_may_have(verb: str, kinds: list[type]) -> None:
    async with a_stream({verb: [Hang()]}) as (stream, fake, _):
        for number in range(3):
            stream.put(number, letter(number))
        async with asyncio.timeout(5):
            while verb not in fake.lines:
                await asyncio.sleep(0.001)
        await stream.abort()
        outcomes = await told(stream, 3)
    assert [type(outcomes[number]) for number in range(3)] == kinds


async def test_an_idle_connection_that_the_server_closed_costs_nothing() -> None:
    async with a_stream() as (stream, fake, _):
        await carried(stream, 0)
        fake.hang_up()
        assert isinstance((await carried(stream, 1))[1], Accepted)
    assert fake.connections == 2


async def test_a_large_message_goes_in_blocks_and_nobody_is_announced_behind_it() -> None:
    large = b"Subject: to 0\r\n\r\n" + (b"x" * 70 + b"\r\n") * 9_000
    async with a_stream() as (stream, fake, _):
        stream.put(0, letter(0, content=large, request_dsn=False))
        stream.put(1, letter(1))
        outcomes = await told(stream, 2)
    assert all(isinstance(outcome, Accepted) for outcome in outcomes.values())
    assert fake.messages[0] == large
    dot = fake.lines.index(".")
    assert fake.lines[dot + 1].startswith("MAIL")


async def test_what_has_waited_so_long_that_another_may_have_taken_it_over_is_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "STALE_SECONDS", 0.05)
    answer = asyncio.Event()
    async with a_stream({".": [When(answer, "250 2.0.0 Ok: queued as 1")]}, ehlo=WITHOUT_PIPELINING) as (
        stream,
        fake,
        _,
    ):
        stream.put(0, letter(0))
        stream.put(1, letter(1))
        await asyncio.sleep(0.1)
        answer.set()
        outcomes = await told(stream, 2)
        assert isinstance(outcomes[0], Accepted)
        assert outcomes[1] == NotSent(None)
    assert len(fake.messages) == 1
