"""Whatever a relay answers and wherever it hangs up: nothing twice, nothing under another's token, and each is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiptd.settings import Submission
from receiptd.smtp import Accepted, Finished, NotSent, Refused, Relay, RelayDown, Stream, Uncertain
from tests.fake_smtp import EVERYTHING
from tests.test_smtp_stream import TOKENS, letter

MOODS = {
    "MAIL": (
        "452 4.3.1 full",
        "552 5.3.4 too big",
        "550 5.7.1 not you",
        "555 5.5.4 what?",
        "421 4.3.2 bye",
        "hang up",
        "354 go",
    ),
    "RCPT": (
        "450 4.2.0 later",
        "550 5.1.1 no",
        "530 5.7.0 log in",
        "501 5.5.4 what?",
        "421 4.3.2 bye",
        "hang up",
        "354 go",
    ),
    "DATA": ("451 4.3.0 later", "554 5.5.1 no", "421 4.3.2 bye", "hang up", "250 what?"),
    ".": (
        "451 4.3.0 later",
        "554 5.7.1 no",
        "421 4.3.2 bye",
        "hang up",
        "taken, hang up",
        "taken, silent",
        "taken, 354 more",
    ),
}


@dataclass
class Relayed:
    """A relay that follows RFC 5321's states, answers as *moods* say, and keeps what it took.

    A mood is the reply to the next MAIL, RCPT, DATA or content; those left over, and None, are friendly. *lax*: it says
    354 although nobody is left to send to. *stubborn*: RSET is refused and resets nothing.
    """

    moods: dict[str, list[str | None]]
    lax: bool
    stubborn: bool
    pipelining: bool
    taken: list[tuple[str, str, str]] = field(default_factory=list)
    sessions: set[asyncio.Task[None]] = field(default_factory=set)

    def mood(self, verb: str) -> str | None:
        return self.moods[verb].pop(0) if self.moods.get(verb) else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.sessions.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await Session(self, reader, writer).run()
        writer.transport.abort()

    async def end(self) -> None:
        for session in self.sessions:
            session.cancel()
        await asyncio.gather(*self.sessions, return_exceptions=True)


@dataclass
class Session:
    relay: Relayed
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sender: str = ""
    recipient: str = ""

    async def run(self) -> None:
        self.say("220 laws.test")
        while line := (await self.reader.readline()).decode().rstrip("\r\n"):
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                words = EVERYTHING if self.relay.pipelining else EVERYTHING[1:]
                self.say("\r\n".join(["250-laws.test", *(f"250-{word}" for word in words[:-1]), f"250 {words[-1]}"]))
            elif verb == "QUIT" or not await self.obey(verb, line):
                return

    def say(self, text: str) -> None:
        self.writer.write(text.encode() + b"\r\n")

    async def obey(self, verb: str, line: str) -> bool:
        """Answer one command; False where that was the end."""
        mood = self.relay.mood(verb)
        if mood == "hang up":
            return False
        if verb == "DATA" and not self.recipient:
            mood = None if self.relay.lax else "554 5.5.1 no valid recipients"
        elif verb == "MAIL" and self.sender:
            mood = "503 5.5.1 nested MAIL command"
        elif verb == "RCPT" and not self.sender:
            mood = "503 5.5.1 need MAIL command"
        elif verb == "RSET" and self.relay.stubborn:
            mood = "502 5.5.1 not implemented"
        if mood is not None:
            self.say(mood)
            return mood != "421 4.3.2 bye"
        if verb == "DATA":
            return await self.content()
        self.obeyed(verb, line)
        self.say("250 2.1.0 Ok")
        return True

    def obeyed(self, verb: str, line: str) -> None:
        if verb == "MAIL":
            self.sender = line.split("+")[1][:24]
        elif verb == "RCPT":
            self.recipient = line.split(":<r")[1].partition("@")[0]
        elif verb == "RSET":
            self.sender = self.recipient = ""

    async def content(self) -> bool:
        self.say("354 go ahead")
        content = bytearray()
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                return False
            content += line
        mood = self.relay.mood(".")
        if mood is None or mood.startswith("taken"):
            addressed = content.decode().split("to ")[1].split("\r")[0]
            self.relay.taken.append((self.sender, self.recipient, addressed))
        self.sender = self.recipient = ""
        return await self.judged(mood or "250 2.0.0 Ok: queued")

    async def judged(self, mood: str) -> bool:
        if mood == "taken, silent":
            await asyncio.Event().wait()
        if mood in ("hang up", "taken, hang up"):
            return False
        self.say(mood.removeprefix("taken, "))
        return mood != "421 4.3.2 bye"


def moods() -> st.SearchStrategy[dict[str, list[str | None]]]:
    """Return the replies to each verb, one in three of them unfriendly."""
    return st.fixed_dictionaries(
        {
            verb: st.lists(st.one_of(st.none(), st.none(), st.sampled_from(unfriendly)), max_size=12)
            for verb, unfriendly in MOODS.items()
        }
    )


@given(
    moods=moods(),
    lax=st.booleans(),
    stubborn=st.booleans(),
    pipelining=st.sampled_from([True, True, True, False]),
    letters=st.integers(1, 8),
    connections=st.integers(1, 3),
    ends_after=st.one_of(st.none(), st.integers(0, 6)),
    aborts=st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_goes_twice_or_under_another_s_token_and_each_is_told_once(
    moods: dict[str, list[str | None]],
    lax: bool,
    stubborn: bool,
    pipelining: bool,
    letters: int,
    connections: int,
    ends_after: int | None,
    aborts: bool,
) -> None:
    relayed = Relayed({verb: list(replies) for verb, replies in moods.items()}, lax, stubborn, pipelining)
    outcomes = asyncio.run(_carried(relayed, letters, connections, ends_after, aborts))

    for sender, recipient, addressed in relayed.taken:
        assert sender == TOKENS[int(addressed)], "a message went under another one's token"
        assert recipient == addressed
    copies = Counter(int(addressed) for _, _, addressed in relayed.taken)
    assert sorted(outcomes) == list(range(letters)), "an envelope has no outcome, or more than one"
    for number, outcome in outcomes.items():
        match outcome:
            case Accepted():
                assert copies[number] == 1
            case Refused() | NotSent():
                assert copies[number] == 0, f"{outcome} though it was taken"
            case Uncertain():
                assert copies[number] <= 1


async def _carried(
    relayed: Relayed, letters: int, connections: int, ends_after: int | None, aborts: bool
) -> dict[int, Accepted | Refused | Uncertain | NotSent]:
    """Carry so many letters, what wasn't sent again and again; end the stream after *ends_after* outcomes."""
    server = await asyncio.start_server(relayed.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    relay = Relay(Submission(url=f"smtp://127.0.0.1:{port}", connections=connections), final_reply=0.05)
    stream: Stream[int] = relay.stream()
    found: list[Finished[int]] = []
    told = 0
    try:
        async with asyncio.timeout(20):
            for number in range(letters):
                stream.put(number, letter(number))
            while len(found) < letters:
                batch = await stream.outcomes()
                told += len(batch)
                for one in batch:
                    if isinstance(one.outcome, NotSent) and ends_after is None:
                        assert isinstance(one.outcome.fault, RelayDown)
                        stream.put(one.key, letter(one.key))
                    else:
                        found.append(one)
                if ends_after is not None and told >= ends_after:
                    await (stream.abort() if aborts else stream.close())
            await stream.close()
            assert await stream.outcomes() == []
    finally:
        await stream.abort()
        await relay.close()
        server.close()
        await relayed.end()
    assert len({one.key for one in found}) == len(found)
    return {one.key: one.outcome for one in found}
