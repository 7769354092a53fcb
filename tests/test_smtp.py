"""Transactions: what goes over the wire, and what each reply means."""

from __future__ import annotations

import asyncio
import contextlib
import re
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar, TypeVarTuple

import pytest

from receiptd.errors import BadData
from receiptd.settings import Submission
from receiptd.smtp import Accepted, Dialogue, Envelope, Refused, Relay, RelayDown, Uncertain
from tests.fake_smtp import EVERYTHING, Drop, FakeSMTP, Hang, Later, Step

TOKEN = "k3jabcdefghijklmnopqrst2"
CONTENT = b"From: me@a.test\r\nTo: bob@b.test\r\nSubject: Contract\r\n\r\nHello.\r\n"
LETTER = Envelope(
    return_path=f"receipts+{TOKEN}@a.test", recipient="bob@b.test", content=CONTENT, envelope_id=TOKEN, longest_line=20
)
WITHOUT_DSN = tuple(word for word in EVERYTHING if word != "DSN")
WITHOUT_PIPELINING = EVERYTHING[1:]

both_ways = pytest.mark.parametrize("ehlo", [EVERYTHING, WITHOUT_PIPELINING], ids=["pipelined", "one by one"])


async def go_on(_: Dialogue) -> None:
    """The caller's commit before DATA, where a test doesn't look at it."""


@contextlib.asynccontextmanager
async def a_relay(
    script: Mapping[str, Iterable[Step]] | None = None,
    *,
    ehlo: Iterable[str] = EVERYTHING,
    final_reply: float = 600,
    **settings: Any,
) -> AsyncIterator[tuple[Relay, FakeSMTP]]:
    """A relay that says what *script* tells, and our side of it."""
    async with FakeSMTP(script=script, ehlo=ehlo) as fake:
        relay = Relay(Submission(url=f"smtp://127.0.0.1:{fake.port}", **settings), final_reply=final_reply)
        try:
            yield relay, fake
        finally:
            await relay.close()


async def submit(
    relay: Relay, letter: Envelope = LETTER, before_data: Callable[[Dialogue], Awaitable[None]] = go_on
) -> Accepted | Refused | Uncertain:
    return await relay.submit(letter, before_data=before_data)


@both_ways
async def test_an_accepted_message_crosses_the_wire_as_the_standards_ask(ehlo: tuple[str, ...]) -> None:
    async with a_relay(ehlo=ehlo) as (relay, fake):
        outcome = await submit(relay)
    assert isinstance(outcome, Accepted)
    assert outcome.dsn_requested
    assert outcome.reply.code == 250
    assert fake.lines[1:] == [
        f"MAIL FROM:<receipts+{TOKEN}@a.test> SIZE={len(CONTENT)} RET=HDRS ENVID={TOKEN}",
        "RCPT TO:<bob@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@b.test",
        "DATA",
        ".",
        "QUIT",
    ]
    assert fake.messages == [CONTENT]


async def test_a08_every_recipient_has_a_transaction_with_its_own_orcpt() -> None:
    async with a_relay() as (relay, fake):
        for name in ("bob", "carol", "dave"):
            await submit(relay, replace(LETTER, recipient=f"{name}@b.test"))
    assert [line.split("ORCPT=")[1] for line in fake.said("RCPT")] == [
        "rfc822;bob@b.test",
        "rfc822;carol@b.test",
        "rfc822;dave@b.test",
    ]
    assert len(fake.said("MAIL")) == 3


async def test_a01_without_dsn_in_ehlo_no_parameter_asks_for_reports() -> None:
    async with a_relay(ehlo=WITHOUT_DSN) as (relay, fake):
        outcome = await submit(relay)
    assert isinstance(outcome, Accepted)
    assert not outcome.dsn_requested
    assert not outcome.dsn_refused
    assert not re.search("NOTIFY|ORCPT|RET=|ENVID", "\n".join(fake.lines))


async def test_a01_without_dsn_refuse_fails_the_recipient_before_mail() -> None:
    async with a_relay(ehlo=WITHOUT_DSN, without_dsn="refuse") as (relay, fake):
        outcome = await submit(relay)
    assert isinstance(outcome, Refused)
    assert (outcome.stage, outcome.permanent) == ("dsn", True)
    assert fake.said("MAIL") == []


