"""One command and its response: every untagged response kept whole, framed by its literals alone."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import aioimaplib
from aioimaplib.aioimaplib import Command as AioimaplibCommand

from receiptd.mailbox.response_parser import Pieces

_LITERAL = re.compile(rb"\{\d+\}$")


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a command: OK or NO, its text, and every untagged response that came before it."""

    is_ok: bool
    text: bytes
    untagged: tuple[Pieces, ...]


class Command(AioimaplibCommand):
    """A command that keeps each untagged response whole: its lines and the literals between them."""

    def __init__(self, name: str, tag: str, *args: str, prefix: str | None, replies: tuple[bytes, ...]) -> None:
        super().__init__(name, tag, *args, prefix=prefix)
        self.replies = deque(replies)
        self.untagged: list[list[bytes | bytearray]] = []
        self.text = b""
        self.may_go_on = False
        self.was_ended = False
        self._is_open = False

    def append_to_resp(self, line: bytes | bytearray, result: str = "Pending") -> None:
        """Take a line, a literal (bytearray) or, where *result* says so, the tagged response."""
        self._resp_result = result
        if result != "Pending":
            self.text = bytes(line)
            return
        if self._is_open:
            self.untagged[-1].append(line)
        else:
            self.untagged.append([line])
        self._is_open = isinstance(line, bytearray) or _LITERAL.search(line) is not None

    def wait_data(self) -> bool:
        """Whether the response continues: in a literal, or on the line after one."""
        return bool(self.wait_literal_data()) or self._is_open

    @property
    def lacks(self) -> int:
        """How many bytes of a literal are still to come."""
        return int(self._expected_size) - len(self._resp_literal_data) if self.wait_literal_data() else 0

    @property
    def is_done(self) -> bool:
        return bool(self._event.is_set())

    @property
    def result(self) -> str:
        return str(self._resp_result)

    def fail(self, reason: str) -> None:
        """Wake whoever waits for this command: the connection is gone."""
        self._exception = aioimaplib.Abort(reason)
        self._event.set()
