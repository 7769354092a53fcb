"""What a mailbox tells: folders, summaries, messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FolderInfo:
    """A folder that can be selected; *special_use* is its RFC 6154 attribute in lower case, `\\junk`, or None."""

    name: str
    special_use: str | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """What the server says of the folder it has just opened (RFC 9051 §6.3.2)."""

    uidvalidity: int
    uidnext: int | None
    """What the next message will be numbered at least; None: the server doesn't say."""
    exists: int
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """A message without its content; *size* is the server's RFC822.SIZE, which some servers only estimate."""

    uid: int
    size: int
    internaldate: datetime
    flags: frozenset[str]
    is_dated: bool = True
    """False: the server's date is none, so *internaldate* is when we asked."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a FETCH told of messages, and which of them a SEARCH lists that no FETCH tells anything of."""

    there: tuple[Summary, ...]
    withheld: frozenset[int]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A message, or its header.

    *truncated*: *raw* is only the first part. It is empty where the server has the message and won't hand it over.
    """

    uid: int
    internaldate: datetime
    size: int
    raw: bytes
    truncated: bool = False