async def test_e08_a_message_that_must_not_ask_for_reports_carries_no_parameters() -> None:
    async with a_relay() as (relay, fake):
        outcome = await submit(relay, replace(LETTER, request_dsn=False))
    assert isinstance(outcome, Accepted)
    assert not outcome.dsn_requested
    assert not re.search("NOTIFY|ORCPT|RET=|ENVID", "\n".join(fake.lines))


@both_ways
@pytest.mark.parametrize(
    "script",
    [{"MAIL": ["555 5.5.4 Unsupported option: RET=HDRS"]}, {"RCPT": ["501 5.5.4 bad NOTIFY"]}],
    ids=["at MAIL", "at RCPT"],
)
async def test_a17_refused_dsn_parameters_are_left_out_in_a_new_transaction(
    script: dict[str, list[str]], ehlo: tuple[str, ...]
) -> None:
    seen: list[str] = []

    async def before_data(dialogue: Dialogue) -> None:
        seen.append(dialogue.text())

    async with a_relay(script, ehlo=ehlo) as (relay, fake):
        outcome = await submit(relay, before_data=before_data)
    assert isinstance(outcome, Accepted)
    assert outcome.dsn_refused
    assert not outcome.dsn_requested
    again = fake.lines[fake.lines.index("RSET") :]
    assert again[:3] == ["RSET", f"MAIL FROM:<receipts+{TOKEN}@a.test> SIZE={len(CONTENT)}", "RCPT TO:<bob@b.test>"]
    assert len(fake.messages) == 1
    assert len(seen) == 1


async def test_refused_dsn_parameters_fail_the_recipient_where_without_dsn_is_refuse() -> None:
    async with a_relay({"RCPT": ["555 5.5.4 no"]}, without_dsn="refuse") as (relay, fake):
        outcome = await submit(relay)
    assert isinstance(outcome, Refused)
    assert outcome.stage == "dsn"
    assert fake.messages == []


async def test_a_bad_address_stays_refused_without_the_parameters() -> None:
    async with a_relay({"RCPT": ["501 5.1.3 bad address", "501 5.1.3 bad address"]}) as (relay, _):
        outcome = await submit(relay)
    assert isinstance(outcome, Refused)
    assert (outcome.stage, outcome.permanent) == ("rcpt", True)


@both_ways
@pytest.mark.parametrize(
    ("script", "stage", "permanent"),
    [
        ({"RCPT": ["550 5.1.1 no such user"]}, "rcpt", True),
        ({"RCPT": ["450 4.2.0 greylisted"]}, "rcpt", False),
        ({"RCPT": ["452 4.5.3 too many recipients"]}, "rcpt", False),
        ({"DATA": ["554 5.5.1 no valid recipients"]}, "data", True),
        ({"DATA": ["451 4.3.0 try later"]}, "data", False),
        ({".": ["554 5.7.1 spam"]}, "data", True),
        ({".": ["451 4.3.0 queue file write error"]}, "data", False),
        ({".": ["552 5.3.4 too big"]}, "size", True),
        ({"MAIL": ["552 5.3.4 Message size exceeds fixed limit"]}, "size", True),
        ({"MAIL": ["552 too much mail data"]}, "size", True),
    ],
)
async def test_a_refusal_about_the_message_says_where_and_whether_it_is_final(
    script: dict[str, list[str]], stage: str, permanent: bool, ehlo: tuple[str, ...]
) -> None:
    [[reply]] = script.values()
    async with a_relay(script, ehlo=ehlo) as (relay, fake):
        outcome = await submit(relay)
        assert isinstance(outcome, Refused)
        assert (outcome.stage, outcome.permanent) == (stage, permanent)
        assert str(outcome.reply) == reply
        assert f"S: {reply}" in outcome.dialogue
        assert isinstance(await submit(relay), Accepted), "one refusal must not spoil the next transaction"
    assert fake.connections == 1
    assert len(fake.said("RSET")) == 1


