"""What can be wrong with a mailbox, each with one sentence for the person."""

from __future__ import annotations

from receiptd.errors import Unavailable


class MailboxFault(Unavailable):
    """The mailbox can't be used as asked."""


class MailboxDown(MailboxFault):
    """The mailbox can't be reached or read; the connection is gone.

    *permanent*: it stays so until a person fixes it (password, certificate, settings).
    """

    def __init__(self, sentence: str, *, permanent: bool = False) -> None:
        super().__init__(sentence)
        self.permanent = permanent


class MailboxRefused(MailboxFault):
    """The server refuses one change (a flag, a move); the connection stays good."""


class FolderMissing(MailboxFault):
    """There is no folder of that name.

    *permanent*: it never existed, so a person must correct the settings; one that was read before may come back.
    """

    def __init__(self, sentence: str, *, permanent: bool = True) -> None:
        super().__init__(sentence)
        self.permanent = permanent


class FolderClosed(MailboxFault):
    """The server won't open a folder that it has; the connection stays good."""


class MessageWithheld(MailboxFault):
    """The server lists a message but doesn't return it; the connection stays good."""


def printable(text: bytes | str) -> str:
    """Return a server's text as one safe line: no control characters, at most 200 characters."""
    if isinstance(text, (bytes, bytearray)):
        text = text.decode("utf-8", "replace")
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= 200 else line[:199] + "…"
