"""smtp/ alone, without a database, into smtp-sink over ten connections: one at a time, and as a stream."""

from __future__ import annotations

import asyncio
import statistics
import time

from receiptd.settings import Submission
from receiptd.smtp import Accepted, Content, Dialogue, Envelope, Relay, Stream
from tests.bench.bench import Bench, Window
from tests.bench.figures import Figure

_MESSAGES = 10_000
_AHEAD = 100
_TOKEN = "k3jabcdefghijklmnopqrst2"


def wire(bench: Bench) -> list[Figure]:
    """Compare both ways with smtp-source in the same run."""
    port = bench.sink.port
    rounds: dict[str, list[Window]] = {"stream": [], "one at a time": []}
    beside = [bench.tools.source(port, _MESSAGES)]
    for _ in range(bench.options.rounds):
        rounds["stream"].append(asyncio.run(_stream(port)))
        rounds["one at a time"].append(asyncio.run(_one_at_a_time(port)))
        beside.append(bench.tools.source(port, _MESSAGES))
    source = statistics.median(beside)
    return [
        Figure(
            f"smtp/ alone, {name}, into smtp-sink",
            f"{statistics.median(one.rate for one in windows):,.0f} transactions/s",
            f"smtp-source -s 10: {source:,.0f}/s",
            statistics.median(one.rate for one in windows) / source,
            "≥ 0.5",
            statistics.median(one.cpu_ms for one in windows),
            {"rates": [one.rate for one in windows], "beside": beside},
        )
        for name, windows in rounds.items()
    ]


def _envelopes() -> list[Envelope]:
    content = Content.of(b"From: a@a.test\r\nTo: b@b.test\r\nSubject: bench\r\n\r\n" + (b"X" * 78 + b"\r\n") * 6)
    header = f"Disposition-Notification-To: <receipts+{_TOKEN}@a.test>\r\n".encode()
    return [
        Envelope(f"receipts+{_TOKEN}@a.test", f"r{number}@b.test", content, _TOKEN, header, longest_line=78)
        for number in range(_MESSAGES)
    ]


async def _stream(port: int) -> Window:
    envelopes = _envelopes()
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{port}", connections=10))
    began, cpu, told = time.perf_counter(), time.process_time(), 0
    stream: Stream[int] = relay.stream()
    async with stream:
        while told < _MESSAGES:
            while envelopes and stream.waiting < _AHEAD:
                stream.put(len(envelopes), envelopes.pop())
            for one in await stream.outcomes():
                assert isinstance(one.outcome, Accepted)
                told += 1
    window = Window(told, time.perf_counter() - began, time.process_time() - cpu)
    await relay.close()
    return window


async def _one_at_a_time(port: int) -> Window:
    envelopes = _envelopes()
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{port}", connections=10))

    async def nothing_to_commit(_: Dialogue) -> None:
        return

    async def carry() -> None:
        while envelopes:
            assert isinstance(await relay.submit(envelopes.pop(), before_data=nothing_to_commit), Accepted)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(carry() for _ in range(10)))
    window = Window(_MESSAGES, time.perf_counter() - began, time.process_time() - cpu)
    await relay.close()
    return window