@both_ways
@pytest.mark.parametrize(
    ("script", "stage", "permanent"),
    [
        ({"CONNECT": ["554 5.7.1 go away"]}, "connect", True),
        ({"CONNECT": ["421 4.3.2 busy"]}, "connect", False),
        ({"CONNECT": [Drop()]}, "connect", False),
        ({"EHLO": ["550 5.7.1 no"]}, "ehlo", True),
        ({"EHLO": [Drop()]}, "ehlo", False),
        ({"MAIL": ["550 5.7.1 sender not owned by user"]}, "mail", True),
        ({"MAIL": ["530 5.7.0 Authentication required"]}, "mail", True),
        ({"MAIL": ["451 4.3.0 try later"]}, "mail", False),
        ({"MAIL": ["452 4.3.1 Insufficient system storage"]}, "mail", False),
        ({"MAIL": ["421 4.3.2 shutting down"]}, "mail", False),
        ({"MAIL": [Drop()]}, "mail", False),
        ({"MAIL": ["hello?"]}, "mail", False),
        ({"RCPT": ["421 4.3.2 shutting down"]}, "rcpt", False),
        ({"RCPT": [Drop()]}, "rcpt", False),
        ({"RCPT": ["530 5.7.0 Authentication required"]}, "rcpt", True),
        ({"DATA": ["421 4.3.2 shutting down"]}, "data", False),
        ({"DATA": [Drop()]}, "data", False),
        ({"DATA": ["250 what?"]}, "data", False),
        ({".": ["421 4.3.2 shutting down"]}, "data", False),
    ],
)
async def test_a_failure_that_is_about_us_fails_no_message(
    script: dict[str, list[Step]], stage: str, permanent: bool, ehlo: tuple[str, ...]
) -> None:
    async with a_relay(script, ehlo=ehlo) as (relay, _):
        with pytest.raises(RelayDown) as down:
            await submit(relay)
        assert (down.value.stage, down.value.permanent) == (stage, permanent)
        assert str(relay.server) in str(down.value)
        assert isinstance(await submit(relay), Accepted), "the next transaction gets a new connection"


@both_ways
@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_354_to_an_envelope_command_ends_the_connection_without_a_dot(verb: str, ehlo: tuple[str, ...]) -> None:
    async with a_relay({verb: ["354 go ahead"]}, ehlo=ehlo) as (relay, fake):
        with pytest.raises(RelayDown):
            await submit(relay)
        await asyncio.sleep(0)
        assert not {"DATA", ".", "QUIT"} & set(fake.lines)


async def test_354_after_a_refused_mail_ends_the_connection_without_a_dot() -> None:
    async with a_relay({"MAIL": ["550 5.7.1 no"], "RCPT": ["354 go ahead"]}) as (relay, fake):
        with pytest.raises(RelayDown) as down:
            await submit(relay)
        assert down.value.stage == "rcpt"
        await asyncio.sleep(0)
        assert not {"DATA", ".", "QUIT"} & set(fake.lines)


