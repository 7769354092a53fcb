"""The undocumented parts of aioimaplib that mailbox/ relies on: each test says which part, and why it is needed.

Nothing of receiptd runs here. If a test fails after an update of aioimaplib, `mailbox/connection.py` or
`mailbox/command.py` has lost what it stands on, whether or not another test notices.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aioimaplib
import pytest
from aioimaplib.aioimaplib import AUTH, CONNECTED, CRLF, NONAUTH, SELECTED, Command, IMAP4ClientProtocol

pytestmark = pytest.mark.asyncio


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Recorder(IMAP4ClientProtocol):  # type: ignore[misc]  # aioimaplib is untyped
    """aioimaplib's protocol, writing down which of its methods are called with what."""

    state: str

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.calls: list[tuple[str, bytes]] = []
        self.connection_made(Transport())
        self.greeted_in = self.state
        self.state = SELECTED

    def _handle_line(self, line: bytes, current: Any) -> Any:
        self.calls.append(("_handle_line", line))
        return super()._handle_line(line, current)

    def _untagged_response(self, line: bytes) -> Any:
        self.calls.append(("_untagged_response", line))
        return super()._untagged_response(line)

    def _continuation(self, line: bytes) -> None:
        self.calls.append(("_continuation", line))


async def running(protocol: Recorder, name: str) -> tuple[Any, asyncio.Task[Any]]:
    """Begin a command and return it with the task that awaits it."""
    command = Command(name, protocol.new_tag(), prefix=None)
    task = asyncio.create_task(protocol.execute(command))
    await asyncio.sleep(0)
    return command, task


async def test_lines_go_through_handle_line_and_its_two_ways() -> None:
    """connection.py overrides all three: to greet, to keep responses whole, and to answer a second challenge."""
    protocol = Recorder()
    command, task = await running(protocol, "SELECT")
    protocol.data_received(b"* 3 EXISTS\r\n+ go on\r\n" + f"{command.tag} OK done\r\n".encode())
    await task
    assert protocol.calls == [
        ("_handle_line", b"* 3 EXISTS"),
        ("_untagged_response", b"* 3 EXISTS"),
        ("_handle_line", b"+ go on"),
        ("_continuation", b"+ go on"),
        ("_handle_line", f"{command.tag} OK done".encode()),
    ]


async def test_the_states_that_we_set_are_those_that_execute_checks() -> None:
    """connection.py, login.py and session.py move `state` themselves, for they log in and select themselves."""
    protocol = Recorder()
    assert protocol.greeted_in == CONNECTED
    for state, name in ((NONAUTH, "LOGIN"), (AUTH, "SELECT"), (SELECTED, "SEARCH")):
        protocol.state = state
        command, task = await running(protocol, name)
        protocol.data_received(f"{command.tag} OK\r\n".encode())
        await task
    protocol.state = NONAUTH
    with pytest.raises(aioimaplib.Abort):
        await protocol.execute(Command("SELECT", protocol.new_tag()))


@pytest.mark.parametrize(("name", "is_sync"), [("SELECT", True), ("IDLE", True), ("FETCH", False), ("NOOP", False)])
async def test_the_running_command_stands_in_one_of_two_places(name: str, is_sync: bool) -> None:
    """connection.py asks both which command runs, for one at a time may run."""
    protocol = Recorder()
    command, task = await running(protocol, name)
    if is_sync:
        assert protocol.pending_sync_command is command
    else:
        assert list(protocol.pending_async_commands.values()) == [command]
    protocol.data_received(f"{command.tag} NO\r\n".encode())
    await task
    assert protocol.pending_sync_command is None
    assert not protocol.pending_async_commands


async def test_a_literal_that_is_cut_leaves_its_command_as_current_command() -> None:
    """connection.py cuts what it passes on at the end of a literal: `current_command` and how much it lacks."""
    protocol = Recorder()
    command, task = await running(protocol, "SELECT")
    protocol.data_received(b"* X {10}\r\n0123")
    assert protocol.current_command is command
    assert command.wait_literal_data()
    assert (command._expected_size, len(command._resp_literal_data)) == (10, 4)
    protocol.data_received(b"456789")
    protocol.data_received(b"\r\n" + f"{command.tag} OK\r\n".encode())
    await task


async def test_lines_literals_and_the_end_come_by_append_to_resp() -> None:
    """command.py overrides it (with `wait_data`): lines as bytes, literals as bytearray, the end with its result."""
    taken: list[tuple[type, bytes, str]] = []

    class Noting(Command):  # type: ignore[misc]  # aioimaplib is untyped
        def append_to_resp(self, line: bytes | bytearray, result: str = "Pending") -> None:
            taken.append((type(line), bytes(line), result))
            super().append_to_resp(line, result)

    protocol = Recorder()
    command = Noting("SELECT", protocol.new_tag(), prefix=None)
    task = asyncio.create_task(protocol.execute(command))
    await asyncio.sleep(0)
    protocol.data_received(b"* X {3}\r\nabc tail\r\n" + f"{command.tag} NO [CODE] why\r\n".encode())
    await task
    assert (bytearray, b"abc", "Pending") in taken
    assert taken[0] == (bytes, b"X {3}", "Pending")
    assert taken[-1] == (bytes, b"[CODE] why", "NO")
    assert command._resp_result == "NO"
    assert command._event.is_set()


async def test_a_command_can_be_woken_with_an_exception() -> None:
    """command.py does it when the connection is lost: aioimaplib itself would wait forever."""
    protocol = Recorder()
    command, task = await running(protocol, "SELECT")
    command._exception = aioimaplib.Abort("gone")
    command._event.set()
    with pytest.raises(aioimaplib.Abort, match="gone"):
        await task


async def test_idle_done_and_tags_are_what_they_say() -> None:
    """connection.py ends IDLE by it, without aioimaplib's own queue, and gives each command a tag of its own."""
    protocol = Recorder()
    protocol.idle_done()
    assert protocol.transport.written == [b"DONE" + CRLF]
    assert protocol.new_tag() != protocol.new_tag()


async def test_a_command_is_written_with_prefix_and_arguments_as_given() -> None:
    """session.py quotes names and builds sets itself, so nothing may be added; a line break is refused."""
    assert str(Command("FETCH", "T1", "1:5", "(UID)", prefix="UID")) == "T1 UID FETCH 1:5 (UID)"
    with pytest.raises(ValueError, match="CR and LF"):
        Command("LOGIN", "T1", "a\r\nb")


async def test_every_exception_of_the_library_is_an_aioimapexception() -> None:
    """connection.py catches that one, to drop the connection."""
    assert issubclass(aioimaplib.Abort, aioimaplib.AioImapException)
    assert issubclass(aioimaplib.Error, aioimaplib.AioImapException)
