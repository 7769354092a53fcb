"""Connections stay open, are bounded, and are replaced without a word when the server hung up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from receiptd.settings import Submission
from receiptd.smtp import Accepted, Dialogue, Relay, RelayDown, pool
from receiptd.smtp import relay as relay_module
from tests.fake_smtp import EVERYTHING, Drop, Hang, Step
from tests.test_smtp import LETTER, LeapingClock, a_relay, go_on, submit


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_one_connection_carries_many_messages() -> None:
    async with a_relay() as (relay, fake):
        for _ in range(20):
            assert isinstance(await submit(relay), Accepted)
    assert fake.connections == 1
    assert len(fake.messages) == 20


async def test_g07_at_most_so_many_connections_and_never_two_tasks_on_one() -> None:
    async with a_relay(connections=5, ehlo=EVERYTHING[1:]) as (relay, fake):
        letters = [replace(LETTER, recipient=f"r{number}@b.test") for number in range(150)]
        outcomes = await asyncio.gather(*(submit(relay, letter) for letter in letters))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert fake.open_at_most == 5
    assert fake.connections == 5
    assert len(fake.said("MAIL")) == 150
    for number in range(1, 6):
        verbs = [line.split(" ")[0] for connection, line in fake.wire if connection == number]
        assert verbs[1:-1] == ["MAIL", "RCPT", "DATA", "."] * (len(verbs[1:-1]) // 4)


async def test_a_server_that_hung_up_in_the_meantime_is_called_again() -> None:
    async with a_relay() as (relay, fake):
        await submit(relay)
        fake.hang_up()
        assert isinstance(await submit(relay), Accepted)
    assert fake.connections == 2


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize("step", [Drop(), "421 4.7.0 too many messages on this connection"])
async def test_a_used_connection_that_dies_before_data_is_replaced_once(verb: str, step: Step) -> None:
    calls: list[str] = []

    async def before_data(dialogue: Dialogue) -> None:
        calls.append(dialogue.text())

    async with a_relay({verb: [None, step]}) as (relay, fake):
        await submit(relay)
        assert isinstance(await submit(relay, before_data=before_data), Accepted)
    assert fake.connections == 2
    assert len(fake.messages) == 2
    assert len(calls) == 1


async def test_it_is_replaced_once_and_no_more() -> None:
    async with a_relay({"MAIL": [None, Drop(), Drop()]}) as (relay, fake):
        await submit(relay)
        with pytest.raises(RelayDown):
            await submit(relay)
    assert fake.connections == 2


async def test_a_refusal_on_a_used_connection_is_no_reason_to_call_again() -> None:
    async with a_relay({"MAIL": [None, "550 5.7.1 no"]}) as (relay, fake):
        await submit(relay)
        with pytest.raises(RelayDown):
            await submit(relay)
    assert fake.connections == 1


async def test_an_unasked_reply_is_never_taken_for_the_next_answer() -> None:
    async with a_relay() as (relay, fake):
        await submit(relay)
        fake.say_unasked("250 2.1.0 sure\r\n250 2.1.5 anyone\r\n354 all of it")
        await asyncio.sleep(0.05)
        assert isinstance(await submit(relay), Accepted)
    assert fake.connections == 2


def test_a_connection_that_lay_idle_is_left_with_quit() -> None:
    async def scenario() -> None:
        async with a_relay() as (relay, fake):
            await submit(relay)
            await asyncio.sleep(40)
            await submit(relay)
            await asyncio.sleep(40)
            assert fake.connections == 1
            await submit(relay)
            assert fake.connections == 1
            await asyncio.sleep(130)
            assert fake.lines[-1] == "QUIT"
            assert fake.open_now == 0
            await submit(relay)
            assert fake.connections == 2

    with asyncio.Runner(loop_factory=LeapingClock) as runner:
        runner.run(scenario())


async def test_close_takes_leave_and_leaves_nothing_open() -> None:
    async with a_relay(connections=3) as (relay, fake):
        await asyncio.gather(*(submit(relay) for _ in range(3)))
        await relay.close()
        await until(lambda: fake.open_now == 0)
        assert len(fake.said("QUIT")) == 3


async def test_a_transaction_under_way_outlives_close() -> None:
    going = asyncio.Event()

    async def before_data(_: Dialogue) -> None:
        going.set()
        await asyncio.sleep(0.05)

    async with a_relay() as (relay, fake):
        task = asyncio.create_task(submit(relay, before_data=before_data))
        await going.wait()
        await relay.close()
        assert isinstance(await task, Accepted)
        await until(lambda: fake.open_now == 0)


async def test_close_does_not_wait_for_a_server_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_QUIT_SECONDS", 0.05)

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        for reply in (b"250 x", b"250 Ok", b"250 Ok", b"354 go"):
            await reader.readline()
            writer.write(reply + b"\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 Ok\r\n")
        await asyncio.sleep(0.2)
        writer.transport.abort()

    server = await asyncio.start_server(stay, "127.0.0.1", 0)
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    await relay.submit(LETTER, before_data=go_on)
    begun = time.monotonic()
    await relay.close()
    assert time.monotonic() - begun < 0.2
    await asyncio.sleep(0.3)
    server.close()


async def test_a_transaction_costs_no_connect() -> None:
    async with a_relay(connections=1) as (relay, fake):
        await submit(relay)
        for _ in range(300):
            await submit(relay)
    assert fake.connections == 1


async def test_what_the_relay_offers_is_asked_again_at_most_once_a_minute() -> None:
    async with a_relay(ehlo=("SIZE 1000", "DSN")) as (relay, fake):
        assert relay.capabilities is None
        for _ in range(3):
            offered = await relay.ask_again()
            assert offered is not None
            assert offered.size == 1000
        assert fake.connections == 1


async def test_a_relay_that_does_not_answer_leaves_what_was_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_FRESH_SECONDS", -1)
    monkeypatch.setattr(relay_module, "_ANSWER_SECONDS", 0.2)
    async with a_relay(ehlo=("SIZE 1000",)) as (relay, fake):
        known = await relay.ask_again()
        assert known is not None
        fake.script["EHLO"] = ["421 4.3.2 not now", Hang()]
        assert [await relay.ask_again() for _ in range(2)] == [known, known]
        assert fake.connections == 3