@pytest.mark.parametrize("last", [Drop(), Drop("gibberish"), "354 more", Hang()])
async def test_g02_no_verdict_after_the_final_dot_is_uncertain(last: Step) -> None:
    async with a_relay({".": [last]}, final_reply=0.2) as (relay, fake):
        outcome = await submit(relay)
        assert isinstance(outcome, Uncertain)
        assert "final dot" in outcome.dialogue
        assert isinstance(await submit(relay), Accepted)
    assert len(fake.messages) == 2
    assert fake.connections == 2


Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class LeapingClock(asyncio.SelectorEventLoop):
    """An event loop that doesn't wait: when neither sockets nor threads move, its clock leaps to the next timer."""

    def __init__(self) -> None:
        self.leapt = 0.0
        self.threads = 0
        real = selectors.DefaultSelector()
        real_select = real.select

        def select(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            events = real_select(0.05 if timeout is None else min(timeout, 0.05))
            if not events and timeout and not self.threads:
                self.leapt += timeout
            return events

        real.select = select  # type: ignore[method-assign]
        super().__init__(real)

    def time(self) -> float:
        return time.monotonic() + self.leapt

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self.threads -= 1


def test_g01_a_final_reply_may_take_nine_minutes() -> None:
    async def scenario() -> None:
        async with a_relay({".": [Later(540, "250 2.0.0 at last")], "RCPT": [Later(290, "250 2.1.5 Ok")]}) as (
            relay,
            _,
        ):
            assert isinstance(await submit(relay), Accepted)

    with asyncio.Runner(loop_factory=LeapingClock) as runner:
        runner.run(scenario())


def test_g01_every_reply_may_come_as_late_as_the_standard_allows() -> None:
    late = {
        "CONNECT": Later(290, "220 fake.test ESMTP"),
        "MAIL": Later(290, "250 2.1.0 Ok"),
        "RCPT": Later(290, "250 2.1.5 Ok"),
        "DATA": Later(115, "354 go ahead"),
        ".": Later(590, "250 2.0.0 at last"),
    }

    async def scenario() -> None:
        async with a_relay({verb: [step] for verb, step in late.items()}, ehlo=WITHOUT_PIPELINING) as (relay, _):
            assert isinstance(await submit(relay), Accepted)

    with asyncio.Runner(loop_factory=LeapingClock) as runner:
        runner.run(scenario())


def test_g01_eleven_minutes_without_a_final_reply_are_uncertain() -> None:
    async def scenario() -> None:
        async with a_relay({".": [Later(660, "250 2.0.0 too late")]}) as (relay, _):
            assert isinstance(await submit(relay), Uncertain)

    with asyncio.Runner(loop_factory=LeapingClock) as runner:
        runner.run(scenario())


async def test_before_data_comes_between_the_accepted_rcpt_and_data() -> None:
    at_commit: list[str] = []
    dialogues: list[str] = []

    async def before_data(dialogue: Dialogue) -> None:
        at_commit.extend(line.split(" ")[0] for line in fake.lines)
        dialogues.append(dialogue.text())

    async with a_relay() as (relay, fake):
        await submit(relay, before_data=before_data)
    assert at_commit == ["EHLO", "MAIL", "RCPT"]
    assert dialogues[0].endswith("S: 250 2.1.5 Ok")


async def test_before_data_is_not_called_where_rcpt_is_refused() -> None:
    async def before_data(_: Dialogue) -> None:
        pytest.fail("nothing may be committed")

    async with a_relay({"RCPT": ["550 5.1.1 no"]}) as (relay, _):
        assert isinstance(await submit(relay, before_data=before_data), Refused)


async def test_data_is_never_said_when_before_data_raises() -> None:
    async def before_data(_: Dialogue) -> None:
        raise LookupError("the row was taken")

    async with a_relay() as (relay, fake):
        with pytest.raises(LookupError):
            await submit(relay, before_data=before_data)
        assert isinstance(await submit(relay), Accepted)
    assert len(fake.said("DATA")) == 1
    assert fake.connections == 2


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", ".", "before_data"])
async def test_cancellation_anywhere_closes_the_connection(step: str) -> None:
    stuck = asyncio.Event()

    async def before_data(_: Dialogue) -> None:
        if step == "before_data":
            stuck.set()
            await asyncio.Event().wait()

    async with a_relay({step: [Hang()]}) as (relay, fake):
        task = asyncio.create_task(submit(relay, before_data=before_data))
        async with asyncio.timeout(5):
            while not (stuck.is_set() or any(line.startswith(step) for line in fake.lines)):
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await submit(relay), Accepted)
    assert fake.connections == 2
    assert len(fake.messages) == (2 if step == "." else 1)


async def interrupted(words: bytes) -> tuple[Accepted | Refused | Uncertain | RelayDown, bytes]:
    """Return what comes of *words* in the middle of a big message, and the last the server read."""
    tail = bytearray()
    over = asyncio.Event()

    async def interrupt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 small.test\r\n")
        for reply in (b"250-small.test\r\n250 8BITMIME", b"250 Ok", b"250 Ok", b"354 go"):
            await reader.readline()
            writer.write(reply + b"\r\n")
        await reader.readexactly(1000)
        writer.write(words)
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(2**16):
                tail[:] = (tail + block)[-5:]
        writer.transport.abort()
        over.set()

    server = await asyncio.start_server(interrupt, "127.0.0.1", 0)
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    content = CONTENT + (b"x" * 70 + b"\r\n") * 200_000
    outcome: Accepted | Refused | Uncertain | RelayDown
    try:
        outcome = await submit(relay, replace(LETTER, content=content))
    except RelayDown as down:
        outcome = down
    await relay.close()
    await over.wait()
    server.close()
    return outcome, bytes(tail)


async def test_a_refusal_in_the_middle_of_the_content_ends_it_without_a_dot() -> None:
    outcome, tail = await interrupted(b"552 5.3.4 that will do\r\n")
    assert isinstance(outcome, Refused)
    assert (outcome.stage, outcome.permanent) == ("size", True)
    assert not tail.endswith(b".\r\n")


async def test_an_acceptance_in_the_middle_of_the_content_is_none() -> None:
    outcome, tail = await interrupted(b"250 2.0.0 Ok, enough\r\n")
    assert isinstance(outcome, RelayDown)
    assert outcome.stage == "data"
    assert not tail.endswith(b".\r\n")


async def test_a_large_message_arrives_whole() -> None:
    content = CONTENT + b"".join(b".%d\r\n" % number for number in range(200_000))
    async with a_relay(ehlo=("DSN",)) as (relay, fake):
        assert isinstance(await submit(relay, replace(LETTER, content=content)), Accepted)
    assert fake.messages == [content]


@pytest.mark.parametrize("body", [b".\r\n", b"..\r\n.x\r\n", b"", b"\r\n.\r\n\r\n", b"no end"])
async def test_dots_in_the_content_arrive_as_they_were(body: bytes) -> None:
    async with a_relay() as (relay, fake):
        await submit(relay, replace(LETTER, content=CONTENT + body))
    assert fake.messages == [CONTENT + body + (b"\r\n" if body == b"no end" else b"")]


@pytest.mark.parametrize("body", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n\r\n", b"\r", b"x\r\r\n"])
async def test_a_bare_line_break_never_reaches_the_wire(body: bytes) -> None:
    async with a_relay() as (relay, fake):
        with pytest.raises(BadData):
            await submit(relay, replace(LETTER, content=CONTENT + body))
    assert fake.lines == []


@pytest.mark.parametrize(
    "change",
    [
        {"recipient": "bob@b.test> NOTIFY=NEVER"},
        {"recipient": "bob@b.test\r\nRSET"},
        {"recipient": "bob@b.test\x00"},
        {"recipient": "bob b@b.test"},
        {"recipient": '"bob" RSET@b.test'},
        {"recipient": ""},
        {"return_path": "a@b.test> SIZE=1 <"},
        {"return_path": "a\n@b.test"},
        {"envelope_id": "a SIZE=1"},
        {"envelope_id": "a\r\nRSET"},
        {"return_path": ""},
        {"notify": ("never", "success")},
        {"notify": ("success",)},
        {"ret": "hdrs SIZE=1"},
    ],
    ids=str,
)
async def test_a12_nothing_smuggles_a_command_or_parameter(change: dict[str, Any]) -> None:
    async with a_relay() as (relay, fake):
        with pytest.raises(BadData):
            await submit(relay, replace(LETTER, **change))
        await asyncio.sleep(0)
    assert not {line.split(" ")[0] for line in fake.lines} - {"EHLO", "QUIT"}


async def test_a_quoted_local_part_may_hold_a_space() -> None:
    async with a_relay() as (relay, fake):
        await submit(relay, replace(LETTER, recipient='"bob <b>"@b.test'))
    assert fake.said("RCPT")[0].startswith('RCPT TO:<"bob <b>"@b.test> NOTIFY=')


@pytest.mark.parametrize(
    ("change", "ehlo", "stage", "word"),
    [
        ({"longest_line": 999}, EVERYTHING, "message", "998"),
        ({"needs_8bitmime": True}, ("DSN",), "message", "8BITMIME"),
        ({"needs_smtputf8": True, "needs_8bitmime": True}, ("DSN",), "message", "8BITMIME"),
        ({"recipient": "tür@b.test"}, ("DSN", "8BITMIME"), "message", "SMTPUTF8"),
        ({}, ("DSN", "SIZE 10"), "size", "10 at most"),
    ],
    ids=["line over 998", "8-bit", "UTF-8 header", "d04 UTF-8 local part", "SIZE"],
)
async def test_what_the_relay_cant_take_is_refused_before_mail(
    change: dict[str, Any], ehlo: tuple[str, ...], stage: str, word: str
) -> None:
    async with a_relay(ehlo=ehlo) as (relay, fake):
        outcome = await submit(relay, replace(LETTER, **change))
    assert isinstance(outcome, Refused)
    assert (outcome.stage, outcome.permanent, outcome.reply) == (stage, True, None)
    assert word in outcome.reason
    assert fake.said("MAIL") == []


async def test_a_header_in_utf_8_goes_as_8_bit_where_the_relay_has_no_smtputf8() -> None:
    letter = replace(LETTER, needs_smtputf8=True, needs_8bitmime=True)
    async with a_relay(ehlo=("DSN", "8BITMIME")) as (relay, fake):
        assert isinstance(await submit(relay, letter), Accepted)
    assert "BODY=8BITMIME" in fake.said("MAIL")[0]
    assert "SMTPUTF8" not in fake.said("MAIL")[0]
    async with a_relay() as (relay, fake):
        assert isinstance(await submit(relay, letter), Accepted)
    assert "SMTPUTF8" in fake.said("MAIL")[0]


async def test_d02_a_relay_with_smtputf8_gets_native_utf_8() -> None:
    async with a_relay() as (relay, fake):
        outcome = await submit(relay, replace(LETTER, recipient="tür@b.test", needs_8bitmime=True))
    assert isinstance(outcome, Accepted)
    assert fake.said("MAIL")[0].split()[-4:-2] == ["BODY=8BITMIME", "SMTPUTF8"]
    assert fake.said("RCPT") == ["RCPT TO:<tür@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;tür@b.test"]


async def test_size_without_a_limit_is_no_limit() -> None:
    async with a_relay(ehlo=("SIZE", "DSN")) as (relay, fake):
        assert isinstance(await submit(relay), Accepted)
    assert f"SIZE={len(CONTENT)}" in fake.said("MAIL")[0]


async def test_the_dialogue_keeps_every_reply_and_no_content() -> None:
    async with a_relay() as (relay, _):
        outcome = await submit(relay)
    assert outcome.dialogue.splitlines() == [
        "S: 220 fake.test ESMTP",
        "(no TLS)",
        "C: EHLO",
        "S: 250 fake.test greets you",
        *(f"S: 250 {word}" for word in EVERYTHING),
        f"C: MAIL FROM:<receipts+{TOKEN}@a.test> SIZE={len(CONTENT)} RET=HDRS ENVID={TOKEN}",
        "S: 250 2.1.0 Ok",
        "C: RCPT TO:<bob@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@b.test",
        "S: 250 2.1.5 Ok",
        "C: DATA",
        "S: 354 End data with <CR><LF>.<CR><LF>",
        f"({len(CONTENT)} octets of content, final dot)",
        "S: 250 2.0.0 Ok: queued as 4XyZ1",
    ]


async def test_a_sentence_never_shows_a_token() -> None:
    async with a_relay({"RCPT": [f"550 5.1.0 <receipts+{TOKEN}@a.test> rejected"]}) as (relay, _):
        outcome = await submit(relay)
    assert isinstance(outcome, Refused)
    assert TOKEN not in outcome.reason
    async with a_relay({"MAIL": [f"550 5.1.0 <receipts+{TOKEN}@a.test> rejected"]}) as (relay, _):
        with pytest.raises(RelayDown) as down:
            await submit(relay)
    assert TOKEN not in str(down.value)


async def test_control_characters_of_a_stranger_are_not_kept() -> None:
    async with a_relay({"RCPT": ["550 5.1.1 \x1b[31mno\x07"]}) as (relay, _):
        outcome = await submit(relay)
    assert isinstance(outcome, Refused)
    assert "\x1b" not in outcome.reason + outcome.dialogue


async def test_a_reply_without_end_is_cut_off() -> None:
    async with a_relay({"RCPT": ["550-" + "x" * 40_000]}) as (relay, _):
        with pytest.raises(RelayDown):
            await submit(relay)
